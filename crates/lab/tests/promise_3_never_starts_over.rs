//! Promise 3: what storage has confirmed survives the death of agent, server, link, storage, grant and key, and no part
//! is sent again but those that were on their way. Deaths at every single step are the kill matrix's; see also `restarts`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hoist_lab::stage::CLIENT;
use hoist_lab::watch::{Edge, Ledger, Seen, Side, Stop};
use hoist_lab::{Operator, Stage, WITHIN, eventually};
use hoist_wire::rest::Download;
use hoist_wire::{DownloadId, ReasonCode};
use tempfile::TempDir;

pub(crate) const PART: u64 = 5 * 1024 * 1024;

/// Six parts of 5 MiB, and a short one.
pub(crate) const SEVEN_PARTS: u64 = 6 * PART + 77;

/// A PUT that is on its way to the bucket.
pub(crate) fn on_its_way(nth: usize) -> Stop {
    Stop { step: "UploadPart", nth, edge: Edge::Before }
}

/// Parts that the bucket has confirmed, each with how often it did.
pub(crate) fn confirmed(seen: &[Seen]) -> BTreeMap<u16, usize> {
    let mut parts = BTreeMap::new();
    for part in seen.iter().filter(|seen| seen.status == Some(200)).filter_map(|seen| seen.part) {
        *parts.entry(part).or_default() += 1;
    }
    parts
}

/// Waits for the end, and compares; each part was confirmed once.
pub(crate) async fn comes_whole(stage: &Stage, operator: &Operator, id: DownloadId, path: &Path) -> Download {
    let download = operator.completes(id).await;
    let count = u16::try_from(download.size_bytes.unwrap().div_ceil(PART)).unwrap();
    let parts: BTreeMap<u16, usize> = (1..=count).map(|part| (part, 1)).collect();
    assert_eq!(confirmed(&stage.steps.seen()), parts, "a part was confirmed twice, or never");
    let (bytes, _) = operator.fetch(id).await;
    assert!(bytes == std::fs::read(path).unwrap(), "the object has other bytes than the file");
    download
}

pub(crate) async fn ask(stage: &Stage, path: &Path) -> DownloadId {
    let operator = stage.scene.operator();
    operator.sees(CLIENT, true).await;
    operator.ask(CLIENT, path.to_str().unwrap()).await.id
}

/// Gives a folder on another filesystem than `path`, or, where there is none, on the same.
fn elsewhere(path: &Path) -> TempDir {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let memory = Path::new("/dev/shm");
    if device(memory).is_some() && device(memory) != device(path) {
        return tempfile::tempdir_in(memory).unwrap();
    }
    eprintln!("skipped: there is no other filesystem; the file gets another inode only");
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_comes_back_with_another_disk_goes_on_by_content() {
    let stage = Stage::begin().set().await;
    let operator = stage.scene.operator();
    let first = stage.scene.site.random("report", SEVEN_PARTS);
    let place = tempfile::tempdir().unwrap();
    let mount: PathBuf = place.path().join("mount");
    symlink(stage.scene.site.root(), &mount).unwrap();
    stage.steps.stop_at(on_its_way(4));
    let mut agent = stage.agent().root(&mount).start();
    let id = ask(&stage, &mount.join("report")).await;
    stage.steps.reached().await.unwrap();
    agent.kill();
    let ledger = Ledger::at(stage.steps.seen(), &[Side::Agent], stage.bucket.next_connection().await);
    // The same bytes under the same path: device, inode and times are others.
    let disk = elsewhere(&first);
    let second = disk.path().join("report");
    std::fs::copy(&first, &second).unwrap();
    std::fs::remove_file(&mount).unwrap();
    symlink(disk.path(), &mount).unwrap();
    stage.steps.go_on_without(&[Side::Agent]);
    agent.start_again();
    let download = comes_whole(&stage, &operator, id, &second).await;
    assert_eq!(download.attempt, 2, "another process reads anew");
    assert!(ledger.check(&stage.steps.seen(), 7) <= usize::try_from(4 * PART).unwrap());
    drop(agent);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sends_on_what_it_has_grants_for_while_its_link_is_down() {
    let stage = Stage::begin().set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    stage.steps.stop_at(on_its_way(2));
    let agent = stage.agent().start();
    let id = ask(&stage, &path).await;
    stage.steps.reached().await.unwrap();
    let before = confirmed(&stage.steps.seen()).len();
    stage.links.cut();
    operator.until(id, "the lost link", |download| download.reason == Some(ReasonCode::LinkLost)).await;
    stage.steps.go_on();
    eventually("a part that was sent without a link", WITHIN, || async {
        let now = confirmed(&stage.steps.seen()).len();
        if now > before { Ok(()) } else { Err(format!("{now} parts, as before")) }
    })
    .await;
    operator.sees(CLIENT, false).await;
    stage.links.mend();
    assert_eq!(comes_whole(&stage, &operator, id, &path).await.attempt, 1);
    let sent = stage.steps.seen().iter().filter(|seen| seen.part.is_some()).count();
    assert_eq!(sent, 7, "a part was sent twice");
    drop(agent);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_storage_costs_what_was_on_its_way() {
    let stage = Stage::begin().set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    stage.steps.stop_at(on_its_way(4));
    let agent = stage.agent().start();
    let id = ask(&stage, &path).await;
    stage.steps.reached().await.unwrap();
    let number = stage.bucket.next_connection().await;
    stage.bucket.cut();
    stage.steps.go_on_without(&[Side::Agent]);
    operator
        .until(id, "the outage", |download| download.reason == Some(ReasonCode::StorageUnreachable))
        .await;
    let ledger = Ledger::at(stage.steps.seen(), &[Side::Agent], number);
    stage.bucket.mend();
    assert_eq!(comes_whole(&stage, &operator, id, &path).await.attempt, 1);
    ledger.check(&stage.steps.seen(), 7);
    drop(agent);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_expire_on_their_way_cost_nothing_that_is_stored() {
    let stage = Stage::begin().env("S3_PRESIGNED_URL_EXPIRY", "2s").set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    stage.steps.stop_at(on_its_way(4));
    let agent = stage.agent().start();
    let id = ask(&stage, &path).await;
    stage.steps.reached().await.unwrap();
    let reached = Instant::now();
    eventually("the grants to be old", WITHIN, || async {
        let age = reached.elapsed();
        if age > Duration::from_secs(3) { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
    stage.steps.go_on();
    assert_eq!(comes_whole(&stage, &operator, id, &path).await.attempt, 1);
    let refused = stage.steps.seen().iter().filter(|seen| seen.status == Some(403)).count();
    assert!((1..=4).contains(&refused), "{refused} grants were refused");
    drop(agent);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_every_part_sends_no_part_twice() {
    let mut stage = Stage::begin().set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    // Stored, and nobody has heard of it.
    let stored = |nth| Stop { step: "UploadPart", nth, edge: Edge::After };
    stage.steps.stop_at(stored(1));
    let mut agent = stage.agent().env("MAX_PARTS_IN_FLIGHT", "1").start();
    let id = ask(&stage, &path).await;
    for nth in 1..=7 {
        stage.steps.reached().await.unwrap();
        agent.kill();
        if nth % 2 == 0 {
            stage.scene.server.kill();
        }
        stage.steps.go_on_without(&[Side::Agent]);
        if nth < 7 {
            stage.steps.stop_at(stored(nth + 1));
        }
        if nth % 2 == 0 {
            stage.scene.server.restart().await;
        }
        agent.start_again();
    }
    assert_eq!(comes_whole(&stage, &operator, id, &path).await.attempt, 8);
    let sent = stage.steps.seen().iter().filter(|seen| seen.part.is_some()).count();
    assert_eq!(sent, 7, "a part was sent twice");
    drop(agent);
    stage.finish().await;
}

/// Gives the regular files that a process has open for writing.
fn written_by(pid: u32) -> Vec<PathBuf> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open = files.filter_map(|file| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let may_write = u32::from_str_radix(flags.trim(), 8).unwrap() & 0b11 != 0;
        let target = std::fs::read_link(file.path()).ok()?;
        (may_write && std::fs::metadata(&target).is_ok_and(|meta| meta.is_file())).then_some(target)
    });
    open.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_keeps_nothing_of_a_download_on_its_disk() {
    let stage = Stage::begin().set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    stage.steps.stop_at(on_its_way(4));
    let agent = stage.agent().env("HOME", home.path()).env("TMPDIR", temporary.path()).start();
    let id = ask(&stage, &path).await;
    stage.steps.reached().await.unwrap();
    let mut written = written_by(agent.pid());
    // What it logs goes where the lab wants it.
    written.retain(|path| !path.extension().is_some_and(|is| is == "out" || is == "err"));
    assert_eq!(written, Vec::<PathBuf>::new(), "files that the agent writes to in the middle of a download");
    stage.steps.go_on();
    comes_whole(&stage, &operator, id, &path).await;
    for folder in [home.path(), temporary.path()] {
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{} is not empty", folder.display());
    }
    let at_the_site: Vec<_> = std::fs::read_dir(stage.scene.site.root()).unwrap().collect();
    assert_eq!(at_the_site.len(), 1, "{at_the_site:?}");
    drop(agent);
    // Its working folder is looked at here.
    stage.finish().await;
}
