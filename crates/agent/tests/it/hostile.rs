//! A server that was stolen, or broke: what it says ends in an answer or with the link, and never in a byte sent elsewhere.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use hoist_wire::to_agent::{Goodbye, GoodbyeReason};
use hoist_wire::{DownloadId, ErrorCode, ToAgent, ToServer};
use tokio::net::TcpListener;

use crate::numbers;
use crate::support::{Agent, Bucket, Deed, Job, Link, Server, soon};

/// Asks for one more file and has it, as proof that the agent is well.
async fn works(link: &mut Link, agent: &Agent, bucket: &Bucket) {
    let bytes = agent.file("after all that", 1000);
    let job = Job { id: DownloadId::new(9, [9; 10]), ..Job::new("after all that") };
    link.start(&job).await;
    let heard = link.serve(&job, bucket).await;
    assert!(matches!(heard.last(), Some(ToServer::Finished(_))), "{heard:?}");
    assert_eq!(bucket.object(), bytes);
}

#[tokio::test]
async fn a_cut_that_cannot_be_is_refused_and_the_agent_goes_on() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 1000);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    // For an attempt that is not there it is nobody's.
    link.accept(&job, hoist_wire::ChecksumKind::Crc64nvme).await;
    for (n, size) in
        (1..).zip(["0", "1", "5242879", "18446744073709551615", "9223372036854775808", "5368709121"])
    {
        let job = Job { id: DownloadId::new(n, [7; 10]), ..job.clone() };
        link.fetch(&job).await;
        let ToServer::Offer(_) = link.hear().await else { panic!("an offer") };
        link.say_text(&format!(
            r#"{{"type":"accept","download_id":"{}","attempt":1,"part_size_bytes":{size},"checksum":"crc64nvme","encoding":"identity"}}"#,
            job.id
        ))
        .await;
        match link.hear().await {
            ToServer::Refused(refused) => {
                assert_eq!(refused.code, ErrorCode::Unsupported, "{size}: {}", refused.message);
                assert!(refused.message.contains(size), "{size}: {}", refused.message);
            }
            // A size that S3 would refuse for other parts is right for the last one, and this file has no other.
            ToServer::PartsReady(ready) => {
                assert_eq!(
                    ready.parts.iter().map(|part| part.size_bytes).collect::<Vec<_>>(),
                    [1000],
                    "{size}"
                );
                link.forget(&job).await;
                assert!(matches!(link.hear().await, ToServer::Forgotten(_)));
            }
            other => panic!("{size}: {other:?}"),
        }
    }
    works(&mut link, &agent, &bucket).await;
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn a_flood_of_requests_is_answered_one_by_one_and_takes_no_more_slots() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start_with(server.addr, |config| config.slots = 2);
    agent.file("report", 1000);
    let (mut link, _) = server.link().await;
    let job = |n: u64| Job { id: DownloadId::new(n, [3; 10]), ..Job::new("report") };
    let (mut offered, mut busy) = (BTreeSet::new(), 0);
    // In pieces that both ends' buffers hold: this server reads only between them.
    for piece in 0..20 {
        for n in 0..50 {
            link.fetch(&job(piece * 50 + n)).await;
        }
        for _ in 0..50 {
            match link.hear().await {
                ToServer::Offer(offer) => drop(offered.insert(offer.download_id)),
                ToServer::Refused(refused) => {
                    assert_eq!(refused.code, ErrorCode::AgentBusy);
                    busy += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((offered.len(), busy), (2, 998));
    for n in 0..1_000 {
        link.forget(&job(n)).await;
        assert!(matches!(link.hear().await, ToServer::Forgotten(_)));
    }
    works(&mut link, &agent, &bucket).await;
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn what_is_no_message_is_answered_so_and_a_frame_that_is_too_large_ends_the_link() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let (mut link, _) = server.link().await;
    link.say_text(&format!(r#"{{"type":"unsupported","kind":"{}"}}"#, "x".repeat(70_000))).await;
    assert!(link.hear_any().await.is_none());
    let (mut link, _) = server.link().await;
    for text in [
        "no JSON".to_owned(),
        r#"{"type":"fetch"}"#.to_owned(),
        r#"{"type":"fetch","download_id":"x\ny","attempt":-1}"#.to_owned(),
        format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000)),
    ] {
        link.say_text(&text).await;
        let heard = link.hear().await;
        assert!(
            matches!(&heard, ToServer::Unsupported(it) if it.kind == "malformed"),
            "{text:.60}: {heard:?}"
        );
    }
    let goodbye = Goodbye {
        reason: GoodbyeReason::Stopping,
        message: "\u{1b}[2J\n".repeat(5_000),
        reconnect_after_ms: 0,
    };
    link.say(ToAgent::Goodbye(goodbye)).await;
    let (mut link, _) = server.link().await;
    works(&mut link, &agent, &bucket).await;
    assert!(agent.stop().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nobody_sends_the_agent_or_its_token_elsewhere() {
    let server = Server::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = elsewhere.local_addr().unwrap();
    let agent = Agent::start(server.addr);
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: http://{there}/ws/connect\r\n");
        server.answer(&format!("HTTP/1.1 {status}\r\n{location}content-length: 0\r\n\r\n")).await;
    }
    let (_link, _) = server.link().await;
    assert!(elsewhere.accept().now_or_never().is_none(), "nobody was dialled there");
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn storage_sends_no_part_elsewhere() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 1000);
    bucket.plan(1, [Deed::Answer(307, ""), Deed::Answer(302, "")]);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    let grant = bucket.grant(1, 1000, 900);
    link.answer(&job, 1, hoist_wire::to_agent::Answer::Put(grant)).await;
    // It is an answer that is no success, and the part is asked for again or given up; nothing follows it.
    let next = soon("what comes of it", link.hear()).await;
    assert!(matches!(next, ToServer::PartsReady(_) | ToServer::Refused(_)), "{next:?}");
    assert!(bucket.arrivals().is_empty());
    assert!(agent.stop().await.is_ok());
}
