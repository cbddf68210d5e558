//! How often the agent of one client may come. Pure; time comes in as an argument.
//!
//! Each link costs the store two writes, so an agent that connects and drops every second would use up what others need.
//! Deliberately absent: strangers. Only who has shown a token is counted, so the map has at most one entry a client.

use std::collections::HashMap;
use std::time::Duration;

use hoist_wire::ClientId;
use tokio::time::Instant;

use super::seat::fingerprint;

/// Links that a client may open in a row: an agent that backs off never opens so many.
pub(super) const IN_A_ROW: u32 = 20;

/// How long it takes until one more is allowed. Six a minute are two writes every ten seconds.
pub(super) const ONE_EVERY: Duration = Duration::from_secs(10);

/// Most clients that are counted at once, 24 bytes each: 3 MiB. A client is counted for ten seconds after one link.
const MAX_CLIENTS: usize = 1 << 17;

/// Fewest entries that are worth a sweep.
const SWEPT_FROM: usize = 1024;

/// Who came lately, and how often.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// For each client when it may again open `IN_A_ROW` links in a row; a time that has passed says nothing.
    rested_at: HashMap<u64, Instant>,
    swept_at: Option<Instant>,
}

impl Pace {
    /// Tells how long a client must wait for its next link; nothing where it may come.
    pub(super) fn wait(&self, client: &ClientId, now: Instant) -> Duration {
        let rested_at = self.rested_at.get(&fingerprint(client.as_str()));
        let owed = rested_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        (owed + ONE_EVERY).saturating_sub(ONE_EVERY * IN_A_ROW)
    }

    /// Counts a link.
    pub(super) fn count(&mut self, client: &ClientId, now: Instant) {
        self.sweep(now);
        let key = fingerprint(client.as_str());
        // Where there is no room nobody is refused: a whole estate that flaps is not mended by forgetting half of it.
        if self.rested_at.len() < MAX_CLIENTS || self.rested_at.contains_key(&key) {
            let rested_at = self.rested_at.entry(key).or_insert(now);
            *rested_at = (*rested_at).max(now) + ONE_EVERY;
        }
    }

    /// Drops what says nothing any more, now and then: a sweep looks at every entry.
    fn sweep(&mut self, now: Instant) {
        let is_due = self.swept_at.is_none_or(|at| now - at >= ONE_EVERY);
        if is_due && self.rested_at.len() >= SWEPT_FROM {
            self.rested_at.retain(|_, at| *at > now);
            self.rested_at.shrink_to(2 * self.rested_at.len());
            self.swept_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: usize) -> ClientId {
        format!("restaurant-{n}").parse().unwrap()
    }

    /// Lets a client try every second, and gives when it got in.
    fn every_second(pace: &mut Pace, secs: u64, start: Instant) -> Vec<u64> {
        let tries = (0..secs).filter(|sec| {
            let now = start + Duration::from_secs(*sec);
            let may = pace.wait(&client(1), now).is_zero();
            if may {
                pace.count(&client(1), now);
            }
            may
        });
        tries.collect()
    }

    #[test]
    fn an_agent_that_flaps_every_second_gets_six_links_a_minute() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let hour = every_second(&mut pace, 3600, start);
        assert_eq!(hour[..20], (0..20).collect::<Vec<u64>>());
        assert_eq!(hour.len(), 20 + 3600 / 10 - 1);
        assert!(pace.wait(&client(1), start + Duration::from_secs(3600)) <= ONE_EVERY);
        assert!(pace.wait(&client(2), start).is_zero(), "others do not notice");
        assert_eq!(every_second(&mut pace, 20, start + Duration::from_secs(7200)).len(), 20);
    }

    #[test]
    fn the_wait_that_is_told_is_long_enough_and_not_longer() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        (0..IN_A_ROW).for_each(|_| pace.count(&client(1), now));
        let wait = pace.wait(&client(1), now);
        assert!(!wait.is_zero());
        assert!(pace.wait(&client(1), now + wait).is_zero());
        assert!(!pace.wait(&client(1), now + wait / 2).is_zero());
    }

    #[test]
    fn an_estate_that_comes_back_is_forgotten_again() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..200_000 {
            // 1,000 a second.
            pace.count(&client(n), start + Duration::from_millis(n as u64));
        }
        assert!(pace.rested_at.len() <= 20_000, "{}", pace.rested_at.len());
        for n in 0..200_000 {
            pace.count(&client(n), start + Duration::from_secs(300));
        }
        assert_eq!(pace.rested_at.len(), MAX_CLIENTS, "all at once: the map is full");
        assert!(pace.wait(&client(199_999), start + Duration::from_secs(300)).is_zero());
    }
}
