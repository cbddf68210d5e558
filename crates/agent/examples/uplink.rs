//! Measures the agent: starts the binary beside it, has it send a file to a loopback endpoint that discards bodies, and
//! prints the agent's own CPU seconds and peak memory.
//!
//! `cargo build --release -p hoist-agent --bins --examples`, then
//! `target/release/examples/uplink FILE [DOWNLOADS] [RATE] [https]`; RATE is MB a second for each connection, so that
//! several parts fly at once, and 0 for no limit. With `MAX_RATE` in the environment, which the agent obeys, it also prints
//! how near the bytes came to that rate: in all, and in any second.
#![expect(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use hoist_wire::to_agent::{Accept, Answer, Encoding, Fetch, Grant, PartAnswer, Parts, Welcome};
use hoist_wire::{
    Attempt, Batch, ChecksumKind, DownloadId, LinkSeq, OnChange, Sealed, Timestamp, ToAgent, ToServer,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

const PART: u64 = 5 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let file = args.get(1).expect("the file to send");
    let downloads: u8 = args.get(2).map_or(1, |text| text.parse().unwrap());
    let rate = args.get(3).map(|text| text.parse::<u64>().unwrap() * 1_000_000).filter(|rate| *rate > 0);
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = args.get(4).map(|_| acceptor(&key));
    let ca = std::env::temp_dir().join(format!("uplink-{}.pem", std::process::id()));
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bucket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://localhost:{}/key", bucket.local_addr().unwrap().port());
    let mut tasks = JoinSet::new();
    let arrivals = Arrivals::default();
    tasks.spawn(discard(bucket, rate, tls, Arc::clone(&arrivals)));

    let claims = br#"{"sub":"site-1","aud":"hoist-agent","exp":9,"iat":1,"jti":"j"}"#;
    let token = format!("e30.{}.s", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    let agent = std::env::current_exe().unwrap().with_file_name("../hoist-agent");
    let mut child = Command::new(agent)
        .env("SERVER_WS_URL", format!("ws://{}", server.local_addr().unwrap()))
        .env("CLIENT_TOKEN", token)
        .env("EXTRA_CA_FILE", &ca)
        .env("AGENT_SLOTS", downloads.to_string())
        .env("AGENT_ROOTS", Path::new(file).parent().unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let took = drive(&server, file, downloads, &url).await;
    report(child.id(), took, std::fs::metadata(file).unwrap().len() * u64::from(downloads));
    if std::env::var_os("MAX_RATE").is_some() {
        report_rate(&arrivals.lock().unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(ca).unwrap();
}

/// Plays the server for one link; gives the time from the first `fetch` to the last `finished`.
async fn drive(server: &TcpListener, file: &str, downloads: u8, url: &str) -> Duration {
    let (tcp, _) = server.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "the callback's type is given")]
    let protocol = |_: &Request, mut answer: Response| -> Result<Response, ErrorResponse> {
        answer.headers_mut().insert("sec-websocket-protocol", "hoist.v1".parse().unwrap());
        Ok(answer)
    };
    let mut link = tokio_tungstenite::accept_hdr_async(tcp, protocol).await.unwrap();
    let mut outbox = vec![ToAgent::Welcome(Welcome {
        link: LinkSeq(1),
        server_time: Timestamp(0),
        ping_interval_secs: 15,
    })];
    for n in 0..downloads {
        outbox.push(ToAgent::Fetch(Fetch {
            download_id: DownloadId::new(1, [n; 10]),
            attempt: Attempt(1),
            path: Some(file.to_owned()),
            on_change: OnChange::Restart,
            max_rate_bytes_per_sec: None,
        }));
    }
    let start = Instant::now();
    let mut left = downloads;
    while left > 0 {
        for message in outbox.drain(..) {
            link.send(Message::text(serde_json::to_string(&message).unwrap())).await.unwrap();
        }
        let frame = link.next().await.unwrap().unwrap();
        let Message::Text(text) = frame else { continue };
        match ToServer::decode(&text).unwrap() {
            ToServer::Offer(offer) => outbox.push(ToAgent::Accept(Accept {
                download_id: offer.download_id,
                attempt: offer.attempt,
                part_size_bytes: PART,
                checksum: ChecksumKind::Crc64nvme,
                encoding: Encoding::Identity,
            })),
            ToServer::PartsReady(ready) => {
                let grant = Grant { url: Sealed::new(url), headers: BTreeMap::new(), expires_in_secs: 900 };
                let answers = ready
                    .parts
                    .iter()
                    .map(|p| PartAnswer { number: p.number, answer: Answer::Put(grant.clone()) });
                outbox.push(ToAgent::Parts(Parts {
                    download_id: ready.download_id,
                    attempt: ready.attempt,
                    parts: Batch::new(answers.collect()).unwrap(),
                }));
            }
            ToServer::Finished(_) => left -= 1,
            ToServer::Refused(refused) => panic!("{refused:?}"),
            ToServer::Hello(_)
            | ToServer::Receipts(_)
            | ToServer::Progress(_)
            | ToServer::Forgotten(_)
            | ToServer::Unsupported(_) => {}
        }
    }
    start.elapsed()
}

fn acceptor(key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], secret)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// When bytes of bodies came, and how many.
type Arrivals = Arc<Mutex<Vec<(Instant, usize)>>>;

async fn discard(bucket: TcpListener, rate: Option<u64>, tls: Option<TlsAcceptor>, arrivals: Arrivals) {
    let mut tasks = JoinSet::new();
    loop {
        let (tcp, _) = bucket.accept().await.unwrap();
        let arrivals = Arc::clone(&arrivals);
        match tls.clone() {
            Some(tls) => {
                tasks.spawn(async move { swallow(tls.accept(tcp).await.unwrap(), rate, arrivals).await })
            }
            None => tasks.spawn(swallow(tcp, rate, arrivals)),
        };
    }
}

/// Reads requests and throws their bodies away, at most `rate` bytes a second.
async fn swallow(
    mut tcp: impl AsyncRead + AsyncWrite + Unpin,
    rate: Option<u64>,
    arrivals: Arrivals,
) -> Option<()> {
    let mut buf = vec![0; 256 * 1024];
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
        let mut left: usize = head.split_once("content-length: ")?.1.split_once('\r')?.0.parse().ok()?;
        while left > 0 {
            let most = left.min(buf.len());
            let read = tcp.read(&mut buf[..most]).await.ok()?;
            left -= read;
            arrivals.lock().unwrap().push((Instant::now(), read));
            if let Some(rate) = rate {
                tokio::time::sleep(Duration::from_micros(read as u64 * 1_000_000 / rate)).await;
            }
        }
        tcp.write_all(b"HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        tcp.flush().await.ok()?;
    }
}

fn report(pid: u32, took: Duration, bytes: u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name in brackets: user and system time are the 12th and 13th, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: Vec<u64> = fields[11..13].iter().map(|text| text.parse().unwrap()).collect();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    let mib = bytes / (1024 * 1024);
    println!("{mib} MiB in {took:.2?}; user {} ms, system {} ms", ticks[0] * 10, ticks[1] * 10);
    println!("{}; {}; {}", of("VmHWM"), of("RssAnon"), of("Threads"));
}

/// Prints the rate from the first byte to the last, the most that came within any second, and the longest silence.
fn report_rate(arrivals: &[(Instant, usize)]) {
    let (first, last) = (arrivals[0].0, arrivals[arrivals.len() - 1].0);
    let bytes = |part: &[(Instant, usize)]| part.iter().map(|(_, bytes)| *bytes as u64).sum::<u64>();
    let second = Duration::from_secs(1);
    let (mut most, mut from, mut within) = (0, 0, 0);
    for (at, bytes) in arrivals {
        within += *bytes as u64;
        while *at - arrivals[from].0 >= second {
            within -= arrivals[from].1 as u64;
            from += 1;
        }
        most = most.max(within);
    }
    let silence = arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = bytes(arrivals) as f64 / (last - first).as_secs_f64();
    println!("{rate:.0} bytes/s; at most {most} bytes within a second; longest silence {silence:.1?}");
}
