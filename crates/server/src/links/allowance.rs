//! How much an agent may say on its link. Pure; time comes in as an argument.
//!
//! An agent that says too much is not thrown out: it is read more slowly, and its own connection holds it back. So a flood
//! costs the server no more than a busy agent does.

use std::time::Duration;

use tokio::time::Instant;

/// What one message uses up: 200 a second. Sixteen downloads that say `progress` twice a second, and `parts_ready` and
/// `receipts` of 5 MiB parts on a line of 1 Gbit/s, are about 80.
const EACH: Duration = Duration::from_millis(5);

/// What may be said at once: 12,000 messages. After a reconnect sixteen attempts of 10,000 parts each repeat their receipts,
/// 16 a message.
const AT_ONCE: Duration = Duration::from_secs(60);

/// What one agent may still say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// When it has all of it again.
    rested_at: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { rested_at: now }
    }

    /// Counts a message.
    pub(super) fn count(&mut self, now: Instant) {
        self.rested_at = self.rested_at.max(now) + EACH;
    }

    /// Gives when the next message may be read, unless that is now.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        let owed = self.rested_at.saturating_duration_since(now);
        (owed > AT_ONCE).then(|| self.rested_at - AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_read_at_its_pace_and_a_busy_agent_at_its_own() {
        let start = Instant::now();
        let (mut allowance, mut now, mut read) = (Allowance::new(start), start, 0_u32);
        while now < start + Duration::from_secs(60) {
            if let Some(at) = allowance.waits_until(now) {
                now = at;
            }
            allowance.count(now);
            read += 1;
        }
        assert!((24_000..=24_010).contains(&read), "12,000 at once, and 200 a second: {read}");
        let mut allowance = Allowance::new(start);
        for n in 0..100_000 {
            let now = start + Duration::from_millis(10) * n;
            assert_eq!(allowance.waits_until(now), None);
            allowance.count(now);
        }
    }
}
