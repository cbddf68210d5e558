//! The rules, event by event.

use hoist_wire::limits::{DEFAULT_TTL_SECS, MAX_CHANGED_PASSES};
use hoist_wire::{Attempt, Crc64, ErrorCode, LinkSeq, OnChange, Outcome, ReasonCode, State, Timestamp};

use super::event::{By, Effect, Event, Rejection, Step, Verdict};
use super::{ABSENT_TWICE_APART_MS, Failure, Life, MAX_CONTRADICTIONS, Reason};

/// Milliseconds after which an agent that refused for now is asked again, where it did not say.
const ASK_AGAIN_MS: u64 = 30_000;

/// Milliseconds before which no agent is asked again, whatever it says: retries are limited in rate.
const ASK_AGAIN_AT_LEAST_MS: u64 = 1_000;

/// Milliseconds within which an agent answers `fetch`, or tells that it goes on.
const AGENT_ANSWERS_MS: u64 = 60_000;

/// Milliseconds that an agent keeps its slot for a Complete which has to be repeated.
const AGENT_WAITS_MS: u64 = 60_000;

/// Milliseconds that Complete may take: S3 keeps the connection open while it works.
const COMPLETE_TAKES_MS: u64 = 15 * 60_000;

impl Life {
    /// Applies an event at the time `now`.
    ///
    /// # Errors
    /// A [`Rejection`] when the event changes nothing: it is late, or makes no sense in this state.
    pub fn step(&self, event: Event, now: Timestamp) -> Result<Step, Rejection> {
        let mut next = Next { life: self.clone(), effects: Vec::new(), now };
        next.apply(event)?;
        Ok(Step { life: next.life, effects: next.effects })
    }
}

/// A record on its way from one state to the next.
struct Next {
    life: Life,
    effects: Vec<Effect>,
    now: Timestamp,
}

impl Next {
    fn apply(&mut self, event: Event) -> Result<(), Rejection> {
        match event {
            Event::Dispatch { link, continues } => self.dispatch(link, continues),
            Event::LinkLost { link } => self.link_lost(link),
            Event::Offered { by, size_bytes } => self.offered(by, size_bytes),
            Event::Opened { attempt, upload } => {
                self.in_uploading(attempt)?;
                self.life.upload = Some(upload);
                self.wait(ReasonCode::Hashing, String::from("the client reads the file"), AGENT_ANSWERS_MS);
                self.effects.push(Effect::Accept);
                Ok(())
            }
            Event::NotOpened { attempt, message, retry_at } => {
                self.in_uploading(attempt)?;
                self.wait_until(ReasonCode::BucketUnavailable, message, retry_at);
                self.effects.push(Effect::OpenUpload { at: retry_at });
                Ok(())
            }
            Event::Unfit { attempt, code, message } => {
                self.in_uploading(attempt)?;
                self.fail(code, message);
                Ok(())
            }
            Event::UploadGone { attempt } => {
                self.in_uploading(attempt)?;
                self.upload_gone("storage no longer knows the upload; a new one begins");
                Ok(())
            }
            Event::KeyTaken { attempt } => {
                self.in_uploading(attempt)?;
                self.key_taken();
                Ok(())
            }
            Event::Reported { by, code, message, next_in_ms } => {
                self.spoken_by(by)?;
                self.wait(code, message, next_in_ms);
                Ok(())
            }
            Event::Stored { by } => {
                self.spoken_by(by)?;
                self.life.expires_at = self.life.expires_at.max(self.now.plus_secs(DEFAULT_TTL_SECS));
                Ok(())
            }
            Event::Finished { by, size_bytes, crc64nvme, combined, missing_parts } => {
                self.spoken_by(by)?;
                self.finished(size_bytes, crc64nvme, combined, missing_parts)
            }
            Event::Refused { by, code, message, retry_after_ms } => {
                self.spoken_by(by)?;
                self.refused(code, message, retry_after_ms);
                Ok(())
            }
            Event::Settled { attempt, verdict } => self.settled(attempt, verdict),
            Event::Cancel { operator } => self.cancel(&operator),
            Event::Sweep => self.sweep(),
        }
    }

    fn dispatch(&mut self, link: LinkSeq, continues: Option<Attempt>) -> Result<(), Rejection> {
        match self.life.state {
            State::Queued | State::Uploading => {}
            State::Completing => return Err(Rejection::Unexpected),
            State::Completed | State::Failed | State::Cancelled | State::Expired => {
                return Err(Rejection::Final);
            }
        }
        if self.life.link.is_some_and(|newest| link < newest) {
            return Err(Rejection::Stale);
        }
        if !self.life.is_due(self.now) {
            return Err(Rejection::NotYet);
        }
        let same_pass = self.life.state == State::Uploading && continues == Some(self.life.attempt);
        if !same_pass {
            self.new_attempt();
        }
        self.life.state = State::Uploading;
        self.life.link = Some(link);
        self.wait(ReasonCode::Starting, String::from("the client was asked for the file"), AGENT_ANSWERS_MS);
        self.effects.push(Effect::Fetch);
        Ok(())
    }

    fn link_lost(&mut self, link: LinkSeq) -> Result<(), Rejection> {
        if self.life.state != State::Uploading {
            return Err(Rejection::Unexpected);
        }
        if self.life.link != Some(link) {
            return Err(Rejection::Stale);
        }
        let message = String::from("the link to the client is down; what is stored stays stored");
        self.wait_until(ReasonCode::LinkLost, message, self.life.expires_at);
        Ok(())
    }

    fn offered(&mut self, by: By, size_bytes: u64) -> Result<(), Rejection> {
        self.spoken_by(by)?;
        self.life.size_bytes = Some(size_bytes);
        self.wait(ReasonCode::Starting, String::from("the bucket is being prepared"), AGENT_ANSWERS_MS);
        self.effects.push(Effect::OpenUpload { at: self.now });
        Ok(())
    }

    /// What the agent holds as sent went into the lost upload: another pass finds out what must be sent again.
    fn upload_gone(&mut self, message: &str) {
        self.life.upload = None;
        self.new_attempt();
        self.wait(ReasonCode::UploadLost, message.to_owned(), AGENT_ANSWERS_MS);
        self.effects.extend([Effect::Drop, Effect::Fetch]);
    }

    fn key_taken(&mut self) {
        let message = "an object stands under the key already: it stays, and another key is taken";
        if self.life.upload.is_some() {
            self.upload_gone(message);
        } else {
            let at = self.now.plus_ms(ASK_AGAIN_AT_LEAST_MS);
            self.wait_until(ReasonCode::Starting, message.to_owned(), at);
            self.effects.push(Effect::OpenUpload { at });
        }
    }

    fn finished(&mut self, size: u64, crc: Crc64, combined: Crc64, missing: u32) -> Result<(), Rejection> {
        if self.life.size_bytes != Some(size) {
            let offered = self.life.size_bytes.unwrap_or(0);
            self.void_pass(&format!(
                "the file had {offered} bytes when it was opened, and {size} when it was read"
            ));
        } else if missing > 0 {
            let message =
                format!("the client says it is done, and storage has not confirmed {missing} parts");
            if !self.contradicted(&message) {
                self.requeue(ReasonCode::PartsMissing, message, ASK_AGAIN_MS);
            }
        } else if crc != combined {
            self.void_pass(&format!(
                "the parts combine to CRC64NVME {combined}, and the file was read as {crc}"
            ));
        } else if self.life.upload.is_none() {
            return Err(Rejection::Unexpected);
        } else {
            self.life.crc64nvme = Some(crc);
            self.life.absent_since = None;
            self.life.state = State::Completing;
            let message = String::from("all parts are stored; storage puts the object together");
            self.wait(ReasonCode::Completing, message, COMPLETE_TAKES_MS);
            self.effects.push(Effect::Complete { at: self.now });
        }
        Ok(())
    }

    fn refused(&mut self, code: ErrorCode, message: String, retry_after_ms: Option<u64>) {
        let after_ms = retry_after_ms.unwrap_or(ASK_AGAIN_MS).max(ASK_AGAIN_AT_LEAST_MS);
        if code == ErrorCode::FileChanged {
            self.void_pass(&message);
        } else if code == ErrorCode::NeedsNewUpload {
            // What the upload holds is lost with it: it is of a version of the file that is no more.
            self.life.upload = None;
            self.effects.push(Effect::Drop);
            self.requeue(ReasonCode::UploadLost, message, after_ms);
        } else if code == ErrorCode::StorageRefused {
            // What storage refuses today it may take tomorrow, when somebody has mended its rights.
            self.requeue(ReasonCode::RefusedForNow, message, after_ms);
        } else if code == ErrorCode::FileLocked {
            self.requeue(ReasonCode::FileLocked, message, after_ms);
        } else if code == ErrorCode::OutsideHours {
            self.requeue(ReasonCode::OutsideHours, message, after_ms);
        } else if code.is_retryable() || retry_after_ms.is_some() {
            self.requeue(ReasonCode::RefusedForNow, message, after_ms);
        } else {
            self.fail(code, message);
        }
    }

    fn settled(&mut self, attempt: Attempt, verdict: Verdict) -> Result<(), Rejection> {
        if self.life.is_final() {
            return Err(Rejection::Final);
        }
        if self.life.state != State::Completing || attempt != self.life.attempt {
            return Err(Rejection::Stale);
        }
        match verdict {
            Verdict::Proven { proof } => {
                self.life.proof = Some(proof);
                self.end(State::Completed, Outcome::Completed);
                self.effects.push(Effect::Close);
            }
            Verdict::StillOpen { message, retry_at } => {
                self.life.absent_since = None;
                let since = self.life.reason.as_ref().map_or(self.now, |reason| reason.since);
                if self.now.ms_since(since) >= AGENT_WAITS_MS {
                    self.let_agent_go();
                }
                self.wait_until(ReasonCode::Completing, message, retry_at);
                self.effects.push(Effect::Complete { at: self.next_at() });
            }
            Verdict::PartsMissing { count } => {
                let message =
                    format!("storage lacks {count} parts that it had confirmed, as the client says");
                if !self.contradicted(&message) {
                    self.back_to_uploading();
                    self.ask_for(ReasonCode::PartsMissing, message);
                }
            }
            Verdict::Absent => self.absent(),
            Verdict::Unclear { message, retry_at } => {
                self.life.absent_since = None;
                self.let_agent_go();
                self.wait_until(ReasonCode::CannotVerify, message, retry_at);
                self.effects.push(Effect::Settle { at: self.next_at() });
            }
        }
        Ok(())
    }

    /// Counts a claim that storage does not bear out. A retry is limited in rate alone; a lie that is proved again and
    /// again is none, and ends the download. Tells whether it did.
    fn contradicted(&mut self, what: &str) -> bool {
        self.life.contradicted = self.life.contradicted.saturating_add(1);
        let times = self.life.contradicted;
        if times < MAX_CONTRADICTIONS {
            return false;
        }
        let message =
            format!("what the client says was contradicted by storage {times} times; the last time: {what}");
        self.fail(ErrorCode::ProtocolViolation, message);
        true
    }

    /// Has the agent work on others: settling needs it no more, and may take until the deadline.
    fn let_agent_go(&mut self) {
        self.effects.push(Effect::Forget { attempt: self.life.attempt, outcome: Outcome::Superseded });
    }

    /// No upload and no object: believed only when it is seen twice, a minute apart.
    fn absent(&mut self) {
        let first = *self.life.absent_since.get_or_insert(self.now);
        if self.now.ms_since(first) >= ABSENT_TWICE_APART_MS {
            self.back_to_uploading();
            self.life.upload = None;
            self.effects.push(Effect::Drop);
            let message = String::from("the upload is gone and there is no object; a new one begins");
            self.ask_for(ReasonCode::UploadLost, message);
        } else {
            self.let_agent_go();
            let look_at = first.plus_ms(ABSENT_TWICE_APART_MS);
            self.wait_until(
                ReasonCode::Verifying,
                String::from("storage does not show the object yet"),
                look_at,
            );
            self.effects.push(Effect::Settle { at: self.next_at() });
        }
    }

    fn cancel(&mut self, operator: &str) -> Result<(), Rejection> {
        match self.life.state {
            State::Queued | State::Uploading => {
                let message = format!("cancelled by {operator}");
                self.life.failure = Some(Failure { code: ErrorCode::Cancelled, message });
                self.end(State::Cancelled, Outcome::Cancelled);
                self.effects.push(Effect::Abort);
                Ok(())
            }
            State::Completing => Err(Rejection::TooLate),
            State::Cancelled => Err(Rejection::AlreadyCancelled),
            State::Completed | State::Failed | State::Expired => Err(Rejection::Final),
        }
    }

    fn sweep(&mut self) -> Result<(), Rejection> {
        if self.life.is_final() {
            return Err(Rejection::Final);
        }
        if self.now < self.life.expires_at {
            return Err(Rejection::NotYet);
        }
        let waited_for = self.life.reason.as_ref().map_or_else(String::new, |reason| {
            format!("; the last reason was {}: {}", reason.code, reason.message)
        });
        if self.life.state == State::Completing {
            self.fail(
                ErrorCode::Unproven,
                format!("nobody could tell by the deadline whether the object is right{waited_for}"),
            );
        } else {
            let message = format!("the deadline {} passed{waited_for}", self.life.expires_at);
            self.life.failure = Some(Failure { code: ErrorCode::Expired, message });
            self.end(State::Expired, Outcome::Expired);
            self.effects.push(Effect::Abort);
        }
        Ok(())
    }

    /// Checks that an agent speaks of what the record says it has.
    fn spoken_by(&self, by: By) -> Result<(), Rejection> {
        if self.life.is_final() {
            return Err(Rejection::Final);
        }
        if self.life.link != Some(by.link) || self.life.attempt != by.attempt {
            return Err(Rejection::Stale);
        }
        if self.life.state == State::Uploading { Ok(()) } else { Err(Rejection::Unexpected) }
    }

    fn in_uploading(&self, attempt: Attempt) -> Result<(), Rejection> {
        if self.life.is_final() {
            Err(Rejection::Final)
        } else if self.life.state != State::Uploading || self.life.attempt != attempt {
            Err(Rejection::Stale)
        } else {
            Ok(())
        }
    }

    /// The bytes of this pass are worth nothing: read again, or give up.
    fn void_pass(&mut self, what: &str) {
        self.life.changed_passes += 1;
        if self.life.on_change != OnChange::Restart {
            self.fail(ErrorCode::FileChanged, format!("{what}; on_change is {}", self.life.on_change));
        } else if self.life.changed_passes >= MAX_CHANGED_PASSES {
            let passes = self.life.changed_passes;
            let message = format!(
                "the file changed in each of {passes} passes: ask when nothing writes to it ({what})"
            );
            self.fail(ErrorCode::FileChangesTooOften, message);
        } else {
            self.new_attempt();
            self.wait(ReasonCode::FileChanged, what.to_owned(), AGENT_ANSWERS_MS);
            self.effects.push(Effect::Fetch);
        }
    }

    fn requeue(&mut self, code: ReasonCode, message: String, after_ms: u64) {
        let attempt = self.life.attempt;
        self.life.state = State::Queued;
        self.wait(code, message, after_ms);
        self.effects.extend([Effect::Forget { attempt, outcome: Outcome::Requeued }, Effect::Redispatch]);
    }

    fn back_to_uploading(&mut self) {
        self.life.state = State::Uploading;
        self.life.absent_since = None;
        self.life.crc64nvme = None;
    }

    fn ask_for(&mut self, code: ReasonCode, message: String) {
        self.wait_until(code, message, self.life.expires_at);
        self.effects.push(Effect::Redispatch);
    }

    fn new_attempt(&mut self) {
        self.life.attempt = self.life.attempt.next();
        self.life.size_bytes = None;
        self.life.crc64nvme = None;
    }

    fn fail(&mut self, code: ErrorCode, message: String) {
        self.life.failure = Some(Failure { code, message });
        self.end(State::Failed, Outcome::Failed);
        self.effects.push(Effect::Abort);
    }

    fn end(&mut self, state: State, outcome: Outcome) {
        self.life.state = state;
        self.life.reason = None;
        self.effects.push(Effect::Forget { attempt: self.life.attempt, outcome });
    }

    fn wait(&mut self, code: ReasonCode, message: String, next_in_ms: u64) {
        self.wait_until(code, message, self.now.plus_ms(next_in_ms));
    }

    /// Sets the reason; one that stays the same keeps its `since`. No next step is promised for after the deadline.
    fn wait_until(&mut self, code: ReasonCode, message: String, next_at: Timestamp) {
        let since = match &self.life.reason {
            Some(old) if old.code == code => old.since,
            Some(_) | None => self.now,
        };
        let next_at = next_at.min(self.life.expires_at);
        self.life.reason = Some(Reason { code, message, since, next_at });
    }

    fn next_at(&self) -> Timestamp {
        self.life.reason.as_ref().map_or(self.now, |reason| reason.next_at)
    }
}
