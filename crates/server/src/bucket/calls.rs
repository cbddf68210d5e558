//! The calls that a download makes, one by one.
//!
//! Deliberately absent: retries of anything that changes something, and what an answer leads to.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use hoist_wire::to_agent::Grant;
use hoist_wire::{ChecksumKind, Crc64, Md5, Sealed};

use super::errors::{Asked, unclear};
use super::s3::patient;
use super::{
    Bucket, BucketError, CompleteReply, CompleteRequest, GrantRequest, ListedPart, MultipartId, ObjectHead,
    ObjectMeta, Probe, S3Bucket, UploadKeys, UploadsMarker, WRITE_TOKEN_KEY,
};

/// CRC64NVME of no bytes.
const CRC_OF_NOTHING: Crc64 = Crc64(0);

/// MD5 of no bytes (RFC 1321, A.5).
const MD5_OF_NOTHING: Md5 =
    Md5([0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e]);

#[async_trait]
impl Bucket for S3Bucket {
    fn name(&self) -> &str {
        &self.config.bucket
    }

    async fn probe(&self, create: bool) -> Result<Probe, BucketError> {
        self.run_probe(create).await
    }

    async fn create_upload(
        &self,
        key: &str,
        meta: &ObjectMeta,
        checksum: ChecksumKind,
    ) -> Result<MultipartId, BucketError> {
        let asked = Asked { call: "create_upload", key, needs: "s3:PutObject" };
        let mut call = self
            .once
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key)
            .set_metadata(Some(meta.metadata.clone().into_iter().collect()))
            .set_server_side_encryption(self.config.sse.as_header());
        if checksum == ChecksumKind::Crc64nvme {
            call =
                call.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
        }
        let id = match Box::pin(call.send()).await {
            Ok(reply) => reply.upload_id,
            Err(error) => Some(odd_upload_id(&error).ok_or_else(|| self.place.explain(asked, &error))?),
        };
        match id {
            Some(id) if !id.is_empty() => Ok(MultipartId(id)),
            Some(_) | None => Err(unclear(asked, "a good answer without an upload id".to_owned())),
        }
    }

    async fn grant_part(&self, request: GrantRequest<'_>) -> Result<Grant, BucketError> {
        self.sign_part(&self.for_agents, request).await
    }

    async fn list_parts(
        &self,
        key: &str,
        multipart_id: &MultipartId,
    ) -> Result<Vec<ListedPart>, BucketError> {
        self.all_parts(key, multipart_id).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<CompleteReply, BucketError> {
        let asked = Asked { call: "complete", key: request.key, needs: "s3:PutObject" };
        let signed = request.checksum == ChecksumKind::Crc64nvme;
        let parts = request.parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(i32::from(part.number.get()))
                .e_tag(format!("\"{}\"", part.etag))
                .set_checksum_crc64_nvme(signed.then(|| part.sums.crc64nvme.to_string()))
                .build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let call = self
            .once
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(request.key)
            .upload_id(&request.multipart_id.0)
            .multipart_upload(parts)
            .mpu_object_size(i64::try_from(request.size_bytes).unwrap_or(i64::MAX))
            .set_checksum_type(signed.then_some(ChecksumType::FullObject))
            .set_checksum_crc64_nvme(signed.then(|| request.crc64nvme.to_string()));
        let reply = Box::pin(call.customize().config_override(patient()).send())
            .await
            .map_err(|error| self.place.explain(asked, &error))?;
        // The SDK takes an empty body, or a stranger's, for an answer that says nothing. It is no answer.
        let Some(etag) = reply.e_tag.as_deref().map(unquoted).filter(|etag| !etag.is_empty()) else {
            return Err(unclear(asked, "status 200 with a body that is no result".to_owned()));
        };
        let crc64nvme = whole_crc(reply.checksum_crc64_nvme.as_deref(), reply.checksum_type.as_ref());
        Ok(CompleteReply { etag: Some(etag), crc64nvme })
    }

    async fn abort(&self, key: &str, multipart_id: &MultipartId) -> Result<(), BucketError> {
        let asked = Asked { call: "abort", key, needs: "s3:AbortMultipartUpload" };
        let call = self
            .once
            .abort_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key)
            .upload_id(&multipart_id.0);
        Box::pin(call.send()).await.map(drop).map_err(|error| self.place.explain(asked, &error))
    }

    async fn keys_with_uploads(&self, after: Option<UploadsMarker>) -> Result<UploadKeys, BucketError> {
        self.below_prefix(after).await
    }

    async fn list_uploads_of(&self, key: &str) -> Result<Vec<MultipartId>, BucketError> {
        self.uploads_of(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        match self.head_once(key, true).await {
            // Some stores know nothing of the checksum mode; a HEAD has no body to say so.
            Err(BucketError::Other { status: 400 | 501, .. }) => self.head_once(key, false).await,
            answer => answer,
        }
    }

    async fn put_empty(
        &self,
        key: &str,
        meta: &ObjectMeta,
        checksum: ChecksumKind,
    ) -> Result<(), BucketError> {
        let asked = Asked { call: "put_empty", key, needs: "s3:PutObject" };
        let mut call = self
            .once
            .put_object()
            .bucket(&self.config.bucket)
            .key(key)
            .set_metadata(Some(meta.metadata.clone().into_iter().collect()))
            .set_server_side_encryption(self.config.sse.as_header())
            .content_length(0)
            .body(ByteStream::from_static(b""));
        match checksum {
            ChecksumKind::Crc64nvme => call = call.checksum_crc64_nvme(CRC_OF_NOTHING.to_string()),
            ChecksumKind::PartMd5 => call = call.content_md5(MD5_OF_NOTHING.to_string()),
            ChecksumKind::Unproven => {}
        }
        Box::pin(call.send()).await.map(drop).map_err(|error| self.place.explain(asked, &error))
    }

    async fn storage_hosts(&self) -> Result<Vec<String>, BucketError> {
        self.host_of_grants().await.map(|host| vec![host])
    }

    async fn grant_get(&self, key: &str, file_name: &str, ttl: Duration) -> Result<Sealed, BucketError> {
        self.sign_get(key, file_name, ttl).await
    }
}

impl S3Bucket {
    async fn head_once(&self, key: &str, with_checksum: bool) -> Result<Option<ObjectHead>, BucketError> {
        // Without s3:ListBucket, AWS answers 403 for a key that is not there.
        let asked = Asked { call: "head", key, needs: "s3:GetObject, and s3:ListBucket on the bucket" };
        let call = self
            .reads
            .head_object()
            .bucket(&self.config.bucket)
            .key(key)
            .set_checksum_mode(with_checksum.then_some(ChecksumMode::Enabled));
        let reply = match Box::pin(call.send()).await {
            Ok(reply) => reply,
            Err(error) if error.as_service_error().is_some_and(|e| e.is_not_found()) => return Ok(None),
            Err(error) => {
                let error = self.place.explain(asked, &error);
                let absent = matches!(error, BucketError::Other { status: 404, .. });
                return if absent { Ok(None) } else { Err(error) };
            }
        };
        let size = reply.content_length.and_then(|size| u64::try_from(size).ok());
        let Some(size_bytes) = size else {
            return Err(unclear(asked, "a good answer without a content-length".to_owned()));
        };
        Ok(Some(ObjectHead {
            size_bytes,
            write_token: reply.metadata.as_ref().and_then(|all| all.get(WRITE_TOKEN_KEY)).cloned(),
            etag: reply.e_tag.as_deref().map(unquoted),
            crc64nvme: whole_crc(reply.checksum_crc64_nvme.as_deref(), reply.checksum_type.as_ref()),
        }))
    }
}

/// Finds the upload's id in a good answer that the SDK refuses: rclone 1.75 calls its root `InitiateMultipartUpload`.
fn odd_upload_id<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let raw = error.raw_response().filter(|raw| raw.status().is_success())?;
    let text = std::str::from_utf8(raw.body().bytes()?).ok()?;
    let (_, rest) = text.split_once("<InitiateMultipartUpload>")?;
    let (id, _) = rest.split_once("<UploadId>")?.1.split_once("</UploadId>")?;
    // An id that XML would write otherwise is none of those that are known.
    (!id.contains(['&', '<'])).then(|| id.to_owned())
}

/// Gives an ETag without its quotes.
pub(super) fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// Reads a CRC of the whole object; one that was made of the parts' CRCs says nothing of the bytes.
fn whole_crc(text: Option<&str>, kind: Option<&ChecksumType>) -> Option<Crc64> {
    if kind == Some(&ChecksumType::Composite) {
        return None;
    }
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoist_wire::{PartNumber, PartSums};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use url::Url;

    use super::super::{CompletePart, S3Config, Sse, StaticCredentials};
    use super::*;

    /// Gives a bucket whose storage answers each call with these bytes, and how many calls it got.
    async fn complete_answered(answer: &'static str) -> (Result<CompleteReply, BucketError>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = S3Config {
            bucket: "files".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(Url::parse(&endpoint).unwrap()),
            public_endpoint: None,
            download_endpoint: None,
            prefix: String::new(),
            sse: Sse::None,
            credentials: Some(StaticCredentials { access_key: "AK".to_owned(), secret_key: "sk".into() }),
            strongest: ChecksumKind::Crc64nvme,
            allow_unproven: false,
            page_size: None,
        };
        let bucket = S3Bucket::connect(config).await.unwrap();
        let mut calls = 0;
        let storage = async {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                calls += 1;
                let mut request = Vec::new();
                while !request.ends_with(b"</CompleteMultipartUpload>") {
                    assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
                }
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let sums = PartSums { crc64nvme: Crc64(1), md5: None };
        let parts = [CompletePart { number: PartNumber::FIRST, etag: "e".to_owned(), sums }];
        let id = MultipartId("up".to_owned());
        let request = CompleteRequest {
            key: "k",
            multipart_id: &id,
            parts: &parts,
            checksum: ChecksumKind::Crc64nvme,
            crc64nvme: Crc64(1),
            size_bytes: 1,
        };
        let reply = tokio::select! {
            reply = tokio::time::timeout(Duration::from_secs(20), bucket.complete(request)) => reply.unwrap(),
            () = storage => unreachable!("storage never ends"),
        };
        (reply, calls)
    }

    #[tokio::test]
    async fn a_complete_that_is_not_clean_is_unclear_and_made_once() {
        for answer in [
            // The connection ends before the answer, or amid it.
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n<?xml version=",
            // Nothing, a stranger's page, white space that keeps the connection alive and then the error.
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html><body>Please log in</body></html>",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<CompleteMultipartUploadResult/>",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<?xml version=\"1.0\"?>\n  \n<Error><Code>InternalError</Code>\
             <Message>We encountered an internal error</Message></Error>",
            "HTTP/1.1 503 Slow Down\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<html>bad gateway</html>",
        ] {
            let (reply, calls) = complete_answered(answer).await;
            assert!(matches!(reply, Err(BucketError::Unclear { .. })), "{answer:?}: {reply:?}");
            assert_eq!(calls, 1, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn an_error_in_a_200_keeps_its_meaning() {
        let (reply, _) = complete_answered(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<?xml version=\"1.0\"?>\
             <Error><Code>InvalidPart</Code><Message>One or more parts could not be found</Message></Error>",
        )
        .await;
        assert!(matches!(reply, Err(BucketError::BadParts { .. })), "{reply:?}");
        let (reply, _) = complete_answered(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<CompleteMultipartUploadResult><ETag>&quot;e-1&quot;</ETag>\
             <ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>\
             </CompleteMultipartUploadResult>",
        )
        .await;
        let clean = CompleteReply { etag: Some("e-1".to_owned()), crc64nvme: Some(Crc64(1)) };
        assert_eq!(reply.unwrap(), clean);
    }
}
