//! One link: the task that reads and writes an agent's WebSocket. Reading never waits for writing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hoist_wire::limits::{LINK_SILENCE_SECS, PING_INTERVAL_SECS};
use hoist_wire::to_agent::{Goodbye, GoodbyeReason, Renew, ToAgent, Welcome};
use hoist_wire::to_server::{Hello, ToServer, Unsupported};
use hoist_wire::{ClientId, DecodeError, Instance, LinkSeq, Timestamp};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::allowance::Allowance;
use super::desk::{Desk, Forgotten};
use super::hello::{first_message, introduce, printable};
use super::mailbox::{Mailbox, Signal};
use super::pass::Pass;
use super::seat::Face;
use super::{LinkHandle, Links, revoked};
use crate::clock::World;
use crate::downloads::{Downloads, Letter};
use crate::store::{Store, StoreError};
use crate::tokens::{Tokens, at, secs};

/// How long a goodbye may take to leave.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// How soon the desk is looked at again after the store failed, or after a slot came back by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many messages of a link that are not understood are logged one by one.
const MOST_MISUNDERSTOOD: u64 = 3;

const PING_EVERY: Duration = Duration::from_secs(PING_INTERVAL_SECS as u64);
const SILENCE: Duration = Duration::from_secs(LINK_SILENCE_SECS as u64);

/// What a link needs of the server.
#[derive(Debug)]
pub struct LinkContext {
    /// The live links.
    pub links: Arc<Links>,
    /// The downloads.
    pub downloads: Arc<Downloads>,
    /// The record.
    pub store: Arc<dyn Store>,
    /// Makes fresh tokens.
    pub tokens: Arc<Tokens>,
    /// How long they live.
    pub token_ttl: Duration,
    /// Time.
    pub world: Arc<dyn World>,
}

/// Why a link ended; for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("the agent closed it")]
    Closed,
    #[error("nothing was heard for {LINK_SILENCE_SECS} s")]
    Silent,
    #[error("the connection broke")]
    Broken(#[source] axum::Error),
    #[error("the agent broke the protocol: {0}")]
    Violation(String),
    #[error("the server said goodbye: {0}")]
    Goodbye(String),
    #[error("the record cannot be written")]
    Store(#[source] StoreError),
}

enum LinkEvent {
    Frame(Message),
    Signal(Signal),
    Tick,
    End(LinkEnd),
}

/// Where frames come from and go to: an agent's WebSocket, or a simulated one.
pub trait Socket:
    Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin
{
}

impl<S> Socket for S where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin
{
}

/// A link that was accepted.
#[derive(Debug)]
pub struct Link<S> {
    socket: S,
    handle: Arc<LinkHandle>,
    desk: Desk,
    context: Arc<LinkContext>,
    /// What the agent showed; a token is the one that it has now.
    pass: Pass,
    /// A ping leaves before anything else.
    ping_due: bool,
    /// Somebody waits to hear that the agent is there.
    asked: bool,
    /// Something was written and must be flushed.
    dirty: bool,
    heard: Instant,
    /// What the agent may still say.
    allowance: Allowance,
    /// What it said that nobody understands, or did not understand itself.
    misunderstood: u64,
    ping_at: Instant,
    desk_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S: Socket> Link<S> {
    /// Serves one agent until its link ends. The client comes from what it showed alone.
    pub async fn serve(
        mut socket: S,
        client_id: ClientId,
        pass: Pass,
        instance: Option<Instance>,
        context: Arc<LinkContext>,
    ) {
        let hello = match first_message(&mut socket).await {
            Ok(hello) => hello,
            Err(end) => {
                tracing::info!(%client_id, reason = %end, "a link ended before its hello");
                if let LinkEnd::Violation(what) = &end
                    && let Ok(text) = serde_json::to_string(&ToAgent::Goodbye(violation(what)))
                {
                    let _ = timeout(GOODBYE_WITHIN, socket.send(Message::Text(text.into()))).await;
                }
                let _ = timeout(GOODBYE_WITHIN, socket.close()).await;
                return;
            }
        };
        let now = context.world.now();
        let face = Face::of(instance.as_ref());
        let introduction = introduce(&hello, &pass, instance);
        let seq = match context.store.open_link(&client_id, &introduction, now).await {
            Ok(seq) => seq,
            Err(error) => {
                tracing::error!(%client_id, error = %chain(&error), "a link cannot be recorded");
                let _ = timeout(GOODBYE_WITHIN, socket.close()).await;
                return;
            }
        };
        let (on_change, mailbox) = (hello.on_change, Mailbox::default());
        let handle = Arc::new(LinkHandle {
            client_id: client_id.clone(),
            seq,
            on_change,
            stamp: pass.stamp(),
            mailbox,
        });
        let desk = Desk::new(hello.slots, Arc::clone(&context.downloads), Arc::clone(&handle));
        let now = Instant::now();
        let entered = context.links.enter(&handle, face, now);
        let mut link = Self {
            socket,
            handle,
            desk,
            context,
            pass,
            ping_due: false,
            asked: false,
            dirty: false,
            heard: now,
            allowance: Allowance::new(now),
            misunderstood: 0,
            ping_at: now + PING_EVERY,
            desk_at: None,
            timer: Box::pin(sleep_until(now + PING_EVERY)),
        };
        tracing::info!(%client_id, link = %seq, version = printable(&hello.agent_version), host = printable(&hello.host), "link opened");
        let end = if entered {
            link.begin(&hello).await
        } else {
            LinkEnd::Goodbye(String::from("a newer link was there already"))
        };
        link.close(&end).await;
    }

    /// Begins the work, unless the client was revoked since it knocked: from here on whoever revokes finds this link.
    async fn begin(&mut self, hello: &Hello) -> LinkEnd {
        match self.context.store.standing(&self.handle.client_id).await {
            Ok(standing) if self.handle.stamp.holds(&standing) => {}
            Ok(_) => {
                let goodbye = revoked::farewell();
                let message = goodbye.message.clone();
                let _ = timeout(GOODBYE_WITHIN, self.farewell(goodbye)).await;
                return LinkEnd::Goodbye(message);
            }
            Err(error) => return LinkEnd::Store(error),
        }
        self.welcome();
        // Who still has a token of an old secret gets one of the new secret at once, so that the old one can be dropped.
        self.renew_token().await;
        self.run(hello).await
    }

    fn welcome(&self) {
        let server_time = self.context.world.now();
        let ping_interval_secs = PING_INTERVAL_SECS;
        self.handle.say(ToAgent::Welcome(Welcome { link: self.handle.seq, server_time, ping_interval_secs }));
    }

    async fn run(&mut self, hello: &Hello) -> LinkEnd {
        if let Err(error) = self.desk.take_up(&hello.busy).await {
            return LinkEnd::Store(error);
        }
        self.fill().await;
        loop {
            let event = self.next().await;
            if let Err(end) = self.apply(event).await {
                return end;
            }
        }
    }

    /// Waits for the next event, and writes what there is to write meanwhile.
    async fn next(&mut self) -> LinkEvent {
        let others = self.desk_at.into_iter().chain(self.allowance.waits_until(Instant::now()));
        let wake_at = others.fold(self.ping_at.min(self.heard + SILENCE), Instant::min);
        if self.timer.deadline() != wake_at {
            self.timer.as_mut().reset(wake_at);
        }
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        self.handle.mailbox.listen(cx);
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(LinkEvent::End(LinkEnd::Broken(error)));
        }
        if let Some(signal) = self.handle.mailbox.signal() {
            return Poll::Ready(LinkEvent::Signal(signal));
        }
        if self.allowance.waits_until(Instant::now()).is_some() {
            return self.timer.as_mut().poll(cx).map(|()| LinkEvent::Tick);
        }
        match self.socket.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(LinkEvent::Frame(frame)),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(LinkEvent::End(LinkEnd::Broken(error))),
            Poll::Ready(None) => return Poll::Ready(LinkEvent::End(LinkEnd::Closed)),
            Poll::Pending => {}
        }
        self.timer.as_mut().poll(cx).map(|()| LinkEvent::Tick)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        while self.socket.poll_ready_unpin(cx)?.is_ready() {
            if std::mem::take(&mut self.ping_due) {
                self.socket.start_send_unpin(Message::Ping(bytes::Bytes::new()))?;
                self.dirty = true;
                continue;
            }
            let Some(message) = self.handle.mailbox.message() else { break };
            if let ToAgent::Fetch(fetch) = &message {
                self.desk.fetched(fetch.download_id, fetch.attempt);
            } else if let ToAgent::Forget(forget) = &message {
                self.desk.told_to_forget(forget.download_id, forget.attempt);
            }
            match serde_json::to_string(&message) {
                Ok(frame) => self.socket.start_send_unpin(Message::Text(frame.into()))?,
                Err(error) => tracing::error!(%error, "a message does not encode"),
            }
            self.dirty = true;
        }
        if self.dirty && self.socket.poll_flush_unpin(cx)?.is_ready() {
            self.dirty = false;
        }
        Poll::Pending
    }

    async fn apply(&mut self, event: LinkEvent) -> Result<(), LinkEnd> {
        match event {
            LinkEvent::Frame(frame) => {
                self.heard = Instant::now();
                self.allowance.count(self.heard);
                // An agent that says farewell is there no longer.
                if self.asked && !matches!(frame, Message::Close(_)) {
                    self.asked = false;
                    self.handle.mailbox.alive();
                }
                self.frame(frame).await
            }
            LinkEvent::Signal(Signal::Nudge) => {
                self.fill().await;
                Ok(())
            }
            LinkEvent::Signal(Signal::Ask) => {
                (self.asked, self.ping_due) = (true, true);
                Ok(())
            }
            LinkEvent::Signal(Signal::Freed(downloads)) => {
                for download in downloads {
                    self.desk.free(download);
                }
                self.fill_soon();
                Ok(())
            }
            LinkEvent::Signal(Signal::Close(goodbye)) => {
                let message = goodbye.message.clone();
                let _ = timeout(GOODBYE_WITHIN, self.farewell(goodbye)).await;
                Err(LinkEnd::Goodbye(message))
            }
            LinkEvent::Tick => self.tick().await,
            LinkEvent::End(end) => Err(end),
        }
    }

    async fn frame(&mut self, frame: Message) -> Result<(), LinkEnd> {
        match frame {
            Message::Text(text) => match ToServer::decode(&text) {
                Ok(message) => self.message(message).await,
                Err(DecodeError::Unknown { kind }) => {
                    self.misunderstand(&kind, "an unknown message");
                    self.handle.say(ToAgent::Unsupported(Unsupported { kind }));
                    Ok(())
                }
                Err(error) => Err(LinkEnd::Violation(printable(&error.to_string()))),
            },
            Message::Binary(_) => Err(LinkEnd::Violation(String::from("a binary frame"))),
            Message::Ping(_) => {
                // The answer is queued by the library and leaves with the next flush.
                self.dirty = true;
                Ok(())
            }
            Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(LinkEnd::Closed),
        }
    }

    /// Logs the first few of them; how many there were is said at the end, or an agent could fill the log.
    fn misunderstand(&mut self, kind: &str, what: &'static str) {
        self.misunderstood += 1;
        if self.misunderstood <= MOST_MISUNDERSTOOD {
            tracing::warn!(client_id = %self.handle.client_id, kind = printable(kind), "{what}");
        }
    }

    async fn message(&mut self, message: ToServer) -> Result<(), LinkEnd> {
        let Some(about) = message.about() else {
            if let ToServer::Unsupported(Unsupported { kind }) = message {
                self.misunderstand(&kind, "the agent does not know a message");
                return Ok(());
            }
            return Err(LinkEnd::Violation(String::from("a second hello")));
        };
        if let ToServer::Forgotten(_) = message {
            match self.desk.forgotten(about).await {
                Forgotten::Late => {}
                Forgotten::AsTold => self.fill().await,
                Forgotten::Unasked => self.fill_soon(),
            }
            return Ok(());
        }
        // A message about a download that is not out on this link is somebody else's, or late: it is dropped. What a
        // `refused` does to the slot is known to the driver: the next attempt may follow in it at once.
        if let Some(driver) = self.desk.driver(about.download_id) {
            driver.deliver(Letter::FromAgent { link: self.handle.seq, message }).await;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), LinkEnd> {
        let now = Instant::now();
        if now >= self.heard + SILENCE {
            return Err(LinkEnd::Silent);
        }
        if now >= self.ping_at {
            self.ping_at = now + PING_EVERY;
            self.renew_token().await;
            self.ping_due = true;
        }
        if self.desk_at.is_some_and(|at| now >= at) {
            self.fill().await;
        }
        Ok(())
    }

    /// Starts what is due, not at once: what cannot be started would come back in a circle.
    fn fill_soon(&mut self) {
        let soon = Instant::now() + LOOK_AGAIN;
        self.desk_at = Some(self.desk_at.map_or(soon, |at| at.min(soon)));
    }

    /// Starts what is due, and notes when to look again.
    async fn fill(&mut self) {
        self.desk_at = match self.desk.fill().await {
            Ok(next_at) => next_at.map(|at| self.instant(at)),
            Err(error) => {
                tracing::error!(client_id = %self.handle.client_id, error = %chain(&error), "the queue cannot be read");
                Some(Instant::now() + LOOK_AGAIN)
            }
        };
    }

    fn instant(&self, at: Timestamp) -> Instant {
        // A day is soon enough to look again, and never overflows.
        let wait =
            Duration::from_millis(at.ms_since(self.context.world.now())).min(Duration::from_secs(86_400));
        Instant::now() + wait + Duration::from_millis(1)
    }

    /// Sends a fresh token once half of the present one's life is over, or the secret that signed it is an old one.
    async fn renew_token(&mut self) {
        let Pass::Token { claims, is_current, .. } = &mut self.pass else { return };
        let half = claims.iat + claims.exp.saturating_sub(claims.iat) / 2;
        // Taken before the client is looked at: a revocation that comes in between is younger than the token.
        let now = self.context.world.now();
        if now < at(half) && *is_current {
            return;
        }
        let client_id = &self.handle.client_id;
        match self.context.store.standing(client_id).await {
            Ok(standing) if self.handle.stamp.holds(&standing) => {}
            Ok(standing) => return self.context.links.recheck(client_id, &standing),
            Err(error) => {
                return tracing::error!(%client_id, error = %chain(&error), "a token is renewed later");
            }
        }
        match self.context.tokens.for_agent(client_id, self.context.token_ttl, now) {
            Ok((token, expires_at)) => {
                (claims.iat, claims.exp, *is_current) = (secs(now), secs(expires_at), true);
                self.handle.say(ToAgent::Renew(Renew { token, expires_at }));
                let (store, kid) = (&self.context.store, self.context.tokens.kid());
                if let Err(error) = store.token_renewed(client_id, self.handle.seq, expires_at, kid).await {
                    tracing::error!(%client_id, error = %chain(&error), "a renewed token is not recorded");
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "a token cannot be renewed"),
        }
    }

    /// Sends what is queued, the goodbye last.
    async fn farewell(&mut self, goodbye: Goodbye) -> Result<(), axum::Error> {
        while let Some(message) = self.handle.mailbox.message() {
            self.send(&message).await?;
        }
        self.send(&ToAgent::Goodbye(goodbye)).await?;
        self.socket.flush().await
    }

    async fn send(&mut self, message: &ToAgent) -> Result<(), axum::Error> {
        match serde_json::to_string(message) {
            Ok(frame) => self.socket.feed(Message::Text(frame.into())).await,
            Err(_) => Ok(()),
        }
    }

    async fn close(mut self, end: &LinkEnd) {
        let (handle, seq) = (Arc::clone(&self.handle), self.handle.seq);
        tracing::info!(client_id = %handle.client_id, link = %seq, reason = %chain(end), "link closed");
        if self.misunderstood > MOST_MISUNDERSTOOD {
            tracing::warn!(client_id = %handle.client_id, link = %seq, count = self.misunderstood, "messages were not understood");
        }
        self.context.links.leave(&self.handle);
        self.handle.mailbox.over();
        if let LinkEnd::Violation(what) = end {
            let _ = timeout(GOODBYE_WITHIN, self.farewell(violation(what))).await;
        }
        self.desk.close().await;
        let now = self.context.world.now();
        if let Err(error) = self.context.store.close_link(&self.handle.client_id, seq, now).await {
            tracing::error!(client_id = %self.handle.client_id, error = %chain(&error), "a closed link is not recorded");
        }
        let _ = timeout(GOODBYE_WITHIN, self.socket.close()).await;
    }
}

fn violation(what: &str) -> Goodbye {
    let reason = GoodbyeReason::ProtocolViolation;
    Goodbye { reason, message: what.to_owned(), reconnect_after_ms: 60_000 }
}

/// Writes an error with all its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Tells links apart in logs of downloads.
impl std::fmt::Display for LinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LinkSeq(seq) = self.seq;
        write!(f, "{}#{seq}", self.client_id)
    }
}
