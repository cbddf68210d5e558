//! What comes too late: objects that nobody saw in time, Completes that land after everything else, deadlines.

use std::time::Duration;

use hoist_wire::to_server::Busy;
use hoist_wire::{DownloadId, ErrorCode, Outcome, ReasonCode, State};

use crate::bucket::Turn;
use crate::ctx::{Agent, Ctx, File, Server, attempt};

/// A little more than lies between two looks for an object that is not there.
const A_MINUTE: Duration = Duration::from_secs(61);

/// Longer than any deadline of these tests.
const PAST_THE_DEADLINE: Duration = Duration::from_secs(40 * 86_400);

fn file() -> File {
    File(vec![11, 12, 13])
}

fn changed() -> File {
    File(vec![11, 12, 14])
}

/// Brings a file up to a Complete that goes as `turn` says, and whose upload is gone at the first look.
async fn lost_in_completing(ctx: &Ctx, server: &Server, turn: Turn) -> (DownloadId, Busy, Agent) {
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", turn);
    // The first look sees nothing, so that the test can take the upload away before the second.
    ctx.bucket.script("list_parts", Turn::Unclear);
    let id = ctx.ask(server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until(id, "unclear", |record| reason(record) == Some(ReasonCode::CannotVerify)).await;
    ctx.bucket.lose_uploads();
    (id, of, agent)
}

fn reason(record: &hoist_server::store::Record) -> Option<ReasonCode> {
    record.life.reason.as_ref().map(|reason| reason.code)
}

/// Restarts the server a minute later, and has it look.
async fn a_minute_later(ctx: &Ctx, server: Server, id: DownloadId) -> Server {
    server.stop().await;
    ctx.clock.advance(A_MINUTE);
    let server = ctx.serve().await;
    server.look(id).await;
    server
}

#[tokio::test]
async fn an_upload_that_is_gone_without_an_object_is_begun_anew_after_the_second_look() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let (id, _, agent) = lost_in_completing(&ctx, &server, Turn::Unclear).await;
    drop(agent);
    let server = a_minute_later(&ctx, server, id).await;
    let once = ctx.until(id, "absent", |record| reason(record) == Some(ReasonCode::Verifying)).await;
    assert_eq!(once.life.state, State::Completing, "one look is not believed");
    let mut server = a_minute_later(&ctx, server, id).await;
    server.sweeps();
    let twice = ctx.until_state(id, State::Uploading).await;
    assert_eq!(reason(&twice), Some(ReasonCode::UploadLost));
    let mut agent = server.agent(1, Vec::new()).await;
    let again = agent.fetch().await;
    assert_eq!(attempt(again), 2);
    agent.bring(again, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!((ctx.bucket.calls("create_upload"), ctx.bucket.open_uploads()), (2, 0));
}

#[tokio::test]
async fn an_object_that_shows_late_is_proven_and_nothing_is_sent_again() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let (id, _, agent) = lost_in_completing(&ctx, &server, Turn::Late).await;
    drop(agent);
    let server = a_minute_later(&ctx, server, id).await;
    ctx.until(id, "absent", |record| reason(record) == Some(ReasonCode::Verifying)).await;
    ctx.bucket.land();
    let _server = a_minute_later(&ctx, server, id).await;
    let record = ctx.until_state(id, State::Completed).await;
    assert_eq!((record.life.attempt.0, ctx.bucket.calls("create_upload")), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_verified_for_long_takes_no_slot_of_its_client() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::LoseReply);
    // More looks than come while the test runs.
    for _ in 0..20 {
        ctx.bucket.script("list_parts", Turn::Unclear);
    }
    let first = ctx.ask(&server).await;
    let of_first = agent.fetch().await;
    agent.bring(of_first, &ctx.bucket, &file()).await;
    let forget = agent.forget().await;
    assert_eq!((forget.download_id, forget.outcome), (first, Outcome::Superseded));
    let second = ctx.ask(&server).await;
    agent.forgotten(of_first).await;
    let of_second = agent.fetch().await;
    assert_eq!(of_second.download_id, second);
    agent.bring(of_second, &ctx.bucket, &file()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(reason(&ctx.record(first).await), Some(ReasonCode::CannotVerify));
}

#[tokio::test]
async fn an_object_that_head_does_not_show_at_once_is_waited_for() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("head", Turn::Hide);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until(id, "absent", |record| reason(record) == Some(ReasonCode::Verifying)).await;
    let _server = a_minute_later(&ctx, server, id).await;
    ctx.until_state(id, State::Completed).await;
    assert_eq!(ctx.bucket.calls("complete"), 1);
}

#[tokio::test]
async fn a_complete_of_the_attempt_before_that_lands_late_proves_nothing_of_this_one() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let (id, _, agent) = lost_in_completing(&ctx, &server, Turn::Late).await;
    drop(agent);
    let server = a_minute_later(&ctx, server, id).await;
    ctx.until(id, "absent", |record| reason(record) == Some(ReasonCode::Verifying)).await;
    let mut server = a_minute_later(&ctx, server, id).await;
    server.sweeps();
    ctx.until_state(id, State::Uploading).await;
    let mut agent = server.agent(1, Vec::new()).await;
    let again = agent.fetch().await;
    // The file is another one by now, and its Complete is lost too: at the look there is the old object alone.
    ctx.bucket.script("complete", Turn::Unclear);
    ctx.bucket.script("list_parts", Turn::Unclear);
    agent.bring(again, &ctx.bucket, &changed()).await;
    ctx.until(id, "unclear", |record| reason(record) == Some(ReasonCode::CannotVerify)).await;
    ctx.bucket.land();
    server.stop().await;
    let mut server = ctx.serve().await;
    server.sweeps();
    let record = ctx.until_state(id, State::Completed).await;
    let object = ctx.bucket.object(&record.object_key.unwrap()).unwrap();
    assert_eq!(object.crc64nvme, record.life.crc64nvme, "the old object was taken for the new one");
    assert_eq!(ctx.bucket.calls("complete"), 3, "the upload was open, so it was completed again");
    ctx.until_no_upload().await;
}

#[tokio::test]
async fn a_complete_that_lands_after_the_deadline_and_the_abort_changes_nothing() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("complete", Turn::Late);
    ctx.bucket.script("list_parts", Turn::Unclear);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &file()).await;
    ctx.until(id, "unclear", |record| reason(record) == Some(ReasonCode::CannotVerify)).await;
    ctx.clock.advance(PAST_THE_DEADLINE);
    let mut server = server;
    server.sweeps();
    let record = ctx.until_state(id, State::Failed).await;
    let failure = record.life.failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::Unproven);
    let key = record.object_key.clone().unwrap();
    assert!(failure.message.contains(&key), "it names where to look: {}", failure.message);
    ctx.until_no_upload().await;
    ctx.bucket.land();
    server.look(id).await;
    server.stop().await;
    let mut server = ctx.serve().await;
    server.sweeps();
    server.look(id).await;
    assert_eq!(ctx.record(id).await.life, record.life, "final states never change");
    // Whose it is, a person decides; its key is in the record.
    assert!(ctx.bucket.object(&key).is_some());
}

#[tokio::test]
async fn an_object_of_somebody_else_is_evidence_and_stays_where_it_is() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let (id, _, _agent) = lost_in_completing(&ctx, &server, Turn::Unclear).await;
    let key = ctx.record(id).await.object_key.unwrap();
    ctx.bucket.put_foreign(&key);
    server.stop().await;
    let server = ctx.serve().await;
    server.look(id).await;
    let says = "does not carry this download's write token";
    ctx.until(id, "evidence", |record| {
        record.life.reason.as_ref().is_some_and(|reason| reason.message.contains(says))
    })
    .await;
    ctx.clock.advance(PAST_THE_DEADLINE);
    let mut server = server;
    server.sweeps();
    let failure = ctx.until_state(id, State::Failed).await.life.failure.unwrap();
    assert_eq!(failure.code, ErrorCode::Unproven);
    assert!(failure.message.contains(says) && failure.message.contains(&key), "{}", failure.message);
    assert_eq!(ctx.bucket.object(&key).unwrap().write_token.as_deref(), Some("somebody else's"));
}
