//! What may leave: files below the roots, and the one `FILE_PATH`. The site has the last word.
//!
//! Deliberately absent: how a file is opened (`opening`) and what becomes of its bytes (`upload`). A refusal never
//! tells what exists outside the roots.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use hoist_wire::ErrorCode;
use hoist_wire::limits::{MAX_OBJECT_BYTES, MAX_PATH_BYTES};
use hoist_wire::to_server::Identity;

use super::deny::Deny;
use super::refusal::{NotGiven, failed, not_a_file, outside, refusal, too_long};
use crate::opening::{self, Opened, Symlinks};
use crate::platform;

/// The policy of one site.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    roots: Vec<Root>,
    default_file: Option<PathBuf>,
    max_file_bytes: Option<u64>,
    deny: Deny,
    allow_hard_links: bool,
    symlinks: Symlinks,
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
                // It need not be one that the agent may list.
                if !std::fs::metadata(&real).map_err(failed)?.is_dir() {
                    return Err(failed(io::ErrorKind::NotADirectory.into()));
                }
                Ok(Root { written: path.clone(), real })
            })
            .collect::<Result<_, RootsError>>()?;
        let default_file = default_file.map(|path| std::path::absolute(&path).unwrap_or(path));
        Ok(Self { roots, default_file, max_file_bytes, ..Self::default() })
    }

    /// Adds what the policy file says of files below them.
    pub(super) fn with(self, deny: Deny, allow_hard_links: bool, symlinks: Symlinks) -> Self {
        Self { deny, allow_hard_links, symlinks, ..self }
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
        // Where it really is first, and then its names: of a file that has none any more the system gives a path that no rule
        // is about.
        let resolved = platform::resolved_path(&file);
        self.may_be_there(asked, &shown, resolved.as_deref())?;
        self.has_one_name(&shown, file.metadata().map_or(0, |meta| platform::links(&meta)))?;
        self.not_too_large(&shown, identity.size_bytes)?;
        if !has_its_size(&file, &identity) {
            let message = format!(
                "{shown} does not have the size that it shows, as files in /proc and /sys do: only files on a disk can be sent"
            );
            return Err(refusal(ErrorCode::NotARegularFile, message));
        }
        let resolved = resolved.unwrap_or_else(|| PathBuf::from(&shown));
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

    /// Judges where an open file really is: a symlink must not dodge a rule.
    fn may_be_there(
        &self,
        asked: Option<&str>,
        shown: &str,
        resolved: Option<&Path>,
    ) -> Result<(), NotGiven> {
        match resolved {
            Some(path) => self.not_denied(asked, path),
            None if self.deny.is_empty() => Ok(()),
            // Where the system does not say, nobody can tell whether a rule forbids it.
            None => {
                let message = format!(
                    "{shown} cannot be judged by the site's deny rules here: this system does not say where an open file is"
                );
                Err(refusal(ErrorCode::DeniedByPolicy, message))
            }
        }
    }

    /// Judges how many names (hard links) an open file has.
    fn has_one_name(&self, shown: &str, links: u64) -> Result<(), NotGiven> {
        if links == 0 {
            let message = format!("{shown} was removed or replaced while it was opened: ask again");
            return Err(NotGiven { retry_after_ms: Some(1_000), ..refusal(ErrorCode::ReadFailed, message) });
        }
        if links > 1 && !self.allow_hard_links {
            let message = format!(
                "{shown} has {links} names (hard links), and could be another file in disguise: the site's policy may say allow_hard_links = true"
            );
            return Err(refusal(ErrorCode::HardLinked, message));
        }
        Ok(())
    }

    /// Tells whether the file that was found at `path`, and has so many names now, may leave by these rules. One that lost
    /// its last name since is read to its end: it is what was asked for.
    pub(super) fn still(&self, path: &Path, size_bytes: u64, links: u64) -> Result<(), NotGiven> {
        let shown = path.display().to_string();
        self.not_denied(Some(&shown), path)?;
        let is_below = self.roots.iter().any(|root| path.starts_with(&root.real));
        let is_default = |default: &PathBuf| default.canonicalize().is_ok_and(|real| real == path);
        if !(is_below || self.default_file.as_ref().is_some_and(is_default)) {
            return Err(outside(&shown));
        }
        self.has_one_name(&shown, links.max(1))?;
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
        let below = self.candidates(path).flat_map(|(root, rest)| {
            let (mut meant, mut names) = (Vec::new(), PathBuf::new());
            for part in rest.components() {
                match part {
                    Component::Normal(name) => names.push(name),
                    // A folder that is only passed through is meant too: whether it is there is nobody's business.
                    Component::ParentDir => {
                        meant.push(root.real.join(&names));
                        if !names.pop() {
                            return meant;
                        }
                    }
                    Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
            meant.push(root.real.join(names));
            meant
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
            match self.open_below(root, &rest, asked) {
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

    fn open_below(&self, root: &Root, rest: &Path, asked: &str) -> Result<File, NotGiven> {
        match opening::open_beneath(&root.real, rest, self.symlinks) {
            Ok(Opened::File(file)) => Ok(file),
            Ok(Opened::Other(other)) => Err(not_a_file(asked, other)),
            Ok(Opened::Outside) => Err(outside(asked)),
            Ok(Opened::Symlink) => {
                let message = format!(
                    "{asked} has a symlink in its path, and this site's policy says symlinks = \"refuse\": ask for the file itself"
                );
                Err(refusal(ErrorCode::DeniedByPolicy, message))
            }
            Err(error) => Err(failed(asked, &error)),
        }
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

fn open_configured(path: &Path) -> Result<(File, String), NotGiven> {
    let shown = path.display().to_string();
    match opening::open_named(path) {
        Ok(Opened::File(file)) => Ok((file, shown)),
        Ok(Opened::Other(other)) => Err(not_a_file(&shown, other)),
        Ok(Opened::Outside | Opened::Symlink) => Err(outside(&shown)),
        Err(error) => Err(failed(&shown, &error)),
    }
}

#[cfg(test)]
mod tests;
