//! Whatever storage or the way there does, a file arrives as it is, or says why it does not yet.

use std::time::Duration;

use hoist_lab::proxy::{Call, Canned, Fault, On, Pace};
use hoist_lab::{Scene, WITHIN, Wire, eventually};
use hoist_wire::ReasonCode;
use hoist_wire::rest::Scope;
use serde_json::json;

use crate::trouble::{THREE_PARTS, Trouble};

/// Faults that stay until they are mended, and what the operator reads meanwhile.
fn lasting() -> Vec<(Fault, ReasonCode, &'static str)> {
    use ReasonCode::{StorageThrottled, StorageUnreachable};
    let answer = |status, code| Fault::Answer(Canned::error(status, code));
    vec![
        (Fault::Reset, StorageUnreachable, ""),
        (Fault::CutAfter(0), StorageUnreachable, ""),
        (Fault::CutAfter(3_000_000), StorageUnreachable, ""),
        (Fault::LoseReply, StorageUnreachable, ""),
        (Fault::CutReplyAfter(0), StorageUnreachable, ""),
        (Fault::FlipBit(70_000), StorageUnreachable, "BadDigest"),
        (answer(500, "InternalError"), StorageUnreachable, "500"),
        (answer(400, "RequestTimeout"), StorageUnreachable, "RequestTimeout"),
        (answer(400, "IncompleteBody"), StorageUnreachable, "IncompleteBody"),
        (Fault::Answer(Canned::page(502, "<html>bad gateway</html>")), StorageUnreachable, "502"),
        (Fault::Misreport(Canned::error(500, "InternalError")), StorageUnreachable, "500"),
        (answer(503, "SlowDown"), StorageThrottled, "SlowDown"),
        (Fault::Answer(Canned::page(429, "").retry_after(1)), StorageThrottled, "429"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_fails_is_named_and_the_file_arrives_once_it_is_mended() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_agents(), THREE_PARTS).await;
    for (fault, code, words) in lasting() {
        let what = format!("{fault:?}");
        let proxy = trouble.scene.proxy();
        let since = trouble.mark();
        let injected = proxy.inject(On::every(Call::Part), fault);
        let id = trouble.ask().await;
        let waits = trouble.waits(id, code, words).await;
        assert!(waits.next_at.is_some(), "{what}");
        proxy.mend();
        let download = trouble.arrives(id).await;
        assert!(download.attempt == 1 && injected.hits() > 0, "{what}: {download:#?}");
        // After a failure the same part comes on another connection.
        let first: Vec<_> = proxy.seen()[since..].iter().filter(|p| p.part() == Some(1)).cloned().collect();
        for pair in first.windows(2) {
            assert_ne!(pair[0].connection, pair[1].connection, "{what}");
        }
    }
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_once_is_not_worth_a_word() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_agents(), THREE_PARTS).await;
    let proxy = trouble.scene.proxy();
    for (on, fault) in [
        (On::part(1), Fault::Delay(Duration::from_millis(700))),
        (On::part(2), Fault::Throttle(8_000_000)),
        (On::part(3), Fault::CutAfter(7)),
        (On::part(2).times(2), Fault::FlipBit(5 * 1024 * 1024 - 1)),
        // A grant that storage calls expired is asked for anew, and counts against nobody.
        (On::part(1), Fault::Answer(Canned::error(403, "AccessDenied"))),
        (On::part(2), Fault::Answer(Canned::error(400, "ExpiredToken"))),
        (On::part(3), Fault::Answer(Canned::error(403, "RequestTimeTooSkewed"))),
    ] {
        let what = format!("{on:?} {fault:?}");
        let injected = proxy.inject(on, fault);
        let id = trouble.ask().await;
        let download = trouble.arrives(id).await;
        assert!(injected.hits() > 0 && download.attempt == 1, "{what}: {download:#?}");
    }
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_storage_denies_for_once_is_looked_at_and_goes_on() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let since = trouble.mark();
    trouble.scene.proxy().inject(On::part(3), Fault::Answer(Canned::error(404, "NoSuchUpload")));
    let id = trouble.ask().await;
    assert_eq!(trouble.arrives(id).await.attempt, 2);
    assert_eq!(trouble.count(since, Call::Create), 1, "the upload was there all the time");
    assert_eq!(trouble.count(since, Call::Part), 4, "what was stored was sent again");
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_stalls_goes_on_where_it_stood() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_agents(), THREE_PARTS).await;
    let stall = trouble.scene.proxy().inject(On::part(2), Fault::StallAfter(1_000_000));
    let id = trouble.ask().await;
    eventually("the stall", WITHIN, || async {
        if stall.hits() > 0 { Ok(()) } else { Err(format!("{:?}", trouble.scene.proxy().seen())) }
    })
    .await;
    trouble.operator.until(id, "a stored part", |download| download.stored_bytes > 0).await;
    stall.lift();
    trouble.arrives(id).await;
    assert_eq!(trouble.scene.proxy().confirmed_parts(), [1, 2, 3]);
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_a_silent_link_starves_is_sent_again_on_another_connection() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_agents(), 5_000_000).await;
    let proxy = trouble.scene.proxy();
    // The bucket gives up first, as S3 does after 20 s; an agent would after 30.
    let stall = proxy.inject(On::part(1), Fault::StallAfter(0));
    let id = trouble.ask().await;
    trouble.arrives(id).await;
    let tries: Vec<_> = proxy.seen().into_iter().filter(|passed| passed.part().is_some()).collect();
    assert_eq!((stall.hits(), tries.len()), (1, 2), "{tries:?}");
    assert_ne!(tries[0].connection, tries[1].connection);
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_url_is_renewed_though_the_store_calls_it_a_bad_request() {
    let setup = Scene::earnest().env("S3_PRESIGNED_URL_EXPIRY", "1s").proxied_for_agents();
    let trouble = Trouble::begin(setup, THREE_PARTS).await;
    let proxy = trouble.scene.proxy();
    proxy.hold_parts_after(1);
    // As Garage and rclone say it.
    let expired =
        proxy.inject(On::next(Call::Part).after(1), Fault::Answer(Canned::error(400, "InvalidRequest")));
    let id = trouble.ask().await;
    let held = || proxy.seen().into_iter().any(|passed| passed.part().is_some() && passed.status.is_none());
    eventually("a part that is held back", WITHIN, || async {
        if held() { Ok(()) } else { Err(format!("{:?}", proxy.seen())) }
    })
    .await;
    let since = std::time::Instant::now();
    eventually("the grant to be old", WITHIN, || async {
        let age = since.elapsed();
        if age >= Duration::from_millis(1100) { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
    proxy.release();
    let download = trouble.arrives(id).await;
    assert_eq!((expired.hits(), download.attempt), (1, 1));
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_fails_the_server_is_named_and_no_upload_is_left() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_all(), THREE_PARTS).await;
    let proxy = trouble.scene.proxy();
    for fault in [
        Fault::LoseReply,
        Fault::CutReplyAfter(30),
        Fault::Misreport(Canned::page(200, "")),
        Fault::Misreport(Canned::error(500, "InternalError")),
        Fault::Reset,
        Fault::Answer(Canned::error(503, "SlowDown")),
        Fault::Answer(Canned::error(403, "AccessDenied")),
    ] {
        let what = format!("{fault:?}");
        let injected = proxy.inject(On::next(Call::Create), fault);
        let id = trouble.ask().await;
        trouble.waits(id, ReasonCode::BucketUnavailable, "create_upload").await;
        trouble.arrives(id).await;
        assert_eq!(injected.hits(), 1, "{what}");
    }
    // Whatever was created and never heard of is found and aborted: the scene's end looks.
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_cut_on_its_way_to_the_operator_goes_on_where_it_was() {
    let trouble = Trouble::begin(Scene::earnest().proxied_for_agents(), THREE_PARTS).await;
    let cut = trouble.scene.proxy().inject(On::next(Call::Get).times(2), Fault::CutReplyAfter(1_000_000));
    let cli = trouble.scene.cli().env("OPERATOR_TOKEN", &trouble.scene.operator_token(&[Scope::Admin]));
    let saved = trouble.scene.folder().join("saved");
    let path = trouble.path().to_str().unwrap();
    let done = cli.run(&["download", "restaurant-1", path, "-o", saved.to_str().unwrap()]).await;
    assert_eq!((done.code, cut.hits()), (0, 2), "{}", done.stderr);
    assert!(std::fs::read(&saved).unwrap() == std::fs::read(path).unwrap());
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_refused_or_cut_while_it_opens_is_tried_again() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let wire = Wire::start(scene.server.port()).await;
    let path = scene.site.random("report", 77);
    wire.refuse(true);
    let _agent = scene.agent("restaurant-1").env("SERVER_WS_URL", wire.ws_url()).start();
    let asked = operator.ask_with("restaurant-1", &json!({"file_path": path, "allow_unknown": true})).await;
    let tried = |count: usize| {
        let wire = &wire;
        eventually("tries", WITHIN, move || async move {
            if wire.accepted() >= count { Ok(()) } else { Err(format!("{}", wire.accepted())) }
        })
    };
    tried(2).await;
    // Amid the server's answer.
    wire.cut_each_after(600);
    wire.refuse(false);
    tried(4).await;
    assert_eq!(operator.show(asked.id).await.reason, Some(ReasonCode::ClientOffline));
    wire.cut_each_after(u64::MAX);
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_after_each_part_costs_no_part() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let wire = Wire::start(scene.server.port()).await;
    let path = scene.site.random("report", THREE_PARTS);
    let _agent = scene.agent("restaurant-1").env("SERVER_WS_URL", wire.ws_url()).start();
    operator.sees("restaurant-1", true).await;
    scene.proxy().hold_parts_after(0);
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    for count in 1..=2 {
        scene.proxy().hold_parts_after(count);
        eventually("another part", WITHIN, || async {
            let parts = scene.proxy().confirmed_parts();
            if parts.len() == count { Ok(()) } else { Err(format!("{parts:?}")) }
        })
        .await;
        wire.cut();
        eventually("another link", WITHIN, || async {
            let links = wire.accepted();
            if links > count { Ok(()) } else { Err(format!("{links} links")) }
        })
        .await;
    }
    scene.proxy().release();
    let download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 1, "the agent had the attempt all the time");
    assert_eq!(scene.proxy().confirmed_parts(), [1, 2, 3], "a part was sent twice, or never");
    let (bytes, _) = operator.fetch(asked.id).await;
    assert!(bytes == std::fs::read(path).unwrap());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_a_modem_is_a_link() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let wire = Wire::start(scene.server.port()).await;
    let path = scene.site.random("report", THREE_PARTS);
    // 9,600 bit/s and a quarter of a second are enough for every word.
    wire.pace(Pace::Throttled(1_200));
    let _agent = scene.agent("restaurant-1").env("SERVER_WS_URL", wire.ws_url()).start();
    operator.sees("restaurant-1", true).await;
    wire.pace(Pace::Delayed(Duration::from_millis(250)));
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    let download = operator.completes(asked.id).await;
    assert_eq!((download.attempt, wire.accepted()), (1, 1));
    scene.finish().await;
}
