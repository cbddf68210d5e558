//! The life of a download: an event comes in, the next record and what must be done come out.
//!
//! `queued → uploading → completing → completed | failed | cancelled | expired`; also `uploading → queued` (refused
//! for now) and `completing → uploading` (parts missing, or a new attempt). Final states never change.
//!
//! Deliberately absent: the store's guard. The caller writes the result only if the record is still the one that was
//! given, and otherwise reads it again and applies the event again.

mod event;
mod step;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use hoist_wire::limits::{DEFAULT_TTL_SECS, MAX_TTL_SECS};
use hoist_wire::{Attempt, ChecksumKind, Crc64, ErrorCode, LinkSeq, OnChange, ReasonCode, State, Timestamp};

pub use event::{By, Effect, Event, Rejection, Step, Verdict};

/// Milliseconds between two looks for an object that HEAD did not find: S3 must have had the time to show it.
pub const ABSENT_TWICE_APART_MS: u64 = 60_000;

/// So often a client may claim that storage has what it has not: a store may forget a part, and not so often.
pub const MAX_CONTRADICTIONS: u32 = 8;

/// Everything that decides what may happen to a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub state: State,
    /// Why it is there; none exactly in final states.
    pub reason: Option<Reason>,
    /// The pass over the file; 0 while no agent was asked.
    pub attempt: Attempt,
    /// The link that last took it: the fence.
    pub link: Option<LinkSeq>,
    /// Passes that were void because the file changed.
    pub changed_passes: u32,
    /// How often storage contradicted what the client said that it holds.
    pub contradicted: u32,
    /// What to do when the file changes: what the request says, else what the site wants.
    pub on_change: OnChange,
    /// The request says nothing of it, so the site chooses.
    pub site_chooses: bool,
    /// When it ends unless another part is stored.
    pub expires_at: Timestamp,
    /// Bytes in the file, as offered in this attempt.
    pub size_bytes: Option<u64>,
    /// How the open upload is cut and proven; none while there is none.
    pub upload: Option<Upload>,
    /// CRC64NVME of the file, from `finished` of this attempt.
    pub crc64nvme: Option<Crc64>,
    /// When HEAD first said that there is no object, while completing.
    pub absent_since: Option<Timestamp>,
    /// How the object was proven.
    pub proof: Option<ChecksumKind>,
    /// How it ended, unless it was completed.
    pub failure: Option<Failure>,
}

/// How an upload is cut and proven: fixed when it is created, whatever the settings say later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Bytes in each part but the last.
    pub part_size_bytes: u64,
    /// The kind of proof.
    pub checksum: ChecksumKind,
}

/// Why a download waits, and until when at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable name.
    pub code: ReasonCode,
    /// The same for a person.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// When the next step comes at the latest.
    pub next_at: Timestamp,
}

/// How a download ended without being completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable name.
    pub code: ErrorCode,
    /// For a person, with what to do.
    pub message: String,
}

impl Life {
    /// The life of a download that was just accepted. `ttl_secs` is held between 1 s and 365 days. Without `on_change`
    /// the site chooses.
    pub fn queued(now: Timestamp, ttl_secs: Option<u64>, on_change: impl Into<Option<OnChange>>) -> Self {
        let on_change = on_change.into();
        let ttl_secs = ttl_secs.unwrap_or(DEFAULT_TTL_SECS).clamp(1, MAX_TTL_SECS);
        let expires_at = now.plus_secs(ttl_secs);
        let reason = Reason {
            code: ReasonCode::ClientOffline,
            message: String::from("waits for the client to connect"),
            since: now,
            next_at: expires_at,
        };
        Self {
            state: State::Queued,
            reason: Some(reason),
            attempt: Attempt(0),
            link: None,
            changed_passes: 0,
            contradicted: 0,
            on_change: on_change.unwrap_or(OnChange::Restart),
            site_chooses: on_change.is_none(),
            expires_at,
            size_bytes: None,
            upload: None,
            crc64nvme: None,
            absent_since: None,
            proof: None,
            failure: None,
        }
    }

    /// Takes what the site that is asked wants when the file changes, where the request leaves it open.
    pub fn choose(&mut self, of_the_site: Option<OnChange>) {
        if self.site_chooses && !self.is_final() {
            self.on_change = of_the_site.unwrap_or(OnChange::Restart);
        }
    }

    /// Tells whether a client that is connected may be asked now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Queued => {
                self.reason.as_ref().is_none_or(|reason| !is_timed(reason.code) || reason.next_at <= now)
            }
            State::Uploading => true,
            State::Completing | State::Completed | State::Failed | State::Cancelled | State::Expired => false,
        }
    }

    fn is_final(&self) -> bool {
        self.state.is_final()
    }
}

/// Tells whether a queued download with this reason waits for a time, not for the client.
fn is_timed(code: ReasonCode) -> bool {
    !matches!(code, ReasonCode::ClientOffline | ReasonCode::ClientBusy)
}

/// Says what happens next to a download that waits for `code`.
pub fn next_step(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::ClientOffline => "starts when the client connects",
        ReasonCode::ClientBusy => "starts when the client has a free slot",
        ReasonCode::RefusedForNow => "the client is asked again",
        ReasonCode::Starting => "the client says what it found",
        ReasonCode::Hashing | ReasonCode::Sending => "the next parts are sent",
        ReasonCode::LinkLost => "goes on when the client is back",
        ReasonCode::StorageUnreachable | ReasonCode::StorageThrottled => "the client tries storage again",
        ReasonCode::PausedByRate => "goes on within its rate",
        ReasonCode::OutsideHours => "goes on within the client's hours",
        ReasonCode::FileLocked => "the client tries the file again",
        ReasonCode::FileChanged => "the client reads the file again",
        ReasonCode::BucketUnavailable => "the server tries the bucket again",
        ReasonCode::UploadLost | ReasonCode::PartsMissing => "what is missing is sent again",
        ReasonCode::Completing => "storage puts the object together",
        ReasonCode::Verifying | ReasonCode::CannotVerify => "the server looks at the object again",
    }
}
