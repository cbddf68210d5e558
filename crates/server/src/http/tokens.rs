//! Making tokens: `POST /tokens`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hoist_wire::limits::MAX_TTL_SECS;
use hoist_wire::rest::{TokenKind, TokenReply, TokenRequest};
use hoist_wire::{ClientId, ErrorCode, IdError, Timestamp};

use super::admission::Operator;
use super::doors::{self, Body};
use super::{Pages, Problem, State, enrolment};
use crate::links::chain;

/// How long an operator's token lives unless asked otherwise.
const OPERATOR_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest life of a token, in seconds: ten years.
const MAX_TOKEN_TTL_SECS: u64 = 10 * MAX_TTL_SECS;

/// Longest name of an operator, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Makes a token.
pub(super) async fn make(
    pages: State,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let asked: TokenRequest = doors::json(&headers, &doors::whole(body)?)?;
    check(&asked)?;
    let ttl = asked.ttl_secs.map(Duration::from_secs);
    let made = match asked.kind {
        TokenKind::Client => {
            let client_id = client(&asked.subject)?;
            let made = not_revoked(&pages, &client_id).await?;
            pages.tokens.for_agent(&client_id, ttl.unwrap_or(pages.client_token_ttl), made)
        }
        TokenKind::Enrolment => Ok(enrolment::issue(&pages, client(&asked.subject)?, ttl).await?),
        TokenKind::Operator => {
            pages.tokens.for_operator(&asked.subject, asked.scopes.clone(), ttl.unwrap_or(OPERATOR_TTL))
        }
    };
    let (token, expires_at) = made.map_err(|error| {
        tracing::error!(error = %chain(&error), "a token cannot be made");
        Problem::new(ErrorCode::Internal, "the token cannot be signed: see the server's log")
    })?;
    tracing::info!(by = operator.name, kind = ?asked.kind, subject = asked.subject, %expires_at, "token made");
    let reply = Json(TokenReply { token, expires_at });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], reply).into_response())
}

fn client(subject: &str) -> Result<ClientId, Problem> {
    subject.parse().map_err(|error: IdError| Problem::new(ErrorCode::InvalidClientId, error.to_string()))
}

/// Gives the moment that a new token says it was made at: now, or a little later where its client was revoked just now.
async fn not_revoked(pages: &Pages, client_id: &ClientId) -> Result<Timestamp, Problem> {
    let standing = pages.store.standing(client_id).await?;
    if standing.public_key.is_some() {
        let detail = format!(
            "client {client_id} has a key of its own and no tokens: `hoist token enroll {client_id}` gives it a new key,              and `hoist clients revoke {client_id}` takes the key, so that it can have tokens again"
        );
        return Err(Problem::new(ErrorCode::InvalidRequest, detail));
    }
    Ok(pages.world.now().max(standing.tokens_not_before))
}

fn check(asked: &TokenRequest) -> Result<(), Problem> {
    let wrong = |detail: String| Err(Problem::new(ErrorCode::InvalidRequest, detail));
    if let Some(secs) = asked.ttl_secs
        && !(1..=MAX_TOKEN_TTL_SECS).contains(&secs)
    {
        return wrong(format!("ttl_secs={secs} is no life for a token: use 1 to {MAX_TOKEN_TTL_SECS}"));
    }
    if asked.kind == TokenKind::Operator {
        let name = &asked.subject;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return wrong(format!(
                "operator name {name:?} is not allowed: use 1 to {MAX_NAME_BYTES} printable ASCII characters"
            ));
        }
        if asked.scopes.is_empty() {
            return wrong(String::from("an operator's token needs scopes: some of read, download, admin"));
        }
    }
    Ok(())
}
