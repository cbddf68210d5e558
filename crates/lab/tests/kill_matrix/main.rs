//! The kill matrix: every step in the life of a download, and at both its edges either program, or both, killed as a power
//! cut does, for a file of one part and of three. Whatever died, the file comes, whole, once, and nothing is left behind.
//!
//! The cells are made from the list of steps, which is compared with the steps that are really seen.
//! `HOIST_KILL_CELLS=offer` runs only those cells whose name contains this; `HOIST_KILL_CHECKSUM=part_md5` runs them on a
//! bucket that is proven by the parts' MD5.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod cell;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use hoist_lab::Stage;
use hoist_lab::stage::CLIENT;
use hoist_lab::watch::Edge;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use cell::{Cell, Files, Phase, Victim};

/// Every message and every call of a download that nothing disturbs.
const STEPS: [&str; 15] = [
    "hello",
    "welcome",
    "fetch",
    "offer",
    "HeadObject",
    "CreateMultipartUpload",
    "accept",
    "parts_ready",
    "parts",
    "UploadPart",
    "receipts",
    "finished",
    "CompleteMultipartUpload",
    "forget",
    "forgotten",
];

/// What is there only in another life than that one.
const OTHER_STEPS: [(&str, Phase); 7] = [
    ("HeadObject", Phase::Proof),
    ("progress", Phase::Slow),
    ("ListParts", Phase::Resumed),
    ("ListMultipartUploads", Phase::Lost),
    ("AbortMultipartUpload", Phase::Lost),
    ("AbortMultipartUpload", Phase::Cancelled),
    ("forgotten", Phase::Cancelled),
];

/// Cells at a time: they wait more than they work.
const AT_ONCE: usize = 6;

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (step, phase) in STEPS.map(|step| (step, Phase::First)).into_iter().chain(OTHER_STEPS) {
        for files in [Files::OnePart, Files::ThreeParts] {
            for victim in [Victim::Agent, Victim::Server, Victim::Both] {
                for edge in [Edge::Before, Edge::After] {
                    cells.push(Cell { step, phase, files, victim, edge });
                }
            }
        }
    }
    cells
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_steps_is_what_a_download_does() {
    for files in [Files::OnePart, Files::ThreeParts] {
        let stage = Stage::begin().set().await;
        let path = stage.scene.site.random("report", files.bytes());
        let agent = stage.agent().start();
        let operator = stage.scene.operator();
        operator.sees(CLIENT, true).await;
        let asked = operator.ask(CLIENT, path.to_str().unwrap()).await;
        operator.completes(asked.id).await;
        stage.sees("forgotten").await;
        let mut seen: BTreeSet<String> = stage.steps.names().into_iter().collect();
        // A busy machine makes parts slow.
        seen.remove("progress");
        // The server counts what is not its own, once after its start.
        seen.remove("count");
        let listed: BTreeSet<String> = STEPS.iter().map(|step| (*step).to_owned()).collect();
        assert_eq!(seen, listed, "in the order {:?}", stage.steps.names());
        drop(agent);
        stage.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_at_whatever_step_the_file_comes_once_and_whole() {
    let started = Instant::now();
    let wanted = std::env::var("HOIST_KILL_CELLS").unwrap_or_default();
    let cells: Vec<Cell> =
        cells().into_iter().filter(|cell| cell.to_string().contains(wanted.as_str())).collect();
    let (places, mut running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let (mut names, mut outcomes) = (HashMap::new(), Vec::new());
    for (number, cell) in cells.iter().copied().enumerate() {
        let places = Arc::clone(&places);
        let task = running.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            cell.run().await
        });
        names.insert(task.id(), number);
    }
    while let Some(outcome) = running.join_next_with_id().await {
        outcomes.push(match outcome {
            Ok((id, what)) => (names[&id], Ok(what)),
            Err(failure) => (names[&failure.id()], Err(said(failure.into_panic()))),
        });
    }
    outcomes.sort_unstable();
    // Behind the name of the test stands no line of its own yet.
    println!();
    let mut untrue = 0;
    for (number, outcome) in &outcomes {
        match outcome {
            Ok(what) => println!("true   {}: {what}", cells[*number]),
            Err(why) => {
                untrue += 1;
                println!("UNTRUE {}: {why}", cells[*number]);
            }
        }
    }
    let (all, took) = (cells.len(), started.elapsed().as_secs());
    println!("kill matrix: {all} cells, {} true, {took} s", all - untrue);
    assert_eq!(untrue, 0, "cells are untrue: see above");
}

fn said(panic: Box<dyn std::any::Any + Send>) -> String {
    let panic = match panic.downcast::<String>() {
        Ok(text) => return *text,
        Err(other) => other,
    };
    panic.downcast::<&str>().map_or_else(|_| "a panic without words".to_owned(), |text| (*text).to_owned())
}
