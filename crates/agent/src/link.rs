//! The link to the server: dialled for ever, kept alive, and told apart from a dead one.
//!
//! Deliberately absent: what the messages mean (`agent`). One task reads and writes one socket; the owner of the
//! downloads hears of it by [`LinkEvent`]s and speaks through a bounded queue.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hoist_engine::backoff::{Backoff, LINK_PROVEN_AFTER};
use hoist_wire::limits::{LINK_SILENCE_SECS, MAX_FRAME_TO_SERVER, PING_INTERVAL_SECS};
use hoist_wire::to_agent::Renew;
use hoist_wire::to_server::Unsupported;
use hoist_wire::{ClientId, DecodeError, Instance, ToAgent, ToServer};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, error, info, warn};

use crate::config::{Config, ConfigError, TokenSource, client_of};
use crate::dial::{DialError, is_closed, refuses_credentials};
use crate::keyfile::OwnKey;
use crate::platform;
use crate::server_url::ServerUrl;

/// Messages that wait for the socket before the owner is told to wait.
const QUEUE: usize = 32;

/// Longest farewell.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long an agent stays away after it was told that another machine holds its link.
const TAKEN_WAIT: Duration = Duration::from_secs(60);

/// How long an agent stays away that was linked, and is refused now.
const REFUSED_WAIT: Duration = Duration::from_secs(15 * 60);

/// How much of what a server says in words is logged, in characters.
const MAX_SAID_CHARS: usize = 512;

/// Longest wait that a server can ask for, by `goodbye` or by `Retry-After`.
const MAX_GOODBYE_WAIT: Duration = Duration::from_secs(15 * 60);

/// What the owner of the downloads hears.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A new link; the first message on it must be `hello`.
    Up(mpsc::Sender<ToServer>),
    /// The server said something.
    Said(ToAgent),
    /// The link is gone; another one is on its way.
    Down,
}

/// Why there will be no other link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server does not accept the token.
    #[error(
        "the server refuses what client {client_id} shows (401): its token or key ended or was revoked; \
         make a new one with `hoist token client {client_id}` (CLIENT_TOKEN), or `hoist token enroll {client_id}` (ENROLL_TOKEN)"
    )]
    Refused {
        /// Whose token.
        client_id: String,
    },
    /// The token can no longer be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// How a link ended.
#[derive(Debug)]
enum End {
    Lost(String),
    Goodbye(Duration),
    Stopped,
}

/// The way to the server: the network, or a simulation of it.
pub(crate) trait Caller: Send + Sync + 'static {
    /// A link, frame by frame.
    type Socket: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin + Send;

    /// Asks the server for a nonce, for a proof.
    fn nonce(&self, server: &ServerUrl) -> impl Future<Output = Result<String, DialError>> + Send {
        let host = server.host.clone();
        async move { Err(DialError::NoAddress(host)) }
    }

    /// Connects to the server and upgrades to a link.
    fn call(
        &self,
        server: &ServerUrl,
        token: &SecretString,
        instance: &Instance,
    ) -> impl Future<Output = Result<Self::Socket, DialError>> + Send;

    /// Gives a number evenly spread over 0.0..1.0.
    fn chance(&self) -> f64 {
        chance()
    }
}

/// Keeps one link up for ever.
#[derive(Debug)]
pub(crate) struct Links<C> {
    config: Config,
    client_id: ClientId,
    /// The agent's own key, where it has one.
    key: Option<OwnKey>,
    /// How far the server's clock is ahead of this machine's, in milliseconds, as the server last said.
    ahead_ms: i64,
    /// The clock was corrected, and no link has lived since.
    corrected: bool,
    /// There was a link once.
    was_linked: bool,
    caller: C,
    instance: Instance,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
    backoff: Backoff,
    /// A token that came over the link, where no file keeps it.
    renewed: Option<SecretString>,
}

impl<C: Caller> Links<C> {
    pub(crate) fn new(
        config: Config,
        client_id: ClientId,
        key: Option<OwnKey>,
        caller: C,
        instance: Instance,
        events: mpsc::Sender<LinkEvent>,
        stop: CancellationToken,
    ) -> Self {
        let backoff = Backoff::for_links();
        Self {
            config,
            client_id,
            key,
            ahead_ms: 0,
            corrected: false,
            was_linked: false,
            caller,
            instance,
            events,
            stop,
            backoff,
            renewed: None,
        }
    }

    /// Dials, serves and dials again until told to stop.
    ///
    /// # Errors
    /// [`LinkError`] where dialling again cannot help.
    pub(crate) async fn run(mut self) -> Result<(), LinkError> {
        while !self.stop.is_cancelled() {
            let wait = self.once().await?;
            let stop = self.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// One link, from dial to end; gives the wait before the next.
    async fn once(&mut self) -> Result<Duration, LinkError> {
        let token = match self.token().await {
            Ok(token) => token,
            Err(Some(failure)) => return self.not_linked(&failure),
            Err(None) => return Ok(self.next_delay()),
        };
        let stop = self.stop.clone();
        let dialled = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Duration::ZERO),
            dialled = self.caller.call(&self.config.server, &token, &self.instance) => dialled,
        };
        let socket = match dialled {
            Ok(socket) => socket,
            Err(failure) => return self.not_linked(&failure),
        };
        (self.was_linked, self.corrected) = (true, false);
        let born = Instant::now();
        let span = tracing::info_span!("link", client_id = %self.client_id, link = tracing::field::Empty);
        let end = self.serve(socket).instrument(span).await;
        let _ = self.events.send(LinkEvent::Down).await;
        if born.elapsed() >= LINK_PROVEN_AFTER {
            self.backoff.reset();
        }
        Ok(match end {
            End::Stopped => Duration::ZERO,
            End::Goodbye(asked) => {
                let wait = asked.min(MAX_GOODBYE_WAIT);
                info!(wait_ms = wait.as_millis(), "the server ended the link");
                // What was asked is spread, or every agent would come back at the same moment.
                wait + self.next_delay()
            }
            End::Lost(why) => {
                let wait = self.next_delay();
                warn!(why, wait_ms = wait.as_millis(), "the link is lost");
                wait
            }
        })
    }

    /// Gives what to show for the next link: the token, or a proof by the agent's own key.
    async fn token(&mut self) -> Result<SecretString, Option<DialError>> {
        if let Some(key) = &self.key {
            let stop = self.stop.clone();
            let nonce = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(None),
                nonce = self.caller.nonce(&self.config.server) => nonce.map_err(Some)?,
            };
            let now = u64::try_from((own_time_ms() + self.ahead_ms) / 1000).unwrap_or(0);
            let id = format!("{:08x}", getrandom::u32().unwrap_or_default());
            return Ok(key.prove(&nonce, now, &id));
        }
        match &self.renewed {
            Some(token) => Ok(token.clone()),
            None => self.config.token.read().map_err(|failure| {
                error!(error = %failure, "no link without the token");
                None
            }),
        }
    }

    fn not_linked(&mut self, failure: &DialError) -> Result<Duration, LinkError> {
        if let Some(server_time) = failure.skewed().filter(|_| !self.corrected) {
            self.ahead_ms = server_time.0 - own_time_ms();
            self.corrected = true;
            warn!(ahead_ms = self.ahead_ms, %server_time, "this machine's clock is wrong: proofs are made by the server's from now on");
            return Ok(Duration::ZERO);
        }
        if refuses_credentials(failure) {
            let client_id = self.client_id.to_string();
            if !self.was_linked {
                return Err(LinkError::Refused { client_id });
            }
            // It was good a moment ago: perhaps somebody puts that right again.
            error!(error = %LinkError::Refused { client_id }, wait_ms = REFUSED_WAIT.as_millis(), "no link to the server");
            return Ok(REFUSED_WAIT);
        }
        let (status, asked) = match failure {
            DialError::Answer { status, retry_after, .. } => (*status, *retry_after),
            DialError::Forbidden(_)
            | DialError::Ask(_)
            | DialError::Resolve { .. }
            | DialError::NoAddress(_)
            | DialError::Tcp { .. }
            | DialError::Proxy(_)
            | DialError::Tls { .. }
            | DialError::TimeOut(_)
            | DialError::Upgrade(_) => (0, None),
        };
        let wait = match (status, asked) {
            (409, _) => TAKEN_WAIT + self.next_delay() / 4,
            // Rights do not come back within seconds.
            (403, _) => TAKEN_WAIT,
            // Spread, as after a goodbye, and never shorter than what was asked for.
            (429 | 503, Some(asked)) => asked.min(MAX_GOODBYE_WAIT) + self.next_delay(),
            _ => self.next_delay(),
        };
        let server = &self.config.server.host;
        warn!(server, error = %failure, wait_ms = wait.as_millis(), "no link to the server");
        Ok(wait)
    }

    fn next_delay(&mut self) -> Duration {
        self.backoff.next_delay(self.caller.chance())
    }

    async fn serve(&mut self, socket: C::Socket) -> End {
        let (sink, stream) = socket.split();
        let (queue, queued) = mpsc::channel(QUEUE);
        let ping_secs = AtomicU32::new(PING_INTERVAL_SECS);
        if self.events.send(LinkEvent::Up(queue.clone())).await.is_err() {
            return End::Stopped;
        }
        let stop = self.stop.clone();
        let mut reader = Reader { links: self, stream, queue, ping_secs: &ping_secs };
        tokio::select! {
            // What waits to be written is bounded; what is read is not.
            biased;
            end = write(sink, queued, &ping_secs, stop) => end,
            end = reader.run() => end,
        }
    }

    async fn renew(&mut self, renew: &Renew) {
        let token = SecretString::from(renew.token.open());
        match client_of(&token) {
            Ok(client) if client == self.client_id && self.key.is_none() => {}
            Ok(_) | Err(_) => return warn!("a renewed token is not for this client, and is dropped"),
        }
        let expires_at = renew.expires_at;
        let TokenSource::File(path) = &self.config.token else {
            self.renewed = Some(token);
            return info!(%expires_at, "the token is renewed until this process ends: CLIENT_TOKEN_FILE would keep it");
        };
        let (path, secret) = (path.clone(), renew.token.clone());
        let written =
            tokio::task::spawn_blocking(move || platform::write_private(&path, secret.open())).await;
        match written.map_err(std::io::Error::other).and_then(|written| written) {
            Ok(()) => {
                self.renewed = None;
                info!(%expires_at, "the token is renewed");
            }
            Err(failure) => {
                self.renewed = Some(token);
                error!(error = %failure, "CLIENT_TOKEN_FILE cannot be written: the renewed token is lost at the next start");
            }
        }
    }
}

/// The reading half of one link.
struct Reader<'a, C: Caller> {
    links: &'a mut Links<C>,
    stream: SplitStream<C::Socket>,
    queue: mpsc::Sender<ToServer>,
    ping_secs: &'a AtomicU32,
}

impl<C: Caller> Reader<'_, C> {
    async fn run(&mut self) -> End {
        let silence = Duration::from_secs(LINK_SILENCE_SECS.into());
        loop {
            // Any frame is a sign of life, pings and their answers too.
            let frame = match tokio::time::timeout(silence, self.stream.next()).await {
                Err(_) => return End::Lost(format!("nothing was heard for {LINK_SILENCE_SECS} s")),
                Ok(None) => return End::Lost("the server closed it".to_owned()),
                Ok(Some(Err(failure))) if is_closed(&failure) => {
                    return End::Lost("the server closed it".to_owned());
                }
                Ok(Some(Err(failure))) => return End::Lost(failure.to_string()),
                Ok(Some(Ok(frame))) => frame,
            };
            let text = match frame {
                Message::Text(text) => text,
                Message::Close(frame) => {
                    let why = frame.map_or_else(String::new, |frame| {
                        format!(" ({}: {:?})", frame.code, frame.reason.as_str())
                    });
                    return End::Lost(format!("the server closed it{why}"));
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if let Some(end) = self.read(&text).await {
                return end;
            }
        }
    }

    async fn read(&mut self, text: &str) -> Option<End> {
        match ToAgent::decode(text) {
            Ok(ToAgent::Welcome(welcome)) => {
                Span::current().record("link", welcome.link.0);
                self.ping_secs.store(welcome.ping_interval_secs, Ordering::Relaxed);
                info!(server_time = %welcome.server_time, "linked");
            }
            Ok(ToAgent::Renew(renew)) => self.links.renew(&renew).await,
            Ok(ToAgent::Goodbye(goodbye)) => {
                // Quoted, as all that a server says: a line end in it would forge another line of the log.
                let says: String = goodbye.message.chars().take(MAX_SAID_CHARS).collect();
                info!(reason = ?goodbye.reason, ?says, "goodbye");
                return Some(End::Goodbye(Duration::from_millis(goodbye.reconnect_after_ms)));
            }
            Ok(ToAgent::Unsupported(it)) => warn!(kind = ?it.kind, "the server did not understand a message"),
            Ok(said) => {
                if self.links.events.send(LinkEvent::Said(said)).await.is_err() {
                    return Some(End::Stopped);
                }
            }
            Err(failure) => {
                warn!(error = ?failure.to_string(), "a message of the server is not understood");
                let kind = match failure {
                    DecodeError::Unknown { kind } => kind,
                    DecodeError::TooLong { .. } | DecodeError::Malformed(_) => "malformed".to_owned(),
                };
                // Where the queue is full it is only not said: the link is what matters.
                let _ = self.queue.try_send(ToServer::Unsupported(Unsupported { kind }));
            }
        }
        None
    }
}

/// The writing half of one link. Heartbeats leave first.
async fn write<S: Sink<Message, Error = WsError> + Unpin>(
    mut sink: SplitSink<S, Message>,
    mut queued: mpsc::Receiver<ToServer>,
    ping_secs: &AtomicU32,
    stop: CancellationToken,
) -> End {
    let mut last_ping = Instant::now();
    loop {
        // Never so rarely that silence would be mistaken for death.
        let every = ping_secs.load(Ordering::Relaxed).clamp(1, LINK_SILENCE_SECS / 2);
        let frame = tokio::select! {
            biased;
            () = stop.cancelled() => {
                let farewell = CloseFrame { code: CloseCode::Away, reason: "the agent stops".into() };
                let close = sink.send(Message::Close(Some(farewell)));
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
                return End::Stopped;
            }
            () = tokio::time::sleep_until(last_ping + Duration::from_secs(every.into())) => {
                last_ping = Instant::now();
                Message::Ping(bytes::Bytes::new())
            }
            message = queued.recv() => match message {
                None => return End::Stopped,
                Some(message) => match encode(&message) {
                    Some(text) => Message::text(text),
                    None => continue,
                },
            },
        };
        let sent = tokio::select! {
            biased;
            sent = sink.send(frame) => sent,
            () = stop.cancelled() => return End::Stopped,
        };
        if let Err(failure) = sent {
            return End::Lost(failure.to_string());
        }
    }
}

/// Gives this machine's time in milliseconds since 1970. It may be wrong by years.
fn own_time_ms() -> i64 {
    let now = std::time::SystemTime::now();
    match now.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX / 2),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX / 2),
    }
}

/// Writes a message as the wire wants it; none for one that no server would take.
fn encode(message: &ToServer) -> Option<String> {
    match serde_json::to_string(message) {
        Ok(text) if text.len() <= MAX_FRAME_TO_SERVER => Some(text),
        Ok(text) => {
            error!(bytes = text.len(), about = ?message.about(), "a message is too long for the link, and is dropped");
            None
        }
        Err(failure) => {
            debug!(error = %failure, "a message cannot be written");
            None
        }
    }
}

/// Gives a number evenly spread over 0.0..1.0.
pub(crate) fn chance() -> f64 {
    // Without chance all agents would come at the same moment; one half is as good as any fixed number.
    getrandom::u32().map_or(0.5, |random| f64::from(random) / (f64::from(u32::MAX) + 1.0))
}
