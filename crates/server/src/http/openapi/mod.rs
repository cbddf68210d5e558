//! `GET /openapi.json`: what REST takes and answers, as OpenAPI 3.1, made from the code.
//!
//! Paths, methods and scopes come from the table of pages, schemas from the types that are read and written, statuses
//! from the error codes. What only the page knows stands in `pages`. `docs/openapi.json` is the same text, so that a
//! change of the interface shows in review; the harness in `lab` holds every answer that it gets against it.
//!
//! Deliberately absent: a viewer. And `internal` (500), which is a defect wherever it is answered.

mod operation;
mod pages;
mod schemas;

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::routes::{Route, routes};
use operation::Operation;
use schemas::Schemas;

/// The document as it is sent, and its name.
struct Served {
    text: Bytes,
    etag: HeaderValue,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let text = document().to_string();
    let hash: String = Sha256::digest(&text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let etag = HeaderValue::try_from(format!("\"{hash}\""));
    Served { text: text.into(), etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")) }
});

/// Shows the document. It tells nothing that the source does not, and so needs no token.
pub(super) async fn show(headers: HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| names(known, &SERVED.etag));
    let head = [
        (header::ETAG, SERVED.etag.clone()),
        // Another version of the server may say otherwise: ask each time, which costs a 304.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (head, kind, SERVED.text.clone()).into_response()
}

/// Tells whether an `If-None-Match` names the document (RFC 9110, 13.1.2: weak comparison).
fn names(known: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(known), Ok(etag)) = (known.to_str(), etag.to_str()) else { return false };
    known.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

/// Makes the document.
pub fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for route in routes() {
        let operation = operation_of(&route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation.document(&mut schemas);
    }
    let mut components = schemas.components();
    components["securitySchemes"] = json!({
        "operator": bearer("An operator's token: `hoist token operator`. The scope `admin` implies the others. In trial mode, on loopback, none is asked for."),
        "session": {
            "type": "apiKey", "in": "cookie", "name": "__Host-hoist-session",
            "description": "What POST /session sets; over plain HTTP on this machine it is called hoist-session. \
                What changes something also needs the header Hoist-CSRF, as GET /session says it.",
        },
        "agent": bearer("An agent's token: `hoist token client ID`."),
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hoist",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INFO,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "paths": paths,
        "components": components,
    })
}

fn bearer(about: &str) -> Value {
    json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": about })
}

/// What holds for all pages.
const INFO: &str = "Brings files up, on demand, from machines behind NAT, straight into S3.\n\n\
    Every error is `application/problem+json` (RFC 9457) with a stable `code`; codes are only ever added. \
    Besides what stands at each page: a path that is none is answered 404 `not_found`, a method that a path does not know 405 \
    `method_not_allowed` with `Allow` (also OPTIONS: no other site's page may ask), and HEAD works where GET does. \
    500 `internal` is a defect of hoist. What is no HTTP at all is answered with a bare 400, a head of more than 16 KiB with a bare 431.";

/// Describes a page: what the table says, and what the page says.
fn operation_of(route: &Route, schemas: &mut Schemas) -> Operation {
    pages::describe(route, schemas).unwrap_or_else(|| Operation::new(route))
}

#[cfg(test)]
mod tests;
