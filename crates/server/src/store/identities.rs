//! What the store keeps of who is who: keys, one-time tokens, revocations.
//!
//! Deliberately absent: secrets. A key's public half and a token's SHA-256 are all that is here.

use async_trait::async_trait;
use hoist_wire::audit::Entry;
use hoist_wire::{ClientId, Timestamp};

use super::StoreError;

/// How far the clocks of two nodes may be apart, in milliseconds. A time further ahead than this was written by a clock
/// that was wrong.
pub const MAX_NODE_SKEW_MS: i64 = 10_000;

/// How long a one-time token is kept behind its end, in milliseconds: 30 days, for whoever asks what became of it.
pub(super) const KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// How a client stands: what it must show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Tokens that were made before are not taken.
    pub tokens_not_before: Timestamp,
    /// Its own key; then no token is taken at all.
    pub public_key: Option<String>,
}

/// A one-time token that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Its SHA-256, in hexadecimal.
    pub token_hash: String,
    /// For whom.
    pub client_id: ClientId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What became of a try to enrol a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// The key is the client's now.
    Now {
        /// Whose.
        client_id: ClientId,
        /// It took the place of another one.
        replaced: bool,
    },
    /// It was already, by this token: the answer was lost.
    Before {
        /// Whose.
        client_id: ClientId,
    },
    /// There is no such token, or it has ended, or it was used for another key, or that key is the client's no longer.
    Refused {
        /// For whom the token was; none where there is no such token.
        client_id: Option<ClientId>,
    },
}

/// Completes the line of a key that was enrolled just now.
pub(super) fn enrolled_line(line: &Entry, client: &ClientId, replaced: bool) -> Entry {
    let detail = if replaced { "a key in the place of another one" } else { "a first key" };
    Entry { who: Some(client.to_string()), detail: Some(detail.to_owned()), ..line.clone() }
}

/// A client whose key or revocation changed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Who.
    pub client_id: ClientId,
    /// When.
    pub at: Timestamp,
    /// How it stands.
    pub standing: Standing,
}

/// Who is who.
#[async_trait]
pub trait Identities: Send + Sync {
    /// Gives the id of the server that all nodes of this store are; `fresh` where there is none yet.
    async fn server_id(&self, fresh: &str) -> Result<String, StoreError>;

    /// Gives how a client stands; one that was never seen stands at the default.
    async fn standing(&self, client: &ClientId) -> Result<Standing, StoreError>;

    /// Notes a one-time token, and forgets those that ended long ago.
    async fn note_enrolment(&self, enrolment: &Enrolment) -> Result<(), StoreError>;

    /// Uses a one-time token for a key. Of two that come at once, one wins. Where the key is the client's now, the line of
    /// the audit trail stands in the same write; whose it is, and what became of it, is added to the line.
    async fn enrol(
        &self,
        token_hash: &str,
        public_key: &str,
        now: Timestamp,
        line: &Entry,
    ) -> Result<Enrolled, StoreError>;

    /// Uses a nonce that was made at `made`. Gives false, and notes nothing, when this one or a newer one was used.
    async fn use_nonce(&self, client: &ClientId, made: Timestamp, now: Timestamp)
    -> Result<bool, StoreError>;

    /// Takes a client's key, its tokens made before `tokens_not_before`, and its one-time tokens.
    async fn revoke(
        &self,
        client: &ClientId,
        tokens_not_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Gives clients whose key or revocation changed at `since` or later, behind `after`, by time and id.
    async fn identities_changed(
        &self,
        since: Timestamp,
        after: Option<(Timestamp, ClientId)>,
        limit: u32,
    ) -> Result<Vec<Changed>, StoreError>;
}
