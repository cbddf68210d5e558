//! One multipart upload: a record, a folder of part files, and the lock that orders what happens to them.
//!
//! Lock order: an upload's lock, then its bucket's. All of it blocks: never call it on an async thread.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::Digests;
use crate::disk::{TempFile, names_in, remove_file, sync_folder};
use crate::error::{During as _, StoreError};
use crate::names::PartName;
use crate::records::UploadRecord;

/// An upload that was created and is neither completed nor aborted, unless `closed`.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) record: UploadRecord,
    pub(crate) folder: PathBuf,
    state: Mutex<UploadState>,
}

/// What an upload holds. A part is in here from the moment its file has its name.
#[derive(Debug, Default)]
pub(crate) struct UploadState {
    /// Completed or aborted: whoever still holds the upload gets `NoSuchUpload`.
    pub(crate) closed: bool,
    pub(crate) parts: BTreeMap<u16, StoredPart>,
    last_order: u64,
}

/// A part and when it was stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredPart {
    pub(crate) name: PartName,
    pub(crate) modified: std::time::SystemTime,
}

impl Upload {
    pub(crate) fn new(record: UploadRecord, folder: PathBuf) -> Self {
        Self { record, folder, state: Mutex::default() }
    }

    /// Reads an upload's parts back from its folder, and removes the files that later ones replaced.
    pub(crate) fn load(record: UploadRecord, folder: PathBuf) -> io::Result<Self> {
        let mut state = UploadState::default();
        let mut replaced = Vec::new();
        for file in names_in(&folder)? {
            let Ok(name) = file.parse::<PartName>() else { continue };
            let modified = folder.join(&file).metadata()?.modified()?;
            state.last_order = state.last_order.max(name.order);
            match state.parts.get(&name.number) {
                Some(other) if other.name.order > name.order => replaced.push(name),
                Some(_) | None => {
                    let older = state.parts.insert(name.number, StoredPart { name, modified });
                    replaced.extend(older.map(|part| part.name));
                }
            }
        }
        for name in replaced {
            remove_file(&folder.join(name.to_string()))?;
        }
        Ok(Self { record, folder, state: Mutex::new(state) })
    }

    /// The state, for as long as the upload is open.
    ///
    /// # Errors
    /// `NoSuchUpload` once it was completed or aborted.
    pub(crate) fn open(&self) -> Result<MutexGuard<'_, UploadState>, StoreError> {
        // A panic while it was held cannot have left it half changed: every change is one statement.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(StoreError::NoSuchUpload) } else { Ok(state) }
    }

    /// Stores a part whose bytes are on the disk already. When it returns, the part outlives a crash.
    pub(crate) fn store_part(
        &self,
        number: u16,
        temp: TempFile,
        digests: &Digests,
    ) -> Result<PartName, StoreError> {
        let Digests { size_bytes, md5, crc64, .. } = *digests;
        let (name, older) = {
            let mut state = self.open()?;
            let order = state.last_order + 1;
            let name = PartName { number, order, size_bytes, md5, crc64 };
            temp.rename(&self.part_file(&name)).during("naming a part's file")?;
            state.last_order = order;
            let stored = StoredPart { name: name.clone(), modified: std::time::SystemTime::now() };
            (name, state.parts.insert(number, stored))
        };
        match sync_folder(&self.folder) {
            // Aborted or completed meanwhile: the part was there, and went the way of the upload.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::NoSuchUpload),
            other => other.during("syncing an upload's folder")?,
        }
        // Only now: before the sync a crash could have kept the removal and lost the new name.
        if let Some(older) = older {
            remove_file(&self.part_file(&older.name)).during("removing a replaced part")?;
        }
        Ok(name)
    }

    fn part_file(&self, name: &PartName) -> PathBuf {
        self.folder.join(name.to_string())
    }
}

/// A part as Complete lists it.
#[derive(Debug, Clone)]
pub(crate) struct ListedPart {
    pub(crate) number: i32,
    pub(crate) etag: Option<String>,
    pub(crate) crc64: Option<String>,
}

/// S3's least size of a part that is not the last.
pub(crate) const MIN_PART_BYTES: u64 = 5 << 20;

/// Chooses the parts that Complete lists.
///
/// # Errors
/// S3's own refusals: order, a part that is missing or another one, a part too small.
pub(crate) fn chosen_parts(state: &UploadState, listed: &[ListedPart]) -> Result<Vec<PartName>, StoreError> {
    if let Some(pair) = listed.windows(2).find(|pair| pair[0].number >= pair[1].number) {
        return Err(StoreError::InvalidPartOrder { number: pair[1].number });
    }
    let mut parts = Vec::with_capacity(listed.len());
    for wanted in listed {
        let stored = u16::try_from(wanted.number).ok().and_then(|number| state.parts.get(&number));
        let stored = stored.filter(|part| matches(&part.name, wanted));
        parts.push(stored.ok_or(StoreError::InvalidPart { number: wanted.number })?.name.clone());
    }
    let but_last = parts.len().saturating_sub(1);
    if let Some(small) = parts[..but_last].iter().find(|part| part.size_bytes < MIN_PART_BYTES) {
        return Err(StoreError::EntityTooSmall { number: small.number, size: small.size_bytes });
    }
    Ok(parts)
}

/// Tells whether a stored part is the one that Complete means.
pub(crate) fn matches(part: &PartName, wanted: &ListedPart) -> bool {
    let etag = wanted.etag.as_ref().is_some_and(|etag| etag.eq_ignore_ascii_case(&part.etag()));
    etag && wanted.crc64.as_ref().is_none_or(|crc64| *crc64 == crate::digest::crc64_text(part.crc64))
}

/// Removes the files of a folder that are none of these parts.
pub(crate) fn keep_only(folder: &Path, parts: &[String]) -> io::Result<()> {
    let kept: std::collections::HashSet<&str> = parts.iter().map(String::as_str).collect();
    for file in names_in(folder)? {
        if !kept.contains(file.as_str()) {
            remove_file(&folder.join(file))?;
        }
    }
    Ok(())
}
