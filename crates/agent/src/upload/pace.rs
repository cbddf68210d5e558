//! How fast bytes may leave: one limit for the whole site, and one for each download.
//!
//! Deliberately absent: the arithmetic (`hoist_engine::rate`). Here is the queue before it. A body takes a small piece at a
//! time, and those that wait are served in the order in which they came, so that parts share a rate evenly.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_engine::rate::{Bucket, Take};
use tokio::sync::{Mutex as Turns, Notify};
use tokio::time::{Instant, sleep};

/// Each part in flight should get so much, or fewer fly: 256 kbit/s in bytes, as in `flight`.
const PART_BYTES_PER_SEC: u64 = 256_000 / 8;

/// One limit, and the queue before it.
#[derive(Debug)]
pub(crate) struct Gate {
    start: Instant,
    bucket: Mutex<Bucket>,
    /// Whose turn it is, first come, first served.
    turns: Turns<()>,
    queued: AtomicU64,
    changed: Notify,
}

impl Gate {
    /// Makes a gate of `rate` bytes a second, or one that is open.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        let bucket = Mutex::new(Bucket::new(rate, Duration::ZERO));
        let (turns, queued, changed) = (Turns::default(), AtomicU64::new(0), Notify::new());
        Self { start: Instant::now(), bucket, turns, queued, changed }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rate(&self) -> Option<u64> {
        self.bucket().rate()
    }

    fn set(&self, rate: Option<u64>) {
        self.bucket().set_rate(rate, self.start.elapsed());
        // Whoever waits, waits by the old rate.
        self.changed.notify_waiters();
    }

    fn try_take(&self, want: u64) -> Take {
        self.bucket().take(want, self.queued.load(Ordering::Relaxed), self.start.elapsed())
    }

    /// Waits until something of `want` bytes may leave, and gives how much. Dropping the wait leaves the queue.
    async fn take(&self, want: u64) -> u64 {
        let _queued = Counted::new(&self.queued);
        let _turn = self.turns.lock().await;
        loop {
            // Before the look: a change in between must not be slept through.
            let changed = self.changed.notified();
            match self.try_take(want) {
                Take::Bytes(bytes) => return bytes,
                Take::Wait(wait) => tokio::select! {
                    () = sleep(wait) => {}
                    () = changed => {}
                },
            }
        }
    }
}

/// Counts for as long as it lives.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a gate held bytes back since somebody last asked.
#[derive(Debug, Default)]
struct Held {
    since_asked: AtomicBool,
    waiting: AtomicU64,
}

impl Held {
    /// Notes whether `work` has to wait.
    async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut waiting = None;
        std::future::poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            if polled.is_pending() {
                self.since_asked.store(true, Ordering::Relaxed);
                waiting.get_or_insert_with(|| Counted::new(&self.waiting));
            }
            polled
        })
        .await
    }

    fn ask(&self) -> bool {
        let waits = self.waiting.load(Ordering::Relaxed) > 0;
        self.since_asked.swap(waits, Ordering::Relaxed) || waits
    }
}

/// How fast one download may send: within its own rate and the site's.
#[derive(Debug)]
pub(crate) struct Pace {
    own: Gate,
    site: Arc<Gate>,
    own_held: Held,
    site_held: Held,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>, site: &Arc<Gate>) -> Arc<Self> {
        let (own_held, site_held) = (Held::default(), Held::default());
        Arc::new(Self { own: Gate::new(rate), site: Arc::clone(site), own_held, site_held })
    }

    #[cfg(test)]
    pub(super) fn free() -> Arc<Self> {
        Self::new(None, &Arc::new(Gate::new(None)))
    }

    /// Changes the download's rate, for bytes that wait too.
    pub(crate) fn set(&self, rate: Option<u64>) {
        if self.own.rate() != rate {
            self.own.set(rate);
        }
    }

    /// Tells whether nothing is held back.
    pub(super) fn is_free(&self) -> bool {
        self.own.rate().is_none() && self.site.rate().is_none()
    }

    /// Waits until something of `want` bytes may leave, and gives how much: at least one, if any is wanted.
    pub(super) async fn take(self: Arc<Self>, want: u64) -> u64 {
        let own = self.own_held.watch(self.own.take(want)).await;
        let both = self.site_held.watch(self.site.take(own)).await;
        self.own.bucket().put_back(own - both);
        both
    }

    /// Gives how many parts it makes sense to send at once: one at a tight rate, so that it arrives some day.
    pub(super) fn most_parts(&self) -> usize {
        let rate = [self.own.rate(), self.site.rate()].into_iter().flatten().min();
        rate.map_or(usize::MAX, |rate| {
            usize::try_from(rate / PART_BYTES_PER_SEC).unwrap_or(usize::MAX).max(1)
        })
    }

    /// Says which rate held bytes back since the last look, or does so now.
    pub(super) fn held_by(&self) -> Option<String> {
        let (own, site) = (self.own_held.ask(), self.site_held.ask());
        match (self.own.rate().filter(|_| own), self.site.rate().filter(|_| site)) {
            (Some(rate), _) => Some(format!("the download is limited to {rate} bytes a second")),
            (None, Some(rate)) => Some(format!(
                "all downloads of this site share {rate} bytes a second (MAX_RATE of its agent)"
            )),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::task::JoinSet;

    const KIB: u64 = 1024;
    const SECOND: Duration = Duration::from_secs(1);

    fn pace(own: Option<u64>, site: Option<u64>) -> Arc<Pace> {
        Pace::new(own, &Arc::new(Gate::new(site)))
    }

    /// Sends without a pause for so long; gives when each piece left, and its bytes.
    async fn send(pace: Arc<Pace>, secs: u32) -> Vec<(Instant, u64)> {
        let (mut left, end) = (Vec::new(), Instant::now() + secs * SECOND);
        while let Ok(bytes) = tokio::time::timeout_at(end, Arc::clone(&pace).take(256 * KIB)).await {
            left.push((Instant::now(), bytes));
        }
        left
    }

    /// Sends all of them at once; gives what each sent.
    async fn send_all(paces: impl IntoIterator<Item = Arc<Pace>>, secs: u32) -> Vec<Vec<(Instant, u64)>> {
        let mut tasks = JoinSet::new();
        for pace in paces {
            tasks.spawn(send(pace, secs));
        }
        tasks.join_all().await
    }

    fn sum(left: &[(Instant, u64)]) -> u64 {
        left.iter().map(|(_, bytes)| bytes).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn parts_share_a_rate_evenly_and_use_all_of_it() {
        let pace = pace(Some(64 * KIB), None);
        let sent: Vec<u64> = send_all(vec![pace; 4], 20).await.iter().map(|left| sum(left)).collect();
        let whole: u64 = sent.iter().sum();
        assert!((62 * 20 * KIB..=64 * 20 * KIB + 16 * KIB).contains(&whole), "{sent:?}");
        assert!(sent.iter().all(|part| part.abs_diff(whole / 4) <= 4 * KIB), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_share_what_the_site_allows_and_keep_their_own_rates() {
        let site = Arc::new(Gate::new(Some(64 * KIB)));
        let paces = [Pace::new(None, &site), Pace::new(Some(8 * KIB), &site)];
        let sent: Vec<u64> = send_all(paces, 20).await.iter().map(|left| sum(left)).collect();
        let (least, most) = (*sent.iter().min().unwrap(), *sent.iter().max().unwrap());
        assert!((7 * 20 * KIB..=8 * 20 * KIB + 2 * KIB).contains(&least), "{sent:?}");
        assert!((54 * 20 * KIB..=57 * 20 * KIB).contains(&most), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_lowest_rate_no_part_of_many_is_silent_for_long() {
        let site = Arc::new(Gate::new(Some(KIB)));
        let paces = (0..16).flat_map(|_| vec![Pace::new(Some(KIB), &site); 4]);
        for left in send_all(paces, 60).await {
            let gaps = left.windows(2).map(|pair| pair[1].0 - pair[0].0);
            assert!(left.len() > 10 && gaps.max().unwrap() < 5 * SECOND, "{left:?}");
        }
        let alone = send(pace(Some(KIB), None), 60).await;
        let gaps = alone.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.max().unwrap() < SECOND, "{alone:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_felt_by_those_who_wait() {
        let pace = pace(Some(KIB), None);
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            tasks.spawn(Arc::clone(&pace).take(256 * KIB));
        }
        // Each has polled its first wait.
        tokio::task::yield_now().await;
        assert!(pace.held_by().is_some());
        let changed = Instant::now();
        pace.set(None);
        let taken: u64 = tasks.join_all().await.iter().sum();
        assert_eq!((taken, changed.elapsed()), (8 * 256 * KIB, Duration::ZERO));
        assert!(pace.is_free() && pace.held_by().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_the_queue() {
        let pace = pace(Some(KIB), Some(KIB));
        let mut first = Box::pin(Arc::clone(&pace).take(KIB));
        let mut second = Box::pin(Arc::clone(&pace).take(KIB));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.await > 0);
        assert_eq!(pace.own.queued.load(Ordering::Relaxed), 0);
        // Seen once, and then no longer.
        assert!(pace.held_by().is_some() && pace.held_by().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_that_holds_back_is_named_and_a_slow_network_is_not_blamed_on_it() {
        let (own, site) = (pace(Some(KIB), Some(64 * KIB)), pace(Some(64 * KIB), Some(2 * KIB)));
        send(Arc::clone(&own), 5).await;
        send(Arc::clone(&site), 5).await;
        assert!(own.held_by().unwrap().contains("download is limited to 1024"));
        // The bucket of the wider rate begins empty too: once.
        site.held_by();
        send(Arc::clone(&site), 5).await;
        assert!(site.held_by().unwrap().contains("share 2048"));
        let wide = pace(Some(64 * KIB), None);
        Arc::clone(&wide).take(1).await;
        wide.held_by();
        for _ in 0..20 {
            tokio::time::sleep(SECOND).await;
            assert!(Arc::clone(&wide).take(KIB).await > 0);
            assert!(wide.held_by().is_none());
        }
    }

    #[test]
    fn at_a_tight_rate_one_part_flies() {
        let most = |own, site| pace(own, site).most_parts();
        assert_eq!(most(Some(KIB), None), 1);
        assert_eq!(most(Some(1_000_000), Some(64_000)), 2);
        assert_eq!(most(None, None), usize::MAX);
    }
}
