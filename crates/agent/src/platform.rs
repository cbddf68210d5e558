//! What differs between operating systems: a file's identity, the machine's id, private files.
//!
//! Deliberately absent: how a file of the site is opened (`opening`), and which may leave (`policy`). Only Unix is here so far; another system gets its own half of
//! this module and nothing else changes.

use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hoist_wire::to_server::Identity;
use sha2::{Digest as _, Sha256};

/// Gives the path by which an open file is known to the system; none where the system does not say.
pub(crate) fn resolved_path(file: &File) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok().filter(|path| path.is_absolute())
}

/// Gives what must stay the same from the first to the last read.
pub(crate) fn identity(meta: &Metadata) -> Identity {
    let ns = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
    Identity {
        device: meta.dev(),
        inode: meta.ino(),
        size_bytes: meta.len(),
        modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
        changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
    }
}

/// Gives how many names (hard links) a file has.
pub(crate) fn links(meta: &Metadata) -> u64 {
    meta.nlink()
}

/// Reads at `offset` until `buf` is full or the file ends; gives the bytes read.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads all of `buf` at `offset` if that needs no wait for a disk; tells whether it did.
///
/// # Errors
/// Whatever the system says.
#[cfg(target_os = "linux")]
pub(crate) fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<bool> {
    use rustix::io::{Errno, ReadWriteFlags};
    let len = buf.len();
    match rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
        Ok(read) => Ok(read == len),
        // Not in memory; or a file system or a kernel that does not know the question.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Other systems do not tell, so every read may wait.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_cached(_file: &File, _buf: &mut [u8], _offset: u64) -> io::Result<bool> {
    Ok(false)
}

/// Tells whether a refusal to open came from a lock and not from the rights.
pub(crate) fn is_locked(error: &io::Error) -> bool {
    let locked = [rustix::io::Errno::BUSY, rustix::io::Errno::TXTBSY, rustix::io::Errno::AGAIN];
    error.raw_os_error().is_some_and(|raw| locked.iter().any(|errno| errno.raw_os_error() == raw))
}

/// Tells whether a path has more symlinks than the system follows.
pub(crate) fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Gives the user that must be given the right to read, for messages.
pub(crate) fn user() -> String {
    format!("user id {}", rustix::process::geteuid().as_raw())
}

/// Gives the operating system and processor, such as `linux-x86_64`.
pub(crate) fn os() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Gives the machine's host name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Gives an id that is the same for every process of this machine, and tells nothing about it: 32 hex digits.
pub(crate) fn machine_id() -> String {
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    let source = id.unwrap_or_else(|| format!("{} {}", host_name(), hardware_addresses().join(" ")));
    // Hashed, as machine-id(5) asks for: the id itself must not leave the machine.
    let digest = Sha256::digest(format!("hoist-agent {source}"));
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hardware_addresses() -> Vec<String> {
    let cards = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut found: Vec<String> = cards
        .filter_map(|card| std::fs::read_to_string(card.path().join("address")).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty() && text != "00:00:00:00:00:00")
        .collect();
    found.sort();
    found
}

/// Opens a file of the agent's own settings: a regular one. Whatever else stands there is not waited for.
///
/// # Errors
/// Whatever the system says; `InvalidInput` where it is no regular file.
fn open_own(path: &Path) -> io::Result<File> {
    let flags =
        i32::from_ne_bytes((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits().to_ne_bytes());
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file: name one"))
}

/// Reads a text file of the agent's own settings, of at most `most` bytes.
///
/// # Errors
/// Whatever the system says; `InvalidInput` where it is no regular file, `FileTooLarge` where it has more.
pub(crate) fn read_own(path: &Path, most: usize) -> io::Result<String> {
    read_text(open_own(path)?, most)
}

fn read_text(file: File, most: usize) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    file.take(most as u64 + 1).read_to_string(&mut text)?;
    if text.len() <= most {
        return Ok(text);
    }
    let why = format!("it is over the limit of {most} bytes: make it shorter");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
}

/// Largest file with a secret, in bytes.
pub(crate) const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Reads a secret that nobody but the owner may read; gives the file's rights where others may.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn read_private(path: &Path) -> io::Result<Result<String, u32>> {
    let file = open_own(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Ok(Err(mode));
    }
    read_text(file, MAX_SECRET_BYTES).map(Ok)
}

/// Writes a secret to `path` so that a reader sees the old or the new one whole, and nobody but the owner sees any.
///
/// # Errors
/// Whatever the system says; the old file is then as it was.
pub(crate) fn write_private(path: &Path, secret: &str) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fresh = beside(path);
    let write = || -> io::Result<()> {
        // A leftover of a process with the same id that died in between.
        let _ = std::fs::remove_file(&fresh);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(secret.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&fresh)))
}

/// Writes `path` so that a reader sees the old or the new text whole; whether it outlives a loss of power is the disk's.
///
/// # Errors
/// Whatever the system says; the old file is then as it was.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let fresh = beside(path);
    let write = || {
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&fresh)))
}

/// Gives a name beside `path` that is this process's own.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_machine_id_is_stable_and_fits_an_instance() {
        assert_eq!(machine_id(), machine_id());
        assert!(hoist_wire::Instance::new("p", &machine_id()).is_ok());
    }

    #[test]
    fn a_secret_replaces_the_old_one_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "old").unwrap();
        write_private(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_private(&dir.path().join("absent/token"), "new").is_err());
    }

    #[test]
    fn what_is_no_regular_file_or_too_large_is_no_setting_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert_eq!(read_own(path, 100).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(read_private(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        let file = dir.path().join("file");
        std::fs::write(&file, "x".repeat(100)).unwrap();
        assert_eq!(read_own(&file, 100).unwrap().len(), 100);
        assert_eq!(read_own(&file, 99).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_write_changes_the_identity_and_a_read_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let file = File::open(&path).unwrap();
        let before = identity(&file.metadata().unwrap());
        let mut buf = [0; 8];
        assert_eq!(read_at(&file, &mut buf, 1).unwrap(), 2);
        assert_eq!(identity(&file.metadata().unwrap()), before);
        std::fs::write(&path, "three").unwrap();
        assert_ne!(identity(&file.metadata().unwrap()), before);
        assert_eq!(resolved_path(&file), Some(path.canonicalize().unwrap()));
    }
}
