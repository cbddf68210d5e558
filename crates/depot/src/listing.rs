//! Pages of lists, as S3 cuts them. Pure: it sees keys and numbers, no files.

use std::collections::BTreeMap;
use std::ops::Bound;

/// S3's largest page.
const MAX_PAGE: usize = 1_000;

/// How many entries a page may have, from what the request asks.
pub(crate) fn page_size(asked: Option<i32>) -> usize {
    asked.map_or(MAX_PAGE, |asked| usize::try_from(asked).unwrap_or(0).min(MAX_PAGE))
}

/// One line of a list of keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a, V> {
    Key(&'a str, &'a V),
    /// All keys that start so, up to and with the delimiter.
    CommonPrefix(&'a str),
}

impl<V> Entry<'_, V> {
    /// What the next page starts after.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Key(text, _) | Self::CommonPrefix(text) => text,
        }
    }
}

/// A page of keys that start with `prefix` and come after `after`, and whether more follow.
pub(crate) fn keys<'a, V>(
    map: &'a BTreeMap<String, V>,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
    size: usize,
) -> (Vec<Entry<'a, V>>, bool) {
    let mut page: Vec<Entry<'a, V>> = Vec::new();
    let from = after.filter(|after| *after > prefix).map_or(Bound::Included(prefix), Bound::Excluded);
    for (key, value) in map.range::<str, _>((from, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(prefix) else { break };
        let cut = delimiter.filter(|d| !d.is_empty()).and_then(|d| Some(rest.find(d)? + d.len()));
        let entry = match cut {
            Some(cut) => Entry::CommonPrefix(&key[..prefix.len() + cut]),
            None => Entry::Key(key, value),
        };
        let listed = page.last().is_some_and(|last| last.text() == entry.text());
        let on_an_earlier_page =
            matches!(entry, Entry::CommonPrefix(text) if after.is_some_and(|after| after.starts_with(text)));
        if listed && cut.is_some() || on_an_earlier_page {
            continue;
        }
        if page.len() == size {
            return (page, size > 0);
        }
        page.push(entry);
    }
    (page, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<String, ()> {
        keys.iter().map(|key| ((*key).to_owned(), ())).collect()
    }

    fn all_pages(
        map: &BTreeMap<String, ()>,
        prefix: &str,
        delimiter: Option<&str>,
        size: usize,
    ) -> Vec<String> {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let (page, more) = keys(map, prefix, delimiter, after.as_deref(), size);
            seen.extend(page.iter().map(|entry| entry.text().to_owned()));
            if !more {
                return seen;
            }
            assert_eq!(page.len(), size);
            after = seen.last().cloned();
        }
    }

    #[test]
    fn pages_of_any_size_show_each_key_once() {
        let map = map(&["a", "b/1", "b/2", "b/3", "b0", "c/1/x", "c/2"]);
        for size in 1..9 {
            assert_eq!(all_pages(&map, "", None, size).len(), 7);
            assert_eq!(all_pages(&map, "b/", None, size), ["b/1", "b/2", "b/3"]);
            assert_eq!(all_pages(&map, "", Some("/"), size), ["a", "b/", "b0", "c/"]);
            assert_eq!(all_pages(&map, "c/", Some("/"), size), ["c/1/", "c/2"]);
            assert!(all_pages(&map, "zzz", None, size).is_empty());
        }
    }

    #[test]
    fn an_empty_page_says_that_nothing_follows() {
        assert_eq!(keys(&map(&["a"]), "", None, None, 0), (Vec::new(), false));
    }
}
