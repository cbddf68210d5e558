//! Who waits for whom: offline clients, several clients, more downloads than slots.

use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::{ReasonCode, State};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_an_offline_client_waits_until_it_is_back() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 1000);
    let mut agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    assert!(agent.terminate().await.success());
    operator.sees("restaurant-1", false).await;

    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    assert_eq!((asked.state, asked.reason), (State::Queued, Some(ReasonCode::ClientOffline)));
    assert!(asked.next_step.is_some() && asked.reason_message.is_some(), "{asked:#?}");
    agent.start_again();
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_never_seen_is_unknown_unless_that_is_allowed() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 1000);
    let body = json!({"file_path": path, "allow_unknown": false});
    let refused = operator.post("/trigger-download/restaurant-9", &body).await;
    assert_eq!((refused.status, refused.problem().as_str()), (404, "unknown_client"));
    assert_eq!(operator.get("/status/restaurant-9").await.problem(), "unknown_client");

    let body = json!({"file_path": path, "allow_unknown": true});
    let asked = operator.ask_with("restaurant-9", &body).await;
    assert_eq!((asked.state, asked.reason), (State::Queued, Some(ReasonCode::ClientOffline)));
    let _agent = scene.agent("restaurant-9").start();
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_each_bring_their_own_file() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut asked = Vec::new();
    let mut agents = Vec::new();
    for (client, bytes) in [("restaurant-1", 6_000_000), ("restaurant-2", 7_000_000)] {
        let root = scene.site.path(client);
        std::fs::create_dir(&root).unwrap();
        scene.site.random(format!("{client}/report"), bytes);
        agents.push(scene.bare_agent(client).root(&root).start());
        operator.sees(client, true).await;
    }
    for client in ["restaurant-1", "restaurant-2"] {
        asked.push((client, operator.ask(client, "report").await));
    }
    for (client, asked) in asked {
        let download = operator.completes(asked.id).await;
        assert_eq!(download.client_id.as_str(), client);
        let (bytes, _) = operator.fetch(asked.id).await;
        assert!(bytes == std::fs::read(scene.site.path(format!("{client}/report"))).unwrap());
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_downloads_of_one_client_go_two_at_a_time_and_in_order() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let agent = scene.agent("restaurant-1");
    // One part at a time goes through, so that no download ends unseen.
    scene.proxy().hold(|passed, _| passed.part().is_some());
    let _agent = agent.start();
    operator.sees("restaurant-1", true).await;
    let mut asked = Vec::new();
    for number in 0..10 {
        let path = scene.site.random(format!("report-{number}"), 1000);
        asked.push(operator.ask("restaurant-1", path.to_str().unwrap()).await.id);
    }
    for ended in 0..10 {
        let out = eventually("two downloads to be out", WITHIN, || async {
            let (mut out, mut sending) = (Vec::new(), 0);
            for id in &asked {
                let download = operator.show(*id).await;
                let is_out = matches!(download.state, State::Uploading | State::Completing);
                let waits = download.reason == Some(ReasonCode::ClientBusy);
                assert!(is_out || download.state.is_final() || download.state == State::Queued);
                if is_out {
                    out.push(*id);
                } else if download.state == State::Queued && waits {
                    sending += 1;
                }
            }
            assert!(out.len() <= 2, "more than two are out: {out:?}");
            let held = scene.proxy().seen().iter().filter(|passed| passed.status.is_none()).count();
            let due = 2.min(10 - ended);
            let queued = 10 - ended - due;
            if out.len() == due && held == due && sending == queued {
                Ok(out)
            } else {
                Err(format!("out {out:?}, held {held}, queued and busy {sending}"))
            }
        })
        .await;
        assert_eq!(out[..], asked[ended..(ended + 2).min(10)], "not first in, first out");
        // The older of the two may go on.
        let first = out[0].to_string();
        let done: Vec<String> = asked[..ended].iter().map(ToString::to_string).collect();
        scene.proxy().hold(move |passed, _| {
            let may = passed.target.contains(&first) || done.iter().any(|id| passed.target.contains(id));
            passed.part().is_some() && !may
        });
        operator.completes(out[0]).await;
    }
    scene.finish().await;
}
