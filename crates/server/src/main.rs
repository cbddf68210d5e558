//! `hoist-server`: reads its settings, runs, and stops when it is told to.

mod env_file;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use hoist_server::app::App;
use hoist_server::config::{Config, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hoist-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    env_file::load_env_file().map_err(anyhow::Error::msg)?;
    let settings = Settings::read();
    let filter = filter(&settings.log_level)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would say on stderr that stderr cannot be written, and panic.
        .log_internal_errors(false)
        .init();
    let config = settings.resolve()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config))
}

/// Reads a level, or a filter such as `hoist_server=debug`.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    // A lone word that is no level would be taken for the name of a module, and everything else be silent.
    let is_level = |piece: &str| piece.trim().parse::<LevelFilter>().is_ok();
    // Spans, in brackets, may have commas of their own.
    let known = text.contains('[') || text.split(',').all(|piece| piece.contains('=') || is_level(piece));
    EnvFilter::try_new(text.trim()).ok().filter(|_| known).with_context(|| {
        format!(
            "LOG_LEVEL={text:?} is not valid: use error, warn, info, debug or trace, or a filter such as \
            hoist_server=debug"
        )
    })
}

async fn run(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let trial = config.trial;
    let mut app = tokio::select! {
        app = App::start(config) => app?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    // Whoever started this server with port 0 waits for this line.
    let mut stdout = std::io::stdout();
    let said = writeln!(stdout, "listening on {}", app.url()).and_then(|()| stdout.flush());
    if let Err(error) = said {
        tracing::warn!(%error, address = %app.address(), "the address cannot be written to stdout");
    }
    if trial {
        tracing::warn!("trial mode: this machine only, no operator tokens, embedded bucket");
    }
    tokio::select! {
        reason = app.failed() => anyhow::bail!(reason),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; a second signal ends it at once");
    tokio::select! {
        () = app.stop() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
