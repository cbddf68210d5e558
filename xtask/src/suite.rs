//! Everything that must hold before a change is taken: `test`; and the part that is fast: `check`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::dependencies::{self, Tool};
use crate::installs::{self, LocalStack};
use crate::steps::Shell;

/// The programs that tests start as they are.
const PROGRAMS: [&str; 6] = ["-p", "hoist-server", "-p", "hoist-agent", "-p", "hoist"];

/// Runs the fast loop.
pub(crate) fn check(shell: &Shell) -> Result<()> {
    lints(shell)?;
    shell.step("dependencies", || dependencies::check(shell, Tool::Wanted))?;
    shell.step("unit tests", || {
        tests(
            shell,
            &mut shell.cargo(&["test", "-q", "--workspace", "--lib", "--bins", "--exclude", "hoist-lab"]),
        )
    })
}

/// Installs what is missing and runs everything.
pub(crate) fn test(shell: &Shell) -> Result<()> {
    shell.step("Debian packages", || {
        installs::debian(
            shell,
            &[installs::COMPILER, installs::CURL, installs::CA_FILES, installs::VENV, installs::COREUTILS],
        )
    })?;
    let local_stack = shell.step("S3 servers", || installs::s3_servers(shell))?;
    shell.step("cargo-deny", || dependencies::install(shell))?;
    shell.step("schemathesis", || installs::schemathesis(shell))?;
    lints(shell)?;
    shell.step("dependencies", || dependencies::check(shell, Tool::Required))?;
    shell.step("build of the programs", || shell.run(shell.cargo(&["build", "--bins"]).args(PROGRAMS)))?;
    let result = shell.step("tests", || {
        let mut cargo = shell.cargo(&["test", "--workspace", "--no-fail-fast"]);
        cargo.env("HOIST_REQUIRE_SERVERS", "1").env("HOIST_TEST_TOOLS", installs::tools(shell));
        tests(shell, &mut cargo)
    });
    if let LocalStack::Skipped(why) = local_stack {
        println!("skipped: LocalStack ({why})");
    }
    result
}

fn lints(shell: &Shell) -> Result<()> {
    shell.step("format", || shell.run(&mut shell.cargo(&["fmt", "--all", "--check"])))?;
    shell.step("lints", || {
        let args = ["clippy", "-q", "--workspace", "--all-targets", "--", "-D", "warnings"];
        shell.run(&mut shell.cargo(&args))
    })
}

/// Runs tests, and adds up what the runs of all test programs say at their ends.
fn tests(shell: &Shell, cargo: &mut Command) -> Result<()> {
    let (status, lines) = shell.watch(cargo, |line| line.starts_with("test result:"))?;
    let sum = |word| lines.iter().map(|line| count(line, word)).sum::<u64>();
    let (passed, failed, ignored) = (sum("passed"), sum("failed"), sum("ignored"));
    println!("tests: {passed} passed, {failed} failed, {ignored} ignored, in {} programs", lines.len());
    if !status.success() || failed > 0 {
        bail!("tests failed ({status})");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Reads one number of a line such as `test result: ok. 7 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> u64 {
    line.split([';', '.']).filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!([count(line, "passed"), count(line, "failed"), count(line, "ignored")], [7, 2, 1]);
        assert_eq!(count("test result: something new", "passed"), 0);
    }
}
