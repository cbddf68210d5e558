//! The simulation: the product's own links, drivers, sweeper and agents over a simulated network, clock, store and
//! bucket, in one thread and on paused time. A seed decides everything, and replays exactly.
//!
//! Deliberately absent: HTTP, SQL, TLS, threads and bytes. `docs/decisions/0008` says why, and what that leaves out.

mod bucket;
mod chance;
mod content;
mod disk;
mod fault;
mod model;
mod node;
mod plan;
mod process;
mod record;
mod site;
mod storage;
mod trail;
mod verdict;
mod wire;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use hoist_server::store::MemoryStore;
use hoist_wire::{ChecksumKind, State};

use bucket::open;
pub use fault::Fault;
pub use model::FairBucket;
use node::{Door, Lasting};
use plan::Plan;
use site::Site;
use storage::{Habits, Storage};
use world::World;

/// What one run came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What was found wrong; empty where every promise was kept.
    pub wrong: Vec<String>,
    /// The hash of everything that happened: the same seed gives the same.
    pub trace_hash: u64,
    /// What happened, where it was asked for.
    pub trace: Vec<String>,
    /// Faults that struck.
    pub struck: BTreeMap<Fault, u64>,
    /// How downloads ended.
    pub ended: BTreeMap<State, u64>,
    /// Bytes that storage took.
    pub put_bytes: u64,
    /// Bytes of parts that had been confirmed before and were sent again.
    pub again_bytes: u64,
    /// Simulated time.
    pub lasted: Duration,
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes every panic of this thread: those of tasks would go unseen.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

/// Runs one seed.
pub fn run(seed: u64, keep_trace: bool) -> Report {
    note_panics();
    PANICS.with_borrow_mut(Vec::clear);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else {
        return Report { seed, wrong: vec![String::from("no runtime")], ..Report::default() };
    };
    let mut report = runtime.block_on(simulate(seed, keep_trace));
    drop(runtime);
    report
        .wrong
        .extend(PANICS.with_borrow_mut(std::mem::take).into_iter().map(|panic| format!("panic: {panic}")));
    report
}

async fn simulate(seed: u64, keep_trace: bool) -> Report {
    let world = World::new(seed, keep_trace);
    let habits = Habits {
        lists_no_crc: world.below(4) == 0,
        completes_twice: world.below(2) == 0,
        expired_is_400: world.below(4) == 0,
        gone_is_403: world.below(4) == 0,
    };
    let checksum = if world.below(3) == 0 { ChecksumKind::PartMd5 } else { ChecksumKind::Crc64nvme };
    let storage = Arc::new(Mutex::new(Storage::new(habits)));
    let grant_ttl = Duration::from_secs(60 + world.below(840));
    world.trace(format!("{habits:?} {checksum:?}, grants of {grant_ttl:?}"));
    let lasting = Lasting {
        world: world.clone(),
        store: Arc::<MemoryStore>::default(),
        storage: Arc::clone(&storage),
        checksum,
        grant_ttl,
    };
    let door = Door::default();
    let sites = (0..1 + world.below(3)).filter_map(|n| Site::new(n, &world, &storage, &door)).collect();
    let mut plan = Plan::new(lasting, sites, door);
    let length = world.between(Duration::from_secs(90), Duration::from_secs(2_400));
    plan.run(length).await;
    plan.strangers();
    let strangers = open(&storage).uploads.values().filter(|upload| upload.is_foreign).count();
    verdict::rest(&plan).await;
    verdict::judge(&plan, strangers);
    let mut ended = BTreeMap::new();
    for record in plan.lasting.store.all() {
        *ended.entry(record.life.state).or_default() += 1;
    }
    let (put_bytes, again_bytes) = world.bytes();
    let (trace_hash, trace) = world.take_trace();
    Report {
        seed,
        wrong: world.take_wrong(),
        trace_hash,
        trace,
        struck: world.struck(),
        ended,
        put_bytes,
        again_bytes,
        lasted: world.elapsed(),
    }
}
