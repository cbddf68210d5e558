//! The real `hoist-agent`, as it is installed at a site.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::book::Book;
use crate::program::{Program, Start};
use crate::{WITHIN, binaries};

/// An agent's process, which can be killed and started again.
#[derive(Debug)]
pub struct AgentProcess {
    start: Start,
    program: Program,
    book: Arc<Book>,
}

/// An agent that is about to be started.
#[derive(Debug)]
pub struct AgentSetup {
    start: Start,
    roots: Vec<PathBuf>,
    book: Arc<Book>,
}

impl AgentSetup {
    pub(crate) fn new(name: &str, folder: &Path, env: Vec<(String, OsString)>, book: &Arc<Book>) -> Self {
        let start = Start {
            name: format!("agent-{name}"),
            binary: binaries::binary("hoist-agent"),
            args: Vec::new(),
            env,
            folder: folder.to_owned(),
            user: None,
        };
        Self { start, roots: Vec::new(), book: Arc::clone(book) }
    }

    /// Lets files below a folder leave.
    #[must_use]
    pub fn root(mut self, root: &Path) -> Self {
        self.roots.push(root.to_owned());
        self
    }

    /// Names the file that is sent when a request names none.
    #[must_use]
    pub fn file_path(self, path: &Path) -> Self {
        self.env("FILE_PATH", path)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.start.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it as another user, from a copy of the program that this user can reach. Only root can.
    ///
    /// # Panics
    /// If the program cannot be copied.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        let copy = self.start.folder.join("hoist-agent");
        std::fs::copy(&self.start.binary, &copy).expect("a copy of the agent's program");
        self.start.binary = copy;
        self.start.user = Some(user);
        self
    }

    /// Starts it. Whether it connects is another question.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut self) -> AgentProcess {
        for root in self.roots {
            self.start.args.extend(["--root".to_owned(), root.display().to_string()]);
        }
        let program = Program::start(&self.start, &self.book);
        AgentProcess { start: self.start, program, book: self.book }
    }
}

impl AgentProcess {
    /// Kills it as a power cut does.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.terminate_within(WITHIN).await
    }

    /// Asks it to end, and waits no longer than this.
    ///
    /// # Panics
    /// If it has not ended by then.
    pub async fn terminate_within(&mut self, within: Duration) -> ExitStatus {
        self.program.signal(Signal::TERM);
        self.program.exit(within).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not.
    pub async fn exit(&mut self) -> ExitStatus {
        self.program.exit(WITHIN).await
    }

    /// Starts it again, as it was.
    ///
    /// # Panics
    /// If it still runs.
    pub fn start_again(&mut self) {
        assert!(self.program.ended().is_some(), "the agent runs already");
        self.program = Program::start(&self.start, &self.book);
    }

    /// Has it read its policy again.
    pub fn hang_up(&self) {
        self.program.signal(Signal::HUP);
    }

    /// Gives its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Gives the log of its present run.
    pub fn log(&self) -> String {
        self.program.stderr()
    }
}
