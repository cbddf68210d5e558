//! Files on their way up: whole, resumed, stopped, retried, changed.

use std::time::{Duration, Instant};

use hoist_wire::to_agent::{Answer, Wait};
use hoist_wire::{Attempt, ChecksumKind, Crc64, ErrorCode, OnChange, ReasonCode, ToServer};

use crate::support::{Agent, Bucket, Deed, Job, PART, Server};
use crate::{crc, numbers};

#[tokio::test]
async fn a_file_goes_up_and_a_stored_part_stays() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let bytes = agent.file("report", 2 * PART + 77);
    let (mut link, hello) = server.link().await;
    assert_eq!(link.headers["authorization"], "Bearer the-token");
    assert_eq!(link.headers["sec-websocket-protocol"], "hoist.v1");
    assert_eq!(link.headers["path"], "/ws/connect");
    assert!(link.headers["hoist-instance"].parse::<hoist_wire::Instance>().is_ok());
    assert_eq!((hello.slots, hello.busy.len()), (2, 0));

    let job = Job::new("report");
    let offer = link.start(&job).await;
    assert_eq!((offer.name.as_str(), offer.size_bytes), ("report", 2 * PART + 77));
    let (mut told, mut receipts) = (Vec::new(), Vec::new());
    let finished = loop {
        match link.hear().await {
            ToServer::PartsReady(ready) => {
                for part in ready.parts {
                    let number = part.number.get();
                    told.push((number, part.size_bytes, part.sums.crc64nvme));
                    let put = Answer::Put(bucket.grant(number, part.size_bytes, 900));
                    link.answer(&job, number, if number == 2 { Answer::Stored } else { put }).await;
                }
            }
            ToServer::Receipts(batch) => receipts.extend(batch.parts),
            ToServer::Finished(finished) => break finished,
            other => panic!("{other:?}"),
        }
    };
    told.sort_by_key(|part| part.0);
    let parts: Vec<&[u8]> = bytes.chunks(usize::try_from(PART).unwrap()).collect();
    let expected: Vec<_> = (1_u16..).zip(&parts).map(|(n, part)| (n, part.len() as u64, crc(part))).collect();
    assert_eq!(told, expected);
    receipts.sort_by_key(|receipt| receipt.number);
    let tags: Vec<(u16, &str)> = receipts.iter().map(|r| (r.number.get(), r.etag.as_str())).collect();
    assert_eq!(tags, [(1, "etag-1"), (3, "etag-3")]);
    assert_eq!((finished.size_bytes, finished.crc64nvme), (bytes.len() as u64, crc(&bytes)));
    assert_eq!(bucket.object(), [parts[0], parts[2]].concat());
    assert_eq!(bucket.headers(3)["content-length"], "77");

    link.forget(&job).await;
    assert!(matches!(link.hear().await, ToServer::Forgotten(_)));
    let asked = Instant::now();
    assert!(agent.stop().await.is_ok());
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn an_empty_file_and_md5_and_many_parts() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start_with(server.addr, |config| config.max_parts_in_flight = 1);
    agent.file("empty", 0);
    let bytes = agent.file("large", 17 * PART + 1);
    let (mut link, _) = server.link().await;
    let empty = Job::new("empty");
    assert_eq!(link.start(&empty).await.size_bytes, 0);
    let ToServer::Finished(finished) = link.hear().await else { panic!("nothing is to be sent") };
    assert_eq!((finished.size_bytes, finished.crc64nvme), (0, Crc64(0)));
    link.forget(&empty).await;
    assert!(matches!(link.hear().await, ToServer::Forgotten(_)));

    let mut large = Job::new("large");
    large.attempt = Attempt(7);
    link.fetch(&large).await;
    assert!(matches!(link.hear().await, ToServer::Offer(_)));
    link.accept(&large, ChecksumKind::PartMd5).await;
    let heard = link.serve(&large, &bucket).await;
    let md5s = heard.iter().filter_map(|message| match message {
        ToServer::PartsReady(ready) => Some(ready.parts.iter().all(|part| part.sums.md5.is_some())),
        _ => None,
    });
    assert!(md5s.into_iter().all(|there| there));
    assert!(bucket.object() == bytes);
    assert!(bucket.arrivals().values().all(|count| *count == 1));
    // One part is in flight at a time, and its connection serves the next one.
    assert_eq!(bucket.connections(), 1);
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn after_a_reconnect_receipts_are_repeated_and_nothing_is_sent_twice() {
    let (server, mut bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let bytes = agent.file("report", 3 * PART);
    bucket.plan(2, [Deed::Hold]);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    let mut receipt_of_one = false;
    let mut asked = Vec::new();
    while !(receipt_of_one && asked.contains(&2)) {
        match link.hear().await {
            ToServer::PartsReady(ready) => {
                for part in ready.parts {
                    asked.push(part.number.get());
                    // The third one stays without an answer.
                    if part.number.get() < 3 {
                        let grant = bucket.grant(part.number.get(), part.size_bytes, 900);
                        link.answer(&job, part.number.get(), Answer::Put(grant)).await;
                    }
                }
            }
            ToServer::Receipts(_) => receipt_of_one = true,
            other => panic!("{other:?}"),
        }
    }
    bucket.wait_held(1).await;
    drop(link);
    // The part in flight goes on while there is no link.
    bucket.release();
    bucket.wait_held(0).await;

    let (mut link, hello) = server.link().await;
    assert_eq!(hello.busy.len(), 1);
    assert_eq!((hello.busy[0].download_id, hello.busy[0].attempt), (job.id, job.attempt));
    link.start(&job).await;
    let heard = link.serve(&job, &bucket).await;
    let mut receipts: Vec<u16> =
        heard.iter().filter(|m| matches!(m, ToServer::Receipts(_))).flat_map(numbers).collect();
    receipts.sort_unstable();
    receipts.dedup();
    assert_eq!(receipts, [1, 2, 3]);
    let ready: Vec<u16> =
        heard.iter().filter(|m| matches!(m, ToServer::PartsReady(_))).flat_map(numbers).collect();
    assert_eq!(ready, [3]);
    assert!(bucket.object() == bytes);
    assert_eq!(bucket.arrivals().into_values().collect::<Vec<_>>(), [1, 1, 1]);

    // And once more when all is done: the server may have missed the end.
    drop(link);
    let (mut link, _) = server.link().await;
    link.start(&job).await;
    let heard = link.serve(&job, &bucket).await;
    assert_eq!(numbers(&heard[0]), [1, 2, 3]);
    assert!(matches!(heard[1], ToServer::Finished(_)));
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn a_finish_that_nobody_heard_is_said_again_though_parts_were_stored_before() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 2 * PART);
    let job = Job::new("report");
    for _ in 0..2 {
        // The second link is a server that has never heard of `finished`.
        let (mut link, _) = server.link().await;
        link.start(&job).await;
        loop {
            match link.hear().await {
                ToServer::PartsReady(ready) => {
                    for part in ready.parts {
                        let answer = if part.number.get() == 1 {
                            Answer::Stored
                        } else {
                            Answer::Put(bucket.grant(part.number.get(), part.size_bytes, 900))
                        };
                        link.answer(&job, part.number.get(), answer).await;
                    }
                }
                ToServer::Finished(_) => break,
                ToServer::Receipts(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(bucket.arrivals().into_values().collect::<Vec<_>>(), [1]);
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn forget_closes_the_connection_at_once() {
    let (server, mut bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 8 * PART);
    bucket.plan(1, [Deed::Hold]);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    let ToServer::PartsReady(ready) = link.hear().await else { panic!("a part is ready") };
    link.answer(&job, 1, Answer::Put(bucket.grant(1, ready.parts[0].size_bytes, 900))).await;
    bucket.wait_held(1).await;
    let asked = Instant::now();
    link.forget(&job).await;
    while !matches!(link.hear().await, ToServer::Forgotten(_)) {}
    bucket.release();
    assert!(asked.elapsed() < Duration::from_secs(1));
    bucket.wait_held(0).await;
    assert!(bucket.arrivals().is_empty());
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn old_grants_are_asked_for_again_and_a_second_refusal_is_final() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 9);
    agent.file("other", 9);
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    // It is too old before it can be used.
    link.answer(&job, 1, Answer::Put(bucket.grant(1, 9, 0))).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    link.answer(&job, 1, Answer::Wait(Wait { code: ReasonCode::BucketUnavailable, retry_in_ms: 10 })).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    bucket.plan(1, [Deed::Answer(403, denied)]);
    link.answer(&job, 1, Answer::Put(bucket.grant(1, 9, 900))).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    link.answer(&job, 1, Answer::Put(bucket.grant(1, 9, 900))).await;
    assert!(matches!(link.serve(&job, &bucket).await.last(), Some(ToServer::Finished(_))));

    bucket.plan(1, [Deed::Answer(403, denied), Deed::Answer(403, denied)]);
    let other = Job::new("other");
    link.start(&other).await;
    let heard = link.serve(&other, &bucket).await;
    let Some(ToServer::Refused(refused)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::StorageRefused, None));
    assert!(refused.message.contains("AccessDenied"), "{}", refused.message);
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn what_storage_says_is_tried_again_on_a_new_connection() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let bytes = agent.file("report", 999);
    let (mut link, _) = server.link().await;
    bucket.plan(
        1,
        [
            Deed::Answer(503, "<Error><Code>SlowDown</Code></Error>"),
            Deed::Answer(500, "<html>"),
            Deed::Answer(400, "<Error><Code>BadDigest</Code></Error>"),
        ],
    );
    let job = Job::new("report");
    link.start(&job).await;
    let mut waits = Vec::new();
    loop {
        match link.hear_any().await.unwrap() {
            ToServer::PartsReady(_) => {
                link.answer(&job, 1, Answer::Put(bucket.grant(1, 999, 900))).await;
            }
            ToServer::Progress(progress) => waits.extend(progress.waiting.map(|waiting| waiting.code)),
            ToServer::Finished(_) => break,
            _ => {}
        }
    }
    assert_eq!((bucket.object(), bucket.connections()), (bytes, 4));
    let told = [ReasonCode::StorageThrottled, ReasonCode::StorageUnreachable];
    assert!(waits.iter().all(|code| told.contains(code)), "{waits:?}");

    let gone = Job { attempt: Attempt(2), ..job };
    bucket.plan(1, [Deed::Answer(404, "<Error><Code>NoSuchUpload</Code></Error>")]);
    link.start(&gone).await;
    let heard = link.serve(&gone, &bucket).await;
    let Some(ToServer::Refused(refused)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::StorageRefused, Some(0)));
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn an_unreachable_bucket_is_told() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 999);
    let closed = Bucket::start().await;
    let grant = closed.grant(1, 999, 900);
    drop(closed);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    link.answer(&job, 1, Answer::Put(grant)).await;
    let waiting = loop {
        if let Some(ToServer::Progress(progress)) = link.hear_any().await
            && let Some(waiting) = progress.waiting
        {
            break waiting;
        }
    };
    assert_eq!(waiting.code, ReasonCode::StorageUnreachable);
    assert!(!waiting.message.contains("Signature"), "{}", waiting.message);
    assert!(bucket.arrivals().is_empty());
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn a_file_that_changes_is_given_up() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let (mut link, _) = server.link().await;
    for on_change in [OnChange::Restart, OnChange::Fail, OnChange::Prefix] {
        agent.file("report", PART + 5);
        let job = Job { on_change, attempt: Attempt(on_change as u32 + 1), ..Job::new("report") };
        link.start(&job).await;
        let first = link.hear().await;
        assert_eq!(numbers(&first)[0], 1);
        // Other bytes of the same length, after they were hashed and before they are sent.
        let mut changed = std::fs::read(agent.path("report")).unwrap();
        changed[3] ^= 1;
        std::fs::write(agent.path("report"), changed).unwrap();
        for number in numbers(&first) {
            link.answer(&job, number, Answer::Put(bucket.grant(number, PART, 900))).await;
        }
        let heard = link.serve(&job, &bucket).await;
        let Some(ToServer::Refused(refused)) = heard.last() else { panic!("{on_change} {heard:?}") };
        assert_eq!(refused.code, ErrorCode::FileChanged, "{}", refused.message);
        assert_eq!(bucket.arrivals().get(&1), None);
    }
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn a_prefix_grows_and_is_whole() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let bytes = agent.file("log", 1000);
    let (mut link, _) = server.link().await;
    let job = Job { on_change: OnChange::Prefix, ..Job::new("log") };
    assert_eq!(link.start(&job).await.size_bytes, 1000);
    agent.file("log", 3000);
    let heard = link.serve(&job, &bucket).await;
    let Some(ToServer::Finished(finished)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!((finished.size_bytes, finished.crc64nvme), (1000, crc(&bytes)));
    assert_eq!(bucket.object(), bytes);
    assert!(agent.stop().await.is_ok());
}

/// Paused time moves only while nothing can run, so an attempt that looks again and again would hold it for ever.
#[test]
fn an_attempt_that_waits_for_the_server_rests() {
    let (rested, rests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (server, bucket) = (Server::start().await, Bucket::start().await);
            let agent = Agent::start(server.addr);
            agent.file("report", 7);
            let (mut link, _) = server.link().await;
            let job = Job::new("report");
            link.start(&job).await;
            assert!(matches!(link.serve(&job, &bucket).await.pop(), Some(ToServer::Finished(_))));
            tokio::time::pause();
            // The server settles, for longer than anything that an attempt says regularly.
            tokio::time::sleep(Duration::from_secs(35)).await;
            rested.send(()).unwrap();
            drop(agent);
        });
    });
    rests.recv_timeout(Duration::from_secs(30)).expect("time stands still: something never rests");
}
