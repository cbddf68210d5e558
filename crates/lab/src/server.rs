//! The real `hoist-server`, in a trial or as it runs for earnest.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::process::Signal;

use crate::book::Book;
use crate::program::{Program, Start};
use crate::{WITHIN, binaries, eventually};

/// A server's process, which can be ended and started again on the same data and port.
#[derive(Debug)]
pub struct ServerProcess {
    start: Start,
    data_dir: PathBuf,
    program: Option<Program>,
    /// The log of the last run that was told to end.
    ended: String,
    scheme: &'static str,
    port: u16,
    book: Arc<Book>,
}

impl ServerProcess {
    /// Starts a server in `folder` with these arguments and this environment, and waits until it listens.
    ///
    /// # Panics
    /// If it does not start, with its log.
    pub(crate) async fn start(
        name: &str,
        folder: &Path,
        args: &[&str],
        env: &[(String, String)],
        book: &Arc<Book>,
    ) -> Self {
        let data_dir = folder.join(format!("{name}-data"));
        let mut all: Vec<(String, std::ffi::OsString)> =
            vec![("DATA_DIR".to_owned(), data_dir.clone().into()), ("SERVER_PORT".to_owned(), "0".into())];
        all.extend(env.iter().map(|(name, value)| (name.clone(), value.into())));
        let start = Start {
            name: name.to_owned(),
            binary: binaries::binary("hoist-server"),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: all,
            folder: folder.to_owned(),
            user: None,
        };
        let mut server = Self {
            start,
            data_dir,
            program: None,
            ended: String::new(),
            scheme: "http",
            port: 0,
            book: Arc::clone(book),
        };
        server.run().await;
        server
    }

    async fn run(&mut self) {
        let mut program = Program::start(&self.start, &self.book);
        let (scheme, port) = eventually("the server's first line", WITHIN, || {
            let seen = match program.ended() {
                Some(status) => {
                    panic!("the server ended ({status}) before it listened:\n{}", program.stderr())
                }
                None => first_line(&program.stdout()).ok_or_else(|| program.stderr()),
            };
            async { seen }
        })
        .await;
        assert!(self.port == 0 || self.port == port, "it came back on port {port}, not on {}", self.port);
        (self.scheme, self.port) = (scheme, port);
        self.start.env.retain(|(name, _)| name != "SERVER_PORT");
        self.start.env.push(("SERVER_PORT".to_owned(), port.to_string().into()));
        self.program = Some(program);
    }

    /// Gives its URL.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Gives its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives its process id.
    ///
    /// # Panics
    /// If it is down.
    pub fn pid(&self) -> u32 {
        self.program.as_ref().expect("a server that runs").pid()
    }

    /// Gives the folder of its records and, in a trial, of its bucket.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Gives the log of its present run; while it is down, of the last one that was told to end.
    pub fn log(&self) -> String {
        self.program.as_ref().map_or_else(|| self.ended.clone(), Program::stderr)
    }

    /// Kills it as a power cut does.
    ///
    /// # Panics
    /// If it is down.
    pub fn kill(&mut self) {
        self.program.take().expect("a server to kill").kill();
    }

    /// Asks it to end, and waits for nothing.
    ///
    /// # Panics
    /// If it is down.
    pub fn ask_to_end(&self) {
        self.program.as_ref().expect("a server to end").signal(Signal::TERM);
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// If it is down, or does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut program = self.program.take().expect("a server to end");
        program.signal(Signal::TERM);
        let status = program.exit(WITHIN).await;
        self.ended = program.stderr();
        status
    }

    /// Starts it again on the same data and the same port.
    ///
    /// # Panics
    /// If it runs, or does not start.
    pub async fn restart(&mut self) {
        assert!(self.program.is_none(), "the server runs already");
        self.run().await;
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.start.env.retain(|(there, _)| there != name);
        self.start.env.push((name.to_owned(), value.into()));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.program.is_some()
    }

    /// Reads a file of its data folder, without blanks at its ends.
    ///
    /// # Panics
    /// If it is not there.
    pub(crate) fn kept(&self, name: &str) -> String {
        let path = self.data_dir.join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    }
}

/// Reads scheme and port of `listening on http://127.0.0.1:PORT`, once the line is whole.
fn first_line(stdout: &str) -> Option<(&'static str, u16)> {
    let line = stdout.split_inclusive('\n').next()?.strip_suffix('\n')?;
    let said = line.strip_prefix("listening on ").and_then(|url| url.split_once("://127.0.0.1:"));
    let read = |(scheme, port): (&str, &str)| {
        let scheme = ["http", "https"].into_iter().find(|known| *known == scheme)?;
        Some((scheme, port.parse().ok()?))
    };
    Some(said.and_then(read).unwrap_or_else(|| panic!("an odd first line: {line:?}")))
}
