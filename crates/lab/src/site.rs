//! A site: a folder with files, and what is in them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ring::digest;
use tempfile::TempDir;

/// A folder from which an agent may give files.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
}

impl Site {
    /// Makes an empty one.
    ///
    /// # Panics
    /// If no folder can be made.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for a site");
        Self { dir }
    }

    /// Gives the folder.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Gives the path of a file in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a file of so many random bytes.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn random(&self, name: impl AsRef<Path>, bytes: u64) -> PathBuf {
        let path = self.path(name);
        let mut random = File::open("/dev/urandom").expect("random bytes").take(bytes);
        let mut file = File::create(&path).expect("a file at the site");
        std::io::copy(&mut random, &mut file).expect("bytes in a file at the site");
        path
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives bytes their SHA-256, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Writes bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
