//! What the store keeps of operators and of what they may reach: labels, sessions, the end of tokens.

use async_trait::async_trait;
use hoist_wire::reach::{Labels, Reach};
use hoist_wire::rest::Scope;
use hoist_wire::{ClientId, Timestamp};

use super::StoreError;

/// A browser's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// SHA-256 of what its cookie says, in hexadecimal.
    pub cookie_sha256: String,
    /// Whose.
    pub operator: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The clients that it reaches; none for all.
    pub reach: Option<Reach>,
    /// The token that opened it.
    pub token_id: String,
    /// When that token was made, in seconds since 1970.
    pub token_made_secs: u64,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, as far as that is noted.
    pub last_used_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// The labels of clients.
#[async_trait]
pub trait LabelStore {
    /// Gives a client these labels and no others, whether it was seen or not.
    async fn set_labels(&self, client: &ClientId, labels: &Labels) -> Result<(), StoreError>;

    /// Gives a client's labels.
    async fn labels(&self, client: &ClientId) -> Result<Labels, StoreError>;
}

/// The sessions of operators, and the end of their tokens.
#[async_trait]
pub trait SessionStore {
    /// Opens a session; of an operator's others the oldest are ended, until there are at most `most`.
    async fn open_session(&self, session: &SessionRow, most: u32) -> Result<(), StoreError>;

    /// Gives a session; none whose token was revoked meanwhile. Whether its time is over, the caller sees.
    async fn session(&self, cookie_sha256: &str) -> Result<Option<SessionRow>, StoreError>;

    /// Notes that a session was used.
    async fn session_used(&self, cookie_sha256: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Ends a session.
    async fn end_session(&self, cookie_sha256: &str) -> Result<(), StoreError>;

    /// Gives an operator's sessions, oldest first.
    async fn sessions_of(&self, operator: &str) -> Result<Vec<SessionRow>, StoreError>;

    /// Ends all sessions of an operator, and tells how many there were.
    async fn end_sessions(&self, operator: &str) -> Result<u64, StoreError>;

    /// Forgets sessions that ended by `now`, or were last used before `unused_since`.
    async fn forget_sessions(&self, now: Timestamp, unused_since: Timestamp) -> Result<(), StoreError>;

    /// Refuses an operator's tokens that were made by `made_by_secs`, and ends the sessions; tells how many there were.
    /// A moment that is earlier than the one before moves nothing.
    async fn revoke_operator(&self, operator: &str, made_by_secs: u64) -> Result<u64, StoreError>;

    /// Gives until when, in seconds, an operator's tokens must not have been made; none who was never revoked.
    async fn operator_revoked(&self, operator: &str) -> Result<Option<u64>, StoreError>;
}
