//! Streams an object's bytes, or a range of them, from its part files.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::bucket::Object;
use crate::error::{During as _, StoreError};
use crate::names::PartName;
use crate::store::Store;

/// A blocking thread reads at most this much at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Where reading stands. It keeps the object, and so its files, alive.
struct Cursor {
    object: Arc<Object>,
    /// What is still to be sent, as offsets in the object.
    range: Range<u64>,
    /// The part to open next, and the offset at which it starts.
    next_part: usize,
    next_start: u64,
    /// The open part, and how many of its bytes are still unread.
    open: Option<(File, u64)>,
}

/// The bytes of a range. No thread is held while the reader is slow.
pub(crate) fn stream(
    store: Arc<Store>,
    object: Arc<Object>,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + Sync + 'static {
    let cursor = Cursor { object, range, next_part: 0, next_start: 0, open: None };
    stream::try_unfold((store, cursor), |(store, cursor)| async move {
        if cursor.range.is_empty() {
            return Ok(None);
        }
        let (chunk, cursor) = store.run(move || cursor.read().during("reading an object")).await?;
        Ok(Some((chunk, (store, cursor))))
    })
}

impl Cursor {
    /// Reads the next chunk. Blocks.
    fn read(mut self) -> io::Result<(Bytes, Self)> {
        let (mut file, unread) = match self.open.take() {
            Some(open) => open,
            None => self.open_part()?,
        };
        let wanted = CHUNK_BYTES.min(unread).min(self.range.end - self.range.start);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).map_err(io::Error::other)?);
        (&mut file).take(wanted).read_to_end(&mut chunk)?;
        if chunk.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.range.start += wanted;
        self.open = Some((file, unread - wanted)).filter(|(_, unread)| *unread > 0);
        Ok((chunk.into(), self))
    }

    /// Opens the part in which the range goes on.
    fn open_part(&mut self) -> io::Result<(File, u64)> {
        while let Some(name) = self.object.record.parts.get(self.next_part) {
            let part: PartName = name.parse().map_err(io::Error::other)?;
            let start = self.next_start;
            self.next_part += 1;
            self.next_start += part.size_bytes;
            if self.range.start < self.next_start {
                let mut file = File::open(self.object.folder.join(name))?;
                file.seek(SeekFrom::Start(self.range.start - start))?;
                return Ok((file, self.next_start - self.range.start));
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
