//! What the server says to an agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeError, decode};
use crate::limits::MAX_FRAME_TO_AGENT;
use crate::to_server::Unsupported;
use crate::{
    Attempt, Batch, ChecksumKind, DownloadId, LinkSeq, OnChange, Outcome, PartNumber, ReasonCode, Sealed,
    Timestamp,
};

/// A message from the server, one JSON text frame of at most 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// The answer to `hello`: the link is accepted.
    Welcome(Welcome),
    /// Bring this file up. After any death it is said again; that is all there is to resume.
    Fetch(Fetch),
    /// The answer to `offer`: how to cut and hash the file.
    Accept(Accept),
    /// The answer to `parts_ready`, part by part.
    Parts(Parts),
    /// Send no faster than this from now on.
    Pace(Pace),
    /// Stop working on this attempt, close its connections, and say `forgotten`.
    Forget(Forget),
    /// A fresh token for the next link.
    Renew(Renew),
    /// The server ends the link.
    Goodbye(Goodbye),
    /// A message of the agent was not understood.
    Unsupported(Unsupported),
}

/// The link is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The number of this link.
    pub link: LinkSeq,
    /// The server's time, so that an agent can tell how wrong its own is.
    pub server_time: Timestamp,
    /// Seconds between two pings, in both directions.
    pub ping_interval_secs: u32,
}

/// Bring this file up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// The file; none for the agent's `FILE_PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What to do when the file changes.
    pub on_change: OnChange,
    /// Most bytes a second; none for as fast as the site allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate_bytes_per_sec: Option<u64>,
}

/// How to cut and hash the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// Bytes in each part but the last.
    pub part_size_bytes: u64,
    /// Which checksums `parts_ready` must carry.
    pub checksum: ChecksumKind,
    /// How the bytes travel.
    pub encoding: Encoding,
}

/// How the bytes of a file travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are.
    Identity,
}

/// The answer to `parts_ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// One answer for each part asked, at most 16.
    pub parts: Batch<PartAnswer>,
}

/// The answer for one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartAnswer {
    /// The part's number.
    pub number: PartNumber,
    /// What to do with it.
    pub answer: Answer,
}

/// What to do with a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Put it there.
    Put(Grant),
    /// Storage has these very bytes: do not send them.
    Stored,
    /// Not now; ask again.
    Wait(Wait),
}

/// A presigned URL for exactly these bytes as this part of this upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Where to PUT.
    pub url: Sealed,
    /// The headers it was signed with: all must be sent as they are.
    pub headers: BTreeMap<String, String>,
    /// Seconds for which it is good. Relative: a site's clock may be wrong.
    pub expires_in_secs: u32,
}

/// Not now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Why.
    pub code: ReasonCode,
    /// Milliseconds after which to ask again.
    pub retry_in_ms: u64,
}

/// Send no faster than this from now on, parts in flight too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// Most bytes a second; none for as fast as the site allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate_bytes_per_sec: Option<u64>,
}

/// Stop working on an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The download.
    pub download_id: DownloadId,
    /// The attempt.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
}

/// A fresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The token, for `CLIENT_TOKEN_FILE`.
    pub token: Sealed,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// The server ends the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
    /// The same for a person.
    pub message: String,
    /// Milliseconds after which to dial again.
    pub reconnect_after_ms: u64,
}

/// Why the server ends a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoodbyeReason {
    /// The server stops.
    Stopping,
    /// A newer link of the same client took its place.
    Replaced,
    /// The agent does not read fast enough.
    SlowReader,
    /// The agent broke the protocol.
    ProtocolViolation,
    /// The client was revoked, or another key was enrolled for it.
    Revoked,
    /// A reason of a newer version.
    #[serde(other)]
    Other,
}

impl ToAgent {
    /// Every `type`, in the order of the definition.
    pub const KINDS: &'static [&'static str] =
        &["welcome", "fetch", "accept", "parts", "pace", "forget", "renew", "goodbye", "unsupported"];

    /// Decodes a text frame.
    ///
    /// # Errors
    /// [`DecodeError`]: too long, of an unknown type, or malformed.
    pub fn decode(frame: &str) -> Result<Self, DecodeError> {
        decode(frame, MAX_FRAME_TO_AGENT, Self::KINDS)
    }
}
