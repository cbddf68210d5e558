//! Takes a request's body into a temporary file, hashing on the way. Memory is constant: while one batch
//! is hashed and written on a blocking thread, the next is read from the network.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use crate::digest::{Claims, Digests, Hasher};
use crate::disk::TempFile;
use crate::error::{During as _, StoreError};
use crate::store::Store;

/// A blocking thread is handed about this much at a time.
const BATCH_BYTES: usize = 256 << 10;
/// S3's largest PUT: 5 GiB.
const MAX_BODY_BYTES: u64 = 5 << 30;
/// A body that is silent for this long is given up, as S3 does.
const SILENCE: Duration = Duration::from_secs(20);

/// A body that came whole; its bytes are written but not yet synced.
pub(crate) struct Received {
    pub(crate) temp: TempFile,
    hasher: Hasher,
    claims: Claims,
    trailers: Option<TrailingHeaders>,
}

impl Received {
    /// Checks the claims and waits for the disk. Blocks.
    pub(crate) fn settle(self) -> Result<(TempFile, Digests), StoreError> {
        let digests = self.hasher.finish();
        let trailers = self.trailers.and_then(|trailers| trailers.take());
        digests.verify(&self.claims, trailers.as_ref())?;
        self.temp.sync().during("writing a body to the disk")?;
        Ok((self.temp, digests))
    }

    fn write(mut self, batch: &[Bytes]) -> Result<Self, StoreError> {
        for bytes in batch {
            self.hasher.update(bytes);
            self.temp.write_all(bytes).during("writing a body")?;
        }
        Ok(self)
    }
}

/// Reads a body to its end.
///
/// # Errors
/// A body that is cut short, silent, too large, or not the one that was signed; it leaves no file.
pub(crate) async fn receive(
    store: &Arc<Store>,
    body: Option<StreamingBlob>,
    claims: Claims,
    trailers: Option<TrailingHeaders>,
    content_length: Option<i64>,
) -> S3Result<Received> {
    let expected = content_length.map(|length| u64::try_from(length).unwrap_or(0));
    let expected = expected.ok_or_else(|| s3_error!(MissingContentLength, "send a Content-Length"))?;
    if expected > MAX_BODY_BYTES {
        return Err(s3_error!(EntityTooLarge, "a body may have 5 GiB: send a larger file in parts"));
    }
    let temp_folder = store.temp_folder.clone();
    let create = move || {
        let temp = TempFile::create(&temp_folder).during("creating a temporary file")?;
        Ok(Received { temp, hasher: Hasher::new(&claims), claims, trailers })
    };
    let mut received = store.run(create).await?;
    let Some(mut body) = body else { return whole(received, expected) };
    let mut batch = next_batch(&mut body).await?;
    while !batch.is_empty() {
        let written = store.run(move || received.write(&batch));
        // Joined, not raced: when the body fails, the batch in hand is still waited for.
        let (written, next) = tokio::join!(written, next_batch(&mut body));
        received = written?;
        batch = next?;
    }
    whole(received, expected)
}

fn whole(received: Received, expected: u64) -> S3Result<Received> {
    if received.hasher.size_bytes() == expected {
        Ok(received)
    } else {
        Err(s3_error!(IncompleteBody, "the body ended before its Content-Length"))
    }
}

/// Collects about [`BATCH_BYTES`], without copying; empty at the end of the body.
async fn next_batch(body: &mut StreamingBlob) -> S3Result<Vec<Bytes>> {
    let mut batch = Vec::new();
    let mut size = 0;
    while size < BATCH_BYTES {
        let next = tokio::time::timeout(SILENCE, body.next()).await.map_err(|_| {
            s3_error!(RequestTimeout, "nothing came for 20 s: send the body again on a new connection")
        })?;
        match next {
            Some(Ok(bytes)) => {
                size += bytes.len();
                batch.push(bytes);
            }
            Some(Err(error)) => return Err(refused_body(error)),
            None => break,
        }
    }
    Ok(batch)
}

/// Names the fault of a body. The protocol crate tells its own faults by text only.
fn refused_body(error: Box<dyn std::error::Error + Send + Sync>) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut refused = S3Error::with_message(code, "x-amz-content-sha256 is not that of the bytes");
        refused.set_status_code(StatusCode::BAD_REQUEST);
        refused
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "a chunk of the body has another signature")
    } else {
        s3_error!(io::Error::other(error), IncompleteBody, "the body was cut short or is malformed")
    }
}
