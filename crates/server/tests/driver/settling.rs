//! What becomes of an upload, whatever storage answers and whoever dies.

use std::time::Duration;

use hoist_server::store::Record;
use hoist_wire::to_agent::Answer;
use hoist_wire::{Outcome, ReasonCode, State};

use crate::bucket::Turn;
use crate::ctx::{Ctx, File, attempt};

fn file() -> File {
    File(vec![11, 12, 13])
}

#[tokio::test]
async fn a_file_is_brought_and_its_slot_is_free_again() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.record(id).await.life.state, State::Completed);
    assert_eq!((ctx.bucket.open_uploads(), ctx.bucket.objects()), (0, 1));
    let next = ctx.ask(&server).await;
    agent.forgotten(of).await;
    assert_eq!(agent.fetch().await.download_id, next);
}

#[tokio::test]
async fn a_grant_that_cannot_be_signed_is_the_reason_why_it_waits() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    ctx.bucket.script("grant_part", Turn::Unclear);
    assert!(matches!(agent.ready(of, file().parts()).await[0], Answer::Wait(_)));
    let waits = |record: &Record| record.life.reason.as_ref().map(|reason| reason.code);
    let record =
        ctx.until(id, "waiting", |record| waits(record) == Some(ReasonCode::BucketUnavailable)).await;
    assert!(record.life.reason.unwrap().message.contains("scripted"));
    agent.send(of, &ctx.bucket, file().parts()).await;
    agent.finished(of, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_lost_answer_to_complete_is_settled_by_looking() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::LoseReply);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.record(id).await.life.state, State::Completed);
    assert_eq!(ctx.bucket.calls("complete"), 1);
}

#[tokio::test]
async fn a_file_that_became_empty_is_put_beside_the_upload_of_its_longer_past() {
    let ctx = Ctx::new().await;
    let mut server = ctx.serve().await;
    server.sweeps();
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    agent.send(of, &ctx.bucket, file().parts()).await;
    agent.refused(of, hoist_wire::ErrorCode::FileChanged, None).await;
    let again = agent.fetch().await;
    agent.bring(again, &ctx.bucket, &File(Vec::new())).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.record(id).await.life.size_bytes, Some(0));
    ctx.until_no_upload().await;
    assert_eq!(ctx.bucket.calls("complete"), 0);
}

#[tokio::test]
async fn a_part_that_was_put_twice_is_not_missing() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.list_twins();
    ctx.bucket.script("complete", Turn::Unclear);
    ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.bucket.calls("complete"), 2);
}

#[tokio::test]
async fn an_upload_whose_grants_lead_nowhere_is_looked_at() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    // Some stores deny a PUT into an upload that is gone, as they deny an old grant: the agent can only ask again.
    ctx.bucket.lose_uploads();
    for _ in 0..4 {
        let answers = agent.ready(of, file().parts()[..1].to_vec()).await;
        assert!(matches!(answers[..], [Answer::Put(_)]), "{answers:?}");
    }
    let anew = agent.fetch().await;
    assert_eq!(attempt(anew), 2);
    agent.bring(anew, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn an_upload_that_vanished_under_its_parts_makes_a_new_pass() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    agent.send(of, &ctx.bucket, file().parts()[..2].to_vec()).await;
    ctx.until(id, "two parts stored", |record| record.stored_bytes > 0).await;
    drop(agent);
    ctx.bucket.lose_uploads();
    let mut agent = server.agent(1, vec![of]).await;
    let same = agent.fetch().await;
    assert_eq!(same.attempt, of.attempt);
    agent.offer(same, &file()).await;
    let anew = agent.fetch().await;
    assert_eq!(attempt(anew), 2);
    agent.offer(anew, &file()).await;
    agent.accept().await;
    let answers = agent.ready(anew, file().parts()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Put(_))), "{answers:?}");
}

#[tokio::test]
async fn parts_that_the_record_lost_are_sent_again_and_never_completed_without() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::Unclear);
    ctx.bucket.script("list_parts", Turn::Unclear);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until(id, "unclear", |record| {
        record.life.reason.as_ref().is_some_and(|reason| reason.code == hoist_wire::ReasonCode::CannotVerify)
    })
    .await;
    drop(agent);
    server.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&ctx.database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("delete from parts").execute(&pool).await.unwrap();
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    server.look(id).await;
    let again = agent.fetch().await;
    assert_eq!(attempt(again), 2);
    assert_eq!(ctx.bucket.calls("complete"), 1, "no Complete without the parts");
    agent.bring(again, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_deadline_that_passed_while_the_server_was_down_is_no_reason_not_to_look() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::LoseReply);
    ctx.bucket.script("list_parts", Turn::Unclear);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until(id, "completing", |record| record.life.state == State::Completing).await;
    server.stop().await;
    ctx.clock.advance(Duration::from_secs(40 * 86_400));
    let mut server = ctx.serve().await;
    server.sweeps();
    let record = ctx.until(id, "final", |record| record.life.state.is_final()).await;
    assert_eq!(record.life.state, State::Completed, "{:?}", record.life.failure);
}

#[tokio::test]
async fn an_offer_that_is_repeated_opens_no_second_upload() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    ctx.bucket.script("create_upload", Turn::Wait(std::sync::Arc::clone(&permits)));
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    ctx.until(id, "offered", |record| record.object_key.is_some()).await;
    for _ in 0..5 {
        agent.offer(of, &file()).await;
    }
    agent.nonsense().await;
    server.read_all(id, &mut agent).await;
    permits.add_permits(1);
    agent.accept().await;
    assert_eq!(ctx.bucket.calls("create_upload"), 1);
    assert_eq!(ctx.bucket.open_uploads(), 1);
}

#[tokio::test]
async fn an_upload_that_was_being_created_at_the_cancel_is_found_and_aborted() {
    let ctx = Ctx::new().await;
    let mut server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("create_upload", Turn::LoseReply);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    ctx.until(id, "the lost answer noticed", |_| ctx.bucket.open_uploads() == 1).await;
    server.downloads.cancel(id, String::from("ops")).await.unwrap().unwrap();
    assert_eq!(agent.forget().await.outcome, Outcome::Cancelled);
    server.sweeps();
    ctx.until_no_upload().await;
}

#[tokio::test]
async fn a_server_that_died_at_any_step_of_opening_leaves_one_upload() {
    for turn in [Turn::Unclear, Turn::LoseReply] {
        let ctx = Ctx::new().await;
        let server = ctx.serve().await;
        let mut agent = server.agent(1, Vec::new()).await;
        ctx.bucket.script("create_upload", turn);
        let id = ctx.ask(&server).await;
        let of = agent.fetch().await;
        agent.offer(of, &file()).await;
        ctx.until(id, "created", |_| ctx.bucket.calls("create_upload") == 1).await;
        server.stop().await;
        let mut server = ctx.serve().await;
        server.sweeps();
        let mut agent = server.agent(1, vec![of]).await;
        let same = agent.fetch().await;
        assert_eq!(same.attempt, of.attempt);
        agent.bring(same, &ctx.bucket, &file()).await;
        assert_eq!(agent.forget().await.outcome, Outcome::Completed);
        ctx.until_no_upload().await;
    }
}
