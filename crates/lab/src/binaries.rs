//! The programs as they are built: found beside the test, and built once where they are older than their sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Gives the path of a program of this workspace, which is built if need be.
///
/// # Panics
/// If it does not build, or is not where cargo puts it.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(build).join(name);
    assert!(path.exists(), "{} is not there after the build", path.display());
    path
}

/// Builds the three programs in the profile and folder of the running test, and gives that folder.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    // target/<profile>/deps/e2e-1234: the programs are one folder up.
    let folder = test.parent().and_then(Path::parent).expect("the folder above deps").to_owned();
    let target = folder.parent().expect("the target folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bins", "-p", "hoist-server", "-p", "hoist-agent", "-p", "hoist"]);
    cargo.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells a test of its own package would look to build scripts (ring's) like another machine: they, and
    // all that rests on them, would be built again each time, once for the test and once for the programs.
    let of_the_test =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_", "CARGO_TARGET_TMP"];
    for (name, _) in std::env::vars_os() {
        if of_the_test.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().expect("cargo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the programs do not build:\n{said}");
    folder
}
