//! The binary: settings, log, signals, exit codes.
//!
//! Exit codes: 0 stopped, 1 a defect, 2 a bad setting, 77 refused credentials (`EX_NOPERM`), so that a service manager
//! need not start it again.

mod env_file;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use hoist_agent::{AgentError, Config, EnrolError, LinkError, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Reads that may wait for a disk at once beside the one hashing of each download; each holds a thread.
const READERS: usize = 8;

/// Longest wait for a read that hangs, when the agent stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    if let Err(problem) = env_file::load_env_file() {
        return bad_setting(&problem);
    }
    let settings = Settings::read();
    let Some(filter) = filter(&settings.log_level) else {
        return bad_setting(&format!(
            "LOG_LEVEL={:?} is not valid: use error, warn, info, debug or trace, or a filter such as hoist_agent=debug",
            settings.log_level
        ));
    };
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        // It would say on stderr that stderr cannot be written, and panic.
        .log_internal_errors(false)
        .init();
    let config = match settings.resolve() {
        Ok(config) => config,
        Err(failure) => {
            error!("{failure}");
            return ExitCode::from(2);
        }
    };
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            match failure.downcast_ref::<AgentError>() {
                Some(
                    AgentError::Link(LinkError::Refused { .. })
                    | AgentError::Enrol(EnrolError::Refused { .. }),
                ) => ExitCode::from(77),
                Some(AgentError::Enrol(EnrolError::Stopped)) => ExitCode::SUCCESS,
                Some(AgentError::Enrol(EnrolError::Key(_))) => ExitCode::from(2),
                Some(AgentError::Tls(_) | AgentError::Link(LinkError::Config(_))) => ExitCode::from(2),
                Some(AgentError::Random(_) | AgentError::Defect(_)) | None => ExitCode::FAILURE,
            }
        }
    }
}

/// Says what is wrong, as well as it can be said.
fn bad_setting(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "hoist-agent: {problem}");
    ExitCode::from(2)
}

/// Reads a level, or a filter such as `hoist_agent=debug`.
fn filter(text: &str) -> Option<EnvFilter> {
    // A lone word that is no level would be taken for the name of a module, and everything else be silent.
    let is_level = |piece: &str| piece.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    // Spans, in brackets, may have commas of their own.
    if !text.contains('[') && !text.split(',').all(|piece| piece.contains('=') || is_level(piece)) {
        return None;
    }
    EnvFilter::try_new(text.trim()).ok()
}

fn start(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS + usize::from(config.slots))
        .thread_stack_size(256 * 1024)
        .build()
        .context("the runtime cannot start")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        let mut int = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        let mut hup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
        let policy = config.policy.clone();
        let agent = hoist_agent::run(config, shutdown.clone());
        tokio::pin!(agent);
        loop {
            tokio::select! {
                ended = &mut agent => return ended.map_err(anyhow::Error::from),
                _ = hup.recv() => {
                    // Here, on the large stack of the main thread: it is one small file.
                    policy.reload();
                    continue;
                }
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if shutdown.is_cancelled() {
                // A second signal is immediate.
                return Ok(());
            }
            shutdown.cancel();
        }
    });
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result
}
