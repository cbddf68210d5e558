//! A limit on bytes a second: a token bucket that hands bytes out in small pieces, so that they trickle evenly.
//!
//! Deliberately absent: the clock, the queue and the waiting. A moment is the time since some start that the caller
//! chose; who comes first is the caller's to say.

use std::time::Duration;

use hoist_wire::limits::MIN_RATE_BYTES_PER_SEC;

/// A piece is what the rate gives in a twentieth of a second …
const PIECES_PER_SEC: u64 = 20;

/// … but no less than this: each costs a system call, and over TLS some 30 bytes more.
const MIN_PIECE_BYTES: u64 = 256;

/// Credit grows for at most a quarter of a second: enough for a late timer, too little to be seen on a thin line.
const BURSTS_PER_SEC: u64 = 4;

/// However many share a rate, each has its turn within so many seconds: storage cuts a PUT that is silent for 20.
const ROUND_SECS: u64 = 2;

/// Credit is counted in billionths of a byte, which makes every sum exact: rate times nanoseconds.
const NANO: u128 = 1_000_000_000;

/// A token bucket. In any span of time it gives at most its rate times the span, and [`Bucket::burst_bytes`] besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: Option<u64>,
    credit: u128,
    at: Duration,
}

/// What can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// So many bytes may leave now.
    Bytes(u64),
    /// Nothing may leave before this time has passed; then it may.
    Wait(Duration),
}

impl Bucket {
    /// Makes an empty bucket of `rate` bytes a second, at least 1 KiB; none lets everything through.
    pub fn new(rate: Option<u64>, now: Duration) -> Self {
        Self { rate: rate.map(sendable), credit: 0, at: now }
    }

    /// Gives the rate in bytes a second; none for no limit.
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Gives the most that leaves beyond the rate, in bytes.
    pub fn burst_bytes(&self) -> u64 {
        self.rate.map_or(0, burst)
    }

    /// Changes the rate from now on. Credit that the new rate would not have let grow is lost.
    pub fn set_rate(&mut self, rate: Option<u64>, now: Duration) {
        self.refill(now);
        self.rate = rate.map(sendable);
        self.credit = self.rate.map_or(0, |rate| self.credit.min(bytes(burst(rate))));
    }

    /// Takes a piece of the `want` bytes that one of `sharers` senders has ready; without a limit all of them.
    pub fn take(&mut self, want: u64, sharers: u64, now: Duration) -> Take {
        self.refill(now);
        let Some(rate) = self.rate else { return Take::Bytes(want) };
        let piece = want.min(piece(rate, sharers));
        let Some(missing) = bytes(piece).checked_sub(self.credit).filter(|missing| *missing > 0) else {
            self.credit -= bytes(piece);
            return Take::Bytes(piece);
        };
        let nanos = missing.div_ceil(u128::from(rate));
        Take::Wait(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Takes back what was given and does not leave after all.
    pub fn put_back(&mut self, unsent: u64) {
        if let Some(rate) = self.rate {
            self.credit = (self.credit + bytes(unsent)).min(bytes(burst(rate)));
        }
    }

    /// Lets credit grow for the time that has passed; a clock that goes back gives none.
    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        if let Some(rate) = self.rate {
            // A second fills every bucket.
            let grown = u128::from(rate) * passed.as_nanos().min(NANO);
            self.credit = (self.credit + grown).min(bytes(burst(rate)));
        }
    }
}

fn sendable(rate: u64) -> u64 {
    rate.max(MIN_RATE_BYTES_PER_SEC)
}

fn bytes(count: u64) -> u128 {
    u128::from(count) * NANO
}

fn burst(rate: u64) -> u64 {
    (rate / BURSTS_PER_SEC).max(MIN_PIECE_BYTES)
}

fn piece(rate: u64, sharers: u64) -> u64 {
    let round = rate.saturating_mul(ROUND_SECS) / sharers.max(1);
    (rate / PIECES_PER_SEC).max(MIN_PIECE_BYTES).min(round).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Duration = Duration::from_secs(1_000);
    const SECOND: Duration = Duration::from_secs(1);

    /// Takes as a sender does that always has `want` bytes ready, for so long; gives what left, and when.
    fn greedy(
        bucket: &mut Bucket,
        want: u64,
        sharers: u64,
        mut now: Duration,
        until: Duration,
    ) -> Vec<(Duration, u64)> {
        let mut left = Vec::new();
        while now <= until {
            match bucket.take(want, sharers, now) {
                Take::Bytes(bytes) => left.push((now, bytes)),
                Take::Wait(wait) => now += wait,
            }
        }
        left
    }

    /// Checks every span between two pieces.
    fn no_span_has_more(left: &[(Duration, u64)], rate: u64, burst: u64) -> Result<(), TestCaseError> {
        for (first, (from, _)) in left.iter().enumerate() {
            let mut sum = 0;
            for (to, bytes) in &left[first..] {
                sum += u128::from(*bytes);
                let most = u128::from(rate) * (*to - *from).as_nanos() / NANO + u128::from(burst);
                prop_assert!(sum <= most, "{sum} bytes in {:?}, {most} at most", *to - *from);
            }
        }
        Ok(())
    }

    fn rate() -> impl Strategy<Value = u64> {
        prop_oneof![1024..4096_u64, 1024..10_000_000_u64, Just(i64::MAX.unsigned_abs())]
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_than_its_rate_and_one_burst(
            rate in rate(),
            steps in proptest::collection::vec((0..3_000_000_u64, 1..1_000_000_u64, 0..20_u64, any::<bool>()), 1..120),
        ) {
            let mut bucket = Bucket::new(Some(rate), START);
            let (mut now, mut left) = (START, Vec::new());
            for (wait_us, want, sharers, comes_back) in steps {
                now += Duration::from_micros(wait_us);
                if let Take::Bytes(bytes) = bucket.take(want, sharers, now) {
                    prop_assert!(bytes > 0 && bytes <= want);
                    if comes_back {
                        bucket.put_back(bytes);
                    } else {
                        left.push((now, bytes));
                    }
                }
            }
            no_span_has_more(&left, rate, bucket.burst_bytes())?;
        }

        #[test]
        fn whoever_waits_as_told_is_served(rate in rate(), want in 1..1_000_000_u64, sharers in 0..300_u64) {
            let mut bucket = Bucket::new(Some(rate), START);
            let Take::Wait(wait) = bucket.take(want, sharers, START) else { panic!("it begins empty") };
            prop_assert!(wait <= SECOND / 4 + Duration::from_nanos(1), "{wait:?}");
            prop_assert!(matches!(bucket.take(want, sharers, START + wait), Take::Bytes(1..)));
        }

        #[test]
        fn a_greedy_sender_gets_all_that_the_rate_gives(rate in 1024..200_000_u64, want in 512..100_000_u64) {
            let mut bucket = Bucket::new(Some(rate), START);
            let left: u64 = greedy(&mut bucket, want, 1, START, START + 20 * SECOND).iter().map(|(_, bytes)| bytes).sum();
            // What is short is the piece that was not whole yet.
            prop_assert!(left <= rate * 20 && left + piece(rate, 1) >= rate * 20, "{left} of {}", rate * 20);
        }

        #[test]
        fn each_of_many_has_its_turn_within_seconds(rate in rate(), sharers in 1..300_u64) {
            let mut bucket = Bucket::new(Some(rate), START);
            let (mut now, mut served) = (START, 0);
            while served < sharers {
                match bucket.take(1_000_000, sharers, now) {
                    Take::Bytes(_) => served += 1,
                    Take::Wait(wait) => now += wait,
                }
            }
            prop_assert!(now - START <= SECOND * 2 + Duration::from_millis(1), "{:?}", now - START);
        }

        #[test]
        fn a_change_counts_at_once(before in rate(), after in 1024..2_000_000_u64, idle_ms in 0..5_000_u64) {
            let mut bucket = Bucket::new(Some(before), START);
            let mut now = START + Duration::from_millis(idle_ms);
            let _ = bucket.take(1_000, 1, now);
            bucket.set_rate(Some(after), now);
            let left = greedy(&mut bucket, 1_000_000, 1, now, now + 3 * SECOND);
            no_span_has_more(&left, after, bucket.burst_bytes())?;
            prop_assert!(left[0].0 - now <= SECOND / 4 + Duration::from_nanos(1), "the old rate still holds it back");
            now += 3 * SECOND;
            bucket.set_rate(None, now);
            prop_assert_eq!(bucket.take(u64::MAX, 1, now), Take::Bytes(u64::MAX));
            // What went by without a limit is no credit.
            bucket.set_rate(Some(after), now);
            prop_assert!(matches!(bucket.take(1_000, 1, now), Take::Wait(_)));
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_and_breaks_nothing() {
        let mut bucket = Bucket::new(Some(1024), START);
        assert!(matches!(bucket.take(256, 1, START - SECOND), Take::Wait(_)));
        assert_eq!(bucket.take(256, 1, START + SECOND), Take::Bytes(256));
        assert!(matches!(bucket.take(256, 1, START), Take::Wait(_)));
    }

    #[test]
    fn a_rate_that_nothing_could_be_sent_at_counts_as_the_lowest() {
        let bucket = Bucket::new(Some(0), START);
        assert_eq!((bucket.rate(), bucket.burst_bytes()), (Some(1024), 256));
    }
}
