//! Errors as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hoist_wire::identity::TIME_HEADER;
use hoist_wire::{ErrorCode, Timestamp, rest};

use crate::links::chain;
use crate::store::StoreError;

/// An error that a caller gets: a stable code, and what is wrong with its value and the mend.
#[derive(Debug)]
pub struct Problem {
    code: ErrorCode,
    detail: String,
    retry_after: Option<Duration>,
    challenge: Challenge,
    server_time: Option<Timestamp>,
}

/// What a caller is told of its token, in `WWW-Authenticate` (RFC 6750, 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Challenge {
    /// One is asked for.
    Token,
    /// The one that was sent is not valid.
    ValidToken,
    /// The one that was sent lacks this scope.
    Scope(&'static str),
}

/// When to come back, where nothing better is known.
const SOON: Duration = Duration::from_secs(5);

/// The code of a refusal, for whoever looks at the response: an extension of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused(pub(super) ErrorCode);

impl Problem {
    /// Makes one.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
            challenge: Challenge::Token,
            server_time: None,
        }
    }

    /// Tells the caller when it may come back.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Tells the caller what is wrong with its token.
    #[must_use]
    pub(super) fn challenge(self, challenge: Challenge) -> Self {
        Self { challenge, ..self }
    }

    /// Tells the caller this server's time.
    #[must_use]
    pub fn server_time(self, now: Timestamp) -> Self {
        Self { server_time: Some(now), ..self }
    }
}

impl From<StoreError> for Problem {
    /// The inner text is for the log; the caller can only come back.
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %chain(&error), "the store failed a request");
        Self::new(
            ErrorCode::StoreUnavailable,
            "the record cannot be read or written now: nothing was changed, try again",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = rest::Problem {
            r#type: String::from("about:blank"),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
        };
        let mut response = (status, axum::Json(body)).into_response();
        response.extensions_mut().insert(Refused(self.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.challenge {
            Challenge::Token if status == StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Challenge::Token => {}
            Challenge::ValidToken => {
                let value = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
            Challenge::Scope(scope) => {
                let text = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                if let Ok(value) = HeaderValue::try_from(text) {
                    headers.insert(header::WWW_AUTHENTICATE, value);
                }
            }
        }
        if let Some(now) = self.server_time {
            headers.insert(TIME_HEADER, HeaderValue::from(now.0));
        }
        let soon = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(SOON);
        if let Some(wait) = self.retry_after.or(soon) {
            // Rounded up: who comes a moment too early would be refused again.
            let secs = wait.as_millis().div_ceil(1000);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(secs).unwrap_or(u64::MAX)));
        }
        response
    }
}
