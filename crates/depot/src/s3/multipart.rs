//! Multipart uploads: create, take parts, list, complete, abort.

use std::ops::Bound;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::objects::write_condition;
use super::{Operations, accepted, count, length, listed};
use crate::bucket::Completion;
use crate::digest::{CRC64NVME, Claims, crc64_text};
use crate::intake::receive;
use crate::listing::page_size;
use crate::records::{Description, timestamp};
use crate::upload::ListedPart;

/// S3's part numbers.
const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

impl Operations {
    pub(super) async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let asked_crc64 = asked_crc64(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        if input.sse_customer_algorithm.is_some() {
            return Err(s3_error!(NotImplemented, "the depot knows no customer keys: use AES256"));
        }
        let description = accepted(Description {
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            content_encoding: input.content_encoding,
            content_language: input.content_language,
            content_type: input.content_type,
            expires: input.expires,
            metadata: input.metadata,
            encryption: input.server_side_encryption.as_ref().map(|sse| sse.as_str().to_owned()),
        })?;
        let key = input.key.clone();
        let id = self.store.run(move || bucket.create_upload(key, asked_crc64, description)).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: asked_crc64.then(crc64nvme),
            checksum_type: asked_crc64.then(full_object),
            server_side_encryption: input.server_side_encryption,
            ..Default::default()
        }))
    }

    pub(super) async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let number = part_number(input.part_number)?;
        // Looked up first, so that a late part is refused before its bytes are taken.
        let upload = self.store.bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
        let claims = Claims::read(&req.headers)?;
        if upload.record.asked_crc64 && claims.any_checksum() && !claims.has(CRC64NVME) {
            return Err(s3_error!(
                InvalidRequest,
                "the upload was created with CRC64NVME: send that checksum"
            ));
        }
        let encryption = upload.record.description.encryption.clone();
        let received =
            receive(&self.store, input.body, claims, req.trailing_headers, input.content_length).await?;
        let store_part = move || {
            let (temp, digests) = received.settle()?;
            Ok((upload.store_part(number, temp, &digests)?, digests))
        };
        let (part, digests) = self.store.run(store_part).await?;
        let mut output = UploadPartOutput {
            checksum_crc64nvme: Some(crc64_text(part.crc64)),
            e_tag: Some(ETag::Strong(part.etag())),
            server_side_encryption: encryption.map(ServerSideEncryption::from),
            ..Default::default()
        };
        let others = digests.others();
        output.checksum_crc32.clone_from(&others.checksum_crc32);
        output.checksum_crc32c.clone_from(&others.checksum_crc32c);
        output.checksum_sha1.clone_from(&others.checksum_sha1);
        output.checksum_sha256.clone_from(&others.checksum_sha256);
        Ok(S3Response::new(output))
    }

    pub(super) async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let upload = self.store.bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
        let size = page_size(input.max_parts);
        let after = u16::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(u16::MAX);
        // The lock is held for as long as a part is renamed: cheap, but file work all the same.
        let asked_crc64 = upload.record.asked_crc64;
        let read = move || {
            let state = upload.open()?;
            let mut parts = state.parts.range((Bound::Excluded(after), Bound::Unbounded));
            let page: Vec<_> = parts.by_ref().take(size).map(|(_, part)| part.clone()).collect();
            Ok((page, size > 0 && parts.next().is_some()))
        };
        let (page, more) = self.store.run(read).await?;
        let last = page.last().map(|part| i32::from(part.name.number));
        let parts = page.into_iter().map(|part| Part {
            checksum_crc64nvme: Some(crc64_text(part.name.crc64)),
            e_tag: Some(ETag::Strong(part.name.etag())),
            last_modified: Some(Timestamp::from(part.modified)),
            part_number: Some(i32::from(part.name.number)),
            size: Some(length(part.name.size_bytes)),
            ..Default::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm: asked_crc64.then(crc64nvme),
            checksum_type: asked_crc64.then(full_object),
            is_truncated: Some(more),
            max_parts: Some(count(size)),
            next_part_number_marker: last.filter(|_| more),
            part_number_marker: input.part_number_marker,
            parts: Some(parts.collect()),
            ..Default::default()
        }))
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let others =
            [&input.checksum_crc32, &input.checksum_crc32c, &input.checksum_sha1, &input.checksum_sha256];
        if others.iter().any(|claimed| claimed.is_some()) {
            return Err(s3_error!(NotImplemented, "of a whole object the depot knows CRC64NVME only"));
        }
        if input.checksum_type.as_ref().is_some_and(|t| t.as_str() != ChecksumType::FULL_OBJECT) {
            return Err(s3_error!(InvalidRequest, "the depot's checksums are FULL_OBJECT"));
        }
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "list at least one part"));
        }
        let completion = Completion {
            parts: parts.into_iter().map(listed_part).collect(),
            crc64: input.checksum_crc64nvme,
            size_bytes: input.mpu_object_size.map(|size| u64::try_from(size).unwrap_or(u64::MAX)),
            condition: write_condition(input.if_match.as_ref(), input.if_none_match.as_ref())?,
        };
        let (key, id) = (input.key.clone(), input.upload_id);
        let object = self.store.run(move || bucket.complete(&key, &id, &completion)).await?;
        let record = &object.record;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            checksum_crc64nvme: Some(crc64_text(record.crc64)),
            checksum_type: Some(full_object()),
            e_tag: Some(ETag::Strong(record.etag.clone())),
            server_side_encryption: record.description.encryption.clone().map(ServerSideEncryption::from),
            ..Default::default()
        }))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let bucket = self.store.bucket(&req.input.bucket)?;
        let (key, id) = (req.input.key, req.input.upload_id);
        self.store.run(move || bucket.abort(&key, &id)).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "uploads are listed by prefix, not by delimiter"));
        }
        let encoding = input.encoding_type.as_ref();
        let prefix = input.prefix.clone().unwrap_or_default();
        let size = page_size(input.max_uploads);
        let contents = bucket.contents();
        let after = input.key_marker.clone().unwrap_or_default();
        let is_later = |(key, id): &&(String, String)| match &input.upload_id_marker {
            Some(marker) if !after.is_empty() => (key, id) > (&after, marker),
            Some(_) | None => after.is_empty() || *key > after,
        };
        let mut later = contents.uploads.iter().filter(|(id, _)| id.0.starts_with(&prefix) && is_later(id));
        let page: Vec<_> = later.by_ref().take(size).collect();
        let more = size > 0 && later.next().is_some();
        let last = page.last().filter(|_| more).map(|(id, _)| (*id).clone());
        let uploads = page.into_iter().map(|((key, id), upload)| MultipartUpload {
            checksum_algorithm: upload.record.asked_crc64.then(crc64nvme),
            checksum_type: upload.record.asked_crc64.then(full_object),
            initiated: Some(timestamp(upload.record.created_ms)),
            key: Some(listed(key, encoding)),
            upload_id: Some(id.clone()),
            ..Default::default()
        });
        let uploads = Some(uploads.collect());
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(more),
            key_marker: Some(listed(&after, encoding)),
            max_uploads: Some(count(size)),
            next_key_marker: last.as_ref().map(|(key, _)| listed(key, encoding)),
            next_upload_id_marker: last.map(|(_, id)| id),
            prefix: Some(listed(&prefix, encoding)),
            upload_id_marker: input.upload_id_marker,
            encoding_type: input.encoding_type,
            uploads,
            ..Default::default()
        }))
    }
}

fn crc64nvme() -> ChecksumAlgorithm {
    ChecksumAlgorithm::from_static(ChecksumAlgorithm::CRC64NVME)
}

fn full_object() -> ChecksumType {
    ChecksumType::from_static(ChecksumType::FULL_OBJECT)
}

fn part_number(number: i32) -> S3Result<u16> {
    let known = Some(number).filter(|number| PART_NUMBERS.contains(number));
    known
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "partNumber must be from 1 to 10000, not {number}"))
}

fn asked_crc64(algorithm: Option<&ChecksumAlgorithm>, kind: Option<&ChecksumType>) -> S3Result<bool> {
    let kind_is_known = kind.is_none_or(|kind| kind.as_str() == ChecksumType::FULL_OBJECT);
    match algorithm.map(ChecksumAlgorithm::as_str) {
        None if kind.is_none() => Ok(false),
        Some(ChecksumAlgorithm::CRC64NVME) if kind_is_known => Ok(true),
        _ => Err(s3_error!(NotImplemented, "of uploads the depot knows CRC64NVME with FULL_OBJECT only")),
    }
}

fn listed_part(part: CompletedPart) -> ListedPart {
    ListedPart {
        number: part.part_number.unwrap_or(0),
        etag: part.e_tag.map(ETag::into_value),
        crc64: part.checksum_crc64nvme,
    }
}
