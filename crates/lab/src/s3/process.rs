//! A server's process and all its children, which die with the test, however the test dies.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// Runs a command in a group of its own, and a watcher beside it that kills the group when stdin ends.
///
/// Stdin is a pipe from the test: it ends when the process is dropped, and when the test itself is killed.
const GUARD: &str = r#"exec 3<&0; (read -r _ <&3; kill -9 0) & exec "$@" </dev/null 3<&-"#;

/// A running server with its own folder.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts a program; its output goes to a file in `dir`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(
        name: &'static str,
        dir: TempDir,
        program: &Path,
        args: &[String],
        env: &[(&str, String)],
    ) -> Self {
        let log = File::create(dir.path().join("log")).expect("a log in the server's folder");
        let log_too = log.try_clone().expect("a second handle of the log");
        let child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(program)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            // Whatever the server keeps for its user is the test's.
            .env("HOME", dir.path())
            .current_dir(dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_too)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name, child, dir }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Tells how the program ended; none while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Gives the end of what the server wrote.
    pub(crate) fn last_words(&self) -> String {
        let output = self.output();
        let from = output.len().saturating_sub(4096);
        output.get(output.ceil_char_boundary(from)..).unwrap_or_default().to_owned()
    }

    /// Gives all that the server wrote.
    pub(crate) fn output(&self) -> String {
        let log = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // The watcher's kill cannot be refused. An error here means that the child is gone.
        let _ = self.child.wait();
    }
}

/// Where such ports lie: below those that the system gives to connections and to port 0 (32768 and up on Linux), so
/// that no other test takes one between here and the server's start.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Finds free ports for a server that cannot take port 0 itself.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let from = u16::try_from(RandomState::new().build_hasher().finish() % u64::from(PORTS.end - PORTS.start))
        .expect("a number within the range");
    let ports = (PORTS.start + from..PORTS.end).chain(PORTS);
    let free = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    // Held until all are found, or one would be found twice.
    let held: Vec<TcpListener> = free.take(N).collect();
    let ports: Vec<u16> = held
        .iter()
        .map(|listener| listener.local_addr().expect("the address of a bound socket").port())
        .collect();
    ports.try_into().expect("free ports of loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_takes_its_children_along() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", pids.display());
        let args = ["-c".to_owned(), script];
        let process = Process::start("sh", tempfile::tempdir().unwrap(), Path::new("/bin/sh"), &args, &[]);
        let born = std::iter::repeat_with(|| std::fs::read_to_string(&pids)).find_map(Result::ok).unwrap();
        let is_alive = |pid: &str| {
            // A killed child that nobody has waited for yet is no longer alive.
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        let pids: Vec<&str> = born.split_whitespace().collect();
        assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(pid)), "{born}");
        drop(process);
        let mut looks = std::iter::repeat_with(|| pids.iter().any(|pid| is_alive(pid))).take(1_000_000);
        assert!(looks.any(|alive| !alive), "{born} live on");
    }
}
