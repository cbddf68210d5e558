//! The whole of hoist through its real programs. One test binary: each would cost a link of its own.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod cancel;
mod cli;
mod files;
mod grants;
mod happy;
mod life;
mod links;
mod own_bucket;
mod promise_4_never_mixes;
mod promise_5_nothing_silent;
mod promise_6_no_litter;
mod queue;
mod rest;
mod restarts;
mod stop;
mod structure;
mod thin_link;
