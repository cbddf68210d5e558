//! A database that was restored from yesterday's backup harms nothing: what was completed since stays as it is.

use hoist_server::bucket::ObjectHead;
use hoist_wire::to_server::Busy;
use hoist_wire::{Outcome, State};

use crate::bucket::Turn;
use crate::ctx::{Agent, Ctx, File, Server};

fn file() -> File {
    File(vec![11, 12, 13])
}

/// The file as it is after the restore.
fn newer() -> File {
    File(vec![11, 99, 13])
}

/// When the backup was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Queued,
    Fetched,
    Opened,
    WithParts,
    Completing,
}

/// What befalls the download after the backup was taken.
struct Since {
    ctx: Ctx,
    of: Busy,
    /// The one object, and its key.
    object: (String, ObjectHead),
    backup: std::path::PathBuf,
}

/// Brings a file, and takes a backup on the way.
async fn brought(taken: Taken) -> Since {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let id = ctx.ask(&server).await;
    let mut backup = ctx.backup().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let of = agent.fetch().await;
    if taken == Taken::Fetched {
        backup = ctx.backup().await;
    }
    agent.offer(of, &file()).await;
    agent.accept().await;
    if taken == Taken::Opened {
        backup = ctx.backup().await;
    }
    agent.send(of, &ctx.bucket, file().parts()[..2].to_vec()).await;
    if taken == Taken::WithParts {
        ctx.until(id, "two parts stored", |record| record.stored_bytes > 0).await;
        backup = ctx.backup().await;
    }
    agent.send(of, &ctx.bucket, file().parts()[2..].to_vec()).await;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    ctx.bucket.script("complete", Turn::Wait(std::sync::Arc::clone(&permits)));
    agent.finished(of, &file()).await;
    ctx.until_state(id, State::Completing).await;
    if taken == Taken::Completing {
        backup = ctx.backup().await;
    }
    permits.add_permits(1);
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    server.stop().await;
    let object = ctx.bucket.all_objects().into_iter().next().unwrap();
    Since { ctx, of, object, backup }
}

/// Starts a server on the backup, and dials as the agent, which may still have what it had.
async fn back(since: Since, busy: bool) -> (Ctx, Server, Agent, (String, ObjectHead)) {
    let ctx = since.ctx.restored(since.backup).await;
    let mut server = ctx.serve().await;
    server.sweeps();
    let busy = if busy { vec![since.of] } else { Vec::new() };
    let agent = server.agent(1, busy).await;
    (ctx, server, agent, since.object)
}

/// Restores, brings `file` as it is now, and looks at both objects.
async fn brought_again(taken: Taken, file: File) {
    let since = brought(taken).await;
    let id = since.of.download_id;
    let (ctx, _server, mut agent, (key, object)) = back(since, false).await;
    let mut of = agent.fetch().await;
    agent.offer(of, &file).await;
    if taken == Taken::Opened || taken == Taken::WithParts {
        // What the agent may hold as sent went into an upload that is gone.
        of = agent.fetch().await;
        agent.offer(of, &file).await;
    }
    agent.accept().await;
    if !file.0.is_empty() {
        agent.send(of, &ctx.bucket, file.parts()).await;
    }
    agent.finished(of, &file).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed, "{taken:?}");
    let record = ctx.record(id).await;
    assert_eq!(record.life.state, State::Completed);
    let mine = record.object_key.unwrap();
    assert_ne!(mine, key, "{taken:?}: the same key again");
    let objects = ctx.bucket.all_objects();
    assert_eq!((objects.len(), objects.get(&key)), (2, Some(&object)), "{taken:?}");
    assert_eq!(objects[&mine].size_bytes, file.size());
    ctx.until_no_upload().await;
}

#[tokio::test]
async fn what_was_completed_since_the_backup_is_never_overwritten() {
    let empty = || File(Vec::new());
    let cases = [
        (Taken::Queued, file()),
        (Taken::Queued, newer()),
        (Taken::Queued, empty()),
        (Taken::Fetched, newer()),
        (Taken::Opened, newer()),
        (Taken::WithParts, file()),
        (Taken::WithParts, newer()),
        (Taken::WithParts, empty()),
    ];
    futures_util::future::join_all(cases.map(|(taken, file)| brought_again(taken, file))).await;
}

#[tokio::test]
async fn what_was_completing_in_the_backup_is_found_completed() {
    let since = brought(Taken::Completing).await;
    let id = since.of.download_id;
    let (ctx, _server, mut agent, (key, object)) = back(since, true).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.record(id).await.life.state, State::Completed);
    assert_eq!(ctx.bucket.all_objects(), [(key, object)].into());
    assert_eq!(ctx.bucket.calls("complete"), 1);
}

#[tokio::test]
async fn an_agent_that_knows_more_than_the_backup_goes_on_with_what_the_backup_says() {
    let since = brought(Taken::Queued).await;
    let id = since.of.download_id;
    let (ctx, _server, mut agent, (key, object)) = back(since, true).await;
    let forget = agent.forget().await;
    assert_eq!(forget.outcome, Outcome::Requeued);
    agent.forgotten(Busy { download_id: id, attempt: forget.attempt }).await;
    let of = agent.fetch().await;
    agent.bring(of, &ctx.bucket, &newer()).await;
    assert_eq!(agent.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.bucket.all_objects().get(&key), Some(&object));
}

#[tokio::test]
async fn a_cancel_after_the_restore_leaves_the_object_alone() {
    for taken in [Taken::Queued, Taken::Fetched, Taken::Opened, Taken::WithParts] {
        let since = brought(taken).await;
        let id = since.of.download_id;
        let (ctx, server, _agent, (key, object)) = back(since, false).await;
        server.downloads.cancel(id, String::from("ops")).await.unwrap().unwrap();
        assert_eq!(ctx.record(id).await.life.state, State::Cancelled);
        ctx.until_no_upload().await;
        assert_eq!(ctx.bucket.all_objects(), [(key, object)].into(), "{taken:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_looked_into_is_not_written_to() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    ctx.bucket.script("is_taken", Turn::Unclear);
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    let reason = |record: &hoist_server::store::Record| record.life.reason.as_ref().map(|reason| reason.code);
    let record = ctx
        .until(id, "bucket_unavailable", |record| {
            reason(record) == Some(hoist_wire::ReasonCode::BucketUnavailable)
        })
        .await;
    let next_at = server.downloads.view(&record).next_at.unwrap();
    assert!(next_at < ctx.clock_now().plus_secs(10), "the server tries the bucket again soon, and says so");
    assert_eq!(ctx.bucket.calls("create_upload"), 0);
    agent.accept().await;
    assert_eq!(ctx.bucket.calls("create_upload"), 1);
}
