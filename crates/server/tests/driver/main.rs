//! Downloads against a real store and a real link, with a bucket and an agent that do what a test says.

#![expect(clippy::unwrap_used, reason = "a test that fails says so by a panic")]
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is said is not what the test waits for")]

mod bucket;
mod ctx;
mod links;
mod litter;
mod restored;
mod settling;
