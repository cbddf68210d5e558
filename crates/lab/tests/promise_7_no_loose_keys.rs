//! Promise 7: an agent holds one credential, its own. Whatever it says, it moves its own downloads alone, and by the truth.

use std::collections::BTreeSet;

use hoist_lab::scripted::{Job, sums};
use hoist_lab::{Operator, Scene, ScriptedAgent};
use hoist_wire::to_agent::ToAgent;
use hoist_wire::to_server::{
    Busy, Finished, Forgotten, Hello, Identity, Offer, PartsReady, Progress, ReadyPart, Receipt, Receipts,
    Refused, ToServer, Unsupported,
};
use hoist_wire::{Attempt, Batch, Crc64, DownloadId, ErrorCode, Outcome, PartNumber, State};

const VICTIM: &str = "restaurant-1";
const LIAR: &str = "restaurant-2";

/// Names a message's kind. A new kind does not compile until it is named here, and fails the tests until [`words`] says it.
fn kind(message: &ToServer) -> &'static str {
    match message {
        ToServer::Hello(_) => "hello",
        ToServer::Offer(_) => "offer",
        ToServer::PartsReady(_) => "parts_ready",
        ToServer::Receipts(_) => "receipts",
        ToServer::Progress(_) => "progress",
        ToServer::Finished(_) => "finished",
        ToServer::Refused(_) => "refused",
        ToServer::Forgotten(_) => "forgotten",
        ToServer::Unsupported(_) => "unsupported",
    }
}

fn identity(size_bytes: u64) -> Identity {
    Identity { device: 1, inode: 1, size_bytes, modified_ns: 1, changed_ns: 1 }
}

/// One of each kind that can be said on a link, about an attempt, as if the file had `size_bytes`.
fn words(about: Busy, size_bytes: u64) -> Vec<ToServer> {
    let Busy { download_id, attempt } = about;
    let (number, sums) = (PartNumber::FIRST, sums(b"lie"));
    let etag = "0".repeat(32);
    let words = vec![
        ToServer::Offer(Offer {
            download_id,
            attempt,
            path: "/lie".to_owned(),
            name: "lie".to_owned(),
            size_bytes,
            modified_ms: 0,
            identity: identity(size_bytes),
        }),
        ToServer::PartsReady(PartsReady {
            download_id,
            attempt,
            parts: Batch::from(ReadyPart { number, size_bytes, sums }),
        }),
        ToServer::Receipts(Receipts {
            download_id,
            attempt,
            parts: Batch::from(Receipt { number, size_bytes, etag, sums }),
        }),
        ToServer::Progress(Progress {
            download_id,
            attempt,
            hashed_bytes: u64::MAX,
            sent_bytes: u64::MAX,
            rate_bytes_per_sec: u64::MAX,
            waiting: None,
        }),
        ToServer::Finished(Finished {
            download_id,
            attempt,
            size_bytes,
            crc64nvme: Crc64(7),
            identity: identity(size_bytes),
        }),
        ToServer::Refused(Refused {
            download_id,
            attempt,
            code: ErrorCode::FileNotFound,
            message: "lie".to_owned(),
            retry_after_ms: None,
        }),
        ToServer::Forgotten(Forgotten { download_id, attempt }),
        ToServer::Unsupported(Unsupported { kind: "lie\u{1b}[2J\nERROR lie".to_owned() }),
    ];
    let said: BTreeSet<&str> = words.iter().map(kind).chain(["hello"]).collect();
    assert_eq!(said, ToServer::KINDS.iter().copied().collect(), "a kind of message is never lied with");
    words
}

fn attempts(right: Attempt) -> [Attempt; 5] {
    [Attempt(0), right, right.next(), Attempt(right.0 + 1000), Attempt(u32::MAX)]
}

/// Begins a download of a scripted agent, its first part stored.
async fn begun(scene: &Scene, operator: &Operator, client: &str) -> (ScriptedAgent, Job) {
    let mut agent = scene.scripted(client).await;
    operator.ask(client, "report").await;
    let job = agent.take((0..=255).cycle().take(6_000_000).collect()).await;
    store(scene, &mut agent, &job, 1).await;
    operator.until(job.fetch.download_id, "a stored part", |download| download.stored_bytes > 0).await;
    (agent, job)
}

async fn store(scene: &Scene, agent: &mut ScriptedAgent, job: &Job, number: u16) {
    let grant = agent.grant(job, number).await;
    let (status, etag) = scene.storage.put_to(grant.url.open(), &grant, &[], job.part(number)).await;
    assert_eq!(status, 200);
    agent.say(&job.receipt(number, &etag)).await;
}

async fn record(operator: &Operator, id: DownloadId) -> String {
    format!("{:?}", operator.show(id).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_an_agent_says_of_anothers_download_moves_it() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let (mut victim, job) = begun(&scene, &operator, VICTIM).await;
    let (mut liar, own) = begun(&scene, &operator, LIAR).await;
    let before = record(&operator, job.fetch.download_id).await;
    let unknown = DownloadId::new(1, [9; 10]);
    for download_id in [job.fetch.download_id, unknown] {
        for attempt in attempts(job.fetch.attempt) {
            for size_bytes in [0, 1, job.bytes.len() as u64, job.accept.part_size_bytes, u64::MAX] {
                for word in words(Busy { download_id, attempt }, size_bytes) {
                    liar.say(&word).await;
                }
            }
        }
    }
    // The same a thousand times, and of the own download what is stale or has not begun.
    for word in words(job.busy(), job.accept.part_size_bytes) {
        for _ in 0..1000 {
            liar.say(&word).await;
        }
    }
    for attempt in attempts(own.fetch.attempt).into_iter().filter(|attempt| *attempt != own.fetch.attempt) {
        for word in words(Busy { attempt, ..own.busy() }, own.bytes.len() as u64) {
            // To let go of an attempt that was never given is to let go of the download: it may be asked for again.
            if !matches!(word, ToServer::Forgotten(_)) {
                liar.say(&word).await;
            }
        }
    }
    // Its next own answer is the first that it hears: of another's download it was told nothing, and signed nothing.
    liar.grant(&own, 2).await;
    assert_eq!(record(&operator, job.fetch.download_id).await, before);
    assert_eq!(scene.storage.open_uploads().await.unwrap().len(), 2, "the bucket is littered");
    // Its host name and a kind of message that it does not know end lines and move cursors.
    let log = scene.server.log();
    assert!(log.contains("forged line") && !log.contains('\u{1b}'), "an agent paints on the log:\n{log}");
    assert!(!log.lines().any(|line| line.starts_with("ERROR")), "an agent writes lines of its own:\n{log}");
    for (agent, job) in [(&mut victim, &job), (&mut liar, &own)] {
        store(&scene, agent, job, 2).await;
        agent.say(&job.finished()).await;
        operator.completes(job.fetch.download_id).await;
        assert!(operator.fetch(job.fetch.download_id).await.0 == job.bytes);
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_that_claims_anothers_downloads_gets_none_of_them() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let (mut victim, job) = begun(&scene, &operator, VICTIM).await;
    let before = record(&operator, job.fetch.download_id).await;
    let mut busy = vec![job.busy()];
    busy.extend((1..16).map(|n| Busy { download_id: DownloadId::new(n, [1; 10]), attempt: Attempt(1) }));
    let token = scene.agent_token(LIAR);
    let mut liar = ScriptedAgent::dial_with(scene.server.port(), &token, u8::MAX, busy.clone()).await;
    for _ in &busy {
        assert_eq!(liar.hear_forget().await.outcome, Outcome::Failed, "as of one that there never was");
    }
    // Said once more it is a violation, and the link ends; nobody else's does.
    let again = Hello {
        agent_version: "x".repeat(5000),
        os: String::new(),
        host: "h\n\u{1b}[31mforged line".to_owned(),
        facts: (0..40).map(|n| (format!("k{n}"), "v".repeat(100))).collect(),
        slots: 0,
        busy,
        on_change: None,
    };
    liar.say(&ToServer::Hello(again)).await;
    liar.idle().await;
    assert_eq!(record(&operator, job.fetch.download_id).await, before);
    store(&scene, &mut victim, &job, 2).await;
    victim.say(&job.finished()).await;
    operator.completes(job.fetch.download_id).await;
    scene.finish().await;
}

/// Plays an agent that says that all is stored, and has sent nothing, until it is told that it failed.
#[expect(clippy::wildcard_enum_match_arm, reason = "a test names the messages that it waits for")]
async fn lies_on(liar: &mut ScriptedAgent, etag: Option<&str>) {
    loop {
        match liar.hear().await {
            ToAgent::Fetch(fetch) => liar.say_offer(&fetch, 3).await,
            ToAgent::Accept(accept) => {
                let fetch = hoist_wire::to_agent::Fetch {
                    download_id: accept.download_id,
                    attempt: accept.attempt,
                    path: None,
                    on_change: hoist_wire::OnChange::Restart,
                    max_rate_bytes_per_sec: None,
                };
                let job = Job { fetch, accept, bytes: b"lie".to_vec() };
                if let Some(etag) = etag {
                    liar.say(&job.receipt(1, etag)).await;
                }
                liar.say(&job.finished()).await;
            }
            ToAgent::Forget(forget) => {
                let (download_id, attempt) = (forget.download_id, forget.attempt);
                liar.say(&ToServer::Forgotten(Forgotten { download_id, attempt })).await;
                if forget.outcome == Outcome::Failed {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_that_are_made_up_end_in_failed_with_what_storage_says() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut liar = scene.scripted(LIAR).await;
    let asked = operator.ask(LIAR, "report").await;
    lies_on(&mut liar, Some(&"0".repeat(32))).await;
    let ended = operator.show(asked.id).await;
    let error = ended.error.expect("an error");
    assert_eq!((ended.state, error.code), (State::Failed, ErrorCode::ProtocolViolation));
    assert!(error.message.contains("storage lacks 1 parts"), "{}", error.message);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_values_end_the_own_download_with_the_evidence() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    type Lie = (&'static str, fn(&Job) -> ToServer);
    let lies: &[Lie] = &[
        ("is not in the plan", |job| words(job.busy(), 1).swap_remove(1)),
        ("is not in the plan", |job| words(job.busy(), u64::MAX).swap_remove(1)),
        ("is not in the plan", |job| words(job.busy(), 1).swap_remove(2)),
        ("it offers 1 bytes", |job| words(job.busy(), 1).swap_remove(0)),
        ("is not in the plan", |job| {
            let text =
                serde_json::to_string(&job.receipt(2, "e")).unwrap().replace("\"number\":2", "\"number\":3");
            serde_json::from_str(&text).unwrap()
        }),
        ("an ETag that is none", |job| job.receipt(1, "<a>")),
    ];
    let mut liar = scene.scripted(LIAR).await;
    for (words, lie) in lies {
        let asked = operator.ask(LIAR, "report").await;
        let job = liar.take(vec![7; 6_000_000]).await;
        liar.say(&lie(&job)).await;
        assert_eq!(liar.hear_forget().await.outcome, Outcome::Failed);
        liar.say(&job.forgotten()).await;
        let ended = operator.show(asked.id).await;
        let error = ended.error.expect("an error");
        assert_eq!((ended.state, error.code), (State::Failed, ErrorCode::ProtocolViolation), "{words}");
        assert!(error.message.contains(words), "{words}: {}", error.message);
    }
    // What is no message at all ends the link, and nothing else.
    for (from, to) in [
        ("\"number\":1", "\"number\":0"),
        ("\"number\":1", "\"number\":10001"),
        ("\"number\":1", "\"number\":1e9"),
    ] {
        let about = Busy { download_id: DownloadId::new(1, [1; 10]), attempt: Attempt(1) };
        let mut liar = scene.scripted("restaurant-3").await;
        let text = serde_json::to_string(&words(about, 1)[1]).unwrap();
        assert!(text.contains(from));
        liar.say_text(&text.replace(from, to)).await;
        let Some(ToAgent::Goodbye(_)) = liar.hear_or_end().await else { panic!("{to} was taken") };
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_reads_lists_and_deletes_nothing() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let (mut agent, job) = begun(&scene, &operator, LIAR).await;
    let grant = agent.grant(&job, 2).await;
    let url = grant.url.open();
    let (place, query) = url.split_once('?').unwrap();
    let bucket = place.rsplitn(2, "/hoist/").last().unwrap();
    let signed = query.split('&').filter(|pair| pair.starts_with("X-Amz-")).collect::<Vec<_>>().join("&");
    let urls = [
        url.to_owned(),
        format!("{place}?{signed}"),
        format!("{bucket}?uploads&{signed}"),
        format!("{bucket}?list-type=2&{signed}"),
        place.to_owned(),
        bucket.to_owned(),
    ];
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        for url in &urls {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = hoist_lab::http().request(method.clone(), url);
            for (name, value) in grant.headers.iter().filter(|(name, _)| *name != "content-length") {
                request = request.header(name, value);
            }
            let reply = Operator::send(request).await;
            assert!((400..500).contains(&reply.status), "{method}: {} {}", reply.status, reply.text());
        }
    }
    assert_eq!(operator.show(job.fetch.download_id).await.state, State::Uploading);
    store(&scene, &mut agent, &job, 2).await;
    agent.say(&job.finished()).await;
    operator.completes(job.fetch.download_id).await;
    scene.finish().await;
}
