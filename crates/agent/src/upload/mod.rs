//! One attempt: open, offer, hash, ask, send, tell, finish.
//!
//! Deliberately absent: the link. What is said here goes to the owner (`agent`) with the number of the link that it is
//! meant for; on another link the state is told again. What is next stands in `pump`, what follows from a PUT in
//! `outcome`, one PUT in `put`, reading in `reader`, the state of the parts in `ledger`, how many at once in `flight`,
//! where to in `address`,
//! how fast in `pace`.

pub(crate) mod address;
mod finish;
mod flight;
pub(crate) mod ground;
mod ledger;
mod outcome;
pub(crate) mod pace;
mod progress;
mod pump;
pub(crate) mod put;
pub(crate) mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hoist_engine::backoff::Backoff;
use hoist_engine::plan::Plan;
use hoist_wire::limits::MAX_MESSAGE_BYTES;
use hoist_wire::to_agent::{Accept, Answer, Encoding, Grant, Parts};
use hoist_wire::to_server::{Busy, Finished, Offer, Receipt, Receipts, Refused};
use hoist_wire::{Batch, ErrorCode, OnChange, PartNumber, PartSums, ToServer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::policy::NotGiven;
use address::check_grant;
use flight::Flight;
use ground::{Given, Ground, Opened};
use ledger::{Hashed, Ledger};
use pace::{Gate, Pace};
use progress::Meter;
use put::PutError;
use reader::ReadError;

/// Shortest wait before a part is asked for again, whatever the server says.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// Longest wait that storage or the server can ask for.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);

/// What all attempts share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) ground: Arc<dyn Ground>,
    pub(crate) max_parts_in_flight: usize,
    /// What all downloads together may send.
    pub(crate) gate: Arc<Gate>,
    /// What the site wants when a file changes, where the request does not say.
    pub(crate) on_change: Option<OnChange>,
}

/// What the owner tells an attempt.
#[derive(Debug)]
pub(crate) enum Order {
    /// The server asks for this attempt on the link of this number.
    Attach(u64),
    Accept(Accept),
    Parts(Parts),
}

/// Something that an attempt says, and the link that it is meant for.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) link: u64,
    pub(crate) message: ToServer,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was told to stop.
    Stopped,
    /// It cannot go on; the server must hear of it.
    Refused(Refused),
}

/// What an attempt is asked to do.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) busy: Busy,
    pub(crate) path: Option<String>,
    pub(crate) on_change: OnChange,
    pub(crate) pace: Arc<Pace>,
    pub(crate) site: Arc<Site>,
    pub(crate) link: u64,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) say: mpsc::Sender<Said>,
    pub(crate) stop: CancellationToken,
}

/// What came back from a task of an attempt.
#[derive(Debug)]
enum Done {
    Hashed(PartNumber, Result<PartSums, ReadError>),
    Put(PartNumber, Result<String, PutError>),
    Checked(Result<Finished, ReadError>),
}

/// What happens next to an attempt.
enum Event {
    Order(Option<Order>),
    Done(Done),
    Time,
}

impl Task {
    /// Works until it is told to stop or cannot go on.
    pub(crate) async fn run(self) -> End {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            end = self.work() => end,
        }
    }

    async fn work(self) -> End {
        let (ground, path) = (Arc::clone(&self.site.ground), self.path.clone());
        let mut opening = JoinSet::new();
        read_aside(&*self.site.ground, &mut opening, move || ground.open(path.as_deref()));
        let refused = match opening.join_next().await {
            Some(Ok(Ok(file))) => return Upload::new(self, file).run().await,
            Some(Ok(Err(not_given))) => {
                let NotGiven { code, message, retry_after_ms } = not_given;
                refusal(self.busy, code, &message, retry_after_ms)
            }
            Some(Err(_)) | None => {
                refusal(self.busy, ErrorCode::Internal, "the agent failed to open the file", Some(60_000))
            }
        };
        End::Refused(refused)
    }
}

/// Starts work that reads, on a thread of its own where it may wait for a disk.
fn read_aside<T: Send + 'static>(
    ground: &dyn Ground,
    jobs: &mut JoinSet<T>,
    work: impl FnOnce() -> T + Send + 'static,
) {
    match ground.reading_takes() {
        None => jobs.spawn_blocking(work),
        Some(time) => jobs.spawn(async move {
            tokio::time::sleep(time).await;
            work()
        }),
    };
}

fn refusal(busy: Busy, code: ErrorCode, message: &str, retry_after_ms: Option<u64>) -> Refused {
    let mut cut = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(cut) {
        cut -= 1;
    }
    let Busy { download_id, attempt } = busy;
    Refused { download_id, attempt, code, message: message[..cut].to_owned(), retry_after_ms }
}

/// An attempt with its file open.
struct Upload {
    task: Task,
    offer: Offer,
    source: Arc<dyn Given>,
    accepted: Option<Accepted>,
    jobs: JoinSet<Done>,
    /// Cancelled with the attempt, for reads that run on their own threads.
    reads: CancellationToken,
    meter: Meter,
    /// Bytes hashed of the part that is being hashed.
    hashing: Arc<AtomicU64>,
}

/// What follows from `accept`.
struct Accepted {
    accept: Accept,
    ledger: Ledger,
    flight: Flight,
    backoff: Backoff,
    /// No PUT starts before.
    hold: Option<Instant>,
    /// The last answers were `stored`: ask further ahead.
    stored_streak: bool,
    /// The last look at the file is running.
    checking: bool,
    finished: Option<Finished>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.reads.cancel();
    }
}

impl Upload {
    fn new(task: Task, file: Opened) -> Self {
        let Busy { download_id, attempt } = task.busy;
        let Opened { file, path, name, identity } = file;
        let offer = Offer {
            download_id,
            attempt,
            path,
            name,
            size_bytes: identity.size_bytes,
            modified_ms: identity.modified_ns.div_euclid(1_000_000),
            identity,
        };
        let reads = task.stop.child_token();
        Self {
            task,
            offer,
            source: file,
            accepted: None,
            jobs: JoinSet::new(),
            reads,
            meter: Meter::new(Instant::now()),
            hashing: Arc::default(),
        }
    }

    async fn run(mut self) -> End {
        info!(path = self.offer.path, size_bytes = self.offer.size_bytes, "the file is open");
        self.say(ToServer::Offer(self.offer.clone())).await;
        loop {
            let event = self.next().await;
            if let Err(refused) = self.apply(event).await {
                warn!(code = %refused.code, message = refused.message, "the attempt is given up");
                return End::Refused(refused);
            }
        }
    }

    async fn next(&mut self) -> Event {
        let wake = self.next_wake();
        tokio::select! {
            biased;
            order = self.task.orders.recv() => Event::Order(order),
            Some(done) = self.jobs.join_next() => match done {
                Ok(done) => Event::Done(done),
                // Only a defect ends a job like this; the owner tells the server.
                Err(failure) => std::panic::resume_unwind(
                    failure.try_into_panic().unwrap_or_else(|_| Box::new("a job was cancelled")),
                ),
            },
            () = tokio::time::sleep_until(wake) => Event::Time,
        }
    }

    fn next_wake(&self) -> Instant {
        let report = self.meter.next_report(self.is_active());
        let Some(accepted) = &self.accepted else { return report };
        // What is finished has nothing to report: only the server's word wakes it.
        let report = if accepted.finished.is_some() { Instant::now() + MAX_WAIT } else { report };
        accepted.hold.into_iter().chain(accepted.ledger.next_refresh()).fold(report, Instant::min)
    }

    /// Tells whether bytes move.
    fn is_active(&self) -> bool {
        !self.jobs.is_empty()
    }

    async fn apply(&mut self, event: Event) -> Result<(), Refused> {
        let now = Instant::now();
        match event {
            // The owner is gone, and takes this task with it.
            Event::Order(None) => std::future::pending().await,
            Event::Order(Some(Order::Attach(link))) => self.attach(link).await,
            Event::Order(Some(Order::Accept(accept))) => self.accept(accept)?,
            Event::Order(Some(Order::Parts(parts))) => self.answered(parts, now)?,
            Event::Done(Done::Hashed(number, result)) => self.hashed(number, result)?,
            Event::Done(Done::Put(number, result)) => self.sent(number, result, now)?,
            Event::Done(Done::Checked(result)) => self.checked(result).await?,
            Event::Time => {}
        }
        self.pump(now).await?;
        self.report(now).await;
        Ok(())
    }

    /// Tells everything again: the server may know nothing of it.
    async fn attach(&mut self, link: u64) {
        self.task.link = link;
        self.meter.hurry();
        self.say(ToServer::Offer(self.offer.clone())).await;
        let Some(accepted) = &mut self.accepted else { return };
        let receipts = accepted.ledger.reattach();
        if !accepted.ledger.is_complete() {
            // Once the server has answered for all parts again, it must hear the end again.
            accepted.finished = None;
        }
        self.say_receipts(receipts).await;
        let finished =
            self.accepted.as_ref().filter(|it| it.ledger.is_complete()).and_then(|it| it.finished.clone());
        if let Some(finished) = finished {
            self.say(ToServer::Finished(finished)).await;
        }
    }

    fn accept(&mut self, accept: Accept) -> Result<(), Refused> {
        let Accept { part_size_bytes, encoding: Encoding::Identity, .. } = accept;
        if let Some(accepted) = &self.accepted {
            let old = &accepted.accept;
            if old.part_size_bytes == part_size_bytes && old.checksum == accept.checksum {
                return Ok(());
            }
            // Another upload under the same attempt: nothing of the old one counts.
            warn!("the attempt is accepted anew with another plan");
            self.jobs = JoinSet::new();
            self.meter.grounded();
        }
        let plan = Plan::resume(self.offer.size_bytes, part_size_bytes)
            .map_err(|error| self.refuse(ErrorCode::Unsupported, &error.to_string(), None))?;
        self.accepted = Some(Accepted {
            accept,
            ledger: Ledger::new(plan),
            flight: Flight::new(self.task.site.max_parts_in_flight),
            backoff: Backoff::for_storage(),
            hold: None,
            stored_streak: false,
            checking: false,
            finished: None,
        });
        Ok(())
    }

    fn answered(&mut self, parts: Parts, now: Instant) -> Result<(), Refused> {
        for part in parts.parts {
            let Some(accepted) = &mut self.accepted else { return Ok(()) };
            match part.answer {
                Answer::Put(grant) => {
                    accepted.stored_streak = false;
                    self.granted(part.number, &grant, now)?;
                }
                Answer::Stored => {
                    accepted.stored_streak = true;
                    accepted.ledger.stored(part.number);
                }
                Answer::Wait(wait) => {
                    let retry = now + Duration::from_millis(wait.retry_in_ms).clamp(MIN_WAIT, MAX_WAIT);
                    accepted.ledger.wait(part.number, retry);
                    self.meter.waiting(wait.code, "the server asks to wait", now, retry);
                }
            }
        }
        Ok(())
    }

    fn granted(&mut self, number: PartNumber, grant: &Grant, now: Instant) -> Result<(), Refused> {
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        let Some(len) = accepted.ledger.plan().part_len(number) else {
            debug!(%number, "a grant for a part that does not exist is dropped");
            return Ok(());
        };
        // The policy of now: it may have been read again since the file was opened.
        let ground = &self.task.site.ground;
        if let Err(not_given) = ground.still(&self.offer.path, self.offer.size_bytes, self.source.links()) {
            let NotGiven { code, message, retry_after_ms } = not_given;
            return Err(self.refuse(code, &message, retry_after_ms));
        }
        let old_at = ledger::old_at(now, Duration::from_secs(grant.expires_in_secs.into()));
        let is_taken = match check_grant(grant, len) {
            // Old when it comes: the next one may be better, and is not asked for in a circle.
            Ok(_) if old_at <= now => {
                accepted.ledger.wait(number, now + MIN_WAIT);
                return Ok(());
            }
            Ok(to) => {
                let endpoint = &to.endpoint;
                match self.task.site.ground.sends_to(&endpoint.host, endpoint.port) {
                    Ok(()) => accepted.ledger.grant(number, to, old_at),
                    Err(rule) => return Err(self.refuse(ErrorCode::StorageNotAllowed, &rule, None)),
                }
            }
            Err(forbidden) => {
                return Err(self.refuse(ErrorCode::StorageNotAllowed, &forbidden.to_string(), None));
            }
        };
        if is_taken {
            if let Err(not_given) = self.task.site.ground.spend(len) {
                let NotGiven { code, message, retry_after_ms } = not_given;
                return Err(self.refuse(code, &message, retry_after_ms));
            }
            accepted.finished = None;
            self.meter.granted();
        }
        Ok(())
    }

    fn hashed(&mut self, number: PartNumber, result: Result<PartSums, ReadError>) -> Result<(), Refused> {
        self.hashing.store(0, Ordering::Relaxed);
        let sums = result.map_err(|error| self.unreadable(&error))?;
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        match accepted.ledger.hashed(number, sums) {
            Hashed::Ready | Hashed::Same => Ok(()),
            Hashed::Changed => Err(self.unreadable(&ReadError::Changed)),
        }
    }

    fn read_aside(&mut self, work: impl FnOnce() -> Done + Send + 'static) {
        read_aside(&*self.task.site.ground, &mut self.jobs, work);
    }

    fn refuse(&self, code: ErrorCode, message: &str, retry_after_ms: Option<u64>) -> Refused {
        refusal(self.task.busy, code, message, retry_after_ms)
    }

    /// Gives the refusal for bytes that cannot be had, or are no longer those.
    fn unreadable(&self, error: &ReadError) -> Refused {
        let path = &self.offer.path;
        match error {
            ReadError::Changed => {
                let message = format!("{path} changed while it was read: wait until its writer is done");
                self.refuse(ErrorCode::FileChanged, &message, None)
            }
            ReadError::Io(error) => {
                let message = format!("{path} could not be read: {error}; check the disk at the site");
                self.refuse(ErrorCode::ReadFailed, &message, Some(60_000))
            }
            ReadError::Stopped => self.refuse(ErrorCode::Internal, "reading was stopped", Some(1_000)),
        }
    }

    async fn say_receipts(&mut self, receipts: Vec<Receipt>) {
        let Busy { download_id, attempt } = self.task.busy;
        for parts in Batch::split(receipts) {
            self.say(ToServer::Receipts(Receipts { download_id, attempt, parts })).await;
        }
    }

    async fn say(&self, message: ToServer) {
        // The owner outlives its tasks.
        let _ = self.task.say.send(Said { link: self.task.link, message }).await;
    }
}
