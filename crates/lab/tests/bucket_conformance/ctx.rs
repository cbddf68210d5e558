//! What the cases share: a bucket, keys of their own, and an agent's PUT.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crc_fast::CrcAlgorithm;
use hoist_lab::s3::S3Server;
use hoist_lab::sim::FairBucket;
use hoist_server::bucket::{
    Bucket, BucketError, CompletePart, CompleteRequest, GrantRequest, MultipartId, ObjectMeta, S3Bucket,
    S3Config, Sse, StaticCredentials, WRITE_TOKEN_KEY,
};
use hoist_wire::limits::MIN_PART_SIZE_BYTES;
use hoist_wire::to_agent::Grant;
use hoist_wire::{ChecksumKind, Crc64, Md5, PartNumber, PartSums};
use md5::Digest as _;
use url::Url;

/// The one bucket of a server.
pub(crate) const BUCKET: &str = "conformance";

/// How a server is known to answer otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// Signatures are checked in presigned URLs, but not in headers.
    HeaderSignaturesUnchecked,
    /// ListParts leaves the parts' CRCs out: a resume has to know them from the receipts.
    PartsListedWithoutCrc,
    /// A part that was put again may be listed as both, or still as the old one.
    ReplacedPartsStayListed,
    /// It knows no CRC64NVME: the suite runs with the parts' MD5 alone.
    OnlyMd5,
    /// HEAD's ETag is the MD5 of the bytes, also of an object of several parts; Complete's answer has the usual one.
    HeadsEtagIsPlain,
    /// A part cannot be put again with other bytes: 501.
    PartsAreNotReplaced,
    /// Wrong bytes in a part end its whole upload.
    WrongBytesEndTheUpload,
    /// A Complete that names a wrong part ends the upload.
    RefusedCompleteEndsTheUpload,
    /// A part before the last may be as small as it likes.
    SmallPartsAreTaken,
}

/// What the cases share.
pub(crate) struct Ctx {
    pub(crate) bucket: Arc<dyn Bucket>,
    /// The same bucket, listed in pages of two.
    pub(crate) paged: Arc<dyn Bucket>,
    /// The kind that the cases' uploads are made with.
    pub(crate) kind: ChecksumKind,
    reached: Reached,
    quirks: &'static [Quirk],
    keys: Mutex<Vec<String>>,
    next: AtomicU32,
}

/// How the cases reach storage as an agent or an operator does.
enum Reached {
    Http(S3Server, reqwest::Client),
    Simulated(FairBucket),
}

/// What storage answered to a PUT.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: String,
    #[expect(dead_code, reason = "it is what a failed assertion shows")]
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// An open upload of a case.
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) id: MultipartId,
    pub(crate) token: String,
}

impl Ctx {
    pub(crate) async fn new(server: &S3Server, kind: ChecksumKind, quirks: &'static [Quirk]) -> Self {
        let bucket = S3Bucket::connect(config(server, BUCKET, kind)).await.unwrap();
        let paged =
            S3Bucket::connect(S3Config { page_size: Some(2), ..config(server, BUCKET, kind) }).await.unwrap();
        // A server that has just started may still say 5xx.
        let probe = async {
            loop {
                match bucket.probe(true).await {
                    Ok(_) => return,
                    Err(BucketError::Unclear { message, .. }) => eprintln!("not yet: {message}"),
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), probe).await.unwrap();
        let reached = Reached::Http(server.clone(), hoist_lab::http());
        Self::of(Arc::new(bucket), Arc::new(paged), kind, reached, quirks)
    }

    pub(crate) fn simulated(kind: ChecksumKind) -> Self {
        let fair = FairBucket::new(kind);
        let bucket = fair.bucket();
        Self::of(Arc::clone(&bucket), bucket, kind, Reached::Simulated(fair), &[])
    }

    fn of(
        bucket: Arc<dyn Bucket>,
        paged: Arc<dyn Bucket>,
        kind: ChecksumKind,
        reached: Reached,
        quirks: &'static [Quirk],
    ) -> Self {
        Self { bucket, paged, kind, reached, quirks, keys: Mutex::default(), next: AtomicU32::new(0) }
    }

    /// Gives the server behind the bucket; only cases that speak HTTP ask.
    pub(crate) fn server(&self) -> &S3Server {
        match &self.reached {
            Reached::Http(server, _) => server,
            Reached::Simulated(_) => panic!("the simulated bucket has no server"),
        }
    }

    fn http(&self) -> &reqwest::Client {
        match &self.reached {
            Reached::Http(_, http) => http,
            Reached::Simulated(_) => panic!("the simulated bucket speaks no HTTP"),
        }
    }

    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// Gives a key that no other case has.
    pub(crate) fn key(&self, name: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = format!("lab/{}/{number}/{name}", self.kind.as_str());
        self.keys.lock().unwrap().push(key.clone());
        key
    }

    pub(crate) async fn create(&self, key: String) -> Upload {
        let token = format!("token-of-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let meta = ObjectMeta { metadata: BTreeMap::from([(WRITE_TOKEN_KEY.to_owned(), token.clone())]) };
        let id = self.bucket.create_upload(&key, &meta, self.kind).await.unwrap();
        Upload { key, id, token }
    }

    pub(crate) async fn grant(&self, upload: &Upload, number: u16, bytes: &[u8]) -> Grant {
        self.grant_for(upload, number, bytes, Duration::from_secs(300)).await
    }

    pub(crate) async fn grant_for(&self, upload: &Upload, number: u16, bytes: &[u8], ttl: Duration) -> Grant {
        let request = GrantRequest {
            key: &upload.key,
            multipart_id: &upload.id,
            number: PartNumber::new(number).unwrap(),
            size_bytes: bytes.len() as u64,
            sums: &sums(bytes),
            checksum: self.kind,
            ttl,
        };
        self.bucket.grant_part(request).await.unwrap()
    }

    /// Puts bytes as an agent would: the grant's headers, and the length that the body really has.
    pub(crate) async fn put(&self, grant: &Grant, bytes: &[u8]) -> Answer {
        self.put_raw(grant.url.open(), &grant.headers, bytes).await
    }

    pub(crate) async fn put_raw(
        &self,
        url: &str,
        headers: &BTreeMap<String, String>,
        bytes: &[u8],
    ) -> Answer {
        if let Reached::Simulated(fair) = &self.reached {
            let text = String::new();
            return match fair.put(url, sums(bytes), bytes.len() as u64) {
                Ok(etag) => Answer { status: 200, etag, text },
                Err(status) => Answer { status, etag: String::new(), text },
            };
        }
        let mut request = self.http().put(url).body(bytes.to_vec());
        for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(reply) => Answer {
                status: reply.status().as_u16(),
                etag: reply
                    .headers()
                    .get("etag")
                    .map_or(String::new(), |etag| etag.to_str().unwrap().trim_matches('"').to_owned()),
                text: reply.text().await.unwrap_or_default(),
            },
            // A server may close the connection before it has read a body that it refuses.
            Err(error) => Answer { status: 0, etag: String::new(), text: error.without_url().to_string() },
        }
    }

    /// Puts the right bytes of a part, and gives it as Complete names it.
    pub(crate) async fn part(&self, upload: &Upload, number: u16, bytes: &[u8]) -> CompletePart {
        let grant = self.grant(upload, number, bytes).await;
        let answer = self.put(&grant, bytes).await;
        assert!(answer.is_ok() && !answer.etag.is_empty(), "{answer:?}");
        CompletePart { number: PartNumber::new(number).unwrap(), etag: answer.etag, sums: sums(bytes) }
    }

    /// Names an upload's parts for Complete, the whole file's bytes being `whole`.
    pub(crate) fn complete<'a>(
        &self,
        upload: &'a Upload,
        parts: &'a [CompletePart],
        whole: &[u8],
    ) -> CompleteRequest<'a> {
        CompleteRequest {
            key: &upload.key,
            multipart_id: &upload.id,
            parts,
            checksum: self.kind,
            crc64nvme: sums(whole).crc64nvme,
            size_bytes: whole.len() as u64,
        }
    }

    /// Checks that an upload that had to refuse something still lives, and ends it; or that it is gone, where `quirk` says so.
    pub(crate) async fn ends_unless(&self, quirk: Quirk, upload: &Upload, parts: usize) {
        match self.bucket.list_parts(&upload.key, &upload.id).await {
            Err(BucketError::NoSuchUpload { .. }) if self.has(quirk) => {}
            listed => {
                assert!(!self.has(quirk), "{quirk:?} is no more: {listed:?}");
                assert_eq!(listed.unwrap().len(), parts);
                self.abort(upload).await;
            }
        }
    }

    pub(crate) async fn abort(&self, upload: &Upload) {
        self.bucket.abort(&upload.key, &upload.id).await.unwrap();
    }

    pub(crate) async fn get(&self, url: &str) -> (u16, String, Vec<u8>) {
        let reply = self.http().get(url).send().await.unwrap();
        let disposition = reply.headers().get("content-disposition");
        let disposition = disposition.map_or(String::new(), |text| text.to_str().unwrap().to_owned());
        (reply.status().as_u16(), disposition, reply.bytes().await.unwrap().to_vec())
    }

    /// Names the uploads that cases have left open.
    pub(crate) async fn left_open(&self) -> Vec<String> {
        let keys = self.keys.lock().unwrap().clone();
        let mut left = Vec::new();
        for key in keys {
            match self.bucket.list_uploads_of(&key).await {
                Ok(open) if open.is_empty() => {}
                Ok(_) => left.push(format!("{key:?}: an upload is left open")),
                Err(error) => left.push(format!("{key:?}: {error}")),
            }
        }
        left
    }
}

/// Gives the configuration for a bucket of a server.
pub(crate) fn config(server: &S3Server, bucket: &str, strongest: ChecksumKind) -> S3Config {
    S3Config {
        bucket: bucket.to_owned(),
        region: server.region.clone(),
        endpoint: Some(Url::parse(&server.endpoint).unwrap()),
        public_endpoint: None,
        download_endpoint: None,
        prefix: "lab".to_owned(),
        sse: Sse::None,
        credentials: Some(StaticCredentials {
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone().into(),
        }),
        strongest,
        allow_unproven: false,
        page_size: None,
    }
}

/// Gives the smallest bytes that a part but the last may have, different for each seed.
pub(crate) fn full_part(seed: u8) -> Vec<u8> {
    let size = usize::try_from(MIN_PART_SIZE_BYTES).unwrap();
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761) | 1;
    std::iter::repeat_with(|| {
        // xorshift32 (Marsaglia, 2003): bytes that no store can fold together.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    })
    .flatten()
    .take(size)
    .collect()
}

pub(crate) fn sums(bytes: &[u8]) -> PartSums {
    PartSums {
        crc64nvme: Crc64(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)),
        md5: Some(Md5(md5::Md5::digest(bytes).into())),
    }
}
