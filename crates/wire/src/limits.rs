//! Every limit of the wire and of S3 that more than one crate must know, with its source.

/// Largest frame that an agent sends, in bytes.
pub const MAX_FRAME_TO_SERVER: usize = 16 * 1024;

/// Largest frame that a server sends, in bytes. Sixteen grants with session tokens fit.
pub const MAX_FRAME_TO_AGENT: usize = 64 * 1024;

/// Most parts that one message names.
pub const MAX_PARTS_PER_MESSAGE: usize = 16;

/// Most downloads that an agent may say it can work on at once.
pub const MAX_SLOTS: u8 = 16;

/// Most facts that an agent says of itself.
pub const MAX_FACTS: usize = 16;

/// Longest key or value of a fact, in bytes.
pub const MAX_FACT_BYTES: usize = 256;

/// Most labels that a client has.
pub const MAX_LABELS: usize = 32;

/// Longest name or value of a label, in bytes.
pub const MAX_LABEL_BYTES: usize = 64;

/// Most labels that a token's reach names: a token must fit into a header.
pub const MAX_REACH_LABELS: usize = 8;

/// Longest path of a file, in bytes: Linux' `PATH_MAX`, its final NUL left out.
pub const MAX_PATH_BYTES: usize = 4095;

/// Longest message that goes with a refusal or a reason, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Most messages that queue for an agent before its link is closed as a slow reader.
pub const MAX_QUEUED_TO_AGENT: usize = 64;

/// Most parts of a multipart upload (Amazon S3, "Multipart upload limits").
pub const MAX_PARTS: u16 = 10_000;

/// Smallest part but the last, in bytes: 5 MiB (Amazon S3, "Multipart upload limits").
pub const MIN_PART_SIZE_BYTES: u64 = 5 * 1024 * 1024;

/// Largest part, in bytes: 5 GiB (Amazon S3, "Multipart upload limits").
pub const MAX_PART_SIZE_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Largest object, in bytes: 10,000 parts of 5 GiB, 48.8 TiB (Amazon S3, "Multipart upload limits").
pub const MAX_OBJECT_BYTES: u64 = MAX_PART_SIZE_BYTES * MAX_PARTS as u64;

/// Longest object key, in bytes of UTF-8 (Amazon S3, "Creating object key names").
pub const MAX_KEY_BYTES: usize = 1024;

/// Most user metadata of an object, in bytes, names and values together (Amazon S3, "Working with object metadata").
pub const MAX_METADATA_BYTES: usize = 2 * 1024;

/// The share of the metadata that belongs to the operator, in bytes, names and values together.
pub const MAX_OPERATOR_METADATA_BYTES: usize = 1024;

/// Longest body of a REST request, in bytes.
pub const MAX_REST_BODY_BYTES: usize = 16 * 1024;

/// Lowest rate that an upload can be limited to, in bytes a second: 1 KiB. At less, storage takes the sender for dead.
pub const MIN_RATE_BYTES_PER_SEC: u64 = 1024;

/// Seconds between two pings of a link, in both directions.
pub const PING_INTERVAL_SECS: u32 = 15;

/// Seconds without a single frame after which a link counts as dead: two lost pings and their answers.
pub const LINK_SILENCE_SECS: u32 = 40;

/// Seconds within which each `parts_ready` is answered, by `wait` at worst.
pub const PARTS_ANSWER_SECS: u32 = 30;

/// Seconds that a download may wait for its first stored part when nothing else is asked for, and that it has at least from
/// each newly stored part on: 14 days.
pub const DEFAULT_TTL_SECS: u64 = 14 * 24 * 3600;

/// Longest TTL that an operator may ask for, in seconds: 365 days.
pub const MAX_TTL_SECS: u64 = 365 * 24 * 3600;

/// Passes over a changing file before a download gives up (`file_changes_too_often`).
pub const MAX_CHANGED_PASSES: u32 = 3;
