//! What may not leave, wherever it lies. Pure: no look at a disk.
//!
//! A rule without a slash is for a name at any depth, one with slashes is for a path below each root, one that begins with
//! a slash is for a path of the machine. What a rule denies it denies with all that is below. Big and small letters are
//! the same, as they may be to the file system.

use std::path::{Path, PathBuf};

use super::glob::{BadPattern, Glob};

/// All rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deny {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// As it stands in the file.
    text: String,
    scope: Scope,
    glob: Glob,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Name,
    BelowRoots,
    Machine,
}

impl Deny {
    /// Adds a rule.
    pub(super) fn add(&mut self, text: &str) -> Result<(), BadPattern> {
        // A folder may be written with its slash.
        let plain = text.strip_suffix('/').unwrap_or(text);
        let (scope, plain) = match plain.strip_prefix('/') {
            Some(rest) => (Scope::Machine, rest),
            None if plain.contains('/') => (Scope::BelowRoots, plain),
            None => (Scope::Name, plain),
        };
        let glob = Glob::parse(plain)?.and_below();
        let glob = if scope == Scope::Name { glob.in_any_folder() } else { glob };
        self.rules.push(Rule { text: text.to_owned(), scope, glob });
        Ok(())
    }

    /// Tells whether there are no rules.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Gives the rule that denies `path`, which is absolute; `bases` are the folders from which files may leave.
    pub(super) fn denies(&self, path: &Path, bases: &[PathBuf]) -> Option<&str> {
        if self.rules.is_empty() {
            return None;
        }
        let whole = names(path);
        let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
        let mut below: Vec<&[&str]> = bases
            .iter()
            .filter(|base| path.starts_with(base))
            .map(|base| &whole[names(base).len().min(whole.len())..])
            .collect();
        let is_below = !below.is_empty();
        if !is_below {
            // The one file, or one that a name leads to: its own folders are what can be named.
            below.push(&whole);
        }
        let denied = self.rules.iter().find(|rule| match rule.scope {
            Scope::Machine => rule.glob.matches(&whole),
            Scope::BelowRoots => is_below && below.iter().any(|names| rule.glob.matches(names)),
            Scope::Name => below.iter().any(|names| rule.glob.matches(names)),
        });
        denied.map(|rule| rule.text.as_str())
    }
}

/// Gives the names of a path; bytes that are no UTF-8 match a `?` or a `*`.
fn names(path: &Path) -> Vec<String> {
    let normal = |part| match part {
        std::path::Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        std::path::Component::Prefix(_)
        | std::path::Component::RootDir
        | std::path::Component::CurDir
        | std::path::Component::ParentDir => None,
    };
    path.components().filter_map(normal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denies(rule: &str, path: &str) -> bool {
        let mut deny = Deny::default();
        deny.add(rule).unwrap();
        deny.denies(Path::new(path), &[PathBuf::from("/pos/out"), PathBuf::from("/pos/out/deep")]).is_some()
    }

    #[test]
    fn a_rule_denies_what_it_names_and_all_that_is_below() {
        for (rule, path) in [
            ("*.key", "/pos/out/till.key"),
            ("*.key", "/pos/out/a/b/TILL.Key"),
            ("*.key", "/pos/out/folder.key/inside/file"),
            ("secrets", "/pos/out/a/secrets/file"),
            ("secrets/", "/pos/out/secrets"),
            ("a/b", "/pos/out/a/b/c/d"),
            ("a/*.log", "/pos/out/a/x.log"),
            ("a/b", "/pos/out/deep/a/b"),
            ("deep/a", "/pos/out/deep/a"),
            ("/pos/out/a", "/pos/out/a/b"),
            ("/pos/**/x", "/pos/out/q/x"),
            // The one file lies outside the roots, and its name counts all the same.
            ("*.key", "/etc/till.key"),
            ("/etc", "/etc/till.key"),
        ] {
            assert!(denies(rule, path), "{rule} {path}");
        }
    }

    #[test]
    fn a_rule_denies_nothing_else() {
        for (rule, path) in [
            ("*.key", "/pos/out/key"),
            ("pos", "/pos/out/a"),
            ("out", "/pos/out/a"),
            ("a/b", "/pos/out/x/a/b"),
            ("a/b", "/pos/out/a/bc"),
            ("/a", "/pos/out/a"),
            ("etc/till", "/etc/till"),
        ] {
            assert!(!denies(rule, path), "{rule} {path}");
        }
    }
}
