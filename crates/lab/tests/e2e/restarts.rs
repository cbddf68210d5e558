//! Whatever dies, the download goes on, and what storage has is not sent again.

use std::collections::BTreeSet;

use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::to_agent::Answer;
use hoist_wire::{ReasonCode, State};

/// Six parts of 5 MiB, and a short one.
const SEVEN_PARTS: u64 = 6 * 5 * 1024 * 1024 + 77;

/// How a server goes.
#[derive(Clone, Copy)]
enum Death {
    Kill,
    Terminate,
}

async fn die(scene: &mut Scene, death: Death) {
    match death {
        Death::Kill => scene.server.kill(),
        Death::Terminate => assert!(scene.server.terminate().await.success()),
    }
}

async fn queued_downloads_live_on(death: Death) {
    let mut scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 6_000_000);
    let mut agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    agent.kill();
    operator.sees("restaurant-1", false).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    die(&mut scene, death).await;
    scene.server.restart().await;
    let found = operator.show(asked.id).await;
    assert_eq!((found.state, found.created_at), (State::Queued, asked.created_at));
    agent.start_again();
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_has_its_queue_when_it_is_back() {
    queued_downloads_live_on(Death::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_has_its_queue_when_it_is_back() {
    queued_downloads_live_on(Death::Terminate).await;
}

/// Holds an upload after three parts, ends the server, and checks that the rest and only the rest is sent.
async fn uploads_go_on(death: Death) {
    let mut scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", SEVEN_PARTS);
    scene.proxy().hold_parts_after(3);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    operator
        .until(asked.id, "three stored parts", |download| download.stored_bytes >= 3 * 5 * 1024 * 1024)
        .await;
    die(&mut scene, death).await;
    // The agent goes on with the grants that it has.
    scene.proxy().release();
    scene.server.restart().await;
    let download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 1, "the agent still had the attempt");
    assert_eq!(scene.proxy().confirmed_parts(), [1, 2, 3, 4, 5, 6, 7], "a part was sent twice, or never");
    let (bytes, _) = operator.fetch(asked.id).await;
    assert!(bytes == std::fs::read(path).unwrap());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_while_the_server_is_killed_and_comes_back() {
    uploads_go_on(Death::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_while_the_server_is_stopped_and_comes_back() {
    uploads_go_on(Death::Terminate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_server_that_is_killed_with_its_bucket_loses_nothing() {
    let mut scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 200_000_000);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    operator.until(asked.id, "a stored part", |download| download.stored_bytes > 0).await;
    scene.server.kill();
    scene.server.restart().await;
    operator.completes(asked.id).await;
    let (bytes, _) = operator.fetch(asked.id).await;
    assert!(bytes == std::fs::read(path).unwrap());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_completes_settles_when_it_is_back() {
    let mut scene = Scene::earnest().proxied_for_all().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 6_000_000);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    scene.proxy().hold(|passed, _| passed.is_complete());
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    operator.until(asked.id, "completing", |download| download.state == State::Completing).await;
    scene.server.kill();
    scene.proxy().release();
    scene.server.restart().await;
    assert_eq!(operator.completes(asked.id).await.attempt, 1);
    assert_eq!(scene.proxy().confirmed_parts().iter().collect::<BTreeSet<_>>().len(), 2);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_goes_on_where_storage_is() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", SEVEN_PARTS);
    scene.proxy().hold_parts_after(3);
    let mut agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    eventually("three parts in storage", WITHIN, || async {
        let seen = scene.proxy().seen();
        if scene.proxy().confirmed_parts().len() == 3 && seen.iter().any(|passed| passed.status.is_none()) {
            Ok(())
        } else {
            Err(format!("{:?}", scene.proxy().confirmed_parts()))
        }
    })
    .await;
    let before: BTreeSet<u16> = scene.proxy().confirmed_parts().into_iter().collect();
    agent.kill();
    let lost = operator
        .until(asked.id, "the lost link", |download| download.reason == Some(ReasonCode::LinkLost))
        .await;
    assert_eq!(lost.state, State::Uploading);
    agent.start_again();
    operator.sees("restaurant-1", true).await;
    let seen = scene.proxy().seen().len();
    scene.proxy().release();
    let download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 2, "another process reads anew");
    let after = &scene.proxy().seen()[seen..];
    let again: Vec<u16> =
        after.iter().filter_map(|passed| passed.part()).filter(|part| before.contains(part)).collect();
    assert!(again.is_empty(), "stored parts {again:?} were sent again");
    let (bytes, _) = operator.fetch(asked.id).await;
    assert!(bytes == std::fs::read(path).unwrap());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_link_is_told_what_storage_has() {
    let mut scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![7; 6_000_000]).await;
    let grant = agent.grant(&job, 1).await;
    // The part is stored, and the server dies before it hears of it.
    assert_eq!(scene.storage.put(&grant, job.part(1)).await, 200);
    scene.server.kill();
    scene.server.restart().await;
    let token = scene.agent_token("restaurant-1");
    let port = scene.server.port();
    let mut agent = hoist_lab::ScriptedAgent::dial_with(port, &token, 2, vec![job.busy()]).await;
    assert_eq!(agent.hear_fetch().await, job.fetch, "the same attempt goes on");
    let job = agent.offer(job.fetch.clone(), job.bytes.clone()).await;
    assert_eq!(agent.ask(&job, 1).await, Answer::Stored);
    let grant = agent.grant(&job, 2).await;
    let (status, etag) = scene.storage.put_to(grant.url.open(), &grant, &[], job.part(2)).await;
    assert_eq!(status, 200);
    agent.say(&job.receipt(2, &etag)).await;
    agent.say(&job.finished()).await;
    operator.completes(asked.id).await;
    scene.finish().await;
}
