//! Proxies that read what passes: each message of a link and each call to the bucket is a step, at whose edges a test
//! can stop everything and end a program.
//!
//! Deliberately absent: damage, and waiting for time. A step is reached because it was seen.

mod bucket;
mod ledger;
mod link;
mod steps;

pub use bucket::BucketWatch;
pub use ledger::Ledger;
pub use link::LinkWatch;
pub use steps::{Edge, Seen, Side, Steps, Stop};
