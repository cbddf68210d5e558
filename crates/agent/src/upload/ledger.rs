//! The parts of one attempt: hashed, asked, granted, sent, confirmed.
//!
//! Deliberately absent: tasks and the link. What happened comes in, what is next comes out; nothing is queued here, so
//! a reconnect is only another look at the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use hoist_engine::plan::Plan;
use hoist_wire::limits::{MAX_PARTS_PER_MESSAGE, PARTS_ANSWER_SECS};
use hoist_wire::to_server::{ReadyPart, Receipt};
use hoist_wire::{Crc64, PartNumber, PartSums};
use tokio::time::Instant;

use crate::upload::address::Checked;

/// A grant with less life than this left counts as old: the request must still reach storage. Of a grant with a short
/// life (its signer's credentials end soon) it is a quarter, or the grant would be old before its first use, for ever.
const GRANT_MARGIN: Duration = Duration::from_secs(5);

/// How long an answer to `parts_ready` may take before it is asked again: the server's promise and some way.
const ASK_AGAIN: Duration = Duration::from_secs(PARTS_ANSWER_SECS as u64 + 5);

/// A grant as it is held here.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) to: Checked,
    pub(crate) old_at: Instant,
    /// A try with it failed: the next one takes a new connection.
    pub(crate) fresh_connection: bool,
}

impl Held {
    /// Tells whether it can no longer be used.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        now >= self.old_at
    }
}

/// Gives the moment at which a grant becomes old that comes now and lives for `life`.
pub(crate) fn old_at(now: Instant, life: Duration) -> Instant {
    now + life.saturating_sub(GRANT_MARGIN.min(life / 4))
}

/// What hashing a part again showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashed {
    /// It is known now.
    Ready,
    /// It is what it was: the network damaged it.
    Same,
    /// It is not what it was.
    Changed,
}

/// What is kept of every part.
#[derive(Debug, Clone, Default)]
struct Entry {
    sums: Option<PartSums>,
    etag: Option<Box<str>>,
    refused_before: bool,
}

/// The state of all parts.
#[derive(Debug)]
pub(crate) struct Ledger {
    plan: Plan,
    parts: Vec<Entry>,
    /// The next part that was never hashed.
    next: u16,
    hashing: Option<PartNumber>,
    rehash: BTreeMap<PartNumber, Held>,
    ready: BTreeSet<PartNumber>,
    asked: BTreeMap<PartNumber, Instant>,
    waiting: BTreeMap<PartNumber, Instant>,
    granted: BTreeMap<PartNumber, Held>,
    sending: BTreeMap<PartNumber, Held>,
    /// In storage by the server's word.
    stored: BTreeSet<PartNumber>,
    /// In storage by storage's word, not yet told to the server.
    untold: Vec<PartNumber>,
    confirmed: usize,
    confirmed_bytes: u64,
    hashed_bytes: u64,
}

impl Ledger {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            parts: vec![Entry::default(); usize::from(plan.count())],
            next: 1,
            hashing: None,
            rehash: BTreeMap::new(),
            ready: BTreeSet::new(),
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            granted: BTreeMap::new(),
            sending: BTreeMap::new(),
            stored: BTreeSet::new(),
            untold: Vec::new(),
            confirmed: 0,
            confirmed_bytes: 0,
            hashed_bytes: 0,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        self.plan
    }

    fn len(&self, number: PartNumber) -> u64 {
        self.plan.part_len(number).unwrap_or(0)
    }

    pub(crate) fn sums(&self, number: PartNumber) -> Option<PartSums> {
        self.parts.get(number.index()).and_then(|entry| entry.sums)
    }

    /// Bytes of the parts hashed so far.
    pub(crate) fn hashed_bytes(&self) -> u64 {
        self.hashed_bytes
    }

    /// Bytes of the parts that are in storage.
    pub(crate) fn confirmed_bytes(&self) -> u64 {
        self.confirmed_bytes
    }

    /// Tells whether storage has every part.
    pub(crate) fn is_complete(&self) -> bool {
        self.confirmed == self.parts.len()
    }

    /// Parts on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.sending.len()
    }

    /// Parts that were asked for or granted and are not yet on their way.
    pub(crate) fn supply(&self) -> usize {
        self.asked.len() + self.waiting.len() + self.granted.len()
    }

    /// Parts that are hashed and neither asked for nor stored.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Gives the next part to hash, unless one is being hashed; `ahead` allows one that was never hashed.
    pub(crate) fn next_to_hash(&mut self, ahead: bool) -> Option<(PartNumber, Range<u64>)> {
        if self.hashing.is_some() {
            return None;
        }
        let number = match self.rehash.keys().next() {
            Some(number) => *number,
            None if ahead && self.next <= self.plan.count() => PartNumber::new(self.next).ok()?,
            None => return None,
        };
        self.hashing = Some(number);
        Some((number, self.plan.range(number)?))
    }

    /// Takes what a part hashes to.
    pub(crate) fn hashed(&mut self, number: PartNumber, sums: PartSums) -> Hashed {
        self.hashing = None;
        if let Some(grant) = self.rehash.remove(&number) {
            if self.sums(number) != Some(sums) {
                return Hashed::Changed;
            }
            self.granted.insert(number, grant);
            return Hashed::Same;
        }
        self.next = self.next.max(number.get() + 1);
        self.hashed_bytes += self.len(number);
        if let Some(entry) = self.parts.get_mut(number.index()) {
            entry.sums = Some(sums);
        }
        self.ready.insert(number);
        Hashed::Ready
    }

    /// Gives at most `most` parts to ask for, and counts them as asked.
    pub(crate) fn ask(&mut self, most: usize, now: Instant) -> Vec<ReadyPart> {
        let most = most.min(MAX_PARTS_PER_MESSAGE);
        let numbers: Vec<PartNumber> = self.ready.iter().copied().take(most).collect();
        numbers
            .into_iter()
            .filter_map(|number| {
                self.ready.remove(&number);
                self.asked.insert(number, now);
                let sums = self.sums(number)?;
                Some(ReadyPart { number, size_bytes: self.len(number), sums })
            })
            .collect()
    }

    /// Makes ready again what was asked too long ago, what waited long enough, and what has an old grant.
    pub(crate) fn refresh(&mut self, now: Instant) {
        let ready = &mut self.ready;
        self.asked.retain(|number, since| now < *since + ASK_AGAIN || !ready.insert(*number));
        self.waiting.retain(|number, until| now < *until || !ready.insert(*number));
        self.granted.retain(|number, grant| !grant.is_old(now) || !ready.insert(*number));
    }

    /// Gives the next moment at which `refresh` may change something.
    pub(crate) fn next_refresh(&self) -> Option<Instant> {
        let asked = self.asked.values().map(|since| *since + ASK_AGAIN).min();
        let waiting = self.waiting.values().copied().min();
        asked.into_iter().chain(waiting).min()
    }

    /// Takes a grant; also for a part that nobody asked for, if it is known and neither on its way nor confirmed: an answer
    /// that comes late, to a question that was asked twice, sends nothing again. Tells whether it was taken.
    pub(crate) fn grant(&mut self, number: PartNumber, to: Checked, old_at: Instant) -> bool {
        let away = self.sending.contains_key(&number) || self.rehash.contains_key(&number);
        if self.sums(number).is_none() || away || self.is_confirmed(number) {
            return false;
        }
        self.forget_place(number);
        self.granted.insert(number, Held { to, old_at, fresh_connection: false });
        true
    }

    /// Takes the server's word that a part is in storage.
    pub(crate) fn stored(&mut self, number: PartNumber) {
        let known = self.sums(number).is_some();
        let away = self.sending.contains_key(&number) || self.rehash.contains_key(&number);
        if !known || away || self.is_confirmed(number) {
            return;
        }
        self.forget_place(number);
        self.stored.insert(number);
        self.confirm(number);
    }

    /// Asks for a part again at `until`.
    pub(crate) fn wait(&mut self, number: PartNumber, until: Instant) {
        if self.asked.remove(&number).is_some() {
            self.waiting.insert(number, until);
        }
    }

    /// Gives the next part to send, and counts it as on its way.
    pub(crate) fn send(&mut self) -> Option<(PartNumber, Held)> {
        let (number, grant) = self.granted.pop_first()?;
        self.sending.insert(number, grant.clone());
        Some((number, grant))
    }

    /// Takes storage's word for a part.
    pub(crate) fn sent(&mut self, number: PartNumber, etag: &str) {
        if self.sending.remove(&number).is_some()
            && let Some(entry) = self.parts.get_mut(number.index())
        {
            entry.etag = Some(etag.into());
            entry.refused_before = false;
            self.untold.push(number);
            self.confirm(number);
        }
    }

    /// Puts a part back, to be tried again with the same grant on a new connection.
    pub(crate) fn again(&mut self, number: PartNumber) {
        if let Some(mut grant) = self.sending.remove(&number) {
            grant.fresh_connection = true;
            self.granted.insert(number, grant);
        }
    }

    /// Puts a part back, to be hashed again before the next try.
    pub(crate) fn hash_again(&mut self, number: PartNumber) {
        if let Some(mut grant) = self.sending.remove(&number) {
            grant.fresh_connection = true;
            self.rehash.insert(number, grant);
        }
    }

    /// Puts a part back, to be asked for again.
    pub(crate) fn grant_refused(&mut self, number: PartNumber, was_old: bool) {
        if self.sending.remove(&number).is_some() {
            self.ready.insert(number);
            if let Some(entry) = self.parts.get_mut(number.index()) {
                entry.refused_before |= !was_old;
            }
        }
    }

    /// Tells about the grant of a part on its way: whether it is old, and whether one before it was refused while fresh.
    pub(crate) fn grant_state(&self, number: PartNumber, now: Instant) -> (bool, bool) {
        let old = self.sending.get(&number).is_some_and(|grant| grant.is_old(now));
        (old, self.parts.get(number.index()).is_some_and(|entry| entry.refused_before))
    }

    /// Gives the receipts that the server was not told yet.
    pub(crate) fn take_untold(&mut self) -> Vec<Receipt> {
        let numbers = std::mem::take(&mut self.untold);
        numbers.into_iter().filter_map(|number| self.receipt(number)).collect()
    }

    /// Starts over with a new link: gives every receipt again, and makes ready what only the server's word placed.
    pub(crate) fn reattach(&mut self) -> Vec<Receipt> {
        self.untold.clear();
        self.ready.extend(std::mem::take(&mut self.asked).into_keys());
        self.ready.extend(std::mem::take(&mut self.waiting).into_keys());
        // Asked once more, so that a server that lost its memory hears of it.
        for number in self.stored.clone() {
            self.take_back(number);
            self.ready.insert(number);
        }
        self.plan.numbers().filter_map(|number| self.receipt(number)).collect()
    }

    /// Gives the checksum of the whole file, once every part was hashed.
    pub(crate) fn whole(&self) -> Option<Crc64> {
        let parts: Option<Vec<(Crc64, u64)>> = self
            .plan
            .numbers()
            .map(|number| self.sums(number).map(|sums| (sums.crc64nvme, self.len(number))))
            .collect();
        parts.map(|parts| crate::upload::reader::combine(parts.into_iter()))
    }

    fn receipt(&self, number: PartNumber) -> Option<Receipt> {
        let entry = self.parts.get(number.index())?;
        let (etag, sums) = (entry.etag.as_deref()?.to_owned(), entry.sums?);
        Some(Receipt { number, size_bytes: self.len(number), etag, sums })
    }

    fn is_confirmed(&self, number: PartNumber) -> bool {
        self.stored.contains(&number)
            || self.parts.get(number.index()).is_some_and(|entry| entry.etag.is_some())
    }

    fn confirm(&mut self, number: PartNumber) {
        self.confirmed += 1;
        self.confirmed_bytes += self.len(number);
    }

    /// Undoes `confirm`: the part will be sent or asked for again.
    fn take_back(&mut self, number: PartNumber) {
        let was_stored = self.stored.remove(&number);
        let was_sent = self.parts.get_mut(number.index()).is_some_and(|entry| entry.etag.take().is_some());
        if was_stored || was_sent {
            self.confirmed -= 1;
            self.confirmed_bytes -= self.len(number);
        }
    }

    fn forget_place(&mut self, number: PartNumber) {
        self.ready.remove(&number);
        self.asked.remove(&number);
        self.waiting.remove(&number);
        self.granted.remove(&number);
    }
}

#[cfg(test)]
mod tests;
