//! A WebSocket between two ends in one process: ordered, delayed, cut, held up, and answering pings by itself.
//!
//! Deliberately absent: bytes. A frame is lost or arrives whole, as over TCP; what was on its way when a connection
//! breaks is lost.

use std::collections::VecDeque;
use std::future::Future as _;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::fault::Fault;
use super::world::World;

/// Frames that the network takes before a sender has to wait.
const WINDOW: usize = 48;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Agent = 0,
    Server = 1,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Agent => Self::Server,
            Self::Server => Self::Agent,
        }
    }
}

/// A frame, whatever the two libraries call it.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Text(String),
    Ping,
    Pong,
    Close,
    /// The connection broke.
    Reset,
}

/// How an end's library writes frames and errors.
pub(crate) trait Dialect: Unpin {
    type Message;
    type Error;
    fn write(message: Self::Message) -> Frame;
    fn read(frame: Frame) -> Result<Self::Message, Self::Error>;
}

/// What holds frames up between a client and the server, by direction: to the agent, to the server.
#[derive(Debug, Default)]
pub(crate) struct Gate([AtomicBool; 2]);

impl Gate {
    pub(crate) fn shut(&self, to: Side, shut: bool) {
        self.0[to as usize].store(shut, Ordering::Relaxed);
    }

    pub(crate) fn is_shut(&self, to: Side) -> bool {
        self.0[to as usize].load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<(Instant, Frame)>,
    last: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Nobody reads any more.
    is_dead: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    name: String,
    world: World,
    gate: Arc<Gate>,
    latency: Duration,
    lanes: Mutex<[Lane; 2]>,
}

impl Wire {
    fn lanes(&self) -> MutexGuard<'_, [Lane; 2]> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, to: Side, frame: Frame) {
        if let Frame::Text(text) = &frame {
            let arrow = if to == Side::Server { "-->" } else { "<--" };
            self.world.trace(format!("{} {arrow} {text}", self.name));
        }
        let jitter = self.world.between(Duration::ZERO, self.latency);
        let late = self.world.strikes(Fault::LinkDelay);
        let spike = if late {
            self.world.between(Duration::from_secs(1), Duration::from_secs(25))
        } else {
            Duration::ZERO
        };
        let mut lanes = self.lanes();
        let lane = &mut lanes[to as usize];
        let at = (Instant::now() + self.latency + jitter + spike).max(lane.last.unwrap_or_else(Instant::now));
        lane.last = Some(at);
        lane.frames.push_back((at, frame));
        if let Some(reader) = lane.reader.take() {
            reader.wake();
        }
    }

    /// Breaks the connection: what is on its way is lost, and both ends see it once their side of the gate is open.
    pub(crate) fn cut(&self) {
        self.world.trace(format!("{} cut", self.name));
        for side in [Side::Agent, Side::Server] {
            self.lanes()[side as usize].frames.clear();
            self.push(side, Frame::Reset);
        }
    }

    /// Wakes whoever waits for the gate.
    pub(crate) fn nudge(&self) {
        for lane in self.lanes().iter_mut() {
            for waker in lane.reader.take().into_iter().chain(lane.writer.take()) {
                waker.wake();
            }
        }
    }
}

/// One end of a connection, as its library gives it.
#[derive(Debug)]
pub(crate) struct End<D> {
    wire: Arc<Wire>,
    side: Side,
    timer: Pin<Box<Sleep>>,
    is_over: bool,
    /// Set where a loss of power takes the end away without a word.
    silent: Arc<AtomicBool>,
    dialect: PhantomData<D>,
}

/// Makes a connection.
pub(crate) fn wire<A: Dialect, B: Dialect>(
    name: String,
    world: &World,
    gate: &Arc<Gate>,
    silent: &Arc<AtomicBool>,
    latency: Duration,
) -> (Arc<Wire>, End<A>, End<B>) {
    let wire = Wire { name, world: world.clone(), gate: Arc::clone(gate), latency, lanes: Mutex::default() };
    let wire = Arc::new(wire);
    let agent = End::new(&wire, Side::Agent, Arc::clone(silent));
    let server = End::new(&wire, Side::Server, Arc::default());
    (wire, agent, server)
}

impl<D> End<D> {
    fn new(wire: &Arc<Wire>, side: Side, silent: Arc<AtomicBool>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { wire: Arc::clone(wire), side, timer, is_over: false, silent, dialect: PhantomData }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut lanes = self.wire.lanes();
        let lane = &mut lanes[self.side as usize];
        lane.reader = Some(cx.waker().clone());
        if self.wire.gate.is_shut(self.side) {
            return Poll::Pending;
        }
        let Some((at, _)) = lane.frames.front() else { return Poll::Pending };
        let at = *at;
        if at > Instant::now() {
            self.timer.as_mut().reset(at);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let frame = lane.frames.pop_front().map(|(_, frame)| frame);
        if let Some(writer) = lane.writer.take() {
            writer.wake();
        }
        drop(lanes);
        match &frame {
            Some(Frame::Ping) => self.wire.push(self.side.other(), Frame::Pong),
            Some(Frame::Close | Frame::Reset) => self.is_over = true,
            Some(Frame::Text(_) | Frame::Pong) | None => {}
        }
        Poll::Ready(frame)
    }
}

impl<D: Dialect> Stream for End<D> {
    type Item = Result<D::Message, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_frame(cx).map(|frame| frame.map(D::read))
    }
}

impl<D: Dialect> Sink<D::Message> for End<D> {
    type Error = D::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), D::Error>> {
        let this = self.get_mut();
        let mut lanes = this.wire.lanes();
        let lane = &mut lanes[this.side.other() as usize];
        if this.is_over || lane.is_dead {
            return Poll::Ready(D::read(Frame::Reset).map(drop));
        }
        if lane.frames.len() >= WINDOW {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: D::Message) -> Result<(), D::Error> {
        self.wire.push(self.side.other(), D::write(message));
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), D::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), D::Error>> {
        let this = self.get_mut();
        if !this.is_over {
            this.wire.push(this.side.other(), Frame::Close);
        }
        Poll::Ready(Ok(()))
    }
}

impl<D> Drop for End<D> {
    fn drop(&mut self) {
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        self.wire.lanes()[self.side as usize].is_dead = true;
        if !self.is_over {
            self.wire.push(self.side.other(), Frame::Reset);
        }
        self.wire.nudge();
    }
}
