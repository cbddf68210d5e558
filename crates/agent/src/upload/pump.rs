//! What an attempt does next: start PUTs, ask for grants, hash ahead, tell receipts and progress.
//!
//! Deliberately absent: waiting. It is called after every event and starts only what can start now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hoist_wire::to_server::{Busy, PartsReady, Refused};
use hoist_wire::{Batch, ToServer};
use tokio::time::Instant;

use super::ground::Part;
use super::put::Counters;
use super::{Done, Said, Upload, finish};

/// A grant that another connection will need within this time is asked for now.
const SOON: Duration = Duration::from_secs(30);

/// Parts asked for ahead while the server finds them stored: a whole message.
const STORED_STREAK: usize = hoist_wire::limits::MAX_PARTS_PER_MESSAGE;

impl Upload {
    /// Starts whatever can start.
    pub(super) async fn pump(&mut self, now: Instant) -> Result<(), Refused> {
        let soon = self.meter.needs_grant_within(SOON);
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        accepted.ledger.refresh(now);
        if accepted.hold.is_some_and(|until| until <= now) {
            accepted.hold = None;
        }
        self.start_puts();
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        let limit = accepted.flight.limit().min(self.task.pace.most_parts());
        let free = limit.saturating_sub(accepted.ledger.in_flight());
        let mut wanted = if soon { free + limit } else { free };
        if accepted.stored_streak {
            wanted = wanted.max(STORED_STREAK);
        }
        let (supply, ready) = (accepted.ledger.supply(), accepted.ledger.ready());
        let asked = accepted.ledger.ask(wanted.saturating_sub(supply), now);
        // One part more than will be asked for, so that the disk is ahead of the network.
        let ahead = supply + ready < wanted + 1;
        let hash = accepted.ledger.next_to_hash(ahead);
        let needs_md5 = accepted.accept.checksum.needs_md5();
        let receipts = accepted.ledger.take_untold();
        let is_complete = accepted.ledger.is_complete() && accepted.finished.is_none() && !accepted.checking;
        accepted.checking |= is_complete;

        if let Some((number, range)) = hash {
            let (source, reads) = (Arc::clone(&self.source), self.reads.clone());
            let counter = Arc::clone(&self.hashing);
            let (first, on_change) = (self.offer.identity, self.task.on_change);
            self.read_aside(move || {
                let hashed = Arc::clone(&source).hash(range, needs_md5, &reads, &counter);
                // Seen now, a change costs one part and not the rest of the pass.
                Done::Hashed(
                    number,
                    hashed.and_then(|sums| finish::unchanged(&*source, &first, on_change).map(|_| sums)),
                )
            });
        }
        self.say_receipts(receipts).await;
        let Busy { download_id, attempt } = self.task.busy;
        for parts in Batch::split(asked) {
            self.say(ToServer::PartsReady(PartsReady { download_id, attempt, parts })).await;
        }
        if is_complete {
            self.check_at_the_end()?;
        }
        Ok(())
    }

    fn start_puts(&mut self) {
        let Some(accepted) = &mut self.accepted else { return };
        let limit = accepted.flight.limit().min(self.task.pace.most_parts());
        while accepted.hold.is_none() && accepted.ledger.in_flight() < limit {
            let Some((number, grant)) = accepted.ledger.send() else { return };
            let (Some(range), Some(sums)) =
                (accepted.ledger.plan().range(number), accepted.ledger.sums(number))
            else {
                return;
            };
            let counters = Counters { part: Arc::default(), moved: self.meter.moved() };
            self.meter.started(number, range.end - range.start, &counters.part);
            let part = Part {
                range,
                crc: sums.crc64nvme,
                to: grant.to,
                fresh: grant.fresh_connection,
                pace: Arc::clone(&self.task.pace),
                counters,
            };
            let putting = Arc::clone(&self.source).put(part);
            self.jobs.spawn(async move { Done::Put(number, putting.await) });
        }
    }

    /// Says how far it is, if it is time.
    pub(super) async fn report(&mut self, now: Instant) {
        let Some(accepted) = &mut self.accepted else {
            if let Some(progress) = self.meter.report(self.task.busy, now, false, 0, 0) {
                self.say(ToServer::Progress(progress)).await;
            }
            return;
        };
        if accepted.finished.is_some() {
            return;
        }
        let in_flight = accepted.ledger.in_flight();
        if let Some((bytes, elapsed)) = self.meter.sample(now) {
            let held = self.task.pace.held_by();
            match &held {
                // What left says how fast it may, not how fast it could.
                Some(_) => accepted.flight.paced(elapsed),
                None => accepted.flight.sample(bytes, elapsed, in_flight),
            }
            self.meter.paced(held, now);
        }
        let hashed = accepted.ledger.hashed_bytes() + self.hashing.load(Ordering::Relaxed);
        let hashed = hashed.min(self.offer.size_bytes);
        let confirmed = accepted.ledger.confirmed_bytes();
        let is_active = self.is_active();
        if let Some(progress) = self.meter.report(self.task.busy, now, is_active, hashed, confirmed) {
            // The newest one is all that counts: where the queue is full, the next one says it.
            let _ =
                self.task.say.try_send(Said { link: self.task.link, message: ToServer::Progress(progress) });
        }
    }
}
