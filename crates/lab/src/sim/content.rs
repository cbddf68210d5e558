//! What stands in a file or a part, without its bytes: a row of blocks, each with a number that stands for what is in it.
//!
//! A block's CRC64NVME is made from its number, and the CRC of a range is truly combined from those of its blocks; so
//! parts combine to their whole, as bytes would, at a millionth of the price.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, checksum_combine};
use hoist_wire::{Crc64, Md5, PartSums};

use super::chance::mix;

/// Bytes in a block; part sizes are multiples of it.
pub(crate) const BLOCK: u64 = 1024 * 1024;

/// A block: what stands in it, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) what: u64,
    pub(crate) len: u64,
}

impl Block {
    fn crc(self) -> u64 {
        mix(self.what ^ mix(self.len))
    }
}

/// A row of blocks, all but the last of [`BLOCK`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) Vec<Block>);

impl Content {
    /// Cuts `size_bytes` into blocks, which `what` fills by their place.
    pub(crate) fn fill(size_bytes: u64, mut what: impl FnMut(u64) -> u64) -> Self {
        let blocks = (0..size_bytes.div_ceil(BLOCK))
            .map(|n| Block { what: what(n), len: BLOCK.min(size_bytes - n * BLOCK) });
        Self(blocks.collect())
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.0.iter().map(|block| block.len).sum()
    }

    /// Gives a range that begins with a block; none where the content is shorter.
    pub(crate) fn range(&self, range: Range<u64>) -> Option<Self> {
        if range.end > self.size_bytes() {
            return None;
        }
        let first = usize::try_from(range.start / BLOCK).ok()?;
        let mut left = range.end - range.start;
        let mut blocks = Vec::new();
        for block in self.0.get(first..)? {
            if left == 0 {
                break;
            }
            let len = block.len.min(left);
            left -= len;
            blocks.push(Block { what: block.what, len });
        }
        Some(Self(blocks))
    }

    pub(crate) fn append(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    /// Tells whether `other` begins with this.
    pub(crate) fn is_prefix_of(&self, other: &Self) -> bool {
        other.range(0..self.size_bytes()).is_some_and(|begin| begin == *self)
    }

    pub(crate) fn crc(&self) -> Crc64 {
        let combine =
            |whole, block: &Block| checksum_combine(CrcAlgorithm::Crc64Nvme, whole, block.crc(), block.len);
        Crc64(self.0.iter().fold(0, combine))
    }

    /// Gives something that differs where the content does, as an MD5 would.
    pub(crate) fn md5(&self) -> Md5 {
        let fold = |salt| self.0.iter().fold(salt, |hash, block| mix(hash ^ mix(block.what) ^ block.len));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&fold(1).to_le_bytes());
        bytes[8..].copy_from_slice(&fold(2).to_le_bytes());
        Md5(bytes)
    }

    pub(crate) fn sums(&self, needs_md5: bool) -> PartSums {
        PartSums { crc64nvme: self.crc(), md5: needs_md5.then(|| self.md5()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_combine_to_the_whole_however_it_is_cut() {
        let whole = Content::fill(12 * BLOCK + 5, |n| n * 7);
        for cut in [5 * BLOCK, 6 * BLOCK, 12 * BLOCK] {
            let (first, rest) = (whole.range(0..cut).unwrap(), whole.range(cut..12 * BLOCK + 5).unwrap());
            let combined =
                checksum_combine(CrcAlgorithm::Crc64Nvme, first.crc().0, rest.crc().0, rest.size_bytes());
            assert_eq!(Crc64(combined), whole.crc());
            assert!(first.is_prefix_of(&whole) && !rest.is_prefix_of(&whole));
        }
        assert_eq!(whole.range(0..12 * BLOCK + 6), None);
    }
}
