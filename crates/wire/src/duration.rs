//! Lengths of time and of data as people write them in settings: `900`, `15m`, `90d`; `5242880`, `8MiB`.

use std::time::Duration;

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
}

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
    let units = [
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
    parse(text, &units).ok_or_else(|| LengthError::Data(text.to_owned()))
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
        }
    }
}
