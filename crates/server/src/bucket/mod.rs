//! The bucket, as the life of a download needs it: the only place that knows S3.
//!
//! Deliberately absent: retries, waiting and decisions. A method makes one call (or one paged listing) and says what
//! storage said; what follows from it is decided in `engine` and driven in `downloads`.

mod calls;
mod checks;
mod credentials;
mod errors;
mod grants;
mod listing;
mod make;
mod probe;
mod s3;
mod trial;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use hoist_wire::to_agent::Grant;
use hoist_wire::{ChecksumKind, Crc64, PartNumber, PartSums, Sealed};

pub use s3::{BadEndpoint, S3Bucket, S3Config, Sse, StaticCredentials};

/// The id that S3 gave to a multipart upload. It stays on the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MultipartId(pub String);

/// What an object is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// User metadata, without the `x-amz-meta-` prefix; values are ASCII.
    pub metadata: BTreeMap<String, String>,
}

/// The name of the metadata entry that holds the write token.
pub const WRITE_TOKEN_KEY: &str = "hoist-write-token";

/// One part as storage lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    /// The part's number.
    pub number: PartNumber,
    /// The part's bytes.
    pub size_bytes: u64,
    /// The ETag without its quotes.
    pub etag: String,
    /// The part's CRC64NVME, where storage keeps it.
    pub crc64nvme: Option<Crc64>,
}

/// One part as Complete names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletePart {
    /// The part's number.
    pub number: PartNumber,
    /// The ETag of this attempt's bytes, without quotes.
    pub etag: String,
    /// What those bytes hash to.
    pub sums: PartSums,
}

/// Which bytes a grant is for.
#[derive(Debug, Clone, Copy)]
pub struct GrantRequest<'a> {
    /// The object's key.
    pub key: &'a str,
    /// The upload.
    pub multipart_id: &'a MultipartId,
    /// The part's number.
    pub number: PartNumber,
    /// The part's bytes: signed as `content-length`.
    pub size_bytes: u64,
    /// What the bytes hash to: signed as the checksum header of the upload's kind.
    pub sums: &'a PartSums,
    /// The kind that the upload was created with.
    pub checksum: ChecksumKind,
    /// How long the grant is to live.
    pub ttl: Duration,
}

/// Everything that Complete says and wants to see confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteRequest<'a> {
    /// The object's key.
    pub key: &'a str,
    /// The upload.
    pub multipart_id: &'a MultipartId,
    /// Every part, in order.
    pub parts: &'a [CompletePart],
    /// The kind that the upload was created with.
    pub checksum: ChecksumKind,
    /// CRC64NVME of the whole file.
    pub crc64nvme: Crc64,
    /// Bytes in the whole file.
    pub size_bytes: u64,
}

/// A clean answer to Complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteReply {
    /// The object's ETag without its quotes.
    pub etag: Option<String>,
    /// The full-object CRC64NVME, where storage says it.
    pub crc64nvme: Option<Crc64>,
}

/// What HEAD says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// The object's bytes.
    pub size_bytes: u64,
    /// The write token in its metadata.
    pub write_token: Option<String>,
    /// The ETag without its quotes.
    pub etag: Option<String>,
    /// The full-object CRC64NVME, where storage says it.
    pub crc64nvme: Option<Crc64>,
}

/// A page of the keys that have open uploads, whosoever they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadKeys {
    /// One for each upload.
    pub keys: Vec<String>,
    /// Where the next page begins; none behind the last.
    pub next: Option<UploadsMarker>,
}

/// Where a page of uploads begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadsMarker {
    key: Option<String>,
    id: Option<String>,
}

/// What the start-up probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The best proof that this bucket can give.
    pub checksum: ChecksumKind,
    /// What was looked at, one line each: `lifecycle`, `private`, `encrypted` and the like.
    pub checks: Vec<Check>,
}

/// One thing that the probe looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// `ok`, `bad` or `unknown`.
    pub verdict: Verdict,
    /// What was seen, and the mend where it is bad.
    pub detail: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not as it should be.
    Bad,
    /// Storage does not say, or not to us.
    Unknown,
}

/// Why a call to storage gave no clean answer.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The upload is gone: completed or aborted (`NoSuchUpload`).
    #[error("{call} {key}: storage knows no such upload")]
    NoSuchUpload {
        /// The call.
        call: &'static str,
        /// The object's key.
        key: String,
    },
    /// The bucket does not exist.
    #[error(
        "bucket {bucket:?} does not exist: make it with `{mend}`, or start the server with --create-bucket"
    )]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
        /// The command that makes it.
        mend: String,
    },
    /// Complete named a part that storage does not have as named (`InvalidPart`, `InvalidPartOrder`, `EntityTooSmall`).
    #[error("{call} {key}: storage refuses the parts: {message}")]
    BadParts {
        /// The call.
        call: &'static str,
        /// The object's key.
        key: String,
        /// What storage said.
        message: String,
    },
    /// A checksum was refused (`BadDigest`, `InvalidRequest` for a full-object value).
    #[error("{call} {key}: storage refuses the checksum: {message}")]
    BadChecksum {
        /// The call.
        call: &'static str,
        /// The object's key.
        key: String,
        /// What storage said.
        message: String,
    },
    /// Storage refuses the credentials or the rights.
    #[error("{call} {key}: storage denies it ({code}): {message}; the server's identity needs {needs}")]
    Denied {
        /// The call.
        call: &'static str,
        /// The object's key, or the bucket.
        key: String,
        /// Storage's code.
        code: String,
        /// What storage said.
        message: String,
        /// The IAM action that is missing.
        needs: &'static str,
    },
    /// Storage could not be reached, gave no readable answer, or asked to come back (5xx, 429): the outcome is unknown.
    #[error("{call} {key}: no clean answer from storage: {message}")]
    Unclear {
        /// The call.
        call: &'static str,
        /// The object's key, or the bucket.
        key: String,
        /// What was seen, with the whole chain of causes.
        message: String,
    },
    /// Storage answered an error that has no meaning of its own here.
    #[error("{call} {key}: storage answers {status} {code}: {message}")]
    Other {
        /// The call.
        call: &'static str,
        /// The object's key, or the bucket.
        key: String,
        /// HTTP status.
        status: u16,
        /// Storage's code.
        code: String,
        /// What storage said.
        message: String,
    },
}

/// What hoist does with a bucket.
#[async_trait]
pub trait Bucket: Send + Sync + std::fmt::Debug {
    /// Gives the bucket's name.
    fn name(&self) -> &str;

    /// Checks at the start: the bucket is there (made when `create` is set), HEAD of an absent key is 404, the rights
    /// to write, list and abort, which checksum kind works (tried on a scratch key that is removed again), and whether
    /// the bucket is private, encrypted and has a lifecycle rule for incomplete uploads.
    ///
    /// # Errors
    /// `NoSuchBucket` and `Denied` stop the start; `Unclear` does not (the bucket may come back).
    async fn probe(&self, create: bool) -> Result<Probe, BucketError>;

    /// Creates a multipart upload.
    async fn create_upload(
        &self,
        key: &str,
        meta: &ObjectMeta,
        checksum: ChecksumKind,
    ) -> Result<MultipartId, BucketError>;

    /// Signs a PUT of exactly these bytes as this part. No call is made to storage.
    ///
    /// The grant lives for `request.ttl`, or for what is left of the signer's own credentials if that is less.
    async fn grant_part(&self, request: GrantRequest<'_>) -> Result<Grant, BucketError>;

    /// Lists all parts of an upload, by number.
    ///
    /// A part that was put twice may be listed twice, in no order that tells old from new (SeaweedFS 4.48); Complete
    /// takes the one that it names by its ETag. Some stores list no CRC (the same).
    async fn list_parts(&self, key: &str, multipart_id: &MultipartId)
    -> Result<Vec<ListedPart>, BucketError>;

    /// Completes an upload, once: without a retry of its own. Waits up to 15 minutes for the answer.
    async fn complete(&self, request: CompleteRequest<'_>) -> Result<CompleteReply, BucketError>;

    /// Aborts an upload, once. `NoSuchUpload` says that it was gone already.
    async fn abort(&self, key: &str, multipart_id: &MultipartId) -> Result<(), BucketError>;

    /// Lists the uploads under exactly this key.
    async fn list_uploads_of(&self, key: &str) -> Result<Vec<MultipartId>, BucketError>;

    /// Lists, page by page, what is open below the server's prefix, to count it. A bucket that lists nothing has nothing.
    async fn keys_with_uploads(&self, _after: Option<UploadsMarker>) -> Result<UploadKeys, BucketError> {
        Ok(UploadKeys::default())
    }

    /// Looks at an object; none where there is no such key.
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError>;

    /// Tells whether an object stands under this key, whosoever it is.
    async fn is_taken(&self, key: &str) -> Result<bool, BucketError> {
        self.head(key).await.map(|head| head.is_some())
    }

    /// Puts an empty object.
    async fn put_empty(
        &self,
        key: &str,
        meta: &ObjectMeta,
        checksum: ChecksumKind,
    ) -> Result<(), BucketError>;

    /// Gives the hosts to which agents will be sent with their parts.
    ///
    /// # Errors
    /// `Denied` and the like where nothing can be signed now.
    async fn storage_hosts(&self) -> Result<Vec<String>, BucketError> {
        Ok(Vec::new())
    }

    /// Signs a GET for an operator, which saves as `file_name`.
    async fn grant_get(&self, key: &str, file_name: &str, ttl: Duration) -> Result<Sealed, BucketError>;
}
