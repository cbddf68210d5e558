//! The simulated bucket in fair weather, for the suite that every bucket passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_server::bucket::Bucket;
use hoist_wire::{ChecksumKind, PartSums};

use super::bucket::{Shared, SimBucket, open};
use super::content::{Block, Content};
use super::process::Process;
use super::storage::{Habits, Storage};
use super::world::World;

/// A simulated bucket in which nothing goes wrong.
#[derive(Debug)]
pub struct FairBucket {
    world: World,
    storage: Shared,
    checksum: ChecksumKind,
}

impl FairBucket {
    /// Makes an empty bucket that gives this proof.
    pub fn new(checksum: ChecksumKind) -> Self {
        let world = World::new(0, false);
        world.calm();
        let habits =
            Habits { lists_no_crc: false, completes_twice: false, expired_is_400: false, gone_is_403: false };
        Self { world, storage: Arc::new(Mutex::new(Storage::new(habits))), checksum }
    }

    /// Gives the bucket as the server sees it.
    pub fn bucket(&self) -> Arc<dyn Bucket> {
        Arc::new(SimBucket {
            world: self.world.clone(),
            storage: Arc::clone(&self.storage),
            process: Process::default(),
            checksum: self.checksum,
            slowest_complete: Duration::ZERO,
        })
    }

    /// Puts bytes as an agent does, with a grant's URL, and gives the ETag.
    ///
    /// # Errors
    /// The HTTP status of the refusal.
    pub fn put(&self, url: &str, sums: PartSums, size_bytes: u64) -> Result<String, u16> {
        let grant = url.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let content = Content(vec![Block { what: sums.crc64nvme.0, len: size_bytes }]);
        let stored =
            open(&self.storage).put(grant, sums, Arc::new(content), size_bytes, self.world.true_ns());
        stored.map(|part| part.etag).map_err(|(status, _)| status)
    }
}
