//! Is it alive, can it work, what is there: `GET /health`, `/ready` and `/`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::State;
use super::routes::{Route, routes};
use crate::bucket::{Check, Verdict};
use crate::links::chain;

/// Whether the server can do its work, and why not.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopping: AtomicBool,
    bucket: Mutex<BucketState>,
}

#[derive(Debug, Default)]
struct BucketState {
    problem: Option<String>,
    checks: Vec<BucketCheck>,
}

/// Something about the bucket that was looked at.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct BucketCheck {
    name: &'static str,
    /// `ok`, `bad` or `unknown`.
    verdict: &'static str,
    detail: String,
}

impl From<&Check> for BucketCheck {
    fn from(check: &Check) -> Self {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Bad => "bad",
            Verdict::Unknown => "unknown",
        };
        Self { name: check.name, verdict, detail: check.detail.clone() }
    }
}

impl Readiness {
    fn bucket(&self) -> MutexGuard<'_, BucketState> {
        self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the bucket cannot be used.
    pub fn bucket_failed(&self, problem: String) {
        self.bucket().problem = Some(problem);
    }

    /// Notes that the bucket can be used, and what else was found.
    pub fn bucket_probed(&self, checks: &[Check]) {
        let checks = checks.iter().map(BucketCheck::from);
        *self.bucket() = BucketState { problem: None, checks: checks.collect() };
    }

    /// Notes one more thing that was looked at.
    pub fn checked(&self, check: &Check) {
        let mut bucket = self.bucket();
        bucket.checks.retain(|before| before.name != check.name);
        bucket.checks.push(check.into());
    }

    /// Notes that the server stops.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Tells whether new links are taken.
    pub fn accepts_links(&self) -> bool {
        !self.0.stopping.load(Ordering::Relaxed)
    }
}

/// The answer of `GET /ready`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ready {
    ready: bool,
    /// Why not.
    problems: Vec<String>,
    /// Agents that are connected.
    links: usize,
    bucket_checks: Vec<BucketCheck>,
}

/// The answer of `GET /health`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
    version: &'static str,
}

/// The process answers.
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// The server can do its work: 200. It cannot: 503, and why.
pub(super) async fn ready(pages: State) -> Response {
    let mut problems = Vec::new();
    if !pages.readiness.accepts_links() {
        problems.push(String::from("the server is stopping"));
    }
    if let Err(error) = pages.store.ping().await {
        tracing::error!(error = %chain(&error), "the store does not answer");
        problems.push(String::from("the store does not answer: see the server's log"));
    }
    let bucket_checks = {
        let bucket = pages.readiness.bucket();
        problems.extend(bucket.problem.clone());
        bucket.checks.clone()
    };
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let links = pages.link.links.count();
    (status, Json(Ready { ready: problems.is_empty(), problems, links, bucket_checks })).into_response()
}

/// What is there.
pub(super) async fn index() -> String {
    let rows = routes().into_iter().map(|route| {
        let Route { method, path, summary, .. } = route;
        format!("{method:<6} {path:<31} {summary}\n")
    });
    let head = "hoist-server: brings files up, on demand, from machines behind NAT\n\n";
    std::iter::once(String::from(head)).chain(rows).collect()
}
