//! Checksums as S3 writes them: base64 of the big-endian bytes.
//!
//! They are only named and written here. Whoever reads the bytes computes them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a bucket proves an object, fixed in the record when the upload is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChecksumKind {
    /// CRC64NVME over the full object; each grant signs its part's CRC (Amazon S3, "Checking object integrity").
    Crc64nvme,
    /// Content-MD5 signed for each part, ETags compared.
    PartMd5,
    /// No proof to be had from this bucket; only with `--allow-unproven`.
    Unproven,
}

impl ChecksumKind {
    /// Gives the name used in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc64nvme => "crc64nvme",
            Self::PartMd5 => "part_md5",
            Self::Unproven => "unproven",
        }
    }

    /// Tells whether agents must compute MD5 for each part.
    pub fn needs_md5(self) -> bool {
        matches!(self, Self::PartMd5)
    }
}

impl FromStr for ChecksumKind {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        [Self::Crc64nvme, Self::PartMd5, Self::Unproven]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ChecksumError { what: "checksum kind", text: text.chars().take(64).collect() })
    }
}

/// A text that is no checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}")]
pub struct ChecksumError {
    what: &'static str,
    text: String,
}

/// A CRC-64/NVME value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crc64(pub u64);

/// An MD5 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Md5(pub [u8; 16]);

impl Md5 {
    /// Gives the digest as an ETag has it: lower-case hexadecimal, without quotes.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Defines what a fixed-size checksum needs to travel as base64.
macro_rules! as_base64 {
    ($name:ident, $what:literal, $to:expr, $from:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&STANDARD.encode($to(self)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ChecksumError;

            fn from_str(text: &str) -> Result<Self, ChecksumError> {
                let invalid = || ChecksumError { what: $what, text: text.chars().take(64).collect() };
                let bytes = STANDARD.decode(text).map_err(|_| invalid())?;
                bytes.try_into().map($from).map_err(|_| invalid())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_base64!(Crc64, "CRC64NVME in base64", |c: &Crc64| c.0.to_be_bytes(), |b: [u8; 8]| Self(
    u64::from_be_bytes(b)
));
as_base64!(Md5, "MD5 in base64", |m: &Md5| m.0, Self);

/// What the agent computed over the bytes of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSums {
    /// Always there: it costs next to nothing, and the whole file's value is combined from it.
    pub crc64nvme: Crc64,
    /// There where the upload's [`ChecksumKind`] asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<Md5>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_writes_them() {
        assert_eq!(Crc64(0).to_string(), "AAAAAAAAAAA=");
        assert_eq!("AAAAAAAAAAE=".parse(), Ok(Crc64(1)));
        // The MD5 of nothing (RFC 1321, A.5).
        let empty = "1B2M2Y8AsgTpgAmY7PhCfg==".parse::<Md5>().unwrap();
        assert_eq!(empty.hex(), "d41d8cd98f00b204e9800998ecf8427e");
        assert!("AAAA".parse::<Crc64>().is_err() && "?".parse::<Md5>().is_err());
    }
}
