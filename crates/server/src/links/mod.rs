//! The live links of this node: who is connected, and a mailbox for each.

mod desk;
mod link;
mod mailbox;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_wire::to_agent::{Goodbye, GoodbyeReason, ToAgent};
use hoist_wire::{ClientId, DownloadId, LinkSeq};

pub(crate) use link::chain;
pub use link::{Link, LinkContext, Socket};
use mailbox::Mailbox;

/// One live link, as the rest of the server sees it: something to drop letters into.
#[derive(Debug)]
pub struct LinkHandle {
    /// Whose link.
    pub client_id: ClientId,
    /// Which one.
    pub seq: LinkSeq,
    mailbox: Mailbox,
}

impl LinkHandle {
    /// Queues a message. A link whose queue is full is closed: its agent reads too slowly.
    pub fn say(&self, message: ToAgent) {
        self.mailbox.say(message);
    }

    /// Has the link look for downloads to start.
    pub fn nudge(&self) {
        self.mailbox.nudge();
    }

    /// Tells the link that a download no longer takes one of its slots.
    pub fn free(&self, download: DownloadId) {
        self.mailbox.free(download);
    }

    /// Ends the link.
    pub fn close(&self, goodbye: Goodbye) {
        self.mailbox.close(goodbye);
    }
}

/// All live links of this node.
#[derive(Debug, Default)]
pub struct Links {
    live: Mutex<HashMap<ClientId, Arc<LinkHandle>>>,
}

impl Links {
    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Arc<LinkHandle>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a client's live link.
    pub fn get(&self, client: &ClientId) -> Option<Arc<LinkHandle>> {
        self.live().get(client).cloned()
    }

    /// Tells whether a client is connected to this node.
    pub fn is_connected(&self, client: &ClientId) -> bool {
        self.live().contains_key(client)
    }

    /// How many links there are.
    pub fn count(&self) -> usize {
        self.live().len()
    }

    /// Has a client's link look for downloads to start, if there is one.
    pub fn nudge(&self, client: &ClientId) {
        if let Some(link) = self.get(client) {
            link.nudge();
        }
    }

    /// Makes `link` the client's live one, and ends an older one. Gives false when a newer one is there already.
    fn enter(&self, link: &Arc<LinkHandle>) -> bool {
        let mut live = self.live();
        if live.get(&link.client_id).is_some_and(|there| there.seq > link.seq) {
            return false;
        }
        if let Some(older) = live.insert(link.client_id.clone(), Arc::clone(link)) {
            older.close(Goodbye {
                reason: GoodbyeReason::Replaced,
                message: String::from("a newer link of this client took the place of this one"),
                // A clone that dials at once would throw the newer link out again.
                reconnect_after_ms: 60_000,
            });
        }
        true
    }

    /// Removes a link, unless a newer one has its place: a late close keeps the new link.
    fn leave(&self, link: &LinkHandle) {
        let mut live = self.live();
        if live.get(&link.client_id).is_some_and(|there| there.seq == link.seq) {
            live.remove(&link.client_id);
        }
    }

    /// Ends all links; `goodbye` makes each one's farewell.
    pub fn close_all(&self, mut goodbye: impl FnMut() -> Goodbye) {
        let mut links: Vec<_> = self.live().values().cloned().collect();
        // In an order that a simulation can repeat.
        links.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        for link in links {
            link.close(goodbye());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(seq: u64) -> Arc<LinkHandle> {
        let client_id = "restaurant-1".parse().unwrap();
        Arc::new(LinkHandle { client_id, seq: LinkSeq(seq), mailbox: Mailbox::default() })
    }

    #[test]
    fn a_late_close_keeps_the_new_link() {
        let (links, old, new) = (Links::default(), link(1), link(2));
        assert!(links.enter(&old) && links.enter(&new));
        links.leave(&old);
        assert_eq!(links.get(&new.client_id).unwrap().seq, LinkSeq(2));
        links.leave(&new);
        assert!(!links.is_connected(&new.client_id));
    }

    #[test]
    fn a_late_open_does_not_replace_the_new_link() {
        let (links, old, new) = (Links::default(), link(1), link(2));
        assert!(links.enter(&new) && !links.enter(&old));
        assert_eq!(links.get(&new.client_id).unwrap().seq, LinkSeq(2));
    }
}
