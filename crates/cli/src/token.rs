//! Tokens: asked of the server, or signed here with its secret.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoist_wire::claims::Claims;
use hoist_wire::duration::parse_duration;
use hoist_wire::rest::{TokenKind, TokenReply, TokenRequest};
use hoist_wire::{AGENT_AUDIENCE, OPERATOR_AUDIENCE, Sealed, Timestamp};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::failure::Failure;
use crate::settings;

/// Least bytes of a secret for HS256 (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// How long a client's token is good when nothing says so, as at the server: 90 days.
const CLIENT_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

/// How long an operator's token is good when nothing says so, as at the server: 30 days.
const OPERATOR_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Signs a token with the secret of this machine's server.
///
/// # Errors
/// [`Failure::Input`] when there is no secret, or it is too short.
pub(crate) fn sign_here(request: &TokenRequest) -> Result<TokenReply, Failure> {
    let secret = secret()?;
    let ttl = match (request.ttl_secs, request.kind) {
        (Some(secs), _) => Duration::from_secs(secs),
        (None, TokenKind::Operator) => OPERATOR_TTL,
        (None, TokenKind::Client | TokenKind::Enrolment) => match settings::text("JWT_EXPIRY") {
            Some(text) => match parse_duration(&text) {
                Ok(Duration::ZERO) => {
                    let detail =
                        "JWT_EXPIRY=0: a token must live longer than nothing; write such as 24h or 90d";
                    return Err(Failure::Input(detail.to_owned()));
                }
                other => other.map_err(|error| Failure::Input(format!("JWT_EXPIRY: {error}")))?,
            },
            None => CLIENT_TTL,
        },
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = now.saturating_add(ttl.as_secs());
    let audience = match request.kind {
        TokenKind::Client => AGENT_AUDIENCE,
        TokenKind::Operator => OPERATOR_AUDIENCE,
        TokenKind::Enrolment => {
            let detail =
                "a one-time token stands in the server's record: ask the server for it, without --local";
            return Err(Failure::Input(detail.to_owned()));
        }
    };
    let claims = Claims {
        sub: request.subject.clone(),
        aud: audience.to_owned(),
        exp,
        iat: now,
        jti: settings::random_id()?,
        scopes: request.scopes.clone(),
        clients: request.clients.clone(),
    };
    let payload = serde_json::to_vec(&claims)
        .map_err(|error| Failure::Input(format!("the token's claims cannot be written: {error}")))?;
    let token = sign(br#"{"typ":"JWT","alg":"HS256"}"#, &payload, secret.expose_secret().as_bytes());
    let expires_at = Timestamp(i64::try_from(exp.saturating_mul(1000)).unwrap_or(i64::MAX));
    Ok(TokenReply { token: Sealed::new(token), expires_at })
}

/// Joins and signs header and payload (RFC 7515, 3.1, with HS256).
fn sign(header: &[u8], payload: &[u8], secret: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Finds the secret where the server finds it: `JWT_SECRET`, else the file that a trial server keeps.
fn secret() -> Result<SecretString, Failure> {
    let (secret, from) = match settings::secret("JWT_SECRET") {
        Some(secret) => (secret, "JWT_SECRET".to_owned()),
        None => {
            let path = PathBuf::from(settings::text("DATA_DIR").unwrap_or_else(|| "data".to_owned()))
                .join("jwt-secret");
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Failure::Input(format!(
                    "no secret to sign with: JWT_SECRET is not set, and {}: {error}",
                    path.display()
                ))
            })?;
            (SecretString::from(text.trim_end()), path.display().to_string())
        }
    };
    let bytes = secret.expose_secret().len();
    if bytes < MIN_SECRET_BYTES {
        return Err(Failure::Input(format!(
            "the secret in {from} has {bytes} bytes; HS256 needs at least {MIN_SECRET_BYTES}"
        )));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_as_rfc_7515_says() {
        // RFC 7515, appendix A.1.
        let key = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let token = sign(
            b"{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}",
            b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}",
            &key,
        );
        assert_eq!(token.rsplit('.').next(), Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(token.starts_with("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."));
    }
}
