//! What an object is called, and what its metadata says.

use std::collections::BTreeMap;

use hoist_wire::limits::{MAX_KEY_BYTES, MAX_METADATA_BYTES};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::bucket::{ObjectMeta, WRITE_TOKEN_KEY};
use crate::store::Record;

/// Longest path in the metadata, in bytes, after encoding; the record holds it whole.
const MAX_META_PATH_BYTES: usize = 512;

/// What is encoded in metadata: headers carry printable ASCII, and `%` must mean itself.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"').add(b'\\');

/// Makes an object's key: `{prefix}/{client_id}/{yyyymmdd-hhmmss}-{download id}-{file name}`, at most 1,024 bytes.
/// Where that is too long the name is cut, never the id.
///
/// Where another object has that key, a `mark` before the name makes it one's own.
pub(super) fn object_key(prefix: &str, record: &Record, file_name: &str, mark: Option<&str>) -> String {
    let created: String = record.created_at.to_string();
    let digits: String = created.chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, time) = digits.split_at_checked(8).unwrap_or((&digits, ""));
    let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let mark = mark.map_or_else(String::new, |mark| format!("{mark}-"));
    let head = format!("{folder}{}/{day}-{time}-{}-{mark}", record.client_id, record.id);
    let room = MAX_KEY_BYTES.saturating_sub(head.len());
    format!("{head}{}", cut(&safe(file_name), room))
}

/// What S3's XML cannot carry (XML 1.0, `Char`) would make an upload that cannot be listed, and a slash a folder. Marks that
/// turn the direction of writing would show another name than the one that it is.
fn safe(name: &str) -> String {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '/' | '\\' | '\u{fffe}' | '\u{ffff}' | '\u{200e}' | '\u{200f}')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().map(|c| if bad(c) { '_' } else { c }).collect()
}

fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Makes what the object carries: the write token, where it came from, and the operator's own.
pub(super) fn object_meta(record: &Record) -> ObjectMeta {
    let encode = |text: &str| utf8_percent_encode(text, NOT_PLAIN).to_string();
    let mut metadata = BTreeMap::new();
    metadata.insert(WRITE_TOKEN_KEY.to_owned(), record.write_token.clone());
    metadata.insert(String::from("hoist-client-id"), record.client_id.to_string());
    metadata.insert(String::from("hoist-download-id"), record.id.to_string());
    if let Some(found) = &record.found {
        metadata.insert(String::from("hoist-path"), cut_encoded(&encode(&found.path)).to_owned());
        metadata.insert(String::from("hoist-modified-ms"), found.modified_ms.to_string());
    }
    let mut room = MAX_METADATA_BYTES.saturating_sub(metadata.iter().map(|(k, v)| k.len() + v.len()).sum());
    for (name, value) in &record.metadata {
        let value = encode(value);
        let takes = name.len() + value.len();
        if takes <= room && !metadata.contains_key(name) {
            room -= takes;
            metadata.insert(name.clone(), value);
        }
    }
    ObjectMeta { metadata }
}

/// Cuts an encoded text without splitting an escape.
fn cut_encoded(text: &str) -> &str {
    if text.len() <= MAX_META_PATH_BYTES {
        return text;
    }
    let cut = &text[..MAX_META_PATH_BYTES];
    match cut.rfind('%') {
        Some(escape) if escape + 3 > cut.len() => &cut[..escape],
        Some(_) | None => cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FoundFile;
    use hoist_engine::life::Life;
    use hoist_wire::{DownloadId, OnChange, Timestamp};

    fn record(path: &str) -> Record {
        let now = Timestamp(1_795_521_600_123);
        Record {
            id: DownloadId::new(1, [7; 10]),
            client_id: "restaurant-1".parse().unwrap(),
            version: 1,
            life: Life::queued(now, None, OnChange::Restart),
            file_path: None,
            found: Some(FoundFile { path: path.to_owned(), name: String::new(), modified_ms: 5 }),
            object_key: None,
            write_token: String::from("token"),
            metadata: BTreeMap::new(),
            requested_by: String::from("ops"),
            max_rate_bytes_per_sec: None,
            stored_bytes: 0,
            created_at: now,
            started_at: None,
            updated_at: now,
            finished_at: None,
        }
    }

    #[test]
    fn a_key_tells_whose_when_and_what() {
        let record = record("/x");
        let id = record.id;
        let key = object_key("hoist", &record, "day report.csv", None);
        assert_eq!(key, format!("hoist/restaurant-1/20261124-120000-{id}-day report.csv"));
        let another = object_key("hoist", &record, "day report.csv", Some("1f3a"));
        assert_eq!(another, format!("hoist/restaurant-1/20261124-120000-{id}-1f3a-day report.csv"));
        assert!(object_key("", &record, "a", None).starts_with("restaurant-1/"));
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_the_id_stays() {
        let record = record("/x");
        let key = object_key("p", &record, &"ä".repeat(2000), Some("mark"));
        assert!(key.len() <= MAX_KEY_BYTES && key.contains(&record.id.to_string()) && key.ends_with('ä'));
    }

    #[test]
    fn what_xml_cannot_carry_is_replaced() {
        for name in ["a\nb/c", "a\u{fffe}b\u{ffff}c", "a\u{202e}b\u{2066}c"] {
            assert!(object_key("p", &record("/x"), name, None).ends_with("-a_b_c"), "{name:?}");
        }
    }

    #[test]
    fn metadata_stays_printable_and_within_its_limit() {
        let mut record = record(&"/ä \n".repeat(400));
        record.metadata.extend((0..20).map(|n| (format!("k{n}"), "ü".repeat(40))));
        let meta = object_meta(&record).metadata;
        assert!(meta.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= MAX_METADATA_BYTES);
        assert!(meta.values().all(|value| value.bytes().all(|b| b.is_ascii_graphic())));
        assert!(meta["hoist-path"].len() <= MAX_META_PATH_BYTES);
        assert_eq!(meta[WRITE_TOKEN_KEY], "token");
    }
}
