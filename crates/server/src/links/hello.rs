//! The first message of a link, and what is kept of it.

use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::StreamExt as _;
use hoist_wire::Instance;
use hoist_wire::limits::{MAX_FACT_BYTES, MAX_FACTS, MAX_MESSAGE_BYTES, MAX_SLOTS};
use hoist_wire::to_server::{Hello, ToServer};
use tokio::time::timeout;

use super::Socket;
use super::link::LinkEnd;
use super::pass::Pass;
use crate::store::Introduction;
use crate::tokens::at;

/// How long an agent may take to say `hello`.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Waits for `hello`.
pub(super) async fn first_message(socket: &mut impl Socket) -> Result<Hello, LinkEnd> {
    let first = timeout(HELLO_WITHIN, async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => {
                    return Err(LinkEnd::Violation(String::from("a binary frame")));
                }
                Some(Ok(Message::Close(_))) | None => return Err(LinkEnd::Closed),
                Some(Err(error)) => return Err(LinkEnd::Broken(error)),
            }
        }
    });
    let text = first.await.map_err(|_| LinkEnd::Silent)??;
    match ToServer::decode(&text) {
        Ok(ToServer::Hello(hello)) if hello.busy.len() <= MAX_SLOTS.into() => Ok(hello),
        Ok(_) => Err(LinkEnd::Violation(String::from("the first message is not a hello"))),
        Err(error) => Err(LinkEnd::Violation(printable(&error.to_string()))),
    }
}

/// Makes one line of what an agent said, for the log: a line end in it would forge another entry.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_BYTES / 4).collect()
}

/// Takes what an agent says of itself, cut to what is kept.
pub(super) fn introduce(hello: &Hello, pass: &Pass, instance: Option<Instance>) -> Introduction {
    let cut =
        |text: &str| text.chars().filter(|c| !c.is_control()).take(MAX_FACT_BYTES / 4).collect::<String>();
    let (token_expires_at, token_kid) = match pass {
        Pass::Token { claims, kid, .. } => (Some(at(claims.exp)), Some(kid.clone())),
        Pass::Key { .. } => (None, None),
    };
    Introduction {
        agent_version: cut(&hello.agent_version),
        os: cut(&hello.os),
        host: cut(&hello.host),
        facts: hello.facts.iter().take(MAX_FACTS).map(|(name, value)| (cut(name), cut(value))).collect(),
        token_expires_at,
        token_kid,
        instance,
    }
}
