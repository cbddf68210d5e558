//! The gate before every page: who asks, may they, and a line in the audit trail of what came of it.
//!
//! Deliberately absent: what a page needs (`routes`), what a request shows (`shown`), and the checking of agents,
//! which their page does itself.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hoist_wire::ErrorCode;
use hoist_wire::rest::Scope;
use tokio::time::Instant;

use super::attempts::Attempts;
use super::operator::{Operator, Proof};
use super::peer::{Certified, Peer};
use super::problem::{Challenge, Refused};
use super::routes::{Needs, Route};
use super::shown::{self, Credentials};
use super::{Pages, Problem, sessions};
use crate::audit::{Action, Begun, Deed, Detail, Noted, Outcome};
use crate::serve::Place;
use crate::store::StoreError;
use crate::tokens::{at, is_revoked};

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
pub(super) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let from = parts.extensions.get::<Peer>().map(|peer| peer.0);
    let place = parts.extensions.get::<Arc<Place>>().cloned();
    let wait = from.map_or(Duration::ZERO, |from| gate.pages.strangers.attempts().wait(from, Instant::now()));
    let mut deed = gate.deed(from, parts.uri.path());
    // A one-time token costs the store a look; what else can be shown is checked at once, for who can show it.
    if gate.route.needs == Needs::OneTimeToken && !wait.is_zero() {
        return gate.note(None, deed, too_many(wait)).await;
    }
    if shown::in_url(&parts.uri) {
        // The path may be what holds it.
        deed.subject = gate.route.path.to_owned();
        return gate.end(None, deed, wait, token_in_url().into_response()).await;
    }
    match gate.operator(&parts).await {
        Err(refusal) => {
            let Refusal { who, problem } = *refusal;
            deed.who = who;
            return gate.end(None, deed, wait, problem.into_response()).await;
        }
        Ok(None) => {}
        Ok(Some(operator)) => {
            if let Some(place) = place {
                place.recognised(("operator", operator.name.as_str()));
            }
            (deed.who, deed.token) = (Some(operator.name.clone()), operator.token_id());
            parts.extensions.insert(operator);
        }
    }
    parts.extensions.insert(deed.clone());
    let request = Request::from_parts(parts, body);
    if !gate.changes() {
        let response = next.run(request).await;
        return gate.end(None, deed, wait, response).await;
    }
    // In a task of its own: whoever hangs up in the middle must not take the line of what was done along.
    let audit = Arc::clone(&gate.pages.audit);
    audit
        .carry(async move {
            let begun = match gate.begin(&deed).await {
                Ok(begun) => begun,
                Err(error) => return Problem::from(error).into_response(),
            };
            let response = next.run(request).await;
            gate.end(begun, deed, wait, response).await
        })
        .await
}

fn token_in_url() -> Problem {
    let detail = "a token stands in the URL, where logs and histories keep it: send it as `Authorization: Bearer TOKEN`, \
        and count this one as leaked";
    Problem::new(ErrorCode::Unauthorized, detail)
}

/// Answers an address that has failed too often. The trail counts these too.
fn too_many(wait: Duration) -> Response {
    let detail =
        "too many requests of this address did not show who they are: try again later, with a valid token";
    Problem::new(ErrorCode::TooManyAttempts, detail).retry_after(wait).into_response()
}

/// Why somebody is not let in, and who it is where that is known.
#[derive(Debug)]
pub(super) struct Refusal {
    who: Option<String>,
    problem: Problem,
}

impl Refusal {
    /// Tells the caller what is wrong with its token.
    fn challenge(self, challenge: Challenge) -> Box<Self> {
        let Self { who, problem } = self;
        Box::new(Self { who, problem: problem.challenge(challenge) })
    }
}

impl From<StoreError> for Box<Refusal> {
    fn from(error: StoreError) -> Self {
        Box::new(Refusal { who: None, problem: error.into() })
    }
}

/// Refuses somebody, who is known or not.
pub(super) fn refuse(who: Option<&str>, code: ErrorCode, detail: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal { who: who.map(str::to_owned), problem: Problem::new(code, detail) })
}

impl Gate {
    /// Recognises an operator who may do what the page does; none where the page asks for none.
    async fn operator(&self, parts: &Parts) -> Result<Option<Operator>, Box<Refusal>> {
        let (scope, bound) = match self.route.needs {
            Needs::Agent | Needs::OneTimeToken if !self.is_certified(parts) => {
                let detail = "no certificate: this server asks agents for one of its own authority (TLS_CLIENT_CA_FILE); \
                    give the agent CLIENT_CERT_FILE and CLIENT_KEY_FILE";
                return Err(refuse(None, ErrorCode::Forbidden, detail));
            }
            Needs::Nothing | Needs::Agent | Needs::OneTimeToken => return Ok(None),
            Needs::Operator => (None, true),
            Needs::Within(scope) => (Some(scope), true),
            Needs::Scope(scope) => (Some(scope), false),
        };
        // A trial on loopback asks for no token.
        if self.pages.trial_port.is_some() {
            return Ok(Some(Operator::of_trial()));
        }
        let operator = match shown::read(parts) {
            Credentials::Bearer(token) => self.of_token(token).await?,
            Credentials::Cookie(value) => sessions::of_cookie(&self.pages, parts, value).await?,
            Credentials::Unclear(why) => {
                let detail = format!("the request does not say clearly who sends it: {why}");
                return Err(refuse(None, ErrorCode::Unauthorized, detail).challenge(Challenge::ValidToken));
            }
            Credentials::None => {
                let detail = "no operator token: send `Authorization: Bearer TOKEN`; make one with `hoist token operator`";
                return Err(refuse(None, ErrorCode::Unauthorized, detail));
            }
        };
        if let Some(scope) = scope.filter(|scope| !operator.has(*scope)) {
            let (name, scope) = (&operator.name, name_of(scope));
            let detail = format!("the token of {name:?} does not allow this: it lacks the scope {scope}");
            return Err(refuse(Some(name), ErrorCode::Forbidden, detail).challenge(Challenge::Scope(scope)));
        }
        if operator.reach.is_some() && !bound {
            let name = &operator.name;
            let detail = format!(
                "the token of {name:?} does not allow this: it reaches some clients only, and this is about all of them"
            );
            return Err(refuse(Some(name), ErrorCode::Forbidden, detail));
        }
        Ok(Some(operator))
    }

    fn is_certified(&self, parts: &Parts) -> bool {
        !self.pages.agents_are_certified || parts.extensions.get() == Some(&Certified(true))
    }

    async fn of_token(&self, token: &str) -> Result<Operator, Box<Refusal>> {
        let claims = self.pages.tokens.operator(token).map_err(|error| {
            refuse(None, ErrorCode::Unauthorized, error.to_string()).challenge(Challenge::ValidToken)
        })?;
        let revoked = self.pages.store.operator_revoked(&claims.sub).await?;
        if is_revoked(claims.iat, revoked) {
            let detail = "the token was revoked: ask for a new one with `hoist token`";
            return Err(
                refuse(Some(&claims.sub), ErrorCode::Unauthorized, detail).challenge(Challenge::ValidToken)
            );
        }
        let proof = Proof::Token { id: claims.jti, made_secs: claims.iat, expires_at: at(claims.exp) };
        Ok(Operator { name: claims.sub, scopes: claims.scopes, reach: claims.clients, proof })
    }

    fn deed(&self, from: Option<IpAddr>, subject: &str) -> Deed {
        Deed { who: None, token: None, from, action: self.route.action, subject: subject.to_owned() }
    }

    /// Tells whether the page changes something.
    fn changes(&self) -> bool {
        !matches!(self.route.action, Action::Look | Action::LinkOpen)
    }

    /// Notes that an operator is about to do something; nothing where the page writes the line together with what it does.
    async fn begin(&self, deed: &Deed) -> Result<Option<Begun>, StoreError> {
        match self.route.action {
            Action::DownloadRequest | Action::ClientEnroll => Ok(None),
            Action::Look
            | Action::LinkOpen
            | Action::DownloadChange
            | Action::DownloadCancel
            | Action::DownloadFetch
            | Action::TokenMake
            | Action::LabelsSet
            | Action::SessionOpen
            | Action::SessionEnd
            | Action::OperatorRevoke
            | Action::ClientRevoke
            | Action::AuditRead => self.pages.audit.begin(deed).await.map(Some),
        }
    }

    /// Ends a request: who failed once too often is told so, and everything is noted.
    async fn end(&self, begun: Option<Begun>, deed: Deed, wait: Duration, response: Response) -> Response {
        let mut response = response;
        if let Some(from) = deed.from.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
            self.pages.strangers.attempts().count(from, Instant::now());
            if !wait.is_zero() {
                response = too_many(wait);
            }
        }
        self.note(begun, deed, response).await
    }

    /// Notes what came of it, before anybody hears of it. Where that cannot be, nobody hears that it was done.
    async fn note(&self, begun: Option<Begun>, mut deed: Deed, response: Response) -> Response {
        let (status, told) = (response.status(), response.extensions());
        let too_many = told.get::<Refused>().is_some_and(|refused| refused.0 == ErrorCode::TooManyAttempts);
        let changes = self.changes();
        deed.who = deed.who.or_else(|| told.get::<Recognised>().map(|it| it.0.clone()));
        // Of nobody who was recognised all that comes to nothing is a refusal, whatever was wrong with it.
        let refused = too_many
            || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::CONFLICT)
            || (changes && deed.who.is_none() && !status.is_success());
        let outcome = Outcome {
            status: status.as_u16(),
            code: told.get::<Refused>().map(|refused| refused.0),
            detail: told.get::<Detail>().map(|detail| detail.0.clone()),
        };
        let is_noted = told.get::<Noted>().is_some();
        match begun {
            // What a stranger is refused costs no write that the stranger waits for.
            None if refused && deed.token.is_none() => self.pages.audit.refused(&deed, outcome),
            None if is_noted || !(changes || refused) => {}
            begun => {
                let begun = begun.unwrap_or_default();
                if let Err(error) = self.pages.audit.end(begun, &deed, outcome).await {
                    return Problem::from(error).into_response();
                }
            }
        }
        response
    }
}

fn name_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Download => "download",
        Scope::Admin => "admin",
    }
}
