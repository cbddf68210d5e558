//! Files that are whole or not there: temporary file, fsync, rename, fsync of the folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::names::fresh_id;

/// A file that vanishes unless it is given a name.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: Option<PathBuf>,
    file: File,
}

impl TempFile {
    /// Creates an empty file in `folder`.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(fresh_id(0).map_err(io::Error::other)?);
        let file = File::create_new(&path)?;
        Ok(Self { path: Some(path), file })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Waits until the bytes are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its name, replacing what had it. Durable once the folder is synced.
    pub(crate) fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows has no such call: there a rename is durable when the file system says so.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Writes a record to a temporary file and waits for the disk; the caller gives it its name.
pub(crate) fn write_record<T: Serialize>(temp_folder: &Path, record: &T) -> io::Result<TempFile> {
    let mut temp = TempFile::create(temp_folder)?;
    temp.write_all(&serde_json::to_vec(record)?)?;
    temp.sync()?;
    Ok(temp)
}

/// Reads a record.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Removes a file; one that is gone already is no error.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a folder and all in it; one that is gone already is no error.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a folder that are valid UTF-8: the depot writes no other.
pub(crate) fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
        .collect()
}
