//! Sessions of browsers: a token opens one, a cookie stands for it, and it is ended here, at once.
//!
//! The store keeps only the cookie's SHA-256: whoever steals the database can open nothing with it.
//! Deliberately absent: passwords. Who logs in shows a token, once.

use std::time::Duration;

use axum::Json;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hoist_wire::operators::{Ended, Session, SessionList, WhoAmI};
use hoist_wire::{ErrorCode, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::admission::{Refusal, refuse};
use super::operator::{Operator, Proof};
use super::shown::{Place, cookie_sha256, cross_site, csrf};
use super::{Pages, Problem, State, doors};
use crate::audit::Detail;
use crate::clock::random_id;
use crate::store::SessionRow;

/// How long a session lives at most: a working day.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// How long a session lives unused.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);

/// How often at most a session's use is noted.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Most sessions of an operator: one more ends the oldest.
const MOST: u32 = 16;

fn secs(length: Duration) -> u64 {
    length.as_secs()
}

/// Recognises an operator by a session's cookie.
pub(super) async fn of_cookie(pages: &Pages, parts: &Parts, value: &str) -> Result<Operator, Box<Refusal>> {
    let over = || refuse(None, ErrorCode::Unauthorized, "the session is over: log in again");
    let sha256 = cookie_sha256(value);
    let session = pages.store.session(&sha256).await?.ok_or_else(over)?;
    let now = pages.world.now();
    if session.expires_at <= now || session.last_used_at.plus_secs(secs(IDLE)) <= now {
        return Err(over());
    }
    let csrf = csrf(value);
    if let Some(why) = cross_site(parts, &csrf) {
        let detail = format!("a session's cookie does not speak for this request: {why}");
        return Err(refuse(Some(&session.operator), ErrorCode::CrossSite, detail));
    }
    if session.last_used_at.plus_secs(secs(NOTED_EVERY)) <= now {
        pages.store.session_used(&sha256, now).await?;
    }
    let SessionRow { token_id, expires_at, .. } = session;
    let proof = Proof::Session { token_id, cookie_sha256: sha256, csrf, expires_at };
    Ok(Operator { name: session.operator, scopes: session.scopes, reach: session.reach, proof })
}

/// Opens a session for whoever shows a token.
pub(super) async fn open(pages: State, operator: Operator, parts: Parts) -> Result<Response, Problem> {
    let Proof::Token { id, made_secs, expires_at } = &operator.proof else {
        let detail = "a session is opened with `Authorization: Bearer TOKEN`, and in a trial there is none";
        return Err(Problem::new(ErrorCode::Forbidden, detail));
    };
    let now = pages.world.now();
    let expires_at = now.plus_secs(secs(LIFE)).min(*expires_at);
    // 256 random bits.
    let value = format!("{}{}", random_id(&*pages.world), random_id(&*pages.world));
    let session = SessionRow {
        cookie_sha256: cookie_sha256(&value),
        operator: operator.name.clone(),
        scopes: operator.scopes.clone(),
        reach: operator.reach.clone(),
        token_id: id.clone(),
        token_made_secs: *made_secs,
        created_at: now,
        last_used_at: now,
        expires_at,
    };
    pages.store.open_session(&session, MOST).await?;
    let who = WhoAmI {
        operator: operator.name,
        scopes: operator.scopes,
        clients: operator.reach,
        expires_at: Some(expires_at),
        csrf: Some(csrf(&value)),
    };
    let lives_secs = u64::try_from((expires_at.0 - now.0) / 1000).unwrap_or(0);
    let cookie = set_cookie(Place::of(&parts), &value, lives_secs)?;
    let detail = Detail(format!("token {id}"));
    let headers =
        [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let mut response = (StatusCode::CREATED, headers, Json(who)).into_response();
    response.extensions_mut().insert(detail);
    Ok(response)
}

fn set_cookie(place: Place, value: &str, lives_secs: u64) -> Result<HeaderValue, Problem> {
    let defect =
        || Problem::new(ErrorCode::Internal, "the cookie cannot be written: that is a defect of hoist");
    place.cookie(value, lives_secs).ok_or_else(defect)
}

/// Says who asks.
pub(super) async fn show(operator: Operator) -> Response {
    let (expires_at, csrf): (Option<Timestamp>, _) = match operator.proof {
        Proof::Trial => (None, None),
        Proof::Token { expires_at, .. } => (Some(expires_at), None),
        Proof::Session { expires_at, csrf, .. } => (Some(expires_at), Some(csrf)),
    };
    let Operator { name, scopes, reach, .. } = operator;
    let who = WhoAmI { operator: name, scopes, clients: reach, expires_at, csrf };
    ([(header::CACHE_CONTROL, "no-store")], Json(who)).into_response()
}

/// Ends the session whose cookie speaks.
pub(super) async fn close(pages: State, operator: Operator, parts: Parts) -> Result<Response, Problem> {
    // Who comes without a session is logged out already.
    if let Proof::Session { cookie_sha256, .. } = &operator.proof {
        pages.store.end_session(cookie_sha256).await?;
    }
    let cookie = set_cookie(Place::of(&parts), "", 0)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Whose sessions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfOperator {
    /// The operator's name.
    operator: String,
}

/// Lists the sessions of an operator.
pub(super) async fn list(pages: State, uri: Uri) -> Result<Json<SessionList>, Problem> {
    let OfOperator { operator } = doors::query(&uri)?;
    let rows = pages.store.sessions_of(&operator).await?;
    let session = |row: SessionRow| Session {
        operator: row.operator,
        scopes: row.scopes,
        clients: row.reach,
        token_id: row.token_id,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
    };
    Ok(Json(SessionList { sessions: rows.into_iter().map(session).collect() }))
}

/// Ends all sessions of an operator; the tokens stay good.
pub(super) async fn end(pages: State, uri: Uri) -> Result<Response, Problem> {
    let OfOperator { operator } = doors::query(&uri)?;
    let sessions_ended = pages.store.end_sessions(&operator).await?;
    let detail = Detail(format!("operator {operator:?}: {sessions_ended} sessions"));
    let mut response = Json(Ended { operator, sessions_ended, tokens_not_before: None }).into_response();
    response.extensions_mut().insert(detail);
    Ok(response)
}
