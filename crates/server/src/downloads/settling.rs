//! Complete, and finding out what became of it: by looking, never by guessing.

use std::time::Duration;

use hoist_engine::backoff::Backoff;
use hoist_engine::life::Verdict;
use hoist_engine::parts::PartTable;
use hoist_engine::plan::Plan;
use hoist_wire::{ChecksumKind, Crc64, Timestamp};

use super::Shop;
use super::key::object_meta;
use super::proof::judge;
use crate::bucket::{BucketError, CompletePart, CompleteReply, CompleteRequest, ListedPart, MultipartId};
use crate::clock::chance;
use crate::links::chain;
use crate::store::Record;

/// What settling needs, besides the shop.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) record: Record,
    pub(super) table: PartTable,
    pub(super) multipart_id: Option<MultipartId>,
    /// How often it was tried already: the further looks come later.
    pub(super) tries: u32,
}

impl Settling {
    /// Sends Complete (or puts the empty object), then looks.
    pub(super) async fn complete(&self, shop: &Shop) -> Verdict {
        let Some(multipart_id) = &self.multipart_id else { return self.put_empty(shop).await };
        if self.without_receipt() > 0 {
            return self.look(shop, None).await;
        }
        let parts: Vec<CompletePart> = self
            .table
            .iter()
            .map(|(number, part)| CompletePart { number, etag: part.etag.clone(), sums: part.sums })
            .collect();
        let request = CompleteRequest {
            key: self.key(),
            multipart_id,
            parts: &parts,
            checksum: self.checksum(),
            crc64nvme: self.record.life.crc64nvme.unwrap_or(Crc64(0)),
            size_bytes: self.record.life.size_bytes.unwrap_or(0),
        };
        match shop.bucket.complete(request).await {
            Ok(reply) => self.look_at_object(shop, Some(&reply), None).await,
            Err(error) => {
                tracing::warn!(download_id = %self.record.id, error = %chain(&error), "Complete has no clean answer");
                self.look(shop, Some(&error)).await
            }
        }
    }

    /// An empty object is put by the server itself: S3 has no part of nothing.
    async fn put_empty(&self, shop: &Shop) -> Verdict {
        if self.record.life.size_bytes != Some(0) {
            return self.look(shop, None).await;
        }
        match shop.bucket.put_empty(self.key(), &object_meta(&self.record), self.checksum()).await {
            Ok(()) => self.look_at_object(shop, None, None).await,
            // Nothing is open that could be looked at; putting it again does no harm.
            Err(error) => Verdict::StillOpen { message: chain(&error), retry_at: self.later(shop) },
        }
    }

    /// Looks at the upload first, and at the object when the upload is gone.
    pub(super) async fn look(&self, shop: &Shop, after: Option<&BucketError>) -> Verdict {
        let Some(multipart_id) = &self.multipart_id else {
            return match self.record.life.size_bytes {
                Some(0) => self.put_empty_again(shop).await,
                Some(_) | None => self.look_at_object(shop, None, after).await,
            };
        };
        match shop.bucket.list_parts(self.key(), multipart_id).await {
            Ok(listed) => match self.missing(&listed) {
                0 => {
                    let message =
                        after.map_or_else(|| String::from("the upload is still open"), |error| chain(error));
                    Verdict::StillOpen { message, retry_at: self.later(shop) }
                }
                count => Verdict::PartsMissing { count },
            },
            Err(BucketError::NoSuchUpload { .. }) => self.look_at_object(shop, None, after).await,
            Err(error) => self.unclear(shop, chain(&error)),
        }
    }

    async fn put_empty_again(&self, shop: &Shop) -> Verdict {
        let looked = self.look_at_object(shop, None, None).await;
        if looked != Verdict::Absent {
            return looked;
        }
        Verdict::StillOpen {
            message: String::from("the empty object is not there yet"),
            retry_at: shop.world.now(),
        }
    }

    async fn look_at_object(
        &self,
        shop: &Shop,
        said: Option<&CompleteReply>,
        after: Option<&BucketError>,
    ) -> Verdict {
        match shop.bucket.head(self.key()).await {
            Ok(Some(head)) => match judge(&self.record, &self.table, &head, said) {
                Ok(proof) => Verdict::Proven { proof },
                Err(evidence) => self.unclear(shop, evidence),
            },
            Ok(None) => Verdict::Absent,
            Err(error) => {
                let before = after.map_or_else(String::new, |before| format!("{}; then ", chain(before)));
                self.unclear(shop, format!("{before}{}", chain(&error)))
            }
        }
    }

    /// Counts parts that storage does not have as this attempt's receipts say.
    fn missing(&self, listed: &[ListedPart]) -> u32 {
        let has = |number, part: &hoist_engine::parts::StoredPart| {
            // A part that was put twice may be listed twice.
            let first = listed.partition_point(|listed| listed.number < number);
            listed[first..].iter().take_while(|there| there.number == number).any(|there| {
                let same_crc = there.crc64nvme.is_none_or(|crc| crc == part.sums.crc64nvme);
                there.etag == part.etag && there.size_bytes == part.size_bytes && same_crc
            })
        };
        let missing = self.table.iter().filter(|(number, part)| !has(*number, part)).count();
        u32::try_from(missing).unwrap_or(u32::MAX).saturating_add(self.without_receipt())
    }

    /// Counts parts of which the record has no receipt: none, unless the store lost something.
    fn without_receipt(&self) -> u32 {
        let life = &self.record.life;
        let plan = life
            .size_bytes
            .zip(life.upload)
            .and_then(|(size_bytes, upload)| Plan::resume(size_bytes, upload.part_size_bytes).ok());
        plan.map_or(0, |plan| self.table.missing(&plan))
    }

    fn unclear(&self, shop: &Shop, message: String) -> Verdict {
        Verdict::Unclear { message, retry_at: self.later(shop) }
    }

    /// When to try again: later each time, up to ten minutes.
    fn later(&self, shop: &Shop) -> Timestamp {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(600));
        for _ in 0..self.tries.min(16) {
            backoff.next_delay(0.0);
        }
        let half = 0.5 + chance(&*shop.world) / 2.0;
        let wait = backoff.next_delay(half);
        shop.world.now().plus_ms(u64::try_from(wait.as_millis()).unwrap_or(600_000))
    }

    fn key(&self) -> &str {
        self.record.object_key.as_deref().unwrap_or_default()
    }

    fn checksum(&self) -> ChecksumKind {
        self.record.life.upload.map_or(ChecksumKind::Unproven, |upload| upload.checksum)
    }
}
