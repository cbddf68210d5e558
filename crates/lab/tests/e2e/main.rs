//! The whole of hoist through its real programs. One test binary: each would cost a link of its own.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod cancel;
mod cli;
mod faults;
mod files;
mod grants;
mod happy;
mod life;
mod links;
mod own_bucket;
mod promise_1_no_false_success;
mod promise_2_no_false_failure;
mod promise_3_keys;
mod promise_3_never_starts_over;
mod promise_4_never_mixes;
mod promise_5_nothing_silent;
mod promise_6_no_litter;
mod promise_9_one_writer;
mod queue;
mod rates;
mod rclone;
mod rest;
mod restarts;
mod stop;
mod storm;
mod structure;
mod thin_link;
mod trouble;
