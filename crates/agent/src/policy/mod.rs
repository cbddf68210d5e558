//! The site's policy: what may leave this machine, when, and to where. The site has the last word.
//!
//! Flags and an optional file (`POLICY_FILE`) say it; the file is read again on SIGHUP, and a bad one changes nothing.
//! Files are only ever opened for reading. Deliberately absent: what becomes of a file's bytes (`upload`).

mod deny;
mod file;
mod glob;
mod hosts;
mod hours;
mod kept;
mod names;
mod refusal;
mod roots;
mod today;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use hoist_wire::ErrorCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::{error, info};

use crate::platform;

use file::Written;
use hosts::Hosts;
use hours::Hours;
use kept::Kept;
use names::Names;
pub(crate) use refusal::NotGiven;
pub(crate) use roots::OpenFile;
pub use roots::{Roots, RootsError};

/// Largest policy file, in bytes.
const MAX_POLICY_BYTES: usize = 64 * 1024;

/// The policy of now; clones share it, so that a new one is used by the next request.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    source: Source,
    rules: Arc<RwLock<Arc<Rules>>>,
    /// The hosts that were named when the agent enrolled; they count where the file names none.
    enrolled: Arc<OnceLock<Vec<String>>>,
    today: Arc<Mutex<Kept>>,
}

/// What flags say, which stays as given, and where the file is.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The policy file.
    pub file: Option<PathBuf>,
    /// Folders given by flag; those of the file come after them.
    pub roots: Vec<PathBuf>,
    /// The one file that may leave wherever it is.
    pub default_file: Option<PathBuf>,
    /// Largest file; of two limits the smaller one rules.
    pub max_file_bytes: Option<u64>,
}

/// A policy that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("POLICY_FILE {path:?} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file says something that cannot be.
    #[error("POLICY_FILE {path:?}, {what}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// Line, key, value and mend.
        what: String,
    },
    /// A folder that cannot be used, or none at all.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// All rules, made of flags and file.
#[derive(Debug, Default)]
struct Rules {
    roots: Roots,
    hours: Hours,
    zone: Option<TimeZone>,
    hosts: Hosts,
    names: Names,
    max_bytes_a_day: Option<u64>,
    day_file: Option<PathBuf>,
}

impl Policy {
    /// Reads the policy.
    ///
    /// # Errors
    /// [`PolicyError`] naming what is wrong and where.
    pub fn read(source: Source) -> Result<Self, PolicyError> {
        let rules = Arc::new(RwLock::new(Arc::new(source.read()?)));
        Ok(Self { source, rules, enrolled: Arc::default(), today: Arc::default() })
    }

    /// Makes a policy of folders alone.
    pub fn of(roots: Roots) -> Self {
        let rules = Rules { roots, ..Rules::default() };
        let rules = Arc::new(RwLock::new(Arc::new(rules)));
        Self { source: Source::default(), rules, enrolled: Arc::default(), today: Arc::default() }
    }

    /// Reads the file again; a bad one changes nothing and is said once. Blocks on the disk.
    pub fn reload(&self) {
        match self.source.read() {
            _ if self.source.file.is_none() => {
                info!("SIGHUP: no POLICY_FILE is set, so nothing is read again")
            }
            Ok(rules) => {
                info!(may_leave = rules.roots.describe(), "the policy was read again");
                *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
            }
            Err(failure) => error!(error = %failure, "the policy stays as it was"),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names the hosts that count where the file names none.
    pub(crate) fn enrolled(&self, hosts: &[String]) {
        // An agent learns them once in its life.
        let _ = self.enrolled.set(hosts.to_vec());
    }

    /// Gives the folders and the file for the line that is logged at the start.
    pub(crate) fn describe(&self) -> String {
        self.rules().roots.describe()
    }

    /// Opens the file that a request names, if it may leave now. Blocks on the disk.
    pub(crate) fn open(&self, asked: Option<&str>) -> Result<OpenFile, NotGiven> {
        let rules = self.rules();
        // Before any look at the disk: outside the hours every request is answered alike.
        rules.open_now()?;
        match asked.and_then(|asked| asked.strip_prefix(names::MARK)) {
            Some(name) => {
                let path = rules.names.newest(name)?;
                // By the name it was asked for, and by no other is it answered.
                rules.roots.open(Some(&path)).map_err(|not_given| NotGiven {
                    message: not_given.message.replace(&path, asked.unwrap_or_default()),
                    ..not_given
                })
            }
            None => rules.roots.open(asked),
        }
    }

    /// Tells whether a file that was opened before may still leave: by the rules, and at the hour, of now.
    pub(crate) fn still(&self, path: &str, size_bytes: u64, links: u64) -> Result<(), NotGiven> {
        let rules = self.rules();
        rules.open_now()?;
        rules.roots.still(Path::new(path), size_bytes, links)
    }

    /// Takes so many bytes from what may be sent today; a part that is sent again counts again.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), NotGiven> {
        let rules = self.rules();
        let Some(most) = rules.max_bytes_a_day else { return Ok(()) };
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = today.spend(bytes, most, rules.day_file.as_deref(), Timestamp::now().as_second());
        wait.map_err(|wait_secs| NotGiven {
            code: ErrorCode::DayUsedUp,
            message: format!(
                "this site sends at most {most} bytes a day (max_bytes_a_day), and today's are used up until midnight UTC"
            ),
            retry_after_ms: Some(wait_secs.saturating_mul(1000)),
        })
    }

    /// Tells whether bytes may be sent to this host, or which rule forbids it.
    pub(crate) fn sends_to(&self, host: &str, port: u16) -> Result<(), String> {
        let hosts = &self.rules().hosts;
        if let Some(enrolled) = self.enrolled.get().filter(|_| !hosts.are_named()) {
            if enrolled.iter().any(|known| known.eq_ignore_ascii_case(host)) {
                return Ok(());
            }
            let list = enrolled.join(", ");
            return Err(format!(
                "storage at {host}:{port} is none of the hosts that were named when this agent enrolled ({list}): if the bucket has \
                moved, enrol anew, or name it in the policy's storage_hosts"
            ));
        }
        if hosts.allows(host, port) {
            return Ok(());
        }
        let list = hosts.describe();
        Err(format!("storage at {host}:{port} is not among this site's storage_hosts ({list})"))
    }
}

impl Source {
    fn read(&self) -> Result<Rules, PolicyError> {
        let written = self.file.as_deref().map_or_else(|| Ok(Written::default()), read_file)?;
        let zone = match (&written.timezone, &self.file) {
            (Some(name), Some(path)) => Some(TimeZone::get(name).map_err(|_| PolicyError::Bad {
                path: path.clone(),
                what: format!(
                    "timezone: {name:?} is not known here: write UTC, or a name such as Europe/Berlin"
                ),
            })?),
            _ if written.hours != Hours::default() => Some(TimeZone::system()),
            _ => None,
        };
        let limits = [self.max_file_bytes, written.max_file_bytes];
        let all: Vec<PathBuf> = self.roots.iter().chain(&written.roots).cloned().collect();
        let roots = Roots::new(&all, self.default_file.clone(), limits.into_iter().flatten().min())?;
        let roots = roots.with(written.deny, written.allow_hard_links, written.symlinks);
        Ok(Rules {
            roots,
            hours: written.hours,
            zone,
            hosts: written.hosts,
            names: written.names,
            max_bytes_a_day: written.max_bytes_a_day,
            day_file: written.day_file,
        })
    }
}

fn read_file(path: &Path) -> Result<Written, PolicyError> {
    let failed = |source| PolicyError::Read { path: path.to_owned(), source };
    let text = platform::read_own(path, MAX_POLICY_BYTES).map_err(failed)?;
    let bad = |what| PolicyError::Bad { path: path.to_owned(), what };
    Written::parse(&text).map_err(|error| bad(error.to_string()))
}

impl Rules {
    fn open_now(&self) -> Result<(), NotGiven> {
        // Only where hours are set: reading the machine's zone takes more stack than the readers' threads have.
        let Some(zone) = &self.zone else { return Ok(()) };
        let time = zone.to_datetime(Timestamp::now()).time();
        let second = [(time.hour(), 3600), (time.minute(), 60), (time.second(), 1)]
            .into_iter()
            .map(|(count, secs)| u32::from(count.unsigned_abs()) * secs)
            .sum();
        let Some(wait) = self.hours.shut_for(second) else { return Ok(()) };
        let hours = self.hours.describe();
        Err(NotGiven {
            code: ErrorCode::OutsideHours,
            message: format!("files leave this site only within its hours ({hours})"),
            retry_after_ms: u64::try_from(wait.as_millis()).ok(),
        })
    }
}

/// Reads bytes as a policy, a NUL and a path, and judges the path; for fuzzing. Pure.
///
/// # Panics
/// If something below a denied folder is not denied: a defect.
pub fn try_bytes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (policy, path) = text.split_once('\0').unwrap_or((text, "/a/b"));
    let Ok(written) = Written::parse(policy) else { return };
    let _ = (written.hours.shut_for(0), written.hosts.allows(path, 443));
    let path = Path::new("/").join(path);
    if written.deny.denies(&path, &written.roots).is_some() {
        assert!(written.deny.denies(&path.join("below"), &written.roots).is_some(), "{path:?} is denied");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_what_is_denied_tells_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::write(root.join("a.key"), "key").unwrap();
        let file = root.join("policy.toml");
        let shown = root.display();
        let text = format!("roots = [\"{shown}\"]\ndeny = [\"*.key\"]\n[names]\nkey = \"{shown}/*.key\"\n");
        std::fs::write(&file, text).unwrap();
        let policy = Policy::read(Source { file: Some(file), ..Source::default() }).unwrap();
        let refused = policy.open(Some("@key")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::DeniedByPolicy);
        assert!(refused.message.starts_with("@key may not leave"), "{}", refused.message);
        assert!(!refused.message.contains("a.key"), "{}", refused.message);
    }
}
