//! One run of a program: its process, its signals, and what it wrote.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::book::Book;
use crate::eventually;

/// Runs a command in a group of its own, and a watcher beside it that kills the group when stdin ends.
///
/// Stdin is a pipe from the test: it ends when the program is dropped, and when the test itself is killed.
///
/// `LAB_FILES` in its environment is the most files that it may open.
const GUARD: &str = r#"[ -z "$LAB_FILES" ] || ulimit -n "$LAB_FILES"; exec 3<&0; (read -r _ <&3; kill -9 0) & exec "$@" </dev/null 3<&-"#;

/// A running program. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, std::ffi::OsString)>,
    /// The working folder, in which the output is kept too. It has no `.env`.
    pub(crate) folder: PathBuf,
    /// Another user (user id and group id), where the test is root.
    pub(crate) user: Option<u32>,
}

impl Program {
    /// Starts a program with nothing in its environment but what is given.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(start: &Start, book: &Book) -> Self {
        let (out, err) = outputs(&start.folder, &start.name);
        let file = |path: &Path| File::create(path).expect("a file for a program's output");
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "sh"])
            .arg(&start.binary)
            .args(&start.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &start.folder)
            .env("LOG_LEVEL", "hoist_server=debug,hoist_agent=debug,info")
            .envs(start.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&start.folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(file(&out))
            .stderr(file(&err));
        if let Some(user) = start.user {
            command.uid(user).gid(user);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", start.name));
        book.file(out.clone());
        book.file(err.clone());
        Self { name: start.name.clone(), child, out, err }
    }

    /// Gives all of its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.out)
    }

    /// Gives all of its log so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.err)
    }

    /// Tells how it ended; none while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // One that has ended already needs no signal.
        let _ = kill_process(pid, signal);
    }

    /// Kills it as a power cut does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits until it ends.
    pub(crate) async fn exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        eventually(&what, within, || {
            let ended = self.ended().ok_or_else(|| format!("it runs; its log:\n{}", self.stderr()));
            async { ended }
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.stderr();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- the log of {} ends:\n{}", self.name, tail.join("\n"));
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Takes files that no earlier run of the program has.
fn outputs(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let run = (1..).find(|run| !folder.join(format!("{name}.{run}.out")).exists()).expect("a free name");
    (folder.join(format!("{name}.{run}.out")), folder.join(format!("{name}.{run}.err")))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
