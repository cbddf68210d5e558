//! A record as REST shows it, with what only this node knows of it right now.

use std::sync::atomic::Ordering;

use hoist_engine::life::{Reason, next_step};
use hoist_wire::rest::{Download, DownloadError};
use hoist_wire::{ReasonCode, State, Timestamp};

use super::Live;
use crate::store::Record;

/// Seconds from an agent's last word to the next at the latest: then its driver asks again.
const NEXT_WORD_SECS: u64 = super::driver::SILENCE.as_secs();

/// A record, and what is known of it besides.
#[derive(Debug)]
pub struct View<'a> {
    /// The record.
    pub record: &'a Record,
    /// How far it is, while its driver runs here.
    pub live: Option<&'a Live>,
    /// Whether the client is connected.
    pub connected: bool,
    /// The bucket's name.
    pub bucket: &'a str,
    /// The time.
    pub now: Timestamp,
}

impl From<View<'_>> for Download {
    fn from(view: View<'_>) -> Self {
        let record = view.record;
        let life = &record.life;
        let reason = view.reason();
        let completed = life.state == State::Completed;
        let size = life.size_bytes.unwrap_or(0);
        let live = view.live.filter(|_| life.state == State::Uploading);
        let read = |value: fn(&Live) -> &std::sync::atomic::AtomicU64| {
            live.map(|live| value(live).load(Ordering::Relaxed))
        };
        let stored_bytes = match life.state {
            State::Completed | State::Completing => size,
            State::Queued | State::Uploading | State::Failed | State::Cancelled | State::Expired => {
                read(|live| &live.stored_bytes).unwrap_or(0).max(record.stored_bytes)
            }
        };
        Self {
            id: record.id,
            client_id: record.client_id.clone(),
            file_path: record
                .file_path
                .clone()
                .or_else(|| record.found.as_ref().map(|found| found.path.clone())),
            state: life.state,
            reason: reason.as_ref().map(|reason| reason.code),
            reason_message: reason.as_ref().map(|reason| reason.message.clone()),
            reason_since: reason.as_ref().map(|reason| reason.since),
            next_step: reason.as_ref().map(|reason| next_step(reason.code).to_owned()),
            next_at: reason.as_ref().map(|reason| reason.next_at),
            expires_at: life.expires_at,
            attempt: life.attempt.0,
            size_bytes: life.size_bytes,
            sent_bytes: read(|live| &live.sent_bytes).unwrap_or(0).max(stored_bytes),
            stored_bytes,
            rate_bytes_per_sec: read(|live| &live.rate),
            max_rate_bytes_per_sec: record.max_rate_bytes_per_sec,
            bucket: view.bucket.to_owned(),
            object_key: record.object_key.clone(),
            checksum_crc64nvme: life.crc64nvme.map(|crc| crc.to_string()),
            proof: life.proof.filter(|_| completed),
            error: life
                .failure
                .as_ref()
                .map(|failure| DownloadError { code: failure.code, message: failure.message.clone() }),
            on_change: life.on_change,
            metadata: record.metadata.clone(),
            requested_by: record.requested_by.clone(),
            created_at: record.created_at,
            started_at: record.started_at,
            updated_at: record.updated_at,
            finished_at: record.finished_at,
        }
    }
}

impl View<'_> {
    /// Whether the client is connected is never written into a download: it would be wrong a moment later. Neither is
    /// that a time has passed.
    fn reason(&self) -> Option<Reason> {
        let reason = self.record.life.reason.clone()?;
        let expires_at = self.record.life.expires_at;
        let waits_for_client = matches!(reason.code, ReasonCode::ClientOffline | ReasonCode::ClientBusy);
        let is_due = waits_for_client || reason.next_at <= self.now;
        Some(match (self.record.life.state, self.connected) {
            (State::Queued, true) if is_due => Reason {
                code: ReasonCode::ClientBusy,
                message: String::from("the client is connected; its slots are given out first in, first out"),
                next_at: expires_at,
                ..reason
            },
            (State::Queued, false) if !waits_for_client => Reason {
                code: ReasonCode::ClientOffline,
                message: format!("waits for the client to connect; before that: {}", reason.message),
                next_at: expires_at,
                ..reason
            },
            (State::Uploading, false) if reason.code != ReasonCode::LinkLost => Reason {
                code: ReasonCode::LinkLost,
                message: String::from("the link to the client is down; what is stored stays stored"),
                next_at: expires_at,
                ..reason
            },
            (State::Uploading, true) => self.next_word(reason),
            _ => reason,
        })
    }

    /// An agent that says nothing for a while is asked again, and again.
    fn next_word(&self, reason: Reason) -> Reason {
        if reason.next_at > self.now {
            return reason;
        }
        let expires_at = self.record.life.expires_at;
        let asked_again = self.now.plus_secs(NEXT_WORD_SECS).min(expires_at);
        let heard = self.live.map_or(0, |live| live.heard_at.load(Ordering::Relaxed));
        if heard == 0 {
            return Reason { next_at: asked_again, ..reason };
        }
        let heard = Timestamp(heard);
        let next_at = heard.plus_secs(NEXT_WORD_SECS);
        if next_at > self.now {
            return Reason { next_at: next_at.min(expires_at), ..reason };
        }
        let message =
            format!("{}; nothing was heard of it since {heard}: the client is asked again", reason.message);
        Reason { message, next_at: asked_again, ..reason }
    }
}
