//! A request for a file: checked as far as the server can. Whether the file is there, the agent knows.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::HeaderMap;
use hoist_wire::limits::{MAX_OPERATOR_METADATA_BYTES, MAX_PATH_BYTES, MAX_TTL_SECS};
use hoist_wire::rest::DownloadRequest;
use hoist_wire::{ClientId, ErrorCode, duration};
use sha2::{Digest, Sha256};

use crate::http::Problem;
use crate::http::operator::Operator;
use crate::store::Idempotency;

/// Longest `Idempotency-Key`, in bytes.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Checks a rate that was asked for.
pub(super) fn check_rate(asked: Option<u64>) -> Result<(), Problem> {
    let wrong = |rate, error| {
        let detail = format!("max_rate_bytes_per_sec={rate} is not allowed: {error}");
        Problem::new(ErrorCode::InvalidRequest, detail)
    };
    asked.map_or(Ok(()), |rate| duration::check_rate(rate).map(drop).map_err(|error| wrong(rate, error)))
}

/// Checks a request.
pub(super) fn check(asked: &DownloadRequest) -> Result<(), Problem> {
    if let Some(path) = &asked.file_path {
        let wrong = |detail: String| Err(Problem::new(ErrorCode::InvalidPath, detail));
        if path.is_empty() || path.contains('\0') {
            return wrong(String::from(
                "file_path is empty or has a NUL byte: name a file, or leave file_path out for the agent's FILE_PATH",
            ));
        }
        if path.len() > MAX_PATH_BYTES {
            return wrong(format!(
                "file_path has {} bytes: no path is longer than {MAX_PATH_BYTES}",
                path.len()
            ));
        }
    }
    check_rate(asked.max_rate_bytes_per_sec)?;
    match asked.ttl_secs {
        None | Some(1..=MAX_TTL_SECS) => check_metadata(&asked.metadata),
        Some(ttl) => {
            let detail = format!("ttl_secs={ttl} is not allowed: use 1 to {MAX_TTL_SECS} seconds");
            Err(Problem::new(ErrorCode::InvalidRequest, detail))
        }
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    let wrong = |detail: String| Err(Problem::new(ErrorCode::InvalidRequest, detail));
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_OPERATOR_METADATA_BYTES {
        return wrong(format!(
            "metadata has {bytes} bytes: names and values may have {MAX_OPERATOR_METADATA_BYTES} together"
        ));
    }
    for name in metadata.keys() {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || !name.bytes().all(plain) || name.starts_with("hoist-") {
            return wrong(format!(
                "metadata name {name:?} is not allowed: use a-z, 0-9 and -, and not the prefix hoist-, which is ours"
            ));
        }
    }
    Ok(())
}

/// Reads the `Idempotency-Key` of a request.
pub(super) fn idempotency(
    headers: &HeaderMap,
    operator: &Operator,
    client: &ClientId,
    body: &Bytes,
) -> Result<Option<Idempotency>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    let is_plain = key.bytes().all(|b| matches!(b, b' '..=b'~'));
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY_BYTES || !is_plain || values.next().is_some() {
        let detail = format!(
            "Idempotency-Key must be there once, with 1 to {MAX_IDEMPOTENCY_KEY_BYTES} printable ASCII characters"
        );
        return Err(Problem::new(ErrorCode::InvalidRequest, detail));
    }
    let hash = Sha256::new().chain_update(client.as_str()).chain_update([0]).chain_update(body).finalize();
    let body_hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Idempotency { operator: operator.owner_of_keys(), key: key.to_owned(), body_hash }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fine(body: &str) -> bool {
        check(&serde_json::from_str(body).unwrap()).is_ok()
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(
            is_fine("{}")
                && is_fine(r#"{"file_path": "a b\n\"ä\"", "ttl_secs": 1, "metadata": {"day": "x"}}"#)
        );
        for bad in [
            r#"{"file_path": ""}"#.to_owned(),
            r#"{"file_path": "a\u0000b"}"#.to_owned(),
            format!(r#"{{"file_path": "{}"}}"#, "x".repeat(4096)),
            r#"{"ttl_secs": 0}"#.to_owned(),
            r#"{"ttl_secs": 99999999999}"#.to_owned(),
            r#"{"max_rate_bytes_per_sec": 0}"#.to_owned(),
            r#"{"max_rate_bytes_per_sec": 1023}"#.to_owned(),
            r#"{"max_rate_bytes_per_sec": 18446744073709551615}"#.to_owned(),
            r#"{"metadata": {"Day": "x"}}"#.to_owned(),
            r#"{"metadata": {"hoist-write-token": "x"}}"#.to_owned(),
            format!(r#"{{"metadata": {{"day": "{}"}}}}"#, "x".repeat(1024)),
        ] {
            assert!(!is_fine(&bad), "{bad:.60}");
        }
    }

    #[test]
    fn a_misspelt_field_does_not_bring_the_default_file() {
        assert!(serde_json::from_str::<DownloadRequest>(r#"{"filepath": "x"}"#).is_err());
    }
}
