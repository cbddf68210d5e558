//! What happens in a run: requests, cancels, and faults that come at their own time and are mended later.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_server::bucket::ObjectMeta;
use hoist_server::store::{Inserted, Record};
use hoist_wire::rest::DownloadRequest;
use hoist_wire::{ChecksumKind, DownloadId, OnChange};
use std::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::bucket::open;
use super::disk::Change;
use super::fault::Fault;
use super::node::{Door, Lasting, Node};
use super::site::Site;
use super::wire::Side;

/// What operators were told: it must come true.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    pub(crate) accepted: BTreeSet<DownloadId>,
    pub(crate) cancelled: BTreeSet<DownloadId>,
}

/// What ends a fault.
#[derive(Debug, Clone)]
enum Mend {
    OpenGate(usize),
    OpenStorage(usize),
    StartAgent(usize),
    StartServer,
    WriteOn(usize, String),
    BringBack(usize, String),
    ClockRight,
}

/// Where something happens: a site, and one of its files.
#[derive(Debug)]
struct Place {
    index: usize,
    site: Arc<Site>,
    name: String,
}

/// What an event does.
type Deed = fn(&mut Plan, &Place);

/// What comes by a plan and not by an occasion.
const EVENTS: &[(Fault, Deed)] = &[
    (Fault::LinkCut, |_, at| at.site.cut()),
    (Fault::LinkPartition, Plan::partition),
    (Fault::StoragePartition, Plan::shut_storage),
    (Fault::AgentCrash, |plan, at| plan.end_agent(at, at.site.kill(false))),
    (Fault::AgentStop, |plan, at| plan.end_agent(at, at.site.stop())),
    (Fault::AgentPowerLoss, |plan, at| plan.end_agent(at, at.site.kill(true))),
    (Fault::ServerCrash, |plan, _| plan.crash_server()),
    (Fault::ServerStop, |plan, _| plan.stop_server()),
    (Fault::UploadLost, |plan, _| plan.lose_upload()),
    (Fault::PartLost, |plan, _| plan.lose_part()),
    (Fault::FileReplaced, |_, at| at.site.disk.change(&at.name, Change::Replace)),
    (Fault::FileWritten, |plan, at| plan.write(at, Change::Write)),
    (Fault::FileSneaky, |plan, at| plan.write(at, Change::WriteSneakily)),
    (Fault::FileGrown, |_, at| at.site.disk.change(&at.name, Change::Grow)),
    (Fault::FileShrunk, |_, at| at.site.disk.change(&at.name, Change::Shrink)),
    (Fault::FileRemoved, Plan::remove),
    (Fault::ClockJump, |plan, _| plan.jump()),
    (Fault::Cancel, |plan, _| plan.cancel()),
    (Fault::Request, |plan, _| plan.ask()),
];

/// The plan of one run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) lasting: Lasting,
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) door: Door,
    pub(crate) promised: Arc<Mutex<Promised>>,
    mends: Vec<(Instant, Mend)>,
    /// Servers that are stopping, and operators that wait for an answer.
    tasks: JoinSet<()>,
    left_to_ask: u64,
}

impl Plan {
    pub(crate) fn new(lasting: Lasting, sites: Vec<Arc<Site>>, door: Door) -> Self {
        let left_to_ask = 1 + lasting.world.below(6);
        let (promised, tasks) = (Arc::default(), JoinSet::new());
        Self { lasting, sites, door, promised, mends: Vec::new(), tasks, left_to_ask }
    }

    fn door(&self) -> MutexGuard<'_, Option<Node>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets things happen for `length`, then mends everything.
    pub(crate) async fn run(&mut self, length: Duration) {
        let world = self.lasting.world.clone();
        *self.door() = Some(Node::start(&self.lasting));
        for site in self.sites.clone() {
            site.start();
        }
        self.ask();
        let over = Instant::now() + length;
        let mut next = Instant::now();
        while Instant::now() < over {
            let mend = self.mends.iter().map(|(at, _)| *at).min().unwrap_or(over);
            sleep_until(next.min(mend).min(over)).await;
            for mend in self.due() {
                self.mend(mend);
            }
            if Instant::now() >= next {
                next = Instant::now() + world.between(Duration::from_millis(10), Duration::from_secs(40));
                let event = self.draw();
                self.happen(event);
            }
        }
        world.trace("everything is mended");
        world.calm();
        for mend in std::mem::take(&mut self.mends).into_iter().map(|(_, mend)| mend) {
            self.mend(mend);
        }
    }

    fn due(&mut self) -> Vec<Mend> {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.mends).into_iter().partition(|(at, _)| *at <= now);
        self.mends = later;
        let due: Vec<(Instant, Mend)> = due;
        due.into_iter().map(|(_, mend)| mend).collect()
    }

    /// Draws what happens next, by its odds.
    fn draw(&self) -> usize {
        let world = &self.lasting.world;
        let odds = |index: usize| EVENTS.get(index).map_or(0, |(fault, _)| u64::from(world.odds(*fault)));
        let mut at = world.below((0..EVENTS.len()).map(odds).sum());
        for index in 0..EVENTS.len() {
            if at < odds(index) {
                return index;
            }
            at -= odds(index);
        }
        0
    }

    fn later(&mut self, from_secs: u64, to_secs: u64, mend: Mend) {
        let after = self.lasting.world.between(Duration::from_secs(from_secs), Duration::from_secs(to_secs));
        self.mends.push((Instant::now() + after, mend));
    }

    fn happen(&mut self, event: usize) {
        let world = self.lasting.world.clone();
        let index = usize::try_from(world.below(self.sites.len() as u64)).unwrap_or(0);
        let (Some(site), Some((fault, deed))) = (self.sites.get(index).cloned(), EVENTS.get(event)) else {
            return;
        };
        let names = site.disk.names();
        let name = names.get(usize::try_from(world.below(names.len() as u64)).unwrap_or(0)).cloned();
        let name = name.unwrap_or_default();
        if *fault != Fault::Request {
            world.count(*fault);
        }
        world.trace(format!("fault {} at {} {name}", fault.name(), site.client_id));
        deed(self, &Place { index, site, name });
    }

    fn partition(&mut self, at: &Place) {
        let way = self.lasting.world.below(4);
        at.site.shut(Side::Agent, way != 1);
        at.site.shut(Side::Server, way != 2);
        self.later(1, 240, Mend::OpenGate(at.index));
    }

    fn shut_storage(&mut self, at: &Place) {
        at.site.storage_shut.store(true, Ordering::Relaxed);
        self.later(1, 400, Mend::OpenStorage(at.index));
    }

    fn end_agent(&mut self, at: &Place, was_there: bool) {
        if was_there {
            self.later(0, 120, Mend::StartAgent(at.index));
        }
    }

    fn crash_server(&mut self) {
        if let Some(node) = self.door().take() {
            node.kill();
        }
        self.later(0, 60, Mend::StartServer);
    }

    fn stop_server(&mut self) {
        let node = self.door().take();
        if let Some(mut node) = node {
            node.say_goodbye();
            self.tasks.spawn(node.end());
        }
        self.later(12, 60, Mend::StartServer);
    }

    fn write(&mut self, at: &Place, change: Change) {
        at.site.disk.change(&at.name, change);
        if self.lasting.world.below(3) == 0 {
            // Its writer goes on: no moment is the file's own.
            self.later(0, 30, Mend::WriteOn(at.index, at.name.clone()));
        }
    }

    fn remove(&mut self, at: &Place) {
        at.site.disk.remove(&at.name);
        self.later(1, 120, Mend::BringBack(at.index, at.name.clone()));
    }

    fn jump(&mut self) {
        const HOUR_MS: u64 = 3_600_000;
        let world = self.lasting.world.clone();
        if world.below(8) == 0 {
            // Everything slept, as a suspended machine does: deadlines pass unseen.
            return world.leap(i64::try_from(world.below(24 * 20 * HOUR_MS)).unwrap_or(0));
        }
        let ms = i64::try_from(world.below(4 * HOUR_MS)).unwrap_or(0);
        world.skew(ms - 2 * i64::try_from(HOUR_MS).unwrap_or(0));
        self.later(10, 900, Mend::ClockRight);
    }

    fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::OpenGate(index) => {
                if let Some(site) = self.sites.get(index) {
                    site.shut(Side::Agent, false);
                    site.shut(Side::Server, false);
                }
            }
            Mend::OpenStorage(index) => {
                if let Some(site) = self.sites.get(index) {
                    site.storage_shut.store(false, Ordering::Relaxed);
                }
            }
            Mend::StartAgent(index) => {
                if let Some(site) = self.sites.get(index) {
                    site.start();
                }
            }
            Mend::StartServer => {
                let mut door = self.door();
                if door.is_none() {
                    *door = Some(Node::start(&self.lasting));
                }
            }
            Mend::WriteOn(index, name) => {
                if let Some(site) = self.sites.get(index) {
                    site.disk.change(&name, Change::Write);
                }
            }
            Mend::BringBack(index, name) => {
                if let Some(site) = self.sites.get(index)
                    && site.disk.open(&name).is_none()
                {
                    site.disk.put(&name, site.disk.new_content());
                }
            }
            Mend::ClockRight => self.lasting.world.skew(0),
        }
    }

    /// An operator asks for a file, as REST does it.
    fn ask(&mut self) {
        let world = self.lasting.world.clone();
        if self.left_to_ask == 0 {
            return;
        }
        let site = self.sites.get(usize::try_from(world.below(self.sites.len() as u64)).unwrap_or(0));
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(site), Some(node)) = (site, door.as_ref()) else { return };
        let names = site.disk.names();
        let file_path = match world.below(12) {
            0 => Some(String::from("absent")),
            1..=3 => None,
            _ => names.get(usize::try_from(world.below(names.len() as u64)).unwrap_or(0)).cloned(),
        };
        let on_change = match world.below(6) {
            0 => OnChange::Fail,
            1 | 2 => OnChange::Prefix,
            _ => OnChange::Restart,
        };
        let ttl_secs = (world.below(8) == 0).then(|| 60 + world.below(3_600));
        let asked = DownloadRequest { file_path, ttl_secs, on_change: Some(on_change), ..Default::default() };
        let record = Record::asked(&world, site.client_id.clone(), String::from("ops"), asked);
        let (store, links, promised) =
            (Arc::clone(&node.store), Arc::clone(&node.links), Arc::clone(&self.promised));
        drop(door);
        self.left_to_ask -= 1;
        world.count(Fault::Request);
        world.trace(format!(
            "ask {} of {} for {:?} {on_change}",
            record.id, record.client_id, record.file_path
        ));
        self.tasks.spawn(async move {
            if let Ok(Some(Inserted::New)) = store.insert(&record, None, 100).await {
                promised.lock().unwrap_or_else(PoisonError::into_inner).accepted.insert(record.id);
            }
            links.nudge(&record.client_id);
        });
    }

    fn cancel(&mut self) {
        let world = self.lasting.world.clone();
        let open: Vec<_> =
            self.lasting.store.all().into_iter().filter(|record| !record.life.state.is_final()).collect();
        let chosen = open.get(usize::try_from(world.below(open.len() as u64)).unwrap_or(0));
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(record), Some(node)) = (chosen, door.as_ref()) else { return };
        let (id, downloads, promised) = (record.id, Arc::clone(&node.downloads), Arc::clone(&self.promised));
        drop(door);
        self.tasks.spawn(async move {
            let answer = downloads.cancel(id, String::from("ops")).await;
            world.trace(format!("cancel {id}: {answer:?}"));
            if let Some(Ok(())) = answer {
                promised.lock().unwrap_or_else(PoisonError::into_inner).cancelled.insert(id);
            }
        });
    }

    /// As a lifecycle rule does, or somebody with the bucket's keys.
    fn lose_upload(&self) {
        let world = &self.lasting.world;
        let mut storage = open(&self.lasting.storage);
        let own: Vec<String> =
            storage.uploads.iter().filter(|(_, it)| !it.is_foreign).map(|(id, _)| id.clone()).collect();
        if let Some(id) = own.get(usize::try_from(world.below(own.len() as u64)).unwrap_or(0)) {
            world.trace(format!("{id} vanishes"));
            storage.uploads.remove(id);
        }
    }

    fn lose_part(&self) {
        let world = &self.lasting.world;
        let mut storage = open(&self.lasting.storage);
        let number = world.below(8);
        if let Some(upload) = storage.uploads.values_mut().find(|it| !it.is_foreign && !it.parts.is_empty()) {
            let number = upload.parts.keys().nth(usize::try_from(number).unwrap_or(0)).copied();
            if let Some(number) = number {
                world.trace(format!("part {number} of {} vanishes", upload.key));
                upload.parts.remove(&number);
            }
        }
    }

    /// Puts uploads of strangers beside ours, under keys that only begin like ours.
    pub(crate) fn strangers(&self) {
        let keys: Vec<String> = self.lasting.store.all().into_iter().filter_map(|it| it.object_key).collect();
        let mut storage = open(&self.lasting.storage);
        let nobody = ObjectMeta { metadata: Default::default() };
        for key in keys.iter().map(|key| format!("{key}.bak")).chain([String::from("hoist/")]) {
            storage.create(&key, &nobody, ChecksumKind::Crc64nvme);
        }
    }
}
