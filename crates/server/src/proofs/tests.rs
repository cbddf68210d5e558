use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoist_wire::AGENT_AUDIENCE;
use jsonwebtoken::{EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_795_521_600_000;
const NOW_SECS: u64 = 1_795_521_600;

#[derive(Debug)]
struct At(AtomicI64);

impl World for At {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

struct Key {
    public: String,
    signs: EncodingKey,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        Self { public, signs: EncodingKey::from_ed_der(pkcs8.as_ref()), pair }
    }

    fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(Algorithm::EdDSA), claims, &self.signs).unwrap()
    }
}

fn proofs(server_id: &str, secret: &str) -> (Proofs, Arc<At>) {
    let clock = Arc::new(At(AtomicI64::new(NOW)));
    let nonces = Nonces::new(&[SecretString::from(secret.repeat(32))], Arc::clone(&clock) as _);
    (Proofs::new(server_id.to_owned(), nonces, Arc::clone(&clock) as _), clock)
}

fn till() -> ClientId {
    "till-1".parse().unwrap()
}

fn claims(proofs: &Proofs) -> Value {
    let nonce = proofs.nonces().make().unwrap();
    json!({"sub": "till-1", "aud": "server-a", "iat": NOW_SECS, "exp": NOW_SECS + 60, "jti": "j", "nonce": nonce})
}

fn with(proofs: &Proofs, name: &str, value: Value) -> Value {
    let mut claims = claims(proofs);
    claims[name] = value;
    claims
}

#[test]
fn a_proof_by_the_clients_key_tells_when_its_nonce_was_made() {
    let ((proofs, _), key) = (proofs("server-a", "a"), Key::new());
    let proof = key.sign(&claims(&proofs));
    assert_eq!(proofs.check(&proof, &till(), &key.public), Ok(Timestamp(NOW)));
}

#[test]
fn another_key_another_client_and_another_server_prove_nothing() {
    let ((proofs, _), key) = (proofs("server-a", "a"), Key::new());
    let good = claims(&proofs);
    let invalid = Err(ProofError::Invalid);
    assert_eq!(proofs.check(&Key::new().sign(&good), &till(), &key.public), invalid);
    assert_eq!(proofs.check(&key.sign(&good), &"till-2".parse().unwrap(), &key.public), invalid);
    let relayed = with(&proofs, "aud", json!("server-b"));
    assert_eq!(proofs.check(&key.sign(&relayed), &till(), &key.public), invalid);
    for aud in [json!(AGENT_AUDIENCE), json!(""), Value::Null, json!(["server-b", AGENT_AUDIENCE])] {
        assert_eq!(proofs.check(&key.sign(&with(&proofs, "aud", aud)), &till(), &key.public), invalid);
    }
    for bad in ["", "x", "a.b.c", &"x".repeat(5000)] {
        assert_eq!(proofs.check(bad, &till(), &key.public), invalid);
    }
}

#[test]
fn the_algorithm_comes_from_the_key_and_never_from_the_header() {
    let ((proofs, _), key) = (proofs("server-a", "a"), Key::new());
    let good = claims(&proofs);
    let raw = URL_SAFE_NO_PAD.decode(&key.public).unwrap();
    // The public key is no secret: whoever signs with its bytes, or with its text, has nothing.
    for secret in [raw.as_slice(), key.public.as_bytes(), b""] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let forged = encode(&Header::new(algorithm), &good, &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(proofs.check(&forged, &till(), &key.public), Err(ProofError::Invalid));
        }
    }
    let signed = key.sign(&good);
    let [_, body, signature] = signed.split('.').collect::<Vec<_>>()[..] else {
        panic!("a JWT has three parts")
    };
    for header in [
        json!({"alg": "none", "typ": "JWT"}),
        json!({"alg": "HS256"}),
        json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}),
        json!({}),
    ] {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        for signature in ["", signature] {
            let forged = format!("{header}.{body}.{signature}");
            assert_eq!(proofs.check(&forged, &till(), &key.public), Err(ProofError::Invalid), "{header}");
        }
    }
}

#[test]
fn a_nonce_of_another_server_or_of_long_ago_is_stale() {
    let ((ours, clock), (other, _), key) = (proofs("server-a", "a"), proofs("server-a", "b"), Key::new());
    let foreign = key.sign(&with(&ours, "nonce", json!(other.nonces().make().unwrap())));
    assert_eq!(ours.check(&foreign, &till(), &key.public), Err(ProofError::Stale));
    let mut late = claims(&ours);
    clock.0.store(NOW + 60_000, Ordering::Relaxed);
    (late["iat"], late["exp"]) = (json!(NOW_SECS + 60), json!(NOW_SECS + 120));
    assert_eq!(ours.check(&key.sign(&late), &till(), &key.public), Err(ProofError::Stale));
}

#[test]
fn a_clock_that_is_years_off_is_told_the_time_and_only_to_who_has_the_key() {
    let ((proofs, _), key) = (proofs("server-a", "a"), Key::new());
    let years = 20 * 365 * 86_400;
    let skewed = Err(ProofError::Skewed { now: Timestamp(NOW) });
    for (iat, answer) in [
        (NOW_SECS - years, skewed),
        (NOW_SECS + years, skewed),
        (0, skewed),
        (NOW_SECS - 60, skewed),
        (NOW_SECS - 59, Ok(Timestamp(NOW))),
        (NOW_SECS + 30, Ok(Timestamp(NOW))),
        (NOW_SECS + 31, skewed),
    ] {
        let mut claims = claims(&proofs);
        (claims["iat"], claims["exp"]) = (json!(iat), json!(iat + 60));
        assert_eq!(proofs.check(&key.sign(&claims), &till(), &key.public), answer, "{iat}");
        let stranger = Key::new().sign(&claims);
        assert_eq!(proofs.check(&stranger, &till(), &key.public), Err(ProofError::Invalid));
    }
    // No proof is made for later, and none for long.
    for (iat, exp) in
        [(NOW_SECS, NOW_SECS + 61), (NOW_SECS, NOW_SECS - 1), (NOW_SECS, u64::MAX), (u64::MAX, u64::MAX)]
    {
        let mut claims = claims(&proofs);
        (claims["iat"], claims["exp"]) = (json!(iat), json!(exp));
        assert!(proofs.check(&key.sign(&claims), &till(), &key.public).is_err(), "{iat} {exp}");
    }
}

#[test]
fn a_key_is_enrolled_only_by_whoever_has_it() {
    let key = Key::new();
    let sign = |text: String| URL_SAFE_NO_PAD.encode(key.pair.sign(text.as_bytes()));
    let proof = sign(enrollment_text("hash", &key.public));
    assert!(proves_possession("hash", &key.public, &proof));
    assert!(!proves_possession("another", &key.public, &proof), "for another token");
    assert!(!proves_possession("hash", &Key::new().public, &proof), "somebody else's key");
    for (public, proof) in [
        ("", proof.as_str()),
        ("AAAA", &proof),
        (&key.public[..42], &proof),
        (&format!("{}AAAA", key.public), &proof),
        ("not base64 at all, but as long as a key is", &proof),
        (&key.public, ""),
        (&key.public, "c2lnbmVk"),
        (&key.public, &proof[..80]),
    ] {
        assert!(!proves_possession("hash", public, proof), "{public} {proof}");
    }
}
