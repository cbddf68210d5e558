//! Promise 3, while the server's own keys end under it: what they signed ends with them, and what is stored stays so.

use std::time::{Duration, SystemTime};

use hoist_lab::stage::CLIENT;
use hoist_lab::watch::{Edge, Side, Stop};
use hoist_lab::{ScriptedAgent, Stage, WITHIN, eventually};
use hoist_wire::ReasonCode;

use crate::promise_3_never_starts_over::{PART, SEVEN_PARTS, ask, comes_whole, confirmed, on_its_way};

/// Long enough that the server's own calls are made in time on a busy machine.
const KEY_LIFE: Duration = Duration::from_secs(6);

/// Waits until the newest key has ended.
async fn key_ends(stage: &Stage) {
    let key = stage.keys().keys().pop().unwrap();
    eventually("the key to end", WITHIN, || async {
        if key.is_over() { Ok(()) } else { Err(format!("{key:?}")) }
    })
    .await;
}

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
        key_ends(&stage).await;
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

/// Lets the key end while the server's first call of a kind is on its way.
async fn is_made_again(call: &'static str) {
    let stage = Stage::begin().keys_that_live(KEY_LIFE).set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", PART + 77);
    let mut agent = stage.agent().start();
    let stop = Stop { step: call, nth: 1, edge: Edge::Before };
    let resumes = call == "ListParts";
    stage.steps.stop_at(if resumes { on_its_way(2) } else { stop });
    let id = ask(&stage, &path).await;
    stage.steps.reached().await.unwrap();
    if resumes {
        agent.kill();
        stage.steps.go_on_without(&[Side::Agent]);
        stage.steps.stop_at(stop);
        agent.start_again();
        stage.steps.reached().await.unwrap();
    }
    key_ends(&stage).await;
    stage.steps.go_on();
    comes_whole(&stage, &operator, id, &path).await;
    let refused = stage.steps.seen().iter().any(|seen| seen.step == call && seen.status == Some(400));
    assert!(refused, "no {call} was refused: this test tests nothing");
    drop(agent);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_key_ends_on_its_way_is_made_again() {
    is_made_again("CreateMultipartUpload").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_whose_key_ends_on_its_way_is_made_again() {
    is_made_again("ListParts").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_whose_key_ends_on_its_way_is_made_again() {
    is_made_again("CompleteMultipartUpload").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_look_whose_key_ends_on_its_way_is_made_again() {
    is_made_again("HeadObject").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_keys_are_to_be_had_a_download_waits_and_says_so() {
    let stage = Stage::begin().keys_that_live(KEY_LIFE).set().await;
    let operator = stage.scene.operator();
    let path = stage.scene.site.random("report", SEVEN_PARTS);
    let agent = stage.agent().env("MAX_PARTS_IN_FLIGHT", "1").start();
    stage.steps.stop_at(on_its_way(2));
    let id = ask(&stage, &path).await;
    stage.steps.reached().await.unwrap();
    stage.keys().cut();
    key_ends(&stage).await;
    stage.steps.go_on();
    let waits = operator
        .until(id, "a reason", |download| download.reason == Some(ReasonCode::BucketUnavailable))
        .await;
    let said = format!("{waits:?}");
    assert!(said.contains("credentials") && waits.next_at.is_some(), "{said}");
    assert!(confirmed(&stage.steps.seen()).len() < 7);
    stage.keys().mend();
    assert_eq!(comes_whole(&stage, &operator, id, &path).await.attempt, 1);
    drop(agent);
    stage.finish().await;
}
