//! The directory: its buckets, its lock, and the threads on which its files are touched.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::task::TaskTracker;

use crate::DepotError;
use crate::bucket::Bucket;
use crate::disk::{names_in, remove_folder, sync_folder};
use crate::error::StoreError;

/// All buckets below one directory.
#[derive(Debug)]
pub(crate) struct Store {
    buckets_folder: PathBuf,
    pub(crate) temp_folder: PathBuf,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    /// Work on files, which does not end when a request is dropped.
    pub(crate) work: TaskTracker,
    /// Held for as long as the store lives: two stores on one directory would eat each other's files.
    _lock: File,
}

impl Store {
    /// Opens the directory, creating it if need be, and removes what a crash left over.
    pub(crate) fn open(dir: &Path) -> Result<Self, DepotError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source: io::Error| DepotError::Directory { path, source }
        };
        create_private(dir).map_err(at(dir))?;
        let lock = take_lock(&dir.join("lock"))?;
        let temp_folder = dir.join("tmp");
        remove_folder(&temp_folder).map_err(at(&temp_folder))?;
        let buckets_folder = dir.join("buckets");
        for folder in [&temp_folder, &buckets_folder] {
            create_private(folder).map_err(at(folder))?;
        }
        sync_folder(dir).map_err(at(dir))?;
        let mut buckets = BTreeMap::new();
        for name in names_in(&buckets_folder).map_err(at(&buckets_folder))? {
            let bucket = Bucket::load(buckets_folder.join(&name), temp_folder.clone())
                .map_err(|(path, source)| DepotError::Directory { path, source })?;
            buckets.insert(name, Arc::new(bucket));
        }
        let (buckets, work) = (RwLock::new(buckets), TaskTracker::new());
        Ok(Self { buckets_folder, temp_folder, buckets, work, _lock: lock })
    }

    /// # Errors
    /// `NoSuchBucket`.
    pub(crate) fn bucket(&self, name: &str) -> Result<Arc<Bucket>, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned().ok_or(StoreError::NoSuchBucket)
    }

    /// All buckets by name.
    pub(crate) fn buckets(&self) -> Vec<(String, Arc<Bucket>)> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.iter().map(|(name, bucket)| (name.clone(), Arc::clone(bucket))).collect()
    }

    /// Creates a bucket. `name` obeys S3's rules, so it is a harmless file name.
    pub(crate) fn create_bucket(&self, name: &str) -> Result<(), StoreError> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Err(StoreError::BucketExists);
        }
        let bucket = Bucket::create(self.buckets_folder.join(name), self.temp_folder.clone())?;
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(())
    }

    /// Does blocking work on its own thread, and logs what went wrong with the files.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, StoreError> + Send + 'static,
    {
        let logged = || {
            work().inspect_err(|error| {
                if let StoreError::Io { what, source } = error {
                    tracing::error!(what, error = %source, "the depot failed");
                }
            })
        };
        self.work.spawn_blocking(logged).await.unwrap_or_else(|panic| {
            Err(StoreError::Io { what: "working on files", source: io::Error::other(panic) })
        })
    }
}

/// Creates a folder that only its owner can enter: what sites send is nobody else's business.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn take_lock(path: &Path) -> Result<File, DepotError> {
    let directory = |source| DepotError::Directory { path: path.to_path_buf(), source };
    let lock = File::options().create(true).truncate(false).write(true).open(path).map_err(directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DepotError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(DepotError::Directory { path: path.to_path_buf(), source }),
    }
}
