//! Checksums: one pass over a body computes what S3 answers and what the request claims.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use md5::{Digest as _, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::dto::Checksum;

use crate::error::StoreError;
use crate::names::{PartName, hex};

const CONTENT_MD5: &str = "Content-MD5";
pub(crate) const CRC64NVME: &str = "x-amz-checksum-crc64nvme";
/// The checksum headers that are verified, with the length of their values in bytes.
const KNOWN: [(&str, usize); 5] = [
    (CRC64NVME, 8),
    ("x-amz-checksum-crc32", 4),
    ("x-amz-checksum-crc32c", 4),
    ("x-amz-checksum-sha1", 20),
    ("x-amz-checksum-sha256", 32),
];

/// What a request says of its body.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    content_md5: Option<Vec<u8>>,
    headers: Vec<(&'static str, Vec<u8>)>,
    /// Checksums that follow the body.
    trailers: Vec<&'static str>,
}

impl Claims {
    /// Reads the claims from a request's headers.
    ///
    /// # Errors
    /// A value that is not base64 of the right length, or a checksum that the depot cannot verify.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, StoreError> {
        let value = |name: &str| headers.get(name).map(|v| v.as_bytes());
        let mut claims = Self::default();
        if let Some(text) = value(CONTENT_MD5) {
            claims.content_md5 = Some(decode(CONTENT_MD5, text, 16)?);
        }
        for (name, length) in KNOWN {
            if let Some(text) = value(name) {
                claims.headers.push((name, decode(name, text, length)?));
            }
        }
        // A checksum that nobody verifies must not look as if it had been verified.
        let unknown = |name: &str| {
            name.starts_with("x-amz-checksum-")
                && !["x-amz-checksum-mode", "x-amz-checksum-algorithm", "x-amz-checksum-type"].contains(&name)
                && !KNOWN.iter().any(|(known, _)| *known == name)
        };
        if headers.keys().any(|name| unknown(name.as_str())) {
            return Err(StoreError::MalformedDigest { name: "x-amz-checksum-*" });
        }
        for announced in headers.get_all("x-amz-trailer") {
            let announced = announced.to_str().unwrap_or_default().to_ascii_lowercase();
            for trailer in announced.split(',').map(str::trim).filter(|t| !t.is_empty()) {
                let known = KNOWN.iter().find(|(name, _)| *name == trailer);
                claims.trailers.push(known.ok_or(StoreError::MalformedDigest { name: "x-amz-trailer" })?.0);
            }
        }
        Ok(claims)
    }

    /// Tells whether the request claims this checksum, in a header or in a trailer.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(claimed, _)| *claimed == name) || self.trailers.contains(&name)
    }

    /// Tells whether the request claims any `x-amz-checksum-*`.
    pub(crate) fn any_checksum(&self) -> bool {
        !self.headers.is_empty() || !self.trailers.is_empty()
    }
}

fn decode(name: &'static str, text: &[u8], length: usize) -> Result<Vec<u8>, StoreError> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == length);
    bytes.ok_or(StoreError::MalformedDigest { name })
}

/// The checksums of the bytes that came.
#[derive(Debug, Clone)]
pub(crate) struct Digests {
    pub(crate) size_bytes: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64: u64,
    others: Checksum,
}

/// Computes [`Digests`] while a body passes.
pub(crate) struct Hasher {
    size_bytes: u64,
    md5: Md5,
    crc64: crc_fast::Digest,
    others: ChecksumHasher,
}

impl Hasher {
    /// MD5 and CRC64NVME always; the others only if claimed.
    pub(crate) fn new(claims: &Claims) -> Self {
        let others = ChecksumHasher {
            crc32: claims.has("x-amz-checksum-crc32").then(s3s::crypto::Checksum::new),
            crc32c: claims.has("x-amz-checksum-crc32c").then(s3s::crypto::Checksum::new),
            sha1: claims.has("x-amz-checksum-sha1").then(s3s::crypto::Checksum::new),
            sha256: claims.has("x-amz-checksum-sha256").then(s3s::crypto::Checksum::new),
            crc64nvme: None,
        };
        Self { size_bytes: 0, md5: Md5::new(), crc64: crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme), others }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.md5.update(bytes);
        self.crc64.update(bytes);
        self.others.update(bytes);
    }

    /// Bytes seen so far.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn finish(self) -> Digests {
        Digests {
            size_bytes: self.size_bytes,
            md5: self.md5.finalize().into(),
            crc64: self.crc64.finalize(),
            others: self.others.finalize(),
        }
    }
}

impl Digests {
    /// The checksums besides MD5 and CRC64NVME that the request claimed.
    pub(crate) fn others(&self) -> &Checksum {
        &self.others
    }

    /// Compares what came with what the request claimed.
    ///
    /// # Errors
    /// The first claim that does not hold.
    pub(crate) fn verify(&self, claims: &Claims, trailers: Option<&HeaderMap>) -> Result<(), StoreError> {
        if claims.content_md5.as_ref().is_some_and(|md5| md5[..] != self.md5) {
            return Err(StoreError::BadDigest { name: CONTENT_MD5 });
        }
        for (name, claimed) in &claims.headers {
            self.verify_one(name, claimed)?;
        }
        for name in &claims.trailers {
            let text = trailers.and_then(|t| t.get(*name)).ok_or(StoreError::MissingTrailer { name })?;
            let length = KNOWN.iter().find(|(known, _)| known == name).map_or(0, |(_, length)| *length);
            self.verify_one(name, &decode(name, text.as_bytes(), length)?)?;
        }
        Ok(())
    }

    fn verify_one(&self, name: &'static str, claimed: &[u8]) -> Result<(), StoreError> {
        let computed = match name {
            CRC64NVME => Some(crc64_text(self.crc64)),
            "x-amz-checksum-crc32" => self.others.checksum_crc32.clone(),
            "x-amz-checksum-crc32c" => self.others.checksum_crc32c.clone(),
            "x-amz-checksum-sha1" => self.others.checksum_sha1.clone(),
            "x-amz-checksum-sha256" => self.others.checksum_sha256.clone(),
            _ => None,
        };
        let same = computed.is_some_and(|computed| computed == STANDARD.encode(claimed));
        if same { Ok(()) } else { Err(StoreError::BadDigest { name }) }
    }
}

/// A CRC64NVME as S3 writes it: base64 of its eight bytes, the high one first.
pub(crate) fn crc64_text(crc64: u64) -> String {
    STANDARD.encode(crc64.to_be_bytes())
}

/// The CRC64NVME of the parts' bytes one after the other.
pub(crate) fn combined_crc64<'a>(parts: impl IntoIterator<Item = &'a PartName>) -> u64 {
    parts.into_iter().fold(0, |crc, part| {
        crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, crc, part.crc64, part.size_bytes)
    })
}

/// The ETag of an object made of parts: the MD5 of their MD5s, a dash, their count.
pub(crate) fn combined_etag(parts: &[PartName]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part.md5);
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(number: u16, bytes: &[u8]) -> PartName {
        let mut hasher = Hasher::new(&Claims::default());
        hasher.update(bytes);
        let Digests { size_bytes, md5, crc64, .. } = hasher.finish();
        PartName { number, order: 1, size_bytes, md5, crc64 }
    }

    #[test]
    fn known_values() {
        // The check value of CRC-64/NVME in the catalogue of CRCs; MD5 from RFC 1321.
        let check = part(1, b"123456789");
        assert_eq!(check.crc64, 0xae8b_1486_0a79_9888);
        assert_eq!(crc64_text(check.crc64), "rosUhgp5mIg=");
        assert_eq!(part(1, b"abc").etag(), "900150983cd24fb0d6963f7d28e17f72");
        // MD5 of the MD5 of nothing: the ETag of an upload with one empty part.
        assert_eq!(combined_etag(&[part(1, b"")]), "59adb24ef3cdbe0297f05b395827453f-1");
    }

    proptest! {
        #[test]
        fn the_parts_crcs_combine_to_the_crc_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..5_000),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<PartName> = cuts.windows(2).map(|w| part(1, &bytes[w[0]..w[1]])).collect();
            prop_assert_eq!(combined_crc64(&parts), part(1, &bytes).crc64);
        }
    }
}
