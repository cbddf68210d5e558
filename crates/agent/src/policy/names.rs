//! Logical names: `@report` is the newest file of a pattern, whatever it is called today.
//!
//! Deliberately absent: rights. What a name leads to is opened like any path that was asked for: below a root, and not denied.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::PathBuf;
use std::time::SystemTime;

use hoist_wire::ErrorCode;

use super::glob::Glob;
use super::refusal::NotGiven;

/// What a name begins with, where it is asked for.
pub(super) const MARK: char = '@';

/// Most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// The names of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<String, Pattern>);

/// A folder, and a pattern for the names of files in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: String,
    folder: PathBuf,
    file: Glob,
}

impl Names {
    /// Reads a name and its pattern.
    ///
    /// # Errors
    /// What is wrong with it, and the mend.
    pub(super) fn add(&mut self, name: &str, pattern: &str) -> Result<(), &'static str> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(
                "has a name that cannot be asked for: use 1 to 64 of the characters A-Z a-z 0-9 . _ -",
            );
        }
        let (folder, file) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        if !pattern.starts_with('/') || folder.contains(['*', '?']) {
            return Err(
                "is not the whole path of a folder and a pattern in it: write such as /pos/out/day-*.csv",
            );
        }
        if file.is_empty() || file.contains("**") {
            return Err("names no file in its folder: write such as /pos/out/day-*.csv");
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        let pattern = Pattern { text: pattern.to_owned(), folder: folder.into(), file: Glob::parse(file)? };
        self.0.insert(name.to_owned(), pattern);
        Ok(())
    }

    /// Gives the path of the newest file that a name stands for; of two of the same time the last by name. Blocks on the disk.
    ///
    /// # Errors
    /// [`NotGiven`] where there is no such name, or no such file now.
    pub(super) fn newest(&self, name: &str) -> Result<String, NotGiven> {
        let refuse =
            |message: String| NotGiven { code: ErrorCode::FileNotFound, message, retry_after_ms: None };
        let Some(pattern) = self.0.get(name) else {
            let known: Vec<_> = self.0.keys().map(|name| format!("{MARK}{name}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(refuse(format!("this site has no name {MARK}{name}; it has {known}")));
        };
        let entries = std::fs::read_dir(&pattern.folder).map_err(|error| {
            refuse(format!("{MARK}{name} ({}) cannot be looked for: {error}", pattern.text))
        })?;
        let newest = entries.flatten().take(MAX_ENTRIES).filter_map(|entry| pattern.file_of(&entry)).max();
        let none = || refuse(format!("no file is there now for {MARK}{name} ({})", pattern.text));
        let (_, file) = newest.ok_or_else(none)?;
        Ok(pattern.folder.join(file).to_string_lossy().into_owned())
    }
}

impl Pattern {
    /// Gives an entry's time and name, where it is a file that is meant.
    fn file_of(&self, entry: &DirEntry) -> Option<(SystemTime, String)> {
        let name = entry.file_name().into_string().ok().filter(|name| self.file.matches(&[name.as_str()]))?;
        // Without following a link: the newest file is meant, not the newest way to one.
        let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((meta.modified().ok()?, name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_file_of_a_pattern_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (name, secs) in
            [("day-1.csv", 10), ("day-2.csv", 30), ("day-3.csv", 30), ("day-9.txt", 90), ("other", 99)]
        {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(start + Duration::from_secs(secs)).unwrap();
        }
        std::fs::create_dir(dir.path().join("day-4.csv")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("day-5.csv")).unwrap();
        let mut names = Names::default();
        names.add("report", &format!("{}/day-*.csv", dir.path().display())).unwrap();
        names.add("none", &format!("{}/x-*", dir.path().display())).unwrap();
        assert!(names.newest("report").unwrap().ends_with("/day-3.csv"));
        assert!(names.newest("none").unwrap_err().message.contains("@none"));
        let unknown = names.newest("reprot").unwrap_err().message;
        assert!(unknown.contains("@reprot") && unknown.contains("@report"), "{unknown}");
    }

    #[test]
    fn a_pattern_that_cannot_be_is_refused() {
        let mut names = Names::default();
        for (name, pattern) in [
            ("a b", "/x/y"),
            ("", "/x/y"),
            ("a", "x/y"),
            ("a", "/x*/y"),
            ("a", "/x/"),
            ("a", "/x/**"),
            ("a", "/x/[a]"),
        ] {
            assert!(names.add(name, pattern).is_err(), "{name:?} = {pattern:?}");
        }
        assert!(names.add("a", "/y-*").is_ok());
    }
}
