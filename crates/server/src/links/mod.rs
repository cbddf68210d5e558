//! The live links of this node: who is connected, and a mailbox for each.

mod allowance;
mod comeback;
mod desk;
mod door;
mod hello;
mod link;
mod mailbox;
mod pace;
mod pass;
mod revoked;
mod seat;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_wire::to_agent::{Goodbye, GoodbyeReason, ToAgent};
use hoist_wire::{ClientId, DownloadId, LinkSeq, OnChange};

pub use comeback::comeback;
use door::Door;
pub use door::Refusal;
pub(crate) use link::chain;
pub use link::{Link, LinkContext, Socket};
use mailbox::Mailbox;
pub use pass::{Pass, Stamp};
pub use revoked::watch_revocations;
use seat::{Face, Seat};
use tokio::time::Instant;

/// One live link, as the rest of the server sees it: something to drop letters into.
#[derive(Debug)]
pub struct LinkHandle {
    /// Whose link.
    pub client_id: ClientId,
    /// Which one.
    pub seq: LinkSeq,
    /// What the site wants when a file changes, where the request does not say.
    pub on_change: Option<OnChange>,
    /// What it stands on.
    pub stamp: Stamp,
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
    seats: Mutex<HashMap<ClientId, Seat>>,
    door: Door,
    /// All were told to go; who was at the door already is told as well. Changes under the lock of the seats.
    closed: AtomicBool,
}

impl Links {
    fn seats(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a client's live link.
    pub fn get(&self, client: &ClientId) -> Option<Arc<LinkHandle>> {
        self.seats().get(client).map(|seat| Arc::clone(&seat.link))
    }

    /// Tells whether a client is connected to this node.
    pub fn is_connected(&self, client: &ClientId) -> bool {
        self.seats().contains_key(client)
    }

    /// How many links there are.
    pub fn count(&self) -> usize {
        self.seats().len()
    }

    /// Has a client's link look for downloads to start, if there is one.
    pub fn nudge(&self, client: &ClientId) {
        if let Some(link) = self.get(client) {
            link.nudge();
        }
    }

    /// Makes `link` the client's live one, and ends an older one. Gives false when a newer one is there already.
    fn enter(&self, link: &Arc<LinkHandle>, face: Face, now: Instant) -> bool {
        let mut seats = self.seats();
        if seats.get(&link.client_id).is_some_and(|there| there.link.seq > link.seq) {
            return false;
        }
        let older = seats.remove(&link.client_id);
        if let Some(older) = &older {
            older.link.close(Goodbye {
                reason: GoodbyeReason::Replaced,
                message: String::from("a newer link of this client took the place of this one"),
                // A clone that dials at once would throw the newer link out again.
                reconnect_after_ms: 60_000,
            });
        }
        if self.closed.load(Ordering::Relaxed) {
            link.close(Goodbye {
                reason: GoodbyeReason::Stopping,
                message: String::from("the server stops"),
                // Few are so late, and each adds a wait of its own.
                reconnect_after_ms: 5_000,
            });
        }
        seats.insert(link.client_id.clone(), Seat::take(Arc::clone(link), face, older, now));
        true
    }

    /// Removes a link, unless a newer one has its place: a late close keeps the new link.
    fn leave(&self, link: &LinkHandle) {
        let mut seats = self.seats();
        if seats.get(&link.client_id).is_some_and(|there| there.link.seq == link.seq) {
            seats.remove(&link.client_id);
        }
    }

    /// Ends all links; `goodbye` makes the farewell of the n-th of so many.
    pub fn close_all(&self, mut goodbye: impl FnMut(usize, usize) -> Goodbye) {
        let seats = self.seats();
        self.closed.store(true, Ordering::Relaxed);
        let mut links: Vec<_> = seats.values().map(|seat| &seat.link).collect();
        // In an order that a simulation can repeat.
        links.sort_unstable_by(|a, b| a.client_id.cmp(&b.client_id));
        for (nth, link) in links.into_iter().enumerate() {
            link.close(goodbye(nth, seats.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(seq: u64) -> Arc<LinkHandle> {
        let client_id = "restaurant-1".parse().unwrap();
        let stamp = Stamp::Token(hoist_wire::Timestamp(1000));
        Arc::new(LinkHandle {
            client_id,
            seq: LinkSeq(seq),
            on_change: None,
            stamp,
            mailbox: Mailbox::default(),
        })
    }

    fn enter(links: &Links, link: &Arc<LinkHandle>) -> bool {
        links.enter(link, Face::of(None), Instant::now())
    }

    #[test]
    fn a_late_close_keeps_the_new_link() {
        let (links, old, new) = (Links::default(), link(1), link(2));
        assert!(enter(&links, &old) && enter(&links, &new));
        links.leave(&old);
        assert_eq!(links.get(&new.client_id).unwrap().seq, LinkSeq(2));
        links.leave(&new);
        assert!(!links.is_connected(&new.client_id));
    }

    #[test]
    fn who_comes_while_the_server_stops_is_told_to_go() {
        let (links, early, late) = (Links::default(), link(1), link(2));
        assert!(enter(&links, &early));
        let mut told = Vec::new();
        links.close_all(|nth, of| {
            told.push((nth, of));
            Goodbye { reason: GoodbyeReason::Stopping, message: String::new(), reconnect_after_ms: 7 }
        });
        assert_eq!(told, [(0, 1)]);
        assert!(enter(&links, &late));
        for (link, wait) in [(early, 7), (late, 5_000)] {
            let Some(mailbox::Signal::Close(goodbye)) = link.mailbox.signal() else { panic!("no goodbye") };
            assert_eq!((goodbye.reason, goodbye.reconnect_after_ms), (GoodbyeReason::Stopping, wait));
        }
    }

    #[test]
    fn a_link_that_no_longer_holds_is_told_to_stay_away_and_another_is_left_alone() {
        use crate::store::Standing;
        let (links, link) = (Links::default(), link(1));
        assert!(enter(&links, &link));
        links.recheck(&link.client_id, &Standing::default());
        links.recheck(
            &"other".parse().unwrap(),
            &Standing { public_key: Some("key".into()), ..Default::default() },
        );
        assert!(link.mailbox.signal().is_none());
        let revoked = Standing { tokens_not_before: hoist_wire::Timestamp(1001), public_key: None };
        links.recheck(&link.client_id, &revoked);
        let Some(mailbox::Signal::Close(goodbye)) = link.mailbox.signal() else { panic!("no goodbye") };
        assert_eq!((goodbye.reason, goodbye.reconnect_after_ms), (GoodbyeReason::Revoked, 15 * 60 * 1000));
    }

    #[test]
    fn a_late_open_does_not_replace_the_new_link() {
        let (links, old, new) = (Links::default(), link(1), link(2));
        assert!(enter(&links, &new) && !enter(&links, &old));
        assert_eq!(links.get(&new.client_id).unwrap().seq, LinkSeq(2));
    }
}
