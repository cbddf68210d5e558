//! The way from the server to the bucket: late, lost, refused, carried out without an answer.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hoist_server::bucket::{
    Bucket, BucketError, CompleteReply, CompleteRequest, GrantRequest, ListedPart, MultipartId, ObjectHead,
    ObjectMeta, Probe, UploadKeys, UploadsMarker,
};
use hoist_wire::to_agent::Grant;
use hoist_wire::{ChecksumKind, Sealed};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::fault::Fault;
use super::process::Process;
use super::storage::{Signed, Storage};
use super::world::World;

/// How far a signer's clock may be off, in nanoseconds: 15 minutes, as on S3.
const TOLERATED_NS: i64 = 15 * 60 * 1_000_000_000;

/// How long a bucket may not show an object that is there. The product believes an absence that lasts a minute.
const SHOWN_AFTER: Duration = Duration::from_secs(45);

/// A bucket that all processes share.
pub(crate) type Shared = Arc<Mutex<Storage>>;

pub(crate) fn open(storage: &Shared) -> MutexGuard<'_, Storage> {
    storage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bucket as one server process reaches it.
#[derive(Debug)]
pub(crate) struct SimBucket {
    pub(crate) world: World,
    pub(crate) storage: Shared,
    pub(crate) process: Process,
    pub(crate) checksum: ChecksumKind,
    /// How long putting an object together may take.
    pub(crate) slowest_complete: Duration,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Clean,
    /// Refused, after it was carried out or not.
    Refused {
        done: bool,
    },
    Denied,
    /// No answer, though it was carried out (or not).
    Silent {
        done: bool,
    },
    /// No answer, and it is carried out much later.
    Late,
}

impl SimBucket {
    fn fate(&self) -> Fate {
        let fates = [
            (Fault::BucketError, Fate::Refused { done: false }),
            (Fault::BucketErrorDone, Fate::Refused { done: true }),
            (Fault::BucketDenied, Fate::Denied),
            (Fault::BucketLostRequest, Fate::Silent { done: false }),
            (Fault::BucketLostReply, Fate::Silent { done: true }),
            (Fault::BucketLate, Fate::Late),
        ];
        fates.into_iter().find(|(fault, _)| self.world.strikes(*fault)).map_or(Fate::Clean, |(_, fate)| fate)
    }

    /// Makes one call: `act` happens once, or never, and its answer comes, or does not.
    async fn call<T: Debug + Send + 'static>(
        &self,
        call: &'static str,
        key: &str,
        act: impl FnOnce(&mut Storage) -> Result<T, BucketError> + Send + 'static,
    ) -> Result<T, BucketError> {
        self.process.goes_on().await;
        let fate = self.fate();
        let unclear =
            |message: &str| BucketError::Unclear { call, key: key.to_owned(), message: message.to_owned() };
        self.world.trace(format!("bucket {call} {key}: {fate:?}"));
        let patience = self.world.between(Duration::from_secs(1), Duration::from_secs(60));
        let way = self.world.between(Duration::from_millis(5), Duration::from_millis(400));
        let (tell, told) = oneshot::channel();
        if matches!(
            fate,
            Fate::Clean | Fate::Refused { done: true } | Fate::Silent { done: true } | Fate::Late
        ) {
            let way = match fate {
                Fate::Late => patience + self.world.between(Duration::from_secs(1), Duration::from_secs(600)),
                // Putting an object together takes its time.
                Fate::Clean if call == "complete" => {
                    way + self.world.between(Duration::ZERO, self.slowest_complete)
                }
                Fate::Clean | Fate::Refused { .. } | Fate::Denied | Fate::Silent { .. } => way,
            };
            let (storage, world, key) = (Arc::clone(&self.storage), self.world.clone(), key.to_owned());
            self.world.send(async move {
                sleep(way).await;
                let answer = act(&mut open(&storage));
                world.trace(format!("bucket did {call} {key}: {answer:?}"));
                let _ = tell.send(answer);
            });
        }
        let answer = match fate {
            Fate::Clean => told.await.unwrap_or_else(|_| Err(unclear("the storage is gone"))),
            Fate::Refused { done } => {
                if done {
                    let _ = told.await;
                } else {
                    sleep(way).await;
                }
                Err(unclear("503 SlowDown"))
            }
            Fate::Denied => {
                sleep(way).await;
                Err(BucketError::Denied {
                    call,
                    key: key.to_owned(),
                    code: String::from("AccessDenied"),
                    message: String::from("simulated"),
                    needs: "everything",
                })
            }
            Fate::Silent { .. } | Fate::Late => {
                let _ = timeout(patience, std::future::pending::<()>()).await;
                Err(unclear("no answer"))
            }
        };
        self.process.goes_on().await;
        answer
    }
}

#[async_trait]
impl Bucket for SimBucket {
    fn name(&self) -> &str {
        "simulated"
    }

    async fn probe(&self, _create: bool) -> Result<Probe, BucketError> {
        let checksum = self.checksum;
        self.call("probe", "", move |_| Ok(Probe { checksum, checks: Vec::new() })).await
    }

    async fn create_upload(
        &self,
        key: &str,
        meta: &ObjectMeta,
        checksum: ChecksumKind,
    ) -> Result<MultipartId, BucketError> {
        let (at, meta) = (key.to_owned(), meta.clone());
        self.call("create_upload", key, move |storage| Ok(storage.create(&at, &meta, checksum))).await
    }

    async fn grant_part(&self, request: GrantRequest<'_>) -> Result<Grant, BucketError> {
        self.process.goes_on().await;
        let ttl = i64::try_from(request.ttl.as_nanos()).unwrap_or(i64::MAX);
        let signed_at = self.world.true_ns().saturating_add(self.world.skew_ms().saturating_mul(1_000_000));
        let number = open(&self.storage).sign(Signed {
            upload: request.multipart_id.0.clone(),
            number: request.number.get(),
            size_bytes: request.size_bytes,
            sums: *request.sums,
            checksum: request.checksum,
            valid_ns: (signed_at.saturating_sub(TOLERATED_NS), signed_at.saturating_add(ttl)),
        });
        Ok(Grant {
            url: Sealed::new(format!("https://bucket.simulation/{number}")),
            headers: [(String::from("content-length"), request.size_bytes.to_string())].into(),
            expires_in_secs: u32::try_from(request.ttl.as_secs()).unwrap_or(u32::MAX),
        })
    }

    async fn list_parts(
        &self,
        key: &str,
        multipart_id: &MultipartId,
    ) -> Result<Vec<ListedPart>, BucketError> {
        let (at, id) = (key.to_owned(), multipart_id.clone());
        self.call("list_parts", key, move |storage| storage.list_parts(&at, &id)).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<CompleteReply, BucketError> {
        let (key, id, parts) = (request.key.to_owned(), request.multipart_id.clone(), request.parts.to_vec());
        let (checksum, crc64nvme, size_bytes) = (request.checksum, request.crc64nvme, request.size_bytes);
        self.call("complete", request.key, move |storage| {
            storage.complete(&CompleteRequest {
                key: &key,
                multipart_id: &id,
                parts: &parts,
                checksum,
                crc64nvme,
                size_bytes,
            })
        })
        .await
    }

    async fn abort(&self, key: &str, multipart_id: &MultipartId) -> Result<(), BucketError> {
        let (at, id) = (key.to_owned(), multipart_id.clone());
        self.call("abort", key, move |storage| storage.abort(&at, &id)).await
    }

    async fn list_uploads_of(&self, key: &str) -> Result<Vec<MultipartId>, BucketError> {
        let at = key.to_owned();
        self.call("list_uploads", key, move |storage| Ok(storage.uploads_of(&at))).await
    }

    async fn keys_with_uploads(&self, _after: Option<UploadsMarker>) -> Result<UploadKeys, BucketError> {
        let keys = |storage: &Storage| storage.uploads.values().map(|upload| upload.key.clone()).collect();
        self.call("list_uploads", "", move |storage| Ok(UploadKeys { keys: keys(storage), next: None })).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        let at = key.to_owned();
        let stale = self.world.strikes(Fault::HeadStale);
        self.call("head", key, move |storage| {
            let is_young = storage.objects.get(&at).is_some_and(|it| it.born.elapsed() < SHOWN_AFTER);
            Ok(storage.head(&at).filter(|_| !(stale && is_young)))
        })
        .await
    }

    async fn put_empty(
        &self,
        key: &str,
        meta: &ObjectMeta,
        checksum: ChecksumKind,
    ) -> Result<(), BucketError> {
        let (at, meta) = (key.to_owned(), meta.clone());
        self.call("put_empty", key, move |storage| {
            storage.put_empty(&at, &meta, checksum);
            Ok(())
        })
        .await
    }

    async fn grant_get(&self, key: &str, _file_name: &str, _ttl: Duration) -> Result<Sealed, BucketError> {
        Ok(Sealed::new(format!("https://bucket.simulation/objects/{key}")))
    }
}
