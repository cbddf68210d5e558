//! Downloads against a real store and a real link, with a bucket and an agent that do what a test says.

#![expect(clippy::unwrap_used, reason = "a test that fails says so by a panic")]
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is said is not what the test waits for")]

mod bucket;
mod clones;
mod ctx;
mod deadline;
mod late;
mod links;
mod litter;
mod rates;
mod restored;
mod settling;
