//! No false success: `completed` is what a look at the object has proven, whatever else storage says.

use hoist_lab::Scene;
use hoist_lab::proxy::{Call, Canned, Fault, On};
use hoist_lab::s3::SeaweedFs;
use hoist_lab::scene::Setup;
use hoist_wire::{ReasonCode, State};

use crate::trouble::{THREE_PARTS, Trouble};

/// A CRC64NVME that no file of these tests has.
const ANOTHER_CRC: &str = "AAAAAAAAAAE=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_200_that_is_no_result_completes_nothing() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n   \n\n";
    for (body, words) in [
        (format!("{xml}<Error><Code>InternalError</Code><Message>m</Message></Error>"), "InternalError"),
        (format!("{xml}<Error><Code>SlowDown</Code><Message>m</Message></Error>"), "SlowDown"),
        (String::new(), "200"),
        ("<html><body>Please log in</body></html>".to_owned(), "200"),
        (format!("{xml}<CompleteMultipartUploadResult/>"), "200"),
    ] {
        let since = trouble.mark();
        let lie =
            trouble.scene.proxy().inject(On::next(Call::Complete), Fault::Answer(Canned::page(200, &body)));
        let id = trouble.ask().await;
        let waits = trouble.waits(id, ReasonCode::Completing, words).await;
        assert_eq!(waits.state, State::Completing, "{body}");
        trouble.arrives(id).await;
        assert_eq!((lie.hits(), trouble.count(since, Call::Complete)), (1, 2), "{body}");
    }
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_checksum_is_shown_beside_the_right_one_and_nothing_is_deleted() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let proxy = trouble.scene.proxy();
    let since = trouble.mark();
    proxy.inject(On::every(Call::Head), Fault::Header("x-amz-checksum-crc64nvme", ANOTHER_CRC.to_owned()));
    let id = trouble.ask().await;
    let right = hoist_lab::scripted::sums(&std::fs::read(trouble.path()).unwrap()).crc64nvme.to_string();
    let waits = trouble.waits(id, ReasonCode::CannotVerify, ANOTHER_CRC).await;
    assert!(waits.reason_message.unwrap().contains(&right), "both checksums belong into the evidence");
    assert!(waits.next_at.is_some() && waits.next_step.is_some());
    let late = trouble.operator.delete(&format!("/downloads/{id}")).await;
    assert_eq!((late.status, late.problem().as_str()), (409, "too_late"));
    let deleted = proxy.seen()[since..].iter().any(|passed| passed.method == "DELETE");
    assert!(!deleted, "what cannot be proven is evidence");
    proxy.mend();
    let download = trouble.arrives(id).await;
    assert_eq!(download.checksum_crc64nvme, Some(right));
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_another_token_is_not_taken_for_ours() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let proxy = trouble.scene.proxy();
    let since = trouble.mark();
    let foreign = Fault::Header("x-amz-meta-hoist-write-token", "somebody-else".to_owned());
    proxy.inject(On::every(Call::Head), foreign);
    let id = trouble.ask().await;
    let waits = trouble.waits(id, ReasonCode::CannotVerify, "write token").await;
    let message = waits.reason_message.unwrap();
    assert!(message.contains(&waits.object_key.unwrap()), "{message}");
    assert!(!message.contains("somebody-else"), "a token is nobody's to read: {message}");
    assert!(!proxy.seen()[since..].iter().any(|passed| passed.method == "DELETE"));
    proxy.mend();
    trouble.arrives(id).await;
    trouble.finish().await;
}

/// Has storage's word for a part come with another ETag, as a proxy that answers from its memory would.
async fn lies_about_an_etag(setup: Setup) {
    let trouble = Trouble::begin(setup.proxied_for_all(), THREE_PARTS).await;
    let wrong = format!("\"{}\"", "0".repeat(32));
    let since = trouble.mark();
    let lie = trouble.scene.proxy().inject(On::part(2), Fault::Header("etag", wrong));
    let id = trouble.ask().await;
    trouble.waits(id, ReasonCode::PartsMissing, "1 parts").await;
    trouble.arrives(id).await;
    assert_eq!((lie.hits(), trouble.count(since, Call::Complete)), (1, 2));
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_etag_in_a_parts_answer_completes_nothing() {
    lies_about_an_etag(Scene::earnest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_etag_completes_nothing_where_parts_are_listed_without_checksums() {
    let Some(seaweed) = SeaweedFs::start().await else { return };
    lies_about_an_etag(Scene::on(seaweed.server())).await;
}
