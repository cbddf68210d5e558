//! The gate before every page: who asks, may they, and a line in the audit trail of what came of it.
//!
//! Deliberately absent: what a page needs (`routes`), and the checking of agents, which their page does itself.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hoist_wire::ErrorCode;
use hoist_wire::rest::Scope;
use tokio::time::Instant;

use super::attempts::Attempts;
use super::peer::{Certified, Peer};
use super::problem::{Challenge, Refused};
use super::routes::{Needs, Route};
use super::{Pages, Problem};
use crate::audit::{Action, Deed, Detail};
use crate::serve::Place;

/// An operator who may do what the page does.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    /// Who, as the record names them.
    pub(super) name: String,
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    /// Gives who the gate let in. A page that asks for an operator and stands behind no gate answers nobody.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let defect = || Problem::new(ErrorCode::Internal, "this page has no gate: that is a defect of hoist");
        parts.extensions.get::<Self>().cloned().ok_or_else(defect)
    }
}

/// What an agent's page tells the gate: whose link it is. An extension of the response.
#[derive(Debug, Clone)]
pub(super) struct Recognised(pub(super) String);

/// The gate of one page.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) pages: Arc<Pages>,
    pub(super) route: Route,
}

/// Who failed to show who it is, lately, for all pages.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<Attempts>);

impl Strangers {
    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets in who may do what the page does, and notes what came of it.
pub(super) async fn admit(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Peer>().map(|peer| peer.0);
    let subject = request.uri().path().to_owned();
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let wait = from.map_or(Duration::ZERO, |from| gate.pages.strangers.attempts().wait(from, Instant::now()));
    // A one-time token costs the store a look; what else can be shown is checked at once, for who can show it.
    if gate.route.needs == Needs::OneTimeToken && !wait.is_zero() {
        return too_many(wait);
    }
    let (who, response) = match gate.operator(&request) {
        Err(refusal) => {
            let Refusal { who, problem } = *refusal;
            (who, problem.into_response())
        }
        Ok(None) => (None, next.run(request).await),
        Ok(Some(operator)) => {
            let who = Some(operator.name.clone());
            if let Some(place) = place {
                place.recognised();
            }
            request.extensions_mut().insert(operator);
            (who, next.run(request).await)
        }
    };
    if let Some(from) = from.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
        gate.pages.strangers.attempts().count(from, Instant::now());
        if !wait.is_zero() {
            return too_many(wait);
        }
    }
    gate.note(who, from, subject, &response);
    response
}

/// Answers an address that has failed too often. The trail has its failures until then.
fn too_many(wait: Duration) -> Response {
    let detail =
        "too many requests of this address did not show who they are: try again later, with a valid token";
    Problem::new(ErrorCode::TooManyAttempts, detail).retry_after(wait).into_response()
}

/// Why somebody is not let in, and who it is where that is known.
#[derive(Debug)]
struct Refusal {
    who: Option<String>,
    problem: Problem,
}

impl Gate {
    /// Recognises an operator; none where the page asks for none.
    fn operator(&self, request: &Request) -> Result<Option<Operator>, Box<Refusal>> {
        match self.route.needs {
            Needs::Agent | Needs::OneTimeToken if !self.is_certified(request) => {
                let detail = "no certificate: this server asks agents for one of its own authority (TLS_CLIENT_CA_FILE); \
                    give the agent CLIENT_CERT_FILE and CLIENT_KEY_FILE";
                Err(Box::new(Refusal { who: None, problem: Problem::new(ErrorCode::Forbidden, detail) }))
            }
            Needs::Nothing | Needs::Agent | Needs::OneTimeToken => Ok(None),
            // A trial on loopback asks for no token.
            Needs::Scope(_) if self.pages.trial_port.is_some() => {
                Ok(Some(Operator { name: String::from("trial") }))
            }
            Needs::Scope(scope) => self.bearer_with(scope, request.headers()).map(Some),
        }
    }

    fn is_certified(&self, request: &Request) -> bool {
        !self.pages.agents_are_certified || request.extensions().get() == Some(&Certified(true))
    }

    fn bearer_with(&self, scope: Scope, headers: &HeaderMap) -> Result<Operator, Box<Refusal>> {
        let refuse = |detail: String, challenge| {
            let problem = Problem::new(ErrorCode::Unauthorized, detail).challenge(challenge);
            Box::new(Refusal { who: None, problem })
        };
        let token = bearer(headers).ok_or_else(|| {
            let detail =
                "no operator token: send `Authorization: Bearer TOKEN`; make one with `hoist token operator`";
            refuse(String::from(detail), Challenge::Token)
        })?;
        let claims = self.pages.tokens.operator(token);
        let claims = claims.map_err(|error| refuse(error.to_string(), Challenge::ValidToken))?;
        if claims.scopes.contains(&scope) || claims.scopes.contains(&Scope::Admin) {
            return Ok(Operator { name: claims.sub });
        }
        let needed = match scope {
            Scope::Read => "read",
            Scope::Download => "download",
            Scope::Admin => "admin",
        };
        let detail =
            format!("the token of {:?} does not allow this: it lacks the scope {needed}", claims.sub);
        let problem = Problem::new(ErrorCode::Forbidden, detail).challenge(Challenge::Scope(needed));
        Err(Box::new(Refusal { who: Some(claims.sub), problem }))
    }

    fn note(&self, who: Option<String>, from: Option<IpAddr>, subject: String, response: &Response) {
        let status = response.status();
        let refused =
            matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::CONFLICT);
        if matches!(self.route.action, Action::Look | Action::LinkOpen) && !refused {
            return;
        }
        let told = response.extensions();
        self.pages.audit.note(&Deed {
            who: who.or_else(|| told.get::<Recognised>().map(|it| it.0.clone())),
            from,
            action: self.route.action,
            subject,
            status: status.as_u16(),
            code: told.get::<Refused>().map(|refused| refused.0),
            detail: told.get::<Detail>().map(|detail| detail.0.clone()),
        });
    }
}

/// Gives the token of an `Authorization: Bearer` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
