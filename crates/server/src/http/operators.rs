//! The end of an operator's tokens: `POST /operators/{name}/revoke`.
//!
//! By name, not by token: whoever lost one seldom knows its id, and a name that was revoked gets new tokens at once.

use axum::Json;
use axum::response::{IntoResponse, Response};
use hoist_wire::ErrorCode;
use hoist_wire::operators::Ended;

use super::doors::InPath;
use super::{Problem, State, tokens};
use crate::audit::Detail;
use crate::tokens::{at, secs};

/// Refuses all tokens of an operator that were made until now, and ends the sessions.
pub(super) async fn revoke(pages: State, name: InPath) -> Result<Response, Problem> {
    let axum::extract::Path(operator) = name.map_err(|error| {
        let detail = format!("the path cannot be read: {}", error.body_text());
        Problem::new(ErrorCode::InvalidRequest, detail)
    })?;
    tokens::check_name(&operator)?;
    let now = secs(pages.world.now());
    // Whoever got a token since the last time, within the same second, got one that says a later one.
    let before = pages.store.operator_revoked(&operator).await?;
    let made_by = before.filter(|before| *before >= now).map_or(now, |before| before + 1);
    let sessions_ended = pages.store.revoke_operator(&operator, made_by).await?;
    tracing::info!(operator, sessions_ended, "an operator's tokens were revoked");
    let detail = Detail(format!("{sessions_ended} sessions"));
    let ended = Ended { operator, sessions_ended, tokens_not_before: Some(at(made_by)) };
    let mut response = Json(ended).into_response();
    response.extensions_mut().insert(detail);
    Ok(response)
}
