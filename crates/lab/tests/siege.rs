//! A server under siege: thousands of connections that never say who they are, from many addresses, while sites are linked.
//!
//! It has a binary of its own: the besiegers use up most of the files that one process may open.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hoist_lab::{Scene, ScriptedAgent, WITHIN, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Two sieges at once would need more files than a process has.
fn alone() -> &'static Mutex<()> {
    static ALONE: OnceLock<Mutex<()>> = OnceLock::new();
    ALONE.get_or_init(Mutex::default)
}

/// What a besieger says, and then nothing more, or a byte at a time. The first four are closed after ten seconds; a body has
/// forty, and most besiegers send one: so the siege is not spent on opening connections.
const OPENINGS: [&str; 16] =
    ["", "G", SLOW_HEAD, DRIBBLED, BODY, BODY, BODY, BODY, BODY, BODY, BODY, BODY, BODY, BODY, BODY, BODY];

const SLOW_HEAD: &str = "GET /clients HTTP/1.1\r\nHost: x\r\nX-Slow: ";

const BODY: &str =
    "POST /ws/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";

/// A head that never ends: its besieger says a byte each few seconds.
const DRIBBLED: &str = "GET /clients HTTP/1.1\r\nX-Slow: a";

/// How often a besieger who dribbles says a byte. The server gives a head ten seconds in all.
const DRIBBLES_EVERY: Duration = Duration::from_secs(2);

/// How often one besieger tries at most.
const TRIES_EVERY: Duration = Duration::from_secs(1);

/// Thousands who each hold one connection, and open another as soon as it is closed.
#[derive(Debug)]
struct Siege {
    besiegers: JoinSet<()>,
    /// How many hold a connection now.
    held: Arc<AtomicUsize>,
    /// How many were told 503.
    told_503: Arc<AtomicUsize>,
}

impl Siege {
    fn lay(port: u16, count: usize) -> Self {
        let (held, told_503) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let mut besiegers = JoinSet::new();
        for nth in 0..count {
            let (held, told_503) = (Arc::clone(&held), Arc::clone(&told_503));
            besiegers.spawn(async move {
                let mut tries = tokio::time::interval(TRIES_EVERY);
                loop {
                    tries.tick().await;
                    let Some(stream) = besiege(port, nth).await else { continue };
                    held.fetch_add(1, Ordering::Relaxed);
                    let answer = hold(stream, OPENINGS[nth % OPENINGS.len()]).await;
                    held.fetch_sub(1, Ordering::Relaxed);
                    let is_503 = answer.starts_with(b"HTTP/1.1 503");
                    told_503.fetch_add(usize::from(is_503), Ordering::Relaxed);
                }
            });
        }
        Self { besiegers, held, told_503 }
    }

    async fn end(mut self) {
        self.besiegers.shutdown().await;
    }
}

/// Opens one connection from one of sixteen addresses of this machine.
async fn besiege(port: u16, nth: usize) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    let from = SocketAddr::from(([127, 0, 0, 10 + u8::try_from(nth % 16).unwrap()], 0));
    socket.bind(from).ok()?;
    socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.ok()
}

/// Says an opening and holds the connection until the server closes it. Gives what came first.
async fn hold(stream: TcpStream, opening: &'static str) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    let says = async {
        let mut said = writer.write_all(opening.as_bytes()).await;
        let mut dribbles = tokio::time::interval(DRIBBLES_EVERY);
        while said.is_ok() && opening == DRIBBLED {
            dribbles.tick().await;
            said = writer.write_all(b"a").await;
        }
        std::future::pending::<()>().await;
    };
    let hears = async {
        let (mut first, mut bytes) = (Vec::new(), [0; 128]);
        while let Ok(count @ 1..) = reader.read(&mut bytes).await {
            if first.is_empty() {
                first.extend_from_slice(&bytes[..count]);
            }
        }
        first
    };
    tokio::select! {
        () = says => unreachable!("it only ends with the other"),
        first = hears => first,
    }
}

/// Links that were let in by their token and then say nothing, each opened again when it is closed.
fn mute_links(scene: &Scene, count: usize) -> JoinSet<()> {
    let mut mutes = JoinSet::new();
    for nth in 0..count {
        let (port, token) = (scene.server.port(), scene.agent_token(&format!("mute-{nth}")));
        mutes.spawn(async move {
            let head = format!(
                "GET /ws/connect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                 Sec-WebSocket-Protocol: hoist.v1\r\n\r\n"
            );
            while let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    mutes
}

/// How many files the server has open: its connections, and a few more.
fn files_of(scene: &Scene) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", scene.server.pid())).unwrap().count()
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
    // A line for each of them, at the level debug, would be most of the work.
    let scene = Scene::earnest().env("LOG_LEVEL", "info").start().await;
    scene.site.random("report", 6 << 20);
    let agent = scene.agent("restaurant-1").start();
    let sites = sites(&scene, 100).await;
    are_linked(&scene, 101).await;
    let mutes = mute_links(&scene, 200);
    let siege = Siege::lay(scene.server.port(), count);
    let stands = || async {
        let (held, files) = (siege.held.load(Ordering::Relaxed), files_of(&scene));
        if files > count / 20 * 19 { Ok(()) } else { Err(format!("{held} held, {files} files of {count}")) }
    };
    eventually("the server to hold nearly all of them at once", WITHIN, stands).await;
    let operator = scene.operator();
    operator.completes(operator.ask("restaurant-1", "report").await.id).await;
    eventually("the siege to stand to the end", WITHIN, stands).await;
    are_linked(&scene, 101).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{count} besiegers, 200 mute links, 101 links: the server's {peak}");
    drop(mutes);
    siege.end().await;
    are_linked(&scene, 101).await;
    let log = scene.server.log();
    let lost = log.lines().filter(|line| line.contains("link closed") && !line.contains("mute-"));
    assert_eq!(lost.count(), 0, "{log}");
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
    let siege = Siege::lay(scene.server.port(), 1_200);
    eventually("somebody to be told 503", WITHIN, || async {
        let told = siege.told_503.load(Ordering::Relaxed);
        if told > 0 { Ok(()) } else { Err(String::from("nobody")) }
    })
    .await;
    let files = files_of(&scene);
    // Those who are told so, 64 at once, and what a look each second has not seen yet come on top.
    assert!((700..900).contains(&files), "four fifths of 1,000 files: {files}");
    let log = scene.server.log();
    assert!(log.contains("four fifths of the files"), "{log}");
    siege.end().await;
    operator.completes(asked.id).await;
    // Newcomers are served again, and nobody has lost a link.
    are_linked(&scene, 21).await;
    assert_eq!(log.matches("link closed").count(), 0, "{log}");
    drop((agent, sites));
    scene.finish().await;
}
