//! Names of the files that the depot writes. No name that a client chose ever becomes a file name.
//!
//! A part's file name is its record: number, order, size, MD5 and CRC64NVME. So one rename stores the
//! bytes and what Complete must know of them, and Complete need not read a byte.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// A part that is whole on disk; its `Display` is the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartName {
    /// S3's part number, 1 to 10,000.
    pub(crate) number: u16,
    /// Order of storing within the upload: of two files for one number, the later one counts.
    pub(crate) order: u64,
    pub(crate) size_bytes: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64: u64,
}

impl PartName {
    /// The part's ETag: its MD5 in hex, without quotes.
    pub(crate) fn etag(&self) -> String {
        hex(&self.md5)
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, order, size_bytes, crc64, .. } = self;
        write!(f, "{number:05}-{order:08}-{size_bytes}-{}-{crc64:016x}", hex(&self.md5))
    }
}

/// A file name that is not one of a part.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a part's file")]
pub(crate) struct NotAPart;

impl FromStr for PartName {
    type Err = NotAPart;

    fn from_str(name: &str) -> Result<Self, NotAPart> {
        let mut fields = name.split('-');
        let mut next = || fields.next().ok_or(NotAPart);
        let part = Self {
            number: next()?.parse().map_err(|_| NotAPart)?,
            order: next()?.parse().map_err(|_| NotAPart)?,
            size_bytes: next()?.parse().map_err(|_| NotAPart)?,
            md5: u128::from_str_radix(next()?, 16).map_err(|_| NotAPart)?.to_be_bytes(),
            crc64: u64::from_str_radix(next()?, 16).map_err(|_| NotAPart)?,
        };
        // The canonical form only, so that a name read back is the name of the file.
        if part.to_string() == name { Ok(part) } else { Err(NotAPart) }
    }
}

/// The file of the object with this key: a hash, since a key may have 1,024 bytes, slashes and dots.
pub(crate) fn object_file(key: &str) -> String {
    format!("{}.json", hex(&Sha256::digest(key.as_bytes())))
}

/// A fresh id for an upload and its folder: milliseconds, then 80 random bits, so that ids sort by age.
pub(crate) fn fresh_id(now_ms: u64) -> Result<String, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    Ok(format!("{now_ms:012x}{}", hex(&random)))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_survives_its_file_name() {
        let part =
            PartName { number: 10_000, order: 7, size_bytes: 5 << 30, md5: [0x0f; 16], crc64: 0x00ab_cdef };
        let name = part.to_string();
        assert_eq!(name, "10000-00000007-5368709120-0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f-0000000000abcdef");
        assert_eq!(name.parse::<PartName>().unwrap(), part);
        for odd in ["", "x", "1-2-3-4-5", "00001-00000001-3", &name[1..], &name.to_uppercase()] {
            assert!(odd.parse::<PartName>().is_err(), "{odd}");
        }
    }

    #[test]
    fn a_key_of_any_shape_has_a_short_flat_file_name() {
        for key in ["../../etc/passwd", "a", &"ü/".repeat(340), "\0", "."] {
            let name = object_file(key);
            assert_eq!(name.len(), 69);
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'));
        }
    }

    #[test]
    fn younger_ids_sort_later() {
        assert!(fresh_id(1_000).unwrap() < fresh_id(1_001).unwrap());
        assert_ne!(fresh_id(1_000).unwrap(), fresh_id(1_000).unwrap());
    }
}
