//! Names of objects and their metadata, built from what an agent and an operator say.

use std::collections::BTreeMap;

use hoist_server::downloads::exposed::{Wanted, named};
use hoist_wire::limits::{MAX_KEY_BYTES, MAX_METADATA_BYTES};
use hoist_wire::{ClientId, DownloadId};

use super::texts;

/// The texts: client, file name, path, mark, a metadata name and its value.
pub(super) fn key(bytes: &[u8]) {
    let Some([client, name, path, mark, meta_name, meta_value]) = texts::<6>(bytes) else { return };
    let Ok(client_id) = client.parse::<ClientId>() else { return };
    let id = DownloadId::new(1, [7; 10]);
    // A mark is the server's own: eight hexadecimal digits.
    let mark = mark.len() == 8 && mark.bytes().all(|b| b.is_ascii_hexdigit());
    let mark = mark.then_some("0123abcd");
    // Of two lengths, the longest that the settings take among them.
    let longest = "p".repeat(256);
    for prefix in ["hoist", "", longest.as_str()] {
        let metadata = BTreeMap::from([(meta_name.to_owned(), meta_value.to_owned())]);
        let wanted = Wanted {
            prefix,
            client_id: client_id.clone(),
            id,
            name,
            path,
            modified_ms: i64::MIN,
            mark,
            metadata,
        };
        let (key, metadata) = named(wanted);
        holds(prefix, client, id, &key);
        let mut bytes = 0;
        for (name, value) in &metadata {
            bytes += name.len() + value.len();
            assert!(value.bytes().all(|b| b.is_ascii_graphic()), "no header carries {value:?}");
        }
        assert!(bytes <= MAX_METADATA_BYTES, "{bytes} bytes of metadata");
        assert_eq!(
            metadata["hoist-write-token"], "write-token",
            "somebody else's word stands for the server's"
        );
        assert_eq!(metadata["hoist-client-id"], client);
        for value in metadata.values() {
            let mut escapes = value.split('%').skip(1);
            let whole = escapes.all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
            assert!(whole, "an escape is cut: {value:?}");
        }
        assert!(metadata["hoist-path"].len() <= 512);
    }
}

fn holds(prefix: &str, client: &str, id: DownloadId, key: &str) {
    assert!(key.len() <= MAX_KEY_BYTES, "a key of {} bytes", key.len());
    let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let own = key.strip_prefix(&format!("{folder}{client}/"));
    let own = own.unwrap_or_else(|| panic!("{key:?} is outside its client's folder"));
    assert!(!own.contains('/') && !own.contains('\\'), "{key:?} has folders of its own");
    assert!(own.contains(&id.to_string()), "{key:?} does not say whose it is");
    // XML 1.0, `Char`, without what only a control character can be.
    let fits =
        |c: char| matches!(c, '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    assert!(key.chars().all(|c| fits(c) && !c.is_control()), "XML cannot carry {key:?}");
}
