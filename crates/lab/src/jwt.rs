//! Tokens, right ones and wrong ones: signed here, so that a test can forge what the server would never make.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoist_wire::rest::Scope;
use hoist_wire::{AGENT_AUDIENCE, OPERATOR_AUDIENCE};
use ring::hmac;
use serde_json::{Value, json};

/// Seconds since 1970.
///
/// # Panics
/// If the clock stands before 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// Gives the claims of an agent's token that is good for an hour.
pub fn agent_claims(client: &str) -> Value {
    json!({"sub": client, "aud": AGENT_AUDIENCE, "exp": now() + 3600, "iat": now(), "jti": "lab"})
}

/// Gives the claims of an operator's token that is good for an hour.
pub fn operator_claims(name: &str, scopes: &[Scope]) -> Value {
    json!({"sub": name, "aud": OPERATOR_AUDIENCE, "exp": now() + 3600, "iat": now(), "jti": "lab", "scopes": scopes})
}

/// Signs claims with a secret (HS256, RFC 7515).
pub fn sign(claims: &Value, secret: &str) -> String {
    let text = unsigned(&json!({"typ": "JWT", "alg": "HS256"}), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Signs claims with a secret by another rule than the server's (HS512, RFC 7518).
pub fn sign_hs512(claims: &Value, secret: &str) -> String {
    let text = unsigned(&json!({"typ": "JWT", "alg": "HS512"}), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Joins a header and claims; the signature and the dot before it are left out.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}
