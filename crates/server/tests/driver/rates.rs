//! How fast a download may go: changed in every state, kept, and told to whoever sends.

use hoist_engine::life::Rejection;
use hoist_server::store::Along;
use hoist_wire::to_agent::{Fetch, Pace, ToAgent};
use hoist_wire::to_server::{Busy, Unsupported};
use hoist_wire::{Outcome, State, ToServer};

use crate::bucket::Turn;
use crate::ctx::{Agent, Ctx, File};

fn file() -> File {
    File(vec![1, 2])
}

/// Waits for `fetch`, and gives the rate in it.
async fn fetch(agent: &mut Agent) -> (Busy, Option<u64>) {
    match agent.hear().await {
        ToAgent::Fetch(Fetch { download_id, attempt, max_rate_bytes_per_sec, .. }) => {
            (Busy { download_id, attempt }, max_rate_bytes_per_sec)
        }
        other => panic!("no fetch but {other:?}"),
    }
}

async fn hears_pace(agent: &mut Agent, of: Busy, rate: Option<u64>) {
    let Busy { download_id, attempt } = of;
    let pace = Pace { download_id, attempt, max_rate_bytes_per_sec: rate };
    assert_eq!(agent.hear().await, ToAgent::Pace(pace));
}

#[tokio::test]
async fn a_rate_set_while_the_client_is_away_comes_with_fetch() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let id = ctx.ask(&server).await;
    let before = ctx.record(id).await;
    assert_eq!(server.downloads.pace(id, Some(2048)).await, Some(Ok(())));
    let after = ctx.record(id).await;
    assert_eq!((after.max_rate_bytes_per_sec, after.life), (Some(2048), before.life));
    server.stop().await;

    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let (of, rate) = fetch(&mut agent).await;
    assert_eq!(rate, Some(2048), "it is kept over a restart");
    assert_eq!(server.downloads.pace(id, None).await, Some(Ok(())));
    hears_pace(&mut agent, of, None).await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until_state(id, State::Completed).await;
}

#[tokio::test]
async fn a_change_while_the_link_is_down_is_told_to_the_same_attempt() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let (of, rate) = fetch(&mut agent).await;
    assert_eq!(rate, None);
    drop(agent);
    ctx.until(id, "the lost link", |record| {
        record.life.reason.as_ref().is_some_and(|reason| reason.code == hoist_wire::ReasonCode::LinkLost)
    })
    .await;
    assert_eq!(server.downloads.pace(id, Some(4096)).await, Some(Ok(())));
    let mut agent = server.agent(1, vec![of]).await;
    assert_eq!(fetch(&mut agent).await, (of, Some(4096)));
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until_state(id, State::Completed).await;
}

#[tokio::test]
async fn an_agent_that_knows_no_pace_goes_on() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let (of, _) = fetch(&mut agent).await;
    assert_eq!(server.downloads.pace(id, Some(4096)).await, Some(Ok(())));
    hears_pace(&mut agent, of, Some(4096)).await;
    agent.say(ToServer::Unsupported(Unsupported { kind: String::from("pace") })).await;
    agent.bring(of, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn what_is_completing_takes_a_rate_and_what_is_final_does_not() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::LoseReply);
    ctx.bucket.script("list_parts", Turn::Unclear);
    let id = ctx.ask(&server).await;
    let (of, _) = fetch(&mut agent).await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until_state(id, State::Completing).await;
    assert_eq!(server.downloads.pace(id, Some(1024)).await, Some(Ok(())));
    assert_eq!(ctx.record(id).await.life.state, State::Completing);
    server.look(id).await;
    let ended = ctx.until_state(id, State::Completed).await;
    assert_eq!(ended.max_rate_bytes_per_sec, Some(1024));
    assert_eq!(server.downloads.pace(id, None).await, Some(Err(Rejection::Final)));
    assert_eq!(ctx.record(id).await, ended);
}

#[tokio::test]
async fn a_rate_that_lost_its_guard_is_written_all_the_same() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let (of, _) = fetch(&mut agent).await;
    // Somebody else writes behind the back of the driver, which still runs.
    let mut newer = ctx.record(id).await;
    newer.requested_by = String::from("somebody else");
    assert!(ctx.store.save(&newer, &Along::default()).await.unwrap());
    assert_eq!(server.downloads.pace(id, Some(1024)).await, Some(Ok(())));
    hears_pace(&mut agent, of, Some(1024)).await;
    let record = ctx.record(id).await;
    assert_eq!((record.max_rate_bytes_per_sec, record.requested_by.as_str()), (Some(1024), "somebody else"));
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until_state(id, State::Completed).await;
}
