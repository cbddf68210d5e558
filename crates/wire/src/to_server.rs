//! What an agent says to the server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeError, decode};
use crate::limits::MAX_FRAME_TO_SERVER;
use crate::{Attempt, Batch, Crc64, DownloadId, ErrorCode, OnChange, PartNumber, PartSums, ReasonCode};

/// A message from an agent, one JSON text frame of at most 16 KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// The first message of a link: who is here, and what it is working on.
    Hello(Hello),
    /// The file that was asked for, as it was found.
    Offer(Offer),
    /// Parts that are hashed and about to be sent: grants are asked for.
    PartsReady(PartsReady),
    /// Parts that storage has confirmed.
    Receipts(Receipts),
    /// How far it is, at least every 30 s and at most twice a second.
    Progress(Progress),
    /// All parts are stored, and the file is still the one that was opened.
    Finished(Finished),
    /// The agent will not, or cannot, go on with this attempt.
    Refused(Refused),
    /// The agent has dropped the attempt, and its slot is free.
    Forgotten(Forgotten),
    /// A message of the server was not understood.
    Unsupported(Unsupported),
}

/// The first message of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's version, as in `Cargo.toml`.
    pub agent_version: String,
    /// Operating system and processor, such as `linux-x86_64`.
    pub os: String,
    /// The machine's host name.
    pub host: String,
    /// What else the agent says of itself; nothing of it grants access.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// How many downloads it works on at once, 1 to 16.
    pub slots: u8,
    /// What it is working on right now.
    #[serde(default)]
    pub busy: Vec<Busy>,
    /// What the site wants where a request does not say what to do when a file changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
}

/// One attempt that an agent still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
}

/// The file that was asked for, as it was found and opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// The file's resolved path at the site.
    pub path: String,
    /// Its last component.
    pub name: String,
    /// Bytes in the file; with `on_change: prefix` the bytes that will be sent.
    pub size_bytes: u64,
    /// When the file was last modified, in milliseconds since 1970 by the site's clock.
    pub modified_ms: i64,
    /// Guards this one pass.
    pub identity: Identity,
}

/// What must stay the same from the first to the last read of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes in the file.
    pub size_bytes: u64,
    /// Modified time, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Changed time (ctime), in nanoseconds since 1970.
    pub changed_ns: i64,
}

/// Parts that are hashed and about to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsReady {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// The parts, at most 16.
    pub parts: Batch<ReadyPart>,
}

/// One part that is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyPart {
    /// Its number.
    pub number: PartNumber,
    /// Its bytes.
    pub size_bytes: u64,
    /// What its bytes hash to.
    pub sums: PartSums,
}

/// Parts that storage has confirmed. Said again after a reconnect; the same twice is once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// The receipts, at most 16.
    pub parts: Batch<Receipt>,
}

/// Storage's word that it has a part, with what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The part's number.
    pub number: PartNumber,
    /// The part's bytes.
    pub size_bytes: u64,
    /// Storage's ETag, without its quotes.
    pub etag: String,
    /// What the sent bytes hash to.
    pub sums: PartSums,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// Bytes read and hashed in this attempt.
    pub hashed_bytes: u64,
    /// Bytes that are in storage or that the network took, in this attempt; what was stored before counts.
    pub sent_bytes: u64,
    /// Bytes a second over the last few seconds.
    pub rate_bytes_per_sec: u64,
    /// Why it does not go on, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// Why an attempt does not go on. Times are relative: a site's clock may be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The reason.
    pub code: ReasonCode,
    /// What the agent saw, for the operator.
    pub message: String,
    /// Milliseconds that it has waited.
    pub since_ms: u64,
    /// Milliseconds until it tries again.
    pub retry_in_ms: u64,
}

/// All parts are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// Bytes read.
    pub size_bytes: u64,
    /// CRC64NVME of all bytes read.
    pub crc64nvme: Crc64,
    /// The file's identity after the last read.
    pub identity: Identity,
}

/// The agent will not, or cannot, go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// What is wrong.
    pub code: ErrorCode,
    /// The same for a person, with what to do.
    pub message: String,
    /// Milliseconds after which it may be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The agent has dropped an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
}

/// A message was not understood; the link lives on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    /// The `type` that was not understood.
    pub kind: String,
}

impl ToServer {
    /// Every `type`, in the order of the definition.
    pub const KINDS: &'static [&'static str] = &[
        "hello",
        "offer",
        "parts_ready",
        "receipts",
        "progress",
        "finished",
        "refused",
        "forgotten",
        "unsupported",
    ];

    /// Decodes a text frame.
    ///
    /// # Errors
    /// [`DecodeError`]: too long, of an unknown type, or malformed.
    pub fn decode(frame: &str) -> Result<Self, DecodeError> {
        decode(frame, MAX_FRAME_TO_SERVER, Self::KINDS)
    }

    /// Gives the download and the attempt that the message is about; none for those about the link.
    pub fn about(&self) -> Option<Busy> {
        let (download_id, attempt) = match self {
            Self::Hello(_) | Self::Unsupported(_) => return None,
            Self::Offer(m) => (m.download_id, m.attempt),
            Self::PartsReady(m) => (m.download_id, m.attempt),
            Self::Receipts(m) => (m.download_id, m.attempt),
            Self::Progress(m) => (m.download_id, m.attempt),
            Self::Finished(m) => (m.download_id, m.attempt),
            Self::Refused(m) => (m.download_id, m.attempt),
            Self::Forgotten(m) => (m.download_id, m.attempt),
        };
        Some(Busy { download_id, attempt })
    }
}
