//! An operator whom the gate let in: what they may see, and how they showed who they are.
//!
//! A reach by labels is asked of the store at each request: where labels change, it changes at once.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use hoist_wire::reach::{Labels, Reach};
use hoist_wire::rest::Scope;
use hoist_wire::{ClientId, ErrorCode, Timestamp};

use super::Problem;
use crate::store::{Store, StoreError};

/// An operator who may do what the page does.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    /// Who, as the record names them.
    pub(super) name: String,
    /// What they may do.
    pub(super) scopes: Vec<Scope>,
    /// The clients that they reach; none for all.
    pub(super) reach: Option<Reach>,
    /// How they showed who they are.
    pub(super) proof: Proof,
}

/// How an operator showed who they are.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// Not at all: it is a trial on loopback.
    Trial,
    /// By a token.
    Token {
        /// Its `jti`.
        id: String,
        /// When it was made, in seconds.
        made_secs: u64,
        /// When it ends.
        expires_at: Timestamp,
    },
    /// By a session's cookie.
    Session {
        /// The `jti` of the token that opened it.
        token_id: String,
        /// SHA-256 of what the cookie says.
        cookie_sha256: String,
        /// What `Hoist-CSRF` must say.
        csrf: String,
        /// When the session ends at the latest.
        expires_at: Timestamp,
    },
}

impl Operator {
    /// Gives who asks in a trial.
    pub(super) fn of_trial() -> Self {
        let name = String::from("trial");
        Self { name, scopes: vec![Scope::Admin], reach: None, proof: Proof::Trial }
    }

    /// Gives the id of the token that was shown, now or when the session was opened; none where none was.
    pub(super) fn token_id(&self) -> Option<String> {
        match &self.proof {
            Proof::Token { id, .. } => Some(id.clone()),
            Proof::Session { token_id, .. } => Some(token_id.clone()),
            Proof::Trial => None,
        }
    }

    /// Tells whether a scope is among theirs; `admin` implies the others.
    pub(super) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Gives the clients of a list that they reach, of those that they ask for; none where that can be no client.
    pub(super) fn within(&self, asked: Reach) -> Option<Reach> {
        match &self.reach {
            None => Some(asked),
            Some(reach) => reach.and(&asked),
        }
    }

    /// Tells whether they reach a client, whether it was ever seen or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn reaches(&self, store: &dyn Store, client: &ClientId) -> Result<bool, StoreError> {
        let Some(reach) = &self.reach else { return Ok(true) };
        let labels = if reach.labels.is_empty() { Labels::new() } else { store.labels(client).await? };
        Ok(reach.has(client, &labels))
    }

    /// Says that a client is unknown, in the same words for one that is out of reach.
    pub(super) fn knows_no(&self, client: &ClientId) -> Problem {
        let client = client.as_str();
        let detail = match self.reach {
            None => format!(
                "client {client:?} was never seen: check the id with GET /clients, or send {{\"allow_unknown\": true}} to queue it"
            ),
            Some(_) => format!(
                "client {client:?} was never seen, or is not within what your token reaches: see GET /clients"
            ),
        };
        Problem::new(ErrorCode::UnknownClient, detail)
    }

    /// Gives whose keys of requests they are: a name is one operator's only together with its reach. No name has a blank.
    pub(super) fn owner_of_keys(&self) -> String {
        match &self.reach {
            None => self.name.clone(),
            Some(reach) => {
                let labels = reach.labels.iter().map(|(name, value)| format!(" {name}={value}"));
                let prefix = reach.prefix.as_deref().unwrap_or_default();
                format!("{} {prefix}{}", self.name, labels.collect::<String>())
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    /// Gives who the gate let in. A page that asks for an operator and stands behind no gate answers nobody.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let defect = || Problem::new(ErrorCode::Internal, "this page has no gate: that is a defect of hoist");
        parts.extensions.get::<Self>().cloned().ok_or_else(defect)
    }
}
