//! Which clients an operator may see: labels, which the server keeps, and the reach of a token.
//!
//! Deliberately absent: what an agent says of itself. Those are facts, and they grant nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ClientId;
use crate::limits::{MAX_LABEL_BYTES, MAX_LABELS, MAX_REACH_LABELS};

/// The labels of a client.
pub type Labels = BTreeMap<String, String>;

/// What is wrong with labels, or with a reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReach {
    /// Too many labels.
    #[error("{0} labels are too many: use at most {1}")]
    TooMany(usize, usize),
    /// A label's name or value.
    #[error(
        "label {0:?}={1:?} is not allowed: name and value have 1 to {MAX_LABEL_BYTES} of the characters A-Z a-z 0-9 . _ -, \
         and the name begins and ends with a letter or digit"
    )]
    Label(String, String),
    /// The prefix cannot begin a client id.
    #[error(
        "prefix {0:?} begins no client id: use 1 to {max} of the characters A-Z a-z 0-9 . _ -",
        max = ClientId::MAX_BYTES
    )]
    Prefix(String),
    /// It names neither a prefix nor a label.
    #[error("it names neither a prefix nor a label: leave `clients` out for all clients")]
    Empty,
}

/// Checks the labels of a client.
///
/// # Errors
/// [`BadReach`] with what is wrong.
pub fn check_labels(labels: &Labels) -> Result<(), BadReach> {
    check_pairs(labels, MAX_LABELS)
}

fn check_pairs(labels: &Labels, most: usize) -> Result<(), BadReach> {
    if labels.len() > most {
        return Err(BadReach::TooMany(labels.len(), most));
    }
    labels.iter().try_for_each(|(name, value)| check_label(name, value))
}

/// Checks one label.
///
/// # Errors
/// [`BadReach::Label`].
pub fn check_label(name: &str, value: &str) -> Result<(), BadReach> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let (first, last) = (name.as_bytes().first(), name.as_bytes().last());
    if is_plain(name, MAX_LABEL_BYTES) && is_plain(value, MAX_LABEL_BYTES) && edge(first) && edge(last) {
        return Ok(());
    }
    let shown = |text: &str| text.chars().take(MAX_LABEL_BYTES + 1).collect();
    Err(BadReach::Label(shown(name), shown(value)))
}

/// Tells whether a text has 1 to `most` of the characters of a client id.
fn is_plain(text: &str, most: usize) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= most && text.bytes().all(plain)
}

/// The clients that a token reaches: those whose id begins so, and that have all these labels.
///
/// An unknown field is an error: what this version does not understand might be what narrows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// What their ids begin with, byte by byte.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Labels that they have, all of them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// Reads a prefix that is there; null is none, and must not pass for one.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

impl Reach {
    /// Checks that it narrows something, and can mean a client.
    ///
    /// # Errors
    /// [`BadReach`] with what is wrong.
    pub fn check(&self) -> Result<(), BadReach> {
        if self.is_all() {
            return Err(BadReach::Empty);
        }
        if let Some(prefix) = self.prefix.as_ref().filter(|prefix| !is_plain(prefix, ClientId::MAX_BYTES)) {
            return Err(BadReach::Prefix(prefix.chars().take(ClientId::MAX_BYTES + 1).collect()));
        }
        check_pairs(&self.labels, MAX_REACH_LABELS)
    }

    /// Tells whether it narrows nothing.
    pub fn is_all(&self) -> bool {
        self.prefix.is_none() && self.labels.is_empty()
    }

    /// Tells whether it has a client with these labels.
    pub fn has(&self, client: &ClientId, labels: &Labels) -> bool {
        let begins = self.prefix.as_ref().is_none_or(|prefix| client.as_str().starts_with(prefix.as_str()));
        begins && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    /// Tells whether everything that it has, now or ever, is within another one.
    pub fn is_within(&self, other: &Self) -> bool {
        let narrower = match (&self.prefix, &other.prefix) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(others)) => own.starts_with(others.as_str()),
        };
        narrower && other.labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Gives what two of them have both; none where that can be no client.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let prefix = match (&self.prefix, &other.prefix) {
            (Some(one), Some(two)) if one.starts_with(two.as_str()) => Some(one),
            (Some(one), Some(two)) if two.starts_with(one.as_str()) => Some(two),
            (Some(_), Some(_)) => return None,
            (one, two) => one.as_ref().or(two.as_ref()),
        };
        let mut labels = self.labels.clone();
        for (name, value) in &other.labels {
            if labels.insert(name.clone(), value.clone()).is_some_and(|before| before != *value) {
                return None;
            }
        }
        Some(Self { prefix: prefix.cloned(), labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(prefix: &str, labels: &[(&str, &str)]) -> Reach {
        let prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
        Reach { prefix, labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect() }
    }

    #[test]
    fn a_reach_has_what_begins_so_and_has_every_label() {
        let north = reach("north-", &[("kind", "till")]);
        let labels = reach("", &[("kind", "till"), ("x", "y")]).labels;
        let has = |id: &str, labels: &Labels| north.has(&id.parse().unwrap(), labels);
        assert!(has("north-1", &labels) && has("north-", &labels));
        assert!(!has("north", &labels) && !has("NORTH-1", &labels) && !has("x-north-1", &labels));
        assert!(!has("north-1", &Labels::new()));
        assert!(!has("north-1", &reach("", &[("kind", "Till")]).labels));
        let wild = reach("n_rth", &[]);
        assert!(!wild.has(&"north-1".parse().unwrap(), &Labels::new()), "an underscore is an underscore");
    }

    #[test]
    fn what_is_within_another_has_nothing_more() {
        let all = [
            reach("", &[]),
            reach("n", &[]),
            reach("no", &[]),
            reach("s", &[]),
            reach("", &[("a", "1")]),
            reach("", &[("a", "2")]),
            reach("n", &[("a", "1")]),
            reach("no", &[("a", "1"), ("b", "1")]),
        ];
        let labels = [Labels::new(), all[4].labels.clone(), all[5].labels.clone(), all[7].labels.clone()];
        for (one, two) in all.iter().flat_map(|one| all.iter().map(move |two| (one, two))) {
            let both = one.and(two);
            for (id, labels) in
                ["n", "no", "nox", "s", "x"].iter().flat_map(|id| labels.iter().map(move |l| (id, l)))
            {
                let id = id.parse().unwrap();
                let (first, second) = (one.has(&id, labels), two.has(&id, labels));
                assert!(!one.is_within(two) || !first || second, "{one:?} in {two:?}: {id} {labels:?}");
                assert_eq!(both.as_ref().is_some_and(|both| both.has(&id, labels)), first && second);
            }
        }
        assert!(all[7].is_within(&all[6]) && !all[6].is_within(&all[7]) && !all[0].is_within(&all[1]));
    }

    #[test]
    fn what_narrows_nothing_or_means_no_client_is_refused() {
        assert_eq!(reach("", &[]).check(), Err(BadReach::Empty));
        assert!(reach("north-", &[]).check().is_ok() && reach("", &[("a", "b-")]).check().is_ok());
        for bad in ["a%", "a b", "ä", "~", "a/b"] {
            assert!(reach(bad, &[]).check().is_err(), "{bad}");
        }
        assert_eq!(reach(&"x".repeat(129), &[]).check(), Err(BadReach::Prefix("x".repeat(129))));
        for (name, value) in
            [("", "x"), ("x", ""), ("-x", "x"), ("x-", "x"), ("x", "a b"), ("a=b", "x"), ("x", "%")]
        {
            assert!(check_label(name, value).is_err(), "{name}={value}");
        }
        let many = |n: usize| (0..n).map(|i| (format!("l{i}"), String::from("x"))).collect::<Labels>();
        assert!(check_labels(&many(32)).is_ok() && check_labels(&many(33)).is_err());
        assert!(Reach { prefix: None, labels: many(9) }.check().is_err(), "a token must fit into a header");
        assert!(serde_json::from_str::<Reach>(r#"{"prefix": "n", "until": "noon"}"#).is_err());
    }
}
