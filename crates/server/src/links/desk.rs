//! Which downloads an agent is given: first in, first out, never more than it has slots.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_wire::limits::MAX_SLOTS;
use hoist_wire::to_agent::{Forget, ToAgent};
use hoist_wire::to_server::Busy;
use hoist_wire::{Attempt, DownloadId, Outcome, State, Timestamp};

use super::LinkHandle;
use crate::downloads::{Downloads, Letter, LetterBox};
use crate::store::StoreError;

/// A download that takes a slot.
#[derive(Debug)]
struct Out {
    /// The attempt that the agent was last told of; none while its `fetch` is on the way.
    attempt: Option<Attempt>,
    /// Its driver; none where the agent was told to forget at once.
    driver: Option<LetterBox>,
    /// The agent was told to forget it.
    told_to_forget: bool,
}

/// What an agent's `forgotten` means for its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// Nothing: it comes late.
    Late,
    /// A slot is free.
    AsTold,
    /// A slot is free, and the agent has let go by itself of what it will be asked for again.
    Unasked,
}

/// The slots of one link.
#[derive(Debug)]
pub(super) struct Desk {
    slots: usize,
    out: BTreeMap<DownloadId, Out>,
    downloads: Arc<Downloads>,
    link: Arc<LinkHandle>,
}

impl Desk {
    pub(super) fn new(slots: u8, downloads: Arc<Downloads>, link: Arc<LinkHandle>) -> Self {
        Self { slots: slots.clamp(1, MAX_SLOTS).into(), out: BTreeMap::new(), downloads, link }
    }

    /// Takes up what the agent says it is working on: it goes on, or is told to forget.
    pub(super) async fn take_up(&mut self, busy: &[Busy]) -> Result<(), StoreError> {
        for Busy { download_id, attempt } in busy.iter().copied() {
            if self.out.contains_key(&download_id) {
                continue;
            }
            let record = self.downloads.record(download_id).await?;
            let own = record.filter(|record| record.client_id == self.link.client_id);
            let state = own.as_ref().map(|record| record.life.state);
            let current = own.is_some_and(|record| record.life.attempt == attempt);
            let letter = match state {
                Some(State::Uploading) if current => {
                    Some(Letter::Dispatch { link: Arc::clone(&self.link), continues: Some(attempt) })
                }
                Some(State::Completing) if current => Some(Letter::Attach { link: Arc::clone(&self.link) }),
                Some(_) | None => None,
            };
            let driver = match letter {
                Some(letter) => Some(self.downloads.drive(download_id, letter).await),
                None => {
                    let outcome = forgotten_as(state);
                    self.link.say(ToAgent::Forget(Forget { download_id, attempt, outcome }));
                    None
                }
            };
            self.out.insert(download_id, Out { attempt: Some(attempt), driver, told_to_forget: false });
        }
        Ok(())
    }

    /// Starts what is due while there are free slots. Gives the time at which more may be due.
    pub(super) async fn fill(&mut self) -> Result<Option<Timestamp>, StoreError> {
        if self.out.len() >= self.slots {
            return Ok(None);
        }
        // What is out already may come back among the due, so ask for that many more.
        let due = self.downloads.due(&self.link.client_id, self.slots).await?;
        for id in due.ids {
            if self.out.len() >= self.slots {
                return Ok(None);
            }
            if !self.out.contains_key(&id) {
                let letter = Letter::Dispatch { link: Arc::clone(&self.link), continues: None };
                let to = self.downloads.drive(id, letter).await;
                self.out.insert(id, Out { attempt: None, driver: Some(to), told_to_forget: false });
            }
        }
        Ok(due.next_at)
    }

    /// Frees a slot, as the download's driver wants it.
    pub(super) fn free(&mut self, download: DownloadId) {
        self.out.remove(&download);
    }

    /// Notes which attempt the agent is being told of.
    pub(super) fn fetched(&mut self, download: DownloadId, attempt: Attempt) {
        if let Some(out) = self.out.get_mut(&download) {
            out.attempt = Some(attempt);
            out.told_to_forget = false;
        }
    }

    /// Notes that the agent is being told to forget an attempt.
    pub(super) fn told_to_forget(&mut self, download: DownloadId, attempt: Attempt) {
        if let Some(out) = self.out.get_mut(&download)
            && out.attempt.is_none_or(|newest| newest <= attempt)
        {
            out.told_to_forget = true;
        }
    }

    /// Frees the slot of an attempt that the agent has dropped. What it says of an older attempt comes late and frees
    /// nothing.
    pub(super) async fn forgotten(&mut self, about: Busy) -> Forgotten {
        let newest = self.out.get(&about.download_id).and_then(|out| out.attempt);
        if newest.is_none_or(|newest| about.attempt < newest) {
            return Forgotten::Late;
        }
        let out = self.out.remove(&about.download_id);
        let told = out.as_ref().is_some_and(|out| out.told_to_forget || out.driver.is_none());
        if let Some(driver) = out.and_then(|out| out.driver) {
            // Nobody works on it any more, whatever its driver may think.
            driver.deliver(Letter::LinkLost { link: self.link.seq }).await;
        }
        if told { Forgotten::AsTold } else { Forgotten::Unasked }
    }

    /// Gives the driver of a download that is out on this link.
    pub(super) fn driver(&self, download: DownloadId) -> Option<&LetterBox> {
        self.out.get(&download)?.driver.as_ref()
    }

    /// Tells all drivers that the link is gone.
    pub(super) async fn close(&mut self) {
        for to in std::mem::take(&mut self.out).into_values().filter_map(|out| out.driver) {
            to.deliver(Letter::LinkLost { link: self.link.seq }).await;
        }
    }
}

fn forgotten_as(state: Option<State>) -> Outcome {
    match state {
        Some(State::Completed) => Outcome::Completed,
        Some(State::Failed) | None => Outcome::Failed,
        Some(State::Cancelled) => Outcome::Cancelled,
        Some(State::Expired) => Outcome::Expired,
        Some(State::Queued) => Outcome::Requeued,
        Some(State::Uploading | State::Completing) => Outcome::Superseded,
    }
}
