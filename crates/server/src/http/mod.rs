//! REST for operators, the probes, and the door for agents. Each page is thin: it checks, asks, and shows.

mod admission;
mod agents;
mod attempts;
mod clients;
mod credentials;
mod doors;
mod downloads;
mod enrolment;
mod labels;
mod openapi;
mod operator;
mod operators;
mod patience;
mod peer;
mod probes;
mod problem;
mod revocation;
mod routes;
mod sessions;
mod shown;
mod tokens;
mod trail;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler as _;
use axum::middleware::{from_fn, from_fn_with_state};
use hoist_wire::ErrorCode;
use hoist_wire::limits::MAX_REST_BODY_BYTES;

use crate::audit::Audit;
use crate::bucket::Bucket;
use crate::clock::World;
use crate::downloads::Downloads;
use crate::links::LinkContext;
use crate::proofs::Proofs;
use crate::store::Store;
use crate::tokens::Tokens;

pub use admission::Strangers;
pub(crate) use attempts::network;
pub use openapi::document;
pub use peer::{Certified, Peer};
pub use probes::Readiness;
pub use problem::Problem;
pub use routes::{Needs, Route, routes};
pub(crate) use sessions::IDLE as SESSION_IDLE;

/// What the pages need.
#[derive(Debug)]
pub struct Pages {
    /// What a link needs.
    pub link: Arc<LinkContext>,
    /// The downloads.
    pub downloads: Arc<Downloads>,
    /// The record.
    pub store: Arc<dyn Store>,
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    /// Who is who.
    pub tokens: Arc<Tokens>,
    /// Checks what agents sign with their own keys.
    pub proofs: Proofs,
    /// Who failed to show who it is.
    pub strangers: Strangers,
    /// Whether an agent must show a certificate.
    pub agents_are_certified: bool,
    /// What was done, and by whom.
    pub audit: Arc<Audit>,
    /// Time and chance.
    pub world: Arc<dyn World>,
    /// Whether the server can do its work.
    pub readiness: Readiness,
    /// The port of a trial; none outside of one.
    pub trial_port: Option<u16>,
    /// How long a client's token lives unless asked otherwise.
    pub client_token_ttl: Duration,
    /// How long a presigned GET lives.
    pub grant_ttl: Duration,
    /// Most downloads that wait or run for one client.
    pub max_open_per_client: u32,
}

type State = axum::extract::State<Arc<Pages>>;

/// All pages.
pub fn router(pages: Arc<Pages>) -> Router {
    let (operators, agents) = routes::routers(&pages);
    let operators = operators
        .fallback(async || {
            Problem::new(ErrorCode::NotFound, "there is no such page; GET / lists those that are")
        })
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_REST_BODY_BYTES))
        .layer(from_fn(patience::bounded))
        .layer(from_fn(doors::short))
        .layer(from_fn_with_state(Arc::clone(&pages), trial::guard));
    // An agent shows its token also to a trial, and may come by another name, through a tunnel or a proxy.
    let wrong_method = wrong_method.layer(from_fn_with_state(Arc::clone(&pages), trial::guard));
    let agents = agents.method_not_allowed_fallback(wrong_method);
    agents.merge(operators).with_state(pages)
}

async fn wrong_method() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "this page does not know that method; GET / lists those it knows",
    )
}
