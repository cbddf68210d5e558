//! One kind of proof, tried on a scratch key: right bytes must go in, and wrong ones must not.
//!
//! Deliberately absent: which kind is taken in the end (`probe`). The scratch key is under `.hoist-probe/`; upload and
//! object are removed again, whatever the trial says.

use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use crc_fast::CrcAlgorithm;
use hoist_wire::{ChecksumKind, Crc64, Md5, PartNumber, PartSums};
use md5::Digest as _;

use super::calls::unquoted;
use super::errors::{Asked, chain, unclear};
use super::{
    Bucket as _, BucketError, Check, CompletePart, CompleteRequest, GrantRequest, MultipartId, ObjectMeta,
    S3Bucket, Verdict, WRITE_TOKEN_KEY,
};

/// Life of the grants of a trial.
const TRIAL_TTL: Duration = Duration::from_secs(60);

/// Longest time for one PUT of a few bytes.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a trial ended without a proof.
#[derive(Debug)]
pub(super) enum Stop {
    /// The bucket cannot be used, or not now.
    Fatal(BucketError),
    /// This kind of proof is not to be had here; another one may be.
    NotThis(String),
}

impl From<BucketError> for Stop {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Denied { .. } | BucketError::NoSuchBucket { .. } | BucketError::Unclear { .. } => {
                Self::Fatal(error)
            }
            BucketError::NoSuchUpload { .. }
            | BucketError::BadParts { .. }
            | BucketError::BadChecksum { .. }
            | BucketError::Other { .. } => Self::NotThis(error.to_string()),
        }
    }
}

/// A key that nobody else uses, and the few bytes that are put there.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) key: String,
    token: String,
    right: Vec<u8>,
    wrong: Vec<u8>,
    sums: PartSums,
}

impl Scratch {
    /// Makes a scratch key below a prefix.
    ///
    /// # Errors
    /// Only where the system gives no random bytes.
    pub(super) fn new(prefix: &str) -> Result<Self, BucketError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            let asked = Asked { call: "probe", key: prefix, needs: "" };
            unclear(asked, format!("the system gives no random bytes: {error}"))
        })?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        let right = format!("hoist probes what this bucket can prove: {token}\n").into_bytes();
        let mut wrong = right.clone();
        wrong[0] ^= 1;
        let sums = PartSums {
            crc64nvme: Crc64(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &right)),
            md5: Some(Md5(md5::Md5::digest(&right).into())),
        };
        Ok(Self { key: format!("{prefix}{slash}.hoist-probe/{token}"), token, right, wrong, sums })
    }

    /// Gives the ETag that S3 makes for an object of this one part.
    fn etag_of_one_part(&self) -> Option<String> {
        self.sums.md5.map(|md5| format!("{}-1", Md5(md5::Md5::digest(md5.0).into()).hex()))
    }
}

/// What storage answered to a presigned PUT.
struct Put {
    status: u16,
    code: String,
    etag: String,
}

impl S3Bucket {
    /// Tries a kind of proof from Create to HEAD, and cleans up.
    pub(super) async fn try_on_scratch(&self, kind: ChecksumKind, seen: &mut Vec<Check>) -> Result<(), Stop> {
        let scratch = Scratch::new(&self.config.prefix)?;
        let meta = ObjectMeta {
            metadata: [(WRITE_TOKEN_KEY.to_owned(), scratch.token.clone())].into_iter().collect(),
        };
        if kind != ChecksumKind::Unproven {
            self.try_wrong_bytes(kind, &scratch, &meta).await?;
        }
        let id = self.create_upload(&scratch.key, &meta, kind).await?;
        let tried = self.try_upload(kind, &scratch, &id, seen).await;
        let aborted = self.abort(&scratch.key, &id).await;
        seen.push(self.remove(&scratch.key).await);
        tried?;
        match aborted {
            // The upload is gone: completed by the trial, which stores answer each in their own way.
            Err(error @ BucketError::Denied { .. }) => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Tries wrong bytes in an upload of their own: a store may give up the whole upload for them (rclone 1.75).
    async fn try_wrong_bytes(
        &self,
        kind: ChecksumKind,
        scratch: &Scratch,
        meta: &ObjectMeta,
    ) -> Result<(), Stop> {
        let id = self.create_upload(&scratch.key, meta, kind).await?;
        let put = self.put(kind, scratch, &id, &scratch.wrong).await;
        let aborted = self.abort(&scratch.key, &id).await;
        if let Err(error @ BucketError::Denied { .. }) = aborted {
            return Err(error.into());
        }
        if put?.status < 300 {
            return Err(Stop::NotThis("a part with the wrong checksum was taken".to_owned()));
        }
        Ok(())
    }

    async fn try_upload(
        &self,
        kind: ChecksumKind,
        scratch: &Scratch,
        id: &MultipartId,
        seen: &mut Vec<Check>,
    ) -> Result<(), Stop> {
        let put = self.put(kind, scratch, id, &scratch.right).await?;
        if put.status == 403 {
            return Err(Stop::Fatal(BucketError::Denied {
                call: "put_part",
                key: scratch.key.clone(),
                code: put.code,
                message: "a presigned PUT of the right bytes was refused".to_owned(),
                needs: "s3:PutObject",
            }));
        }
        if put.status >= 300 {
            return Err(Stop::NotThis(format!("the right part was refused: {} {}", put.status, put.code)));
        }
        self.look_at_listings(kind, scratch, id, &put, seen).await?;
        self.try_complete(kind, scratch, id, &put).await
    }

    async fn look_at_listings(
        &self,
        kind: ChecksumKind,
        scratch: &Scratch,
        id: &MultipartId,
        put: &Put,
        seen: &mut Vec<Check>,
    ) -> Result<(), Stop> {
        let parts = self.list_parts(&scratch.key, id).await?;
        let size = scratch.right.len() as u64;
        let [part] = parts.as_slice() else {
            return Err(Stop::NotThis(format!("{} parts are listed where there is one", parts.len())));
        };
        if (part.size_bytes, &part.etag) != (size, &put.etag) {
            return Err(Stop::NotThis("the part is not listed as it was put".to_owned()));
        }
        let md5 = scratch.sums.md5.map(|md5| md5.hex());
        if kind == ChecksumKind::PartMd5 && md5.as_ref() != Some(&part.etag) {
            return Err(Stop::NotThis("a part's ETag is not its MD5".to_owned()));
        }
        let (verdict, detail) = match self.list_uploads_of(&scratch.key).await {
            Ok(uploads) if uploads.contains(id) => (Verdict::Ok, "open uploads are listed".to_owned()),
            Ok(_) => (Verdict::Bad, "open uploads are not listed: one may be left after a crash".to_owned()),
            Err(error @ (BucketError::Denied { .. } | BucketError::Unclear { .. })) => {
                return Err(Stop::Fatal(error));
            }
            Err(error) => (Verdict::Bad, format!("open uploads cannot be listed: {error}")),
        };
        seen.push(Check { name: "uploads", verdict, detail });
        Ok(())
    }

    async fn try_complete(
        &self,
        kind: ChecksumKind,
        scratch: &Scratch,
        id: &MultipartId,
        put: &Put,
    ) -> Result<(), Stop> {
        let parts = [CompletePart { number: PartNumber::FIRST, etag: put.etag.clone(), sums: scratch.sums }];
        let crc = scratch.sums.crc64nvme;
        let request = |crc64nvme| CompleteRequest {
            key: &scratch.key,
            multipart_id: id,
            parts: &parts,
            checksum: kind,
            crc64nvme,
            size_bytes: scratch.right.len() as u64,
        };
        if kind == ChecksumKind::Crc64nvme {
            match self.complete(request(Crc64(!crc.0))).await.map_err(Stop::from) {
                Ok(_) => return Err(Stop::NotThis("Complete takes a wrong full-object value".to_owned())),
                Err(Stop::Fatal(error)) => return Err(Stop::Fatal(error)),
                Err(Stop::NotThis(_)) => {}
            }
        }
        let reply = self.complete(request(crc)).await?;
        let Some(head) = self.head(&scratch.key).await? else {
            return Err(Stop::NotThis("the completed object is not there".to_owned()));
        };
        if head.size_bytes != scratch.right.len() as u64
            || head.write_token.as_deref() != Some(scratch.token.as_str())
        {
            return Err(Stop::NotThis("HEAD does not show size and metadata as they were given".to_owned()));
        }
        let proof = reply.crc64nvme.or(head.crc64nvme);
        if kind == ChecksumKind::Crc64nvme && proof != Some(crc) {
            return Err(Stop::NotThis("neither Complete nor HEAD shows the object's CRC64NVME".to_owned()));
        }
        let etag = scratch.etag_of_one_part();
        if kind == ChecksumKind::PartMd5 && reply.etag != etag && head.etag != etag {
            return Err(Stop::NotThis("the object's ETag is not made of its parts' MD5s".to_owned()));
        }
        Ok(())
    }

    /// Puts a scratch part through a grant, as an agent would, at the endpoint that the server reaches.
    async fn put(
        &self,
        kind: ChecksumKind,
        scratch: &Scratch,
        id: &MultipartId,
        bytes: &[u8],
    ) -> Result<Put, BucketError> {
        let asked = Asked { call: "put_part", key: &scratch.key, needs: "s3:PutObject" };
        let request = GrantRequest {
            key: &scratch.key,
            multipart_id: id,
            number: PartNumber::FIRST,
            size_bytes: bytes.len() as u64,
            sums: &scratch.sums,
            checksum: kind,
            ttl: TRIAL_TTL,
        };
        let grant = self.sign_part(&self.once, request).await?;
        let mut http = HttpRequest::new(SdkBody::from(bytes));
        // The text of an error here could show the URL.
        let unusable = || unclear(asked, "the grant is no request that can be sent".to_owned());
        http.set_method("PUT").map_err(|_| unusable())?;
        http.set_uri(grant.url.open()).map_err(|_| unusable())?;
        for (name, value) in grant.headers {
            http.headers_mut().try_insert(name, value).map_err(|_| unusable())?;
        }
        let reply = connector().call(http).await.map_err(|error| unclear(asked, chain(&error)))?;
        let status = reply.status().as_u16();
        let etag = unquoted(reply.headers().get("etag").unwrap_or_default());
        let body = ByteStream::new(reply.into_body()).collect().await;
        let code = body.map(|body| code_of(&body.into_bytes())).unwrap_or_default();
        if matches!(status, 408 | 429 | 500 | 502..=599) || code == "RequestTimeout" {
            return Err(unclear(asked, format!("{status} {code}")));
        }
        Ok(Put { status, code, etag })
    }

    async fn remove(&self, key: &str) -> Check {
        let asked = Asked { call: "delete", key, needs: "s3:DeleteObject" };
        let call = self.once.delete_object().bucket(&self.config.bucket).key(key);
        let (verdict, detail) = match Box::pin(call.send()).await {
            Ok(_) => (Verdict::Ok, "the scratch object is removed".to_owned()),
            Err(error) => {
                let error = self.place.explain(asked, &error);
                (Verdict::Bad, format!("{key} of the probe is left behind: {error}"))
            }
        };
        Check { name: "scratch", verdict, detail }
    }
}

/// Makes a connection of its own, as the SDK makes its own: same trust, same proxies.
fn connector() -> Connector {
    let settings =
        HttpConnectorSettings::builder().connect_timeout(PUT_TIMEOUT).read_timeout(PUT_TIMEOUT).build();
    Connector::builder()
        .connector_settings(settings)
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build()
}

/// Reads the code of an S3 error; empty where there is none.
fn code_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map(|(code, _)| code.chars().take(64).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_key_stays_below_its_prefix_and_wrong_bytes_are_as_long_as_right_ones() {
        let scratch = Scratch::new("/a/b/").unwrap();
        assert!(scratch.key.starts_with("a/b/.hoist-probe/"), "{}", scratch.key);
        assert!(Scratch::new("").unwrap().key.starts_with(".hoist-probe/"));
        assert!(scratch.right != scratch.wrong && scratch.right.len() == scratch.wrong.len());
        assert_ne!(scratch.key, Scratch::new("/a/b/").unwrap().key);
    }

    #[test]
    fn the_code_of_an_error_is_read() {
        assert_eq!(code_of(b"<?xml?><Error><Code>BadDigest</Code></Error>"), "BadDigest");
        assert_eq!(code_of(b"<html>"), "");
    }
}
