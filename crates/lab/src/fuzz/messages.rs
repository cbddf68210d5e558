//! Wire decoding, both ways: any text is a message or an error, and what a message says survives encoding.

use std::fmt::Debug;

use hoist_wire::limits::{MAX_FRAME_TO_AGENT, MAX_FRAME_TO_SERVER, MAX_PARTS_PER_MESSAGE};
use hoist_wire::{DecodeError, ToAgent, ToServer};
use serde::Serialize;

pub(super) fn to_server(bytes: &[u8]) {
    let Some(message) = decoded(bytes, MAX_FRAME_TO_SERVER, ToServer::decode) else { return };
    let about = message.about();
    if let ToServer::PartsReady(ready) = &message {
        assert!(ready.parts.len() <= MAX_PARTS_PER_MESSAGE);
    }
    let again = stays(&message, |text| serde_json::from_str(text));
    assert_eq!(again.about(), about);
}

pub(super) fn to_agent(bytes: &[u8]) {
    let Some(message) = decoded(bytes, MAX_FRAME_TO_AGENT, ToAgent::decode) else { return };
    if let ToAgent::Renew(renew) = &message {
        let shown = format!("{:?}", renew.token);
        assert_eq!(shown, "[sealed]", "a token is shown");
    }
    stays(&message, |text| serde_json::from_str(text));
}

fn decoded<T>(bytes: &[u8], limit: usize, decode: fn(&str) -> Result<T, DecodeError>) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    match decode(text) {
        Ok(message) => {
            assert!(text.len() <= limit, "a frame of {} bytes was taken", text.len());
            Some(message)
        }
        Err(DecodeError::Unknown { kind }) => {
            assert!(kind.chars().count() <= 64, "an unknown kind is repeated at any length");
            None
        }
        Err(DecodeError::TooLong { .. } | DecodeError::Malformed(_)) => None,
    }
}

/// Encodes, decodes and encodes again: neither the message nor its text changes.
fn stays<T: Serialize + PartialEq + Debug>(message: &T, decode: fn(&str) -> serde_json::Result<T>) -> T {
    let text = serde_json::to_string(message).expect("a message encodes");
    let again =
        decode(&text).unwrap_or_else(|error| panic!("{text} was encoded, and is no message: {error}"));
    assert_eq!(&again, message, "{text}");
    assert_eq!(serde_json::to_string(&again).expect("a message encodes"), text);
    again
}
