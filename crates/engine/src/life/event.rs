//! What can happen to a download, and what follows.

use hoist_wire::{Attempt, ChecksumKind, Crc64, ErrorCode, LinkSeq, Outcome, ReasonCode, Timestamp};

use super::{Life, Upload};

/// Who says something about an attempt: anything older than the record is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// The link that it came over.
    pub link: LinkSeq,
    /// The attempt that it is about.
    pub attempt: Attempt,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client's link has a free slot for it.
    Dispatch {
        /// The link.
        link: LinkSeq,
        /// The attempt that the agent still has, as its `hello` says.
        continues: Option<Attempt>,
    },
    /// The link ended.
    LinkLost {
        /// The link.
        link: LinkSeq,
    },
    /// The agent opened the file.
    Offered {
        /// Who says it.
        by: By,
        /// Bytes in the file.
        size_bytes: u64,
    },
    /// The bucket has an upload for it (or, for an empty file, needs none).
    Opened {
        /// The attempt that it was opened for.
        attempt: Attempt,
        /// How it is cut.
        upload: Upload,
    },
    /// The bucket could not be asked for an upload, or for its parts.
    NotOpened {
        /// The attempt.
        attempt: Attempt,
        /// What the bucket said.
        message: String,
        /// When the server tries again.
        retry_at: Timestamp,
    },
    /// The file cannot be an object of this bucket.
    Unfit {
        /// The attempt.
        attempt: Attempt,
        /// What is wrong.
        code: ErrorCode,
        /// The same for a person.
        message: String,
    },
    /// An object stands under the key already: the caller gives the record another key, and nothing is overwritten.
    KeyTaken {
        /// The attempt.
        attempt: Attempt,
    },
    /// The upload vanished while parts were being sent.
    UploadGone {
        /// The attempt.
        attempt: Attempt,
    },
    /// The agent says what it does, or why it waits.
    Reported {
        /// Who says it.
        by: By,
        /// What.
        code: ReasonCode,
        /// The same for a person.
        message: String,
        /// Milliseconds until it goes on.
        next_in_ms: u64,
    },
    /// Storage has another part.
    Stored {
        /// Who says it.
        by: By,
    },
    /// The agent has sent all.
    Finished {
        /// Who says it.
        by: By,
        /// Bytes that it read.
        size_bytes: u64,
        /// What it read hashes to.
        crc64nvme: Crc64,
        /// What the confirmed parts combine to.
        combined: Crc64,
        /// Parts that storage has not confirmed.
        missing_parts: u32,
    },
    /// The agent will not, or cannot, go on.
    Refused {
        /// Who says it.
        by: By,
        /// What is wrong.
        code: ErrorCode,
        /// The same for a person.
        message: String,
        /// Milliseconds after which it may be asked again.
        retry_after_ms: Option<u64>,
    },
    /// The server has looked at what became of Complete.
    Settled {
        /// The attempt.
        attempt: Attempt,
        /// What it saw.
        verdict: Verdict,
    },
    /// An operator cancels.
    Cancel {
        /// Who.
        operator: String,
    },
    /// The store's clock may have passed the deadline.
    Sweep,
}

/// What the server saw when it looked at what became of Complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The object is there, with our token, size and checksum.
    Proven {
        /// The best proof that the bucket could give.
        proof: ChecksumKind,
    },
    /// The upload is still open and has all parts: Complete can be sent again.
    StillOpen {
        /// What storage said to Complete.
        message: String,
        /// When to send it again.
        retry_at: Timestamp,
    },
    /// The upload is still open and lacks parts.
    PartsMissing {
        /// How many.
        count: u32,
    },
    /// The upload is gone, and there is no object.
    Absent,
    /// It cannot be told; this is what was seen.
    Unclear {
        /// What was seen.
        message: String,
        /// When to look again.
        retry_at: Timestamp,
    },
}

/// What must be done once the record is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say `fetch` for the record's attempt.
    Fetch,
    /// Make sure that there is an upload, and learn which parts it has.
    OpenUpload {
        /// Not before.
        at: Timestamp,
    },
    /// Say `accept`.
    Accept,
    /// Send Complete (or put the empty object), then look.
    Complete {
        /// Not before.
        at: Timestamp,
    },
    /// Look at what became of Complete.
    Settle {
        /// Not before.
        at: Timestamp,
    },
    /// The upload is not needed any more: abort it, durably.
    Abort,
    /// The upload became the object.
    Close,
    /// The upload is lost; the next offer makes a new one.
    Drop,
    /// Say `forget` to whoever has this attempt.
    Forget {
        /// The attempt.
        attempt: Attempt,
        /// How it ended.
        outcome: Outcome,
    },
    /// Ask the client again, when it is due.
    Redispatch,
}

/// The next record, and what must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The next record; equal to the old one when nothing has to be written.
    pub life: Life,
    /// What must be done, in order.
    pub effects: Vec<Effect>,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It comes from an older attempt or link.
    #[error("it comes from an older attempt or link")]
    Stale,
    /// It makes no sense in this state.
    #[error("it does not fit the state of the download")]
    Unexpected,
    /// It is not time yet.
    #[error("it is not time yet")]
    NotYet,
    /// The download is being completed, and cannot be cancelled.
    #[error("the download is being completed and ends by itself")]
    TooLate,
    /// The download has ended.
    #[error("the download has ended already")]
    Final,
    /// It was cancelled before.
    #[error("the download was cancelled before")]
    AlreadyCancelled,
}
