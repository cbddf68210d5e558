//! Nonces that no node has to remember: what a proof must carry to be fresh.
//!
//! A nonce is the time at which it was made, chance, and an HMAC of both with the server's secret. Deliberately absent: that
//! each opens one link only, which the store decides.

use std::sync::Arc;

use hoist_wire::Timestamp;
use hoist_wire::identity::NONCE_LIFE_SECS;
use jsonwebtoken::crypto::{sign, verify};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::{World, random_id};
use crate::store::identities::MAX_NODE_SKEW_MS;

const LIFE_MS: i64 = NONCE_LIFE_SECS as i64 * 1000;

/// Makes and checks nonces.
pub struct Nonces {
    /// The first signs, all check: as for tokens, so that secrets rotate.
    keys: Vec<(EncodingKey, DecodingKey)>,
    world: Arc<dyn World>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl Nonces {
    /// Takes the server's secrets.
    pub fn new(secrets: &[SecretString], world: Arc<dyn World>) -> Self {
        let pair = |secret: &SecretString| {
            let bytes = secret.expose_secret().as_bytes();
            (EncodingKey::from_secret(bytes), DecodingKey::from_secret(bytes))
        };
        Self { keys: secrets.iter().map(pair).collect(), world }
    }

    /// Makes one; none where there is no secret to sign it with.
    pub fn make(&self) -> Option<String> {
        let head = format!("{}.{}", self.world.now().0, random_id(&*self.world));
        let (signs, _) = self.keys.first()?;
        let tag = sign(text(&head).as_bytes(), signs, Algorithm::HS256).ok()?;
        Some(format!("{head}.{tag}"))
    }

    /// Tells when a nonce was made; none for one that is not ours, or has ended.
    pub fn made_at(&self, nonce: &str) -> Option<Timestamp> {
        let (head, tag) = nonce.rsplit_once('.')?;
        let message = text(head);
        let is_ours = |(_, checks): &(EncodingKey, DecodingKey)| {
            verify(tag, message.as_bytes(), checks, Algorithm::HS256).unwrap_or(false)
        };
        if !self.keys.iter().any(is_ours) {
            return None;
        }
        let made: i64 = head.split_once('.')?.0.parse().ok()?;
        let age = self.world.now().0.checked_sub(made)?;
        (-MAX_NODE_SKEW_MS..LIFE_MS).contains(&age).then_some(Timestamp(made))
    }
}

/// What is signed. The colon keeps it apart from every JWT, which the same secret signs: those are base64url and dots.
fn text(head: &str) -> String {
    format!("hoist nonce:{head}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

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

    const NOW: i64 = 1_795_521_600_000;

    fn nonces(secrets: &[&str], at: &Arc<At>) -> Nonces {
        let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(secret.repeat(32))).collect();
        Nonces::new(&secrets, Arc::clone(at) as _)
    }

    #[test]
    fn a_nonce_is_good_for_a_minute_on_every_node_with_the_secret() {
        let clock = Arc::new(At(AtomicI64::new(NOW)));
        let (one, other, rotated) =
            (nonces(&["a"], &clock), nonces(&["a"], &clock), nonces(&["b", "a"], &clock));
        let nonce = one.make().unwrap();
        for (node, ahead_ms, good) in [
            (&one, 0, true),
            (&other, 59_999, true),
            (&rotated, 59_999, true),
            (&one, 60_000, false),
            // A node whose clock is behind.
            (&other, -10_000, true),
            (&other, -10_001, false),
        ] {
            clock.0.store(NOW + ahead_ms, Ordering::Relaxed);
            assert_eq!(node.made_at(&nonce), good.then_some(Timestamp(NOW)), "{ahead_ms}");
        }
        clock.0.store(NOW, Ordering::Relaxed);
        assert_eq!(nonces(&["b"], &clock).made_at(&nonce), None, "another secret");
    }

    #[test]
    fn a_nonce_that_was_changed_anywhere_is_not_ours() {
        let clock = Arc::new(At(AtomicI64::new(NOW)));
        let nonces = nonces(&["a"], &clock);
        let nonce = nonces.make().unwrap();
        for place in 0..nonce.len() {
            let mut bytes = nonce.clone().into_bytes();
            bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last digit of base64 has two bits that nobody reads; the decoder refuses them.
            assert_eq!(nonces.made_at(&changed), None, "{changed}");
        }
        for bad in ["", ".", "..", "x", &format!("{nonce}."), &format!(".{nonce}"), &nonce.replace('.', "")] {
            assert_eq!(nonces.made_at(bad), None, "{bad:?}");
        }
    }
}
