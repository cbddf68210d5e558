//! Time and chance, as everything on the server gets them: passed in, so that a test or a simulation can choose them.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use hoist_wire::{DownloadId, Timestamp};

/// Where time and chance come from.
pub trait World: Send + Sync + Debug {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with chance that nobody can guess.
    fn random(&self, bytes: &mut [u8]);
}

/// The machine's own clock and its source of chance.
#[derive(Debug, Clone, Copy)]
pub struct RealWorld;

impl World for RealWorld {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn random(&self, bytes: &mut [u8]) {
        #[expect(
            clippy::expect_used,
            reason = "a system without chance can keep no secret: nothing may go on"
        )]
        getrandom::fill(bytes).expect("the system's source of random bytes works");
    }
}

/// Makes the id of a download that is asked for now.
pub fn download_id(world: &dyn World) -> DownloadId {
    let mut random = [0; 10];
    world.random(&mut random);
    DownloadId::new(u64::try_from(world.now().0).unwrap_or(0), random)
}

/// Makes a text of 128 random bits in hexadecimal: write tokens, ids of tokens and rows.
pub fn random_id(world: &dyn World) -> String {
    let mut random = [0; 16];
    world.random(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives a number that is evenly spread over 0.0..1.0, for jitter.
pub fn chance(world: &dyn World) -> f64 {
    let mut random = [0; 4];
    world.random(&mut random);
    f64::from(u32::from_le_bytes(random)) / 4_294_967_296.0
}
