//! Links, slots and drivers: no message is lost between them, and no slot.

use std::time::Duration;

use hoist_wire::to_agent::ToAgent;
use hoist_wire::{ErrorCode, Outcome, ReasonCode, State};

use crate::bucket::Turn;
use crate::ctx::{Ctx, File, RENEWED_SECS, TOKEN_SECS, attempt, client};

fn file() -> File {
    File(vec![1, 2])
}

#[tokio::test]
async fn a_changed_file_keeps_its_slot_though_others_wait() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let older = ctx.ask(&server).await;
    let of_older = agent.fetch().await;
    assert_eq!(of_older.download_id, older);
    let newer = ctx.ask(&server).await;
    agent.refused(of_older, ErrorCode::AgentBusy, Some(30_000)).await;
    agent.forget().await;
    agent.forgotten(of_older).await;
    let of_newer = agent.fetch().await;
    assert_eq!(of_newer.download_id, newer);
    // The older one is due again while the newer one has the slot.
    ctx.clock.advance(std::time::Duration::from_secs(60));
    agent.refused(of_newer, ErrorCode::FileChanged, None).await;
    let again = agent.fetch().await;
    assert_eq!((again.download_id, attempt(again)), (newer, 2));
    agent.bring(again, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    agent.forgotten(again).await;
    assert_eq!(agent.fetch().await.download_id, older);
}

#[tokio::test]
async fn a_late_forgotten_of_an_old_attempt_frees_nothing() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.ask(&server).await;
    let first = agent.fetch().await;
    agent.refused(first, ErrorCode::AgentBusy, Some(1)).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Requeued);
    let second = agent.fetch().await;
    assert_eq!(attempt(second), 2);
    agent.forgotten(first).await;
    agent.bring(second, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn an_agent_that_lets_go_of_a_live_attempt_is_asked_again() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.ask(&server).await;
    let first = agent.fetch().await;
    agent.forgotten(first).await;
    let second = agent.fetch().await;
    agent.bring(second, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn an_agent_that_comes_back_while_its_object_is_made_hears_the_end() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::LoseReply);
    ctx.bucket.script("list_parts", Turn::Unclear);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until(id, "a look that saw nothing", |record| {
        record.life.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::CannotVerify)
    })
    .await;
    server.stop().await;
    drop(agent);
    let server = ctx.serve().await;
    let mut agent = server.agent(1, vec![of]).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_newer_link_takes_the_attempt_over_and_the_older_one_moves_nothing() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut old = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = old.fetch().await;
    old.offer(of, &file()).await;
    old.accept().await;
    let mut new = server.agent(1, vec![of]).await;
    let same = new.fetch().await;
    assert_eq!(same.attempt, of.attempt);
    new.bring(same, &ctx.bucket, &file()).await;
    assert_eq!(new.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.record(id).await.life.attempt, of.attempt);
}

#[tokio::test]
async fn a_half_open_link_is_noticed_within_45_seconds() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    // Nobody reads this end, so no ping is answered.
    let agent = server.agent(1, Vec::new()).await;
    tokio::time::pause();
    let silent = tokio::time::Instant::now();
    while server.links.is_connected(&crate::ctx::client()) {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        assert!(silent.elapsed().as_secs() < 45, "a dead link counts as alive");
    }
    assert!(silent.elapsed().as_secs() > 30, "two lost pings are not enough for a thin link");
    drop(agent);
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_shown_as_silent_and_when_it_is_asked_again() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    let record = ctx.record(id).await;
    let shown = server.downloads.view(&record);
    assert_eq!(shown.reason_message.as_deref(), Some("the client reads the file"));
    ctx.clock.advance(std::time::Duration::from_secs(1000));
    let shown = server.downloads.view(&record);
    assert!(shown.next_at.unwrap() > ctx.clock_now(), "the next step lies in the past: {shown:#?}");
    assert!(shown.reason_message.unwrap().contains("asked again"));
    // For now refused, and gone when its time has come.
    agent.refused(of, ErrorCode::AgentBusy, Some(60_000)).await;
    let record = ctx.until_state(id, State::Queued).await;
    assert_eq!(server.downloads.view(&record).reason, Some(hoist_wire::ReasonCode::RefusedForNow));
    ctx.clock.advance(std::time::Duration::from_secs(61));
    let shown = server.downloads.view(&record);
    assert_eq!(shown.reason, Some(hoist_wire::ReasonCode::ClientBusy), "its slot is another's");
    assert!(shown.next_at.unwrap() > ctx.clock_now());
}

#[tokio::test]
async fn a_token_is_renewed_again_and_again_on_a_link_that_lives_long() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    for life_secs in [TOKEN_SECS, RENEWED_SECS, RENEWED_SECS] {
        ctx.clock.advance(Duration::from_secs(life_secs / 2 + 1));
        // Looked at with each ping.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(16)).await;
        tokio::time::resume();
        let ToAgent::Renew(renew) = agent.hear().await else { panic!("no fresh token") };
        // In whole seconds, and some time has passed.
        assert!(renew.expires_at.ms_since(ctx.clock_now()) > (RENEWED_SECS - 60) * 1000, "{renew:?}");
        let shown = async || ctx.store.client(&client()).await.unwrap().unwrap().token_expires_at;
        while shown().await != Some(renew.expires_at) {
            tokio::task::yield_now().await;
        }
    }
}
