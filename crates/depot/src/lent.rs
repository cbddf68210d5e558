//! A request's body that can be taken back from the protocol crate, to read what a refusal left unread.
//!
//! A connection that is closed over unread bytes is reset, and then the client may never see the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// At most this much is read for nothing: a large part. Who sends more may be cut off.
const MAX_UNREAD_BYTES: usize = 64 << 20;
/// And for no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body lent to whoever answers; its lender keeps the other end.
#[derive(Debug, Clone)]
pub(crate) struct Lent(Arc<Mutex<Option<Incoming>>>);

impl Lent {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// Reads and drops what nobody read, within limits.
    pub(crate) async fn discard(self) {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = taken else { return };
        let discard = async {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MAX_UNREAD_BYTES {
                    break;
                }
            }
        };
        // Out of patience: the client takes its chance.
        let _ = tokio::time::timeout(PATIENCE, discard).await;
    }

    fn with<T>(&self, ended: T, read: impl FnOnce(Pin<&mut Incoming>) -> T) -> T {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.as_mut().map_or(ended, |body| read(Pin::new(body)))
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.with(Poll::Ready(None), |body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(true, |body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(SizeHint::with_exact(0), |body| body.size_hint())
    }
}
