//! Promise 5: whatever a download waits for, REST and the command line say why, since when, what comes next and by when.

use std::collections::BTreeSet;

use hoist_lab::cli::Cli;
use hoist_lab::{Scene, ScriptedAgent};
use hoist_wire::rest::{ClientStatus, Download};
use hoist_wire::to_agent::Fetch;
use hoist_wire::to_server::{Progress, Refused, ToServer, Waiting};
use hoist_wire::{DownloadId, ErrorCode, ReasonCode, State, Timestamp};

use crate::own_bucket::own_bucket;

const CLIENT: &str = "restaurant-1";

/// Looks at downloads as an operator does, and notes which reasons were told.
struct Watcher<'a> {
    scene: &'a Scene,
    cli: Cli,
    told: BTreeSet<ReasonCode>,
}

impl<'a> Watcher<'a> {
    fn new(scene: &'a Scene) -> Self {
        let token = scene.operator_token(&[hoist_wire::rest::Scope::Admin]);
        Self { scene, cli: scene.cli().env("OPERATOR_TOKEN", &token), told: BTreeSet::new() }
    }

    /// Waits until a download waits for `reason`, and checks everything that is shown of it.
    async fn tells(&mut self, id: DownloadId, state: State, reason: ReasonCode) {
        let operator = self.scene.operator();
        let what = format!("{state} for {reason}");
        let download = operator.until(id, &what, |it| it.state == state && it.reason == Some(reason)).await;
        check(&download);
        let status: ClientStatus = operator.get(&format!("/status/{CLIENT}")).await.parse();
        let in_status = status.current.iter().find(|current| current.id == id);
        check(in_status.unwrap_or_else(|| panic!("{what}: not in the client's status")));
        self.command_line(&download).await;
        self.told.insert(reason);
    }

    /// Whatever lists the download says why; what shows it says all.
    async fn command_line(&self, download: &Download) {
        let (id, reason) = (download.id.to_string(), download.reason.unwrap());
        let next = download.next_step.as_deref().unwrap();
        let listed = self.cli.run(&["downloads"]).await;
        let status = self.cli.run(&["status", CLIENT]).await;
        let shown = self.cli.run(&["show", &id]).await;
        let watched = self.cli.run(&["watch", &id, "--timeout", "1s"]).await;
        assert_eq!((listed.code, status.code, shown.code, watched.code), (0, 0, 0, 6), "{}", watched.stderr);
        let line_of =
            |text: &str| text.lines().find(|line| line.contains(&id)).unwrap_or_default().to_owned();
        for line in
            [line_of(&listed.stdout), line_of(&status.stdout), shown.stdout.clone(), watched.stderr.clone()]
        {
            assert!(line.contains(&format!("{}: {reason}", download.state)), "{reason} is not told: {line}");
        }
        // Where bytes move, a list and the line of progress say how many instead.
        let moves = matches!(reason, ReasonCode::Hashing | ReasonCode::Sending);
        let whole = if moves {
            vec![shown.stdout]
        } else {
            vec![shown.stdout, watched.stderr, line_of(&listed.stdout)]
        };
        for text in whole {
            for part in [&format!("next: {next}"), " since 20", ", by 20"] {
                assert!(text.contains(part), "{reason} does not tell {part:?}: {text}");
            }
            assert!(
                text.matches('(').count() > 0 || text.contains("because"),
                "{reason} has no message: {text}"
            );
        }
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

fn check(download: &Download) {
    let all = (
        download.reason_message.as_deref(),
        download.reason_since,
        download.next_step.as_deref(),
        download.next_at,
    );
    let (Some(message), Some(since), Some(next_step), Some(next_at)) = all else {
        panic!("something is not told: {download:#?}");
    };
    assert!(message.len() > 5 && !next_step.is_empty(), "{download:#?}");
    assert!(since <= now() && since >= download.created_at, "{download:#?}");
    assert!(next_at <= download.expires_at, "{download:#?}");
    // It was so when it was asked, and the clock goes on.
    assert!(next_at.plus_secs(20) > now(), "the next step lies in the past: {download:#?}");
}

fn refused(fetch: &Fetch, code: ErrorCode, retry_after_ms: Option<u64>) -> ToServer {
    let (download_id, attempt) = (fetch.download_id, fetch.attempt);
    ToServer::Refused(Refused {
        download_id,
        attempt,
        code,
        message: "the lab says no".to_owned(),
        retry_after_ms,
    })
}

fn progress(fetch: &Fetch, sent_bytes: u64, waiting: Option<ReasonCode>) -> ToServer {
    let waiting = waiting.map(|code| Waiting {
        code,
        message: "the lab waits".to_owned(),
        since_ms: 1000,
        retry_in_ms: 30_000,
    });
    ToServer::Progress(Progress {
        download_id: fetch.download_id,
        attempt: fetch.attempt,
        hashed_bytes: sent_bytes,
        sent_bytes,
        rate_bytes_per_sec: 100,
        waiting,
    })
}

/// Lets the agent refuse, and the operator give up.
async fn refusals(watcher: &mut Watcher<'_>, agent: &mut ScriptedAgent) {
    let operator = watcher.scene.operator();
    for (code, reason) in [
        (ErrorCode::AgentBusy, ReasonCode::RefusedForNow),
        (ErrorCode::FileLocked, ReasonCode::FileLocked),
        (ErrorCode::OutsideHours, ReasonCode::OutsideHours),
    ] {
        let asked = operator.ask(CLIENT, "report").await;
        let fetch = agent.hear_fetch().await;
        agent.say(&refused(&fetch, code, Some(60_000))).await;
        watcher.tells(asked.id, State::Queued, reason).await;
        agent.hear_forget().await;
        assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reason_is_told_with_its_message_and_its_next_step() {
    let (mut told, of_the_bucket, of_complete) = tokio::join!(
        with_an_agent_that_waits(),
        with_a_bucket_that_fails(),
        with_a_complete_that_is_not_answered()
    );
    told.extend(of_the_bucket.into_iter().chain(of_complete));
    let all: BTreeSet<ReasonCode> = ReasonCode::ALL.iter().copied().collect();
    assert_eq!(told, all, "a reason was never reached");
}

/// Everything that an agent, or its absence, can be the reason of.
async fn with_an_agent_that_waits() -> BTreeSet<ReasonCode> {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let mut watcher = Watcher::new(&scene);
    drop(scene.scripted(CLIENT).await);
    operator.sees(CLIENT, false).await;
    let first = operator.ask(CLIENT, "report").await;
    watcher.tells(first.id, State::Queued, ReasonCode::ClientOffline).await;

    let (port, token) = (scene.server.port(), scene.agent_token(CLIENT));
    let mut agent = ScriptedAgent::dial_with(port, &token, 1, Vec::new()).await;
    let fetch = agent.hear_fetch().await;
    watcher.tells(first.id, State::Uploading, ReasonCode::Starting).await;
    let second = operator.ask(CLIENT, "another").await;
    watcher.tells(second.id, State::Queued, ReasonCode::ClientBusy).await;
    assert_eq!(operator.delete(&format!("/downloads/{}", second.id)).await.status, 200);

    let job = agent.offer(fetch, vec![1; 6_000_000]).await;
    watcher.tells(first.id, State::Uploading, ReasonCode::Hashing).await;
    agent.say(&progress(&job.fetch, 1000, None)).await;
    watcher.tells(first.id, State::Uploading, ReasonCode::Sending).await;
    for reason in [
        ReasonCode::StorageUnreachable,
        ReasonCode::StorageThrottled,
        ReasonCode::PausedByRate,
        ReasonCode::OutsideHours,
        ReasonCode::FileLocked,
    ] {
        agent.say(&progress(&job.fetch, 1000, Some(reason))).await;
        watcher.tells(first.id, State::Uploading, reason).await;
    }
    drop(agent);
    watcher.tells(first.id, State::Uploading, ReasonCode::LinkLost).await;

    let mut agent = ScriptedAgent::dial_with(port, &token, 1, vec![job.busy()]).await;
    let fetch = agent.hear_fetch().await;
    agent.say(&refused(&fetch, ErrorCode::FileChanged, None)).await;
    watcher.tells(first.id, State::Uploading, ReasonCode::FileChanged).await;
    let fetch = agent.hear_fetch().await;
    let job = agent.offer(fetch, job.bytes).await;
    agent.say(&job.finished()).await;
    watcher.tells(first.id, State::Queued, ReasonCode::PartsMissing).await;
    agent.hear_forget().await;
    assert_eq!(operator.delete(&format!("/downloads/{}", first.id)).await.status, 200);
    refusals(&mut watcher, &mut agent).await;

    // What waits for its time waits for the client as well, once that is gone.
    let asked = operator.ask(CLIENT, "report").await;
    let fetch = agent.hear_fetch().await;
    agent.say(&refused(&fetch, ErrorCode::AgentBusy, Some(60_000))).await;
    agent.hear_forget().await;
    drop(agent);
    watcher.tells(asked.id, State::Queued, ReasonCode::ClientOffline).await;
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    let told = watcher.told;
    scene.finish().await;
    told
}

/// A bucket that is down while an upload is opened, and loses one.
async fn with_a_bucket_that_fails() -> BTreeSet<ReasonCode> {
    let folder = tempfile::tempdir().unwrap();
    let (depot, place) = own_bucket(folder.path()).await;
    let scene = Scene::on(&place).start().await;
    let operator = scene.operator();
    let mut watcher = Watcher::new(&scene);
    let mut agent = scene.scripted(CLIENT).await;
    depot.stop().await;
    let asked = operator.ask(CLIENT, "report").await;
    let fetch = agent.hear_fetch().await;
    agent.say_offer(&fetch, 1000).await;
    watcher.tells(asked.id, State::Uploading, ReasonCode::BucketUnavailable).await;
    // What an agent says before it knows how to cut the file does not hide it.
    let since = operator.show(asked.id).await.reason_since;
    agent.say(&progress(&fetch, 0, None)).await;
    let heard = operator.until(asked.id, "its word", |it| it.rate_bytes_per_sec == Some(100)).await;
    assert_eq!((heard.reason, heard.reason_since), (Some(ReasonCode::BucketUnavailable), since));

    let (depot, _) = own_bucket(folder.path()).await;
    let job = agent.accepted(fetch, vec![1; 1000]).await;
    let key = operator.show(asked.id).await.object_key.unwrap();
    scene.storage.lose_uploads_of(&key).await;
    drop(agent);
    operator.sees(CLIENT, false).await;
    let (port, token) = (scene.server.port(), scene.agent_token(CLIENT));
    let mut agent = ScriptedAgent::dial_with(port, &token, 1, vec![job.busy()]).await;
    let fetch = agent.hear_fetch().await;
    agent.say_offer(&fetch, 1000).await;
    watcher.tells(asked.id, State::Uploading, ReasonCode::UploadLost).await;

    // Complete finds nobody, and neither does the look at what became of it.
    let fetch = agent.hear_fetch().await;
    let job = agent.offer(fetch, job.bytes).await;
    let grant = agent.grant(&job, 1).await;
    let (status, etag) = scene.storage.put_to(grant.url.open(), &grant, &[], job.part(1)).await;
    assert_eq!(status, 200);
    agent.say(&job.receipt(1, &etag)).await;
    operator.until(asked.id, "the part", |download| download.stored_bytes > 0).await;
    depot.stop().await;
    agent.say(&job.finished()).await;
    watcher.tells(asked.id, State::Completing, ReasonCode::CannotVerify).await;
    let (_depot, _) = own_bucket(folder.path()).await;
    operator.completes(asked.id).await;
    let told = watcher.told;
    scene.finish().await;
    told
}

/// An object that is put together for a while, and then is not there.
async fn with_a_complete_that_is_not_answered() -> BTreeSet<ReasonCode> {
    let scene = Scene::earnest().proxied_for_all().start().await;
    let operator = scene.operator();
    let mut watcher = Watcher::new(&scene);
    let file = scene.site.random("report", 100);
    let _agent = scene.agent(CLIENT).start();
    operator.sees(CLIENT, true).await;
    scene.proxy().hold(|passed, _| passed.is_complete());
    let asked = operator.ask(CLIENT, file.to_str().unwrap()).await;
    watcher.tells(asked.id, State::Completing, ReasonCode::Completing).await;
    let key = operator.show(asked.id).await.object_key.unwrap();
    scene.storage.lose_uploads_of(&key).await;
    scene.proxy().release();
    watcher.tells(asked.id, State::Completing, ReasonCode::Verifying).await;
    let told = watcher.told;
    // A minute later it is sent again: that is told elsewhere.
    scene.finish_open().await;
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_a_link_that_died_is_given_to_the_clients_next_link_at_once() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let (port, token) = (scene.server.port(), scene.agent_token(CLIENT));
    let mut old = ScriptedAgent::dial_with(port, &token, 1, Vec::new()).await;
    let asked = operator.ask(CLIENT, "report").await;
    let fetch = old.hear_fetch().await;
    // The old link is neither closed nor read any more, as after a power cut at the site.
    let mut new = ScriptedAgent::dial_with(port, &token, 1, Vec::new()).await;
    let again = new.hear_fetch().await;
    assert_eq!((again.download_id, again.attempt), (asked.id, fetch.attempt.next()));
    let next = operator.ask(CLIENT, "another").await;
    drop(old);
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    assert_eq!(new.hear_forget().await.download_id, asked.id);
    let (download_id, attempt) = (again.download_id, again.attempt);
    new.say(&ToServer::Forgotten(hoist_wire::to_server::Forgotten { download_id, attempt })).await;
    assert_eq!(new.hear_fetch().await.download_id, next.id, "its one slot is free");
    assert_eq!(operator.delete(&format!("/downloads/{}", next.id)).await.status, 200);
    scene.finish().await;
}
