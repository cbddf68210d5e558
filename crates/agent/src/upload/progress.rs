//! How far an attempt is, how fast, and why it waits.
//!
//! Deliberately absent: deciding. The meter only measures, and says when it is time to tell.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hoist_wire::limits::MAX_MESSAGE_BYTES;
use hoist_wire::to_server::{Busy, Progress, Waiting};
use hoist_wire::{PartNumber, ReasonCode};
use tokio::time::Instant;

/// Between two reports while bytes move.
const ACTIVE: Duration = Duration::from_secs(1);

/// Between two reports while nothing moves; below the 30 s of the wire.
const QUIET: Duration = Duration::from_secs(25);

/// Least time between two reports: twice a second.
const LEAST: Duration = Duration::from_millis(500);

/// A rate is told as a reason when it, and not the network, has held bytes back for so long without a break.
const PACED: Duration = Duration::from_secs(10);

/// Samples of a second over which the rate is taken.
const SAMPLES: usize = 5;

/// Why nothing goes on.
#[derive(Debug)]
struct Reason {
    code: ReasonCode,
    message: String,
    since: Instant,
    retry: Instant,
}

/// A part on its way.
#[derive(Debug)]
struct Moving {
    len: u64,
    sent: Arc<AtomicU64>,
}

/// Measures one attempt.
#[derive(Debug)]
pub(crate) struct Meter {
    moved: Arc<AtomicU64>,
    moving: BTreeMap<PartNumber, Moving>,
    samples: VecDeque<(Duration, u64)>,
    sampled: Instant,
    sampled_bytes: u64,
    told: Option<Instant>,
    hurried: bool,
    reason: Option<Reason>,
    /// Which rate holds bytes back, and since when.
    paced: Option<(String, Instant)>,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            moved: Arc::default(),
            moving: BTreeMap::new(),
            samples: VecDeque::new(),
            sampled: now,
            sampled_bytes: 0,
            told: Some(now),
            hurried: false,
            reason: None,
            paced: None,
        }
    }

    /// Gives the counter of all bytes that the network took.
    pub(crate) fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    pub(crate) fn started(&mut self, number: PartNumber, len: u64, sent: &Arc<AtomicU64>) {
        self.moving.insert(number, Moving { len, sent: Arc::clone(sent) });
    }

    pub(crate) fn landed(&mut self, number: PartNumber) {
        self.moving.remove(&number);
    }

    /// No part is on its way any more.
    pub(crate) fn grounded(&mut self) {
        self.moving.clear();
    }

    /// Takes a reason to wait; the same one goes on, a new one is told soon.
    pub(crate) fn waiting(&mut self, code: ReasonCode, message: &str, now: Instant, retry: Instant) {
        let since = self.reason.as_ref().filter(|reason| reason.code == code).map(|reason| reason.since);
        self.hurried |= since.is_none();
        let message = message.chars().take(MAX_MESSAGE_BYTES / 4).collect();
        self.reason = Some(Reason { code, message, since: since.unwrap_or(now), retry });
    }

    /// A part arrived, so nothing waits.
    pub(crate) fn goes_on(&mut self) {
        self.hurried |= self.reason.take().is_some();
    }

    /// Takes which rate held bytes back since the last sample, if one did.
    pub(crate) fn paced(&mut self, by: Option<String>, now: Instant) {
        let since = self.paced.take().map_or(now, |(_, since)| since);
        self.paced = by.map(|by| (by, since));
    }

    /// A grant came: what the server asked to wait for is over. Trouble with storage is not.
    pub(crate) fn granted(&mut self) {
        let storage = [ReasonCode::StorageUnreachable, ReasonCode::StorageThrottled];
        if self.reason.as_ref().is_some_and(|reason| !storage.contains(&reason.code)) {
            self.goes_on();
        }
    }

    /// The next report is due as soon as the wire allows.
    pub(crate) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Gives when the next report is due.
    pub(crate) fn next_report(&self, is_active: bool) -> Instant {
        let told = self.told.unwrap_or(self.sampled);
        told + if self.hurried {
            LEAST
        } else if is_active {
            ACTIVE
        } else {
            QUIET
        }
    }

    /// Gives the bytes since the last sample, about once a second.
    pub(crate) fn sample(&mut self, now: Instant) -> Option<(u64, Duration)> {
        let elapsed = now.duration_since(self.sampled);
        if elapsed < ACTIVE {
            return None;
        }
        let moved = self.moved.load(Ordering::Relaxed);
        let bytes = moved - self.sampled_bytes;
        (self.sampled, self.sampled_bytes) = (now, moved);
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((elapsed, bytes));
        let trying = self.reason.as_ref().is_some_and(|reason| reason.retry <= now);
        if bytes > 0 && trying && !self.moving.is_empty() {
            self.goes_on();
        }
        Some((bytes, elapsed))
    }

    /// Gives bytes a second over the last few seconds; 0 where nothing is known.
    pub(crate) fn rate(&self) -> u64 {
        let (time, bytes) =
            self.samples.iter().fold((Duration::ZERO, 0), |(t, b), (time, bytes)| (t + *time, b + bytes));
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        bytes.saturating_mul(1000).checked_div(millis).unwrap_or(0)
    }

    /// Tells whether a part on its way will be there within `soon`, so that another grant is needed.
    pub(crate) fn needs_grant_within(&self, soon: Duration) -> bool {
        let rests =
            self.moving.values().map(|part| part.len.saturating_sub(part.sent.load(Ordering::Relaxed)));
        let Some(least) = rests.min() else { return true };
        // Nothing measured yet: one part ahead costs little, and a fast link needs it.
        if self.samples.is_empty() {
            return true;
        }
        let share = self.rate() / (self.moving.len() as u64).max(1);
        least <= share.saturating_mul(soon.as_secs())
    }

    /// Gives a report if it is time for one.
    pub(crate) fn report(
        &mut self,
        busy: Busy,
        now: Instant,
        is_active: bool,
        hashed_bytes: u64,
        confirmed_bytes: u64,
    ) -> Option<Progress> {
        if now < self.next_report(is_active) {
            return None;
        }
        self.told = Some(now);
        self.hurried = false;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let trouble = self.reason.as_ref().map(|reason| Waiting {
            code: reason.code,
            message: reason.message.clone(),
            since_ms: ms(now.duration_since(reason.since)),
            retry_in_ms: ms(reason.retry.saturating_duration_since(now)),
        });
        let paced = self.paced.as_ref().filter(|(_, since)| now.duration_since(*since) >= PACED);
        let waiting = trouble.or_else(|| {
            paced.map(|(by, since)| Waiting {
                code: ReasonCode::PausedByRate,
                message: by.clone(),
                since_ms: ms(now.duration_since(*since)),
                retry_in_ms: ms(ACTIVE),
            })
        });
        let on_the_way: u64 = self.moving.values().map(|part| part.sent.load(Ordering::Relaxed)).sum();
        Some(Progress {
            download_id: busy.download_id,
            attempt: busy.attempt,
            hashed_bytes,
            sent_bytes: confirmed_bytes + on_the_way,
            rate_bytes_per_sec: self.rate(),
            waiting,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_wire::{Attempt, DownloadId};

    const SECOND: Duration = Duration::from_secs(1);

    fn busy() -> Busy {
        Busy { download_id: DownloadId::new(1, [0; 10]), attempt: Attempt(1) }
    }

    #[test]
    fn reports_come_at_most_twice_a_second_and_at_least_every_30() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        assert!(meter.report(busy(), start + SECOND / 4, true, 0, 0).is_none());
        assert!(meter.report(busy(), start + SECOND, true, 0, 0).is_some());
        let idle = start + SECOND;
        assert!(meter.report(busy(), idle + 2 * SECOND, false, 0, 0).is_none());
        assert!(meter.report(busy(), idle + 29 * SECOND, false, 0, 0).is_some());
        let waited = idle + 29 * SECOND;
        meter.waiting(ReasonCode::StorageUnreachable, "x", waited, waited + SECOND);
        assert!(meter.report(busy(), waited + SECOND / 4, true, 0, 0).is_none());
        let told = meter.report(busy(), waited + SECOND / 2, false, 7, 5).unwrap();
        let waiting = told.waiting.unwrap();
        assert_eq!((waiting.since_ms, waiting.retry_in_ms), (500, 500));
        assert_eq!((told.hashed_bytes, told.sent_bytes), (7, 5));
    }

    #[test]
    fn a_wait_ends_when_bytes_move_again_or_the_server_grants() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let counter = Arc::new(AtomicU64::new(0));
        meter.waiting(ReasonCode::StorageThrottled, "x", start, start + SECOND);
        meter.granted();
        assert!(meter.reason.is_some());
        meter.started(PartNumber::FIRST, 100, &counter);
        meter.sample(start + 2 * SECOND);
        assert!(meter.reason.is_some());
        meter.moved().fetch_add(10, Ordering::Relaxed);
        meter.sample(start + 4 * SECOND);
        assert!(meter.reason.is_none());
        meter.waiting(ReasonCode::BucketUnavailable, "x", start, start);
        meter.granted();
        assert!(meter.reason.is_none());
    }

    #[test]
    fn grants_are_asked_for_just_before_they_are_needed() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let soon = 30 * SECOND;
        assert!(meter.needs_grant_within(soon));
        let sent = Arc::new(AtomicU64::new(0));
        meter.started(PartNumber::FIRST, 1_000_000, &sent);
        meter.moved().fetch_add(10_000, Ordering::Relaxed);
        meter.sample(start + SECOND);
        assert_eq!(meter.rate(), 10_000);
        assert!(!meter.needs_grant_within(soon));
        sent.store(700_000, Ordering::Relaxed);
        assert!(meter.needs_grant_within(soon));
        meter.landed(PartNumber::FIRST);
        assert!(meter.needs_grant_within(soon));
    }

    #[test]
    fn a_rate_is_the_reason_once_it_held_bytes_back_for_ten_seconds() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let by = || Some("the download is limited to 1024 bytes a second".to_owned());
        let mut at = |second: u32, held: bool| {
            let now = start + second * SECOND;
            meter.paced(by().filter(|_| held), now);
            meter.report(busy(), now, true, 0, 0).unwrap().waiting
        };
        assert!((1..=10).all(|second| at(second, true).is_none()));
        let waiting = at(11, true).unwrap();
        assert_eq!((waiting.code, waiting.since_ms), (ReasonCode::PausedByRate, 10_000));
        assert!(waiting.message.contains("1024"));
        assert!(at(12, false).is_none() && at(13, true).is_none());
        // Trouble with storage goes before it.
        let now = start + 30 * SECOND;
        meter.paced(by(), now);
        meter.waiting(ReasonCode::StorageUnreachable, "x", now, now + SECOND);
        let told = meter.report(busy(), now, true, 0, 0).unwrap().waiting.unwrap();
        assert_eq!(told.code, ReasonCode::StorageUnreachable);
    }
}
