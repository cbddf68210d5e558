//! Values of settings that have rules of their own: what is read, and what is refused and why.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{StringValueParser, TypedValueParser};
use hoist_wire::duration::parse_duration;
use hoist_wire::switch::parse_switch;

/// Reads `sqlite://PATH`, a file: what a 202 promises must be on disk.
pub(crate) fn database_file(url: &str) -> Result<PathBuf, String> {
    let mend = "write sqlite://PATH, or leave it out for hoist.sqlite in DATA_DIR";
    let Some(path) = url.strip_prefix("sqlite:") else {
        // The rest of another database's URL may have a password.
        let scheme: String = url.split(':').next().unwrap_or_default().chars().take(32).collect();
        return Err(format!(
            "DATABASE_URL=\"{scheme}:…\" is no database of this version, which keeps its records in SQLite: {mend}"
        ));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.starts_with(":memory:") || path.contains('?') {
        return Err(format!("DATABASE_URL={url:?} names no file that records could be kept in: {mend}"));
    }
    Ok(PathBuf::from(path))
}

/// Reads the name of a bucket, by the rules for general purpose buckets in the user guide of Amazon S3
/// (`docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html`) without the list of reserved beginnings and
/// ends: names that hoist must not make are for S3 to refuse.
pub(crate) fn bucket_name(name: &str) -> Result<String, String> {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let bytes = name.as_bytes();
    if (3..=63).contains(&bytes.len())
        && bytes.iter().copied().all(inner)
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err()
    {
        return Ok(name.to_owned());
    }
    Err(String::from(
        "it is no name of a bucket: S3 takes 3 to 63 of the characters a-z 0-9 . -, a letter or digit at both ends, no \
        two dots together and no IP address",
    ))
}

/// Reads the switch that the setting `name` is.
pub(crate) fn switch(name: &'static str) -> impl TypedValueParser<Value = bool> {
    StringValueParser::new().try_map(move |text| parse_switch(name, &text))
}

pub(crate) fn token_ttl(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => {
            Err(String::from("a token must live longer than nothing: write such as 24h or 90d"))
        }
        other => other.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_that_s3_takes() {
        for name in ["abc", "my.files-2026", &"x".repeat(63)] {
            assert_eq!(bucket_name(name).as_deref(), Ok(name));
        }
        let long = "x".repeat(64);
        for name in
            ["", "ab", &long, "Files", "my_files", "a/b", "-abc", "abc.", "a..b", "10.0.0.1", "ä-files"]
        {
            assert!(bucket_name(name).is_err(), "{name:?}");
        }
    }
}
