//! How an agent gets a key of its own: `POST /ws/enroll`, and the nonces that its proofs carry: `GET /ws/nonce`.
//!
//! Nobody is recognised here yet: what guards the first is the one-time token in its body, and the second gives nothing away.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hoist_wire::identity::{EnrollReply, EnrollRequest, NONCE_LIFE_SECS, NonceReply};
use hoist_wire::{ClientId, ErrorCode, Sealed, Timestamp};
use sha2::{Digest, Sha256};

use super::admission::Recognised;
use super::doors::{self, Body};
use super::shown::ONE_TIME_PREFIX;
use super::{Pages, Problem, State};
use crate::audit::{Deed, Detail, Noted, Outcome};
use crate::bucket::BucketError;
use crate::clock::{World, random_id};
use crate::links::chain;
use crate::proofs::proves_possession;
use crate::store::{Enrolled, Enrolment, StoreError};

/// How long a one-time token is good unless asked otherwise.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Gives a nonce.
pub(super) async fn nonce(pages: State) -> Result<Response, Problem> {
    let nonce = pages.proofs.nonces().make();
    let defect = || Problem::new(ErrorCode::Internal, "no nonce can be signed: see the server's log");
    let reply = NonceReply { nonce: nonce.ok_or_else(defect)?, expires_in_secs: NONCE_LIFE_SECS };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(reply)).into_response())
}

/// Enrols a key.
pub(super) async fn enroll(
    pages: State,
    Extension(deed): Extension<Deed>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let asked: EnrollRequest = doors::json(&headers, &doors::whole(body)?)?;
    let token_hash = hash(asked.token.open());
    if !proves_possession(&token_hash, &asked.public_key, &asked.proof) {
        let detail =
            "public_key is no Ed25519 key in base64url, or proof is not its signature over this token";
        return Err(Problem::new(ErrorCode::InvalidRequest, detail));
    }
    // Asked first: an answer that cannot be given in full must not use up the token.
    let storage_hosts = pages.bucket.storage_hosts().await.map_err(|error| no_bucket(&error))?;
    let now = pages.world.now();
    let line = pages.audit.entry(&deed, Outcome { status: StatusCode::OK.as_u16(), ..Default::default() });
    let enrolled = pages.store.enrol(&token_hash, &asked.public_key, now, &line).await?;
    let is_noted = matches!(enrolled, Enrolled::Now { .. });
    let (client_id, detail) = match enrolled {
        Enrolled::Now { client_id, replaced: false } => (client_id, "a first key"),
        Enrolled::Now { client_id, replaced: true } => (client_id, "a key in the place of another one"),
        Enrolled::Before { client_id } => (client_id, "the same key again"),
        Enrolled::Refused { client_id } => return Ok(refused(client_id)),
    };
    // Whoever is linked by another key, or by a token, is so no longer.
    let standing = pages.store.standing(&client_id).await?;
    pages.link.links.recheck(&client_id, &standing);
    tracing::info!(%client_id, detail, "a key was enrolled");
    let who = Recognised(client_id.to_string());
    let server_id = pages.proofs.server_id().to_owned();
    let mut response =
        Json(EnrollReply { client_id, server_id, storage_hosts, server_time: now }).into_response();
    response.extensions_mut().insert(who);
    response.extensions_mut().insert(Detail(detail.to_owned()));
    if is_noted {
        response.extensions_mut().insert(Noted);
    }
    Ok(response)
}

/// Answers the same whatever is wrong with the token; the trail says for whom it was, where that is known.
fn refused(client_id: Option<ClientId>) -> Response {
    let detail =
        "the one-time token is not known, has ended, or was used: make another one with `hoist token enroll`";
    let mut response = Problem::new(ErrorCode::Unauthorized, detail).into_response();
    if let Some(client_id) = client_id {
        response.extensions_mut().insert(Detail(format!("a token that was made for {client_id}")));
    }
    response
}

fn no_bucket(error: &BucketError) -> Problem {
    tracing::error!(error = %chain(error), "the bucket's hosts cannot be told to an agent that enrols");
    Problem::new(
        ErrorCode::BucketUnavailable,
        "the bucket's hosts are not known now: nothing was changed, try again",
    )
}

/// Makes a one-time token for a client. The store has its hash alone.
///
/// # Errors
/// [`StoreError`]; then there is no token.
pub(super) async fn issue(
    pages: &Pages,
    client_id: ClientId,
    ttl: Option<Duration>,
) -> Result<(Sealed, Timestamp), StoreError> {
    let world: &dyn World = &*pages.world;
    let token = format!("{ONE_TIME_PREFIX}{}{}", random_id(world), random_id(world));
    let created_at = world.now();
    let expires_at = created_at.plus_secs(ttl.unwrap_or(TOKEN_TTL).as_secs());
    let enrolment = Enrolment { token_hash: hash(&token), client_id, created_at, expires_at };
    pages.store.note_enrolment(&enrolment).await?;
    Ok((Sealed::new(token), expires_at))
}

/// Names a token without telling it. It has 256 random bits, so nothing slower than a hash is needed.
fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
