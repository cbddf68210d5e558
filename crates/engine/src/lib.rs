//! The pure rules: the life of a download, the part plan, resume, back-off, rates.
//!
//! Deliberately absent: tasks, clocks, chance, sockets and storage. Time and chance come in as arguments, and what
//! must be done comes out as values, so that every rule here can be tried in any order of events.
#![warn(missing_docs)]

pub mod backoff;
pub mod life;
pub mod parts;
pub mod plan;
pub mod rate;
pub mod retry;
