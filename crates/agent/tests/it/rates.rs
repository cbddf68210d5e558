//! Rates, on paused time: how fast bytes leave, and that nothing dies of slowness.

use std::time::Duration;

use hoist_wire::to_agent::Answer;
use hoist_wire::to_server::Progress;
use hoist_wire::{Attempt, ReasonCode, ToServer};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Agent, Bucket, Job, Link, PART, Server};

const SECOND: Duration = Duration::from_secs(1);
const KIB: u64 = 1024;

/// What came while an attempt of one part was served.
#[derive(Debug)]
struct Heard {
    pings: Vec<Instant>,
    told: Vec<Progress>,
    granted: Instant,
    stored: Instant,
}

/// Grants what is asked for until the attempt is finished. A grant lives for a minute, and only its start must meet it.
///
/// Paused time runs on while a blocking thread reads, so only what lies between grant and receipt is measured.
async fn serve(link: &mut Link, job: &Job, bucket: &Bucket) -> Heard {
    let now = Instant::now();
    let mut heard = Heard { pings: Vec::new(), told: Vec::new(), granted: now, stored: now };
    loop {
        let text = match link.frame().await {
            Message::Text(text) => text,
            Message::Ping(_) => {
                heard.pings.push(Instant::now());
                continue;
            }
            other => panic!("{other:?}"),
        };
        match ToServer::decode(&text).unwrap() {
            ToServer::PartsReady(ready) => {
                heard.granted = Instant::now();
                for part in ready.parts.iter() {
                    let grant = bucket.grant(part.number.get(), part.size_bytes, 60);
                    link.answer(job, part.number.get(), Answer::Put(grant)).await;
                }
            }
            ToServer::Progress(progress) => heard.told.push(progress),
            ToServer::Receipts(_) => heard.stored = Instant::now(),
            ToServer::Finished(_) => return heard,
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until bytes are on their way.
async fn until_moving(link: &mut Link) {
    loop {
        match link.hear_any().await {
            Some(ToServer::Progress(progress)) if progress.sent_bytes > KIB => return,
            Some(ToServer::Progress(_) | ToServer::Receipts(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Grants the first part that is asked for.
async fn grant_first(link: &mut Link, job: &Job, bucket: &Bucket) {
    assert_eq!(crate::numbers(&link.hear().await), [1]);
    link.answer(job, 1, Answer::Put(bucket.grant(1, PART, 900))).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_lowest_rate_a_part_arrives_in_one_try_and_heartbeats_go_on() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start_with(server.addr, |config| config.max_rate = Some(KIB));
    let bytes = agent.file("report", 90 * KIB);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    let Heard { pings, told, granted, stored } = serve(&mut link, &job, &bucket).await;
    assert_eq!(bucket.object(), bytes);
    // Longer than any silence that we or storage would take for death.
    let took = stored - granted;
    assert!(took >= 89 * SECOND && took < 100 * SECOND, "{took:?}");
    assert_eq!((bucket.connections(), bucket.arrivals().get(&1)), (1, Some(&1)), "it was tried again");
    let longest = pings.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(pings.len() >= 5 && longest <= 16 * SECOND, "{longest:?} between two pings");

    let waits: Vec<_> = told.iter().filter_map(|progress| progress.waiting.clone()).collect();
    assert!(waits.len() > 20 && waits.iter().all(|wait| wait.code == ReasonCode::PausedByRate), "{waits:?}");
    assert!(waits[0].since_ms >= 10_000 && waits[0].message.contains("MAX_RATE"), "{:?}", waits[0]);
    let steps = told.windows(2).map(|pair| pair[1].sent_bytes.saturating_sub(pair[0].sent_bytes));
    assert!(steps.max().unwrap() <= 3 * KIB, "bytes left in a heap");
    assert!(agent.stop().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_site_and_the_download_are_limited_each_and_the_smaller_rules() {
    for (site, own, secs) in
        [(8 * KIB, None, 10), (64 * KIB, Some(4 * KIB), 20), (4 * KIB, Some(64 * KIB), 20)]
    {
        let (server, bucket) = (Server::start().await, Bucket::start().await);
        let agent = Agent::start_with(server.addr, |config| config.max_rate = Some(site));
        let bytes = agent.file("report", 80 * KIB);
        let (mut link, _) = server.link().await;
        let job = Job { max_rate: own, ..Job::new("report") };
        link.start(&job).await;
        let heard = serve(&mut link, &job, &bucket).await;
        let took = heard.stored - heard.granted;
        assert_eq!(bucket.object(), bytes);
        assert!(took + SECOND >= secs * SECOND && took <= (secs + 3) * SECOND, "{took:?} and not {secs} s");
        assert!(agent.stop().await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pace_counts_for_the_part_in_flight() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    let bytes = agent.file("report", PART);
    let (mut link, _) = server.link().await;
    let job = Job { max_rate: Some(KIB), ..Job::new("report") };
    link.start(&job).await;
    grant_first(&mut link, &job, &bucket).await;
    until_moving(&mut link).await;
    // Of another attempt, and late.
    link.pace(&Job { attempt: Attempt(7), ..job.clone() }, None).await;
    link.pace(&job, Some(2 * KIB)).await;
    let told = Instant::now();
    link.pace(&job, None).await;
    serve(&mut link, &job, &bucket).await;
    // At the first rate it takes 85 minutes.
    assert!(told.elapsed() < 60 * SECOND, "{:?}", told.elapsed());
    assert_eq!((bucket.object(), bucket.arrivals()[&1]), (bytes, 1));
    assert!(agent.stop().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn another_fetch_of_the_attempt_says_the_rate_anew() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", PART);
    let (mut link, _) = server.link().await;
    let job = Job { max_rate: Some(KIB), ..Job::new("report") };
    link.start(&job).await;
    grant_first(&mut link, &job, &bucket).await;
    until_moving(&mut link).await;
    drop(link);
    // The limit was lifted while the link was down.
    let (mut link, hello) = server.link().await;
    assert_eq!(hello.busy.len(), 1);
    let told = Instant::now();
    link.start(&Job { max_rate: None, ..job.clone() }).await;
    serve(&mut link, &job, &bucket).await;
    // At the first rate it takes 85 minutes.
    assert!(told.elapsed() < 60 * SECOND, "{:?}", told.elapsed());
    assert_eq!(bucket.arrivals()[&1], 1, "the part in flight went on");
    assert!(agent.stop().await.is_ok());
}
