//! The menu: demo, test, check, sim. `cargo xtask` alone prints it.

mod demo;
mod dependencies;
mod installs;
mod programs;
mod steps;
mod suite;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use steps::Shell;

/// What can be done with this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Starts server and agent on this machine, and brings a 100 MiB file up through them.
    Demo(demo::Demo),
    /// Installs what tests need, then runs everything: format, lints, dependencies, all tests against real S3 servers.
    Test,
    /// The fast loop: format, lints, dependencies, unit tests.
    Check,
    /// Runs the programs' own loops in simulated worlds: `--seeds N [--from S]`, or `--seed S --trace`.
    Sim {
        /// Passed on to the simulation; `--help` shows all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whole, on one line, and without the backtrace that an environment may ask for.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let shell = Shell::new()?;
    match task {
        Task::Demo(demo) => demo.run(&shell),
        Task::Test => suite::test(&shell),
        Task::Check => suite::check(&shell),
        Task::Sim { args } => {
            let mut sim = shell.cargo(&["run", "--quiet", "--package", "hoist-lab", "--bin", "sim", "--"]);
            shell.run(sim.args(args))
        }
    }
}
