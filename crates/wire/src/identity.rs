//! How an agent gets a key of its own, and how it proves that it has it.
//!
//! Deliberately absent: cryptography. Signing and checking happen where the keys are.

use serde::{Deserialize, Serialize};

use crate::{ClientId, Sealed, Timestamp};

/// The path at which an agent asks for a nonce. It stands beside [`LINK_PATH`](crate::LINK_PATH), as all that agents need.
pub const NONCE_PATH: &str = "/ws/nonce";

/// The path at which an agent enrols.
pub const ENROLL_PATH: &str = "/ws/enroll";

/// The response header with the server's time in milliseconds since 1970, where a clock is wrong.
pub const TIME_HEADER: &str = "hoist-time";

/// How long a nonce is good, in seconds.
pub const NONCE_LIFE_SECS: u32 = 60;

/// Longest life of a proof, in seconds: from `iat` to `exp`.
pub const PROOF_LIFE_SECS: u64 = 60;

/// The claims of a proof: a JWT (EdDSA) that an agent signs for one link; times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofClaims {
    /// The client id.
    pub sub: String,
    /// The id of the server that the key was enrolled at.
    pub aud: String,
    /// When it was made.
    pub iat: u64,
    /// When it ends: at most [`PROOF_LIFE_SECS`] later.
    pub exp: u64,
    /// Names this one proof.
    pub jti: String,
    /// What the server gave to be signed.
    pub nonce: String,
}

/// The answer of `GET /ws/nonce`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NonceReply {
    /// To be put into one proof. It means nothing to anyone but the server.
    pub nonce: String,
    /// Seconds for which it is good. Relative: a site's clock may be wrong.
    pub expires_in_secs: u32,
}

/// The body of `POST /ws/enroll`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnrollRequest {
    /// The one-time token.
    pub token: Sealed,
    /// The Ed25519 key that the agent made: 32 bytes in base64url without padding.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_-]{43}$")))]
    pub public_key: String,
    /// The signature by that key over [`enrollment_text`]: 64 bytes in base64url without padding.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_-]{86}$")))]
    pub proof: String,
}

/// The answer of `POST /ws/enroll`: what an agent keeps beside its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnrollReply {
    /// Who it is from now on.
    pub client_id: ClientId,
    /// What its proofs carry as `aud`.
    pub server_id: String,
    /// The hosts of the server's bucket, to which files will be sent.
    pub storage_hosts: Vec<String>,
    /// The server's time.
    pub server_time: Timestamp,
}

/// Gives the text that a key signs to show that whoever enrols it has it.
///
/// `token_hash` is the SHA-256 of the one-time token in hexadecimal. Only the server that made the token knows it, so the
/// signature is worth nothing at any other; and the text is no JWT, so that it never passes for one.
pub fn enrollment_text(token_hash: &str, public_key: &str) -> String {
    format!("hoist enrolment\n{token_hash}\n{public_key}\n")
}
