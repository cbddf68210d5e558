//! How fast a file comes up: asked for, changed while it comes, kept, and refused where it is no rate.

use hoist_lab::{Operator, Scene};
use hoist_wire::rest::{Download, Scope};
use hoist_wire::{DownloadId, ReasonCode, State};
use serde_json::{Value, json};

/// At 2 KiB/s this takes three quarters of an hour: whatever is seen to move, does not end by itself.
const SIZE: u64 = 6_000_000;
const SLOW: u64 = 2048;

async fn limit(operator: &Operator, id: DownloadId, rate: Option<u64>) -> Download {
    let body = json!({"max_rate_bytes_per_sec": rate});
    let reply = operator.patch(&format!("/downloads/{id}"), &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.parse()
}

async fn ask_slowly(scene: &Scene, operator: &Operator) -> (DownloadId, Vec<u8>) {
    let path = scene.site.random("report", SIZE);
    let body = json!({"file_path": path.to_str().unwrap(), "max_rate_bytes_per_sec": SLOW});
    let asked = operator.ask_with("restaurant-1", &body).await;
    assert_eq!(asked.max_rate_bytes_per_sec, Some(SLOW));
    (asked.id, std::fs::read(path).unwrap())
}

async fn until_moving(operator: &Operator, id: DownloadId) -> Download {
    operator.until(id, "bytes on their way", |download| download.sent_bytes > 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upload_says_so_and_ends_soon_once_its_limit_is_lifted() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let (id, bytes) = ask_slowly(&scene, &operator).await;
    let slow = operator
        .until(id, "the rate as the reason", |download| download.reason == Some(ReasonCode::PausedByRate))
        .await;
    let message = slow.reason_message.unwrap();
    assert!(message.contains("limited to 2048"), "{message}");
    assert!(slow.state == State::Uploading && slow.sent_bytes < SIZE / 2, "{} bytes", slow.sent_bytes);
    assert_eq!(limit(&operator, id, None).await.max_rate_bytes_per_sec, None);
    let done = operator.completes(id).await;
    assert_eq!(done.attempt, 1);
    assert!(operator.fetch(id).await.0 == bytes);
    let late = operator.patch(&format!("/downloads/{id}"), &json!({"max_rate_bytes_per_sec": null})).await;
    assert_eq!((late.status, late.problem().as_str()), (409, "already_final"));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_outlives_the_server_and_the_command_line_lifts_it() {
    let mut scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let (id, bytes) = ask_slowly(&scene, &operator).await;
    until_moving(&operator, id).await;
    scene.server.kill();
    scene.server.restart().await;
    operator.sees("restaurant-1", true).await;
    let slow = until_moving(&operator, id).await;
    assert_eq!((slow.state, slow.max_rate_bytes_per_sec), (State::Uploading, Some(SLOW)));
    let token = scene.operator_token(&[Scope::Read, Scope::Download]);
    let cli = scene.cli().env("OPERATOR_TOKEN", &token);
    let shown = cli.run(&["show", &id.to_string()]).await;
    assert!(shown.stdout.contains("max rate   2048 bytes/s"), "{}", shown.stdout);
    let lifted = cli.run(&["limit", &id.to_string(), "none"]).await;
    assert_eq!(lifted.code, 0, "{}", lifted.stderr);
    assert_eq!(operator.completes(id).await.attempt, 1);
    assert!(operator.fetch(id).await.0 == bytes);
    assert_eq!(cli.run(&["limit", &id.to_string(), "2Mbit"]).await.code, 7, "it is final");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_changes_while_its_client_is_away() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let body = json!({"file_path": "report", "allow_unknown": true, "max_rate_bytes_per_sec": 1024});
    let asked = operator.ask_with("restaurant-1", &body).await;
    let changed = limit(&operator, asked.id, Some(250_000)).await;
    assert_eq!((changed.state, changed.reason), (asked.state, asked.reason));
    let mut agent = scene.scripted("restaurant-1").await;
    let fetch = agent.hear_fetch().await;
    assert_eq!(fetch.max_rate_bytes_per_sec, Some(250_000));
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_limits_itself_and_a_bad_limit_stops_its_start() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    for bad in ["fast", "1KB", "-5"] {
        let mut agent = scene.agent("restaurant-1").env("MAX_RATE", bad).start();
        assert_eq!(agent.exit().await.code(), Some(2), "{bad}");
        assert!(agent.log().contains("--max-rate") && agent.log().contains("rate"), "{}", agent.log());
    }
    let path = scene.site.random("report", 20_000);
    let _agent = scene.agent("restaurant-1").env("MAX_RATE", "64Kbit").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    operator.completes(asked.id).await;
    assert!(operator.fetch(asked.id).await.0 == std::fs::read(path).unwrap());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_rate_is_refused_and_changes_nothing() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let bad = [json!(0), json!(1023), json!(-1), json!(1.5), json!("2Mbit"), json!(u64::MAX), json!(true)];
    for rate in &bad {
        let body = json!({"file_path": "x", "allow_unknown": true, "max_rate_bytes_per_sec": rate});
        let reply = operator.post("/trigger-download/restaurant-1", &body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid_request"), "{rate}");
    }
    assert!(operator.downloads().await.is_empty());
    let body = json!({"file_path": "x", "allow_unknown": true, "max_rate_bytes_per_sec": 1024});
    let asked = operator.ask_with("restaurant-1", &body).await;
    let path = format!("/downloads/{}", asked.id);
    let changes = bad.iter().map(|rate| json!({"max_rate_bytes_per_sec": rate}));
    let odd = [json!({}), json!([]), json!({"max_rate": 2048}), Value::Null];
    for body in changes.chain(odd) {
        let reply = operator.patch(&path, &body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid_request"), "{body}");
    }
    let good = json!({"max_rate_bytes_per_sec": 2048});
    let unknown = operator.patch("/downloads/0190b3a0-0000-7000-8000-000000000000", &good).await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown_download"));
    let reader = operator.with_token(Some(&scene.operator_token(&[Scope::Read])));
    assert_eq!(reader.patch(&path, &good).await.problem(), "forbidden");
    assert_eq!(operator.with_token(None).patch(&path, &good).await.problem(), "unauthorized");
    let bare = operator.request(reqwest::Method::PATCH, &path).body(good.to_string());
    assert_eq!(Operator::send(bare).await.problem(), "unsupported_media_type");
    assert_eq!(operator.show(asked.id).await.max_rate_bytes_per_sec, Some(1024));
    assert_eq!(operator.delete(&path).await.status, 200);
    scene.finish().await;
}
