//! What one address, one caller and one link may take of the server, and that their neighbours do not notice.

use hoist_lab::{Operator, Scene, WITHIN, eventually};
use hoist_wire::to_server::Unsupported;
use hoist_wire::{ErrorCode, ToServer};
use reqwest::Method;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// Opens a connection from 127.0.0.`last` and says nothing.
async fn from(last: u8, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
}

/// Reads what a connection is told until it is closed.
async fn told(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn the_strangers_of_one_address_are_told_429_and_others_come_in() {
    let scene = Scene::earnest().env("MAX_STRANGERS_PER_ADDRESS", "5").start().await;
    let agent = scene.agent("restaurant-1").start();
    scene.operator().sees("restaurant-1", true).await;
    let port = scene.server.port();
    let mut strangers = Vec::new();
    for _ in 0..5 {
        strangers.push(from(77, port).await);
    }
    let answer = eventually("the sixth to be told 429", WITHIN, || async {
        let text = told(from(77, port).await).await;
        if text.starts_with("HTTP/1.1 429") { Ok(text) } else { Err(text) }
    });
    let answer = answer.await;
    assert!(
        answer.to_ascii_lowercase().contains("retry-after") && answer.contains("too_many_attempts"),
        "{answer}"
    );
    // From elsewhere the server is as open as ever, and when they leave it is so for them.
    assert_eq!(scene.operator().get("/clients").await.status, 200);
    drop(strangers);
    let operator = scene.operator();
    operator.sees("restaurant-1", true).await;
    scene.site.random("report", 1000);
    operator.completes(operator.ask("restaurant-1", "report").await.id).await;
    drop(agent);
    scene.finish().await;
}

#[tokio::test]
async fn an_address_has_only_as_many_links_as_it_may() {
    let scene = Scene::earnest().env("MAX_LINKS_PER_ADDRESS", "2").start().await;
    let first = scene.scripted("site-1").await;
    let second = scene.scripted("site-2").await;
    let refused = scene.scripted_as("site-3", "lab.lab").await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (429, "too_many_attempts"));
    assert_eq!(refused.retry_after, Some(60));
    drop(first);
    eventually("the place to be free again", WITHIN, || async {
        scene.scripted_as("site-3", "lab.lab").await.map(drop).map_err(|refused| format!("{refused:?}"))
    })
    .await;
    drop(second);
    scene.finish().await;
}

/// A link that says much more than any agent would is read at its own pace, and nobody beside it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_floods_is_held_back_by_itself_and_its_neighbours_do_not_notice() {
    let scene = Scene::earnest().env("LOG_LEVEL", "error").start().await;
    scene.site.random("report", 6 << 20);
    let agent = scene.agent("restaurant-1").start();
    let operator = scene.operator();
    operator.sees("restaurant-1", true).await;
    let mut flooding = scene.scripted("flood").await;
    let said = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&said);
    let mut flood = tokio::task::JoinSet::new();
    flood.spawn(async move {
        let words = ToServer::Unsupported(Unsupported { kind: "x".repeat(8_000) });
        loop {
            flooding.say(&words).await;
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    // 12,000 messages are taken as they come; behind them the flood waits for the server, some 100 MB in.
    eventually("the flood to be in full course", WITHIN, || {
        let said = said.load(std::sync::atomic::Ordering::Relaxed);
        async move { if said >= 12_000 { Ok(()) } else { Err(said.to_string()) } }
    })
    .await;
    for _ in 0..3 {
        operator.completes(operator.ask("restaurant-1", "report").await.id).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    let kib: u64 = peak.strip_suffix(" kB").unwrap().trim().parse().unwrap();
    assert!(kib < 150 * 1024, "what was said is not gathered: {peak}");
    flood.shutdown().await;
    drop(agent);
    scene.finish().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let large = operator.request(Method::POST, "/trigger-download/till-1");
    let large = large.header("content-type", "application/json").body(" ".repeat(17 * 1024));
    let reply = Operator::try_send(large).await.unwrap();
    assert_eq!((reply.status, reply.problem()), (413, ErrorCode::BodyTooLarge.as_str()));
    let enrolment = operator.with_token(None).request(Method::POST, "/ws/enroll");
    let enrolment = enrolment.header("content-type", "application/json").body(" ".repeat(5 * 1024));
    assert_eq!(Operator::try_send(enrolment).await.unwrap().status, 413);
    let head = operator.request(Method::GET, "/clients").header("x-large", "x".repeat(20 * 1024));
    assert_eq!(head.send().await.unwrap().status().as_u16(), 431);
    scene.finish().await;
}
