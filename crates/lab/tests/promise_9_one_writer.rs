//! Promise 9: a late or cloned agent, an old attempt, an agent that flaps can neither move nor corrupt a download.

use std::time::Duration;

use hoist_lab::scripted::Refused;
use hoist_lab::{Operator, Scene, ScriptedAgent, WITHIN, eventually};
use hoist_wire::State;
use hoist_wire::rest::{ClientStatus, CloneRole};
use hoist_wire::to_agent::{GoodbyeReason, ToAgent};
use hoist_wire::to_server::{self, ToServer};

const CLIENT: &str = "restaurant-1";

/// What a clone gets.
fn taken() -> Refused {
    Refused { status: 409, code: "link_taken".to_owned(), retry_after: None }
}

async fn status(operator: &Operator) -> ClientStatus {
    operator.get(&format!("/status/{CLIENT}")).await.parse()
}

/// Dials as a clone while the agent that has the link answers pings.
async fn dial_beside(
    scene: &Scene,
    linked: &mut ScriptedAgent,
    instance: &str,
) -> Result<ScriptedAgent, Refused> {
    tokio::select! {
        () = linked.idle() => panic!("the link that was there ended"),
        dialled = scene.scripted_as(CLIENT, instance) => dialled,
    }
}

/// Sends all parts of a job that the server wants, and their receipts.
async fn send_parts(agent: &mut ScriptedAgent, job: &hoist_lab::scripted::Job, numbers: &[u16]) {
    for number in numbers {
        let grant = agent.grant(job, *number).await;
        let mut put = hoist_lab::http().put(grant.url.open()).body(job.part(*number).to_vec());
        for (name, value) in &grant.headers {
            put = put.header(name, value);
        }
        let reply = Operator::send(put).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let etag = reply.header("etag").unwrap().trim_matches('"').to_owned();
        agent.say(&job.receipt(*number, &etag)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_machine_takes_its_link_over_at_once() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut older = scene.scripted_as(CLIENT, "a.till").await.unwrap();
    // It reads nothing, so that waiting for its answer would take 10 s.
    let started = std::time::Instant::now();
    let mut newer = scene.scripted_as(CLIENT, "b.till").await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(9), "it was asked: {:?}", started.elapsed());
    assert!(newer.welcome.link > older.welcome.link);
    let ToAgent::Goodbye(goodbye) = older.hear().await else { panic!("a goodbye was due") };
    assert_eq!(goodbye.reason, GoodbyeReason::Replaced);
    assert_eq!(status(&operator).await.clone_suspected_at, None);
    let asked = operator.ask(CLIENT, "report").await;
    assert_eq!(newer.hear_fetch().await.download_id, asked.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_is_refused_and_reported_while_the_link_answers() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 6_000_000);
    // The real agent has the link, and a copy of its token turns up elsewhere.
    let agent = scene.agent(CLIENT).start();
    operator.sees(CLIENT, true).await;
    for _ in 0..3 {
        assert_eq!(scene.scripted_as(CLIENT, "copy.elsewhere").await.unwrap_err(), taken());
    }
    let seen = status(&operator).await;
    assert!(seen.clone_suspected_at.is_some() && seen.connected);
    let [linked, refused] = &seen.clone_suspects[..] else { panic!("{:?}", seen.clone_suspects) };
    assert_eq!((linked.role, refused.role), (CloneRole::Linked, CloneRole::Refused));
    assert_eq!((refused.machine.as_deref(), refused.process.as_deref()), (Some("elsewhere"), Some("copy")));
    // Who looks at the site finds the same name in the agent's log.
    let name = format!("{}.{}", linked.process.as_deref().unwrap(), linked.machine.as_deref().unwrap());
    assert!(agent.log().contains(&name), "{name} is not in\n{}", agent.log());
    assert!(linked.host.is_some() && refused.host.is_none());
    let shown = scene.cli().run(&["status", CLIENT]).await;
    assert!(shown.stdout.contains("machine elsewhere, process copy: was refused"), "{}", shown.stdout);
    let told = scene.server.log().matches("clone_suspected").count();
    assert_eq!(told, 1, "one line for one episode");
    let asked = operator.ask(CLIENT, path.to_str().unwrap()).await;
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_agent_that_is_the_clone_waits_and_says_so() {
    let scene = Scene::trial().start().await;
    let mut linked = scene.scripted_as(CLIENT, "first.elsewhere").await.unwrap();
    let mut agent = scene.agent(CLIENT).start();
    tokio::select! {
        () = linked.idle() => panic!("the link that was there ended"),
        () = eventually("the agent to be refused", WITHIN, || async {
            let log = agent.log();
            if log.contains("409") && log.contains("link_taken") { Ok(()) } else { Err(log) }
        }) => {}
    }
    assert_eq!(agent.terminate().await.code(), Some(0), "it waits for the link, and can be ended");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_take_turns_on_one_machine_are_clones() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let first = scene.scripted_as(CLIENT, "a.till").await.unwrap();
    let mut second = scene.scripted_as(CLIENT, "b.till").await.unwrap();
    drop(first);
    assert_eq!(dial_beside(&scene, &mut second, "a.till").await.unwrap_err(), taken());
    let seen = status(&operator).await;
    let machines: Vec<_> = seen.clone_suspects.iter().map(|it| it.machine.as_deref()).collect();
    let processes: Vec<_> = seen.clone_suspects.iter().map(|it| it.process.as_deref()).collect();
    assert_eq!((machines, processes), (vec![Some("till"); 2], vec![Some("b"), Some("a")]));
    // A third process is a restart, and the machine's own.
    let mut third = scene.scripted_as(CLIENT, "c.till").await.unwrap();
    assert_eq!(dial_beside(&scene, &mut third, "b.till").await.unwrap_err(), taken());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_does_not_answer_gives_way_to_another_machine() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    // Nobody reads this end: the machine was unplugged, and the network has not noticed.
    let dead = scene.scripted_as(CLIENT, "a.till").await.unwrap();
    let mut new = scene.scripted_as(CLIENT, "b.spare-till").await.unwrap();
    assert!(new.welcome.link > dead.welcome.link);
    assert_eq!(status(&operator).await.clone_suspected_at, None, "who is dead is no clone");
    let asked = operator.ask(CLIENT, "report").await;
    assert_eq!(new.hear_fetch().await.download_id, asked.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    drop(dead);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replaced_agent_still_says_moves_nothing() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let bytes: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut old = scene.scripted_as(CLIENT, "a.till").await.unwrap();
    let asked = operator.ask(CLIENT, "report").await;
    let late = old.take(vec![9; 6_000_000]).await;
    let mut new = scene.scripted_as(CLIENT, "b.till").await.unwrap();
    let job = new.take(bytes.clone()).await;
    assert!(job.fetch.attempt > late.fetch.attempt, "the new process knows nothing of the old attempt");
    // The same words about the old attempt, and about the new one, which the old agent cannot have.
    let mut of_new = late.clone();
    of_new.fetch.attempt = job.fetch.attempt;
    for lie in [&late, &of_new] {
        let to_server::Busy { download_id, attempt } = lie.busy();
        let (code, message) = (hoist_wire::ErrorCode::FileNotFound, "late".to_owned());
        let refused = to_server::Refused { download_id, attempt, code, message, retry_after_ms: None };
        for word in [
            lie.ready(1),
            lie.receipt(1, &"0".repeat(32)),
            lie.receipt(2, &"0".repeat(32)),
            lie.finished(),
            ToServer::Refused(refused),
            lie.forgotten(),
        ] {
            old.try_say(&word).await;
        }
    }
    old.idle().await;
    let still = operator.show(asked.id).await;
    assert_eq!((still.state, still.attempt), (State::Uploading, job.fetch.attempt.0));
    assert_eq!(still.stored_bytes, 0, "receipts of a late agent count for nothing");
    send_parts(&mut new, &job, &[1, 2]).await;
    new.say(&job.finished()).await;
    let done = operator.completes(asked.id).await;
    assert_eq!(done.attempt, job.fetch.attempt.0);
    assert_eq!(operator.fetch(asked.id).await.0, bytes);
    new.hear_forget().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_agent_is_slowed_down_and_nobody_else_notices() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 12_000_000);
    let _other = scene.agent("restaurant-2").start();
    operator.sees("restaurant-2", true).await;
    let asked = operator.ask("restaurant-2", path.to_str().unwrap()).await;
    let mut links = 0;
    let refused = loop {
        match scene.scripted_as(CLIENT, "a.till").await {
            Ok(_) => links += 1,
            Err(refused) => break refused,
        }
        assert!(links < 200, "a flapping agent is never slowed down");
    };
    assert!(links >= 20, "an agent that comes back a few times is not slowed down: {links}");
    assert_eq!((refused.status, refused.code.as_str()), (429, "connects_too_often"));
    assert!(refused.retry_after.is_some_and(|secs| (1..=10).contains(&secs)), "{refused:?}");
    operator.completes(asked.id).await;
    // Another client of the same kind gets its link at once.
    scene.scripted("restaurant-3").await;
    scene.finish().await;
}
