//! Cancelling, in each state of a download's life.

use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::rest::Download;
use hoist_wire::{Outcome, State};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_download_is_cancelled_and_never_starts() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    drop(scene.scripted("restaurant-1").await);
    operator.sees("restaurant-1", false).await;
    let asked = operator.ask("restaurant-1", "report").await;
    let path = format!("/downloads/{}", asked.id);
    for _ in 0..2 {
        let reply = operator.delete(&path).await;
        assert_eq!(reply.status, 200);
        let download: Download = reply.parse();
        assert_eq!(download.state, State::Cancelled);
        let error = download.error.unwrap();
        assert_eq!(error.code.as_str(), "cancelled");
        assert!(error.message.contains("trial"), "who did it: {}", error.message);
    }
    // The next one to come is asked for another file.
    let mut agent = scene.scripted("restaurant-1").await;
    let next = operator.ask("restaurant-1", "another").await;
    assert_eq!(agent.hear_fetch().await.download_id, next.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", next.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_a_cancelled_upload_is_told_and_the_upload_is_aborted() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![1; 6_000_000]).await;
    let grant = agent.grant(&job, 1).await;
    assert_eq!(scene.storage.put(&grant, job.part(1)).await, 200);
    assert_eq!(scene.storage.open_uploads().await.unwrap().len(), 1);
    let path = format!("/downloads/{}", asked.id);
    assert_eq!(operator.delete(&path).await.status, 200);
    let forget = agent.hear_forget().await;
    assert_eq!((forget.download_id, forget.outcome), (asked.id, Outcome::Cancelled));
    // What the agent still says of it changes nothing.
    agent.say(&job.receipt(1, &"0".repeat(32))).await;
    agent.say(&job.finished()).await;
    agent.say(&job.forgotten()).await;
    eventually("the upload to be aborted", WITHIN, || async {
        let open = scene.storage.open_uploads().await?;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    let reply = operator.delete(&path).await;
    assert_eq!((reply.status, reply.parse::<Download>().state), (200, State::Cancelled));
    assert_eq!(operator.get(&format!("{path}/file")).await.problem(), "not_completed");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_agent_stops_sending_what_is_cancelled() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let large = scene.site.random("large", 60_000_000);
    let small = scene.site.random("small", 100);
    scene.proxy().hold_parts_after(2);
    // One slot: the second download starts only when the agent has let go of the first.
    let _agent = scene.agent("restaurant-1").env("AGENT_SLOTS", "1").start();
    operator.sees("restaurant-1", true).await;
    let first = operator.ask("restaurant-1", large.to_str().unwrap()).await;
    let second = operator.ask("restaurant-1", small.to_str().unwrap()).await;
    eventually("a part that is held back", WITHIN, || async {
        let held = scene.proxy().seen().iter().any(|passed| passed.status.is_none());
        if held { Ok(()) } else { Err("none is".to_owned()) }
    })
    .await;
    assert_eq!(operator.delete(&format!("/downloads/{}", first.id)).await.status, 200);
    let id = first.id.to_string();
    scene.proxy().hold(move |passed, _| passed.target.contains(&id));
    operator.completes(second.id).await;
    scene.proxy().release();
    let download = operator.show(first.id).await;
    assert_eq!(download.state, State::Cancelled);
    assert_eq!(scene.storage.head(&download.object_key.unwrap()).await, None);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_completed_is_too_late_to_cancel() {
    let scene = Scene::earnest().proxied_for_all().start().await;
    let operator = scene.operator();
    let file = scene.site.random("report", 100);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    scene.proxy().hold(|passed, _| passed.is_complete());
    let asked = operator.ask("restaurant-1", file.to_str().unwrap()).await;
    operator.until(asked.id, "completing", |download| download.state == State::Completing).await;
    let path = format!("/downloads/{}", asked.id);
    let reply = operator.delete(&path).await;
    assert_eq!((reply.status, reply.problem().as_str()), (409, "too_late"));
    assert_eq!(operator.get(&format!("{path}/file")).await.problem(), "not_completed");
    scene.proxy().release();
    operator.completes(asked.id).await;
    let reply = operator.delete(&path).await;
    assert_eq!((reply.status, reply.problem().as_str()), (409, "already_final"));
    assert_eq!(operator.show(asked.id).await.state, State::Completed);
    scene.finish().await;
}
