//! Bodies on their way: whole, damaged, slow, cut.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::fault::{Fault, Injection};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body as the bucket gets it.
pub(super) struct Load {
    inner: Incoming,
    injection: Option<Arc<Injection>>,
    passed: u64,
    /// What comes next is the cut, whether or not the body has more.
    is_cut: bool,
    /// A frame that waits for the end of a stall.
    held: Option<Bytes>,
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Load {
    pub(super) fn new(inner: Incoming, injection: Option<Arc<Injection>>) -> Self {
        Self { inner, injection, passed: 0, is_cut: false, held: None, stalled: None, pause: None }
    }

    /// Takes the next bytes, as the fault lets them through.
    fn toll(&mut self, mut data: Bytes) -> Result<Bytes, BoxError> {
        let end = self.passed + data.len() as u64;
        match self.injection.as_ref().map(|injection| &injection.fault) {
            Some(Fault::CutAfter(most)) if end > *most => {
                self.is_cut = true;
                data.truncate(usize::try_from(most - self.passed).expect("less than a frame"));
            }
            Some(Fault::FlipBit(at)) if (self.passed..end).contains(at) => {
                let mut bytes = data.to_vec();
                bytes[usize::try_from(at - self.passed).expect("less than a frame")] ^= 1;
                data = bytes.into();
            }
            Some(Fault::Throttle(bytes_per_sec)) => {
                let bytes = u32::try_from(data.len()).expect("a frame of less than 4 GiB");
                let rate = u32::try_from(*bytes_per_sec).expect("a rate of less than 4 GiB/s");
                let wait = Duration::from_secs(1) * bytes / rate;
                self.pause = Some(Box::pin(sleep(wait)));
            }
            Some(
                Fault::CutAfter(_)
                | Fault::FlipBit(_)
                | Fault::Answer(_)
                | Fault::Misreport(_)
                | Fault::Reset
                | Fault::LoseReply
                | Fault::StallAfter(_)
                | Fault::Delay(_)
                | Fault::CutReplyAfter(_)
                | Fault::Header(..),
            )
            | None => {}
        }
        self.passed += data.len() as u64;
        Ok(data)
    }

    fn stalls(&self, data: &Bytes) -> Option<Arc<Injection>> {
        let injection = self.injection.as_ref()?;
        let Fault::StallAfter(most) = injection.fault else { return None };
        (self.passed + data.len() as u64 > most).then(|| Arc::clone(injection))
    }
}

impl Body for Load {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if let Some(stalled) = &mut self.stalled {
            ready!(stalled.as_mut().poll(cx));
            self.stalled = None;
            self.injection = None;
        }
        if self.is_cut {
            return Poll::Ready(Some(Err("cut by the lab".into())));
        }
        let data = match self.held.take() {
            Some(data) => data,
            None => match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
            },
        };
        if let Some(injection) = self.stalls(&data) {
            self.held = Some(data);
            let mut lifted = injection.lifted();
            self.stalled = Some(Box::pin(async move {
                // An error means that nobody is left who could lift it.
                let _ = lifted.wait_for(|lifted| *lifted).await;
            }));
            return self.poll_frame(cx);
        }
        Poll::Ready(Some(self.toll(data).map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && !self.is_cut && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that is passed on while it comes, and the connection that it comes on.
pub(super) struct Streamed {
    pub(super) inner: Incoming,
    pub(super) _connection: JoinSet<()>,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
