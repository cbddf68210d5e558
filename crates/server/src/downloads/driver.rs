//! The owner of one download in motion: takes letters, asks `engine` what follows, writes it, and does it.
//!
//! It holds nothing that the store cannot give again, but for receipts of the last two seconds, which an agent
//! repeats. Whatever takes time (opening, completing, looking) is its own task, so that letters never wait for S3.

mod agent;
mod effects;
mod pace;

use std::sync::Arc;
use std::time::Duration;

use hoist_engine::backoff::Backoff;
use hoist_engine::life::{Effect, Event, Rejection, Verdict};
use hoist_engine::parts::PartTable;
use hoist_engine::plan::Plan;
use hoist_wire::to_server::{ReadyPart, ToServer};
use hoist_wire::{Attempt, DownloadId, State, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::opening::{Opened, Opening};
use super::{Downloads, Letter, Live, Shop};
use crate::links::{LinkHandle, chain};
use crate::store::{Along, Record, StoreError};

/// Receipts are written when there are so many …
const FLUSH_AFTER_PARTS: u32 = 64;

/// … or the oldest has waited so long.
const FLUSH_AFTER: Duration = Duration::from_secs(2);

/// Writes of receipts lie at least so far apart: each writes the whole table.
const FLUSH_APART: Duration = Duration::from_millis(250);

/// A live link that says nothing of its download for so long is asked again.
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// How soon a task that failed by a defect is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Drives one download.
#[derive(Debug)]
pub(super) struct Driver {
    id: DownloadId,
    downloads: Arc<Downloads>,
    shop: Arc<Shop>,
    letters: mpsc::Receiver<Letter>,
    live: Arc<Live>,
    link: Option<Arc<LinkHandle>>,
    /// The confirmed parts of `table_of`.
    table: PartTable,
    table_of: Attempt,
    /// What was confirmed before this attempt.
    earlier: PartTable,
    opened: Option<Box<Opened>>,
    /// Parts that were asked about before the upload was open.
    held: Vec<ReadyPart>,
    unsaved: u32,
    flush_at: Option<Instant>,
    flushed_at: Instant,
    work: JoinSet<Done>,
    chore: Option<(Instant, Chore)>,
    tries: u32,
    heard_at: Instant,
    reported: Instant,
}

/// Work for a task of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Open,
    Complete,
    Settle,
}

/// What such a task brings back.
#[derive(Debug)]
enum Done {
    Opened(Attempt, Opening),
    Settled(Attempt, Verdict),
}

#[derive(Debug)]
enum DriverEvent {
    Letter(Letter),
    Done(Done),
    /// A task ended without a result: a defect.
    Failed(JoinError),
    Chore(Chore),
    Flush,
    Silence,
    Stop,
}

impl Driver {
    pub(super) fn new(
        id: DownloadId,
        downloads: Arc<Downloads>,
        letters: mpsc::Receiver<Letter>,
        live: Arc<Live>,
    ) -> Self {
        let now = Instant::now();
        Self {
            id,
            shop: Arc::clone(&downloads.shop),
            downloads,
            letters,
            live,
            link: None,
            table: PartTable::default(),
            table_of: Attempt(0),
            earlier: PartTable::default(),
            opened: None,
            held: Vec::new(),
            unsaved: 0,
            flush_at: None,
            flushed_at: now,
            work: JoinSet::new(),
            chore: None,
            tries: 0,
            heard_at: now,
            reported: now,
        }
    }

    /// Runs until the download rests: it is final, queued, or waits for its client's next link.
    pub(super) async fn run(mut self) {
        let Some(mut record) = self.load().await else {
            self.abandon();
            return;
        };
        loop {
            let event = self.next(&record).await;
            if matches!(event, DriverEvent::Stop) {
                self.last_receipts(&mut record).await;
                self.flush(&mut record).await;
                self.abandon();
                return;
            }
            self.apply(&mut record, event).await;
            if self.is_at_rest(&record) && self.downloads.retire(self.id, &mut self.letters) {
                return;
            }
        }
    }

    /// Takes what storage has confirmed and the link has read already; all else is said again after the stop.
    async fn last_receipts(&mut self, record: &mut Record) {
        while let Ok(letter) = self.letters.try_recv() {
            if let Letter::FromAgent { link, message: message @ ToServer::Receipts(_) } = letter {
                self.heard(record, link, message).await;
            }
        }
    }

    /// Leaves the registry without looking into the box: the server stops, or there is no such download.
    fn abandon(&mut self) {
        self.letters.close();
        while self.letters.try_recv().is_ok() {}
        self.downloads.retire(self.id, &mut self.letters);
    }

    fn is_idle(&self) -> bool {
        self.work.is_empty() && self.chore.is_none()
    }

    fn is_at_rest(&self, record: &Record) -> bool {
        let idle = self.is_idle() && self.unsaved == 0;
        idle && (record.life.state != State::Uploading || self.link.is_none())
    }

    /// Reads the record and the parts, for as long as that takes; none when there is no such download.
    async fn load(&mut self) -> Option<Record> {
        let mut backoff = Backoff::for_storage();
        loop {
            match self.read().await {
                Ok(record) => return record,
                Err(error) => {
                    tracing::error!(download_id = %self.id, error = %chain(&error), "the record cannot be read");
                    if !self.pause(&mut backoff).await {
                        return None;
                    }
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(record) = self.shop.store.download(self.id).await? else { return Ok(None) };
        if let Some((attempt, bytes)) = self.shop.store.parts(self.id).await? {
            let table = PartTable::decode(&bytes).unwrap_or_default();
            if attempt == record.life.attempt {
                self.table = table.clone();
            }
            self.earlier = table;
        }
        self.table_of = record.life.attempt;
        self.live.stored(self.table.stored_bytes());
        Ok(Some(record))
    }

    /// Waits before the store is asked again. Gives false when the server stops.
    async fn pause(&self, backoff: &mut Backoff) -> bool {
        let wait = backoff.next_delay(crate::clock::chance(&*self.shop.world));
        tokio::select! {
            biased;
            () = self.downloads.stop.cancelled() => false,
            () = sleep(wait) => true,
        }
    }

    async fn next(&mut self, record: &Record) -> DriverEvent {
        let far = Instant::now() + Duration::from_secs(86_400);
        let flush_at = self.flush_at.unwrap_or(far);
        let (chore_at, chore) = self.chore.unwrap_or((far, Chore::Settle));
        let watched = self.link.is_some() && record.life.state == State::Uploading;
        let silence_at = if watched { self.heard_at + SILENCE } else { far };
        tokio::select! {
            biased;
            () = self.downloads.stop.cancelled() => DriverEvent::Stop,
            Some(done) = self.work.join_next() => done.map_or_else(DriverEvent::Failed, DriverEvent::Done),
            () = sleep_until(flush_at) => DriverEvent::Flush,
            () = sleep_until(chore_at) => DriverEvent::Chore(chore),
            Some(letter) = self.letters.recv() => DriverEvent::Letter(letter),
            () = sleep_until(silence_at) => DriverEvent::Silence,
        }
    }

    async fn apply(&mut self, record: &mut Record, event: DriverEvent) {
        match event {
            DriverEvent::Letter(letter) => self.letter(record, letter).await,
            DriverEvent::Done(Done::Opened(attempt, opening)) => self.opened(record, attempt, opening).await,
            DriverEvent::Done(Done::Settled(attempt, verdict)) => {
                self.tries += 1;
                self.take(record, Event::Settled { attempt, verdict }).await;
            }
            DriverEvent::Failed(failure) => {
                tracing::error!(download_id = %self.id, error = %failure, "a task of the download failed");
                let again = if record.life.state == State::Completing { Chore::Settle } else { Chore::Open };
                self.chore = Some((Instant::now() + AFTER_FAILURE, again));
            }
            DriverEvent::Chore(chore) => {
                self.chore = None;
                self.start(record, chore);
            }
            DriverEvent::Flush => self.flush(record).await,
            DriverEvent::Silence => {
                tracing::warn!(download_id = %self.id, "the agent says nothing of it: asked again");
                self.say_fetch(record);
            }
            DriverEvent::Stop => {}
        }
    }

    async fn letter(&mut self, record: &mut Record, letter: Letter) {
        match letter {
            Letter::Dispatch { link, continues } => {
                let before = self.link.replace(Arc::clone(&link));
                let event = Event::Dispatch { link: link.seq, continues };
                let choose = |record: &mut Record| record.life.choose(link.on_change);
                if let Err(rejection) = self.happen_with(record, event, choose).await {
                    tracing::debug!(download_id = %self.id, %rejection, "not dispatched");
                    self.link = before;
                    if continues.is_some() && rejection != Rejection::Stale {
                        // It moved on since the link looked; the agent works on it and must hear so.
                        self.attach(record, link);
                    } else {
                        link.free(self.id);
                    }
                }
            }
            Letter::Attach { link } => self.attach(record, link),
            Letter::FromAgent { link, message } => self.heard(record, link, message).await,
            Letter::LinkLost { link } => {
                if self.link.as_ref().is_some_and(|own| own.seq == link) {
                    self.link = None;
                }
                self.take(record, Event::LinkLost { link }).await;
                self.flush(record).await;
            }
            Letter::Cancel { operator, reply } => {
                let answer = self.happen(record, Event::Cancel { operator }).await;
                let _ = reply.send(answer);
            }
            Letter::Pace { max_rate_bytes_per_sec, reply } => {
                let _ = reply.send(self.pace(record, max_rate_bytes_per_sec).await);
            }
            Letter::Sweep => {
                let completing = record.life.state == State::Completing;
                if completing && self.is_idle() {
                    self.start(record, Chore::Settle);
                }
                // A deadline that passed while nobody looked makes nothing unproven: one look comes first.
                if !completing || self.tries > 0 {
                    self.take(record, Event::Sweep).await;
                }
            }
        }
    }

    /// Has an agent that waits for the end hear of it.
    fn attach(&mut self, record: &Record, link: Arc<LinkHandle>) {
        if record.life.state != State::Completing {
            return self.tell_the_end(record, &link);
        }
        self.link = Some(link);
        if self.is_idle() {
            self.start(record, Chore::Settle);
        }
    }

    /// Applies an event that nobody waits for.
    async fn take(&mut self, record: &mut Record, event: Event) {
        let outcome = self.happen(record, event).await;
        self.note(outcome);
    }

    /// Late and senseless events are normal: they are dropped, and can be counted in the log.
    fn note(&self, outcome: Result<(), Rejection>) {
        if let Err(rejection) = outcome {
            tracing::debug!(download_id = %self.id, %rejection, "dropped");
        }
    }

    /// Applies an event: decides, writes under the guard, then does what follows. A lost guard reads and decides again.
    async fn happen(&mut self, record: &mut Record, event: Event) -> Result<(), Rejection> {
        self.happen_with(record, event, |_| {}).await
    }

    async fn happen_with(
        &mut self,
        record: &mut Record,
        event: Event,
        change: impl Fn(&mut Record),
    ) -> Result<(), Rejection> {
        loop {
            let now = self.shop.world.now();
            let step = record.life.step(event.clone(), now)?;
            let mut next = Record { life: step.life, updated_at: now, ..record.clone() };
            change(&mut next);
            stamp(&mut next, now);
            let upload = effects::fate(&step.effects, &next);
            if self.write_decided(record, &mut next, upload).await? {
                for effect in &step.effects {
                    self.effect(record, effect);
                }
                return Ok(());
            }
        }
    }

    /// Writes what was decided, for as long as that takes, or reads what somebody else wrote. Tells which of the two.
    ///
    /// A write that failed may have been carried out. Then the guard is lost to ourselves, and what follows must be done.
    async fn write_decided(
        &mut self,
        record: &mut Record,
        next: &mut Record,
        upload: Option<crate::store::UploadFate>,
    ) -> Result<bool, Rejection> {
        let (mut backoff, mut is_unsure) = (Backoff::for_storage(), false);
        loop {
            match self.write(record, next, upload).await {
                Ok(true) => return Ok(true),
                Ok(false) => {
                    *record = self.newer(&mut backoff).await?;
                    return Ok(is_unsure && *record == Record { version: next.version + 1, ..next.clone() });
                }
                Err(error) => {
                    tracing::error!(download_id = %self.id, error = %chain(&error), "the record cannot be written");
                    is_unsure = true;
                    if !self.pause(&mut backoff).await {
                        return Err(Rejection::NotYet);
                    }
                }
            }
        }
    }

    /// Reads what somebody else wrote, for as long as that takes.
    async fn newer(&self, backoff: &mut Backoff) -> Result<Record, Rejection> {
        loop {
            match self.shop.store.download(self.id).await {
                Ok(Some(newer)) => return Ok(newer),
                Ok(None) => return Err(Rejection::Final),
                Err(error) => {
                    tracing::error!(download_id = %self.id, error = %chain(&error), "the record cannot be read");
                    if !self.pause(backoff).await {
                        return Err(Rejection::NotYet);
                    }
                }
            }
        }
    }

    /// Writes the next record, with the parts that are not written yet.
    async fn write(
        &mut self,
        record: &mut Record,
        next: &mut Record,
        upload: Option<crate::store::UploadFate>,
    ) -> Result<bool, StoreError> {
        let own_table = self.table_of == next.life.attempt;
        next.stored_bytes = if own_table { self.table.stored_bytes() } else { 0 };
        let parts = (own_table && self.unsaved > 0).then(|| (self.table_of, self.table.encode()));
        let saved_parts = parts.is_some();
        if !self.shop.store.save(next, &Along { upload, parts }).await? {
            return Ok(false);
        }
        next.version += 1;
        if saved_parts {
            self.unsaved = 0;
            self.flush_at = None;
            self.flushed_at = Instant::now();
        }
        if next.life.state != record.life.state {
            let reason = next.life.reason.as_ref().map_or("-", |reason| reason.code.as_str());
            let error = next.life.failure.as_ref().map_or("-", |failure| failure.message.as_str());
            tracing::info!(download_id = %self.id, client_id = %next.client_id, attempt = %next.life.attempt,
                from = %record.life.state, to = %next.life.state, reason, error, "download moved");
        }
        record.clone_from(next);
        Ok(true)
    }

    /// Writes receipts that are not written yet.
    async fn flush(&mut self, record: &mut Record) {
        self.flush_at = None;
        if self.unsaved == 0 || record.life.state.is_final() || self.table_of != record.life.attempt {
            self.unsaved = 0;
            return;
        }
        let mut next = Record { updated_at: self.shop.world.now(), ..record.clone() };
        match self.write(record, &mut next, None).await {
            Ok(true) => {}
            // Somebody else wrote: the next event reads the record again. Receipts are repeated by whoever has them.
            Ok(false) => self.unsaved = 0,
            Err(error) => {
                tracing::error!(download_id = %self.id, error = %chain(&error), "receipts cannot be written");
                self.flush_at = Some(Instant::now() + FLUSH_AFTER);
            }
        }
    }

    /// Counts receipts that are new, and sees to it that they are written.
    fn stored(&mut self, count: u32) {
        self.live.stored(self.table.stored_bytes());
        self.unsaved += count;
        let now = Instant::now();
        let due = if self.unsaved >= FLUSH_AFTER_PARTS { now } else { now + FLUSH_AFTER };
        let due = due.max(self.flushed_at + FLUSH_APART);
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
    }

    /// How the present file is cut, once that is fixed.
    fn plan(record: &Record) -> Option<Plan> {
        Plan::resume(record.life.size_bytes?, record.life.upload?.part_size_bytes).ok()
    }
}

/// Notes the times of the first dispatch and of the end.
fn stamp(record: &mut Record, now: Timestamp) {
    if record.life.state == State::Uploading {
        record.started_at.get_or_insert(now);
    }
    if record.life.state.is_final() {
        record.finished_at.get_or_insert(now);
    }
}
