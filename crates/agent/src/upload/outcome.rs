//! What follows from the end of a PUT: the next try, a new grant, or the end of the attempt.
//!
//! Deliberately absent: the classes themselves (`hoist_engine::retry`).

use std::time::Duration;

use hoist_engine::retry::{Class, StorageAnswer, classify};
use hoist_wire::to_server::Refused;
use hoist_wire::{ErrorCode, PartNumber, ReasonCode};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::put::PutError;
use super::{MAX_WAIT, Upload};
use crate::dial::DialError;

/// How soon the server may begin another upload; a store that refuses each of them is not to be asked every second.
const NEW_UPLOAD_AFTER_MS: u64 = 5_000;

impl Upload {
    /// Takes how the PUT of a part ended.
    pub(super) fn sent(
        &mut self,
        number: PartNumber,
        result: Result<String, PutError>,
        now: Instant,
    ) -> Result<(), Refused> {
        self.meter.landed(number);
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        let failure = match result {
            Ok(etag) => {
                accepted.ledger.sent(number, &etag);
                accepted.backoff.reset();
                accepted.hold = None;
                self.meter.goes_on();
                return Ok(());
            }
            Err(failure) => failure,
        };
        let (is_old, refused_before) = accepted.ledger.grant_state(number, now);
        let class = match &failure {
            PutError::Read(error) => return Err(self.unreadable(error)),
            PutError::Dial(DialError::Forbidden(forbidden)) => {
                return Err(self.refuse(ErrorCode::StorageNotAllowed, &forbidden.to_string(), None));
            }
            PutError::Answer { status, code, .. } => {
                classify(StorageAnswer { status: *status, code, grant_is_old: is_old, refused_before })
            }
            PutError::NoEtag => Class::Final,
            PutError::Dial(_) | PutError::Broken(_) | PutError::Silent | PutError::NoAnswer => Class::Again,
        };
        debug!(%number, ?class, error = %failure, "a part was not confirmed");
        match class {
            Class::Again | Class::SlowDown => accepted.ledger.again(number),
            Class::Rehash => accepted.ledger.hash_again(number),
            // A grant that was asked for anew is tried at once.
            Class::NewGrant => {
                accepted.ledger.grant_refused(number, is_old);
                return Ok(());
            }
            Class::UploadGone => {
                let message = "storage knows no such upload (NoSuchUpload): a new attempt starts another one";
                return Err(self.refuse(ErrorCode::StorageRefused, message, Some(0)));
            }
            Class::UploadSpent => {
                let message = format!("{failure}, for part {number}: another upload takes the whole file");
                return Err(self.refuse(ErrorCode::NeedsNewUpload, &message, Some(NEW_UPLOAD_AFTER_MS)));
            }
            Class::Final => {
                let message = format!(
                    "{failure}, for part {number}: check the bucket's policy and the server's rights"
                );
                return Err(self.refuse(ErrorCode::StorageRefused, &message, None));
            }
        }
        self.hold_back(class, &failure, now);
        Ok(())
    }

    /// Waits before the next PUT, and lets the operator see why.
    fn hold_back(&mut self, class: Class, failure: &PutError, now: Instant) {
        let Some(accepted) = &mut self.accepted else { return };
        if accepted.hold.is_some_and(|until| now < until) {
            // Several parts met the same trouble: it counts once.
            return;
        }
        accepted.flight.trouble();
        let asked = match failure {
            PutError::Answer { retry_after, .. } => retry_after.unwrap_or_default().min(MAX_WAIT),
            PutError::Dial(_)
            | PutError::Broken(_)
            | PutError::Silent
            | PutError::NoAnswer
            | PutError::NoEtag
            | PutError::Read(_) => Duration::ZERO,
        };
        let until = now + accepted.backoff.next_delay(self.task.site.ground.chance()).max(asked);
        accepted.hold = Some(until);
        let code = if class == Class::SlowDown {
            ReasonCode::StorageThrottled
        } else {
            ReasonCode::StorageUnreachable
        };
        let wait_ms = until.duration_since(now).as_millis();
        warn!(error = %failure, wait_ms, "storage does not take the bytes");
        self.meter.waiting(code, &failure.to_string(), now, until);
    }
}
