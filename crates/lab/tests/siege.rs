//! A server under siege: thousands of connections that never say who they are, from many addresses, while sites are linked.
//!
//! It has a binary of its own: the besiegers use up most of the files that one process may open.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::net::SocketAddr;
use std::sync::OnceLock;

use hoist_lab::{Scene, ScriptedAgent, WITHIN, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Two sieges at once would need more files than a process has.
fn alone() -> &'static Mutex<()> {
    static ALONE: OnceLock<Mutex<()>> = OnceLock::new();
    ALONE.get_or_init(Mutex::default)
}

/// What a besieger says, and then nothing more.
const OPENINGS: [&str; 5] = [
    "",
    "G",
    "GET /clients HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "POST /tokens HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    "\u{16}\u{3}\u{1}\u{2}",
];

/// Opens one connection from one of sixteen addresses of this machine.
async fn besiege(port: u16, nth: usize) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    let from = SocketAddr::from(([127, 0, 0, 10 + u8::try_from(nth % 16).unwrap()], 0));
    socket.bind(from).ok()?;
    let mut stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.ok()?;
    stream.write_all(OPENINGS[nth % OPENINGS.len()].as_bytes()).await.ok()?;
    Some(stream)
}

async fn siege(port: u16, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for nth in 0..count {
        streams.extend(besiege(port, nth).await);
    }
    streams
}

/// Links of many sites, each of which has said hello and answers pings.
async fn sites(scene: &Scene, count: usize) -> JoinSet<()> {
    let mut sites = JoinSet::new();
    for nth in 0..count {
        let mut site: ScriptedAgent = scene.scripted(&format!("site-{nth}")).await;
        sites.spawn(async move { site.idle().await });
    }
    sites
}

async fn are_linked(scene: &Scene, sites: usize) {
    eventually("all links", WITHIN, || async {
        let page: hoist_wire::rest::ClientPage =
            scene.operator().get("/clients?connected=true&limit=1000").await.parse();
        let there = page.clients.iter().filter(|client| client.connected).count();
        if there == sites { Ok(()) } else { Err(format!("{there} of {sites}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_thousand_that_say_nothing_cost_no_link_and_no_download() {
    let _alone = alone().lock().await;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = files.current.map_or(20_000, |files| usize::try_from(files).unwrap());
    // Both ends have as many: where a machine gives less, the siege is smaller.
    let count = 15_000.min(most / 4 * 3);
    let scene = Scene::earnest().start().await;
    scene.site.random("report", 6 << 20);
    let agent = scene.agent("restaurant-1").start();
    let sites = sites(&scene, 100).await;
    are_linked(&scene, 101).await;
    let besiegers = siege(scene.server.port(), count).await;
    assert!(besiegers.len() > count / 10 * 9, "{} of {count}", besiegers.len());
    let operator = scene.operator();
    operator.completes(operator.ask("restaurant-1", "report").await.id).await;
    are_linked(&scene, 101).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{count} besiegers, 101 links: the server's {peak}");
    drop(besiegers);
    are_linked(&scene, 101).await;
    drop((agent, sites));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_four_fifths_of_the_files_newcomers_are_refused_and_links_are_kept() {
    let _alone = alone().lock().await;
    let scene = Scene::earnest().env("LAB_FILES", "1000").start().await;
    scene.site.random("report", 6 << 20);
    let agent = scene.agent("restaurant-1").start();
    let sites = sites(&scene, 20).await;
    are_linked(&scene, 21).await;
    let operator = scene.operator();
    let asked = operator.ask("restaurant-1", "report").await;
    let besiegers = siege(scene.server.port(), 1_200).await;
    // Some were turned away with an answer, some without.
    let answered = eventually("somebody to be told 503", WITHIN, || {
        let is_told = |stream: &&TcpStream| {
            let mut text = [0; 128];
            stream.try_read(&mut text).is_ok_and(|n| text[..n].starts_with(b"HTTP/1.1 503"))
        };
        let told = besiegers.iter().filter(is_told).count();
        async move { if told > 0 { Ok(told) } else { Err(String::from("nobody")) } }
    });
    assert!(answered.await > 0);
    let log = scene.server.log();
    assert!(log.contains("four fifths of the files"), "{log}");
    drop(besiegers);
    operator.completes(asked.id).await;
    // Newcomers are served again, and nobody has lost a link.
    are_linked(&scene, 21).await;
    assert_eq!(log.matches("link closed").count(), 0, "{log}");
    drop((agent, sites));
    scene.finish().await;
}
