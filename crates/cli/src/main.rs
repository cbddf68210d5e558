//! The operator's command line: asks for files, follows them, saves them, makes tokens. It talks REST only.
//!
//! Deliberately absent: any knowledge of agents, links, or the bucket's credentials.

mod api;
mod args;
mod commands;
mod env_file;
mod failure;
mod save;
mod screen;
mod settings;
mod text;
mod token;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use failure::Failure;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return explain(&said),
    };
    let json = cli.json;
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Prints help, the version, or what is wrong with the command line.
fn explain(said: &clap::Error) -> ExitCode {
    let code = u8::try_from(said.exit_code()).unwrap_or(2);
    match said.print() {
        Err(error) if code == 0 && error.kind() != std::io::ErrorKind::BrokenPipe => {
            let failure = Failure::Output(error);
            tell(&failure, false);
            ExitCode::from(failure.exit_code())
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

fn start(cli: args::Cli) -> Result<(), Failure> {
    env_file::load_env_file().map_err(Failure::Input)?;
    // Chosen by name: built together with the server, rustls knows two providers and picks none.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(Failure::Input("TLS is set up already".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Input(format!("cannot start: {error}")))?;
    runtime.block_on(commands::run(cli))
}

/// Says what went wrong, its stable name, and what to do.
fn tell(failure: &Failure, json: bool) {
    if json
        && let Failure::Problem { text: Some(problem), .. } = failure
        && let Err(lost) = text::print(&text::safe_json(problem))
    {
        text::note(&format!("error: {lost}"));
    }
    let code = failure.code().map(|code| format!(" ({})", text::safe(&code))).unwrap_or_default();
    text::note(&format!("error: {}{code}", text::safe(&failure.to_string())));
    if let Some(mend) = failure.mend() {
        text::note(&format!("  try: {mend}"));
    }
}
