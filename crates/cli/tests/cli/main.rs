//! The program `hoist` against a fake server.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod commands;
mod fake;
mod save;
mod tokens;
