//! The depot through the AWS SDK and through bare HTTP, on port 0 and in directories of their own.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bench;
mod crash;
mod lent_keys;
mod multipart;
mod objects;
mod refusals;
mod restart;
