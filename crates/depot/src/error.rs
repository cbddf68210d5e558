//! What can go wrong in the store, and S3's name for it. HTTP and signatures are not known here.

use std::io;

use s3s::{S3Error, S3ErrorCode, s3_error};

/// Why the store refused a request or could not carry it out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("no bucket of this name: create it first")]
    NoSuchBucket,
    #[error("a bucket of this name is here already")]
    BucketExists,
    #[error("no object has this key")]
    NoSuchKey,
    #[error("no upload of this key has this id: it was completed, aborted, or never created")]
    NoSuchUpload,
    #[error(
        "part {number} is missing, or its ETag or checksum is another one: list the parts, send it again"
    )]
    InvalidPart { number: i32 },
    #[error("part numbers must rise: {number} stands too late in the list")]
    InvalidPartOrder { number: i32 },
    #[error("part {number} has {size} bytes: only the last part may be smaller than 5 MiB")]
    EntityTooSmall { number: u16, size: u64 },
    #[error("the object would have {size} bytes, the request expects {expected}")]
    WrongSize { size: u64, expected: u64 },
    #[error("the {name} that came with the request is not the one of the bytes: send them again")]
    BadDigest { name: &'static str },
    #[error("the value of {name} cannot be read: send it in base64, full length")]
    MalformedDigest { name: &'static str },
    #[error("the trailer {name} was announced and did not come")]
    MissingTrailer { name: &'static str },
    #[error("the object does not meet the condition of the request")]
    PreconditionFailed,
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Names what was being done when a file operation failed.
pub(crate) trait During<T> {
    /// Turns an `io::Error` into a [`StoreError::Io`] that says what was being done.
    fn during(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { what, source })
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            StoreError::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            StoreError::NoSuchKey => S3ErrorCode::NoSuchKey,
            StoreError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            StoreError::InvalidPart { .. } => S3ErrorCode::InvalidPart,
            StoreError::InvalidPartOrder { .. } => S3ErrorCode::InvalidPartOrder,
            StoreError::EntityTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            StoreError::BadDigest { .. } => S3ErrorCode::BadDigest,
            StoreError::MalformedDigest { name: "Content-MD5" } => S3ErrorCode::InvalidDigest,
            StoreError::WrongSize { .. }
            | StoreError::MalformedDigest { .. }
            | StoreError::MissingTrailer { .. } => S3ErrorCode::InvalidRequest,
            StoreError::PreconditionFailed => S3ErrorCode::PreconditionFailed,
            StoreError::Io { .. } => {
                return s3_error!(error, InternalError, "the depot could not store or read its files");
            }
        };
        S3Error::with_message(code, error.to_string())
    }
}
