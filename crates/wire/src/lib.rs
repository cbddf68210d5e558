//! What server, agent and operator say to each other: messages, ids, limits, error codes, versions.
//!
//! Deliberately absent: sockets, tasks, clocks and chance. This crate only gives names and shapes to what is said;
//! who says it when is decided in `engine` and driven in `agent` and `server`.
//!
//! Protocol history, newest last:
//! - `hoist.v1`: the first one.
#![warn(missing_docs)]

pub mod audit;
pub mod checksum;
pub mod claims;
pub mod code;
pub mod duration;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod operators;
pub mod reach;
pub mod rest;
pub mod sealed;
pub mod state;
pub mod switch;
pub mod time;
pub mod to_agent;
pub mod to_server;

mod batch;
mod decode;
#[cfg(feature = "schema")]
mod schema;
mod whole;

pub use batch::Batch;
pub use checksum::{ChecksumKind, Crc64, Md5, PartSums};
pub use code::ErrorCode;
pub use decode::DecodeError;
pub use ids::{Attempt, ClientId, DownloadId, IdError, Instance, LinkSeq, PartNumber};
pub use sealed::Sealed;
pub use state::{OnChange, Outcome, ReasonCode, State};
pub use time::Timestamp;
pub use to_agent::ToAgent;
pub use to_server::ToServer;

/// The WebSocket subprotocol of this version, for `Sec-WebSocket-Protocol`.
pub const PROTOCOL: &str = "hoist.v1";

/// The path at which a server accepts links.
pub const LINK_PATH: &str = "/ws/connect";

/// The request header that carries an [`Instance`].
pub const INSTANCE_HEADER: &str = "hoist-instance";

/// The audience (`aud`) of an agent's token.
pub const AGENT_AUDIENCE: &str = "hoist-agent";

/// The audience (`aud`) of an operator's token.
pub const OPERATOR_AUDIENCE: &str = "hoist-api";
