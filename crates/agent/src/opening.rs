//! Opening a file of the site: beneath a root, only for reading, and only where it is a regular file.
//!
//! A path is first resolved without opening what it leads to (`O_PATH`), the thing itself is looked at, and only a regular
//! file is then opened, through the descriptor that was looked at: between look and open nothing can be exchanged, and no
//! device, pipe or socket is ever opened, which alone may do something (rewind a tape). The kernel resolves beneath the root
//! (`openat2`, Linux 5.6); where there is none of that, cap-std walks name by name. Deliberately absent: which files may
//! leave (`policy`).

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// For reading; it neither waits for the writer of a pipe, nor makes a terminal ours, nor outlives us in a child.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// For a look: what it leads to is not opened.
const LOOKING: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// How often the kernel is asked again whether a path leads out while folders are renamed on and on.
const TRIES: usize = 64;

/// What becomes of symlinks below a root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Symlinks {
    /// They are followed as far as they stay below it.
    #[default]
    Follow,
    /// A path that has one leads nowhere.
    Refuse,
}

/// What a path led to, where that is not a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAFile {
    /// A directory.
    Directory,
    /// A device, a pipe or a socket.
    Special(&'static str),
}

/// What a path led to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A regular file, open for reading.
    File(File),
    /// Something else, which was not opened.
    Other(NotAFile),
    /// Out of the root.
    Outside,
    /// To a symlink, where they are refused.
    Symlink,
}

/// Opens `path` for reading beneath the folder `root`.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn open_beneath(root: &Path, path: &Path, symlinks: Symlinks) -> io::Result<Opened> {
    match resolved_by_kernel(root, path, symlinks) {
        // No such call; or a sandbox that knows it only as something to forbid. The walk says what is true.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOSYS | Errno::PERM)) => {
            walked(root, path, symlinks)
        }
        outcome => outcome,
    }
}

/// Opens the one file that the site's own settings name; its symlinks are the administrator's.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn open_named(path: &Path) -> io::Result<Opened> {
    let again = || Ok(std::fs::OpenOptions::new().read(true).custom_flags(bits(READING)).open(path)?.into());
    read_through(rustix::fs::openat(CWD, path, LOOKING, Mode::empty())?, again)
}

#[cfg(target_os = "linux")]
fn resolved_by_kernel(root: &Path, path: &Path, symlinks: Symlinks) -> io::Result<Opened> {
    use rustix::fs::{ResolveFlags, openat2};
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = match symlinks {
        Symlinks::Follow => beneath,
        Symlinks::Refuse => beneath | ResolveFlags::NO_SYMLINKS,
    };
    let dir = rustix::fs::openat(CWD, root, LOOKING | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let open = |flags| {
        let tries = std::iter::repeat_with(|| openat2(&dir, path, flags, Mode::empty(), resolve));
        let mut tries = tries.take(TRIES);
        tries.find(|outcome| !matches!(outcome, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
    };
    match open(LOOKING) {
        Ok(found) => read_through(found, || Ok(open(READING)?)),
        Err(Errno::XDEV) => Ok(Opened::Outside),
        Err(Errno::LOOP) if symlinks == Symlinks::Refuse => Ok(Opened::Symlink),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn resolved_by_kernel(_root: &Path, _path: &Path, _symlinks: Symlinks) -> io::Result<Opened> {
    Err(Errno::NOSYS.into())
}

/// Opens for reading what was found, if it is a regular file. `again` finds it once more, where a descriptor cannot be
/// opened through the system's own folder.
fn read_through(found: OwnedFd, again: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Opened> {
    let found = File::from(found);
    let looked_at = found.metadata()?;
    if let Some(other) = other(&looked_at) {
        return Ok(Opened::Other(other));
    }
    let itself = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
    Ok(Opened::File(reopen(&looked_at, &itself, again)?))
}

/// Opens for reading what was looked at, and nothing else.
fn reopen(
    looked_at: &Metadata,
    itself: &str,
    again: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<File> {
    match rustix::fs::openat(CWD, itself, READING, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let file = File::from(again()?);
            let opened = file.metadata()?;
            if (opened.dev(), opened.ino()) != (looked_at.dev(), looked_at.ino()) {
                // It was exchanged in between.
                return Err(Errno::AGAIN.into());
            }
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

fn other(meta: &Metadata) -> Option<NotAFile> {
    let kind = meta.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some(NotAFile::Directory)
    } else if kind.is_fifo() {
        Some(NotAFile::Special("pipe"))
    } else if kind.is_socket() {
        Some(NotAFile::Special("socket"))
    } else {
        Some(NotAFile::Special("device"))
    }
}

/// Opens as older kernels and other systems can: cap-std walks name by name and follows no link that it has not read itself.
fn walked(root: &Path, path: &Path, symlinks: Symlinks) -> io::Result<Opened> {
    let dir = Dir::open_ambient_dir(root, ambient_authority())?;
    if symlinks == Symlinks::Refuse && has_symlink(&dir, path)? {
        return Ok(Opened::Symlink);
    }
    // cap-std's own refusals carry no number of the system: the path led outside.
    let outside =
        |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none();
    let looked_at = match dir.metadata(path) {
        Err(error) if outside(&error) => return Ok(Opened::Outside),
        looked_at => looked_at?,
    };
    // It cannot be looked at and opened in one: what is no file now is not opened.
    if !looked_at.is_file() && !looked_at.is_dir() {
        use cap_std::fs::FileTypeExt as _;
        let kind = looked_at.file_type();
        let what = match (kind.is_fifo(), kind.is_socket()) {
            (true, _) => "pipe",
            (_, true) => "socket",
            (false, false) => "device",
        };
        return Ok(Opened::Other(NotAFile::Special(what)));
    }
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(bits(READING));
    let file = match dir.open_with(path, &options) {
        Err(error) if outside(&error) => return Ok(Opened::Outside),
        file => file?.into_std(),
    };
    if symlinks == Symlinks::Refuse && has_symlink(&dir, path)? {
        return Ok(Opened::Symlink);
    }
    Ok(other(&file.metadata()?).map_or_else(|| Opened::File(file), Opened::Other))
}

/// Looks at each name of a path on its own.
fn has_symlink(dir: &Dir, path: &Path) -> io::Result<bool> {
    let mut walked = PathBuf::new();
    for part in path.components() {
        walked.push(part);
        if !matches!(part, Component::Normal(_)) {
            continue;
        }
        match dir.symlink_metadata(&walked) {
            Ok(meta) if meta.is_symlink() => return Ok(true),
            Ok(_) => {}
            // What leads out, or to nothing, is told apart by the open.
            Err(error) if error.raw_os_error().is_none() || error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The flags as the standard library takes them.
fn bits(flags: OFlags) -> i32 {
    i32::from_ne_bytes(flags.bits().to_ne_bytes())
}

#[cfg(test)]
mod tests;
