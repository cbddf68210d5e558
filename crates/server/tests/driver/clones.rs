//! A second agent of a client, with real links: who gets in, and that whoever is late moves nothing.

use std::time::Duration;

use hoist_server::downloads::Letter;
use hoist_wire::to_server::{
    Busy, Finished, Forgotten, Offer, PartsReady, Progress, Receipt, Receipts, Refused,
};
use hoist_wire::{Attempt, Batch, Crc64, ErrorCode, LinkSeq, Outcome, State, ToServer};

use crate::ctx::{Ctx, File, client};

fn file() -> File {
    File(vec![1, 2])
}

#[tokio::test]
async fn a_live_link_keeps_another_machine_out_and_the_record_names_both() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut held = server.agent_as("a.m", 1, Vec::new()).await.expect("the first one gets in");
    let (clone, ()) = tokio::join!(server.agent_as("c.n", 1, Vec::new()), held.pinged());
    assert!(clone.is_none(), "the clone got in");
    let suspicion = ctx.store.client(&client()).await.unwrap().unwrap().suspicion.expect("a suspicion");
    assert_eq!(suspicion.linked, Some("a.m".parse().unwrap()));
    assert_eq!(suspicion.linked_host.as_deref(), Some("test"));
    assert_eq!(suspicion.refused, Some("c.n".parse().unwrap()));
    // The link that was asked works on.
    let id = ctx.ask(&server).await;
    let of = held.fetch().await;
    held.bring(of, &ctx.bucket, &file()).await;
    ctx.until_state(id, State::Completed).await;
}

#[tokio::test]
async fn a_half_open_link_gives_way_to_another_machine() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    // Nobody reads this end, so no ping is answered.
    let dead = server.agent_as("a.m", 1, Vec::new()).await.expect("the first one gets in");
    tokio::time::pause();
    let since = tokio::time::Instant::now();
    // Small steps: time must not run away while the handshake is on its way.
    let steps = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let new = tokio::select! {
        new = server.dial("c.n") => new.expect("nobody answers: the newcomer gets in"),
        () = steps => panic!("steps never end"),
    };
    assert!((9..15).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    tokio::time::resume();
    let mut new = new.hello(1, Vec::new()).await;
    assert_eq!(
        ctx.store.client(&client()).await.unwrap().unwrap().suspicion,
        None,
        "no clone: the other is dead"
    );
    let id = ctx.ask(&server).await;
    let of = new.fetch().await;
    new.bring(of, &ctx.bucket, &file()).await;
    ctx.until_state(id, State::Completed).await;
    drop(dead);
}

/// All that an agent can say of an attempt.
fn all_about(of: Busy) -> Vec<ToServer> {
    let Busy { download_id, attempt } = of;
    let file = file();
    let identity = file.identity();
    let (path, name, size_bytes) = (String::from("/srv/late"), String::from("late"), file.size());
    let part = file.parts().remove(0);
    let receipt = Receipt {
        number: part.number,
        size_bytes: part.size_bytes,
        etag: String::from("late"),
        sums: part.sums,
    };
    let (code, message) = (ErrorCode::FileNotFound, String::from("late"));
    vec![
        ToServer::Offer(Offer { download_id, attempt, path, name, size_bytes, modified_ms: 2, identity }),
        ToServer::PartsReady(PartsReady { download_id, attempt, parts: Batch::from(part) }),
        ToServer::Receipts(Receipts { download_id, attempt, parts: Batch::from(receipt) }),
        ToServer::Progress(Progress {
            download_id,
            attempt,
            hashed_bytes: 9,
            sent_bytes: 9,
            rate_bytes_per_sec: 9,
            waiting: None,
        }),
        ToServer::Finished(Finished { download_id, attempt, size_bytes, crc64nvme: Crc64(7), identity }),
        ToServer::Refused(Refused { download_id, attempt, code, message, retry_after_ms: None }),
        ToServer::Forgotten(Forgotten { download_id, attempt }),
    ]
}

#[tokio::test]
async fn what_an_older_link_or_attempt_says_moves_nothing() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut old = server.agent_as("a.m", 1, Vec::new()).await.expect("the first one gets in");
    let id = ctx.ask(&server).await;
    let first = old.fetch().await;
    old.offer(first, &file()).await;
    old.accept().await;
    // Its process dies, and the next one knows nothing of the attempt: another one begins.
    let mut new = server.agent_as("b.m", 1, Vec::new()).await.expect("the same machine gets in");
    let second = new.fetch().await;
    assert_eq!((second.download_id, second.attempt), (id, Attempt(2)));
    new.offer(second, &file()).await;
    new.accept().await;
    let parts = file().parts();
    new.send(second, &ctx.bucket, vec![parts[0]]).await;
    let before = ctx.until(id, "the receipt is written", |record| record.stored_bytes > 0).await;
    let now = server.links.get(&client()).unwrap().seq;
    for (link, of) in [(LinkSeq(1), first), (LinkSeq(1), second), (now, first), (LinkSeq(0), second)] {
        for message in all_about(of) {
            server.downloads.drive(id, Letter::FromAgent { link, message }).await;
        }
        server.downloads.drive(id, Letter::LinkLost { link: LinkSeq(1) }).await;
    }
    server.read_all(id, &mut new).await;
    assert_eq!(ctx.record(id).await, before);
    new.send(second, &ctx.bucket, vec![parts[1]]).await;
    new.finished(second, &file()).await;
    assert_eq!(new.forget().await.outcome, Outcome::Completed);
    assert_eq!(ctx.record(id).await.life.attempt, Attempt(2));
}

#[tokio::test]
async fn what_was_confirmed_just_before_the_stop_is_kept() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    agent.offer(of, &file()).await;
    agent.accept().await;
    let (link, message) = (server.links.get(&client()).unwrap().seq, all_about(of).remove(2));
    // It lies in the driver's box, unread, when the stop comes.
    server.downloads.drive(id, Letter::FromAgent { link, message }).await;
    server.stop().await;
    let (attempt, parts) = ctx.store.parts(id).await.unwrap().expect("the receipt is written");
    assert_eq!((attempt, parts.is_empty()), (of.attempt, false));
}
