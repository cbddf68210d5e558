//! How many connections there are: of all together, of strangers at one address, of one caller, and links of one address.
//!
//! A stranger is a connection on which nobody was recognised yet. Many honest sites may share one address, behind a NAT or a
//! proxy; so who is recognised is no longer counted among its strangers, but by who it is. Whoever has more connections
//! than one caller needs stays among the strangers with the rest: one stolen token opens no more doors than that.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::headroom::Headroom;
use crate::http::network;

/// Most connections that are turned away with an answer at once; the others are closed without one.
const MAX_REFUSING: usize = 64;

/// Most connections that count for the one caller who was recognised on them. A browser opens six, an agent two.
const MOST_OF_ONE: usize = 256;

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Too few files or too little memory are left.
    Server,
    /// Its address has too many connections on which nobody was recognised.
    Address,
}

/// All connections.
#[derive(Debug)]
pub struct Crowd {
    /// Connections that are open, links among them.
    open: AtomicUsize,
    headroom: Arc<Headroom>,
    strangers: Mutex<HashMap<IpAddr, usize>>,
    most_strangers: usize,
    /// Connections by who was recognised on them, as [`Crowd::names`] hashes it: of 100,000 agents no name is kept twice.
    callers: Mutex<HashMap<u64, usize>>,
    names: RandomState,
    links: Mutex<HashMap<IpAddr, usize>>,
    /// Most links of one address; none for no limit.
    most_links: Option<usize>,
    refusing: Arc<Semaphore>,
}

impl Crowd {
    /// Makes an empty one.
    pub fn new(headroom: Arc<Headroom>, most_strangers: usize, most_links: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            headroom,
            strangers: Mutex::default(),
            most_strangers,
            callers: Mutex::default(),
            names: RandomState::new(),
            links: Mutex::default(),
            most_links,
            refusing: Arc::new(Semaphore::new(MAX_REFUSING)),
        })
    }

    /// Gives a connection its place; `address` is none for a proxy of ours, whose strangers are others.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Full> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let mut place =
            Place { crowd: Arc::clone(self), address: None, counted: Mutex::new(Counted::Nowhere) };
        if !self.headroom.has_room(open) {
            return Err(Full::Server);
        }
        if let Some(address) = address.map(network) {
            if !count(&self.strangers, address, self.most_strangers) {
                return Err(Full::Address);
            }
            place.address = Some(address);
            place.counted = Mutex::new(Counted::Stranger);
        }
        Ok(place)
    }

    /// Looks at what is left of files and memory, until the stop.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        self.headroom.watch(|| self.open.load(Ordering::Relaxed), stop).await;
    }

    /// Gives a desk at which one connection is turned away; none when all are taken.
    pub(super) fn refusing(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusing).try_acquire_owned().ok()
    }

    /// Counts a link of an address; none when that has as many as it may.
    pub(crate) fn link(self: &Arc<Self>, address: IpAddr) -> Option<Linked> {
        let address = network(address);
        let Some(most) = self.most_links else { return Some(Linked { crowd: None, address }) };
        count(&self.links, address, most).then(|| Linked { crowd: Some(Arc::clone(self)), address })
    }
}

/// Counts one more, unless there are `most` already.
fn count<K: Hash + Eq>(map: &Mutex<HashMap<K, usize>>, key: K, most: usize) -> bool {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    let there = map.entry(key).or_insert(0);
    if *there >= most {
        return false;
    }
    *there += 1;
    true
}

fn discount<K: Hash + Eq>(map: &Mutex<HashMap<K, usize>>, key: &K) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = map.get_mut(key) {
        *there = there.saturating_sub(1);
        if *there == 0 {
            map.remove(key);
        }
    }
    // What a siege left behind is given back.
    if map.capacity() > 1024 && map.len() < map.capacity() / 4 {
        map.shrink_to_fit();
    }
}

/// Where a connection is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// Nowhere: it is a proxy's.
    Nowhere,
    /// Among the strangers of its address.
    Stranger,
    /// For a caller.
    Caller(u64),
}

/// A connection's place; given back when it is dropped. A link keeps its own as long as it lives.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    /// Its address; none for a proxy of ours.
    address: Option<IpAddr>,
    counted: Mutex<Counted>,
}

impl Place {
    /// Notes who was recognised: the connection is no stranger's any more, unless that caller has too many already.
    pub(crate) fn recognised(&self, who: impl Hash) {
        if self.address.is_none() {
            return;
        }
        let caller = self.crowd.names.hash_one(who);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if *counted != Counted::Caller(caller) && count(&self.crowd.callers, caller, MOST_OF_ONE) {
            self.leave(std::mem::replace(&mut *counted, Counted::Caller(caller)));
        }
    }

    fn leave(&self, counted: Counted) {
        match (counted, self.address) {
            (Counted::Stranger, Some(address)) => discount(&self.crowd.strangers, &address),
            (Counted::Caller(caller), _) => discount(&self.crowd.callers, &caller),
            (Counted::Nowhere | Counted::Stranger, _) => {}
        }
    }

    /// Counts a link of the address `peer`; none when that has as many as it may.
    pub(crate) fn link(&self, peer: IpAddr) -> Option<Linked> {
        self.crowd.link(peer)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counted = *self.counted.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.leave(counted);
        self.crowd.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One link of an address; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Linked {
    crowd: Option<Arc<Crowd>>,
    address: IpAddr,
}

impl Drop for Linked {
    fn drop(&mut self) {
        if let Some(crowd) = &self.crowd {
            discount(&crowd.links, &self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    fn crowd(files: usize, strangers: usize, links: Option<usize>) -> Arc<Crowd> {
        Crowd::new(Arc::new(Headroom::of(files, None)), strangers, links)
    }

    #[test]
    fn the_strangers_of_an_address_are_bounded_and_others_do_not_notice() {
        let crowd = crowd(10_000, 2, None);
        let first = crowd.enter(Some(HERE)).unwrap();
        let second = crowd.enter(Some(HERE)).unwrap();
        assert_eq!(crowd.enter(Some(HERE)).unwrap_err(), Full::Address);
        assert!(crowd.enter(Some(THERE)).is_ok());
        assert!(crowd.enter(None).is_ok(), "a proxy of ours is nobody's crowd");
        first.recognised("one");
        first.recognised("one");
        let third = crowd.enter(Some(HERE)).unwrap();
        assert_eq!(crowd.enter(Some(HERE)).unwrap_err(), Full::Address);
        drop((first, second, third));
        assert!(crowd.strangers.lock().unwrap().is_empty() && crowd.callers.lock().unwrap().is_empty());
        assert_eq!(crowd.open.load(Ordering::Relaxed), 0, "who was refused is not counted either");
    }

    #[test]
    fn one_caller_has_only_so_many_connections_beside_the_strangers() {
        let crowd = crowd(10_000, 2, None);
        let enter = || crowd.enter(Some(HERE));
        let mut places = Vec::new();
        while let Ok(place) = enter() {
            place.recognised(("operator", "thief"));
            places.push(place);
        }
        assert_eq!(places.len(), MOST_OF_ONE + 2);
        // Another one who comes on such a connection is no stranger, and one more can enter.
        places.last().unwrap().recognised(("operator", "honest"));
        let another = enter().unwrap();
        assert_eq!(enter().unwrap_err(), Full::Address);
        // Who is someone else now gives back what was counted before.
        for place in &places {
            place.recognised(("agent", "thief"));
        }
        assert_eq!(crowd.callers.lock().unwrap().values().max(), Some(&MOST_OF_ONE));
        drop((places, another));
        assert!(crowd.strangers.lock().unwrap().is_empty() && crowd.callers.lock().unwrap().is_empty());
        assert_eq!(crowd.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_addresses_of_one_site_are_one() {
        let crowd = crowd(10_000, 1, Some(1));
        let of = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let first = crowd.enter(of("2001:db8:1:1::1")).unwrap();
        assert_eq!(crowd.enter(of("2001:db8:1:1:ffff::2")).unwrap_err(), Full::Address);
        assert!(crowd.enter(of("2001:db8:1:2::1")).is_ok());
        let link = first.link("2001:db8:1:1::1".parse().unwrap());
        assert!(link.is_some() && first.link("2001:db8:1:1::9".parse().unwrap()).is_none());
    }

    #[test]
    fn at_four_fifths_of_the_files_nobody_else_is_taken() {
        let crowd = crowd(100, 1000, None);
        let places: Vec<_> = (0..80).map_while(|_| crowd.enter(Some(HERE)).ok()).collect();
        assert_eq!(places.len(), 80);
        assert_eq!(crowd.enter(Some(HERE)).unwrap_err(), Full::Server);
        drop(places);
        assert!(crowd.enter(Some(HERE)).is_ok());
    }

    #[test]
    fn the_links_of_an_address_are_bounded_where_that_is_set() {
        let few = crowd(100, 10, Some(1));
        let link = few.link(HERE);
        assert!(link.is_some() && few.link(HERE).is_none() && few.link(THERE).is_some());
        drop(link);
        assert!(few.link(HERE).is_some());
        let any = crowd(100, 10, None);
        let links: Vec<_> = (0..1000).map(|_| any.link(HERE)).collect();
        assert!(links.iter().all(Option::is_some));
    }
}
