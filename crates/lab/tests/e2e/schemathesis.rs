//! schemathesis against the real server, with an agent and downloads in several states: no 5xx, no answer that the
//! document does not promise, nothing accepted that it forbids, and nothing refused that it allows.

use hoist_lab::schemathesis::Schemathesis;
use hoist_lab::{AgentProcess, Operator, Scene};
use hoist_wire::State;
use hoist_wire::rest::{DownloadPage, Scope};
use serde_json::json;

/// Most cases for each page and phase. At length: `HOIST_SCHEMATHESIS_EXAMPLES=2000 cargo test …`.
fn examples() -> u32 {
    std::env::var("HOIST_SCHEMATHESIS_EXAMPLES").map_or(20, |text| text.parse().unwrap())
}

/// Brings downloads into several states.
async fn in_motion(scene: &Scene) -> AgentProcess {
    let operator = scene.operator();
    let report = scene.site.random("report", 100_000);
    let agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask_with("restaurant-1", &json!({"file_path": report})).await;
    operator.completes(asked.id).await;
    operator.fails(operator.ask("restaurant-1", "no-such-file").await.id).await;
    let ghost = json!({"allow_unknown": true});
    let cancelled = operator.ask_with("ghost", &ghost).await;
    assert_eq!(operator.delete(&format!("/downloads/{}", cancelled.id)).await.status, 200);
    operator.ask_with("ghost", &ghost).await;
    agent
}

/// Cancels what waits for clients that will never come.
async fn cancel_all(operator: &Operator) {
    for state in [State::Queued, State::Uploading] {
        loop {
            let page: DownloadPage =
                operator.get(&format!("/downloads?limit=1000&state={state}")).await.parse();
            if page.downloads.is_empty() {
                break;
            }
            for download in page.downloads {
                // Some end by themselves meanwhile.
                operator.delete(&format!("/downloads/{}", download.id)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_answers_as_its_document_says() {
    let scene = Scene::trial().start().await;
    let _agent = in_motion(&scene).await;
    let run = Schemathesis { url: &scene.server.url(), token: None, examples: examples() };
    let passed = run.run().await;
    cancel_all(&scene.operator()).await;
    scene.finish_open().await;
    let Some(passed) = passed else { return };
    assert!(passed.requests() > 200, "{passed:?}");
    for route in hoist_server::http::routes() {
        let page = format!("{} {}", route.method, route.path);
        // It cannot dial or sign as an agent, and does not ask for the document again; a trial has no
        // sessions.
        if !["GET /ws/connect", "POST /ws/enroll", "GET /openapi.json", "POST /session"]
            .contains(&page.as_str())
        {
            assert!(passed.understood().contains(&page.as_str()), "{page} was never asked well: {passed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_for_earnest_answers_every_operator_as_its_document_says() {
    let scene = Scene::earnest().start().await;
    let _agent = in_motion(&scene).await;
    let url = scene.server.url();
    // Last who may revoke the client whose agent answers the others.
    for scopes in [&[Scope::Read][..], &[Scope::Download], &[Scope::Admin]] {
        let token = scene.operator_token(scopes);
        let run = Schemathesis { url: &url, token: Some(&token), examples: examples() };
        let Some(passed) = run.run().await else { break };
        assert!(passed.requests() > 200, "{scopes:?}: {passed:?}");
    }
    cancel_all(&scene.operator()).await;
    scene.finish_open().await;
}
