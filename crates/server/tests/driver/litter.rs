//! Uploads that somebody has to clean up after: each is aborted, whatever died or was refused in between.

use std::time::Duration;

use hoist_wire::to_agent::Answer;
use hoist_wire::{ErrorCode, Outcome, State};

use crate::bucket::Turn;
use crate::ctx::{Agent, Ctx, File, Server};

/// Life of a grant, and a minute: then no PUT can come any more.
const AFTER_THE_LAST_GRANT: Duration = Duration::from_secs(900 + 61);

/// Between two tries of an abort that storage refuses.
const ABORT_AGAIN: Duration = Duration::from_secs(61);

fn file() -> File {
    File(vec![11, 12, 13])
}

/// Starts a server that sweeps: its first round comes at once.
async fn sweeping(ctx: &Ctx) -> Server {
    let mut server = ctx.serve().await;
    server.sweeps();
    server
}

/// Waits until a sweep has made so many calls.
async fn until_calls(ctx: &Ctx, call: &'static str, count: u32) {
    let made = async {
        while ctx.bucket.calls(call) < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), made).await.expect("the calls are made");
}

/// Waits until nothing is to be aborted at `ctx`'s time.
async fn until_noted(ctx: &Ctx) {
    let noted = async {
        while !ctx.store.uploads_to_abort(ctx.clock_now(), 10).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noted).await.expect("the aborts are noted");
}

/// Opens an upload, and asks for a grant that outlives it.
async fn opened(
    ctx: &Ctx,
    server: &Server,
) -> (Agent, hoist_wire::to_server::Busy, hoist_wire::to_agent::Grant) {
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.ask(server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    let mut answers = agent.ready(of, file().parts()[..1].to_vec()).await;
    let Some(Answer::Put(grant)) = answers.pop() else { panic!("a grant was due") };
    (agent, of, grant)
}

#[tokio::test]
async fn an_abort_that_storage_refuses_is_repeated_until_it_is_done() {
    let ctx = Ctx::new().await;
    let mut server = sweeping(&ctx).await;
    let (mut agent, of, _) = opened(&ctx, &server).await;
    for _ in 0..3 {
        ctx.bucket.script("abort", Turn::Unclear);
    }
    server.downloads.cancel(of.download_id, String::from("ops")).await.unwrap().unwrap();
    assert_eq!(agent.forget().await.outcome, Outcome::Cancelled);
    for tries in 1..=3 {
        until_calls(&ctx, "abort", tries).await;
        until_noted(&ctx).await;
        assert_eq!(ctx.bucket.open_uploads(), 1);
        ctx.clock.advance(ABORT_AGAIN);
        // It is remembered by the store alone.
        server.stop().await;
        server = sweeping(&ctx).await;
    }
    ctx.until_no_upload().await;
    assert_eq!(ctx.bucket.calls("abort"), 4);
}

#[tokio::test]
async fn a_late_put_that_revives_an_aborted_upload_is_aborted_after_the_last_grant() {
    let ctx = Ctx::new().await;
    let server = sweeping(&ctx).await;
    let (_agent, of, grant) = opened(&ctx, &server).await;
    server.downloads.cancel(of.download_id, String::from("ops")).await.unwrap().unwrap();
    ctx.until_no_upload().await;
    until_noted(&ctx).await;
    // S3: a part that is on its way while its upload is aborted may succeed all the same, and has to be aborted again.
    ctx.bucket.revive(&grant);
    assert_eq!(ctx.bucket.open_uploads(), 1);
    server.stop().await;
    ctx.clock.advance(AFTER_THE_LAST_GRANT);
    let server = sweeping(&ctx).await;
    ctx.until_no_upload().await;
    until_noted(&ctx).await;
    assert_eq!(ctx.bucket.calls("abort"), 2);
    // Then storage's word is final.
    server.stop().await;
    ctx.clock.advance(10 * AFTER_THE_LAST_GRANT);
    assert!(ctx.store.uploads_to_abort(ctx.clock_now(), 10).await.unwrap().is_empty());
    assert!(ctx.store.upload_keys().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_killed_between_create_and_noting_the_id_leaves_nothing() {
    // The download goes on, is cancelled, or expires.
    for goes_on in [true, false] {
        let ctx = Ctx::new().await;
        let server = ctx.serve().await;
        let mut agent = server.agent(1, Vec::new()).await;
        ctx.bucket.script("create_upload", Turn::NeverAnswer);
        let id = ctx.ask(&server).await;
        let of = agent.fetch().await;
        agent.offer(of, &file()).await;
        ctx.until(id, "created", |_| ctx.bucket.open_uploads() == 1).await;
        drop(agent);
        server.stop().await;
        assert_eq!(ctx.bucket.open_uploads(), 1, "nobody has noted its id");
        if goes_on {
            let server = sweeping(&ctx).await;
            let mut agent = server.agent(1, Vec::new()).await;
            let of = agent.fetch().await;
            agent.bring(of, &ctx.bucket, &file()).await;
            assert_eq!(agent.forget().await.outcome, Outcome::Completed);
            ctx.until_no_upload().await;
            assert_eq!(ctx.bucket.objects(), 1);
        } else {
            ctx.clock.advance(Duration::from_secs(15 * 86_400));
            let _server = sweeping(&ctx).await;
            ctx.until_state(id, State::Expired).await;
            ctx.until_no_upload().await;
        }
    }
}

#[tokio::test]
async fn whatever_ends_a_download_aborts_its_upload() {
    let ctx = Ctx::new().await;
    let server = sweeping(&ctx).await;
    let (mut agent, of, _) = opened(&ctx, &server).await;
    agent.refused(of, ErrorCode::FileNotFound, None).await;
    ctx.until_state(of.download_id, State::Failed).await;
    ctx.until_no_upload().await;
    assert_eq!(agent.forget().await.outcome, Outcome::Failed);
    agent.forgotten(of).await;
    drop(agent);
    let (agent, of, _) = opened(&ctx, &server).await;
    drop(agent);
    server.stop().await;
    ctx.clock.advance(Duration::from_secs(15 * 86_400));
    let _server = sweeping(&ctx).await;
    ctx.until_state(of.download_id, State::Expired).await;
    ctx.until_no_upload().await;
    assert_eq!(ctx.bucket.objects(), 0);
}
