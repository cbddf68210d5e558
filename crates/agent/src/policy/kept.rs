//! The count of the day in a file, so that a restart does not begin anew.
//!
//! What the file says is ahead of what was sent: a piece of the day is written down before its first byte leaves, so a process
//! that dies has sent no more than the file says, and a large day costs few writes. Deliberately absent: a sync of the disk.
//! A machine that loses its power may lose the last writes of some seconds.

use std::io;
use std::path::{Path, PathBuf};

use super::today::{DAY_SECS, Today};
use crate::platform;

/// How far the file is ahead at most, in bytes …
const MOST_AHEAD: u64 = 64 << 20;

/// … and which part of a day's share.
const SHARE_AHEAD: u64 = 64;

/// Largest file that could be one, in bytes.
const MAX_DAY_BYTES: usize = 256;

/// What the file begins with: another rule gets another name.
const VERSION: &str = "hoist-day-1";

/// The count, and the file that keeps it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    today: Today,
    path: Option<PathBuf>,
    /// What the file says.
    written: Today,
    /// The file could not be written lately: said once.
    failing: bool,
}

impl Kept {
    /// Takes bytes from the day's; gives the seconds until the next day where they are more than is left.
    pub(super) fn spend(
        &mut self,
        bytes: u64,
        most: u64,
        path: Option<&Path>,
        now_secs: i64,
    ) -> Result<(), u64> {
        if self.path.as_deref() != path {
            self.path = path.map(Path::to_owned);
            self.written = path.map_or_else(Today::default, |path| read(path, now_secs));
            // Of two counts of one day the larger one is nearer to what was sent.
            if (self.written.day, self.written.bytes) > (self.today.day, self.today.bytes) {
                self.today = self.written;
            }
        }
        self.today.spend(bytes, most, now_secs)?;
        let is_ahead = self.written.day == self.today.day && self.written.bytes >= self.today.bytes;
        if let Some(path) = self.path.as_deref().filter(|_| !is_ahead) {
            let ahead = (most / SHARE_AHEAD).min(MOST_AHEAD);
            let next = Today { bytes: self.today.bytes.saturating_add(ahead), ..self.today };
            match platform::write_whole(path, &format!("{VERSION} {} {}\n", next.day, next.bytes)) {
                Ok(()) => (self.written, self.failing) = (next, false),
                // What a site must send while its disk is full is its own log.
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::error!(?path, %error, "day_file cannot be written: a restart would not know what was sent today");
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Reads what a file says. One that says nothing that can be read has the day used up: nobody knows what was sent, and
/// tomorrow mends it.
fn read(path: &Path, now_secs: i64) -> Today {
    let text = match platform::read_own(path, MAX_DAY_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Today::default(),
        Err(error) => error.to_string(),
    };
    let mut words = text.split_whitespace();
    let numbers = (words.next(), words.next().map(str::parse), words.next().map(str::parse), words.next());
    if let (Some(VERSION), Some(Ok(day)), Some(Ok(bytes)), None) = numbers {
        return Today { day, bytes };
    }
    let text: String = text.chars().take(100).collect();
    tracing::error!(
        ?path,
        text,
        "day_file says nothing that can be read, so today counts as used up: remove it to begin at nothing"
    );
    Today { day: now_secs.div_euclid(DAY_SECS), bytes: u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 20_000 * DAY_SECS + 43_200;

    #[test]
    fn a_restart_counts_on_and_a_new_day_begins_at_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day");
        let spend = |kept: &mut Kept, bytes, secs| kept.spend(bytes, 6_400, Some(&path), secs);
        let mut first = Kept::default();
        assert_eq!(spend(&mut first, 1_000, NOON), Ok(()));
        assert_eq!(spend(&mut first, 5_000, NOON), Ok(()));
        // Whoever is killed has sent no more than the file says, and the file is at most a share ahead.
        drop(first);
        let mut second = Kept::default();
        assert_eq!(spend(&mut second, 401, NOON + 10), Err(43_190));
        assert_eq!(spend(&mut second, 300, NOON + 20), Ok(()));
        assert_eq!(spend(&mut Kept::default(), 200, NOON + 20), Err(43_180));
        assert_eq!(spend(&mut Kept::default(), 6_400, NOON + 43_200), Ok(()), "the next day");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_file_is_ahead_and_is_not_written_for_each_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day");
        let (mut kept, mut writes, mut before) = (Kept::default(), 0, String::new());
        for part in 1..=1_000_u64 {
            kept.spend(5 << 20, 1 << 40, Some(&path), NOON).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(read(&path, NOON).bytes >= part * (5 << 20));
            writes += usize::from(text != before);
            before = text;
        }
        assert!(writes < 100, "{writes} writes for 1,000 parts");
    }

    #[test]
    fn a_file_that_says_nothing_has_the_day_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day");
        for text in
            ["", "hoist-day-1 20000", "hoist-day-1 20000 -1", "hoist-day-2 20000 0", "hoist-day-1 1 2 3"]
        {
            std::fs::write(&path, text).unwrap();
            let mut kept = Kept::default();
            assert_eq!(kept.spend(1, 100, Some(&path), NOON), Err(43_200), "{text:?}");
            assert_eq!(
                kept.spend(1, 100, Some(&path), NOON + 43_200),
                Ok(()),
                "{text:?}: and tomorrow mends it"
            );
        }
        let mut folder = Kept::default();
        assert!(folder.spend(1, 100, Some(dir.path()), NOON).is_err(), "what cannot be read neither");
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_nothing() {
        let mut kept = Kept::default();
        let path = Path::new("/absent/day");
        assert_eq!(kept.spend(60, 100, Some(path), NOON), Ok(()));
        assert_eq!(kept.spend(60, 100, Some(path), NOON), Err(43_200), "it counts on in memory");
        assert_eq!(
            kept.spend(60, 100, None, NOON),
            Err(43_200),
            "also when the policy names no file any more"
        );
    }
}
