//! Ends that are no success, and refusals that are only for now.

use hoist_lab::Scene;
use hoist_wire::rest::Download;
use hoist_wire::to_server::{Finished, Refused, ToServer};
use hoist_wire::{Attempt, Crc64, ErrorCode, Outcome, ReasonCode, State};
use serde_json::json;

fn refusal(fetch: &hoist_wire::to_agent::Fetch, code: ErrorCode, retry_after_ms: Option<u64>) -> ToServer {
    let message = "said by the lab\nwith a \u{1b}[31mred\u{1b}[0m word".to_owned();
    let (download_id, attempt) = (fetch.download_id, fetch.attempt);
    ToServer::Refused(Refused { download_id, attempt, code, message, retry_after_ms })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_takes_expires_and_says_what_it_waited_for() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let body = json!({"file_path": "report", "ttl_secs": 1, "allow_unknown": true});
    let asked = operator.ask_with("restaurant-9", &body).await;
    assert_eq!(asked.expires_at.ms_since(asked.created_at), 1000);
    let download = operator.ends(asked.id).await;
    assert_eq!(download.state, State::Expired);
    let error = download.error.unwrap();
    assert_eq!(error.code, ErrorCode::Expired);
    assert!(error.message.contains("client_offline"), "{}", error.message);
    let late = operator.delete(&format!("/downloads/{}", asked.id)).await;
    assert_eq!((late.status, late.problem().as_str()), (409, "already_final"));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stalls_past_its_deadline_expires_and_leaves_nothing() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let body = json!({"file_path": "report", "ttl_secs": 2});
    let asked = operator.ask_with("restaurant-1", &body).await;
    let job = agent.take(vec![1; 6_000_000]).await;
    agent.grant(&job, 1).await;
    let download = operator.ends(asked.id).await;
    assert_eq!(download.state, State::Expired);
    let forget = agent.hear_forget().await;
    assert_eq!((forget.download_id, forget.outcome), (asked.id, Outcome::Expired));
    agent.say(&job.forgotten()).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_may_wait_are_refused_for_now() {
    let scene = Scene::trial().env("MAX_OPEN_PER_CLIENT", "2").start().await;
    let operator = scene.operator();
    let body = json!({"file_path": "report", "allow_unknown": true});
    let first = operator.ask_with("restaurant-9", &body).await;
    let second = operator.ask_with("restaurant-9", &body).await;
    let third = operator.post("/trigger-download/restaurant-9", &body).await;
    assert_eq!((third.status, third.problem().as_str()), (429, "queue_full"));
    assert_eq!(operator.delete(&format!("/downloads/{}", first.id)).await.status, 200);
    let third = operator.ask_with("restaurant-9", &body).await;
    for id in [second.id, third.id] {
        assert_eq!(operator.delete(&format!("/downloads/{id}")).await.status, 200);
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_refuses_for_now_is_asked_again() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let first = agent.hear_fetch().await;
    agent.say(&refusal(&first, ErrorCode::FileLocked, Some(1000))).await;
    let waits = operator.until(asked.id, "the queue", |download| download.state == State::Queued).await;
    assert_eq!(waits.reason, Some(ReasonCode::FileLocked));
    let message = waits.reason_message.unwrap();
    assert!(!message.contains(char::is_control), "control characters end on terminals: {message:?}");
    assert_eq!(agent.hear_forget().await.outcome, Outcome::Requeued);
    let again = agent.hear_fetch().await;
    assert_eq!((again.download_id, again.attempt), (asked.id, Attempt(2)));
    let job = agent.offer(again, vec![1; 100]).await;
    let grant = agent.grant(&job, 1).await;
    let (status, etag) = scene.storage.put_to(grant.url.open(), &grant, &[], job.part(1)).await;
    assert_eq!(status, 200);
    agent.say(&job.receipt(1, &etag)).await;
    agent.say(&job.finished()).await;
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_in_each_of_three_passes_is_given_up() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    for pass in 1..=3 {
        let fetch = agent.hear_fetch().await;
        assert_eq!((fetch.download_id, fetch.attempt), (asked.id, Attempt(pass)));
        agent.say(&refusal(&fetch, ErrorCode::FileChanged, None)).await;
    }
    let (code, message) = operator.fails(asked.id).await;
    assert_eq!(code, "file_changes_too_often");
    assert!(message.contains("3 passes") && message.contains("when nothing writes"), "{message}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_do_not_add_up_complete_nothing() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![1; 100]).await;
    let grant = agent.grant(&job, 1).await;
    let (status, etag) = scene.storage.put_to(grant.url.open(), &grant, &[], job.part(1)).await;
    assert_eq!(status, 200);
    agent.say(&job.receipt(1, &etag)).await;
    let ToServer::Finished(right) = job.finished() else { panic!("finished is finished") };
    let wrong = Finished { crc64nvme: Crc64(right.crc64nvme.0 ^ 1), ..right };
    agent.say(&ToServer::Finished(wrong)).await;
    // The pass is void: it is read again, and now everything agrees.
    let again = agent.hear_fetch().await;
    assert_eq!((again.download_id, again.attempt), (asked.id, Attempt(2)));
    assert_eq!(operator.show(asked.id).await.reason, Some(ReasonCode::FileChanged));
    let job = agent.offer(again, job.bytes).await;
    assert_eq!(agent.ask(&job, 1).await, hoist_wire::to_agent::Answer::Stored);
    agent.say(&job.finished()).await;
    let download: Download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 2);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_metadata_and_the_page_of_a_client_show_what_was_asked() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 100);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let body = json!({"file_path": path, "metadata": {"day": "2026-11-24 ä"}});
    let asked = operator.ask_with("restaurant-1", &body).await;
    let download = operator.completes(asked.id).await;
    assert_eq!(download.metadata["day"], "2026-11-24 ä");
    let status = operator.get("/status/restaurant-1").await.json();
    assert_eq!(
        (&status["connected"], status["recent"][0]["id"].as_str()),
        (&json!(true), Some(&*asked.id.to_string()))
    );
    assert_eq!(status["current"], json!([]));
    scene.finish().await;
}
