//! The bytes of a file: read at offsets, hashed, and handed to a PUT chunk by chunk; a part is never held whole.
//!
//! Deliberately absent: which part comes next, and the network. Reads that may wait for a disk happen on the runtime's
//! blocking threads; what is in memory already (the second reading, nearly always) is read where it is sent.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use hoist_wire::{Crc64, Md5, PartSums};
use http_body::{Body, Frame, SizeHint};
use md5::Digest as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::platform;
use crate::upload::pace::Pace;

/// Bytes read at once: large enough that a system call costs little, small enough for 16 of them in memory.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// An open file and the buffers that its readers share.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: File,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Why bytes could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the file could not be read: {0}")]
    Io(Arc<io::Error>),
    #[error("the file became shorter, or other bytes stand where others were hashed")]
    Changed,
    #[error("reading was stopped")]
    Stopped,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl Source {
    pub(crate) fn new(file: File) -> Arc<Self> {
        Arc::new(Self { file, spare: Mutex::default() })
    }

    fn take_buffer(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; CHUNK_BYTES])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    /// Gives room for the first bytes of `range`, at most a chunk.
    fn room(self: &Arc<Self>, range: &Range<u64>) -> Chunk {
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        Chunk { buffer: self.take_buffer(), len, source: Arc::clone(self) }
    }

    /// Reads exactly the first bytes of `range`, at most a chunk; blocks.
    fn read(self: &Arc<Self>, range: &Range<u64>) -> Result<Chunk, ReadError> {
        let mut chunk = self.room(range);
        let len = chunk.len;
        let read = platform::read_at(&self.file, &mut chunk.buffer[..len], range.start)?;
        if read == len { Ok(chunk) } else { Err(ReadError::Changed) }
    }

    /// As `read`, if that needs no wait.
    fn read_cached(self: &Arc<Self>, range: &Range<u64>) -> Result<Option<Chunk>, ReadError> {
        let mut chunk = self.room(range);
        let len = chunk.len;
        let is_read = platform::read_cached(&self.file, &mut chunk.buffer[..len], range.start)?;
        Ok(is_read.then_some(chunk))
    }

    /// Hashes `range`; blocks. `counter` grows as it goes.
    ///
    /// # Errors
    /// [`ReadError`], also when `stop` is cancelled.
    pub(crate) fn hash(
        self: &Arc<Self>,
        mut range: Range<u64>,
        needs_md5: bool,
        stop: &CancellationToken,
        counter: &AtomicU64,
    ) -> Result<PartSums, ReadError> {
        let mut crc = Digest::new(CrcAlgorithm::Crc64Nvme);
        let mut md5 = needs_md5.then(md5::Md5::new);
        while range.start < range.end {
            if stop.is_cancelled() {
                return Err(ReadError::Stopped);
            }
            let chunk = self.read(&range)?;
            crc.update(chunk.as_ref());
            if let Some(md5) = &mut md5 {
                md5.update(chunk.as_ref());
            }
            range.start += chunk.len as u64;
            counter.fetch_add(chunk.len as u64, Ordering::Relaxed);
        }
        let md5 = md5.map(|md5| Md5(md5.finalize().into()));
        Ok(PartSums { crc64nvme: Crc64(crc.finalize()), md5 })
    }
}

/// Some bytes of the file; the buffer goes back when the network has them.
struct Chunk {
    buffer: Vec<u8>,
    len: usize,
    source: Arc<Source>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.source.give_back(std::mem::take(&mut self.buffer));
    }
}

/// How the reading of a body ended, for whoever sent it.
#[derive(Debug, Default)]
pub(crate) struct BodyEnd(OnceLock<Result<(), ReadError>>);

impl BodyEnd {
    /// Gives why the body could not be read, if so.
    pub(crate) fn error(&self) -> Option<ReadError> {
        self.0.get().and_then(|end| end.clone().err())
    }

    /// Tells whether every byte was read, and found as hashed.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.0.get(), Some(Ok(())))
    }
}

/// A part on its way: the second reading. Where a disk is slow the next chunk is read while the last one is sent.
///
/// The last chunk is only given away when everything hashes as it did the first time, so that other bytes are never a
/// whole part. What was read leaves in pieces, as the pace allows.
pub(crate) struct PartBody {
    source: Arc<Source>,
    rest: Range<u64>,
    expected: Crc64,
    crc: Digest,
    state: State,
    end: Arc<BodyEnd>,
    /// Read, and not given away yet.
    unsent: Bytes,
    pace: Arc<Pace>,
    taking: Option<Pin<Box<dyn Future<Output = u64> + Send>>>,
}

/// Where the next chunk is.
enum State {
    /// In memory, most likely.
    Next,
    /// Being read from a disk.
    Reading(JoinHandle<Result<Chunk, ReadError>>),
    /// There is none.
    Ended,
}

impl PartBody {
    /// Starts to read `range`, which hashed to `expected`.
    pub(crate) fn new(
        source: Arc<Source>,
        range: Range<u64>,
        expected: Crc64,
        pace: Arc<Pace>,
    ) -> (Self, Arc<BodyEnd>) {
        let end = Arc::new(BodyEnd::default());
        let body = Self {
            source,
            rest: range,
            expected,
            crc: Digest::new(CrcAlgorithm::Crc64Nvme),
            state: State::Next,
            end: Arc::clone(&end),
            unsent: Bytes::new(),
            pace,
            taking: None,
        };
        (body, end)
    }

    fn read_from_disk(&mut self) {
        let (source, range) = (Arc::clone(&self.source), self.rest.clone());
        self.state = State::Reading(tokio::task::spawn_blocking(move || source.read(&range)));
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, ReadError>> {
        if let State::Next = self.state {
            if let Some(chunk) = self.source.read_cached(&self.rest)? {
                return Poll::Ready(Ok(chunk));
            }
            self.read_from_disk();
        }
        let State::Reading(reading) = &mut self.state else {
            return Poll::Ready(Err(ReadError::Stopped));
        };
        let read = ready!(Pin::new(reading).poll(cx)).unwrap_or(Err(ReadError::Stopped));
        Poll::Ready(read)
    }

    /// Takes a chunk into account, and tells whether it may leave.
    fn accept(&mut self, chunk: &Chunk) -> Result<(), ReadError> {
        self.crc.update(chunk.as_ref());
        self.rest.start += chunk.len as u64;
        if self.rest.start < self.rest.end {
            match self.state {
                // The disk is asked ahead for as long as it had to be asked.
                State::Reading(_) => self.read_from_disk(),
                State::Next | State::Ended => {}
            }
            return Ok(());
        }
        if Crc64(self.crc.finalize()) == self.expected { Ok(()) } else { Err(ReadError::Changed) }
    }

    /// Gives how much of what is unsent may leave now.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let unsent = self.unsent.len();
        if self.taking.is_none() && self.pace.is_free() {
            return Poll::Ready(unsent);
        }
        let pace = &self.pace;
        let taking = self.taking.get_or_insert_with(|| Box::pin(Arc::clone(pace).take(unsent as u64)));
        let taken = ready!(taking.as_mut().poll(cx));
        self.taking = None;
        Poll::Ready(usize::try_from(taken).unwrap_or(unsent).min(unsent))
    }

    fn ended(&mut self, end: Result<(), ReadError>) {
        self.state = State::Ended;
        let _ = self.end.0.set(end);
    }
}

impl Body for PartBody {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        if let State::Ended = self.state {
            return Poll::Ready(None);
        }
        if self.unsent.is_empty() {
            let read = ready!(self.poll_chunk(cx));
            match read.and_then(|chunk| self.accept(&chunk).map(|()| chunk)) {
                Ok(chunk) => self.unsent = Bytes::from_owner(chunk),
                Err(error) => {
                    self.ended(Err(error.clone()));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let may_leave = ready!(self.poll_pace(cx));
        let piece = self.unsent.split_to(may_leave);
        if self.rest.is_empty() && self.unsent.is_empty() {
            self.ended(Ok(()));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start + self.unsent.len() as u64)
    }
}

/// Joins the checksums of parts, in order, into the one of the whole file.
pub(crate) fn combine(parts: impl Iterator<Item = (Crc64, u64)>) -> Crc64 {
    let whole = parts.fold(0, |whole, (part, len)| {
        crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, whole, part.0, len)
    });
    Crc64(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn source(bytes: &[u8]) -> Arc<Source> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Source::new(file)
    }

    fn hash(source: &Arc<Source>, range: Range<u64>, md5: bool) -> Result<PartSums, ReadError> {
        source.hash(range, md5, &CancellationToken::new(), &AtomicU64::new(0))
    }

    async fn read_all(mut body: PartBody) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            all.extend_from_slice(&frame?.into_data().unwrap());
        }
        Ok(all)
    }

    #[test]
    fn checksums_are_the_published_ones_and_combine() {
        // The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        let check = source(b"123456789");
        assert_eq!(hash(&check, 0..9, false).unwrap().crc64nvme, Crc64(0xae8b_1486_0a79_9888));
        assert_eq!(hash(&check, 0..9, true).unwrap().md5.unwrap().hex(), "25f9e794323b453885f5181f1b624d0b");
        let parts = [0..4, 4..8, 8..9_u64];
        let joined = combine(
            parts.map(|r| (hash(&check, r.clone(), false).unwrap().crc64nvme, r.end - r.start)).into_iter(),
        );
        assert_eq!(joined, Crc64(0xae8b_1486_0a79_9888));
        assert_eq!(combine(std::iter::empty()), Crc64(0));
        assert_eq!(hash(&check, 0..0, false).unwrap().crc64nvme, Crc64(0));
    }

    #[tokio::test]
    async fn a_body_gives_exactly_its_range_and_buffers_are_used_again() {
        let bytes: Vec<u8> = (0..251_u8).cycle().take(CHUNK_BYTES * 5 + 17).collect();
        let source = source(&bytes);
        let range = 100..(CHUNK_BYTES as u64 * 5);
        let sums = hash(&source, range.clone(), false).unwrap();
        let (body, end) = PartBody::new(Arc::clone(&source), range, sums.crc64nvme, Pace::free());
        assert_eq!(body.size_hint().exact(), Some(CHUNK_BYTES as u64 * 5 - 100));
        assert_eq!(read_all(body).await.unwrap(), &bytes[100..CHUNK_BYTES * 5]);
        assert!(end.is_whole());
        assert!(source.spare.lock().unwrap().len() <= 3);
    }

    #[tokio::test]
    async fn other_bytes_than_those_hashed_are_never_a_whole_part() {
        let source = source(&[7; 1000]);
        let sums = hash(&source, 0..1000, false).unwrap();
        platform_write(&source, 999, 8);
        let (body, end) = PartBody::new(Arc::clone(&source), 0..1000, sums.crc64nvme, Pace::free());
        assert!(matches!(read_all(body).await, Err(ReadError::Changed)));
        assert!(matches!(end.error(), Some(ReadError::Changed)));
        source.file.set_len(10).unwrap();
        let (body, _end) = PartBody::new(Arc::clone(&source), 0..1000, sums.crc64nvme, Pace::free());
        assert!(matches!(read_all(body).await, Err(ReadError::Changed)));
        assert!(matches!(hash(&source, 0..1000, false), Err(ReadError::Changed)));
    }

    #[test]
    fn hashing_stops_when_told() {
        let stop = CancellationToken::new();
        stop.cancel();
        let hashed = source(&[0; 10]).hash(0..10, false, &stop, &AtomicU64::new(0));
        assert!(matches!(hashed, Err(ReadError::Stopped)));
    }

    fn platform_write(source: &Source, offset: u64, byte: u8) {
        std::os::unix::fs::FileExt::write_all_at(&source.file, &[byte], offset).unwrap();
    }
}
