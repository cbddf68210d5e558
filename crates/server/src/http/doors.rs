//! What every page asks first: what did they send.
//!
//! Deliberately absent: who it is (`admission`).

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hoist_wire::limits::MAX_REST_BODY_BYTES;
use hoist_wire::reach::{Labels, check_label};
use hoist_wire::{ClientId, DownloadId, ErrorCode, IdError};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::Problem;

/// A request's body, or why it could not be read.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Refuses a body that says itself that it is too long, before any of it is waited for.
pub(super) async fn short(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.is_some_and(|text| text.parse().is_ok_and(|bytes: usize| bytes > MAX_REST_BODY_BYTES)) {
        return too_long().into_response();
    }
    next.run(request).await
}

fn too_long() -> Problem {
    Problem::new(ErrorCode::BodyTooLarge, format!("the body is longer than {MAX_REST_BODY_BYTES} bytes"))
}

/// Gives the bytes of a body.
pub(super) fn whole(body: Body) -> Result<Bytes, Problem> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(),
        _ => {
            Problem::new(ErrorCode::InvalidRequest, format!("the body cannot be read: {}", error.body_text()))
        }
    })
}

/// Reads a JSON body; an empty one is the default.
pub(super) fn json_or_default<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { json(headers, body) }
}

/// Reads a JSON body that must be there.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
    if !is_json(headers) {
        let there = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
        let detail =
            format!("the body's content type is {there:?}: send JSON with `Content-Type: application/json`");
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let detail = format!("the body's content encoding is {encoding:?}: send it as it is");
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
    }
    // serde would take `[]` for an object whose fields are all absent.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::new(
            ErrorCode::InvalidRequest,
            "the body is not what this page takes: it must be a JSON object",
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(ErrorCode::InvalidRequest, format!("the body is not what this page takes: {error}"))
    })
}

/// Tells whether a body calls itself JSON, and nothing else.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.to_str().unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// A path's one variable, or why it could not be read.
pub(super) type InPath = Result<Path<String>, PathRejection>;

/// Reads a client id of a path.
pub(super) fn client_id(path: InPath) -> Result<ClientId, Problem> {
    in_path(path, ErrorCode::InvalidClientId)
}

/// Reads a download id of a path.
pub(super) fn download_id(path: InPath) -> Result<DownloadId, Problem> {
    in_path(path, ErrorCode::UnknownDownload)
}

fn in_path<T: FromStr<Err = IdError>>(path: InPath, code: ErrorCode) -> Result<T, Problem> {
    let Path(text) =
        path.map_err(|error| Problem::new(code, format!("the path cannot be read: {}", error.body_text())))?;
    text.parse().map_err(|error: IdError| Problem::new(code, error.to_string()))
}

/// Reads how many a page may have.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked.unwrap_or(100) {
        limit @ 1..=1000 => Ok(limit),
        other => Err(Problem::new(
            ErrorCode::InvalidRequest,
            format!("limit={other} is no page: ask for 1 to 1000"),
        )),
    }
}

/// Reads a query in which `label=name=value` may stand several times.
pub(super) fn query_and_labels<T: DeserializeOwned>(uri: &Uri) -> Result<(T, Labels), Problem> {
    let wrong = |detail: String| Problem::new(ErrorCode::InvalidRequest, detail);
    check_utf8(uri)?;
    let (mut labels, mut rest) = (Labels::new(), form_urlencoded::Serializer::new(String::from("/?")));
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != "label" {
            rest.append_pair(&name, &value);
            continue;
        }
        let pair = value.split_once('=');
        let (label, value) = pair.ok_or_else(|| wrong(format!("label={value} is not label=NAME=VALUE")))?;
        check_label(label, value).map_err(|error| wrong(error.to_string()))?;
        if labels.insert(label.to_owned(), value.to_owned()).is_some() {
            return Err(wrong(format!("label {label} stands there twice: a client has one value for it")));
        }
    }
    let rest =
        rest.finish().parse::<Uri>().map_err(|error| wrong(format!("the query is not right: {error}")))?;
    Ok((query(&rest)?, labels))
}

/// Refuses a query that is not UTF-8: it would be read as something else, and quietly find nothing.
fn check_utf8(uri: &Uri) -> Result<(), Problem> {
    let text = percent_decode_str(uri.query().unwrap_or_default()).decode_utf8();
    let refuse = |_| Problem::new(ErrorCode::InvalidRequest, "the query is not right: it is not UTF-8");
    text.map(drop).map_err(refuse)
}

/// Reads a query; what is wrong with it is named.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    check_utf8(uri)?;
    match axum::extract::Query::try_from_uri(uri) {
        Ok(axum::extract::Query(query)) => Ok(query),
        Err(error) => Err(Problem::new(
            ErrorCode::InvalidRequest,
            format!("the query is not right: {}", error.body_text()),
        )),
    }
}
