//! A change of how fast a download may go. It moves nothing in its life, so no rule is asked.

use hoist_engine::backoff::Backoff;
use hoist_engine::life::Rejection;
use hoist_wire::State;
use hoist_wire::to_agent::{Pace, ToAgent};

use super::Driver;
use crate::links::chain;
use crate::store::{Record, StoreError};

impl Driver {
    /// Writes the rate under the guard, and tells the agent that works on it. Whoever takes it later hears of it by `fetch`.
    pub(super) async fn pace(&mut self, record: &mut Record, rate: Option<u64>) -> Result<(), Rejection> {
        let mut backoff = Backoff::for_storage();
        loop {
            match self.write_rate(record, rate).await {
                Ok(Some(answer)) => return answer,
                // Somebody else wrote; the record is read again.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(download_id = %self.id, error = %chain(&error), "the rate cannot be written");
                    if !self.pause(&mut backoff).await {
                        return Err(Rejection::NotYet);
                    }
                }
            }
        }
    }

    /// Tries once; none when the guard was lost.
    async fn write_rate(
        &mut self,
        record: &mut Record,
        max_rate_bytes_per_sec: Option<u64>,
    ) -> Result<Option<Result<(), Rejection>>, StoreError> {
        if record.life.state.is_final() {
            return Ok(Some(Err(Rejection::Final)));
        }
        let updated_at = self.shop.world.now();
        let mut next = Record { max_rate_bytes_per_sec, updated_at, ..record.clone() };
        if !self.write(record, &mut next, None).await? {
            return match self.shop.store.download(self.id).await? {
                Some(newer) => {
                    *record = newer;
                    Ok(None)
                }
                None => Ok(Some(Err(Rejection::Final))),
            };
        }
        if record.life.state == State::Uploading {
            let (download_id, attempt) = (self.id, record.life.attempt);
            self.say(ToAgent::Pace(Pace { download_id, attempt, max_rate_bytes_per_sec }));
        }
        Ok(Some(Ok(())))
    }
}
