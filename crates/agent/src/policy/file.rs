//! The policy file: TOML in, rules out, or an error that names file, line, value and mend. Pure: no look at a disk.
//!
//! Deliberately absent: defaults that would let more leave than the file says. A key that is not known stops the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoist_wire::duration::parse_size;
use serde::Deserialize;
use toml::Spanned;

use super::deny::Deny;
use super::hosts::Hosts;
use super::hours::Hours;
use super::names::Names;
use crate::opening::Symlinks;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) roots: Vec<PathBuf>,
    pub(super) deny: Deny,
    pub(super) max_file_bytes: Option<u64>,
    pub(super) max_bytes_a_day: Option<u64>,
    pub(super) hours: Hours,
    /// An IANA name; none for the machine's own.
    pub(super) timezone: Option<String>,
    pub(super) hosts: Hosts,
    pub(super) names: Names,
    pub(super) allow_hard_links: bool,
    pub(super) symlinks: Symlinks,
    /// Where the count of the day is kept; none for in memory alone.
    pub(super) day_file: Option<PathBuf>,
}

/// A place in the file that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct BadLine {
    line: usize,
    what: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    roots: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    max_file_size: Option<Spanned<String>>,
    max_bytes_a_day: Option<Spanned<String>>,
    #[serde(default)]
    hours: Vec<Spanned<String>>,
    timezone: Option<String>,
    storage_hosts: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    allow_hard_links: bool,
    symlinks: Option<Spanned<String>>,
    day_file: Option<Spanned<String>>,
    #[serde(default)]
    names: BTreeMap<String, Spanned<String>>,
}

impl Written {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            BadLine { line: line(text, at), what: format!("{:?}: {}", line_text(text, at), error.message()) }
        })?;
        let bad = |key: &str, value: &Spanned<String>, why: &str| BadLine {
            line: line(text, value.span().start),
            what: format!("{key}: {:?} {why}", value.get_ref()),
        };
        let mut written =
            Self { timezone: raw.timezone, allow_hard_links: raw.allow_hard_links, ..Self::default() };
        for root in &raw.roots {
            if !Path::new(root.get_ref()).is_absolute() {
                return Err(bad("roots", root, "is not absolute: write the whole path of a folder"));
            }
            written.roots.push(PathBuf::from(root.get_ref()));
        }
        for rule in &raw.deny {
            written.deny.add(rule.get_ref()).map_err(|why| bad("deny", rule, why))?;
        }
        for span in &raw.hours {
            written.hours.add(span.get_ref()).map_err(|why| bad("hours", span, why))?;
        }
        let size = |key: &str, size: &Option<Spanned<String>>| match size {
            None => Ok(None),
            Some(size) => {
                let bytes = parse_size(size.get_ref()).ok().filter(|bytes| *bytes > 0);
                let why = "is no size: write a number of at least 1 with its unit, such as 10GiB";
                bytes.map(Some).ok_or_else(|| bad(key, size, why))
            }
        };
        written.symlinks = match &raw.symlinks {
            None => Symlinks::Follow,
            Some(what) if what.get_ref() == "follow" => Symlinks::Follow,
            Some(what) if what.get_ref() == "refuse" => Symlinks::Refuse,
            Some(what) => return Err(bad("symlinks", what, "is neither \"follow\" nor \"refuse\"")),
        };
        if let Some(path) = &raw.day_file {
            if !Path::new(path.get_ref()).is_absolute() {
                return Err(bad("day_file", path, "is not absolute: write the whole path of a file"));
            }
            written.day_file = Some(PathBuf::from(path.get_ref()));
        }
        written.max_file_bytes = size("max_file_size", &raw.max_file_size)?;
        written.max_bytes_a_day = size("max_bytes_a_day", &raw.max_bytes_a_day)?;
        if let Some(hosts) = &raw.storage_hosts {
            for host in hosts {
                Hosts::of([host.get_ref().as_str()]).map_err(|(_, why)| bad("storage_hosts", host, why))?;
            }
            let all = Hosts::of(hosts.iter().map(|host| host.get_ref().as_str()));
            written.hosts = all.map_err(|(_, why)| BadLine { line: 1, what: why.to_owned() })?;
        }
        for (name, pattern) in &raw.names {
            let key = format!("names.{name}");
            written.names.add(name, pattern.get_ref()).map_err(|why| bad(&key, pattern, why))?;
        }
        Ok(written)
    }
}

fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn line_text(text: &str, at: usize) -> &str {
    text.lines().nth(line(text, at) - 1).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_names_the_line_the_value_and_the_mend() {
        for (text, line, value, mend) in [
            ("\ndeny = ['*.key', '[ab]']", 2, "[ab]", "use *, ?"),
            ("roots = ['pos/out']", 1, "pos/out", "whole path"),
            ("max_file_size = '0'", 1, "\"0\"", "10GiB"),
            ("# x\n# y\nhours = ['22-6']", 3, "22-6", "22:00-06:00"),
            ("storage_hosts = ['https://h']", 1, "https://h", "without scheme"),
            ("\nmax_fiel_size = '1GiB'", 2, "max_fiel_size", "expected one of"),
            ("\n\nsymlinks = 'no'", 3, "\"no\"", "refuse"),
            ("day_file = 'day'", 1, "\"day\"", "whole path"),
            ("allow_hard_links = 'yes'", 1, "yes", "boolean"),
            ("deny = [", 1, "deny", ""),
        ] {
            let error = Written::parse(text).unwrap_err();
            let shown = error.to_string();
            assert_eq!(error.line, line, "{shown}");
            assert!(shown.contains(value) && shown.contains(mend), "{text:?}: {shown}");
        }
        assert_eq!(Written::parse("").unwrap(), Written::default());
    }
}
