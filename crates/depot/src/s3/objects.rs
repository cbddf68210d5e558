//! Objects: put, get, look, delete, list.

use std::ops;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Operations, accepted, count, length, listed};
use crate::bucket::{Condition, Object};
use crate::digest::{Claims, crc64_text};
use crate::intake::receive;
use crate::listing::{self, Entry};
use crate::reading;
use crate::records::{Description, timestamp};

impl Operations {
    pub(super) async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        if input.sse_customer_algorithm.is_some() {
            return Err(s3_error!(NotImplemented, "the depot knows no customer keys: use AES256"));
        }
        let condition = write_condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let description = accepted(Description {
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            content_encoding: input.content_encoding.as_deref().and_then(without_aws_chunked),
            content_language: input.content_language,
            content_type: input.content_type,
            expires: input.expires,
            metadata: input.metadata,
            encryption: input.server_side_encryption.as_ref().map(|sse| sse.as_str().to_owned()),
        })?;
        let claims = Claims::read(&req.headers)?;
        let received =
            receive(&self.store, input.body, claims, req.trailing_headers, input.content_length).await?;
        let key = input.key;
        let put = move || {
            let (temp, digests) = received.settle()?;
            let object = bucket.put(key, temp, &digests, description, &condition)?;
            Ok((object, digests))
        };
        let (object, digests) = self.store.run(put).await?;
        let mut output = PutObjectOutput {
            checksum_crc64nvme: Some(crc64_text(object.record.crc64)),
            checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            e_tag: Some(ETag::Strong(object.record.etag.clone())),
            server_side_encryption: input.server_side_encryption,
            ..Default::default()
        };
        let others = digests.others();
        output.checksum_crc32.clone_from(&others.checksum_crc32);
        output.checksum_crc32c.clone_from(&others.checksum_crc32c);
        output.checksum_sha1.clone_from(&others.checksum_sha1);
        output.checksum_sha256.clone_from(&others.checksum_sha256);
        Ok(S3Response::new(output))
    }

    pub(super) fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let object = self.store.bucket(&input.bucket)?.object(&input.key)?;
        read_condition(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        whole_object_only(input.part_number)?;
        let (range, content_range) = asked_range(&object, input.range)?;
        let (checksum_crc64nvme, checksum_type) = checksum(&object, input.checksum_mode.as_ref());
        let record = &object.record;
        let description = record.description.clone();
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: description.cache_control,
            checksum_crc64nvme,
            checksum_type,
            content_disposition: description.content_disposition,
            content_encoding: description.content_encoding,
            content_language: description.content_language,
            content_length: Some(length(range.end - range.start)),
            content_range,
            content_type: description.content_type,
            e_tag: Some(ETag::Strong(record.etag.clone())),
            expires: description.expires,
            last_modified: Some(timestamp(record.modified_ms)),
            metadata: description.metadata,
            server_side_encryption: description.encryption.map(ServerSideEncryption::from),
            ..Default::default()
        }))
    }

    /// The protocol crate itself puts the `response-*` parameters into the answer's headers.
    pub(super) fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.store.bucket(&input.bucket)?.object(&input.key)?;
        read_condition(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        whole_object_only(input.part_number)?;
        let (range, content_range) = asked_range(&object, input.range)?;
        // A part of the bytes has not the checksum of the whole.
        let whole = content_range.is_none();
        let (checksum_crc64nvme, checksum_type) =
            if whole { checksum(&object, input.checksum_mode.as_ref()) } else { (None, None) };
        let record = &object.record;
        let description = record.description.clone();
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(reading::stream(
                self.store.clone(),
                Arc::clone(&object),
                range.clone(),
            ))),
            cache_control: description.cache_control,
            checksum_crc64nvme,
            checksum_type,
            content_disposition: description.content_disposition,
            content_encoding: description.content_encoding,
            content_language: description.content_language,
            content_length: Some(length(range.end - range.start)),
            content_range,
            content_type: description.content_type,
            e_tag: Some(ETag::Strong(record.etag.clone())),
            expires: description.expires,
            last_modified: Some(timestamp(record.modified_ms)),
            metadata: description.metadata,
            server_side_encryption: description.encryption.map(ServerSideEncryption::from),
            ..Default::default()
        }))
    }

    pub(super) async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let bucket = self.store.bucket(&req.input.bucket)?;
        let key = req.input.key;
        self.store.run(move || bucket.delete(&key)).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(super) fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let encoding = input.encoding_type.as_ref();
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.as_deref().or(input.start_after.as_deref());
        let size = listing::page_size(input.max_keys);
        let contents = bucket.contents();
        let (page, more) = listing::keys(&contents.objects, &prefix, input.delimiter.as_deref(), after, size);
        let last = page.last().map(|entry| entry.text().to_owned());
        let key_count = count(page.len());
        let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
        for entry in page {
            match entry {
                Entry::Key(key, object) => objects.push(s3s::dto::Object {
                    key: Some(listed(key, encoding)),
                    e_tag: Some(ETag::Strong(object.record.etag.clone())),
                    last_modified: Some(timestamp(object.record.modified_ms)),
                    size: Some(length(object.record.size_bytes)),
                    ..Default::default()
                }),
                Entry::CommonPrefix(prefix) => {
                    common_prefixes.push(CommonPrefix { prefix: Some(listed(prefix, encoding)) });
                }
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(listed(&prefix, encoding)),
            max_keys: Some(count(size)),
            key_count: Some(key_count),
            continuation_token: input.continuation_token,
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            contents: Some(objects),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            start_after: input.start_after,
            ..Default::default()
        }))
    }
}

/// `If-None-Match: *` is what S3 knows for writes; the depot knows no `If-Match` for them.
pub(super) fn write_condition(
    if_match: Option<&IfMatch>,
    if_none_match: Option<&IfNoneMatch>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition { must_be_absent: false }),
        (None, Some(ETagCondition::Any)) => Ok(Condition { must_be_absent: true }),
        _ => Err(s3_error!(NotImplemented, "for writes the depot knows If-None-Match: * only")),
    }
}

fn read_condition(
    object: &Object,
    if_match: Option<&IfMatch>,
    if_none_match: Option<&IfNoneMatch>,
) -> S3Result<()> {
    let is_this = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.record.etag,
    };
    if if_match.is_some_and(|condition| !is_this(condition)) {
        return Err(s3_error!(PreconditionFailed, "the object has another ETag"));
    }
    if if_none_match.is_some_and(is_this) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

fn whole_object_only(part_number: Option<i32>) -> S3Result<()> {
    match part_number {
        None => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "the depot reads by Range, not by partNumber")),
    }
}

fn asked_range(object: &Object, asked: Option<Range>) -> S3Result<(ops::Range<u64>, Option<String>)> {
    let size = object.record.size_bytes;
    let Some(asked) = asked else { return Ok((0..size, None)) };
    let range = asked.check(size)?;
    if range.is_empty() {
        return Err(s3_error!(InvalidRange, "the object is empty"));
    }
    let content_range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
    Ok((range, Some(content_range)))
}

fn checksum(object: &Object, mode: Option<&ChecksumMode>) -> (Option<String>, Option<ChecksumType>) {
    let enabled = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    let full = ChecksumType::from_static(ChecksumType::FULL_OBJECT);
    if enabled { (Some(crc64_text(object.record.crc64)), Some(full)) } else { (None, None) }
}

/// `aws-chunked` says how the body travelled, not what the object is.
fn without_aws_chunked(encoding: &str) -> Option<String> {
    let kept: Vec<&str> = encoding.split(',').map(str::trim).filter(|e| *e != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}
