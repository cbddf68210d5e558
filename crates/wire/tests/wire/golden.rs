//! Golden files: each decodes to the expected value, which encodes back to the same JSON. They are only ever added.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use hoist_wire::rest::Scope;
use hoist_wire::{ChecksumKind, ErrorCode, OnChange, Outcome, ReasonCode, State, ToAgent, ToServer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{expected, identities};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Reads a golden file.
pub(crate) fn read(name: &str) -> String {
    let path = folder().join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, expected: &T) {
    let golden = read(name);
    let decoded: T = serde_json::from_str(&golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&decoded, expected, "{name} decodes");
    let json: Value = serde_json::from_str(&golden).unwrap();
    assert_eq!(serde_json::to_value(expected).unwrap(), json, "{name} encodes");
}

/// Names each kind by a match without a wildcard: a new variant does not compile without its name here.
fn server_kind(message: &ToServer) -> &'static str {
    match message {
        ToServer::Hello(_) => "hello",
        ToServer::Offer(_) => "offer",
        ToServer::PartsReady(_) => "parts_ready",
        ToServer::Receipts(_) => "receipts",
        ToServer::Progress(_) => "progress",
        ToServer::Finished(_) => "finished",
        ToServer::Refused(_) => "refused",
        ToServer::Forgotten(_) => "forgotten",
        ToServer::Unsupported(_) => "unsupported",
    }
}

fn agent_kind(message: &ToAgent) -> &'static str {
    match message {
        ToAgent::Welcome(_) => "welcome",
        ToAgent::Fetch(_) => "fetch",
        ToAgent::Accept(_) => "accept",
        ToAgent::Parts(_) => "parts",
        ToAgent::Pace(_) => "pace",
        ToAgent::Forget(_) => "forget",
        ToAgent::Renew(_) => "renew",
        ToAgent::Goodbye(_) => "goodbye",
        ToAgent::Unsupported(_) => "unsupported",
    }
}

/// Gives the kinds in the order in which they first come.
fn in_order(kinds: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for kind in kinds {
        if !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    seen
}

#[test]
fn each_message_to_the_server_is_pinned() {
    let messages = expected::to_server();
    for (name, message) in &messages {
        let name = format!("to_server.{name}");
        check(&name, message);
        assert_eq!(&ToServer::decode(&read(&name)).unwrap(), message);
        let json: Value = serde_json::from_str(&read(&name)).unwrap();
        assert_eq!(json["type"], server_kind(message));
    }
    assert_eq!(in_order(messages.iter().map(|(_, m)| server_kind(m))), ToServer::KINDS);
}

#[test]
fn each_message_to_an_agent_is_pinned() {
    let messages = expected::to_agent();
    for (name, message) in &messages {
        let name = format!("to_agent.{name}");
        check(&name, message);
        assert_eq!(&ToAgent::decode(&read(&name)).unwrap(), message);
        let json: Value = serde_json::from_str(&read(&name)).unwrap();
        assert_eq!(json["type"], agent_kind(message));
    }
    assert_eq!(in_order(messages.iter().map(|(_, m)| agent_kind(m))), ToAgent::KINDS);
}

const REST: [&str; 23] = [
    "claims.agent",
    "claims.operator",
    "claims.operator_bound",
    "rest.client",
    "rest.client_cloned",
    "rest.client_labelled",
    "rest.client_page",
    "rest.client_status",
    "rest.download_change",
    "rest.download_change_free",
    "rest.download_completed",
    "rest.download_failed",
    "rest.download_page",
    "rest.download_paced",
    "rest.download_queued",
    "rest.download_request",
    "rest.download_request_empty",
    "rest.download_request_paced",
    "rest.problem",
    "rest.token_reply",
    "rest.token_request",
    "rest.token_request_bound",
    "rest.token_request_client",
];

#[test]
fn what_rest_says_is_pinned() {
    check("claims.agent", &expected::agent_claims());
    check("claims.operator", &expected::operator_claims());
    check("claims.operator_bound", &expected::bound_claims());
    check("rest.client_labelled", &expected::labelled_client());
    check("rest.token_request_bound", &expected::token_request_bound());
    check("rest.client", &expected::client());
    check("rest.client_cloned", &expected::cloned_client());
    check("rest.client_page", &expected::client_page());
    check("rest.client_status", &expected::client_status());
    check("rest.download_completed", &expected::completed());
    check("rest.download_change", &expected::download_change());
    check("rest.download_change_free", &expected::download_change_free());
    check("rest.download_failed", &expected::failed());
    check("rest.download_page", &expected::download_page());
    check("rest.download_paced", &expected::paced());
    check("rest.download_queued", &expected::queued());
    check("rest.download_request", &expected::download_request());
    check("rest.download_request_empty", &hoist_wire::rest::DownloadRequest::default());
    check("rest.download_request_paced", &expected::download_request_paced());
    check("rest.problem", &expected::problem());
    check("rest.token_reply", &expected::token_reply());
    check("rest.token_request", &expected::token_request());
    check("rest.token_request_client", &expected::token_request_client());
}

#[test]
fn no_golden_file_is_forgotten() {
    let mut known: BTreeSet<String> = REST.iter().map(|name| (*name).to_owned()).collect();
    known.insert("names".to_owned());
    known.extend(identities::NAMES.map(str::to_owned));
    known.extend(expected::to_server().iter().map(|(name, _)| format!("to_server.{name}")));
    known.extend(expected::to_agent().iter().map(|(name, _)| format!("to_agent.{name}")));
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".json").unwrap().to_owned())
        .collect();
    assert_eq!(there, known);
}

/// Decodes each pinned name, and encodes it back.
fn names<T: Serialize + DeserializeOwned>(pinned: &Value, what: &str) -> Vec<T> {
    let list = pinned[what].as_array().unwrap();
    assert!(!list.is_empty());
    let values: Vec<T> = list
        .iter()
        .map(|name| serde_json::from_value(name.clone()).unwrap_or_else(|e| panic!("{what}: {e}")))
        .collect();
    assert_eq!(&serde_json::to_value(&values).unwrap(), &pinned[what], "{what}");
    values
}

#[test]
fn each_name_is_pinned() {
    let pinned: Value = serde_json::from_str(&read("names")).unwrap();
    assert_eq!(names::<State>(&pinned, "state"), State::ALL);
    assert_eq!(names::<ReasonCode>(&pinned, "reason_code"), ReasonCode::ALL);
    assert_eq!(names::<OnChange>(&pinned, "on_change"), OnChange::ALL);
    assert_eq!(names::<Outcome>(&pinned, "outcome"), Outcome::ALL);
    names::<Scope>(&pinned, "scope");
    names::<ChecksumKind>(&pinned, "checksum_kind");
    names::<hoist_wire::to_agent::GoodbyeReason>(&pinned, "goodbye_reason");
    names::<hoist_wire::to_agent::Encoding>(&pinned, "encoding");
    names::<hoist_wire::rest::IdentityKind>(&pinned, "identity_kind");
    names::<hoist_wire::rest::TokenKind>(&pinned, "token_kind");

    let codes = names::<ErrorCode>(&pinned, "error_code");
    // There is no list of all codes; those of the definition are counted in its text, one to a line.
    let source = include_str!("../../src/code.rs");
    let (_, body) = source.split_once("pub enum ErrorCode {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let variants = body.lines().map(str::trim).filter(|line| {
        line.strip_suffix(',').is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric()))
    });
    assert_eq!(variants.count(), codes.len(), "a code is missing in golden/names.json");
    assert_eq!(codes.iter().filter(|code| **code == ErrorCode::Unknown).count(), 1);
}
