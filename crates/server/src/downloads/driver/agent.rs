//! What an agent says of the download, checked before it counts.

use std::time::Duration;

use hoist_engine::life::By;
use hoist_wire::limits::{MAX_MESSAGE_BYTES, MAX_PATH_BYTES, MAX_TTL_SECS};
use hoist_wire::to_agent::{Answer, PartAnswer, Parts, ToAgent, Wait};
use hoist_wire::to_server::{Finished, Offer, Progress, ReadyPart, Receipts, Refused, ToServer};
use hoist_wire::{Batch, ErrorCode, LinkSeq, ReasonCode, State};
use tokio::time::Instant;

use super::{Chore, Driver, Event};
use crate::bucket::GrantRequest;
use crate::downloads::key::object_key;
use crate::downloads::proof::combined_crc;
use crate::links::chain;
use crate::store::{FoundFile, Record};

/// Parts that may wait for the upload to be open.
const MAX_HELD: usize = 64;

/// When an agent asks again for a grant that could not be signed.
const SIGN_AGAIN_MS: u64 = 5_000;

/// A part that was granted so often and is not stored makes the server look at the upload again.
const LOOK_AFTER_GRANTS: u8 = 4;

/// An agent's reason is written at most so often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) async fn heard(&mut self, record: &mut Record, link: LinkSeq, message: ToServer) {
        let Some(about) = message.about() else { return };
        let by = By { link, attempt: about.attempt };
        let current = record.life.state == State::Uploading
            && record.life.link == Some(link)
            && record.life.attempt == about.attempt;
        if !current {
            tracing::debug!(download_id = %self.id, %link, attempt = %about.attempt, "late: dropped");
            return;
        }
        self.heard_at = Instant::now();
        match message {
            ToServer::Offer(offer) => self.offered(record, by, offer).await,
            ToServer::PartsReady(ready) => {
                if self.opened.is_some() {
                    self.answer(record, ready.parts.into_inner()).await;
                } else {
                    self.hold(ready.parts.into_inner());
                }
            }
            ToServer::Receipts(receipts) => self.receipts(record, by, receipts).await,
            ToServer::Progress(progress) => self.progress(record, by, progress).await,
            ToServer::Finished(finished) => self.finished(record, by, &finished).await,
            ToServer::Refused(Refused { code, message, retry_after_ms, .. }) => {
                let message = clip(&message);
                // What only a server can know would mislead whoever reads it.
                let code = if code.is_of_agents() { code } else { ErrorCode::Unknown };
                let event = Event::Refused { by, code, message, retry_after_ms };
                self.take(record, event).await;
            }
            ToServer::Hello(_) | ToServer::Forgotten(_) | ToServer::Unsupported(_) => {}
        }
    }

    async fn offered(&mut self, record: &mut Record, by: By, offer: Offer) {
        if offer.path.len() > MAX_PATH_BYTES || offer.name.is_empty() || offer.name.len() > 255 {
            self.violation(
                record,
                by,
                String::from("its offer has a name or path of a length that no file has"),
            )
            .await;
            return;
        }
        let Offer { size_bytes, path, name, modified_ms, .. } = offer;
        if let Some(before) = record.life.size_bytes
            && before != size_bytes
        {
            // Parts of one size and of another would be counted together.
            let what = format!("it offers {size_bytes} bytes in the attempt in which it offered {before}");
            return self.violation(record, by, what).await;
        }
        if !self.work.is_empty() && record.life.size_bytes == Some(size_bytes) {
            // Its upload is being opened, and `accept` follows: beginning again would leave a second one behind.
            return;
        }
        let key = object_key(&self.shop.key_prefix, record, &name, None);
        let found = FoundFile { path, name, modified_ms };
        let outcome = self
            .happen_with(record, Event::Offered { by, size_bytes }, |record| {
                record.object_key.get_or_insert_with(|| key.clone());
                record.found = Some(found.clone());
            })
            .await;
        self.note(outcome);
    }

    async fn receipts(&mut self, record: &mut Record, by: By, receipts: Receipts) {
        let Some(plan) = Self::plan(record) else { return };
        let mut new = 0;
        for receipt in receipts.parts {
            match self.table.insert(&plan, receipt) {
                Ok(is_new) => new += u32::from(is_new),
                Err(error) => {
                    self.violation(record, by, error.to_string()).await;
                    return;
                }
            }
        }
        self.count_stored(record, by, new);
    }

    fn count_stored(&mut self, record: &mut Record, by: By, new: u32) {
        if new > 0 {
            // The moved deadline is written with the parts.
            if let Ok(step) = record.life.step(Event::Stored { by }, self.shop.world.now()) {
                let before = record.life.expires_at;
                record.life = step.life;
                // A receipt is the agent's word. Whoever makes them up keeps a download for a year, not for ever.
                let longest = record.created_at.plus_secs(MAX_TTL_SECS);
                record.life.expires_at = record.life.expires_at.min(longest.max(before));
            }
            self.stored(new);
        }
    }

    async fn progress(&mut self, record: &mut Record, by: By, progress: Progress) {
        let size = record.life.size_bytes.unwrap_or(0);
        let now = self.shop.world.now();
        self.live.progress(progress.sent_bytes.min(size), progress.rate_bytes_per_sec, now);
        let (code, message, next_in_ms) = match progress.waiting {
            // The agent repeats what it was told in `wait`; the record says more.
            Some(waiting) if waiting.code == ReasonCode::BucketUnavailable => return,
            Some(waiting) if Self::may_report(waiting.code) => {
                (waiting.code, clip(&waiting.message), waiting.retry_in_ms)
            }
            Some(_) | None if progress.sent_bytes > 0 => {
                (ReasonCode::Sending, String::from("parts are on their way"), 60_000)
            }
            Some(_) | None => (ReasonCode::Hashing, String::from("the client reads the file"), 60_000),
        };
        // Before `accept` an agent has nothing to tell, and the server knows better why it waits.
        let knows_nothing = self.opened.is_none() && matches!(code, ReasonCode::Hashing);
        if !knows_nothing && self.reported.elapsed() >= REPORT_EVERY {
            self.report(record, by, code, message, next_in_ms).await;
        }
    }

    /// Writes why the download waits, where that is another reason than before.
    async fn report(
        &mut self,
        record: &mut Record,
        by: By,
        code: ReasonCode,
        message: String,
        next_in_ms: u64,
    ) {
        if record.life.reason.as_ref().is_none_or(|reason| reason.code != code) {
            self.reported = Instant::now();
            self.take(record, Event::Reported { by, code, message, next_in_ms }).await;
        }
    }

    async fn finished(&mut self, record: &mut Record, by: By, finished: &Finished) {
        let missing_parts = Self::plan(record).map_or(u32::MAX, |plan| self.table.missing(&plan));
        let event = Event::Finished {
            by,
            size_bytes: finished.size_bytes,
            crc64nvme: finished.crc64nvme,
            combined: combined_crc(&self.table),
            missing_parts,
        };
        // Complete must find the parts in the store after any crash, so they are written with the state.
        self.unsaved += 1;
        self.take(record, event).await;
    }

    fn hold(&mut self, parts: Vec<ReadyPart>) {
        for part in parts {
            self.held.retain(|held| held.number != part.number);
            if self.held.len() < MAX_HELD {
                self.held.push(part);
            }
        }
    }

    /// Answers for each part: a grant, `stored`, or `wait`.
    pub(super) async fn answer(&mut self, record: &mut Record, ready: Vec<ReadyPart>) {
        let (Some(plan), Some(link)) = (Self::plan(record), record.life.link) else { return };
        let by = By { link, attempt: record.life.attempt };
        let needs_md5 = record.life.upload.is_some_and(|upload| upload.checksum.needs_md5());
        let mut answers = Vec::with_capacity(ready.len());
        let (mut new, mut unsigned) = (0, None);
        for part in ready {
            if plan.part_len(part.number) != Some(part.size_bytes) || (needs_md5 && part.sums.md5.is_none()) {
                let what = format!(
                    "part {} of {} bytes is not in the plan, or lacks its MD5",
                    part.number, part.size_bytes
                );
                self.violation(record, by, what).await;
                return;
            }
            let (answer, is_new) = self.answer_one(record, &plan, &part, &mut unsigned).await;
            new += u32::from(is_new);
            answers.push(PartAnswer { number: part.number, answer });
        }
        self.count_stored(record, by, new);
        for parts in Batch::split(answers) {
            self.say(ToAgent::Parts(Parts { download_id: self.id, attempt: by.attempt, parts }));
        }
        if let Some(message) = unsigned {
            self.report(record, by, ReasonCode::BucketUnavailable, message, SIGN_AGAIN_MS).await;
        }
    }

    /// Answers for one part, and tells whether it is newly known to be stored. Why no grant could be signed goes to
    /// `unsigned`.
    async fn answer_one(
        &mut self,
        record: &Record,
        plan: &hoist_engine::plan::Plan,
        part: &ReadyPart,
        unsigned: &mut Option<String>,
    ) -> (Answer, bool) {
        if self.table.get(part.number).is_some_and(|stored| stored.sums == part.sums) {
            return (Answer::Stored, false);
        }
        let wait = |retry_in_ms| Answer::Wait(Wait { code: ReasonCode::BucketUnavailable, retry_in_ms });
        let Some(opened) = &mut self.opened else { return (wait(1_000), false) };
        if let Some(receipt) = opened.listing.receipt_for(part) {
            return match self.table.insert(plan, receipt) {
                Ok(is_new) => (Answer::Stored, is_new),
                Err(_) => (wait(5_000), false),
            };
        }
        // Other bytes are on their way to this place.
        opened.listing.remove(part.number);
        let Some(multipart_id) = &opened.multipart_id else { return (wait(5_000), false) };
        let grant = self.shop.bucket.grant_part(GrantRequest {
            key: record.object_key.as_deref().unwrap_or_default(),
            multipart_id,
            number: part.number,
            size_bytes: part.size_bytes,
            sums: &part.sums,
            checksum: opened.upload.checksum,
            ttl: self.shop.grant_ttl,
        });
        match grant.await {
            Ok(grant) => {
                let count = opened.granted.entry(part.number).or_default();
                *count = count.saturating_add(1);
                if *count >= LOOK_AFTER_GRANTS && self.work.is_empty() && self.chore.is_none() {
                    // Stores say 403 for an upload that is gone as for a grant that is old: whoever looks can tell.
                    self.chore = Some((Instant::now(), Chore::Open));
                }
                (Answer::Put(grant), false)
            }
            Err(error) => {
                tracing::error!(download_id = %self.id, error = %chain(&error), "no grant can be signed");
                *unsigned = Some(format!("no grant can be signed: {}", chain(&error)));
                (wait(SIGN_AGAIN_MS), false)
            }
        }
    }

    /// Ends a download whose agent does not keep to the protocol, with what it said as evidence.
    async fn violation(&mut self, record: &mut Record, by: By, what: String) {
        tracing::warn!(download_id = %self.id, client_id = %record.client_id, what, "the agent broke the protocol");
        let message = format!("the agent broke the protocol: {what}");
        let code = ErrorCode::ProtocolViolation;
        self.take(record, Event::Unfit { attempt: by.attempt, code, message }).await;
    }
}

/// Cuts a message of an agent, and takes control characters and turns of direction out: it ends on terminals.
fn clip(message: &str) -> String {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut clipped: String = message.chars().map(|c| if bad(c) { ' ' } else { c }).collect();
    if let Some((end, _)) = clipped.char_indices().find(|(at, c)| at + c.len_utf8() > MAX_MESSAGE_BYTES) {
        clipped.truncate(end);
    }
    clipped
}
