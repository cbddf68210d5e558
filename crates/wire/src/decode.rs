//! From a text frame to a message, with errors that say whose fault it is.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Why a frame is no message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The frame is longer than this direction allows.
    #[error("a frame of {got} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes in the frame.
        got: usize,
        /// Most bytes in this direction.
        limit: usize,
    },
    /// A message of a kind that this version does not know: answered `unsupported`, and the link lives on.
    #[error("messages of type {kind:?} are not known to this version")]
    Unknown {
        /// The `type` of the message, cut at 64 characters.
        kind: String,
    },
    /// A known kind with wrong contents, or no message at all.
    #[error("malformed message: {0}")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Tag {
    r#type: String,
}

/// Decodes `frame` as one message of the closed enum `T`, whose kinds are `kinds`.
pub(crate) fn decode<T: DeserializeOwned>(
    frame: &str,
    limit: usize,
    kinds: &[&str],
) -> Result<T, DecodeError> {
    if frame.len() > limit {
        return Err(DecodeError::TooLong { got: frame.len(), limit });
    }
    serde_json::from_str(frame).map_err(|error| match serde_json::from_str::<Tag>(frame) {
        Ok(tag) if !kinds.contains(&tag.r#type.as_str()) => {
            DecodeError::Unknown { kind: tag.r#type.chars().take(64).collect() }
        }
        Ok(_) | Err(_) => DecodeError::Malformed(error),
    })
}
