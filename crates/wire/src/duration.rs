//! Lengths of time, of data and rates as people write them in settings: `900`, `15m`, `90d`; `5242880`, `8MiB`;
//! `500KB`, `2Mbit`.

use std::time::Duration;

use crate::limits::MIN_RATE_BYTES_PER_SEC;

/// A text that is no length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// Not a length of time.
    #[error(
        "{0:?} is not a length of time: write seconds (900) or a number with its unit (30s, 15m, 24h, 90d)"
    )]
    Time(String),
    /// Not a length of data.
    #[error("{0:?} is not a size: write bytes (5242880) or a number with its unit (64KiB, 8MiB, 1GiB, 8MB)")]
    Data(String),
    /// Not a rate.
    #[error(
        "{0:?} is not a rate: write bytes a second (250000) or a number with its unit (500KB, 2MiB, 512Kbit, 2Mbit)"
    )]
    Rate(String),
    /// A rate at which storage would take the sender for dead.
    #[error(
        "a rate of {0} bytes a second is too low: allow at least {MIN_RATE_BYTES_PER_SEC}, or leave it out"
    )]
    TooSlow(u64),
}

/// Sizes count bytes: `K` alone is a thousand, `Ki` is 1024.
const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// What lines are sold by: bits.
const BITS: [(&str, u64); 4] = [("bit", 1), ("Kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];

/// Reads a length of time: whole seconds, or a number with `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`LengthError::Time`] for anything else, and for a length over 2^63 seconds.
pub fn parse_duration(text: &str) -> Result<Duration, LengthError> {
    let units = [("", 1), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    parse(text, &units).map(Duration::from_secs).ok_or_else(|| LengthError::Time(text.to_owned()))
}

/// Reads a size in bytes: a whole number, or one with `KiB`, `MiB`, `GiB`, `TiB`, `KB`, `MB`, `GB`, `TB`.
///
/// # Errors
/// [`LengthError::Data`] for anything else.
pub fn parse_size(text: &str) -> Result<u64, LengthError> {
    parse(text, &SIZES).ok_or_else(|| LengthError::Data(text.to_owned()))
}

/// Reads a rate in bytes a second: a size or a number of bits (`Kbit`, `Mbit`, `Gbit`), with or without `/s`.
///
/// # Errors
/// [`LengthError::Rate`] for anything else, [`LengthError::TooSlow`] below [`MIN_RATE_BYTES_PER_SEC`].
pub fn parse_rate(text: &str) -> Result<u64, LengthError> {
    let plain = text.trim().strip_suffix("/s").unwrap_or(text);
    let bits = || parse(plain, &BITS).map(|bits| bits / 8);
    let rate = parse(plain, &SIZES).or_else(bits).ok_or_else(|| LengthError::Rate(text.to_owned()))?;
    check_rate(rate)
}

/// Gives a rate back if something can be sent at it.
///
/// # Errors
/// [`LengthError::TooSlow`] below [`MIN_RATE_BYTES_PER_SEC`], [`LengthError::Rate`] over 2^63.
pub fn check_rate(bytes_per_sec: u64) -> Result<u64, LengthError> {
    if bytes_per_sec < MIN_RATE_BYTES_PER_SEC {
        Err(LengthError::TooSlow(bytes_per_sec))
    } else if i64::try_from(bytes_per_sec).is_err() {
        Err(LengthError::Rate(bytes_per_sec.to_string()))
    } else {
        Ok(bytes_per_sec)
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor).filter(|value| i64::try_from(*value).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_as_people_write_them() {
        for (text, secs) in [("900", 900), ("15m", 900), ("24h", 86_400), ("90d", 7_776_000), (" 30 s ", 30)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text:?}");
        }
        for (text, bytes) in [("5242880", 5 << 20), ("5MiB", 5 << 20), ("5MB", 5_000_000), ("1 GiB", 1 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn a_bad_length_never_becomes_a_default() {
        for text in
            ["", "m", "-5", "1.5h", "15 minutes", "1h30m", "99999999999999999999", "9223372036854775807d"]
        {
            assert!(parse_duration(text).is_err(), "{text:?}");
            assert!(parse_size(text).is_err(), "{text:?}");
            assert!(parse_rate(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn rates_count_bytes_and_bits() {
        for (text, rate) in [
            ("250000", 250_000),
            ("500KB", 500_000),
            ("1KiB", 1024),
            ("2Mbit", 250_000),
            ("2 Mbit/s", 250_000),
            (" 1 MiB/s ", 1 << 20),
            ("512Kbit", 64_000),
        ] {
            assert_eq!(parse_rate(text), Ok(rate), "{text:?}");
        }
        for text in ["0", "1023", "8Kbit", "1KB"] {
            let error = parse_rate(text).unwrap_err();
            assert!(
                matches!(error, LengthError::TooSlow(_)) && error.to_string().contains("1024"),
                "{error}"
            );
        }
        for text in ["fast", "2mbit", "2 Mbit / s", "/s", "2Mbps"] {
            assert!(matches!(parse_rate(text), Err(LengthError::Rate(_))), "{text:?}");
        }
        assert!(check_rate(u64::MAX).is_err() && check_rate(1024) == Ok(1024));
    }
}
