//! The names of things: clients, downloads, attempts, links, parts, agent processes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::limits::MAX_PARTS;

/// Why a text is not the id that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a client id.
    #[error("client id {0:?} is not valid: use 1 to 128 of the characters A-Z a-z 0-9 . _ -")]
    Client(String),
    /// Not a download id.
    #[error("download id {0:?} is not valid: it is a UUID such as 01937f5e-7c00-7000-8000-000000000000")]
    Download(String),
    /// Not a part number.
    #[error("part number {0} is not valid: S3 numbers parts from 1 to 10000")]
    Part(u64),
    /// Not an instance.
    #[error("instance {0:?} is not valid: it is two ids of 1 to 64 letters, digits or -, joined by a dot")]
    Instance(String),
}

/// A site's machine as the server knows it: 1 to 128 of the characters `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClientId(String);

impl ClientId {
    /// Longest client id, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Gives the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        // "." and ".." would vanish from a URL's path and mean another folder in an object key.
        let relative = matches!(text, "." | "..");
        if text.is_empty() || text.len() > Self::MAX_BYTES || relative || !text.bytes().all(allowed) {
            let shown: String = text.chars().take(Self::MAX_BYTES + 1).collect();
            return Err(IdError::Client(shown));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClientId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One file brought from one client into the bucket: a UUIDv7, so ids sort by the time of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DownloadId(Uuid);

impl DownloadId {
    /// Makes the id of a request that came in `unix_ms` (milliseconds since 1970), with 80 random bits.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }
}

impl FromStr for DownloadId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let invalid = || IdError::Download(text.chars().take(64).collect());
        // Only the hyphenated form, so that a download has exactly one URL.
        if text.len() != 36 {
            return Err(invalid());
        }
        Uuid::try_parse(text).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for DownloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<'de> Deserialize<'de> for DownloadId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One pass over the file for a download: 1, 2, 3 …; 0 while no agent was asked yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u32);

impl Attempt {
    /// Gives the next pass.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a link, which grows with each accepted link of a client: the fence against late ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkSeq(pub u64);

impl fmt::Display for LinkSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a part in its upload: 1 to 10,000 (Amazon S3, "Multipart upload limits").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The number of the first part.
    pub const FIRST: Self = Self(1);

    /// Makes a part number.
    ///
    /// # Errors
    /// [`IdError::Part`] outside 1 to 10,000.
    pub fn new(number: u16) -> Result<Self, IdError> {
        if (1..=MAX_PARTS).contains(&number) { Ok(Self(number)) } else { Err(IdError::Part(number.into())) }
    }

    /// Gives the number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Gives the place of the part in a list that starts at 0.
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for PartNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Who dialled: an id that is random for each process of the agent, and the machine's own.
///
/// Written as `process.machine` in the header [`INSTANCE_HEADER`](crate::INSTANCE_HEADER).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    process: String,
    machine: String,
}

impl Instance {
    /// Longest half of an instance, in bytes.
    pub const MAX_HALF_BYTES: usize = 64;

    /// Joins the id of a process and of its machine.
    ///
    /// # Errors
    /// [`IdError::Instance`] unless both are 1 to 64 letters, digits or `-`.
    pub fn new(process: &str, machine: &str) -> Result<Self, IdError> {
        format!("{process}.{machine}").parse()
    }

    /// Gives the half that is random for each process.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Gives the half that belongs to the machine.
    pub fn machine(&self) -> &str {
        &self.machine
    }
}

impl FromStr for Instance {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let half = |part: &str| {
            !part.is_empty()
                && part.len() <= Self::MAX_HALF_BYTES
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match text.split_once('.') {
            Some((process, machine)) if half(process) && half(machine) => {
                Ok(Self { process: process.to_owned(), machine: machine.to_owned() })
            }
            Some(_) | None => Err(IdError::Instance(text.chars().take(130).collect())),
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process, self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_short_and_plain() {
        for good in ["restaurant-1", "a", "A.b_c-9", &"x".repeat(128)] {
            assert_eq!(good.parse::<ClientId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_download_id_has_one_spelling_and_sorts_by_time() {
        let early = DownloadId::new(1_000, [0xff; 10]);
        let late = DownloadId::new(1_001, [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!(early.to_string().replace('-', "").parse::<DownloadId>().is_err());
    }

    #[test]
    fn part_numbers_end_where_s3_says() {
        assert!(PartNumber::new(0).is_err() && PartNumber::new(10_001).is_err());
        assert_eq!(PartNumber::new(10_000).unwrap().index(), 9_999);
        assert!(serde_json::from_str::<PartNumber>("0").is_err());
    }

    #[test]
    fn an_instance_round_trips() {
        let instance = Instance::new("p-1", "m1").unwrap();
        assert_eq!(instance.to_string().parse(), Ok(instance));
        for bad in ["", "a", "a.", ".b", "a.b.c", "a b.c"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad:?}");
        }
    }
}
