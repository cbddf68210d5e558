//! Stopping, and waiting without using the machine.

use std::time::Duration;

use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::to_agent::{GoodbyeReason, ToAgent};

/// An idle agent has nothing to end: twice the second that it may take.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_agent_and_its_server_stop_at_once_and_cleanly() {
    let mut scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    assert_eq!(agent.terminate_within(AT_ONCE).await.code(), Some(0));
    agent.start_again();
    operator.sees("restaurant-1", true).await;
    assert_eq!(scene.server.terminate().await.code(), Some(0));
    // Its agent lives on, and ends as quickly while there is no server.
    assert_eq!(agent.terminate_within(AT_ONCE).await.code(), Some(0));
    scene.server.restart().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_stops_at_once_in_the_middle_of_a_part() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 20_000_000);
    scene.proxy().hold_parts_after(1);
    let mut agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    eventually("a part that is held back", WITHIN, || async {
        let held = scene.proxy().seen().iter().any(|passed| passed.status.is_none());
        if held { Ok(()) } else { Err("none is".to_owned()) }
    })
    .await;
    assert_eq!(agent.terminate_within(AT_ONCE).await.code(), Some(0));
    agent.start_again();
    scene.proxy().release();
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_tells_each_agent_another_time_to_come_back() {
    let mut scene = Scene::trial().start().await;
    let mut agents = Vec::new();
    for n in 0..4 {
        agents.push(scene.scripted(&format!("restaurant-{n}")).await);
    }
    scene.server.ask_to_end();
    let mut waits = Vec::new();
    for agent in &mut agents {
        let ToAgent::Goodbye(goodbye) = agent.hear().await else { panic!("a goodbye was due") };
        assert_eq!(goodbye.reason, GoodbyeReason::Stopping);
        waits.push(goodbye.reconnect_after_ms);
    }
    waits.sort_unstable();
    // Few agents share 10 s: one in each quarter.
    let quarters: Vec<u64> = waits.iter().map(|wait| wait / 2_500).collect();
    assert_eq!(quarters, [0, 1, 2, 3], "{waits:?}");
    assert_eq!(scene.server.terminate().await.code(), Some(0));
    scene.server.restart().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_server_at_once_and_nothing_confirmed_is_lost() {
    let mut scene = Scene::earnest().proxied_for_all().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 12_000_000);
    scene.proxy().hold(|passed, _| passed.is_complete());
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    eventually("Complete to be held back", WITHIN, || async {
        let held = scene.proxy().seen().iter().any(|passed| passed.is_complete() && passed.status.is_none());
        if held { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    // A request that goes on and on keeps the first signal busy for as long as the grace lasts.
    let slow = tokio::net::TcpStream::connect(("127.0.0.1", scene.server.port())).await.unwrap();
    slow.writable().await.unwrap();
    slow.try_write(b"POST /tokens HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    scene.server.ask_to_end();
    eventually("the first signal to be heard", WITHIN, || async {
        let log = scene.server.log();
        if log.contains("a second signal ends it at once") { Ok(()) } else { Err(log) }
    })
    .await;
    let second = std::time::Instant::now();
    assert_eq!(scene.server.terminate().await.code(), Some(0));
    // The grace is 10 s for links, for drivers, and for requests.
    assert!(second.elapsed() < Duration::from_secs(5), "{:?}", second.elapsed());
    scene.proxy().release();
    scene.server.restart().await;
    operator.completes(asked.id).await;
    // Beside the parts that each start of the server sends to see what the bucket can do.
    let seen = scene.proxy().seen().into_iter().filter(|passed| !passed.target.contains(".hoist-probe"));
    let mut parts: Vec<u16> = seen.filter_map(|passed| passed.part()).collect();
    parts.sort_unstable();
    assert_eq!(parts, [1, 2, 3], "a part was sent twice");
    scene.finish().await;
}

/// CPU time that a process has used, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_server_and_bucket_waits_and_does_not_spin() {
    let mut scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 60_000_000);
    scene.proxy().hold_parts_after(2);
    let agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    eventually("a part that is held back", WITHIN, || async {
        let held = scene.proxy().seen().iter().any(|passed| passed.status.is_none());
        if held { Ok(()) } else { Err("none is".to_owned()) }
    })
    .await;
    scene.server.kill();
    let (before, since) = (ticks(agent.pid()), std::time::Instant::now());
    eventually("three seconds to pass", WITHIN, || async {
        let passed = since.elapsed();
        if passed.as_secs() >= 3 { Ok(()) } else { Err(format!("{passed:?}")) }
    })
    .await;
    let used = ticks(agent.pid()) - before;
    // Half a second of three: a loop that spins takes all it gets, also of a busy machine.
    assert!(used < 50, "the agent used {used} ticks of 10 ms while it had nothing to do");
    scene.server.restart().await;
    scene.proxy().release();
    operator.completes(asked.id).await;
    scene.finish().await;
}
