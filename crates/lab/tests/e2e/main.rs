//! The whole of hoist through its real programs. One test binary: each would cost a link of its own.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod cancel;
mod cli;
mod files;
mod grants;
mod happy;
mod life;
mod links;
mod promise_3_keys;
mod promise_3_never_starts_over;
mod queue;
mod rest;
mod restarts;
mod stop;
mod structure;
