//! What is left of files and memory: four fifths are for connections, the rest is for storage, the database and the log.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often what else is open, and the memory, is looked at. Connections are counted one by one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What of a limit may be used: four fifths.
const SHARE: (usize, usize) = (4, 5);

/// What is left.
#[derive(Debug)]
pub struct Headroom {
    /// Most files that may be open when another connection is taken.
    most_files: usize,
    /// Files that are no connections, when that was last looked at.
    other_files: AtomicUsize,
    /// Most resident memory when another connection is taken, in bytes; none where no limit is known.
    most_bytes: Option<u64>,
    /// Most connections while memory is short: as many as there were when it ran short. What an allocator keeps after a siege
    /// must not keep everybody out for ever.
    most_open: AtomicUsize,
    /// Nobody else was taken lately: said once.
    said: AtomicBool,
}

impl Headroom {
    /// Raises the limit of open files as far as the system lets it, and takes four fifths of it; so with the memory,
    /// whose limit is `max_memory`, or else what the system gives to this process.
    pub fn of_process(max_memory: Option<u64>) -> Self {
        let headroom = Self::of(raise_file_limit(), max_memory.or_else(memory_limit));
        tracing::debug!(
            files = headroom.most_files,
            bytes = headroom.most_bytes,
            "connections are taken up to"
        );
        headroom
    }

    /// Takes four fifths of these limits.
    pub fn of(files: usize, memory_bytes: Option<u64>) -> Self {
        let (used, of) = SHARE;
        Self {
            most_files: files.saturating_mul(used) / of,
            other_files: AtomicUsize::new(0),
            most_bytes: memory_bytes.map(|bytes| bytes / 5 * 4),
            most_open: AtomicUsize::new(usize::MAX),
            said: AtomicBool::new(false),
        }
    }

    /// Tells whether a connection may be taken that makes `open` of them.
    pub(super) fn has_room(&self, open: usize) -> bool {
        let files = open.saturating_add(self.other_files.load(Ordering::Relaxed));
        let room = files <= self.most_files && open <= self.most_open.load(Ordering::Relaxed);
        if !room && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                files,
                most_files = self.most_files,
                "four fifths of the files or of the memory are used: new connections are refused, live links are kept; \
                raise the limit of open files (ulimit -n, LimitNOFILE) or MAX_MEMORY, or add a server"
            );
        }
        room
    }

    /// Looks again and again, until the stop. `open` tells how many connections there are.
    pub(crate) async fn watch(&self, open: impl Fn() -> usize, stop: CancellationToken) {
        loop {
            self.look(open());
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn look(&self, open: usize) {
        if let Some(files) = open_files() {
            self.other_files.store(files.saturating_sub(open), Ordering::Relaxed);
        }
        if let Some(most) = self.most_bytes {
            let short = resident_bytes().is_some_and(|bytes| bytes > most);
            match (short, self.most_open.load(Ordering::Relaxed)) {
                (true, usize::MAX) => self.most_open.store(open, Ordering::Relaxed),
                (true, _) => {}
                (false, _) => self.most_open.store(usize::MAX, Ordering::Relaxed),
            }
        }
        let files = open.saturating_add(self.other_files.load(Ordering::Relaxed));
        // Well below the limit again: the next time is said anew.
        if files < self.most_files / 10 * 9 && self.most_open.load(Ordering::Relaxed) == usize::MAX {
            self.said.store(false, Ordering::Relaxed);
        }
    }
}

fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    limit.current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// How many files this process has open; none where the system does not tell.
fn open_files() -> Option<usize> {
    // The folder itself is open while it is read.
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
}

/// The memory that the control groups of this process may use, or else that the machine has.
fn memory_limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |group: PathBuf| std::fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok();
    groups(&own).filter_map(limit).min().or_else(machine_memory)
}

/// Gives the folders of the control group (v2) that `/proc/self/cgroup` names, and of those above it: each may set a limit,
/// and the least one holds.
fn groups(own: &str) -> impl Iterator<Item = PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let below = Path::new(path.trim_start_matches('/')).to_owned();
    let above: Vec<PathBuf> =
        below.ancestors().map(|group| Path::new("/sys/fs/cgroup").join(group)).collect();
    above.into_iter()
}

fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_stand_in_any_group_above() {
        let all = |own| groups(own).map(|path| path.display().to_string()).collect::<Vec<_>>();
        let root = "/sys/fs/cgroup/";
        let service = format!("{root}system.slice/hoist.service");
        assert_eq!(
            all("12:memory:/x\n0::/system.slice/hoist.service\n"),
            [service, format!("{root}system.slice"), root.to_owned()]
        );
        assert_eq!(all("0::/\n"), [root]);
        assert_eq!(all(""), [root], "and where nothing is told");
    }

    #[test]
    fn what_else_is_open_is_left_room_for() {
        let headroom = Headroom::of(100, None);
        assert!(headroom.has_room(80) && !headroom.has_room(81));
        headroom.other_files.store(30, Ordering::Relaxed);
        assert!(headroom.has_room(50) && !headroom.has_room(51));
    }

    #[test]
    fn this_process_shows_its_files_and_its_memory() {
        let before = open_files().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        // Other tests open files meanwhile.
        assert!(before > 2 && open_files().unwrap() > 2);
        drop(file);
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(machine_memory().unwrap() > resident_bytes().unwrap());
    }

    #[test]
    fn who_is_short_of_memory_takes_nobody() {
        let headroom = Headroom::of(1_000_000, Some(1024));
        assert!(headroom.has_room(11));
        headroom.look(10);
        assert!(!headroom.has_room(11), "no more than there are");
        headroom.look(3);
        assert!(headroom.has_room(10), "and not fewer, when some have gone");
    }
}
