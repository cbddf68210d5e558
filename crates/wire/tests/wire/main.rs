//! What the wire promises: golden files, limits, round trips, and the text of `docs/protocol.md`.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod expected;
mod golden;
mod identities;
mod limits;
mod protocol_md;
mod round_trip;
