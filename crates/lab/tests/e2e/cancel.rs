//! Cancelling, in each state of a download's life.

use std::time::Duration;

use hoist_lab::{Scene, ThinLink, WITHIN, eventually};
use hoist_wire::rest::Download;
use hoist_wire::{Outcome, ReasonCode, State};

use crate::own_bucket::own_bucket;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_of_a_cancelled_upload_stop_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let (depot, place) = own_bucket(folder.path()).await;
    let mut line = ThinLink::new(1_000_000, Duration::from_millis(10));
    let public = format!("http://{}", line.to(&depot.addr().to_string()));
    let scene = Scene::on(&place).env("S3_PUBLIC_ENDPOINT_URL", &public).start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 60_000_000);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    eventually("bytes on the line", WITHIN, || async {
        if line.sent() > 500_000 { Ok(()) } else { Err(line.sent().to_string()) }
    })
    .await;
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    // The promise is a second; a busy machine is given two more.
    eventually("the line to be quiet", Duration::from_secs(3), || async {
        if line.open() == 0 { Ok(()) } else { Err(format!("{} connections", line.open())) }
    })
    .await;
    let sent = line.sent();
    assert!(sent < 10_000_000, "{sent} bytes left before anybody stopped");
    eventually("the abort", WITHIN, || async {
        let open = scene.storage.open_uploads().await?;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert_eq!(line.sent(), sent, "bytes left after the connections were closed");
    assert_eq!(operator.show(asked.id).await.state, State::Cancelled);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_agent_is_gone_is_cancelled_and_the_agent_hears_it_when_it_is_back() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![1; 6_000_000]).await;
    let grant = agent.grant(&job, 1).await;
    drop(agent);
    operator.until(asked.id, "link_lost", |it| it.reason == Some(ReasonCode::LinkLost)).await;
    let path = format!("/downloads/{}", asked.id);
    for _ in 0..2 {
        let reply = operator.delete(&path).await;
        assert_eq!((reply.status, reply.parse::<Download>().state), (200, State::Cancelled));
    }
    eventually("the abort", WITHIN, || async {
        let open = scene.storage.open_uploads().await?;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    // What it held is worth nothing any more.
    assert_ne!(scene.storage.put(&grant, job.part(1)).await, 200);
    let (port, token) = (scene.server.port(), scene.agent_token("restaurant-1"));
    let mut agent = hoist_lab::ScriptedAgent::dial_with(port, &token, 1, vec![job.busy()]).await;
    let forget = agent.hear_forget().await;
    assert_eq!((forget.download_id, forget.outcome), (asked.id, Outcome::Cancelled));
    // The slot is free once the agent has let go.
    let next = operator.ask("restaurant-1", "another").await;
    agent.say(&job.forgotten()).await;
    assert_eq!(agent.hear_fetch().await.download_id, next.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", next.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_cannot_be_cancelled_any_more() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let file = scene.site.random("report", 100);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let done = operator.ask("restaurant-1", file.to_str().unwrap()).await;
    operator.completes(done.id).await;
    let failed = operator.ask("restaurant-1", scene.site.path("absent").to_str().unwrap()).await;
    operator.fails(failed.id).await;
    for (id, state) in [(done.id, State::Completed), (failed.id, State::Failed)] {
        let before = operator.show(id).await;
        let reply = operator.delete(&format!("/downloads/{id}")).await;
        assert_eq!((reply.status, reply.problem().as_str()), (409, "already_final"), "{state}");
        assert_eq!(operator.show(id).await, before, "{state} moved");
    }
    scene.finish().await;
}
