//! What a stranger sends is cut at the limits, and what must not be shown is not.

use hoist_wire::limits::{MAX_FRAME_TO_AGENT, MAX_FRAME_TO_SERVER, MAX_PARTS_PER_MESSAGE};
use hoist_wire::rest::{DownloadRequest, TokenReply};
use hoist_wire::{DecodeError, ToAgent, ToServer};
use serde_json::{Value, json};

use crate::expected;
use crate::golden::read;

fn value(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap()
}

/// Puts a field of a newer version into every object.
fn with_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // The one object with open keys: an entry more is another message.
            fields
                .iter_mut()
                .filter(|(name, _)| !matches!(name.as_str(), "facts" | "headers" | "answer"))
                .for_each(|(_, value)| with_unknown_fields(value));
            fields.insert("of_a_newer_version".to_owned(), json!({ "x": 1 }));
        }
        Value::Array(items) => items.iter_mut().for_each(with_unknown_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn unknown_fields_are_ignored() {
    for (name, message) in expected::to_server() {
        let mut json = value(&format!("to_server.{name}"));
        with_unknown_fields(&mut json);
        assert_eq!(ToServer::decode(&json.to_string()).unwrap(), message);
    }
    for (name, message) in expected::to_agent() {
        let mut json = value(&format!("to_agent.{name}"));
        with_unknown_fields(&mut json);
        assert_eq!(ToAgent::decode(&json.to_string()).unwrap(), message);
    }
}

#[test]
fn a_misspelt_field_of_a_request_is_an_error() {
    assert!(serde_json::from_str::<DownloadRequest>(r#"{"file_paht":"/x"}"#).is_err());
    // What is to change must be said: an empty change would quietly lift the limit.
    for change in ["{}", r#"{"max_rate":5}"#, r#"{"max_rate_bytes_per_sec":-1}"#] {
        assert!(serde_json::from_str::<hoist_wire::rest::DownloadChange>(change).is_err(), "{change}");
    }
    assert!(
        serde_json::from_str::<hoist_wire::rest::TokenRequest>(r#"{"kind":"client","subject":"r","ttl":5}"#)
            .is_err()
    );
}

#[test]
fn an_unknown_kind_is_told_from_a_malformed_one() {
    let newer = r#"{"type":"of_a_newer_version","download_id":7}"#;
    for decoded in [ToServer::decode(newer).map(|_| ()), ToAgent::decode(newer).map(|_| ())] {
        assert!(matches!(decoded, Err(DecodeError::Unknown { kind }) if kind == "of_a_newer_version"));
    }
    let long = json!({ "type": "x".repeat(1000) }).to_string();
    assert!(matches!(ToServer::decode(&long), Err(DecodeError::Unknown { kind }) if kind.len() == 64));
    // A kind of the other direction is unknown in this one.
    assert!(matches!(ToAgent::decode(&read("to_server.hello")), Err(DecodeError::Unknown { .. })));
    for malformed in
        ["", "{}", "[]", "7", "\"hello\"", r#"{"type":7}"#, r#"{"type":"offer"}"#, "{\"type\":\"hel"]
    {
        assert!(matches!(ToServer::decode(malformed), Err(DecodeError::Malformed(_))), "{malformed:?}");
        assert!(matches!(
            ToAgent::decode(&malformed.replace("offer", "fetch")),
            Err(DecodeError::Malformed(_))
        ));
    }
}

#[test]
fn an_unknown_reason_of_goodbye_is_understood() {
    let mut json = value("to_agent.goodbye");
    json["reason"] = json!("of_a_newer_version");
    let ToAgent::Goodbye(goodbye) = ToAgent::decode(&json.to_string()).unwrap() else { panic!("no goodbye") };
    assert_eq!(goodbye.reason, hoist_wire::to_agent::GoodbyeReason::Other);
}

#[test]
fn seventeen_parts_are_one_too_many() {
    for (name, decode) in [
        ("to_server.parts_ready", (|text| ToServer::decode(text).is_ok()) as fn(&str) -> bool),
        ("to_server.receipts", |text| ToServer::decode(text).is_ok()),
        ("to_agent.parts", |text| ToAgent::decode(text).is_ok()),
    ] {
        let mut json = value(name);
        let part = json["parts"][0].clone();
        json["parts"] = Value::from(vec![part.clone(); MAX_PARTS_PER_MESSAGE]);
        assert!(decode(&json.to_string()), "{name}: 16");
        json["parts"] = Value::from(vec![part; MAX_PARTS_PER_MESSAGE + 1]);
        assert!(!decode(&json.to_string()), "{name}: 17");
    }
}

#[test]
fn a_frame_is_cut_off_exactly_behind_its_limit() {
    let fits = |text: String, limit: usize| format!("{text}{}", " ".repeat(limit - text.len()));
    let hello = fits(read("to_server.hello"), MAX_FRAME_TO_SERVER);
    assert!(ToServer::decode(&hello).is_ok());
    let too_long = ToServer::decode(&(hello + " "));
    assert!(matches!(too_long, Err(DecodeError::TooLong { got: 16_385, limit: 16_384 })));
    let welcome = fits(read("to_agent.welcome"), MAX_FRAME_TO_AGENT);
    assert!(ToAgent::decode(&welcome).is_ok());
    let too_long = ToAgent::decode(&(welcome + " "));
    assert!(matches!(too_long, Err(DecodeError::TooLong { got: 65_537, limit: 65_536 })));
}

#[test]
fn full_messages_fit_into_their_frames() {
    // A URL with the longest key, every byte of it escaped, and a session token of 2 KiB.
    let url = format!("https://bucket.s3.amazonaws.com/{}?{}", "%C3".repeat(300), "t".repeat(2048 + 500));
    let mut parts = value("to_agent.parts");
    let mut part = parts["parts"][0].clone();
    part["answer"]["put"]["url"] = json!(url);
    parts["parts"] = Value::from(vec![part; MAX_PARTS_PER_MESSAGE]);
    assert!(ToAgent::decode(&parts.to_string()).is_ok());

    let mut receipts = value("to_server.receipts");
    let mut receipt = receipts["parts"][0].clone();
    receipt["etag"] = json!("e".repeat(256));
    receipts["parts"] = Value::from(vec![receipt; MAX_PARTS_PER_MESSAGE]);
    assert!(ToServer::decode(&receipts.to_string()).is_ok());

    let mut hello = value("to_server.hello");
    let fact = |n: usize| (format!("{n:0>256}"), json!("v".repeat(256)));
    hello["facts"] = (0..hoist_wire::limits::MAX_FACTS).map(fact).collect();
    hello["busy"] = Value::from(vec![hello["busy"][0].clone(); usize::from(hoist_wire::limits::MAX_SLOTS)]);
    assert!(ToServer::decode(&hello.to_string()).is_ok());
}

#[test]
fn debug_shows_neither_a_url_nor_a_token() {
    let seals: Vec<_> =
        expected::to_agent().into_iter().filter(|(name, _)| matches!(*name, "parts" | "renew")).collect();
    assert_eq!(seals.len(), 2);
    for (name, message) in seals {
        assert!(read(&format!("to_agent.{name}")).contains("5ea1ed"));
        for shown in [format!("{message:?}"), format!("{message:#?}")] {
            assert!(shown.contains("[sealed]") && !shown.contains("5ea1ed"), "{shown}");
            assert!(!shown.contains("bucket.example.com"), "{shown}");
        }
    }
    let reply: TokenReply = serde_json::from_str(&read("rest.token_reply")).unwrap();
    assert!(!format!("{reply:?}").contains("5ea1ed"));
}
