//! How long to wait before trying again: exponential, full jitter, a cap. It is data; somebody else waits.

use std::time::Duration;

/// A back-off: the n-th delay lies between nothing and `min(cap, base * 2^n)`, evenly spread ("full jitter").
///
/// Retries are limited in rate, never in number, so there is no end to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// For an agent that dials its server: 1 s doubling up to 60 s.
    pub const fn for_links() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// For a call to storage: 0.5 s doubling up to 30 s.
    pub const fn for_storage() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }

    /// Makes a back-off that starts at `base` and never exceeds `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// Counts a failure and gives the wait before the next try; `chance` is evenly spread over 0.0..1.0.
    pub fn next_delay(&mut self, chance: f64) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// The longest wait that the next failure can bring.
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Failures since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts again from `base`. A link must have lived for a while first, or a flapping one never backs off.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// How long a link must live before its agent's back-off starts again.
pub const LINK_PROVEN_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_doubles_up_to_the_cap_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let delays: Vec<u64> = (0..8).map(|_| backoff.next_delay(1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_delay_is_over_the_cap(chances in proptest::collection::vec(-1.0..2.0_f64, 1..200)) {
            let mut backoff = Backoff::for_links();
            for chance in chances {
                prop_assert!(backoff.next_delay(chance) <= Duration::from_secs(60));
            }
        }
    }
}
