//! Promise 6: each upload ends completed or aborted, and nothing that is not ours is touched.

use std::path::Path;

use hoist_lab::site::sha256;
use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::State;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::own_bucket::own_bucket;

const MIB: u64 = 1024 * 1024;

/// Uploads of others in the bucket: two pages of a listing. Ten thousand pass as well; to make and remove them takes a
/// minute and a half.
const FOREIGN: usize = 1_200;

/// Where they are: among the keys of our own client, and one that begins like any of ours.
const FOREIGN_KEYS: &str = "hoist/restaurant-1/20200101-";

/// What `/ready` says of a check.
async fn ready(scene: &Scene, check: &str) -> Result<Value, String> {
    let page = scene.operator().get("/ready").await.json();
    let checks = page["bucket_checks"].as_array().unwrap();
    checks.iter().find(|found| found["name"] == check).cloned().ok_or_else(|| page.to_string())
}

async fn make_foreign_uploads(scene: &Scene) {
    let mut tasks = JoinSet::new();
    for worker in 0..8 {
        let storage = scene.storage.clone();
        tasks.spawn(async move {
            for number in (worker..FOREIGN).step_by(8) {
                storage.create_upload(&format!("{FOREIGN_KEYS}{number}")).await;
            }
        });
    }
    tasks.join_all().await;
}

/// Brings one file, and cancels another in its middle: what the reaper has to do.
async fn bring_and_cancel(scene: &Scene) {
    let operator = scene.operator();
    let large = scene.site.random("large", 20 * MIB);
    let small = scene.site.random("small", 1000);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let done = operator.ask("restaurant-1", small.to_str().unwrap()).await;
    operator.completes(done.id).await;
    scene.proxy().hold(|passed, _| passed.part().is_some_and(|part| part > 1));
    let given_up = operator.ask("restaurant-1", large.to_str().unwrap()).await;
    operator.until(given_up.id, "a stored part", |download| download.stored_bytes > 0).await;
    assert_eq!(operator.delete(&format!("/downloads/{}", given_up.id)).await.status, 200);
    scene.proxy().release();
    let key = operator.show(given_up.id).await.object_key.unwrap();
    eventually("the abort", WITHIN, || async {
        let open = scene.storage.open_uploads().await?;
        if open.contains(&key) { Err("it is open".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_uploads_of_others_are_counted_and_left_alone() {
    let mut scene = Scene::earnest().proxied_for_agents().start().await;
    scene.disregard(FOREIGN_KEYS);
    eventually("the first census", WITHIN, || ready(&scene, "foreign_uploads")).await;
    make_foreign_uploads(&scene).await;
    scene.server.kill();
    scene.server.restart().await;
    let found = eventually("the census", WITHIN, || ready(&scene, "foreign_uploads")).await;
    assert!(found["detail"].as_str().unwrap().starts_with(&format!("{FOREIGN} open uploads")), "{found}");
    assert_eq!(found["verdict"], "ok", "they are nobody's fault");
    bring_and_cancel(&scene).await;
    let left = scene.storage.open_uploads().await.unwrap();
    assert_eq!(left.len(), FOREIGN, "an upload of somebody else is gone");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_bucket_and_prefix_do_not_touch_each_others_uploads() {
    let folder = tempfile::tempdir().unwrap();
    let (_depot, place) = own_bucket(folder.path()).await;
    let ours = Scene::on(&place).proxied_for_agents().start().await;
    let mut theirs = Scene::on(&place).proxied_for_agents().start().await;
    // The same client, and the same file, on both.
    let path = ours.site.random("report", 20 * MIB);
    let operator = ours.operator();
    ours.proxy().hold(|passed, _| passed.part().is_some_and(|part| part > 1));
    let _agent = ours.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    operator.until(asked.id, "a stored part", |download| download.stored_bytes > 0).await;
    let key = operator.show(asked.id).await.object_key.unwrap();

    {
        let (operator, large) = (theirs.operator(), theirs.site.random("large", 20 * MIB));
        let _agent = theirs.agent("restaurant-1").start();
        operator.sees("restaurant-1", true).await;
        let done = operator.ask("restaurant-1", large.to_str().unwrap()).await;
        operator.completes(done.id).await;
    }
    bring_and_cancel(&theirs).await;
    theirs.server.kill();
    theirs.server.restart().await;
    let found = eventually("their census", WITHIN, || ready(&theirs, "foreign_uploads")).await;
    assert!(found["detail"].as_str().unwrap().starts_with("1 open uploads"), "{found}");
    assert_eq!(ours.storage.open_uploads().await.unwrap(), [key], "only ours is open, and still is");

    ours.proxy().release();
    let download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 1);
    let (bytes, _) = operator.fetch(asked.id).await;
    assert_eq!(sha256(&bytes), sha256(&std::fs::read(&path).unwrap()));
    ours.finish().await;
    theirs.finish().await;
}

/// Copies the database of a server that is down.
fn copy_database(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_yesterday_overwrites_nothing_that_was_completed_since() {
    let mut scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 20 * MIB);
    let queued = scene.site.random("queued", 1000);
    let was = [&path, &queued].map(|path| sha256(&std::fs::read(path).unwrap()));
    scene.proxy().hold(|passed, _| passed.part().is_some_and(|part| part > 1));
    let mut agent = scene.agent("restaurant-1").env("AGENT_SLOTS", "1").start();
    operator.sees("restaurant-1", true).await;
    let first = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    let second = operator.ask("restaurant-1", queued.to_str().unwrap()).await;
    operator.until(first.id, "a stored part", |download| download.stored_bytes > 0).await;
    assert!(scene.server.terminate().await.success());
    let backup = scene.folder().join("backup");
    copy_database(scene.server.data_dir(), &backup);

    // A day goes on: both are completed, and one more that the backup knows nothing of.
    scene.proxy().release();
    scene.server.restart().await;
    let third = operator.ask("restaurant-1", queued.to_str().unwrap()).await;
    let mut completed = Vec::new();
    for asked in [first.id, second.id, third.id] {
        completed.push(operator.completes(asked).await.object_key.unwrap());
    }
    let mut heads = Vec::new();
    for key in &completed {
        heads.push(scene.storage.head(key).await.unwrap());
    }

    // The database is lost, and the site has written new files meanwhile.
    assert!(scene.server.terminate().await.success());
    agent.kill();
    copy_database(&backup, scene.server.data_dir());
    for name in ["report", "queued"] {
        scene.site.random(name, 6 * MIB);
    }
    scene.server.restart().await;
    agent.start_again();
    for (asked, is) in [(first.id, &path), (second.id, &queued)] {
        let download = operator.completes(asked).await;
        assert!(!completed.contains(&download.object_key.unwrap()), "a key was used again");
        let (bytes, _) = operator.fetch(asked).await;
        assert_eq!(sha256(&bytes), sha256(&std::fs::read(is).unwrap()));
        assert!(!was.contains(&sha256(&bytes)));
    }
    assert_eq!(operator.get(&format!("/downloads/{}", third.id)).await.status, 404);
    for (key, head) in completed.iter().zip(heads) {
        assert_eq!(scene.storage.head(key).await, Some(head), "{key} is not what it was");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_survives_the_servers_death_right_after_the_cancel() {
    let mut scene = Scene::earnest().proxied_for_all().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 20 * MIB);
    scene.proxy().hold(|passed, _| passed.part().is_some_and(|part| part > 1) || passed.method == "DELETE");
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    let download = operator.until(asked.id, "a stored part", |download| download.stored_bytes > 0).await;
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    scene.server.kill();
    assert_eq!(scene.storage.open_uploads().await.unwrap(), [download.object_key.unwrap()]);
    scene.proxy().release();
    scene.server.restart().await;
    assert_eq!(operator.show(asked.id).await.state, State::Cancelled);
    scene.finish().await;
}
