//! What the store keeps of the audit trail, and how it lets go of what is old.
//!
//! Deliberately absent: what is noted, and when (`audit`).

use async_trait::async_trait;
use hoist_wire::Timestamp;
use hoist_wire::audit::{Entry, Head, Line};
use sha2::{Digest as _, Sha256};

use super::{Idempotency, Inserted, Record, StoreError};

/// Something that is about to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its own id.
    pub id: String,
    /// What is known of it before it is done.
    pub entry: Entry,
}

/// Something that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The line.
    pub entry: Entry,
    /// The intent that it settles.
    pub intent: Option<String>,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailFilter {
    /// By this operator or client.
    pub who: Option<String>,
    /// This action.
    pub action: Option<String>,
    /// With this text in who, subject or detail: a client, a download.
    pub about: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Only what was refused.
    pub refused: bool,
    /// Oldest first; else newest first.
    pub oldest_first: bool,
    /// Behind this line, in that order.
    pub cursor: Option<u64>,
}

/// The audit trail in the store. Every write that returns `Ok` is on disk.
#[async_trait]
pub trait Trail {
    /// Writes intents and lines in this order, all of them or none. A line settles its intent.
    async fn trail_write(&self, intents: &[Intent], done: &[Done]) -> Result<(), StoreError>;

    /// Gives the intents of a node that nothing has settled, oldest first.
    async fn trail_unsettled(&self, node: &str, limit: u32) -> Result<Vec<Intent>, StoreError>;

    /// Lists lines of a node.
    async fn trail(&self, node: &str, filter: &TrailFilter, limit: u32) -> Result<Vec<Line>, StoreError>;

    /// Gives the newest line's place and hash.
    async fn trail_head(&self, node: &str) -> Result<Option<Head>, StoreError>;

    /// Gives the last line that retention has cut.
    async fn trail_cut(&self, node: &str) -> Result<Option<Head>, StoreError>;

    /// Cuts the oldest lines, as long as they are older than `before`, at most `limit` of them, and writes a line that
    /// says so. Gives how many went.
    async fn trail_forget(
        &self,
        node: &str,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Does what `Store::insert` does; where the download is new, its line stands in the same write.
    async fn insert_noted(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
        entry: &Entry,
    ) -> Result<Option<Inserted>, StoreError>;

    /// Forgets downloads that ended before `before`, with all that belongs to them, at most `limit`; one with an upload
    /// that is not known to be gone stays. Gives how many went.
    async fn forget_downloads(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}

/// SHA-256, for the chain.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Says in the chain what was cut from it.
pub(super) fn cut_line(node: &str, cut: &Head, lines: u64, now: Timestamp) -> Entry {
    Entry {
        node: node.to_owned(),
        at: now,
        action: hoist_wire::audit::CUT.to_owned(),
        who: None,
        token: None,
        from: None,
        subject: cut.to_string(),
        status: 200,
        code: None,
        detail: Some(format!("{lines} lines were older than RETAIN_AUDIT")),
        count: 1,
    }
}
