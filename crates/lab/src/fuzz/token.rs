//! Tokens: what the server takes, and what the agent reads in one before it dials.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoist_server::clock::World;
use hoist_server::tokens::Tokens;
use hoist_wire::Timestamp;
use ring::hmac;
use secrecy::SecretString;

use super::texts;

const SECRET: &str = "a-secret-of-the-fuzz-targets-32-bytes";
const OLDER: &str = "another-secret-of-the-fuzz-targets-32";

/// Half past November 2026, always.
#[derive(Debug)]
struct Fixed;

impl World for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_521_600_000)
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

static TOKENS: LazyLock<Tokens> =
    LazyLock::new(|| Tokens::new(&[SecretString::from(SECRET), SecretString::from(OLDER)], Arc::new(Fixed)));

/// The first text is taken as it is; the second and third are signed as header and claims, so that what stands behind the
/// signature is reached too.
pub(super) fn token(bytes: &[u8]) {
    let Some([raw, header, claims]) = texts::<3>(bytes) else { return };
    let forged = taken(raw);
    assert!(!forged || is_signed(raw), "{raw:?} was taken, and nobody signed it");
    for secret in [SECRET, OLDER] {
        taken(&sign(header, claims, secret));
    }
    let foreign = sign(header, claims, "a-secret-that-this-server-does-not-have");
    assert!(!taken(&foreign), "{foreign:?} was taken, and a stranger signed it");
}

/// Tells whether the server takes a token, as whosever; and holds what must be true of any that it takes.
fn taken(token: &str) -> bool {
    let (agent, operator) = (TOKENS.agent(token), TOKENS.operator(token));
    assert!(agent.is_err() || operator.is_err(), "one token is an agent's and an operator's: {token:?}");
    let of = hoist_agent::exposed::client_of(token);
    if let Ok((client, claims)) = &agent {
        assert_eq!(of.as_ref(), Some(client), "agent and server read another client in {token:?}");
        assert_eq!(claims.claims.aud, hoist_wire::AGENT_AUDIENCE);
        assert!(claims.claims.exp > 1_795_521_600, "{token:?} is too old");
    }
    if let Ok(claims) = &operator {
        assert_eq!(claims.aud, hoist_wire::OPERATOR_AUDIENCE);
        assert!(claims.exp > 1_795_521_600, "{token:?} is too old");
        assert_eq!(of, None, "an agent takes an operator's token for its own: {token:?}");
    }
    agent.is_ok() || operator.is_ok()
}

fn sign(header: &str, claims: &str, secret: &str) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn is_signed(token: &str) -> bool {
    let Some((text, tag)) = token.rsplit_once('.') else { return false };
    let Ok(tag) = URL_SAFE_NO_PAD.decode(tag) else { return false };
    [SECRET, OLDER].iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, text.as_bytes(), &tag).is_ok()
    })
}
