//! S3's operations, as the protocol crate calls them: from its types to the store and back. What is not
//! here answers 501 NotImplemented: copies, versions, tags, access lists, and all configuration.

mod buckets;
mod multipart;
mod objects;

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use crate::records::Description;
use crate::store::Store;

/// The service behind the protocol.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) store: Arc<Store>,
    pub(crate) region: String,
}

/// Forwards each operation to the function that carries it out; `await` marks those that touch files.
macro_rules! operations {
    ($($name:ident($input:ident) -> $output:ident $(, $wait:tt)?;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                Operations::$name(self, req)$(.$wait)?
            })*
        }
    };
}

operations! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput, await;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput, await;
    create_bucket(CreateBucketInput) -> CreateBucketOutput, await;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput, await;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput, await;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    get_object(GetObjectInput) -> GetObjectOutput;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    list_buckets(ListBucketsInput) -> ListBucketsOutput;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    list_parts(ListPartsInput) -> ListPartsOutput, await;
    put_object(PutObjectInput) -> PutObjectOutput, await;
    upload_part(UploadPartInput) -> UploadPartOutput, await;
}

/// S3's limit on what a client may note of an object: names and values together.
const MAX_METADATA_BYTES: usize = 2 << 10;

/// Takes a client's description, if the depot can keep what it promises.
fn accepted(description: Description) -> S3Result<Description> {
    let metadata = description.metadata.iter().flatten();
    if metadata.map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_METADATA_BYTES {
        return Err(s3_error!(MetadataTooLarge, "x-amz-meta-* may have 2 KiB together"));
    }
    match description.encryption.as_deref() {
        None | Some(ServerSideEncryption::AES256) => Ok(description),
        Some(other) => Err(s3_error!(NotImplemented, "the depot knows no encryption {other}: use AES256")),
    }
}

/// A length as S3's types have it.
fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A count as S3's types have it.
fn count(entries: usize) -> i32 {
    i32::try_from(entries).unwrap_or(i32::MAX)
}

/// A key or prefix in a list, percent-encoded if the request asked for it.
fn listed(text: &str, encoding: Option<&EncodingType>) -> String {
    /// What S3 leaves as it is.
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');
    if encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
        percent_encoding::utf8_percent_encode(text, KEPT).to_string()
    } else {
        text.to_owned()
    }
}
