//! The simulation from the command line: many seeds and a table, or one seed and its trace.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use hoist_lab::sim::{self, Report};

/// Runs the product's own loops in simulated worlds, one for each seed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints everything that happened.
    #[arg(long)]
    trace: bool,
    /// How many threads run seeds side by side.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return one(seed, args.trace);
    }
    many(&args)
}

/// Runs one seed, and shows all of it.
fn one(seed: u64, trace: bool) -> ExitCode {
    let report = sim::run(seed, trace);
    for line in &report.trace {
        println!("{line}");
    }
    println!("seed {seed}: trace {:016x}, {:.0} s simulated", report.trace_hash, report.lasted.as_secs_f64());
    tell(&report);
    if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(report: &Report) {
    for what in &report.wrong {
        println!("seed {}: WRONG {what}", report.seed);
    }
}

/// Runs many seeds, and shows what came of them.
fn many(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(args.from);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.from + args.seeds {
                        return;
                    }
                    let report = sim::run(seed, false);
                    tell(&report);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    table(&reports);
    let failed: Vec<u64> = reports.iter().filter(|it| !it.wrong.is_empty()).map(|it| it.seed).collect();
    println!("{} seeds in {:.0} s, {} failed", reports.len(), begun.elapsed().as_secs_f64(), failed.len());
    for seed in failed.iter().take(20) {
        println!("replay: cargo xtask sim --seed {seed} --trace");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(reports: &[Report]) {
    let (mut struck, mut ended) = (BTreeMap::new(), BTreeMap::new());
    for report in reports {
        for (fault, count) in &report.struck {
            *struck.entry(*fault).or_insert(0) += count;
        }
        for (state, count) in &report.ended {
            *ended.entry(*state).or_insert(0) += count;
        }
    }
    for (fault, count) in &struck {
        println!("{count:>9}  {}", fault.name());
    }
    for (state, count) in &ended {
        println!("{count:>9}  downloads {state}");
    }
    let sum = |bytes: fn(&Report) -> u64| reports.iter().map(bytes).sum::<u64>() / (1024 * 1024);
    println!("{:>9}  MiB put", sum(|it| it.put_bytes));
    println!("{:>9}  MiB put again, though confirmed", sum(|it| it.again_bytes));
    println!("{:>9}  hours simulated", reports.iter().map(|it| it.lasted.as_secs()).sum::<u64>() / 3600);
}
