//! S3 servers of other makers, started for a test and gone with it.
//!
//! Deliberately absent: the servers' installation, which is `cargo xtask test`'s. A server that is not installed is
//! skipped aloud, or fails the test where `HOIST_REQUIRE_SERVERS=1` says that it must be there.

mod local_stack;
mod process;
mod rclone;
mod seaweed_fs;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use local_stack::LocalStack;
pub(crate) use process::Process;
pub use rclone::Rclone;
pub use seaweed_fs::SeaweedFs;

/// Longest time that a server may take until it answers; LocalStack's first start compiles itself.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Time between two looks at a server that starts.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How to reach an S3 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Server {
    /// Its URL, such as `http://127.0.0.1:40001`.
    pub endpoint: String,
    /// The access key that may do everything.
    pub access_key: String,
    /// Its secret; for tests only.
    pub secret_key: String,
    /// The region that requests are signed for.
    pub region: String,
}

/// Finds an installed tool, by its path below the tools' folder: `HOIST_TEST_TOOLS`, or `target/test-tools`.
///
/// A file `<first folder of path>.skipped` there says why the tool cannot be had on this machine.
///
/// # Panics
/// If it is missing and `HOIST_REQUIRE_SERVERS=1`.
pub(crate) fn tool(name: &str, path: &str) -> Option<PathBuf> {
    let tools = std::env::var_os("HOIST_TEST_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools"), PathBuf::from);
    let found = tools.join(path);
    if found.exists() {
        return Some(found);
    }
    // The installer says why it could not: no Python that LocalStack runs on, as a rule.
    let folder = path.split('/').next().unwrap_or(path);
    if let Ok(reason) = std::fs::read_to_string(tools.join(format!("{folder}.skipped"))) {
        eprintln!("skipped: {name} could not be installed: {}", reason.trim());
        return None;
    }
    let required = std::env::var_os("HOIST_REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(!required, "{name} is required, and {} is not there", found.display());
    eprintln!("skipped: {name} is not installed, run cargo xtask test");
    None
}

/// Waits until `look` says that the server is up.
///
/// # Panics
/// If the server ends, or is not up in time; with the last of what it wrote.
async fn ready<F>(process: &mut process::Process, mut look: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let started = tokio::time::timeout(START_TIMEOUT, async {
        while !look().await {
            if let Some(status) = process.ended() {
                panic!("{} ended ({status}) before it was up:\n{}", process.name(), process.last_words());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    if started.await.is_err() {
        panic!("{} is not up after {START_TIMEOUT:?}:\n{}", process.name(), process.last_words());
    }
}

/// Gives what a URL answers; none while nobody answers.
async fn get(url: &str) -> Option<(u16, String)> {
    let reply = crate::http().get(url).send().await.ok()?;
    let status = reply.status().as_u16();
    Some((status, reply.text().await.unwrap_or_default()))
}
