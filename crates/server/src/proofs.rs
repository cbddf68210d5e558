//! What an agent signs with its own key to show that it is there now: checked with that key alone.
//!
//! Deliberately absent: which key a client has (`store`), and that a nonce opens one link only.

use std::sync::Arc;

use hoist_wire::identity::{PROOF_LIFE_SECS, ProofClaims, enrollment_text};
use hoist_wire::{ClientId, Timestamp};
use jsonwebtoken::crypto::verify;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

use crate::clock::World;
use crate::nonces::Nonces;
use crate::tokens::{MAX_TOKEN_BYTES, secs};

/// How far an agent's clock may be ahead, in seconds.
const MAX_AHEAD_SECS: u64 = 30;

/// Bytes of an Ed25519 key.
const KEY_BYTES: usize = 32;

/// Why a proof is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not signed by the client's key, or not for this server.
    #[error(
        "the proof is not valid: it was not signed with the client's key (a revoked or replaced one?), or for another \
         server; enrol again with `hoist token enroll`"
    )]
    Invalid,
    /// Its nonce is none of ours, or has ended, or was used.
    #[error("the proof's nonce has ended, or was used: ask for another one")]
    Stale,
    /// All is right but the time.
    #[error("the proof is right, and was made by a clock that is not: Hoist-Time has this server's time")]
    Skewed {
        /// The server's time.
        now: Timestamp,
    },
}

/// Checks proofs.
#[derive(Debug)]
pub struct Proofs {
    server_id: String,
    nonces: Nonces,
    world: Arc<dyn World>,
}

impl Proofs {
    /// Takes what proofs for this server must carry.
    pub fn new(server_id: String, nonces: Nonces, world: Arc<dyn World>) -> Self {
        Self { server_id, nonces, world }
    }

    /// The server's id: the audience of proofs.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// Makes and checks nonces.
    pub fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Checks the proof of a client that has this key; gives when its nonce was made.
    ///
    /// # Errors
    /// [`ProofError`]. Nothing is said of nonce or time to whoever has not the key.
    pub fn check(&self, proof: &str, client: &ClientId, public_key: &str) -> Result<Timestamp, ProofError> {
        let claims = self.signed(proof, public_key).filter(|claims| claims.sub == client.as_str());
        let claims = claims.ok_or(ProofError::Invalid)?;
        let made = self.nonces.made_at(&claims.nonce).ok_or(ProofError::Stale)?;
        let now = self.world.now();
        let life = claims.exp.checked_sub(claims.iat).ok_or(ProofError::Invalid)?;
        if life > PROOF_LIFE_SECS {
            return Err(ProofError::Invalid);
        }
        if claims.exp <= secs(now) || claims.iat > secs(now) + MAX_AHEAD_SECS {
            return Err(ProofError::Skewed { now });
        }
        Ok(made)
    }

    /// Reads the claims of a proof that was signed with the key, and for this server.
    fn signed(&self, proof: &str, public_key: &str) -> Option<ProofClaims> {
        if proof.len() > MAX_TOKEN_BYTES || decode_header(proof).ok()?.crit.is_some() {
            return None;
        }
        let key = DecodingKey::from_ed_components(public_key).ok()?;
        // The algorithm comes from the key: whatever the header says, nothing else is tried.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[&self.server_id]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.validate_exp = false;
        decode::<ProofClaims>(proof, &key, &validation).ok().map(|read| read.claims)
    }
}

/// Tells whether whoever wants to enrol a key has it.
pub fn proves_possession(token_hash: &str, public_key: &str, proof: &str) -> bool {
    let Ok(key) = DecodingKey::from_ed_components(public_key) else { return false };
    if !key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
        return false;
    }
    let text = enrollment_text(token_hash, public_key);
    verify(proof, text.as_bytes(), &key, Algorithm::EdDSA).unwrap_or(false)
}

#[cfg(test)]
mod tests;
