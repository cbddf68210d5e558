//! Downloads: one driver for each that is in motion on this node, and the way to reach it.
//!
//! Deliberately absent: rules (`engine`), S3 (`bucket`), SQL (`store`). A driver joins them, one event at a time.

mod driver;
#[cfg(feature = "simulation")]
pub mod exposed;
mod key;
mod opening;
mod proof;
mod settling;
mod sweeper;
mod view;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_engine::life::Rejection;
use hoist_wire::audit::Entry;
use hoist_wire::to_server::ToServer;
use hoist_wire::{Attempt, ChecksumKind, ClientId, DownloadId, LinkSeq, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bucket::Bucket;
use crate::clock::World;
use crate::links::{LinkHandle, Links};
use crate::store::{Due, Idempotency, Inserted, Record, Store, StoreError};
use driver::Driver;

pub use sweeper::sweep;
pub use view::View;

/// Letters that wait for one driver. Whoever writes more waits, and reads no more from its agent.
const LETTERS: usize = 64;

/// What a driver needs of the server.
#[derive(Debug)]
pub struct Shop {
    /// The record.
    pub store: Arc<dyn Store>,
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    /// The proof that the bucket can give, once it is known.
    pub checksum: watch::Receiver<Option<ChecksumKind>>,
    /// The live links.
    pub links: Arc<Links>,
    /// Time and chance.
    pub world: Arc<dyn World>,
    /// What keys begin with.
    pub key_prefix: String,
    /// Bytes in a part of a new upload.
    pub part_size_bytes: u64,
    /// How long a grant lives.
    pub grant_ttl: Duration,
}

/// Something for a driver to do.
#[derive(Debug)]
pub enum Letter {
    /// The link has a slot for it.
    Dispatch {
        /// The link.
        link: Arc<LinkHandle>,
        /// The attempt that the agent still has.
        continues: Option<Attempt>,
    },
    /// The agent still has what is being completed, and wants to hear how it ends.
    Attach {
        /// The link.
        link: Arc<LinkHandle>,
    },
    /// The agent says something.
    FromAgent {
        /// Over which link.
        link: LinkSeq,
        /// What.
        message: ToServer,
    },
    /// The link ended.
    LinkLost {
        /// Which one.
        link: LinkSeq,
    },
    /// An operator cancels.
    Cancel {
        /// Who.
        operator: String,
        /// Gets the answer.
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// An operator changes how fast it may go.
    Pace {
        /// Most bytes a second; none for no limit.
        max_rate_bytes_per_sec: Option<u64>,
        /// Gets the answer.
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// The deadline may have passed, or it was left completing: look.
    Sweep,
}

/// The way to one driver.
#[derive(Debug, Clone)]
pub struct LetterBox(mpsc::Sender<Letter>);

impl LetterBox {
    /// Delivers a letter, waiting while the box is full. One to a driver that has ended is dropped.
    pub async fn deliver(&self, letter: Letter) {
        let _ = self.0.send(letter).await;
    }
}

/// How far a download is, without asking the store: progress is never written.
#[derive(Debug, Default)]
pub struct Live {
    sent_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    rate: AtomicU64,
    heard_at: AtomicI64,
}

impl Live {
    fn progress(&self, sent_bytes: u64, rate: u64, now: Timestamp) {
        self.sent_bytes.store(sent_bytes, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Relaxed);
        self.heard_at.store(now.0, Ordering::Relaxed);
    }

    fn stored(&self, stored_bytes: u64) {
        self.stored_bytes.store(stored_bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Running {
    letters: LetterBox,
    live: Arc<Live>,
}

/// All downloads that are in motion on this node.
#[derive(Debug)]
pub struct Downloads {
    shop: Arc<Shop>,
    running: Mutex<HashMap<DownloadId, Running>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Rung when an upload is to be aborted.
    litter: Notify,
}

impl Downloads {
    /// Sets the room up; nothing runs yet.
    pub fn new(shop: Shop, stop: CancellationToken) -> Arc<Self> {
        let (running, tasks) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { shop: Arc::new(shop), running, tasks, stop, litter: Notify::new() })
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<DownloadId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a download's record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&self, id: DownloadId) -> Result<Option<Record>, StoreError> {
        self.shop.store.download(id).await
    }

    /// Takes a request in, and has its client's link look. Whoever asked may hang up meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; the request may be on disk all the same, and is then found by the sweeper.
    pub async fn accept(
        self: &Arc<Self>,
        record: Record,
        idempotency: Option<Idempotency>,
        max_open: u32,
        line: Entry,
    ) -> Result<Option<Inserted>, StoreError> {
        let own = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let inserted = own.shop.store.insert_noted(&record, idempotency.as_ref(), max_open, &line).await;
            own.shop.links.nudge(&record.client_id);
            inserted
        });
        task.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
    }

    /// Gives what a connected client can be asked for now: at most `slots` more than it can have out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(&self, client: &ClientId, slots: usize) -> Result<Due, StoreError> {
        let limit = u32::try_from(2 * slots).unwrap_or(u32::MAX);
        self.shop.store.due(client, self.shop.world.now(), limit).await
    }

    /// Delivers a letter to the download's driver, which is started if there is none.
    pub async fn drive(self: &Arc<Self>, id: DownloadId, letter: Letter) -> LetterBox {
        let (letters, unsent) = self.driver_for(id, letter);
        if let Some(letter) = unsent {
            letters.deliver(letter).await;
        }
        letters
    }

    /// A driver only leaves the registry under the same lock, with an empty box: no letter falls between two.
    fn driver_for(self: &Arc<Self>, id: DownloadId, letter: Letter) -> (LetterBox, Option<Letter>) {
        let mut running = self.running();
        let mut letter = letter;
        if let Some(there) = running.get(&id) {
            match there.letters.0.try_send(letter) {
                Ok(()) => return (there.letters.clone(), None),
                Err(mpsc::error::TrySendError::Full(back)) => return (there.letters.clone(), Some(back)),
                Err(mpsc::error::TrySendError::Closed(back)) => letter = back,
            }
        }
        let (to, from) = mpsc::channel(LETTERS);
        let letters = LetterBox(to);
        let unsent = letters.0.try_send(letter).err().map(mpsc::error::TrySendError::into_inner);
        let live = Arc::<Live>::default();
        running.insert(id, Running { letters: letters.clone(), live: Arc::clone(&live) });
        let driver = Driver::new(id, Arc::clone(self), from, live);
        self.tasks.spawn(driver.run());
        (letters, unsent)
    }

    /// Removes a driver that is done, unless a letter has come meanwhile.
    fn retire(&self, id: DownloadId, letters: &mut mpsc::Receiver<Letter>) -> bool {
        let mut running = self.running();
        if !letters.is_empty() {
            return false;
        }
        letters.close();
        running.remove(&id);
        true
    }

    /// Tells whether a driver runs.
    pub fn is_running(&self, id: DownloadId) -> bool {
        self.running().contains_key(&id)
    }

    /// Cancels a download.
    ///
    /// # Errors
    /// The [`Rejection`] that says why not; none when the server stops meanwhile.
    pub async fn cancel(self: &Arc<Self>, id: DownloadId, operator: String) -> Option<Result<(), Rejection>> {
        let (reply, answer) = oneshot::channel();
        self.drive(id, Letter::Cancel { operator, reply }).await;
        answer.await.ok()
    }

    /// Changes how fast a download may go, whatever its agent does just now.
    ///
    /// # Errors
    /// The [`Rejection`] that says why not; none when the server stops meanwhile.
    pub async fn pace(
        self: &Arc<Self>,
        id: DownloadId,
        max_rate_bytes_per_sec: Option<u64>,
    ) -> Option<Result<(), Rejection>> {
        let (reply, answer) = oneshot::channel();
        self.drive(id, Letter::Pace { max_rate_bytes_per_sec, reply }).await;
        answer.await.ok()
    }

    /// Shows a record as REST does, with what is only known while it runs.
    pub fn view(&self, record: &Record) -> hoist_wire::rest::Download {
        let running = self.running();
        let live = running.get(&record.id).map(|running| Arc::clone(&running.live));
        drop(running);
        let connected = self.shop.links.is_connected(&record.client_id);
        let (bucket, now) = (self.shop.bucket.name(), self.shop.world.now());
        View { record, live: live.as_deref(), connected, bucket, now }.into()
    }

    /// Waits until all drivers have ended, after the stop.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
