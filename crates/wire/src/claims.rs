//! What a token says. Signing and checking happen where the secrets are.

use serde::{Deserialize, Serialize};

use crate::reach::Reach;
use crate::rest::Scope;

/// The claims of a token (RFC 7519, 4.1), for agents and operators alike; times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The client id of an agent, or the name of an operator.
    pub sub: String,
    /// [`AGENT_AUDIENCE`](crate::AGENT_AUDIENCE) or [`OPERATOR_AUDIENCE`](crate::OPERATOR_AUDIENCE).
    pub aud: String,
    /// When it ends.
    pub exp: u64,
    /// When it was made.
    pub iat: u64,
    /// Names this one token in the audit.
    pub jti: String,
    /// What an operator may do; empty for an agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// The clients that an operator's token reaches; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Reach>,
}
