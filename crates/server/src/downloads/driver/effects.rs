//! Doing what `engine` said must be done, once the record is written.

use std::sync::Arc;
use std::time::Duration;

use hoist_wire::to_agent::{Accept, Encoding, Fetch, Forget, ToAgent};
use hoist_wire::{Outcome, ReasonCode, State, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Attempt, Chore, Done, Driver, Effect, Event, Opening};
use crate::clock::random_id;
use crate::downloads::key::object_key;
use crate::downloads::opening::open;
use crate::downloads::settling::Settling;
use crate::links::LinkHandle;
use crate::store::{Record, UploadFate};

/// Gives what the effects mean for the upload's row, which is written together with the record.
pub(super) fn fate(effects: &[Effect], record: &Record) -> Option<UploadFate> {
    effects.iter().find_map(|effect| match effect {
        Effect::Abort | Effect::Drop => Some(UploadFate::Abort),
        // An empty object was put beside an upload that an earlier, longer file may have left.
        Effect::Close if record.life.size_bytes == Some(0) => Some(UploadFate::Abort),
        Effect::Close => Some(UploadFate::Closed),
        Effect::Complete { .. } => Some(UploadFate::Completing),
        Effect::Fetch
        | Effect::OpenUpload { .. }
        | Effect::Accept
        | Effect::Settle { .. }
        | Effect::Forget { .. }
        | Effect::Redispatch => None,
    })
}

impl Driver {
    pub(super) fn effect(&mut self, record: &Record, effect: &Effect) {
        match *effect {
            Effect::Fetch => {
                self.begin_attempt(record.life.attempt);
                self.say_fetch(record);
            }
            Effect::OpenUpload { at } => self.schedule(at, Chore::Open),
            Effect::Accept => self.say_accept(record),
            Effect::Complete { at } => self.schedule(at, Chore::Complete),
            Effect::Settle { at } => self.schedule(at, Chore::Settle),
            Effect::Abort | Effect::Drop => {
                self.opened = None;
                self.downloads.litter.notify_one();
            }
            Effect::Close => {}
            Effect::Forget { attempt, outcome } => self.say_forget(attempt, outcome),
            Effect::Redispatch => {
                // A slot that comes back is filled a second later: what goes wrong at once must not turn in a circle.
                match &self.link {
                    Some(link) => link.free(self.id),
                    None => self.shop.links.nudge(&record.client_id),
                }
            }
        }
        if record.life.state.is_final() || record.life.state == State::Queued {
            self.chore = None;
            self.work = JoinSet::new();
            self.unsaved = 0;
            self.flush_at = None;
        }
    }

    /// Starts a new pass with an empty table; what was confirmed before still tells checksums of what storage has.
    fn begin_attempt(&mut self, attempt: Attempt) {
        self.heard_at = Instant::now();
        self.tries = 0;
        self.opened = None;
        self.held.clear();
        if self.table_of != attempt {
            self.table_of = attempt;
            // What was to be opened was for an older offer. Its row in `uploads` remembers it.
            self.chore = None;
            self.work = JoinSet::new();
            let table = std::mem::take(&mut self.table);
            if table.stored_bytes() > 0 {
                self.earlier = table;
            }
            self.unsaved = 0;
            self.live.stored(0);
            self.live.progress(0, 0, self.shop.world.now());
        }
    }

    pub(super) fn say_fetch(&mut self, record: &Record) {
        self.heard_at = Instant::now();
        self.say(ToAgent::Fetch(Fetch {
            download_id: self.id,
            attempt: record.life.attempt,
            path: record.file_path.clone(),
            on_change: record.life.on_change,
            max_rate_bytes_per_sec: record.max_rate_bytes_per_sec,
        }));
    }

    fn say_accept(&self, record: &Record) {
        if let Some(upload) = record.life.upload {
            self.say(ToAgent::Accept(Accept {
                download_id: self.id,
                attempt: record.life.attempt,
                part_size_bytes: upload.part_size_bytes,
                checksum: upload.checksum,
                encoding: Encoding::Identity,
            }));
        }
    }

    fn say_forget(&self, attempt: Attempt, outcome: Outcome) {
        self.say(ToAgent::Forget(Forget { download_id: self.id, attempt, outcome }));
    }

    pub(super) fn say(&self, message: ToAgent) {
        if let Some(link) = &self.link {
            link.say(message);
        }
    }

    /// Tells an agent that asks late how its download ended.
    pub(super) fn tell_the_end(&self, record: &Record, link: &LinkHandle) {
        let outcome = match record.life.state {
            State::Completed => Outcome::Completed,
            State::Failed => Outcome::Failed,
            State::Cancelled => Outcome::Cancelled,
            State::Expired => Outcome::Expired,
            State::Queued => Outcome::Requeued,
            State::Uploading | State::Completing => Outcome::Superseded,
        };
        link.say(ToAgent::Forget(Forget { download_id: self.id, attempt: record.life.attempt, outcome }));
    }

    fn schedule(&mut self, at: Timestamp, chore: Chore) {
        let wait = Duration::from_millis(at.ms_since(self.shop.world.now()));
        self.chore = Some((Instant::now() + wait, chore));
    }

    /// Starts a chore. What ran before for an older attempt is dropped: its row in `uploads` remembers it.
    pub(super) fn start(&mut self, record: &Record, chore: Chore) {
        self.work = JoinSet::new();
        let (shop, attempt, record) = (Arc::clone(&self.shop), record.life.attempt, record.clone());
        if chore == Chore::Open {
            let mut earlier = self.earlier.clone();
            if self.table.stored_bytes() > 0 {
                earlier = self.table.clone();
            }
            self.work.spawn(async move { Done::Opened(attempt, open(&shop, &record, &earlier).await) });
            return;
        }
        let (table, tries) = (self.table.clone(), self.tries);
        self.work.spawn(async move {
            let multipart_id = match shop.store.upload_of(record.id).await {
                // What a longer past of a file that is empty now left open has no part in its object.
                Ok(row) => row.filter(|_| record.life.size_bytes != Some(0)).and_then(|row| row.multipart_id),
                Err(error) => {
                    let message = crate::links::chain(&error);
                    let retry_at = shop.world.now().plus_ms(5_000);
                    return Done::Settled(
                        attempt,
                        hoist_engine::life::Verdict::Unclear { message, retry_at },
                    );
                }
            };
            let settling = Settling { record, table, multipart_id, tries };
            let verdict = match chore {
                Chore::Complete => settling.complete(&shop).await,
                Chore::Settle | Chore::Open => settling.look(&shop, None).await,
            };
            Done::Settled(attempt, verdict)
        });
    }

    pub(super) async fn opened(&mut self, record: &mut Record, attempt: Attempt, opening: Opening) {
        let event = match opening {
            Opening::Ready(opened) => {
                let upload = opened.upload;
                self.opened = Some(opened);
                self.tries = 0;
                Event::Opened { attempt, upload }
            }
            Opening::Gone => Event::UploadGone { attempt },
            Opening::Taken => return self.key_taken(record, attempt).await,
            Opening::NotNow(message) => {
                self.tries = self.tries.saturating_add(1);
                let seconds = 1_u64 << self.tries.min(6);
                tracing::warn!(download_id = %self.id, message, "the bucket cannot be used");
                Event::NotOpened { attempt, message, retry_at: self.shop.world.now().plus_secs(seconds) }
            }
            Opening::Unfit(code, message) => Event::Unfit { attempt, code, message },
        };
        let opened = matches!(event, Event::Opened { .. });
        let outcome = self.happen(record, event).await;
        if opened && outcome.is_ok() {
            let held = std::mem::take(&mut self.held);
            self.answer(record, held).await;
        } else if opened {
            self.opened = None;
        }
        self.note(outcome);
    }

    /// Leaves the object under the key alone, and gives the record another key.
    async fn key_taken(&mut self, record: &mut Record, attempt: Attempt) {
        let random = random_id(&*self.shop.world);
        let name = record.found.as_ref().map_or("", |found| &found.name);
        let key = object_key(&self.shop.key_prefix, record, name, random.get(..8));
        tracing::warn!(download_id = %self.id, taken = record.object_key, key,
            "an object stands under the key: it is left alone, and another key is taken");
        let change = |record: &mut Record| record.object_key = Some(key.clone());
        let outcome = self.happen_with(record, Event::KeyTaken { attempt }, change).await;
        self.note(outcome);
    }

    /// Says whether a reason may come from an agent.
    pub(super) fn may_report(code: ReasonCode) -> bool {
        matches!(
            code,
            ReasonCode::Hashing
                | ReasonCode::Sending
                | ReasonCode::StorageUnreachable
                | ReasonCode::StorageThrottled
                | ReasonCode::PausedByRate
                | ReasonCode::OutsideHours
                | ReasonCode::FileLocked
        )
    }
}
