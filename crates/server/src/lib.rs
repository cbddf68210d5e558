//! The server: links to agents, REST for operators, the record of each download.
//!
//! `app` makes everything; `http` and `links` are the two doors; `downloads` joins the rules of `engine` with `store`
//! (the truth) and `bucket` (S3). Deliberately absent: bulk bytes. They go from the agent straight into the bucket.

pub mod app;
pub mod audit;
pub mod bucket;
mod census;
pub mod clock;
pub mod config;
pub mod downloads;
pub mod http;
pub mod links;
pub mod nonces;
pub mod proofs;
pub mod serve;
pub mod store;
pub mod tokens;
mod values;
