//! What may leave: files below the roots, and the one `FILE_PATH`. The site has the last word.
//!
//! Deliberately absent: how a file is opened (`platform`) and what becomes of its bytes (`upload`). A refusal never
//! tells what exists outside the roots.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use hoist_wire::ErrorCode;
use hoist_wire::limits::{MAX_OBJECT_BYTES, MAX_PATH_BYTES};
use hoist_wire::to_server::Identity;

use super::deny::Deny;
use crate::platform::{self, NotAFile};

/// The policy of one site.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    roots: Vec<Root>,
    default_file: Option<PathBuf>,
    max_file_bytes: Option<u64>,
    deny: Deny,
    allow_hard_links: bool,
}

/// A folder from which files may leave, as it was written and as it is.
#[derive(Debug, Clone)]
struct Root {
    written: PathBuf,
    real: PathBuf,
}

/// A setting of the policy that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Nothing may leave at all.
    #[error(
        "nothing may leave this machine: name a folder with --root (AGENT_ROOTS) or one file with FILE_PATH"
    )]
    Nothing,
    /// A root that is no folder.
    #[error("root {path:?} cannot be used: {source}; name an existing folder with --root or AGENT_ROOTS")]
    Root {
        /// The root as written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a file does not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct NotGiven {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// When it may be asked again; none where it is for good.
    pub(crate) retry_after_ms: Option<u64>,
}

/// A file that may leave, open for one pass.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) identity: Identity,
}

impl Roots {
    /// Makes a policy; folders are looked at now, so that a mistake shows at the start.
    ///
    /// # Errors
    /// [`RootsError`] where nothing could leave, or a root is no folder.
    pub fn new(
        roots: &[PathBuf],
        default_file: Option<PathBuf>,
        max_file_bytes: Option<u64>,
    ) -> Result<Self, RootsError> {
        if roots.is_empty() && default_file.is_none() {
            return Err(RootsError::Nothing);
        }
        let roots = roots
            .iter()
            .map(|path| {
                let failed = |source| RootsError::Root { path: path.clone(), source };
                let real = path.canonicalize().map_err(failed)?;
                Dir::open_ambient_dir(&real, ambient_authority()).map_err(failed)?;
                Ok(Root { written: path.clone(), real })
            })
            .collect::<Result<_, RootsError>>()?;
        let default_file = default_file.map(|path| std::path::absolute(&path).unwrap_or(path));
        Ok(Self { roots, default_file, max_file_bytes, ..Self::default() })
    }

    /// Adds what the policy file says of files below them.
    pub(super) fn with(self, deny: Deny, allow_hard_links: bool) -> Self {
        Self { deny, allow_hard_links, ..self }
    }

    /// Gives the folders and the file for the line that is logged at the start.
    pub(crate) fn describe(&self) -> String {
        let roots = self.roots.iter().map(|root| root.real.display().to_string());
        let file = self.default_file.iter().map(|path| path.display().to_string());
        roots.chain(file).collect::<Vec<_>>().join(":")
    }

    /// Opens the file that a request names, or `FILE_PATH` where it names none. Blocks on the disk.
    pub(crate) fn open(&self, asked: Option<&str>) -> Result<OpenFile, NotGiven> {
        // By name first: what is denied is answered alike whether it exists or not.
        let named =
            asked.map_or_else(|| self.default_file.iter().cloned().collect(), |path| self.meant(path));
        for path in &named {
            self.not_denied(asked, path)?;
        }
        let (file, shown) = match asked {
            None => self.open_default()?,
            Some(path) => self.open_asked(path)?,
        };
        let meta = file.metadata().map_err(|error| failed(&shown, &error))?;
        let identity = platform::identity(&meta);
        // And where it really is: a symlink must not dodge a rule.
        match platform::resolved_path(&file) {
            Some(path) => self.not_denied(asked, &path)?,
            None if self.deny.is_empty() => {}
            // Where the system does not say, nobody can tell whether a rule forbids it.
            None => {
                let message = format!(
                    "{shown} cannot be judged by the site's deny rules here: this system does not say where an open file is"
                );
                return Err(refusal(ErrorCode::DeniedByPolicy, message));
            }
        }
        // Asked after that look: of a file that has no name any more the system gives one that no rule is about.
        let links = file.metadata().map_or(0, |meta| platform::links(&meta));
        if links == 0 {
            let message = format!("{shown} was removed or replaced while it was opened: ask again");
            return Err(NotGiven { retry_after_ms: Some(1_000), ..refusal(ErrorCode::ReadFailed, message) });
        }
        if !self.allow_hard_links && platform::links(&meta) > 1 {
            return Err(refusal(
                ErrorCode::HardLinked,
                format!(
                    "{shown} has {} names (hard links), and could be another file in disguise: the site's policy may say allow_hard_links = true",
                    platform::links(&meta)
                ),
            ));
        }
        self.not_too_large(&shown, identity.size_bytes)?;
        if !has_its_size(&file, &identity) {
            let message = format!(
                "{shown} does not have the size that it shows, as files in /proc and /sys do: only files on a disk can be sent"
            );
            return Err(refusal(ErrorCode::NotARegularFile, message));
        }
        let resolved = platform::resolved_path(&file).unwrap_or_else(|| PathBuf::from(&shown));
        let utf8 = |text: Option<&str>| {
            text.map(str::to_owned).ok_or_else(|| {
                let message = format!("{shown} leads to a name that is not UTF-8: rename it at the site");
                refusal(ErrorCode::PathNotUtf8, message)
            })
        };
        let path = utf8(resolved.to_str())?;
        let name = utf8(resolved.file_name().and_then(|name| name.to_str()))?;
        if path.len() > MAX_PATH_BYTES {
            return Err(too_long(path.len()));
        }
        Ok(OpenFile { file, path, name, identity })
    }

    /// Tells whether the file that was found at `path` may leave by these rules.
    pub(super) fn still(&self, path: &Path, size_bytes: u64) -> Result<(), NotGiven> {
        let shown = path.display().to_string();
        self.not_denied(Some(&shown), path)?;
        let is_below = self.roots.iter().any(|root| path.starts_with(&root.real));
        let is_default = |default: &PathBuf| default.canonicalize().is_ok_and(|real| real == path);
        if !(is_below || self.default_file.as_ref().is_some_and(is_default)) {
            return Err(outside(&shown));
        }
        self.not_too_large(&shown, size_bytes)
    }

    fn not_too_large(&self, shown: &str, size: u64) -> Result<(), NotGiven> {
        let limit = self.max_file_bytes.unwrap_or(MAX_OBJECT_BYTES).min(MAX_OBJECT_BYTES);
        if size <= limit {
            return Ok(());
        }
        Err(refusal(
            ErrorCode::FileTooLarge,
            format!(
                "{shown} has {size} bytes, over this site's limit of {limit} (--max-file-size, or max_file_size of its policy)"
            ),
        ))
    }

    /// Gives the absolute paths that a request may mean, without a look at the disk; those that lead out mean nothing.
    fn meant(&self, asked: &str) -> Vec<PathBuf> {
        let path = Path::new(asked);
        let below = self.candidates(path).filter_map(|(root, rest)| {
            let mut names = PathBuf::new();
            for part in rest.components() {
                match part {
                    Component::Normal(name) => names.push(name),
                    Component::ParentDir if !names.pop() => return None,
                    Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
            Some(root.real.join(names))
        });
        below.chain(self.default_file.iter().filter(|default| default.as_path() == path).cloned()).collect()
    }

    fn not_denied(&self, asked: Option<&str>, path: &Path) -> Result<(), NotGiven> {
        let bases: Vec<PathBuf> = self.roots.iter().map(|root| root.real.clone()).collect();
        let Some(rule) = self.deny.denies(path, &bases) else { return Ok(()) };
        let shown = asked.unwrap_or("FILE_PATH");
        let message = format!("{shown} may not leave this site: its policy says deny {rule:?}");
        Err(refusal(ErrorCode::DeniedByPolicy, message))
    }

    fn open_default(&self) -> Result<(File, String), NotGiven> {
        let Some(path) = &self.default_file else {
            let message = "the request names no file, and this agent has no FILE_PATH: name one".to_owned();
            return Err(refusal(ErrorCode::NoDefaultFile, message));
        };
        open_configured(path)
    }

    fn open_asked(&self, asked: &str) -> Result<(File, String), NotGiven> {
        if asked.is_empty() || asked.contains('\0') {
            let message = format!("{asked:?} cannot name a file: it is empty or has a NUL byte");
            return Err(refusal(ErrorCode::InvalidPath, message));
        }
        if asked.len() > MAX_PATH_BYTES {
            return Err(too_long(asked.len()));
        }
        let path = Path::new(asked);
        if let Some(default) = self.default_file.as_ref().filter(|default| default.as_path() == path) {
            return open_configured(default);
        }
        let mut best: Option<NotGiven> = None;
        for (root, rest) in self.candidates(path) {
            match open_below(root, &rest, asked) {
                Ok(file) => return Ok((file, root.real.join(rest).display().to_string())),
                // The first root that knows the file speaks; one that does not know it only if no other does.
                Err(error) if error.code == ErrorCode::FileNotFound => {
                    best.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(best.unwrap_or_else(|| outside(asked)))
    }

    /// Gives the roots in which `path` may lie, with what remains of it below them.
    fn candidates<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Root, PathBuf)> + 'a {
        self.roots.iter().filter_map(move |root| {
            let rest = if path.is_absolute() {
                path.strip_prefix(&root.real).or_else(|_| path.strip_prefix(&root.written)).ok()?
            } else {
                path
            };
            let named = rest.components().any(|part| matches!(part, Component::Normal(_)));
            // "." and the root itself are the folder; ".." alone leads out and cap-std says so.
            Some((root, if named || rest.starts_with("..") { rest.to_owned() } else { PathBuf::from(".") }))
        })
    }
}

/// Tells whether a file ends where its size says. One that was cut or grew just now is left to whoever reads it, and so is
/// one that cannot be read.
fn has_its_size(file: &File, identity: &Identity) -> bool {
    let mut byte = [0];
    let read = |byte: &mut [u8], offset| platform::read_at(file, byte, offset);
    let size = identity.size_bytes;
    let ends = match size {
        0 => read(&mut byte, 0).ok() != Some(1),
        size => read(&mut byte, size - 1).ok() != Some(0),
    };
    ends || file.metadata().map_or(true, |meta| meta.len() != size)
}

fn open_below(root: &Root, rest: &Path, asked: &str) -> Result<File, NotGiven> {
    let dir = Dir::open_ambient_dir(&root.real, ambient_authority())
        .map_err(|error| refusal(ErrorCode::ReadFailed, format!("root {:?}: {error}", root.real)))?;
    match platform::open_beneath(&dir, rest) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(other)) => Err(not_a_file(asked, other)),
        // cap-std's own refusals carry no number of the system: the path led outside.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() => {
            Err(outside(asked))
        }
        Err(error) => Err(failed(asked, &error)),
    }
}

fn open_configured(path: &Path) -> Result<(File, String), NotGiven> {
    let shown = path.display().to_string();
    match platform::open_named(path) {
        Ok(Ok(file)) => Ok((file, shown)),
        Ok(Err(other)) => Err(not_a_file(&shown, other)),
        Err(error) => Err(failed(&shown, &error)),
    }
}

fn not_a_file(shown: &str, other: NotAFile) -> NotGiven {
    match other {
        NotAFile::Directory => {
            refusal(ErrorCode::IsADirectory, format!("{shown} is a directory: name one file in it"))
        }
        NotAFile::Special(kind) => refusal(
            ErrorCode::NotARegularFile,
            format!("{shown} is a {kind}: only regular files can be sent"),
        ),
    }
}

fn outside(asked: &str) -> NotGiven {
    let message = format!(
        "{asked} leads outside what this site lets go: the site's administrator may add a folder with --root"
    );
    refusal(ErrorCode::OutsideRoots, message)
}

fn too_long(bytes: usize) -> NotGiven {
    let message =
        format!("the path has {bytes} bytes, over the limit of {MAX_PATH_BYTES}: use a shorter one");
    refusal(ErrorCode::PathTooLong, message)
}

/// Gives a failure of the system its code and what the operator can do.
fn failed(shown: &str, error: &io::Error) -> NotGiven {
    use io::ErrorKind;
    if platform::is_locked(error) {
        let message = format!("{shown} is held by another program ({error}): try again when it is released");
        return refusal(ErrorCode::FileLocked, message);
    }
    if platform::is_loop(error) {
        let message = format!("{shown} leads round in circles: mend its symlinks");
        return refusal(ErrorCode::FileNotFound, message);
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the standard library is open")]
    let (code, what) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (ErrorCode::FileNotFound, "does not exist below the roots: check the path".to_owned())
        }
        ErrorKind::PermissionDenied => {
            let who = platform::user();
            (
                ErrorCode::PermissionDenied,
                format!("may not be read by the agent ({who}): let it read the file"),
            )
        }
        ErrorKind::InvalidFilename => {
            (ErrorCode::PathTooLong, "has a name that is too long for the file system".to_owned())
        }
        ErrorKind::InvalidInput => (ErrorCode::InvalidPath, "cannot name a file".to_owned()),
        _ => (ErrorCode::ReadFailed, format!("could not be read: {error}; check the disk at the site")),
    };
    refusal(code, format!("{shown} {what}"))
}

fn refusal(code: ErrorCode, message: String) -> NotGiven {
    NotGiven { code, message, retry_after_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A site with one root, and a neighbour of it that must stay unseen.
    struct Place {
        dir: tempfile::TempDir,
        roots: Roots,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        for folder in ["root/sub", "outside", "second"] {
            std::fs::create_dir_all(base.join(folder)).unwrap();
        }
        for file in ["root/file", "root/sub/deep", "outside/secret", "second/other", "second/file"] {
            std::fs::write(base.join(file), file).unwrap();
        }
        let root = base.join("root");
        symlink("sub/deep", root.join("inner")).unwrap();
        symlink("../outside/secret", root.join("escape")).unwrap();
        symlink("../outside/absent", root.join("escape-absent")).unwrap();
        symlink(base.join("outside"), root.join("escape-dir")).unwrap();
        symlink("/etc/passwd", root.join("escape-absolute")).unwrap();
        symlink("round", root.join("round")).unwrap();
        symlink(OsStr::from_bytes(b"odd\xff"), root.join("to-odd")).unwrap();
        std::fs::write(root.join(OsStr::from_bytes(b"odd\xff")), "odd").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let roots = Roots::new(&[root, base.join("second")], None, None).unwrap();
        Place { dir, roots }
    }

    fn code(roots: &Roots, asked: &str) -> Result<String, ErrorCode> {
        roots.open(Some(asked)).map(|file| file.name).map_err(|not_given| not_given.code)
    }

    #[test]
    fn a_file_whose_size_is_a_lie_is_no_file() {
        let roots = Roots::new(&[PathBuf::from("/proc")], None, None).unwrap();
        let refused = roots.open(Some("/proc/cpuinfo")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotARegularFile, "{refused}");
    }

    #[test]
    fn every_way_out_is_closed() {
        let place = place();
        let base = place.dir.path().display().to_string();
        for asked in [
            "escape",
            "escape-absent",
            "escape-dir/secret",
            "escape-dir/absent",
            "escape-absolute",
            "../outside/secret",
            "../outside/absent",
            "..",
            "sub/../../outside/secret",
            "/etc/passwd",
            "/absent",
            "/",
            &format!("{base}/outside/secret"),
            &format!("{base}/outside/absent"),
            &format!("{base}/{}", "root/../outside/secret"),
            &format!("{base}/rootless"),
        ] {
            assert_eq!(code(&place.roots, asked), Err(ErrorCode::OutsideRoots), "{asked}");
        }
    }

    #[test]
    fn a_refusal_is_the_same_whether_something_is_there_or_not() {
        let place = place();
        for (there, absent) in [("escape", "escape-absent"), ("../outside/secret", "../outside/absent")] {
            let message = |asked: &str| place.roots.open(Some(asked)).unwrap_err().message.replace(asked, "");
            assert_eq!(message(there), message(absent));
        }
    }

    #[test]
    fn files_are_found_in_the_roots_in_order() {
        let place = place();
        let base = place.dir.path().canonicalize().unwrap();
        for (asked, path) in [
            ("file", "root/file"),
            ("other", "second/other"),
            ("inner", "root/sub/deep"),
            ("sub/../file", "root/file"),
            ("./sub//deep", "root/sub/deep"),
        ] {
            let file = place.roots.open(Some(asked)).unwrap();
            assert_eq!(file.path, base.join(path).display().to_string(), "{asked}");
        }
        let absolute = base.join("second/file").display().to_string();
        assert_eq!(place.roots.open(Some(&absolute)).unwrap().path, absolute);
        let link = place.dir.path().join("link");
        symlink("root", &link).unwrap();
        let through = Roots::new(std::slice::from_ref(&link), None, None).unwrap();
        assert_eq!(code(&through, &link.join("file").display().to_string()), Ok("file".to_owned()));
    }

    #[test]
    fn what_is_no_file_has_its_own_code() {
        let place = place();
        let long = "x".repeat(300);
        let far = "x/".repeat(2500);
        for (asked, expected) in [
            ("absent", ErrorCode::FileNotFound),
            ("file/below", ErrorCode::FileNotFound),
            ("sub", ErrorCode::IsADirectory),
            (".", ErrorCode::IsADirectory),
            ("pipe", ErrorCode::NotARegularFile),
            ("socket", ErrorCode::NotARegularFile),
            ("", ErrorCode::InvalidPath),
            ("fi\0le", ErrorCode::InvalidPath),
            ("to-odd", ErrorCode::PathNotUtf8),
            (&long, ErrorCode::PathTooLong),
            (&far, ErrorCode::PathTooLong),
        ] {
            assert_eq!(code(&place.roots, asked), Err(expected), "{asked:?}");
        }
        let round = code(&place.roots, "round");
        assert!(matches!(round, Err(ErrorCode::FileNotFound | ErrorCode::OutsideRoots)), "{round:?}");
        let devices = Roots::new(&[PathBuf::from("/dev")], None, None).unwrap();
        assert_eq!(code(&devices, "null"), Err(ErrorCode::NotARegularFile));
    }

    #[test]
    fn a_file_that_may_not_be_read_names_the_user() {
        if rustix::process::geteuid().is_root() {
            eprintln!("skipped: root may read everything");
            return;
        }
        let place = place();
        let path = place.dir.path().join("root/file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        let refused = place.roots.open(Some("file")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied);
        assert!(refused.message.contains("user id"));
    }

    #[test]
    fn the_one_file_may_leave_and_nothing_beside_it() {
        let place = place();
        let secret = place.dir.path().join("outside/secret");
        let only = Roots::new(&[], Some(secret.clone()), None).unwrap();
        assert_eq!(only.open(None).unwrap().name, "secret");
        assert_eq!(code(&only, &secret.display().to_string()), Ok("secret".to_owned()));
        assert_eq!(code(&only, "secret"), Err(ErrorCode::OutsideRoots));
        assert_eq!(code(&only, "/etc/passwd"), Err(ErrorCode::OutsideRoots));
        assert_eq!(place.roots.open(None).unwrap_err().code, ErrorCode::NoDefaultFile);
        let absent = Roots::new(&[], Some(place.dir.path().join("absent")), None).unwrap();
        assert_eq!(absent.open(None).unwrap_err().code, ErrorCode::FileNotFound);
        let folder = Roots::new(&[], Some(place.dir.path().join("root")), None).unwrap();
        assert_eq!(folder.open(None).unwrap_err().code, ErrorCode::IsADirectory);
        let pipe = Roots::new(&[], Some(place.dir.path().join("root/pipe")), None).unwrap();
        assert_eq!(pipe.open(None).unwrap_err().code, ErrorCode::NotARegularFile);
    }

    #[test]
    fn a_file_over_the_limit_stays() {
        let place = place();
        let small = Roots::new(&[place.dir.path().join("root")], None, Some(8)).unwrap();
        let refused = small.open(Some("file")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::FileTooLarge);
        assert!(refused.message.contains("--max-file-size"));
    }

    /// The place with a rule, and what it denies by name, by symlink and by nothing at all.
    fn place_that_denies(rules: &[&str]) -> Place {
        let mut place = place();
        let mut deny = Deny::default();
        for rule in rules {
            deny.add(rule).unwrap();
        }
        place.roots = place.roots.with(deny, false);
        place
    }

    #[test]
    fn what_is_denied_stays_by_every_way_to_it_and_the_rule_is_named() {
        let place = place_that_denies(&["deep", "second-*/x"]);
        let base = place.dir.path().join("root");
        for asked in [
            "sub/deep",
            "sub/DEEP",
            "./sub//deep",
            "inner",
            "sub/../sub/deep",
            &base.join("sub/deep").display().to_string(),
        ] {
            let refused = place.roots.open(Some(asked)).unwrap_err();
            // In other letters it is another file here, and denied by its name all the same.
            assert_eq!(refused.code, ErrorCode::DeniedByPolicy, "{asked}");
            assert!(
                refused.message.contains("deny \"deep\"") && refused.retry_after_ms.is_none(),
                "{refused}"
            );
        }
        assert_eq!(code(&place.roots, "file"), Ok("file".to_owned()));
    }

    #[test]
    fn a_denied_file_is_answered_alike_whether_it_exists_or_not() {
        let place = place_that_denies(&["*.key"]);
        std::fs::write(place.dir.path().join("root/there.key"), "key").unwrap();
        let message = |asked: &str| {
            let refused = place.roots.open(Some(asked)).unwrap_err();
            (refused.code, refused.message.replace(asked, ""))
        };
        assert_eq!(message("there.key"), message("absent.key"));
        assert_eq!(message("there.key/below"), message("absent/absent.key"));
        assert_eq!(message("there.key").0, ErrorCode::DeniedByPolicy);
    }

    #[test]
    fn a_deny_rule_holds_for_the_one_file_too() {
        let place = place();
        let secret = place.dir.path().join("outside/secret");
        let mut deny = Deny::default();
        deny.add("secret").unwrap();
        let only = Roots::new(&[], Some(secret.clone()), None).unwrap().with(deny, false);
        assert_eq!(only.open(None).unwrap_err().code, ErrorCode::DeniedByPolicy);
        assert_eq!(code(&only, &secret.display().to_string()), Err(ErrorCode::DeniedByPolicy));
    }

    #[test]
    fn a_file_of_several_names_stays_unless_that_is_allowed() {
        let place = place();
        std::fs::hard_link(place.dir.path().join("outside/secret"), place.dir.path().join("root/disguise"))
            .unwrap();
        assert_eq!(code(&place.roots, "disguise"), Err(ErrorCode::HardLinked));
        let allowed = place.roots.with(Deny::default(), true);
        assert_eq!(code(&allowed, "disguise"), Ok("disguise".to_owned()));
    }

    #[test]
    fn a_swap_between_look_and_open_never_gives_a_byte_of_the_secret() {
        let place = place();
        let root = place.dir.path().join("root");
        std::fs::write(root.join("swapped"), "harmless").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let (mut given, mut led_out) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A file and a folder take turns with symlinks that lead out.
                for turn in 0..5_000 {
                    for (name, to, kept) in
                        [("swapped", "../outside/secret", "file"), ("sub", "../outside", "sub")]
                    {
                        let fresh = root.join(format!("fresh-{turn}"));
                        symlink(to, &fresh).unwrap();
                        let aside = root.join(format!("aside-{kept}"));
                        std::fs::rename(root.join(name), &aside).unwrap();
                        std::fs::rename(&fresh, root.join(name)).unwrap();
                        std::fs::remove_file(root.join(name)).unwrap();
                        std::fs::rename(&aside, root.join(name)).unwrap();
                    }
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                for asked in ["swapped", "sub/deep", "sub/secret"] {
                    let opened = place.roots.open(Some(asked));
                    given += usize::from(opened.is_ok());
                    led_out +=
                        usize::from(opened.as_ref().is_err_and(|it| it.code == ErrorCode::OutsideRoots));
                    if let Ok(opened) = opened {
                        let text = std::io::read_to_string(opened.file).unwrap();
                        assert!(!text.contains("secret"), "{asked} gave {text:?}");
                    }
                }
            }
        });
        assert!(given > 0 && led_out > 0, "the race was never run: {given} {led_out}");
    }

    #[test]
    fn magic_links_and_devices_lead_nowhere() {
        let proc = Roots::new(&[PathBuf::from("/proc")], None, None).unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(secret.as_file());
        for asked in [
            "self/root/etc/passwd",
            &format!("self/fd/{fd}"),
            "self/cwd/Cargo.toml",
            "self/exe",
            "thread-self/root/etc/passwd",
        ] {
            assert!(code(&proc, asked).is_err(), "{asked}");
        }
        let dev = Roots::new(&[PathBuf::from("/dev")], None, None).unwrap();
        for asked in ["null", "zero", "tty", "fd/0", "stdin"] {
            assert!(code(&dev, asked).is_err(), "{asked}");
        }
    }
}
