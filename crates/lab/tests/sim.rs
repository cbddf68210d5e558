//! The simulation: 200 worlds each time, and proof that a seed decides everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hoist_lab::sim::{self, Fault};

/// Seeds that each test run tries; `cargo xtask sim --seeds N` tries more.
const SEEDS: u64 = 200;

#[test]
fn after_every_storm_each_download_is_final_and_true() {
    let (next, reports) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < SEEDS)
                {
                    let report = sim::run(seed, false);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    let wrong: Vec<String> = reports
        .iter()
        .flat_map(|report| report.wrong.iter().map(|what| format!("seed {}: {what}", report.seed)))
        .collect();
    assert!(wrong.is_empty(), "replay with `cargo xtask sim --seed N --trace`:\n{}", wrong.join("\n"));
    for fault in Fault::ALL {
        let struck = reports.iter().any(|report| report.struck.contains_key(fault));
        assert!(struck, "no world had: {}", fault.name());
    }
    let completed: u64 =
        reports.iter().filter_map(|report| report.ended.get(&hoist_wire::State::Completed)).sum();
    assert!(completed > SEEDS, "only {completed} downloads came through");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 19, 251, 1_000_003] {
        let (first, again) = (sim::run(seed, true), sim::run(seed, true));
        let differs = first.trace.iter().zip(&again.trace).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(
            (first.trace_hash, first.trace.len()),
            (again.trace_hash, again.trace.len()),
            "seed {seed}"
        );
    }
    assert_ne!(sim::run(1, false).trace_hash, sim::run(2, false).trace_hash);
}
