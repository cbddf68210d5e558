//! What everything in a simulation shares: time, chance, weather, the trace, and what was found wrong.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_server::clock;
use hoist_wire::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::chance::Chance;
use super::fault::{Fault, Weather};

/// When every simulation begins, in milliseconds since 1970: 2026-11-25.
const BEGIN_MS: i64 = 1_795_564_800_000;

/// The shared world; a clone is the same world.
#[derive(Debug, Clone)]
pub(crate) struct World(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    born: Instant,
    keep_trace: bool,
    inner: Mutex<Inner>,
    /// Requests on the way: they arrive whatever becomes of their senders.
    network: TaskTracker,
}

#[derive(Debug)]
struct Inner {
    chance: Chance,
    weather: Weather,
    struck: BTreeMap<Fault, u64>,
    skew_ms: i64,
    leap_ms: i64,
    hash: DefaultHasher,
    lines: Vec<String>,
    wrong: Vec<String>,
    put_bytes: u64,
    again_bytes: u64,
}

impl World {
    pub(crate) fn new(seed: u64, keep_trace: bool) -> Self {
        let mut chance = Chance::new(seed);
        let weather = Weather::draw(&mut chance);
        let inner = Inner {
            chance,
            weather,
            struck: BTreeMap::new(),
            skew_ms: 0,
            leap_ms: 0,
            hash: DefaultHasher::new(),
            lines: Vec::new(),
            wrong: Vec::new(),
            put_bytes: 0,
            again_bytes: 0,
        };
        let network = TaskTracker::new();
        Self(Arc::new(Shared { born: Instant::now(), keep_trace, inner: Mutex::new(inner), network }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.born.elapsed()
    }

    /// The true time in nanoseconds since 1970, as file systems note it.
    pub(crate) fn true_ns(&self) -> i64 {
        let ns = i64::try_from(self.elapsed().as_nanos()).unwrap_or(i64::MAX);
        (BEGIN_MS + self.inner().leap_ms).saturating_mul(1_000_000).saturating_add(ns)
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.inner().chance.below(end)
    }

    pub(crate) fn fraction(&self) -> f64 {
        self.inner().chance.fraction()
    }

    /// Gives a time between `from` and `to`, more often a short one.
    pub(crate) fn between(&self, from: Duration, to: Duration) -> Duration {
        let fraction = self.fraction();
        from + (to.saturating_sub(from)).mul_f64(fraction * fraction)
    }

    pub(crate) async fn pause(&self, from_ms: u64, to_ms: u64) {
        sleep(self.between(Duration::from_millis(from_ms), Duration::from_millis(to_ms))).await;
    }

    /// Tells whether a fault strikes on this occasion, and counts it.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        let mut inner = self.inner();
        let odds = inner.weather.odds(fault);
        // No odds, no draw: a calm world moves no numbers.
        let strikes = odds > 0 && inner.chance.below(1000) < u64::from(odds);
        if strikes {
            *inner.struck.entry(fault).or_default() += 1;
        }
        strikes
    }

    pub(crate) fn odds(&self, fault: Fault) -> u16 {
        self.inner().weather.odds(fault)
    }

    pub(crate) fn count(&self, fault: Fault) {
        *self.inner().struck.entry(fault).or_default() += 1;
    }

    pub(crate) fn struck(&self) -> BTreeMap<Fault, u64> {
        self.inner().struck.clone()
    }

    /// Ends all faults that are drawn, and sets the server's clock right.
    pub(crate) fn calm(&self) {
        let mut inner = self.inner();
        inner.weather = Weather::calm();
        inner.skew_ms = 0;
    }

    /// Lets wall clocks everywhere go on by so much, while nothing happens.
    pub(crate) fn leap(&self, ms: i64) {
        self.inner().leap_ms += ms;
    }

    pub(crate) fn skew(&self, ms: i64) {
        self.inner().skew_ms = ms;
    }

    /// How far the server's wall clock is off.
    pub(crate) fn skew_ms(&self) -> i64 {
        self.inner().skew_ms
    }

    /// Writes a line of the trace: hashed always, kept where somebody wants to read it.
    pub(crate) fn trace(&self, line: impl AsRef<str>) {
        let at = self.elapsed();
        let mut inner = self.inner();
        inner.hash.write_u128(at.as_nanos());
        inner.hash.write(line.as_ref().as_bytes());
        if self.0.keep_trace {
            inner.lines.push(format!("{:>10.3} {}", at.as_secs_f64(), line.as_ref()));
        }
    }

    /// Notes that a promise was broken.
    pub(crate) fn wrong(&self, what: String) {
        self.trace(format!("WRONG {what}"));
        self.inner().wrong.push(what);
    }

    /// Gives what was found wrong.
    pub(crate) fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().wrong)
    }

    /// Counts bytes that storage took, and whether it had them before.
    pub(crate) fn put_bytes(&self, bytes: u64, again: bool) {
        let mut inner = self.inner();
        inner.put_bytes += bytes;
        if again {
            inner.again_bytes += bytes;
        }
    }

    /// Gives the bytes that storage took, and those that it had before.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.put_bytes, inner.again_bytes)
    }

    /// Gives the trace's hash, and its lines where they were kept.
    pub(crate) fn take_trace(&self) -> (u64, Vec<String>) {
        let mut inner = self.inner();
        (inner.hash.finish(), std::mem::take(&mut inner.lines))
    }

    /// Sends something on its way that arrives whatever becomes of its sender.
    pub(crate) fn send(&self, arriving: impl Future<Output = ()> + Send + 'static) {
        self.0.network.spawn(arriving);
    }

    /// Tells whether something is on its way.
    pub(crate) fn is_on_the_way(&self) -> bool {
        !self.0.network.is_empty()
    }
}

impl clock::World for World {
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX);
        let inner = self.inner();
        Timestamp(BEGIN_MS.saturating_add(ms).saturating_add(inner.skew_ms + inner.leap_ms))
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut inner = self.inner();
        for chunk in bytes.chunks_mut(8) {
            let random = inner.chance.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
