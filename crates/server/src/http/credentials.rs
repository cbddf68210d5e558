//! What an agent shows at the door, held against how its client stands in the record.
//!
//! The record says which of the two ways is due, and with it the algorithm; the token's own words only say which record.

use hoist_wire::{ClientId, ErrorCode};
use jsonwebtoken::dangerous::insecure_decode_claims;
use serde::Deserialize;

use super::problem::Challenge;
use super::{Pages, Problem};
use crate::links::Pass;
use crate::proofs::ProofError;
use crate::tokens::{MAX_TOKEN_BYTES, TokenError};

/// Whom a token names, before anything of it is believed.
#[derive(Debug, Deserialize)]
struct Named {
    sub: String,
}

/// Recognises an agent.
///
/// # Errors
/// The [`Problem`] that it is answered with. Only who holds a good token, or the key, hears more than that it is not valid.
pub(super) async fn recognise(pages: &Pages, token: &str) -> Result<(ClientId, Pass), Problem> {
    let named =
        (token.len() <= MAX_TOKEN_BYTES).then(|| insecure_decode_claims::<Named>(token).ok()).flatten();
    let Some(named) = named else { return Err(refused(&TokenError::Invalid)) };
    let client_id: ClientId = named.sub.parse().map_err(|_| refused(&TokenError::Subject))?;
    let standing = pages.store.standing(&client_id).await?;
    let Some(public_key) = standing.public_key else {
        let (client_id, shown) = pages.tokens.agent(token).map_err(|error| refused_of(token, &error))?;
        let is_current = shown.kid == pages.tokens.kid();
        let pass = Pass::Token { claims: shown.claims, kid: shown.kid, is_current };
        let holds = pass.stamp().holds(&standing);
        return if holds { Ok((client_id, pass)) } else { Err(refused(&TokenError::Revoked(client_id))) };
    };
    let made = match pages.proofs.check(token, &client_id, &public_key) {
        Ok(made) => made,
        Err(ProofError::Invalid) if pages.tokens.agent(token).is_ok() => {
            return Err(refused(&TokenError::Keyed(client_id)));
        }
        Err(error) => return Err(not_proven(error)),
    };
    if !pages.store.use_nonce(&client_id, made, pages.world.now()).await? {
        return Err(not_proven(ProofError::Stale));
    }
    Ok((client_id, Pass::Key { public_key }))
}

fn refused(error: &TokenError) -> Problem {
    tracing::info!(%error, "an agent's token was refused");
    Problem::new(ErrorCode::Unauthorized, error.to_string()).challenge(Challenge::ValidToken)
}

/// Explains a token that is none; a proof gets the words for proofs, whether its client has a key or not.
fn refused_of(token: &str, error: &TokenError) -> Problem {
    let algorithm = jsonwebtoken::decode_header(token).map(|header| header.alg);
    match (error, algorithm) {
        (TokenError::Invalid, Ok(jsonwebtoken::Algorithm::EdDSA)) => not_proven(ProofError::Invalid),
        _ => refused(error),
    }
}

fn not_proven(error: ProofError) -> Problem {
    tracing::info!(%error, "an agent's proof was refused");
    let detail = error.to_string();
    let problem = match error {
        ProofError::Invalid => Problem::new(ErrorCode::Unauthorized, detail),
        ProofError::Stale => Problem::new(ErrorCode::StaleNonce, detail),
        ProofError::Skewed { now } => Problem::new(ErrorCode::ClockSkew, detail).server_time(now),
    };
    problem.challenge(Challenge::ValidToken)
}
