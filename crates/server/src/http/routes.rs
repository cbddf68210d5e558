//! The one table of pages: what each is, what it needs, and what the audit trail calls it.
//!
//! The router is built from it, and so are the list at `/` and the tests that walk every page with every kind of token.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use hoist_wire::LINK_PATH;
use hoist_wire::identity::{ENROLL_PATH, NONCE_PATH};
use hoist_wire::rest::Scope;

use super::admission::{Gate, admit};
use super::{
    Pages, agents, clients, downloads, enrolment, labels, openapi, operators, patience, probes, revocation,
    sessions, tokens, trail,
};
use crate::audit::Action;

/// What a caller must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// An operator's token, whatever it allows.
    Operator,
    /// An operator's token with this scope, or with `admin`, which may reach some clients only: the page shows and
    /// changes no others.
    Within(Scope),
    /// An operator's token with this scope, or with `admin`, which reaches all clients.
    Scope(Scope),
    /// What an agent shows; the page checks it itself, also in a trial.
    Agent,
    /// A one-time token in the body; the page checks it itself, also in a trial.
    OneTimeToken,
}

/// A page, as the table has it.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with variables in braces.
    pub path: &'static str,
    /// What a caller must show.
    pub needs: Needs,
    /// What the audit trail calls it.
    pub action: Action,
    /// What it is for, in a few words.
    pub summary: &'static str,
}

/// Largest body of an enrolment: a token, a key and a signature, with room.
const MAX_ENROLL_BYTES: usize = 4096;

type Page = MethodRouter<Arc<Pages>>;

/// Gives all pages of operators and probes.
fn table() -> Vec<(Route, Page)> {
    use Action::{
        AuditRead, ClientEnroll, ClientRevoke, DownloadCancel, DownloadChange, DownloadFetch,
        DownloadRequest, LabelsSet, LinkOpen, Look, OperatorRevoke, SessionEnd, SessionOpen, TokenMake,
    };
    use Needs::{Agent, Nothing, OneTimeToken};
    const READ: Needs = Needs::Within(Scope::Read);
    const DOWNLOAD: Needs = Needs::Within(Scope::Download);
    const ADMIN: Needs = Needs::Scope(Scope::Admin);
    let row = |method, path, needs, action, summary, page: Page| {
        (Route { method, path, needs, action, summary }, page)
    };
    let (trigger, download, file) =
        ("/trigger-download/{client_id}", "/downloads/{id}", "/downloads/{id}/file");
    let enroll = post(enrolment::enroll)
        .layer(DefaultBodyLimit::max(MAX_ENROLL_BYTES))
        .layer(from_fn(patience::bounded));
    vec![
        row(Method::POST, trigger, DOWNLOAD, DownloadRequest, "ask for a file", post(downloads::trigger)),
        row(
            Method::GET,
            "/status/{client_id}",
            READ,
            Look,
            "a client and its downloads",
            get(clients::status),
        ),
        row(Method::GET, "/clients", READ, Look, "all clients", get(clients::list)),
        row(Method::GET, "/downloads", READ, Look, "all downloads", get(downloads::list)),
        row(Method::GET, download, READ, Look, "one download", get(downloads::one)),
        row(
            Method::PATCH,
            download,
            DOWNLOAD,
            DownloadChange,
            "change how fast it may go",
            patch(downloads::change),
        ),
        row(Method::DELETE, download, DOWNLOAD, DownloadCancel, "cancel it", delete(downloads::cancel)),
        row(
            Method::GET,
            file,
            DOWNLOAD,
            DownloadFetch,
            "the file, once it is completed",
            get(downloads::file),
        ),
        row(
            Method::POST,
            "/tokens",
            Needs::Within(Scope::Admin),
            TokenMake,
            "make a token",
            post(tokens::make),
        ),
        row(
            Method::PUT,
            "/clients/{client_id}/labels",
            ADMIN,
            LabelsSet,
            "give a client labels",
            put(labels::set),
        ),
        row(
            Method::POST,
            "/session",
            Needs::Operator,
            SessionOpen,
            "log in, as a browser",
            post(sessions::open),
        ),
        row(Method::GET, "/session", Needs::Operator, Look, "who am I", get(sessions::show)),
        row(Method::DELETE, "/session", Needs::Operator, SessionEnd, "log out", delete(sessions::close)),
        row(Method::GET, "/sessions", ADMIN, Look, "an operator's sessions", get(sessions::list)),
        row(Method::DELETE, "/sessions", ADMIN, SessionEnd, "end them", delete(sessions::end)),
        row(
            Method::POST,
            "/operators/{name}/revoke",
            ADMIN,
            OperatorRevoke,
            "refuse an operator's tokens",
            post(operators::revoke),
        ),
        row(Method::GET, "/audit", ADMIN, AuditRead, "the audit trail", get(trail::list)),
        row(Method::GET, "/health", Nothing, Look, "the process answers", get(probes::health)),
        row(
            Method::GET,
            "/ready",
            Nothing,
            Look,
            "the server can do its work, or why not",
            get(probes::ready),
        ),
        row(Method::GET, "/openapi.json", Nothing, Look, "all of this, for programs", get(openapi::show)),
        row(Method::GET, "/", Nothing, Look, "this list", get(probes::index)),
        row(
            Method::POST,
            "/clients/{client_id}/revoke",
            ADMIN,
            ClientRevoke,
            "take a client's key and tokens",
            post(revocation::revoke),
        ),
        row(Method::GET, LINK_PATH, Agent, LinkOpen, "agents", get(agents::connect)),
        row(Method::GET, NONCE_PATH, Nothing, Look, "what an agent signs", get(enrolment::nonce)),
        row(Method::POST, ENROLL_PATH, OneTimeToken, ClientEnroll, "an agent's own key", enroll),
    ]
}

/// Gives the table.
pub fn routes() -> Vec<Route> {
    table().into_iter().map(|(route, _)| route).collect()
}

/// All that agents need stands below this path, and nothing else does: a proxy may let no more than it through.
pub(super) const OF_AGENTS: &str = "/ws/";

/// Gives the pages for operators and probes, and apart from them those for agents, each behind its gate.
pub(super) fn routers(pages: &Arc<Pages>) -> (Router<Arc<Pages>>, Router<Arc<Pages>>) {
    let (mut operators, mut agents) = (Router::new(), Router::new());
    for (route, page) in table() {
        let gate = Arc::new(Gate { pages: Arc::clone(pages), route });
        let path = gate.route.path;
        let of_agents = path.starts_with(OF_AGENTS);
        let page = page.route_layer(from_fn_with_state(gate, admit));
        let router = if of_agents { &mut agents } else { &mut operators };
        *router = std::mem::take(router).route(path, page);
    }
    (operators, agents)
}
