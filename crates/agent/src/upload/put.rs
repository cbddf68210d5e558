//! One PUT of one part: connect, send, wait for storage's word.
//!
//! Deliberately absent: trying again and what an answer means (`hoist_engine::retry`). There is no total time-out: a
//! thin link is slow, not broken. Dropping the future closes the connection at once.

use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hoist_wire::Crc64;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::dial::{DialError, Dialer, Stream};
use crate::upload::address::{Checked, Endpoint};
use crate::upload::pace::Pace;
use crate::upload::reader::{PartBody, ReadError, Source};

/// Longest time in which the network takes no byte.
const SILENCE: Duration = Duration::from_secs(30);

/// Longest time between the last byte and the answer.
const ANSWER: Duration = Duration::from_secs(60);

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Longest time that a connection is kept for the next part; storage closes idle ones after about 20 s.
const KEEP: Duration = Duration::from_secs(10);

/// Most that is read of an answer's body, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// What is sent, and where.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) source: Arc<Source>,
    pub(crate) range: Range<u64>,
    pub(crate) crc: Crc64,
    pub(crate) to: Checked,
    /// Never on a connection that was used before: the last try failed.
    pub(crate) fresh: bool,
    pub(crate) pace: Arc<Pace>,
    pub(crate) counters: Counters,
}

/// What the network took, for progress and for the number of parts in flight.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Of this part, in this try.
    pub(crate) part: Arc<AtomicU64>,
    /// Of the whole attempt, every try counted.
    pub(crate) moved: Arc<AtomicU64>,
}

/// Why storage did not confirm a part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection to storage broke: {0}")]
    Broken(String),
    #[error("storage took no byte for {} s", SILENCE.as_secs())]
    Silent,
    #[error("storage gave no answer within {} s", ANSWER.as_secs())]
    NoAnswer,
    #[error("storage answered {status} {code}")]
    Answer { status: u16, code: String, retry_after: Option<Duration> },
    #[error("storage confirmed the part without an ETag")]
    NoEtag,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Connections that wait for the next part.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Vec<Conn>>);

/// One connection; it only moves while a PUT polls it, so no task stands behind it.
#[derive(Debug)]
struct Conn {
    endpoint: Endpoint,
    sender: SendRequest<PartBody>,
    driver: Pin<Box<Connection<TokioIo<Stream>, PartBody>>>,
    taken: Arc<AtomicU64>,
    since: Instant,
    used: bool,
}

impl Idle {
    fn take(&self, endpoint: &Endpoint) -> Option<Conn> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|conn| {
            // A connection that ends now was closed by storage in the meantime.
            conn.since.elapsed() < KEEP && conn.driver.as_mut().now_or_never().is_none()
        });
        let at = idle.iter().position(|conn| conn.endpoint == *endpoint)?;
        Some(idle.swap_remove(at))
    }

    fn keep(&self, mut conn: Conn) {
        conn.since = Instant::now();
        conn.used = true;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }
}

impl Put {
    /// Sends the part and gives its ETag, without quotes.
    ///
    /// # Errors
    /// [`PutError`]; the part may be stored all the same, so it can only be sent again.
    pub(crate) async fn run(mut self, dialer: &Dialer, idle: &Idle) -> Result<String, PutError> {
        loop {
            let kept = if self.fresh { None } else { idle.take(&self.to.endpoint) };
            let conn = match kept {
                Some(conn) => conn,
                None => self.connect(dialer).await?,
            };
            let used = conn.used;
            match self.send(conn, idle).await {
                // Storage closed it just then: that says nothing about the way there.
                Err(PutError::Broken(why)) if used => {
                    tracing::debug!(why, "a connection that was kept is gone");
                    self.fresh = true;
                }
                result => return result,
            }
        }
    }

    async fn connect(&self, dialer: &Dialer) -> Result<Conn, PutError> {
        let endpoint = self.to.endpoint.clone();
        let (stream, taken) = dialer.storage(&endpoint).await?;
        // One chunk at a time is given to the socket, as it is and without a copy.
        let shake =
            http1::Builder::new().writev(true).max_buf_size(MAX_ANSWER_BYTES).handshake(TokioIo::new(stream));
        let (sender, driver) = shake.await.map_err(|error| PutError::Broken(error.to_string()))?;
        Ok(Conn { endpoint, sender, driver: Box::pin(driver), taken, since: Instant::now(), used: false })
    }

    async fn send(&self, mut conn: Conn, idle: &Idle) -> Result<String, PutError> {
        let (source, pace) = (Arc::clone(&self.source), Arc::clone(&self.pace));
        let (body, end) = PartBody::new(source, self.range.clone(), self.crc, pace);
        let mut request = Request::new(body);
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = self.to.target.clone();
        *request.headers_mut() = self.to.headers.clone();

        let mut watch = Watch::new(self, &conn.taken);
        let sender = &mut conn.sender;
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            read_answer(response).await
        };
        let exchanged = watch.until(exchange, &mut conn.driver).await;
        // What went wrong while reading explains the rest.
        if let Some(error) = end.error() {
            return Err(error.into());
        }
        let answer = exchanged?;
        if !(200..300).contains(&answer.status) {
            return Err(PutError::Answer {
                status: answer.status,
                code: answer.code,
                retry_after: answer.retry_after,
            });
        }
        if !end.is_whole() {
            return Err(PutError::Broken("storage answered before it had the part".to_owned()));
        }
        watch.finish();
        if answer.is_drained {
            idle.keep(conn);
        }
        answer.etag.ok_or(PutError::NoEtag)
    }
}

/// What storage said.
struct Answer {
    status: u16,
    code: String,
    etag: Option<String>,
    retry_after: Option<Duration>,
    is_drained: bool,
}

async fn read_answer(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let text = |name: http::HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let etag =
        text(http::header::ETAG).map(|tag| tag.trim_matches('"').to_owned()).filter(|tag| !tag.is_empty());
    let retry_after =
        text(http::header::RETRY_AFTER).and_then(|secs| secs.trim().parse().ok()).map(Duration::from_secs);
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut seen = Vec::new();
    let mut is_drained = true;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data: Bytes = frame?.into_data().unwrap_or_default();
        if seen.len() + data.len() > MAX_ANSWER_BYTES {
            is_drained = false;
            break;
        }
        seen.extend_from_slice(&data);
    }
    Ok(Answer { status, code: error_code(&seen), etag, retry_after, is_drained })
}

/// Finds the `Code` in the XML of an error; empty where there is none.
fn error_code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    code.filter(plain).unwrap_or_default().to_owned()
}

/// Watches one exchange for silence, and keeps the counters.
struct Watch<'a> {
    put: &'a Put,
    taken: Arc<AtomicU64>,
    before: u64,
    seen: u64,
    quiet_since: Instant,
}

impl<'a> Watch<'a> {
    fn new(put: &'a Put, taken: &Arc<AtomicU64>) -> Self {
        put.counters.part.store(0, Ordering::Relaxed);
        let before = taken.load(Ordering::Relaxed);
        Self { put, taken: Arc::clone(taken), before, seen: 0, quiet_since: Instant::now() }
    }

    fn len(&self) -> u64 {
        self.put.range.end - self.put.range.start
    }

    /// Polls the connection until `exchange` is over.
    async fn until<T>(
        &mut self,
        exchange: impl Future<Output = Result<T, hyper::Error>>,
        driver: &mut Pin<Box<Connection<TokioIo<Stream>, PartBody>>>,
    ) -> Result<T, PutError> {
        let mut exchange = pin!(exchange);
        let mut looks = tokio::time::interval(LOOK);
        let mut broken = None;
        loop {
            tokio::select! {
                biased;
                done = &mut exchange => {
                    self.look();
                    return done.map_err(|error| PutError::Broken(broken.unwrap_or_else(|| describe(&error))));
                }
                ended = driver.as_mut(), if broken.is_none() => {
                    broken = Some(ended.err().map_or_else(|| "storage hung up".to_owned(), |error| describe(&error)));
                }
                _ = looks.tick() => self.judge()?,
            }
        }
    }

    fn judge(&mut self) -> Result<(), PutError> {
        if self.look() {
            self.quiet_since = Instant::now();
            return Ok(());
        }
        let quiet = self.quiet_since.elapsed();
        match self.seen >= self.len() {
            true if quiet >= ANSWER => Err(PutError::NoAnswer),
            false if quiet >= SILENCE => Err(PutError::Silent),
            true | false => Ok(()),
        }
    }

    /// Tells whether the network took something since the last look.
    fn look(&mut self) -> bool {
        let seen = self.taken.load(Ordering::Relaxed) - self.before;
        let fresh = seen - self.seen;
        self.seen = seen;
        self.put.counters.moved.fetch_add(fresh, Ordering::Relaxed);
        // The request's head and TLS come on top of the part: never more than the part is told.
        self.put.counters.part.store(seen.min(self.len()), Ordering::Relaxed);
        fresh > 0
    }

    fn finish(&mut self) {
        self.look();
        self.put.counters.part.store(self.len(), Ordering::Relaxed);
    }
}

/// Gives an error with its causes; hyper's own words leave them out.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_found_and_odd_bodies_give_none() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>x</Message></Error>";
        assert_eq!(error_code(xml), "SlowDown");
        for odd in [&b""[..], b"<html>", b"<Code>", b"<Code>a b</Code>", &[0xff; 10]] {
            assert_eq!(error_code(odd), "");
        }
        assert_eq!(error_code(format!("<Code>{}</Code>", "x".repeat(65)).as_bytes()), "");
    }

    /// Puts `len` bytes to a listener that takes connections and never reads or speaks.
    async fn put_into_the_void(len: u64) -> (PutError, Duration, u64) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        let source = Source::new(file);
        let stop = tokio_util::sync::CancellationToken::new();
        let crc = source.hash(0..len, false, &stop, &AtomicU64::new(0)).unwrap().crc64nvme;
        let endpoint = Endpoint { tls: false, host: "127.0.0.1".to_owned(), port };
        let to = Checked { endpoint, target: "/x".parse().unwrap(), headers: http::HeaderMap::new() };
        let counters = Counters::default();
        let pace = Pace::free();
        let put = Put { source, range: 0..len, crc, to, fresh: true, pace, counters: counters.clone() };
        let addresses = crate::AddressPolicy { server_is_loopback: true, ..Default::default() };
        let dialer = Dialer {
            tls: crate::tls::client_config(None, None).unwrap(),
            link_tls: crate::tls::client_config(None, None).unwrap(),
            proxies: crate::Proxies::none(),
            addresses,
        };
        let start = Instant::now();
        let failure = put.run(&dialer, &Idle::default()).await.unwrap_err();
        (failure, start.elapsed(), counters.part.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_storage_that_takes_nothing_is_left_after_30_seconds() {
        let (failure, after, sent) = put_into_the_void(64 * 1024 * 1024).await;
        assert!(matches!(failure, PutError::Silent), "{failure}");
        assert!(after >= SILENCE && after < SILENCE + Duration::from_secs(5), "{after:?}");
        assert!(sent < 64 * 1024 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storage_that_says_nothing_is_left_a_minute_after_the_last_byte() {
        let (failure, after, sent) = put_into_the_void(1000).await;
        assert!(matches!(failure, PutError::NoAnswer), "{failure}");
        assert!(after >= ANSWER && after < ANSWER + Duration::from_secs(5), "{after:?}");
        assert_eq!(sent, 1000);
    }
}
