//! The whole of hoist through its real programs. One test binary: each would cost a link of its own. The promises of the
//! README have their files one folder up, where they are found at a glance.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod audit;
mod cancel;
mod cli;
mod corpora;
mod faults;
mod files;
mod grants;
mod happy;
mod identity;
mod life;
mod limits;
mod links;
mod matrix;
mod openapi;
mod operators;
mod own_bucket;
#[path = "../promise_1_no_false_success.rs"]
mod promise_1_no_false_success;
#[path = "../promise_2_no_false_failure.rs"]
mod promise_2_no_false_failure;
#[path = "../promise_3_keys.rs"]
mod promise_3_keys;
#[path = "../promise_3_never_starts_over.rs"]
mod promise_3_never_starts_over;
#[path = "../promise_4_never_mixes.rs"]
mod promise_4_never_mixes;
#[path = "../promise_5_nothing_silent.rs"]
mod promise_5_nothing_silent;
#[path = "../promise_6_no_litter.rs"]
mod promise_6_no_litter;
#[path = "../promise_7_no_loose_keys.rs"]
mod promise_7_no_loose_keys;
#[path = "../promise_8_site_has_the_last_word.rs"]
mod promise_8_site_has_the_last_word;
#[path = "../promise_9_one_writer.rs"]
mod promise_9_one_writer;
mod queue;
mod rates;
mod rclone;
mod rest;
mod restarts;
mod schemathesis;
mod stop;
mod storm;
mod structure;
mod thin_link;
mod tls;
mod trouble;
