//! Promise 3: what storage has confirmed survives the death of agent, server, link, storage, grant and key, and no part
//! is sent again but those that were on their way. Deaths at every single step are the kill matrix's; see also `restarts`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hoist_lab::stage::CLIENT;
use hoist_lab::watch::{Edge, Ledger, Seen, Side, Stop};
use hoist_lab::{Operator, ScriptedAgent, Stage, WITHIN, eventually};
use hoist_wire::rest::Download;
use hoist_wire::{DownloadId, ReasonCode};
use tempfile::TempDir;

const PART: u64 = 5 * 1024 * 1024;

/// Six parts of 5 MiB, and a short one.
const SEVEN_PARTS: u64 = 6 * PART + 77;

/// A PUT that is on its way to the bucket.
fn on_its_way(nth: usize) -> Stop {
    Stop { step: "UploadPart", nth, edge: Edge::Before }
}

/// Parts that the bucket has confirmed, each with how often it did.
fn confirmed(seen: &[Seen]) -> BTreeMap<u16, usize> {
    let mut parts = BTreeMap::new();
    for part in seen.iter().filter(|seen| seen.status == Some(200)).filter_map(|seen| seen.part) {
        *parts.entry(part).or_default() += 1;
    }
    parts
}

/// Waits for the end, and compares; each part was confirmed once.
async fn comes_whole(stage: &Stage, operator: &Operator, id: DownloadId, path: &Path) -> Download {
    let download = operator.completes(id).await;
    let parts: BTreeMap<u16, usize> = (1..=7).map(|part| (part, 1)).collect();
    assert_eq!(confirmed(&stage.steps.seen()), parts, "a part was confirmed twice, or never");
    let (bytes, _) = operator.fetch(id).await;
    assert!(bytes == std::fs::read(path).unwrap(), "the object has other bytes than the file");
    download
}

async fn ask(stage: &Stage, path: &Path) -> DownloadId {
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

/// Long enough that the server's own calls are made in time on a busy machine.
const KEY_LIFE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_end_twice_under_a_download_cost_nothing_that_is_stored() {
    let stage = Stage::begin().keys_that_live(KEY_LIFE).set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    // One at a time: while one is held, no other overtakes it.
    let agent = stage.agent().env("MAX_PARTS_IN_FLIGHT", "1").start();
    stage.steps.stop_at(on_its_way(2));
    let id = ask(&stage, &path).await;
    for _ in 0..2 {
        stage.steps.reached().await.unwrap();
        let key = stage.keys().keys().pop().unwrap();
        eventually("the key to end", WITHIN, || async {
            if key.is_over() { Ok(()) } else { Err(format!("{key:?}")) }
        })
        .await;
        // The PUT goes on with a grant of a dead key, and is the first of two; the next but one is held again.
        let puts = stage.steps.seen().iter().filter(|seen| seen.part.is_some()).count();
        stage.steps.go_on_to(on_its_way(puts + 2));
    }
    stage.steps.reached().await.unwrap();
    stage.steps.go_on();
    assert_eq!(comes_whole(&stage, &operator, id, &path).await.attempt, 1);
    let seen = stage.steps.seen();
    let refused: Vec<Option<u16>> = seen
        .iter()
        .filter(|seen| seen.part.is_some())
        .map(|seen| seen.status)
        .filter(|it| *it != Some(200))
        .collect();
    assert!(!refused.is_empty() && refused.iter().all(|status| *status == Some(400)), "{refused:?}");
    assert!(stage.keys().keys().len() >= 3, "{:?}", stage.keys().keys());
    drop(agent);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_ends_no_later_than_the_key_that_signed_it() {
    let stage = Stage::begin().keys_that_live(KEY_LIFE).set().await;
    let operator = stage.scene.operator();
    let mut agent: ScriptedAgent = stage.scene.scripted(CLIENT).await;
    let asked = operator.ask(CLIENT, "report").await;
    let job = agent.take(vec![7; 1000]).await;
    let mut signed_by: Vec<String> = Vec::new();
    while signed_by.len() < 3 {
        let grant = agent.grant(&job, 1).await;
        let url = grant.url.open();
        let keys = stage.keys().keys();
        let key = keys.iter().find(|key| url.contains(&key.access_key)).unwrap().clone();
        let said = grant.expires_in_secs;
        // Signed with more than half of the key's life to come, in whole seconds.
        assert!((2..=6).contains(&said), "{said} s, and the key lives for {KEY_LIFE:?}");
        assert!(url.contains(&format!("X-Amz-Expires={said}&")), "the URL says something else");
        assert!(!signed_by.contains(&key.access_key), "{} signs past half of its life", key.access_key);
        signed_by.push(key.access_key.clone());
        eventually("half of the key's life to be over", WITHIN, || async {
            let left = key.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
            if left <= KEY_LIFE / 2 { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    drop(agent);
    stage.finish().await;
}
