//! The audit trail as anybody can check it: its lines, the one encoding that their hashes are taken over, and the chain.
//!
//! Deliberately absent: SHA-256 itself, which each program has from its own library and passes in. `docs/operations.md` has the
//! rule in words.

mod chain;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use chain::{Broken, Chain};

use crate::Timestamp;

/// What the encoding begins with: another rule gets another name.
const VERSION: &str = "hoist-audit-1";

/// The `prev` of a node's very first line.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The action of the line that says what retention has cut.
pub const CUT: &str = "audit.cut";

/// SHA-256, as the program at hand has it.
pub type Sha256 = fn(&[u8]) -> [u8; 32];

/// What a line says, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node whose chain it belongs to.
    pub node: String,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What was done, or tried.
    pub action: String,
    /// Who: an operator's name or a client id; none where nobody was recognised.
    pub who: Option<String>,
    /// The id (`jti`) of the token that was shown.
    pub token: Option<String>,
    /// The address that it came from.
    pub from: Option<String>,
    /// To what: a page's path, a client, a download.
    pub subject: String,
    /// The HTTP status that answered it; 0 where nobody knows how it ended.
    pub status: u16,
    /// Why it was refused, or failed.
    pub code: Option<String>,
    /// What else there is to say of it.
    pub detail: Option<String>,
    /// How many times it was done: more than 1 only where refusals are counted and not listed.
    pub count: u64,
}

/// A line of the trail, as `GET /audit` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Line {
    /// The node whose chain it belongs to.
    pub node: String,
    /// Its number in the chain: 1, 2, 3 …, without gaps.
    pub seq: u64,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What was done, or tried.
    pub action: String,
    /// Who: an operator's name or a client id; null where nobody was recognised.
    pub who: Option<String>,
    /// The id (`jti`) of the token that was shown.
    pub token: Option<String>,
    /// The address that it came from.
    pub from: Option<String>,
    /// To what: a page's path, a client, a download.
    pub subject: String,
    /// The HTTP status that answered it; 0 where nobody knows how it ended.
    pub status: u16,
    /// Why it was refused, or failed.
    pub code: Option<String>,
    /// What else there is to say of it.
    pub detail: Option<String>,
    /// How many times it was done: more than 1 only where refusals are counted and not listed.
    pub count: u64,
    /// The hash of the line before it.
    pub prev: String,
    /// Its own hash: SHA-256 over all of the above, in hexadecimal.
    pub hash: String,
}

impl Line {
    /// Gives an entry its place in the chain.
    pub fn seal(entry: Entry, seq: u64, prev: String, sha256: Sha256) -> Self {
        let Entry { node, at, action, who, token, from, subject, status, code, detail, count } = entry;
        let hash = String::new();
        let mut line = Self {
            node,
            seq,
            at,
            action,
            who,
            token,
            from,
            subject,
            status,
            code,
            detail,
            count,
            prev,
            hash,
        };
        line.hash = line.computed(sha256);
        line
    }

    /// Gives the bytes that the hash is taken over: each value as `LENGTH:BYTES,` and an absent one as `-,`.
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut put = |value: Option<&str>| match value {
            Some(text) => {
                out.extend_from_slice(text.len().to_string().as_bytes());
                out.push(b':');
                out.extend_from_slice(text.as_bytes());
                out.push(b',');
            }
            None => out.extend_from_slice(b"-,"),
        };
        put(Some(VERSION));
        put(Some(&self.node));
        put(Some(&self.seq.to_string()));
        put(Some(&self.at.to_string()));
        put(Some(&self.action));
        put(self.who.as_deref());
        put(self.token.as_deref());
        put(self.from.as_deref());
        put(Some(&self.subject));
        put(Some(&self.status.to_string()));
        put(self.code.as_deref());
        put(self.detail.as_deref());
        put(Some(&self.count.to_string()));
        put(Some(&self.prev));
        out
    }

    /// Computes the hash that the line must have.
    pub fn computed(&self, sha256: Sha256) -> String {
        sha256(&self.encoded()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A place in a chain: what stood there. Written `SEQ:HASH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Head {
    /// The line's number.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// A text that is no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no head: write SEQ:HASH, as the server's log has them, the hash in 64 hexadecimal digits")]
pub struct HeadError(String);

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let wrong = || HeadError(text.chars().take(100).collect());
        let (seq, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        let is_hash = hash.len() == GENESIS.len() && hash.bytes().all(|b| b.is_ascii_hexdigit());
        match seq.parse() {
            Ok(seq) if is_hash => Ok(Self { seq, hash: hash.to_ascii_lowercase() }),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }
}

/// A page of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditPage {
    /// The lines.
    pub lines: Vec<Line>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
    /// The last line that retention has cut; null while all are there.
    pub cut: Option<Head>,
}
