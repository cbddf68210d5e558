//! The steps that were seen, and the one at which everything stops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::WITHIN;

/// A program that can be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The agent.
    Agent,
    /// The server.
    Server,
}

/// Which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It has been sent, and has not arrived.
    Before,
    /// It has arrived: a message was read, a call was answered. The answer of a call has not been heard yet.
    After,
}

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The step: a message's `type`, or the name of a call to the bucket.
    pub step: &'static str,
    /// At which of them, counted from 1.
    pub nth: usize,
    /// On which side of it.
    pub edge: Edge,
}

/// A step that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The step.
    pub step: String,
    /// Who sent it.
    pub by: Side,
    /// The part that it is for, where it sends one.
    pub part: Option<u16>,
    /// The connection to the bucket on which it came, counted from 1; 0 for what came over a link.
    pub connection: usize,
    /// Bytes of its body, once it was there whole.
    pub bytes: usize,
    /// What the bucket answered.
    pub status: Option<u16>,
}

/// Whether everything stops.
#[derive(Debug, Default)]
struct Gate {
    shut: bool,
    /// How often it was opened: whoever waits before it goes on when this has grown.
    opened: u64,
    /// Who was ended before it was opened last: what these had sent is lost.
    lost: &'static [Side],
}

#[derive(Debug)]
struct Inner {
    seen: Mutex<Vec<Seen>>,
    stop: Mutex<Option<Stop>>,
    gate: watch::Sender<Gate>,
}

/// The steps of a scene, shared by its proxies.
#[derive(Debug, Clone)]
pub struct Steps(Arc<Inner>);

impl Default for Steps {
    fn default() -> Self {
        Self(Arc::new(Inner {
            seen: Mutex::default(),
            stop: Mutex::default(),
            gate: watch::Sender::default(),
        }))
    }
}

impl Steps {
    /// Stops at a step that is still to come; counted are all of its kind, also those that were seen before. What is
    /// held already stays so.
    pub fn stop_at(&self, stop: Stop) {
        self.0.gate.send_modify(|gate| gate.shut = false);
        *locked(&self.0.stop) = Some(stop);
    }

    /// Waits until the step is reached.
    ///
    /// # Errors
    /// The steps that were seen instead.
    pub async fn reached(&self) -> Result<(), String> {
        let mut gate = self.0.gate.subscribe();
        match timeout(WITHIN, gate.wait_for(|gate| gate.shut)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(format!("{:?} was not reached: {:?}", self.stop(), self.names())),
        }
    }

    /// Lets everything go on.
    pub fn go_on(&self) {
        self.open(None, &[]);
    }

    /// Lets everything go on up to another step.
    pub fn go_on_to(&self, stop: Stop) {
        self.open(Some(stop), &[]);
    }

    /// Lets everything go on, but for what those that were ended had sent.
    pub fn go_on_without(&self, ended: &'static [Side]) {
        self.open(None, ended);
    }

    fn open(&self, stop: Option<Stop>, lost: &'static [Side]) {
        // Both at once: who meets the next stop must find the gate of after this.
        let mut next = locked(&self.0.stop);
        *next = stop;
        self.0.gate.send_modify(|gate| *gate = Gate { shut: false, opened: gate.opened + 1, lost });
    }

    /// Gives the steps so far, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.0.seen).clone()
    }

    /// Gives their names.
    pub fn names(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.step).collect()
    }

    fn stop(&self) -> Option<Stop> {
        *locked(&self.0.stop)
    }

    /// Notes a step that begins, and gives its number.
    pub(super) fn begin(&self, seen: Seen) -> usize {
        let mut all = locked(&self.0.seen);
        all.push(seen);
        all.len() - 1
    }

    /// Notes the bytes of a step's body.
    pub(super) fn weighs(&self, at: usize, bytes: usize) {
        locked(&self.0.seen)[at].bytes = bytes;
    }

    /// Notes what the bucket answered.
    pub(super) fn answered(&self, at: usize, status: u16) {
        locked(&self.0.seen)[at].status = Some(status);
    }

    /// Tells whether everything is to stop at this edge of a step.
    pub(super) fn stops(&self, at: usize, edge: Edge) -> bool {
        let Some(stop) = self.stop() else { return false };
        let seen = locked(&self.0.seen);
        let nth = seen[..=at].iter().filter(|seen| seen.step == stop.step).count();
        stop.edge == edge && stop.nth == nth && seen[at].step == stop.step
    }

    /// Shuts the gate and waits before it. Gives who was ended meanwhile.
    pub(super) async fn wait(&self) -> &'static [Side] {
        let mut gate = self.0.gate.subscribe();
        let mut opened = 0;
        self.0.gate.send_modify(|gate| {
            gate.shut = true;
            opened = gate.opened;
        });
        // The sender lives in `self`.
        gate.wait_for(|gate| gate.opened > opened).await.map_or(&[], |gate| gate.lost)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
