//! `hoist-server`: reads its settings, runs, and stops when it is told to.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use hoist_server::app::App;
use hoist_server::config::{Config, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    // A missing .env is normal; one that cannot be read is not.
    match dotenvy::dotenv() {
        Ok(_) => {}
        Err(error) if error.not_found() => {}
        Err(error) => anyhow::bail!(".env cannot be read: {error}"),
    }
    let settings = Settings::parse();
    let filter = EnvFilter::try_new(&settings.log_level)
        .map_err(|error| anyhow::anyhow!("LOG_LEVEL={:?} is not a filter: {error}", settings.log_level))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let config = settings.resolve()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config))
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
    writeln!(stdout, "listening on http://{}", app.address())?;
    stdout.flush()?;
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
