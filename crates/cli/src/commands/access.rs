//! Who may do what: tokens, labels, and taking a way in away.

use std::collections::BTreeMap;

use hoist_wire::ClientId;
use hoist_wire::operators::{ClientLabels, Ended};
use hoist_wire::reach::{Labels, Reach};
use hoist_wire::rest::{Client, ClientStatus, TokenKind, TokenReply, TokenRequest};

use super::{api, write};
use crate::api::{Api, Ask, Reply};
use crate::args::{self, Cli, LabelChange};
use crate::failure::Failure;
use crate::{text, token};

/// Makes a token, and prints it alone.
pub(super) async fn make_token(cli: &Cli, whose: &args::Token) -> Result<(), Failure> {
    let mut clients = None;
    let (kind, subject, scopes, ttl, local) = match whose {
        args::Token::Client { id, terms } => {
            (TokenKind::Client, id.to_string(), Vec::new(), terms.ttl, terms.local)
        }
        args::Token::Enroll { id, ttl } => (TokenKind::Enrolment, id.to_string(), Vec::new(), *ttl, false),
        args::Token::Operator { name, scopes, client_prefix, labels, terms } => {
            clients = reach(client_prefix.clone(), labels)?;
            (TokenKind::Operator, name.clone(), scopes.clone(), terms.ttl, terms.local)
        }
    };
    let request = TokenRequest { kind, subject, scopes, clients, ttl_secs: ttl.map(|ttl| ttl.as_secs()) };
    let reply = if local {
        let value = token::sign_here(&request)?;
        Reply { text: write(&value)?, value }
    } else {
        api(cli)?.send::<TokenReply>(&Ask::post(&["tokens"], write(&request)?, None)).await?
    };
    text::print(&if cli.json { text::safe_json(&reply.text) } else { text::safe(reply.value.token.open()) })
}

/// Gives the clients that a token is to reach; none for all.
fn reach(prefix: Option<String>, pairs: &[(String, String)]) -> Result<Option<Reach>, Failure> {
    if prefix.is_none() && pairs.is_empty() {
        return Ok(None);
    }
    let mut labels = Labels::new();
    for (name, value) in pairs {
        if labels.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::Input(format!(
                "--label {name} is given twice: a client has one value for it"
            )));
        }
    }
    let reach = Reach { prefix, labels };
    reach.check().map_err(|error| Failure::Input(error.to_string()))?;
    Ok(Some(reach))
}

/// Changes what a client may.
pub(super) async fn clients(api: &Api, what: args::Clients, json: bool) -> Result<(), Failure> {
    match what {
        args::Clients::List => Ok(()),
        args::Clients::Revoke { id } => {
            let reply: Reply<Client> =
                api.send(&Ask::post(&["clients", id.as_str(), "revoke"], String::new(), None)).await?;
            let told = format!(
                "{id} is revoked: its key, its tokens and its link; `hoist token enroll {id}` or `hoist token client {id}` lets it in again"
            );
            show(&reply.text, &told, json)
        }
        args::Clients::Label { id, changes } => label(api, &id, changes, json).await,
    }
}

async fn label(api: &Api, id: &ClientId, changes: Vec<LabelChange>, json: bool) -> Result<(), Failure> {
    let mut labels = labels_of(api, id).await?;
    for change in changes {
        match change {
            LabelChange::Set(name, value) => {
                labels.insert(name, value);
            }
            LabelChange::Remove(name) => {
                labels.remove(&name);
            }
        }
    }
    let ask = Ask::put(&["clients", id.as_str(), "labels"], write(&labels)?);
    let reply: Reply<ClientLabels> = api.send(&ask).await?;
    let told = format!("{id} {}", text::labels(&reply.value.labels));
    show(&reply.text, &told, json)
}

/// Gives the labels of a client, which need not have been seen.
async fn labels_of(api: &Api, id: &ClientId) -> Result<Labels, Failure> {
    match api.send::<ClientStatus>(&Ask::get(&["status", id.as_str()])).await {
        Ok(status) => Ok(status.value.labels),
        Err(failure) if failure.exit_code() == 5 => Ok(BTreeMap::new()),
        Err(failure) => Err(failure),
    }
}

/// Takes an operator's tokens.
pub(super) async fn operators(api: &Api, what: args::Operators, json: bool) -> Result<(), Failure> {
    let args::Operators::Revoke { name } = what;
    let reply: Reply<Ended> =
        api.send(&Ask::post(&["operators", &name, "revoke"], String::new(), None)).await?;
    let told = format!(
        "all tokens of {name} until now are refused, and {} sessions are over; new tokens are good",
        reply.value.sessions_ended
    );
    show(&reply.text, &told, json)
}

fn show(document: &str, told: &str, json: bool) -> Result<(), Failure> {
    text::print(&if json { text::safe_json(document) } else { text::safe(told) })
}
