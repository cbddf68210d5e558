//! The door for agents: `GET /ws/connect`. Who it is comes from the token alone.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use hoist_wire::limits::{MAX_FRAME_TO_AGENT, MAX_FRAME_TO_SERVER};
use hoist_wire::{ErrorCode, INSTANCE_HEADER, Instance, PROTOCOL};

use super::{Problem, State, doors};
use crate::links::Link;

/// Bytes read at once from a link: frames are short, and there are many links.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Bytes gathered before they are written to a link.
const WRITE_BUFFER_BYTES: usize = 1024;

/// Most bytes that a link may hold unsent: one largest frame, and the room to queue it.
const MAX_WRITE_BUFFER_BYTES: usize = 2 * MAX_FRAME_TO_AGENT;

/// Accepts a link.
pub(super) async fn connect(
    pages: State,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let wrong = |detail: String| Problem::new(ErrorCode::InvalidRequest, detail);
    let refuse = |detail: String| Problem::new(ErrorCode::Unauthorized, detail);
    let token = doors::bearer(&headers).ok_or_else(|| {
        refuse(String::from("no token: an agent sends `Authorization: Bearer CLIENT_TOKEN`"))
    })?;
    let (client_id, claims) = pages.tokens.agent(token).map_err(|error| {
        tracing::info!(%error, "an agent's token was refused");
        refuse(error.to_string())
    })?;
    if let Some(instance) = headers.get(INSTANCE_HEADER) {
        let text = instance.to_str().unwrap_or_default();
        text.parse::<Instance>().map_err(|error| wrong(error.to_string()))?;
    }
    let upgrade =
        upgrade.map_err(|error| wrong(format!("this page is for WebSockets: {}", error.body_text())))?;
    if !pages.readiness.accepts_links() {
        return Err(Problem::new(ErrorCode::NotReady, "the server is stopping: connect again"));
    }
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_frame_size(MAX_FRAME_TO_SERVER)
        .max_message_size(MAX_FRAME_TO_SERVER);
    if upgrade.selected_protocol().is_none() {
        return Err(wrong(format!(
            "the agent offers none of this server's protocols, which are: {PROTOCOL}"
        )));
    }
    let context = Arc::clone(&pages.link);
    Ok(upgrade.on_upgrade(move |socket| Link::serve(socket, client_id, claims, context)))
}
