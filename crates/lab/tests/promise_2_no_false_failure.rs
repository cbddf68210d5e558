//! No false failure: what became of a Complete is settled by looking, and what was done is never called failed.

use hoist_lab::proxy::{Call, Canned, Fault, On};
use hoist_lab::s3::{LocalStack, Rclone, S3Server, SeaweedFs};
use hoist_lab::scene::Setup;
use hoist_lab::scripted::Job;
use hoist_lab::{Scene, ScriptedAgent};
use hoist_wire::to_agent::Answer;
use hoist_wire::{ReasonCode, State, ToAgent};

use crate::trouble::{THREE_PARTS, Trouble};

/// Checks that no Complete was repeated without a look at the upload between: that the SDK repeats nothing by itself.
fn looks_between(calls: &[Call]) {
    let asked: Vec<Call> =
        calls.iter().copied().filter(|call| matches!(call, Call::Complete | Call::ListParts)).collect();
    let repeated = asked.windows(2).any(|pair| pair == [Call::Complete, Call::Complete]);
    assert!(!repeated, "a Complete was repeated blindly: {calls:?}");
}

/// Brings a file while its first Complete meets a fault, and gives what was asked of the bucket.
async fn brings(trouble: &Trouble, fault: Fault) -> Vec<Call> {
    let since = trouble.mark();
    let what = format!("{fault:?}");
    let injected = trouble.scene.proxy().inject(On::next(Call::Complete), fault);
    let id = trouble.ask().await;
    let download = trouble.arrives(id).await;
    assert_eq!((injected.hits(), download.attempt), (1, 1), "{what}");
    let calls = trouble.scene.proxy().calls()[since..].to_vec();
    looks_between(&calls);
    calls
}

fn completes(calls: &[Call]) -> usize {
    calls.iter().filter(|call| **call == Call::Complete).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_that_was_carried_out_is_proven_by_looking_whatever_was_answered() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let error = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>m</Message></Error>";
    for fault in [
        Fault::LoseReply,
        Fault::CutReplyAfter(40),
        Fault::Misreport(Canned::page(200, "")),
        Fault::Misreport(Canned::page(200, error)),
        Fault::Misreport(Canned::error(500, "InternalError")),
        Fault::Misreport(Canned::error(503, "SlowDown")),
        Fault::Misreport(Canned::page(502, "<html>bad gateway</html>")),
        // What a retry hidden on the way is answered, once the first try was carried out.
        Fault::Misreport(Canned::error(404, "NoSuchUpload")),
        Fault::Misreport(Canned::error(400, "InvalidPart")),
        Fault::Misreport(Canned::error(403, "AccessDenied")),
    ] {
        let what = format!("{fault:?}");
        let calls = brings(&trouble, fault).await;
        assert_eq!(completes(&calls), 1, "{what}: {calls:?}");
        assert!(calls.contains(&Call::Head), "{what}: {calls:?}");
    }
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_that_was_not_carried_out_is_sent_again_after_a_look() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    for fault in [
        Fault::Reset,
        Fault::CutAfter(100),
        Fault::Answer(Canned::error(500, "InternalError")),
        Fault::Answer(Canned::error(503, "SlowDown").retry_after(1)),
        Fault::Answer(Canned::error(409, "OperationAborted")),
        Fault::Answer(Canned::error(400, "RequestTimeout")),
        Fault::Answer(Canned::error(403, "AccessDenied")),
        Fault::Answer(Canned::error(404, "NoSuchUpload")),
        Fault::Answer(Canned::error(400, "InvalidPart")),
    ] {
        let what = format!("{fault:?}");
        let calls = brings(&trouble, fault).await;
        assert_eq!(completes(&calls), 2, "{what}: {calls:?}");
    }
    trouble.finish().await;
}

/// Has Complete's answer lost and one kind of look refused, checks what is shown, and mends it.
async fn cannot_look(looks: On, canned: Canned, words: &str) {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let since = trouble.mark();
    trouble.scene.proxy().inject(On::next(Call::Complete), Fault::LoseReply);
    trouble.scene.proxy().inject(looks, Fault::Answer(canned));
    let id = trouble.ask().await;
    let waits = trouble.waits(id, ReasonCode::CannotVerify, words).await;
    assert_eq!(waits.state, State::Completing);
    assert!(waits.next_at.is_some() && waits.error.is_none());
    trouble.scene.proxy().mend();
    trouble.arrives(id).await;
    assert_eq!(trouble.count(since, Call::Complete), 1);
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_may_not_be_looked_at_is_proven_once_it_may() {
    // The first look is whether the key is free.
    let looks = On::every(Call::Head).after(1);
    cannot_look(looks, Canned::error(403, "AccessDenied"), "s3:GetObject").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cannot_list_parts_is_asked_again() {
    cannot_look(On::every(Call::ListParts), Canned::error(500, "InternalError"), "InternalError").await;
}

/// Has the answer to a Complete lost on a store of another maker; each answers a second look in its own way.
async fn settles_on(server: &S3Server, bytes: u64) {
    let trouble = Trouble::begin(Scene::on(server).proxied_for_all(), bytes).await;
    let calls = brings(&trouble, Fault::LoseReply).await;
    assert_eq!(completes(&calls), 1, "{calls:?}");
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_settled_on_seaweed_fs() {
    let Some(seaweed) = SeaweedFs::start().await else { return };
    settles_on(seaweed.server(), THREE_PARTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_settled_on_local_stack() {
    let Some(local_stack) = LocalStack::start().await else { return };
    settles_on(local_stack.server(), THREE_PARTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_settled_on_rclone_for_one_part_and_told_apart_for_more() {
    let Some(rclone) = Rclone::start().await else { return };
    settles_on(rclone.server(), 77).await;
    // Its HEAD says nothing of several parts: that is shown, and never taken for a success or a failure.
    let trouble = Trouble::begin(Scene::on(rclone.server()).proxied_for_all(), THREE_PARTS).await;
    trouble.scene.proxy().inject(On::next(Call::Complete), Fault::LoseReply);
    let id = trouble.ask().await;
    let waits = trouble.waits(id, ReasonCode::CannotVerify, "its parts make").await;
    assert!(waits.reason_message.unwrap().contains(&waits.object_key.unwrap()));
    trouble.scene.finish_open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_is_put_until_it_is_there() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), 0).await;
    for fault in [Fault::LoseReply, Fault::Reset, Fault::Answer(Canned::error(503, "SlowDown"))] {
        let injected = trouble.scene.proxy().inject(On::next(Call::Put), fault);
        let id = trouble.ask().await;
        trouble.arrives(id).await;
        assert_eq!(injected.hits(), 1);
    }
    trouble.finish().await;
}

/// Has another part put over one that counts, unheard of, and checks what the object is made of in the end.
async fn replaced_on(setup: Setup) {
    let scene = setup.start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let mut job = agent.take(vec![7; 6_000_000]).await;
    for number in [1, 2] {
        send(&scene, &mut agent, &job, number).await;
    }
    let other = Job { bytes: vec![8; 6_000_000], ..job.clone() };
    let grant = agent.grant(&other, 1).await;
    assert_eq!(scene.storage.put(&grant, other.part(1)).await, 200);
    agent.say(&job.finished()).await;
    // A store that keeps both may take the right one by its ETag: then no part is asked for again.
    while let ToAgent::Fetch(again) = agent.hear().await {
        assert_eq!(operator.show(asked.id).await.state, State::Uploading);
        job = agent.offer(again, job.bytes).await;
        for number in [1, 2] {
            if agent.ask(&job, number).await != Answer::Stored {
                send(&scene, &mut agent, &job, number).await;
            }
        }
        agent.say(&job.finished()).await;
    }
    operator.completes(asked.id).await;
    let (bytes, _) = operator.fetch(asked.id).await;
    assert!(bytes == job.bytes);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_replaced_is_sent_again() {
    replaced_on(Scene::earnest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_replaced_in_seaweed_fs_is_never_mixed_in() {
    let Some(seaweed) = SeaweedFs::start().await else { return };
    replaced_on(Scene::on(seaweed.server())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_replaced_in_local_stack_is_sent_again() {
    let Some(local_stack) = LocalStack::start().await else { return };
    replaced_on(Scene::on(local_stack.server())).await;
}

async fn send(scene: &Scene, agent: &mut ScriptedAgent, job: &Job, number: u16) {
    let grant = agent.grant(job, number).await;
    let (status, etag) = scene.storage.put_to(grant.url.open(), &grant, &[], job.part(number)).await;
    assert_eq!(status, 200);
    agent.say(&job.receipt(number, &etag)).await;
}
