//! What can go wrong, and for which request: data, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// What a request asks of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// CreateMultipartUpload.
    Create,
    /// UploadPart.
    Part,
    /// CompleteMultipartUpload.
    Complete,
    /// ListParts.
    ListParts,
    /// ListMultipartUploads.
    ListUploads,
    /// AbortMultipartUpload.
    Abort,
    /// HeadObject.
    Head,
    /// GetObject.
    Get,
    /// PutObject.
    Put,
    /// Anything else.
    Other,
}

impl Call {
    pub(super) fn of(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        // A bucket alone is no object.
        let object = path.trim_matches('/').contains('/');
        match method {
            "PUT" if has("partNumber") => Self::Part,
            "PUT" if object => Self::Put,
            "POST" if has("uploads") => Self::Create,
            "POST" if has("uploadId") => Self::Complete,
            "GET" if has("uploads") => Self::ListUploads,
            "GET" if has("uploadId") => Self::ListParts,
            "GET" if object => Self::Get,
            "HEAD" if object => Self::Head,
            "DELETE" if has("uploadId") => Self::Abort,
            _ => Self::Other,
        }
    }
}

/// Which requests meet a fault.
#[derive(Debug, Clone, Copy)]
pub struct On {
    call: Call,
    part: Option<u16>,
    skip: usize,
    times: usize,
}

impl On {
    /// The next request of this kind.
    pub fn next(call: Call) -> Self {
        Self { call, part: None, skip: 0, times: 1 }
    }

    /// Every request of this kind.
    pub fn every(call: Call) -> Self {
        Self { times: usize::MAX, ..Self::next(call) }
    }

    /// The next PUT of this part.
    pub fn part(number: u16) -> Self {
        Self { part: Some(number), ..Self::next(Call::Part) }
    }

    /// So many of those requests.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Those that come after so many of them went well.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    fn is(&self, call: Call, part: Option<u16>) -> bool {
        self.call == call && self.part.is_none_or(|number| part == Some(number))
    }
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is answered, and the bucket never hears of it.
    Answer(Canned),
    /// The bucket does it, and this is answered instead of the bucket's word.
    Misreport(Canned),
    /// The connection is reset before the bucket hears of it.
    Reset,
    /// The bucket does it, and the connection ends without an answer.
    LoseReply,
    /// The connection is reset after so many bytes of its body; the bucket gets no more of it either.
    CutAfter(u64),
    /// After so many bytes of its body no more is taken, until the fault is lifted.
    StallAfter(u64),
    /// Its body passes with so many bytes in a second.
    Throttle(u64),
    /// It comes to the bucket so much later.
    Delay(Duration),
    /// One bit of its body is another one: in the byte after so many.
    FlipBit(u64),
    /// Only so many bytes of the answer's body come; then the connection ends.
    CutReplyAfter(usize),
    /// A header of the answer says something else.
    Header(&'static str, String),
}

/// An answer that the bucket did not give.
#[derive(Debug, Clone)]
pub struct Canned {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) retry_after_secs: Option<u64>,
}

impl Canned {
    /// An error as S3 writes it.
    pub fn error(status: u16, code: &str) -> Self {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>said by the lab</Message></Error>"
        );
        Self::page(status, &xml)
    }

    /// Any answer.
    pub fn page(status: u16, body: &str) -> Self {
        Self { status, body: body.to_owned(), retry_after_secs: None }
    }

    /// Says when to come again.
    #[must_use]
    pub fn retry_after(self, secs: u64) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }
}

/// A fault in a proxy, with its count.
#[derive(Debug)]
pub(super) struct Injection {
    on: On,
    pub(super) fault: Fault,
    met: AtomicUsize,
    hits: AtomicUsize,
    lifted: watch::Sender<bool>,
}

impl Injection {
    pub(super) fn new(on: On, fault: Fault) -> Self {
        let (met, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { on, fault, met, hits, lifted: watch::Sender::new(false) }
    }

    /// Counts a request that matches, and tells whether the fault is for it.
    pub(super) fn takes(&self, call: Call, part: Option<u16>) -> bool {
        if *self.lifted.borrow() || !self.on.is(call, part) {
            return false;
        }
        let before = self.met.fetch_add(1, Ordering::SeqCst);
        let takes = before >= self.on.skip && before - self.on.skip < self.on.times;
        self.hits.fetch_add(usize::from(takes), Ordering::SeqCst);
        takes
    }

    pub(super) fn lift(&self) {
        self.lifted.send_replace(true);
    }

    pub(super) fn lifted(&self) -> watch::Receiver<bool> {
        self.lifted.subscribe()
    }
}

/// A fault that a test has injected.
#[derive(Debug)]
pub struct Injected(pub(super) Arc<Injection>);

impl Injected {
    /// Gives how many requests have met it.
    pub fn hits(&self) -> usize {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// Takes it away; what it has stalled goes on.
    pub fn lift(&self) {
        self.0.lift();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_method_and_query() {
        for (method, target, call) in [
            ("PUT", "/b/k?partNumber=2&uploadId=u&X-Amz-Expires=9", Call::Part),
            ("PUT", "/b/k", Call::Put),
            ("PUT", "/b", Call::Other),
            ("POST", "/b/k?uploads", Call::Create),
            ("POST", "/b/k?uploads=&x-id=CreateMultipartUpload", Call::Create),
            ("POST", "/b/k?x-id=C&uploadId=u", Call::Complete),
            ("GET", "/b/k?x-id=ListParts&uploadId=u", Call::ListParts),
            ("GET", "/b?uploads=&prefix=k", Call::ListUploads),
            ("GET", "/b/a/k?X-Amz-Signature=s", Call::Get),
            ("HEAD", "/b/k", Call::Head),
            ("HEAD", "/b/", Call::Other),
            ("DELETE", "/b/k?uploadId=u", Call::Abort),
            ("DELETE", "/b/k", Call::Other),
        ] {
            assert_eq!(Call::of(method, target), call, "{method} {target}");
        }
    }

    #[test]
    fn a_fault_is_met_as_often_as_it_says_and_not_once_it_is_lifted() {
        let takes = |injection: &Injection| injection.takes(Call::Part, Some(3));
        let third = Injection::new(On::part(3).after(1).times(2), Fault::Reset);
        assert!(!third.takes(Call::Part, Some(2)) && !third.takes(Call::Put, None));
        assert_eq!([takes(&third), takes(&third), takes(&third), takes(&third)], [false, true, true, false]);
        let every = Injection::new(On::every(Call::Part), Fault::Reset);
        assert!(takes(&every) && takes(&every));
        every.lift();
        assert!(!takes(&every));
        assert_eq!(Injected(Arc::new(every)).hits(), 2);
    }
}
