//! Making tokens: `POST /tokens`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hoist_wire::limits::MAX_TTL_SECS;
use hoist_wire::reach::Reach;
use hoist_wire::rest::{TokenKind, TokenReply, TokenRequest};
use hoist_wire::{ClientId, ErrorCode, IdError, Timestamp};

use super::doors::{self, Body};
use super::operator::Operator;
use super::{Pages, Problem, State, enrolment};
use crate::audit::Detail;
use crate::links::chain;
use crate::tokens::OperatorTerms;

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
    check_reach(&pages, &operator, &asked).await?;
    let ttl = asked.ttl_secs.map(Duration::from_secs);
    let made = match asked.kind {
        TokenKind::Client => {
            let client_id = client(&asked.subject)?;
            let made = not_revoked(&pages, &client_id).await?;
            pages.tokens.for_agent(&client_id, ttl.unwrap_or(pages.client_token_ttl), made)
        }
        TokenKind::Enrolment => Ok(enrolment::issue(&pages, client(&asked.subject)?, ttl).await?),
        TokenKind::Operator => {
            let made_after_secs = pages.store.operator_revoked(&asked.subject).await?;
            let terms = OperatorTerms {
                scopes: asked.scopes.clone(),
                clients: asked.clients.clone(),
                made_after_secs,
            };
            pages.tokens.for_operator(&asked.subject, terms, ttl.unwrap_or(OPERATOR_TTL))
        }
    };
    let (token, expires_at) = made.map_err(|error| {
        tracing::error!(error = %chain(&error), "a token cannot be made");
        Problem::new(ErrorCode::Internal, "the token cannot be signed: see the server's log")
    })?;
    tracing::info!(by = operator.name, kind = ?asked.kind, subject = asked.subject, %expires_at, "token made");
    let detail = Detail(described(&asked, expires_at));
    let reply = Json(TokenReply { token, expires_at });
    let mut response = (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], reply).into_response();
    response.extensions_mut().insert(detail);
    Ok(response)
}

/// Checks the name of an operator.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(|b| b.is_ascii_graphic()) {
        let shown: String = name.chars().take(MAX_NAME_BYTES + 1).collect();
        let detail = format!(
            "operator name {shown:?} is not allowed: use 1 to {MAX_NAME_BYTES} printable ASCII characters"
        );
        return Err(Problem::new(ErrorCode::InvalidRequest, detail));
    }
    Ok(())
}

/// Refuses to make a token that reaches further than whoever asks for it, or that takes another one's name.
async fn check_reach(pages: &Pages, operator: &Operator, asked: &TokenRequest) -> Result<(), Problem> {
    let Some(own) = &operator.reach else { return Ok(()) };
    let (name, subject) = (&operator.name, &asked.subject);
    let refuse = |detail: String| Err(Problem::new(ErrorCode::Forbidden, detail));
    match asked.kind {
        TokenKind::Client | TokenKind::Enrolment => {
            let reached = match subject.parse::<ClientId>() {
                Ok(client) => operator.reaches(&*pages.store, &client).await?,
                Err(error) => return Err(Problem::new(ErrorCode::InvalidClientId, error.to_string())),
            };
            if !reached {
                return refuse(format!(
                    "client {subject:?} is not within what the token of {name:?} reaches"
                ));
            }
        }
        TokenKind::Operator => {
            if !asked.clients.as_ref().is_some_and(|clients| clients.is_within(own)) {
                return refuse(format!(
                    "the token of {name:?} makes none that reaches further than itself: ask for `clients` within its own"
                ));
            }
            let below = subject.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            if below.is_none_or(str::is_empty) {
                return refuse(format!(
                    "the token of {name:?} reaches some clients only, and names other operators below itself: \
                     {name}/NAME, not {subject:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Says what token was made, for the trail.
fn described(asked: &TokenRequest, expires_at: Timestamp) -> String {
    let scopes: Vec<_> = asked.scopes.iter().map(|scope| format!("{scope:?}").to_ascii_lowercase()).collect();
    let reach = asked.clients.as_ref().map_or_else(String::new, |reach| {
        let labels = reach.labels.iter().map(|(name, value)| format!(" {name}={value}"));
        format!(", clients {}*{}", reach.prefix.as_deref().unwrap_or_default(), labels.collect::<String>())
    });
    let kind = match asked.kind {
        TokenKind::Client => "client",
        TokenKind::Operator => "operator",
        TokenKind::Enrolment => "enrolment",
    };
    format!("{kind} {} {}{reach}, until {expires_at}", asked.subject, scopes.join(","))
}

fn client(subject: &str) -> Result<ClientId, Problem> {
    subject.parse().map_err(|error: IdError| Problem::new(ErrorCode::InvalidClientId, error.to_string()))
}

/// Gives the moment that a new token says it was made at: now, or a little later where its client was revoked just now.
async fn not_revoked(pages: &Pages, client_id: &ClientId) -> Result<Timestamp, Problem> {
    let standing = pages.store.standing(client_id).await?;
    if standing.public_key.is_some() {
        let detail = format!(
            "client {client_id} has a key of its own and no tokens: `hoist token enroll {client_id}` gives it a new key, and `hoist clients revoke {client_id}` takes the key, so that it can have tokens again"
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
    if asked.kind != TokenKind::Operator && asked.clients.is_some() {
        return wrong(String::from("clients is for operators: an agent's token is for its client alone"));
    }
    if asked.kind == TokenKind::Operator {
        check_name(&asked.subject)?;
        if let Some(Err(error)) = asked.clients.as_ref().map(Reach::check) {
            return wrong(format!("clients is not right: {error}"));
        }
        if asked.scopes.is_empty() {
            return wrong(String::from("an operator's token needs scopes: some of read, download, admin"));
        }
    }
    Ok(())
}
