//! What writes the trail: one task, which takes what waits together into one write, and says the heads.

use std::sync::Arc;
use std::time::Duration;

use hoist_wire::Timestamp;
use hoist_wire::audit::{Entry, Head};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::refusals::Refusals;
use crate::clock::World;
use crate::links::chain;
use crate::store::{Done, Intent, Store, StoreError, TrailFilter};

/// Most pieces in one write.
const BATCH: usize = 256;

/// How long a minute of refusals is.
const MINUTE: Duration = Duration::from_secs(60);

/// A head is said after so many lines …
const HEAD_EVERY_LINES: u64 = 256;

/// … and after this time, where there were any.
const HEAD_EVERY: Duration = Duration::from_secs(600);

/// Lines that are read at once for stdout.
const PAGE: u32 = 500;

/// One piece of the trail.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) intent: Option<Intent>,
    pub(super) done: Option<Done>,
    /// Whoever waits to hear whether it is on disk.
    pub(super) told: Option<oneshot::Sender<bool>>,
}

/// The end of the trail's task, also while somebody could still note something: a connection that hangs must not keep the
/// last head from the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    asked: CancellationToken,
    done: CancellationToken,
}

impl Ending {
    /// Takes nothing any more, and waits until what was taken is written and the head is said.
    pub(crate) async fn end(&self) {
        self.asked.cancel();
        self.done.cancelled().await;
    }
}

/// The task.
#[derive(Debug)]
pub(crate) struct Writer {
    node: String,
    store: Arc<dyn Store>,
    jobs: mpsc::Receiver<Job>,
    refusals: Arc<Refusals>,
    /// The head that was said last.
    said: u64,
    said_at: Instant,
    /// The last line that stdout has; none where it gets none.
    shown: Option<u64>,
    ending: Ending,
}

impl Writer {
    pub(super) async fn open(
        node: String,
        store: Arc<dyn Store>,
        jobs: mpsc::Receiver<Job>,
        refusals: Arc<Refusals>,
        to_stdout: bool,
    ) -> Result<Self, StoreError> {
        let head = store.trail_head(&node).await?.map_or(0, |head| head.seq);
        let shown = to_stdout.then_some(head);
        Ok(Self {
            node,
            store,
            jobs,
            refusals,
            said: 0,
            said_at: Instant::now(),
            shown,
            ending: Ending::default(),
        })
    }

    /// Gives what ends it.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// Writes until nobody is left who could note anything: then the pages are gone, and the server stops. Or until it is
    /// told to end.
    pub(crate) async fn run(mut self, world: Arc<dyn World>) {
        let Ending { asked, done } = self.ending.clone();
        let _done = done.drop_guard();
        self.settle(world.now()).await;
        self.say_head(true).await;
        let mut minutes = interval(MINUTE);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                count = self.jobs.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.write(&mut batch).await;
                }
                // What was taken before is still given.
                () = asked.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                _ = minutes.tick() => self.count(world.now()).await,
            }
        }
        self.count(world.now()).await;
        self.say_head(true).await;
    }

    /// Says of what was begun and never seen to end that nobody knows how it ended.
    async fn settle(&self, now: Timestamp) {
        loop {
            let unsettled = match self.store.trail_unsettled(&self.node, 500).await {
                Ok(unsettled) if unsettled.is_empty() => return,
                Ok(unsettled) => unsettled,
                Err(error) => return complain(&error),
            };
            let done: Vec<_> = unsettled
                .into_iter()
                .map(|Intent { id, entry }| {
                    let detail =
                        format!("begun at {}: the server ended before it was known how it ended", entry.at);
                    let entry = Entry { at: now, detail: Some(detail), ..entry };
                    Done { entry, intent: Some(id) }
                })
                .collect();
            if let Err(error) = self.store.trail_write(&[], &done).await {
                return complain(&error);
            }
        }
    }

    async fn write(&mut self, batch: &mut Vec<Job>) {
        if batch.is_empty() {
            return;
        }
        let (mut intents, mut done, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for job in batch.drain(..) {
            intents.extend(job.intent);
            done.extend(job.done);
            told.push(job.told);
        }
        let outcome = self.store.trail_write(&intents, &done).await;
        if let Err(error) = &outcome {
            complain(error);
        }
        for told in told {
            match told {
                Some(told) => {
                    let _ = told.send(outcome.is_ok());
                }
                // Nobody waits for the line of a refusal: it is counted instead.
                None if outcome.is_err() => self.refusals.count(None),
                None => {}
            }
        }
        self.show().await;
        self.say_head(false).await;
    }

    /// Writes down what was counted in this minute.
    async fn count(&mut self, now: Timestamp) {
        let counted = self.refusals.end();
        if counted.is_empty() {
            return self.say_head(false).await;
        }
        let line = |(from, count): &(Option<std::net::IpAddr>, u64)| Done {
            entry: Entry {
                node: self.node.clone(),
                at: now,
                action: String::from("refusals"),
                who: None,
                token: None,
                from: from.map(|from| from.to_string()),
                subject: String::new(),
                status: 401,
                code: None,
                detail: Some(format!("{count} more were refused within a minute, and are not listed")),
                count: *count,
            },
            intent: None,
        };
        let done: Vec<_> = counted.iter().map(line).collect();
        if let Err(error) = self.store.trail_write(&[], &done).await {
            complain(&error);
            self.refusals.give_back(counted);
        }
        self.show().await;
        self.say_head(false).await;
    }

    /// Says the head to the log, from time to time: who has it, sees when the trail's tail is cut.
    async fn say_head(&mut self, now: bool) {
        let head = match self.store.trail_head(&self.node).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return complain(&error),
        };
        let is_new = head.seq > self.said;
        let is_due = head.seq >= self.said + HEAD_EVERY_LINES || self.said_at.elapsed() >= HEAD_EVERY;
        if is_new && (now || is_due) {
            let Head { seq, .. } = head;
            tracing::info!(target: "audit", node = self.node, %head, "audit head");
            (self.said, self.said_at) = (seq, Instant::now());
        }
    }

    /// Writes new lines to stdout, one JSON object each.
    async fn show(&mut self) {
        use std::io::Write as _;
        while let Some(shown) = self.shown {
            let filter = TrailFilter { oldest_first: true, cursor: Some(shown), ..Default::default() };
            let lines = match self.store.trail(&self.node, &filter, PAGE).await {
                Ok(lines) => lines,
                Err(error) => return complain(&error),
            };
            let Some(last) = lines.last() else { return };
            let mut out = std::io::stdout().lock();
            for line in &lines {
                let Ok(text) = serde_json::to_string(line) else { continue };
                if writeln!(out, "{text}").is_err() {
                    tracing::warn!("stdout takes no lines of the audit trail any more: GET /audit has them");
                    self.shown = None;
                    return;
                }
            }
            let _ = out.flush();
            self.shown = Some(last.seq);
        }
    }
}

fn complain(error: &StoreError) {
    tracing::error!(error = %chain(error), "the audit trail cannot be written or read: what would change something is refused");
}
