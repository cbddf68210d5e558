//! The end of a pass: is it still the file that was opened?
//!
//! A changed size or modified time ends the pass. A changed time (ctime) alone comes from renames, links and rights,
//! and also from a writer that sets the modified time back: then the bytes are hashed once more and decide. With
//! `on_change: prefix` the file may grow, so the bytes decide always. Rename-over is no change: an open file goes on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hoist_wire::to_server::{Busy, Finished, Identity};
use hoist_wire::{Crc64, OnChange, ToServer};
use tokio_util::sync::CancellationToken;

use super::ground::Contents;
use super::reader::ReadError;
use super::{Done, Refused, Upload};

/// What must hold at the end.
struct LastLook {
    source: Arc<dyn Contents>,
    size_bytes: u64,
    first: Identity,
    whole: Crc64,
    on_change: OnChange,
    stop: CancellationToken,
}

impl LastLook {
    /// Looks at the file, and hashes it once more where its identity does not settle it; blocks.
    fn look(&self) -> Result<Identity, ReadError> {
        let last = unchanged(&*self.source, &self.first, self.on_change)?;
        if last == self.first {
            return Ok(last);
        }
        let source = Arc::clone(&self.source);
        let hashed = source.hash(0..self.size_bytes, false, &self.stop, &AtomicU64::new(0))?;
        if hashed.crc64nvme != self.whole {
            return Err(ReadError::Changed);
        }
        unchanged(&*self.source, &self.first, self.on_change)
    }
}

/// Gives the file's identity, unless it says by itself that these are no longer the bytes that were offered; blocks.
pub(super) fn unchanged(
    source: &dyn Contents,
    first: &Identity,
    on_change: OnChange,
) -> Result<Identity, ReadError> {
    let now = source.identity()?;
    let may_be_the_same = match on_change {
        OnChange::Prefix => now.size_bytes >= first.size_bytes,
        OnChange::Restart | OnChange::Fail => {
            now.size_bytes == first.size_bytes && now.modified_ns == first.modified_ns
        }
    };
    if may_be_the_same { Ok(now) } else { Err(ReadError::Changed) }
}

impl Upload {
    /// Starts the last look at the file.
    pub(super) fn check_at_the_end(&mut self) -> Result<(), Refused> {
        let whole = self.accepted.as_ref().and_then(|accepted| accepted.ledger.whole());
        // Complete means that each part was hashed.
        let whole = whole.ok_or_else(|| self.unreadable(&ReadError::Stopped))?;
        let look = LastLook {
            source: Arc::clone(&self.source) as Arc<dyn Contents>,
            size_bytes: self.offer.size_bytes,
            first: self.offer.identity,
            whole,
            on_change: self.task.on_change,
            stop: self.reads.clone(),
        };
        let Busy { download_id, attempt } = self.task.busy;
        let size_bytes = self.offer.size_bytes;
        self.read_aside(move || {
            let finished =
                |identity| Finished { download_id, attempt, size_bytes, crc64nvme: whole, identity };
            Done::Checked(look.look().map(finished))
        });
        Ok(())
    }

    /// Says that all is done, unless a part was asked for again in the meantime.
    pub(super) async fn checked(&mut self, result: Result<Finished, ReadError>) -> Result<(), Refused> {
        let finished = result.map_err(|error| self.unreadable(&error))?;
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        accepted.checking = false;
        if !accepted.ledger.is_complete() {
            return Ok(());
        }
        accepted.finished = Some(finished.clone());
        tracing::info!(size_bytes = finished.size_bytes, "every part is in storage");
        self.say(ToServer::Finished(finished)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform;
    use crate::upload::reader::Source;
    use std::fs::File;
    use std::io::Write as _;
    use std::path::Path;

    fn look(path: &Path, on_change: OnChange, change: impl FnOnce()) -> Result<Identity, ReadError> {
        std::fs::write(path, b"the bytes").unwrap();
        let source = Source::new(File::open(path).unwrap());
        let first = platform::identity(&source.file.metadata().unwrap());
        let stop = CancellationToken::new();
        let whole = Source::hash(&source, 0..9, false, &stop, &AtomicU64::new(0)).unwrap().crc64nvme;
        change();
        LastLook { source, size_bytes: 9, first, whole, on_change, stop }.look()
    }

    fn append(path: &Path) {
        File::options().append(true).open(path).unwrap().write_all(b" and more").unwrap();
    }

    fn overwrite(path: &Path) {
        let mut file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all(b"THE").unwrap();
        file.set_modified(before).unwrap();
    }

    #[test]
    fn renames_and_rights_are_no_change_and_writes_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(look(&path, OnChange::Restart, || {}).is_ok());
        assert!(
            look(&path, OnChange::Restart, || std::fs::rename(&path, dir.path().join("old")).unwrap())
                .is_ok()
        );
        assert!(look(&path, OnChange::Fail, || std::fs::remove_file(&path).unwrap()).is_ok());
        let replaced = || {
            let new = dir.path().join("new");
            std::fs::write(&new, b"other").unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        assert!(look(&path, OnChange::Restart, replaced).is_ok());
        assert!(matches!(look(&path, OnChange::Restart, || append(&path)), Err(ReadError::Changed)));
        assert!(matches!(look(&path, OnChange::Fail, || append(&path)), Err(ReadError::Changed)));
    }

    #[test]
    fn a_modified_time_that_was_set_back_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(matches!(look(&path, OnChange::Restart, || overwrite(&path)), Err(ReadError::Changed)));
    }

    #[test]
    fn a_prefix_may_grow_and_must_neither_shrink_nor_differ() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let grown = look(&path, OnChange::Prefix, || append(&path)).unwrap();
        assert_eq!(grown.size_bytes, 18);
        let shrink = || File::options().write(true).open(&path).unwrap().set_len(8).unwrap();
        assert!(matches!(look(&path, OnChange::Prefix, shrink), Err(ReadError::Changed)));
        assert!(matches!(look(&path, OnChange::Prefix, || overwrite(&path)), Err(ReadError::Changed)));
    }
}
