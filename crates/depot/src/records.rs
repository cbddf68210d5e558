//! What the depot writes beside the bytes, as JSON: one record for each bucket, upload and object.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::dto::Timestamp;
use serde::{Deserialize, Serialize};

/// `bucket.json`: a bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BucketRecord {
    pub(crate) created_ms: u64,
}

/// What a client says of an object besides its bytes. Kept and given back, never interpreted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) metadata: Option<HashMap<String, String>>,
    /// The encryption asked for. It is echoed; the depot encrypts nothing.
    pub(crate) encryption: Option<String>,
}

/// `uploads/<id>.json`: an upload that is neither completed nor aborted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) created_ms: u64,
    /// Created with `ChecksumAlgorithm=CRC64NVME`; without, the depot computes it all the same.
    pub(crate) asked_crc64: bool,
    pub(crate) description: Description,
}

/// `objects/<hash of key>.json`: an object. Its appearance under this name is the moment it exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ObjectRecord {
    pub(crate) key: String,
    /// The folder below `data` with its bytes; of a multipart object, the upload's id.
    pub(crate) data: String,
    pub(crate) modified_ms: u64,
    pub(crate) size_bytes: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) crc64: u64,
    /// The files of its bytes, in order.
    pub(crate) parts: Vec<String>,
    pub(crate) description: Description,
}

/// The clock as records have it: milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A record's time as S3 shows it.
pub(crate) fn timestamp(ms: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms))
}
