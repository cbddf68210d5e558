//! What attempts stand on: files that are given, the way of their parts to storage, threads for slow disks, chance.
//!
//! It is the seam at which a simulation puts other ground below the same attempts. One call through a table for each
//! part; bytes never pass here.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hoist_wire::to_server::Identity;
use hoist_wire::{Crc64, PartSums};
use tokio_util::sync::CancellationToken;

use super::address::Checked;
use super::pace::Pace;
use super::put::{Counters, Idle, Put, PutError};
use super::reader::{ReadError, Source};
use crate::dial::Dialer;
use crate::link::chance;
use crate::platform;
use crate::policy::{NotGiven, OpenFile, Policy};

/// The ground of one agent.
pub(crate) trait Ground: Send + Sync + Debug {
    /// Opens the file that a request names, if it may leave; blocks.
    fn open(&self, asked: Option<&str>) -> Result<Opened, NotGiven>;

    /// Tells whether an open file may still leave: the site's policy may have changed, or its hours ended.
    fn still(&self, _path: &str, _size_bytes: u64, _links: u64) -> Result<(), NotGiven> {
        Ok(())
    }

    /// Takes a part's bytes from what the site lets go in a day.
    fn spend(&self, _bytes: u64) -> Result<(), NotGiven> {
        Ok(())
    }

    /// Tells whether bytes may be sent to this host, or which rule of the site forbids it.
    fn sends_to(&self, _host: &str, _port: u16) -> Result<(), String> {
        Ok(())
    }

    /// How long work that reads takes where it needs no thread of its own; none where it may wait for a disk.
    fn reading_takes(&self) -> Option<Duration> {
        None
    }

    /// Gives a number evenly spread over 0.0..1.0.
    fn chance(&self) -> f64 {
        chance()
    }
}

/// A file that may leave, open for one pass.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: Arc<dyn Given>,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) identity: Identity,
}

/// What is in a file; all of it blocks.
pub(crate) trait Contents: Send + Sync + Debug {
    /// Gives what must stay the same from the first to the last read.
    fn identity(&self) -> io::Result<Identity>;

    /// Gives how many names (hard links) it has now. Does not block.
    fn links(&self) -> u64 {
        1
    }

    /// Hashes `range`; `counter` grows as it goes.
    fn hash(
        self: Arc<Self>,
        range: Range<u64>,
        needs_md5: bool,
        stop: &CancellationToken,
        counter: &AtomicU64,
    ) -> Result<PartSums, ReadError>;
}

/// A file that was given, and the way of its parts to storage.
pub(crate) trait Given: Contents {
    /// Sends one part and gives its ETag, without quotes. Dropping the future closes the connection.
    fn put(self: Arc<Self>, part: Part) -> Putting;
}

/// One PUT on its way.
pub(crate) type Putting = Pin<Box<dyn Future<Output = Result<String, PutError>> + Send>>;

/// A part to be sent, and where to.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) range: Range<u64>,
    pub(crate) crc: Crc64,
    pub(crate) to: Checked,
    /// Never on a connection that was used before: the last try failed.
    pub(crate) fresh: bool,
    /// How fast it may go.
    pub(crate) pace: Arc<Pace>,
    pub(crate) counters: Counters,
}

/// The real ground: a disk and the network.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) dialer: Dialer,
    pub(crate) policy: Policy,
}

impl Ground for Machine {
    fn open(&self, asked: Option<&str>) -> Result<Opened, NotGiven> {
        let OpenFile { file, path, name, identity } = self.policy.open(asked)?;
        let (source, dialer) = (Source::new(file), self.dialer.clone());
        let file = Arc::new(OnDisk { source, dialer, idle: Idle::default() });
        Ok(Opened { file, path, name, identity })
    }

    fn still(&self, path: &str, size_bytes: u64, links: u64) -> Result<(), NotGiven> {
        self.policy.still(path, size_bytes, links)
    }

    fn spend(&self, bytes: u64) -> Result<(), NotGiven> {
        self.policy.spend(bytes)
    }

    fn sends_to(&self, host: &str, port: u16) -> Result<(), String> {
        self.policy.sends_to(host, port)
    }
}

/// A file on a disk, and the connections that its parts take.
#[derive(Debug)]
struct OnDisk {
    source: Arc<Source>,
    dialer: Dialer,
    idle: Idle,
}

impl Contents for OnDisk {
    fn identity(&self) -> io::Result<Identity> {
        self.source.identity()
    }

    fn links(&self) -> u64 {
        // Asked of a file that is open: nothing waits for a disk.
        self.source.file.metadata().map_or(0, |meta| platform::links(&meta))
    }

    fn hash(
        self: Arc<Self>,
        range: Range<u64>,
        needs_md5: bool,
        stop: &CancellationToken,
        counter: &AtomicU64,
    ) -> Result<PartSums, ReadError> {
        Source::hash(&self.source, range, needs_md5, stop, counter)
    }
}

impl Given for OnDisk {
    fn put(self: Arc<Self>, part: Part) -> Putting {
        let Part { range, crc, to, fresh, pace, counters } = part;
        Box::pin(async move {
            let put = Put { source: Arc::clone(&self.source), range, crc, to, fresh, pace, counters };
            put.run(&self.dialer, &self.idle).await
        })
    }
}

impl Contents for Source {
    fn identity(&self) -> io::Result<Identity> {
        Ok(platform::identity(&self.file.metadata()?))
    }

    fn hash(
        self: Arc<Self>,
        range: Range<u64>,
        needs_md5: bool,
        stop: &CancellationToken,
        counter: &AtomicU64,
    ) -> Result<PartSums, ReadError> {
        Source::hash(&self, range, needs_md5, stop, counter)
    }
}
