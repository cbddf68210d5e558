//! Server and agent as processes of the demo: started with nothing but their own settings, ended on every way out.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::steps::Shell;

/// How long a program may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// A program that runs beside the demo.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
    kept: bool,
}

impl Program {
    /// Starts a program with its output in `NAME.out` and `NAME.log` of `folder`, which is where it runs.
    pub(crate) fn start(
        name: &'static str,
        binary: &Path,
        folder: &Path,
        args: &[&str],
        settings: &[(&str, String)],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(folder.join(format!("{name}.out")))?;
        let mut command = bare(binary, folder);
        command.args(args).envs(settings.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null()).stdout(out).stderr(File::create(&log)?);
        // Its own group: Ctrl-C comes to the demo alone, which then ends the agent before the server.
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { name, child, log, kept: false })
    }

    /// Gives the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Leaves it running when the demo ends.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// Fails, with the end of its log, when it does not run any more.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its log ends:\n{}", self.name, self.last_words()),
        }
    }

    /// Gives the last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end, waits a while, and ends it.
    pub(crate) fn stop(&mut self, shell: &Shell) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), pid) {
            // It may end between the look and the signal; then there is nothing to do.
            let _ = kill_process(pid, Signal::TERM);
            let gone = shell.until(self.name, GRACE, || Ok(self.child.try_wait()?));
            if let Err(error) = gone {
                eprintln!("{} does not end by itself ({error}); it is killed", self.name);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.kept {
            // The way out of a failure: at once. The good way called `stop` before, and then this does nothing.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Prepares a program that sees no setting of whoever runs the demo.
pub(crate) fn bare(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(folder).env_clear();
    for name in ["PATH", "HOME", "TERM", "LANG"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// What a process used so far, as the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Peak of resident memory, in KiB.
    pub(crate) peak_kib: u64,
    /// User and system time, in seconds.
    pub(crate) cpu_secs: f64,
}

/// Reads what a process used from `/proc`; none where there is no such thing.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    read_usage(&status, &stat, ticks)
}

fn read_usage(status: &str, stat: &str, ticks_per_sec: u32) -> Option<Usage> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kib = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // The second field is the name in brackets, which may hold blanks; utime and stime are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Usage { peak_kib, cpu_secs: (f64::from(user) + f64::from(system)) / f64::from(ticks_per_sec) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_also_from_a_name_with_blanks() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 12345 1 1";
        let usage = read_usage("Name:\ta\nVmHWM:\t   15360 kB\n", stat, 100);
        assert_eq!(usage, Some(Usage { peak_kib: 15_360, cpu_secs: 2.0 }));
        assert!(super::usage(std::process::id()).is_some());
    }
}
