//! The door for agents: `GET /ws/connect`. Who it is comes from what it shows alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use hoist_wire::limits::{MAX_FRAME_TO_AGENT, MAX_FRAME_TO_SERVER};
use hoist_wire::{ClientId, ErrorCode, INSTANCE_HEADER, IdError, Instance, PROTOCOL};

use super::admission::Recognised;
use super::credentials::recognise;
use super::shown::bearer;
use super::{Peer, Problem, State};
use crate::links::{Link, Pass, Refusal};
use crate::serve::Place;

/// When an agent may come again whose address has all the links that it may have.
const ADDRESS_FULL: Duration = Duration::from_secs(60);

/// Bytes read at once from a link: frames are short, and there are many links.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Bytes gathered before they are written to a link.
const WRITE_BUFFER_BYTES: usize = 1024;

/// Most bytes that a link may hold unsent: one largest frame, and the room to queue it.
const MAX_WRITE_BUFFER_BYTES: usize = 2 * MAX_FRAME_TO_AGENT;

/// Accepts a link.
pub(super) async fn connect(
    pages: State,
    place: Option<Extension<Arc<Place>>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let none = "no token: an agent sends `Authorization: Bearer CLIENT_TOKEN`, or a proof by its own key";
    let token = bearer(&headers).ok_or_else(|| Problem::new(ErrorCode::Unauthorized, none))?;
    let (client_id, pass) = recognise(&pages, token).await?;
    if let Some(Extension(place)) = &place {
        place.recognised(("agent", client_id.as_str()));
    }
    let answer = open(&pages, &client_id, pass, &headers, upgrade, place.zip(peer)).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(Recognised(client_id.to_string()));
    Ok(response)
}

/// Opens the link of an agent that is recognised.
async fn open(
    pages: &State,
    client_id: &ClientId,
    pass: Pass,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    place: Option<(Extension<Arc<Place>>, Extension<Peer>)>,
) -> Result<Response, Problem> {
    let wrong = |detail: String| Problem::new(ErrorCode::InvalidRequest, detail);
    let instance = headers.get(INSTANCE_HEADER).map(|text| text.to_str().unwrap_or_default().parse());
    let instance: Option<Instance> =
        instance.transpose().map_err(|error: IdError| wrong(error.to_string()))?;
    let upgrade =
        upgrade.map_err(|error| wrong(format!("this page is for WebSockets: {}", error.body_text())))?;
    still_open(pages)?;
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
    let place = place.map(|(Extension(place), Extension(Peer(peer)))| {
        let linked = place.link(peer).ok_or_else(|| too_many(peer))?;
        Ok::<_, Problem>((place, linked))
    });
    let place = place.transpose()?;
    pages.link.knock(client_id, instance.as_ref()).await.map_err(|refusal| refused(client_id, refusal))?;
    // Who had to wait may have waited too long.
    still_open(pages)?;
    let (client_id, context) = (client_id.clone(), Arc::clone(&pages.link));
    Ok(upgrade.on_upgrade(move |socket| async move {
        Link::serve(socket, client_id, pass, instance, context).await;
        // As long as the link lives, its connection is counted.
        drop(place);
    }))
}

fn too_many(peer: IpAddr) -> Problem {
    let detail = format!(
        "the address {peer} has as many links as MAX_LINKS_PER_ADDRESS allows: raise it, or name the proxy in TRUSTED_PROXIES"
    );
    Problem::new(ErrorCode::TooManyAttempts, detail).retry_after(ADDRESS_FULL)
}

fn still_open(pages: &State) -> Result<(), Problem> {
    if pages.readiness.accepts_links() {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::NotReady, "the server is stopping: connect again"))
}

fn refused(client_id: &ClientId, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::TooOften { wait } => {
            tracing::debug!(%client_id, wait_ms = wait.as_millis(), "a client opens links too often");
            let detail = format!("client {client_id} opens links too often: it may again after a while");
            Problem::new(ErrorCode::ConnectsTooOften, detail).retry_after(wait)
        }
        Refusal::Taken => {
            let detail = format!(
                "another agent has the link of client {client_id}, and it answers: give this machine a token of its own, \
                 or stop the other one (`hoist status {client_id}` names both)"
            );
            Problem::new(ErrorCode::LinkTaken, detail)
        }
        Refusal::Crowded => {
            Problem::new(ErrorCode::NotReady, "too many agents wait at the door: connect again")
        }
    }
}
