//! Refusals: a few of each address are listed each minute, the others are counted, and no number is lost.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Refusals of an address that are listed in a minute, one by one.
const LISTED: u64 = 20;

/// Most addresses that are told apart in a minute; the others are counted together.
const MAX_ADDRESSES: usize = 4096;

/// What one address has had refused in this minute.
#[derive(Debug, Default)]
struct Seen {
    listed: u64,
    counted: u64,
}

/// The refusals of this minute.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Option<IpAddr>, Seen>>);

impl Refusals {
    /// Tells whether a refusal is to be listed; where it is not, it is counted.
    pub(super) fn takes(&self, from: Option<IpAddr>) -> bool {
        self.with(from, |seen| {
            let is_listed = seen.listed < LISTED;
            if is_listed {
                seen.listed += 1
            } else {
                seen.counted += 1
            }
            is_listed
        })
    }

    /// Counts a refusal that was to be listed and cannot be.
    pub(super) fn count(&self, from: Option<IpAddr>) {
        self.with(from, |seen| seen.counted += 1);
    }

    fn with<T>(&self, from: Option<IpAddr>, change: impl FnOnce(&mut Seen) -> T) -> T {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = minute.len() >= MAX_ADDRESSES && !minute.contains_key(&from);
        change(minute.entry(if is_full { None } else { from }).or_default())
    }

    /// Ends the minute: gives what was counted and not listed, by address.
    pub(super) fn end(&self) -> Vec<(Option<IpAddr>, u64)> {
        let minute = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut counted: Vec<_> = minute.into_iter().map(|(from, seen)| (from, seen.counted)).collect();
        counted.retain(|(_, count)| *count > 0);
        counted.sort_unstable();
        counted
    }

    /// Counts again what could not be written.
    pub(super) fn give_back(&self, counted: Vec<(Option<IpAddr>, u64)>) {
        for (from, count) in counted {
            self.with(from, |seen| seen.counted += count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_to_the_last_one_and_is_bounded() {
        let refusals = Refusals::default();
        let one = Some(IpAddr::from([203, 0, 113, 7]));
        let listed = (0..5_000).filter(|_| refusals.takes(one)).count() as u64;
        assert_eq!((listed, refusals.end()), (LISTED, vec![(one, 5_000 - LISTED)]));
        assert!(refusals.takes(one), "a new minute");
        for n in 0..100_000_u32 {
            refusals.takes(Some(IpAddr::from(n.to_be_bytes())));
        }
        let listed_alone = MAX_ADDRESSES as u64 - 1;
        let counted: u64 = refusals.end().iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 100_000 - listed_alone - LISTED);
        refusals.give_back(vec![(one, 7)]);
        assert_eq!(refusals.end(), [(one, 7)]);
    }
}
