//! What fuzz targets ask of the downloads' inside: what an object is called, and what its metadata says.
//!
//! Only with the feature `simulation`. Deliberately absent: rules. The functions that the driver uses are called.

use std::collections::BTreeMap;

use hoist_engine::life::Life;
use hoist_wire::{ClientId, DownloadId, Timestamp};

use super::key::{object_key, object_meta};
use crate::store::{FoundFile, Record};

/// A file and whoever wants it, as their two sides say it.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// What keys begin with.
    pub prefix: &'a str,
    /// The client.
    pub client_id: ClientId,
    /// The download.
    pub id: DownloadId,
    /// What the agent calls the file.
    pub name: &'a str,
    /// Where the agent says it lies.
    pub path: &'a str,
    /// When it says it was modified, in milliseconds since 1970.
    pub modified_ms: i64,
    /// What stands before the name where the key is taken.
    pub mark: Option<&'a str>,
    /// The operator's own metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Gives the object's key and its metadata.
pub fn named(wanted: Wanted<'_>) -> (String, BTreeMap<String, String>) {
    let now = Timestamp(1_795_521_600_123);
    let found = FoundFile {
        path: wanted.path.to_owned(),
        name: wanted.name.to_owned(),
        modified_ms: wanted.modified_ms,
    };
    let record = Record {
        id: wanted.id,
        client_id: wanted.client_id,
        version: 1,
        life: Life::queued(now, None, None),
        file_path: None,
        found: Some(found),
        object_key: None,
        write_token: String::from("write-token"),
        metadata: wanted.metadata,
        requested_by: String::from("ops"),
        max_rate_bytes_per_sec: None,
        stored_bytes: 0,
        created_at: now,
        started_at: None,
        updated_at: now,
        finished_at: None,
    };
    let key = object_key(wanted.prefix, &record, wanted.name, wanted.mark);
    (key, object_meta(&record).metadata)
}
