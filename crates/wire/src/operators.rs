//! The JSON about operators themselves: their sessions, and the end of their tokens.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::reach::{Labels, Reach};
use crate::rest::Scope;

/// The header that a page sends with what changes something, when a session's cookie speaks for its operator.
pub const CSRF_HEADER: &str = "hoist-csrf";

/// Who asks: the answer of `POST /session` and `GET /session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// The operator's name.
    pub operator: String,
    /// What they may do.
    pub scopes: Vec<Scope>,
    /// The clients that they reach; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Reach>,
    /// When the session, or the token, ends at the latest; absent in a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What `Hoist-CSRF` must say; absent where no session's cookie speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
}

/// A session, as an admin sees it. What its cookie says is in no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Session {
    /// Whose.
    pub operator: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The clients that it reaches; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Reach>,
    /// The token (`jti`) that opened it.
    pub token_id: String,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// The answer of `GET /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionList {
    /// Oldest first.
    pub sessions: Vec<Session>,
}

/// The answer of `DELETE /sessions` and `POST /operators/{name}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ended {
    /// Whose.
    pub operator: String,
    /// How many sessions were ended.
    pub sessions_ended: u64,
    /// Tokens made until then are refused; absent where only sessions were ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_not_before: Option<Timestamp>,
}

/// The answer of `PUT /clients/{client_id}/labels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientLabels {
    /// Whose.
    pub client_id: crate::ClientId,
    /// All that it has.
    pub labels: Labels,
}
