//! Asking the server beside the link: enrolling a key, and nonces for proofs. By the same way as the link, proxy and TLS.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use hoist_engine::backoff::Backoff;
use hoist_wire::identity::{EnrollReply, NonceReply};
use hoist_wire::rest::Problem;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::dial::{DialError, Dialer};
use crate::keyfile::{KeyError, KeyFile, OwnKey};
use crate::link::chance;
use crate::server_url::ServerUrl;

/// How long the server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Why there is no key to work with.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The server will not have it.
    #[error("the server does not enrol this machine ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// The agent was told to stop before.
    #[error("stopped before the key was enrolled")]
    Stopped,
}

/// Gives the key to work with; enrols one first where a new one-time token is there.
///
/// # Errors
/// [`EnrolError`] where trying again cannot help.
pub(crate) async fn own_key(
    dialer: &Dialer,
    server: &ServerUrl,
    mut file: KeyFile,
    token: Option<&SecretString>,
    stop: &CancellationToken,
) -> Result<OwnKey, EnrolError> {
    let dialled = server.authority();
    let known = file.identity(&dialled)?;
    let Some(token) = token.filter(|token| file.is_new(token)) else {
        return known.ok_or_else(|| file.not_enrolled().into());
    };
    let mut backoff = Backoff::for_links();
    loop {
        let offer = file.offer(token)?;
        let body = serde_json::to_string(&offer.request).unwrap_or_default();
        let asked = tokio::select! {
            () = stop.cancelled() => return Err(EnrolError::Stopped),
            asked = ask::<EnrollReply>(dialer, server, Method::POST, "enroll", body) => asked,
        };
        let failure = match asked {
            Ok(reply) => {
                info!(client_id = %reply.client_id, "the key is enrolled");
                file.enrolled(offer, reply, &dialled)?;
                return file.identity(&dialled)?.ok_or_else(|| file.not_enrolled().into());
            }
            Err(DialError::Answer { status: status @ (400 | 401), body, .. }) => {
                let detail = detail(&body);
                // A token that is no good any more must not stop a site that has a key.
                if let Some(known) = known {
                    error!(
                        status,
                        detail, "ENROLL_TOKEN enrols nothing: the agent goes on with the key that it has"
                    );
                    return Ok(known);
                }
                return Err(EnrolError::Refused { status, detail });
            }
            Err(failure) => failure,
        };
        let wait = backoff.next_delay(chance());
        warn!(error = %failure, wait_ms = wait.as_millis(), "the key is not enrolled yet");
        tokio::select! {
            () = stop.cancelled() => return Err(EnrolError::Stopped),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Gives what the server says in words.
fn detail(body: &str) -> String {
    let read = serde_json::from_str::<Problem>(body).map(|problem| problem.detail);
    read.unwrap_or_else(|_| body.chars().filter(|c| !c.is_control()).take(200).collect())
}

/// Asks for a nonce.
///
/// # Errors
/// [`DialError`].
pub(crate) async fn nonce(dialer: &Dialer, server: &ServerUrl) -> Result<String, DialError> {
    let reply: NonceReply = ask(dialer, server, Method::GET, "nonce", String::new()).await?;
    Ok(reply.nonce)
}

/// Asks the page `name`, which stands beside the link's.
async fn ask<T: DeserializeOwned>(
    dialer: &Dialer,
    server: &ServerUrl,
    method: Method,
    name: &str,
    body: String,
) -> Result<T, DialError> {
    match tokio::time::timeout(ANSWER_WITHIN, asked(dialer, server, method, name, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(DialError::TimeOut(server.host.clone())),
    }
}

async fn asked<T: DeserializeOwned>(
    dialer: &Dialer,
    server: &ServerUrl,
    method: Method,
    name: &str,
    body: String,
) -> Result<T, DialError> {
    let broken = |error: hyper::Error| DialError::Ask(error.to_string());
    let stream = dialer.server(server).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(beside(server, name))
        .header(HOST, server.uri.authority().map_or("", |authority| authority.as_str()))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| DialError::Ask(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let bytes = read(body).await?;
        if head.status != StatusCode::OK {
            return Err(DialError::answered(head.status, &head.headers, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            DialError::Ask(
                "the server's answer is not understood: is it a hoist server, as new as this agent?"
                    .to_owned(),
            )
        })
    };
    // The connection moves only while the answer is waited for.
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        answer = answer.as_mut() => answer,
        ended = connection.as_mut() => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, DialError> {
    let mut bytes = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|error| DialError::Ask(error.to_string()))?;
        let data: Bytes = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > MAX_ANSWER_BYTES {
            return Err(DialError::Ask("the server's answer is too long".to_owned()));
        }
        bytes.extend_from_slice(&data);
    }
}

/// Gives the path of a page beside the link's: where that is `/x/ws/connect`, `/x/ws/NAME`.
fn beside(server: &ServerUrl, name: &str) -> Uri {
    let path = server.uri.path();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    Uri::builder().path_and_query(format!("{folder}/{name}")).build().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_stand_beside_the_link() {
        for (url, path) in [
            ("ws://h", "/ws/enroll"),
            ("ws://h/ws/connect", "/ws/enroll"),
            ("wss://h/hoist/ws/connect", "/hoist/ws/enroll"),
            ("ws://h/link", "/enroll"),
        ] {
            assert_eq!(beside(&ServerUrl::parse(url).unwrap(), "enroll").path(), path, "{url}");
        }
    }
}
