//! Running programs one after another, aloud, and stopping at once when the person wants no more.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Where programs are run, and the ear for Ctrl-C.
#[derive(Debug)]
pub(crate) struct Shell {
    signals: Receiver<i32>,
    root: PathBuf,
}

impl Shell {
    /// Listens for signals from here on: every wait ends with an error when one comes.
    pub(crate) fn new() -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
        let (sender, receiver) = sync_channel(4);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                // A full queue has enough signals to stop everything.
                let _ = sender.try_send(signal);
            }
        });
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in no folder")?.to_owned();
        Ok(Self { signals: receiver, root })
    }

    /// Gives the folder of the whole repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Gives the folder of what is built, wherever the environment puts it.
    pub(crate) fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// Prepares cargo, the one that runs this.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(args).current_dir(&self.root);
        command
    }

    /// Waits for `length`, or fails at once when a signal comes.
    pub(crate) fn pause(&self, length: Duration) -> Result<()> {
        match self.signals.recv_timeout(length) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(signal) => bail!("stopped by signal {signal}"),
            Err(RecvTimeoutError::Disconnected) => bail!("nobody listens for signals any more"),
        }
    }

    /// Looks again and again until `look` finds something, for at most `length`.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        length: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            ensure!(start.elapsed() < length, "waited {} s for {what}", length.as_secs());
            self.pause(Duration::from_millis(50))?;
        }
    }

    /// Runs a program to its end; kills it when a signal comes.
    pub(crate) fn status(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut child = spawn(command)?;
        self.wait(&mut child)
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait().context("cannot wait for a program")? {
                return Ok(status);
            }
            if let Err(stop) = self.pause(Duration::from_millis(20)) {
                // It may be gone already: the terminal's Ctrl-C reached it too.
                let _ = child.kill();
                let _ = child.wait();
                return Err(stop);
            }
        }
    }

    /// Runs a program that must succeed.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        let shown = show(command);
        let status = self.status(command)?;
        ensure!(status.success(), "{shown}: {status}");
        Ok(())
    }

    /// Runs a program that must succeed, and gives its stdout, its blanks at the end cut off.
    pub(crate) fn output(&self, command: &mut Command) -> Result<String> {
        let shown = show(command);
        let mut child = spawn(command.stdout(Stdio::piped()))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let reader = std::thread::spawn(move || std::io::read_to_string(stdout));
        let status = self.wait(&mut child)?;
        let text = reader.join().map_err(|_| anyhow::anyhow!("reading {shown} panicked"))??;
        ensure!(status.success(), "{shown}: {status}");
        Ok(text.trim_end().to_owned())
    }

    /// Runs a program, shows its stdout, and gives the lines that `keep` wants, with how it ended.
    pub(crate) fn watch(
        &self,
        command: &mut Command,
        keep: fn(&str) -> bool,
    ) -> Result<(ExitStatus, Vec<String>)> {
        let mut child = spawn(command.stdout(Stdio::piped()))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let reader = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                println!("{line}");
                if keep(&line) {
                    kept.push(line);
                }
            }
            kept
        });
        let status = self.wait(&mut child)?;
        let kept = reader.join().map_err(|_| anyhow::anyhow!("reading its output panicked"))?;
        Ok((status, kept))
    }

    /// Does something with a name, and says how long it took.
    pub(crate) fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("== {name}");
        let start = Instant::now();
        let result = work().with_context(|| format!("step failed: {name}"));
        let word = if result.is_ok() { "done" } else { "FAILED" };
        println!("== {name}: {word} in {:.1} s", start.elapsed().as_secs_f64());
        result
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start {}", show(command)))
}

/// Writes a command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

/// Tells whether a program is there and ends well with these arguments.
pub(crate) fn works(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
