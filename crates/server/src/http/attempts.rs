//! How often an address may fail to show who it is. Pure; time comes in as an argument.
//!
//! No secret of hoist can be guessed: this bounds the work and the lines of log that a stranger causes. What comes from this
//! very machine is not counted: a proxy there stands for everybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that an address may have: a site whose token has ended, and its neighbours behind the same NAT.
const IN_A_ROW: u32 = 100;

/// How long it takes until one more is allowed.
const ONE_EVERY: Duration = Duration::from_secs(2);

/// Most addresses that are counted at once, about 40 bytes each: 2.5 MiB.
const MAX_ADDRESSES: usize = 1 << 16;

/// Who failed lately, and how often.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// For each address (of IPv6 its first 64 bits) when it may again fail `IN_A_ROW` times in a row.
    rested_at: HashMap<IpAddr, Instant>,
    swept_at: Option<Instant>,
}

impl Attempts {
    /// Tells how long an address must wait until it may fail again.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        let rested_at = self.rested_at.get(&network(address));
        let owed = rested_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        (owed + ONE_EVERY).saturating_sub(ONE_EVERY * IN_A_ROW)
    }

    /// Counts a failure.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) {
        if address.is_loopback() {
            return;
        }
        self.sweep(now);
        let key = network(address);
        // Where there is no room nobody is refused: forgetting half of them would only help who has many addresses.
        if self.rested_at.len() < MAX_ADDRESSES || self.rested_at.contains_key(&key) {
            let rested_at = self.rested_at.entry(key).or_insert(now);
            // Who goes on failing does not get further away than one step.
            *rested_at = ((*rested_at).max(now) + ONE_EVERY).min(now + ONE_EVERY * IN_A_ROW);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let is_due = self.swept_at.is_none_or(|at| now - at >= ONE_EVERY);
        if is_due && self.rested_at.len() >= 1024 {
            self.rested_at.retain(|_, at| *at > now);
            self.rested_at.shrink_to(2 * self.rested_at.len());
            self.swept_at = Some(now);
        }
    }
}

/// A site has 2^64 addresses of IPv6 (RFC 6177): they are one.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        short @ IpAddr::V4(_) => short,
        IpAddr::V6(long) => {
            let [a, b, c, d, ..] = long.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_fails_too_often_waits_and_comes_back() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let address = ip("203.0.113.7");
        for _ in 0..IN_A_ROW {
            assert!(attempts.wait(address, now).is_zero());
            attempts.count(address, now);
        }
        let wait = attempts.wait(address, now);
        assert_eq!(wait, ONE_EVERY);
        (0..10_000).for_each(|_| attempts.count(address, now));
        assert_eq!(attempts.wait(address, now), ONE_EVERY, "a flood does not lock the address out");
        assert!(attempts.wait(address, now + ONE_EVERY).is_zero());
        assert!(attempts.wait(ip("203.0.113.8"), now).is_zero(), "others do not notice");
    }

    #[test]
    fn the_addresses_of_one_site_are_one() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        (0..IN_A_ROW).for_each(|n| attempts.count(ip(&format!("2001:db8:1:1::{n:x}")), now));
        assert!(!attempts.wait(ip("2001:db8:1:1::ffff"), now).is_zero());
        assert!(attempts.wait(ip("2001:db8:1:2::1"), now).is_zero());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_this_machine_is_not_counted() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..200_000_u32 {
            attempts.count(IpAddr::from((0x0A00_0000 + n).to_be_bytes()), now);
        }
        assert_eq!(attempts.rested_at.len(), MAX_ADDRESSES);
        attempts.count(ip("10.255.0.1"), now + ONE_EVERY * 2);
        assert_eq!(attempts.rested_at.len(), 1);
        (0..1000).for_each(|_| attempts.count(ip("127.0.0.1"), now));
        assert!(attempts.wait(ip("127.0.0.1"), now).is_zero());
    }
}
