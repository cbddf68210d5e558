//! A server and a bucket small enough to be told what to do, for tests of the agent.
//!
//! Deliberately absent: the rules of the real server. Each test says itself what the server answers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hoist_agent::{AddressPolicy, AgentError, Config, Policy, Proxies, Roots, ServerUrl, TokenSource};
use hoist_wire::to_agent::{
    Accept, Answer, Encoding, Fetch, Forget, Grant, Pace, PartAnswer, Parts, Welcome,
};
use hoist_wire::{
    Attempt, Batch, ChecksumKind, DownloadId, LinkSeq, OnChange, Outcome, PartNumber, Sealed, Timestamp,
    ToAgent, ToServer,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{
    ErrorResponse, Request as Upgrade, Response as Upgraded,
};
use tokio_util::sync::CancellationToken;

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PART: u64 = 5 * 1024 * 1024;

/// Waits for `work`, and fails the test when it does not come. The wait is real time, of a thread's own: paused time runs
/// ahead whenever a socket is slow, and would end it too early.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let (came, waits) = std::sync::mpsc::channel::<()>();
    let (late, is_late) = tokio::sync::oneshot::channel();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = late.send(());
        }
    });
    let out = tokio::select! {
        biased;
        out = work => out,
        Ok(()) = is_late => panic!("{what} never came"),
    };
    drop(came);
    watch.join().unwrap();
    out
}

/// The server's end of one link.
#[derive(Debug)]
pub(crate) struct Link {
    socket: WebSocketStream<TcpStream>,
    pub(crate) headers: BTreeMap<String, String>,
}

/// Where agents dial.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// Takes the next link as far as the upgrade. A dial that is given up in the middle, as paused time may have it, is none.
    pub(crate) async fn upgrade(&self) -> Link {
        loop {
            if let Some(link) = self.try_upgrade().await {
                return link;
            }
        }
    }

    async fn try_upgrade(&self) -> Option<Link> {
        let (tcp, _) = soon("a dial", self.listener.accept()).await.unwrap();
        let mut headers = BTreeMap::new();
        #[expect(clippy::result_large_err, reason = "the callback's type is given")]
        let note = |request: &Upgrade, mut answer: Upgraded| -> Result<Upgraded, ErrorResponse> {
            for (name, value) in request.headers() {
                headers.insert(name.to_string(), value.to_str().unwrap().to_owned());
            }
            headers.insert("path".to_owned(), request.uri().path().to_owned());
            answer.headers_mut().insert("sec-websocket-protocol", "hoist.v1".parse().unwrap());
            Ok(answer)
        };
        let socket = soon("an upgrade", tokio_tungstenite::accept_hdr_async(tcp, note)).await.ok()?;
        Some(Link { socket, headers })
    }

    /// Takes the next link and welcomes it; gives what `hello` names as busy.
    pub(crate) async fn link(&self) -> (Link, hoist_wire::to_server::Hello) {
        let mut link = self.upgrade().await;
        let ToServer::Hello(hello) = link.hear().await else { panic!("the first message is hello") };
        let server_time = Timestamp(1_795_521_600_000);
        link.say(ToAgent::Welcome(Welcome { link: LinkSeq(1), server_time, ping_interval_secs: 15 })).await;
        (link, hello)
    }

    /// Answers the next dial with a bare HTTP answer.
    pub(crate) async fn answer(&self, text: &str) {
        loop {
            let (mut tcp, _) = soon("a dial", self.listener.accept()).await.unwrap();
            let read = soon("a request", tcp.read(&mut [0; 4096])).await;
            // A dial that was given up hears no answer: the next one gets it.
            if matches!(read, Ok(1..)) && tcp.write_all(text.as_bytes()).await.is_ok() {
                let _ = tcp.shutdown().await;
                return;
            }
        }
    }
}

impl Link {
    pub(crate) async fn say(&mut self, message: ToAgent) {
        self.say_text(&serde_json::to_string(&message).unwrap()).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Gives the next frame of any kind.
    pub(crate) async fn frame(&mut self) -> Message {
        soon("a frame", self.socket.next()).await.unwrap().unwrap()
    }

    /// Gives the next message, progress too; none at the end of the link.
    pub(crate) async fn hear_any(&mut self) -> Option<ToServer> {
        loop {
            match soon("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(ToServer::decode(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Gives the next message that is not about progress.
    pub(crate) async fn hear(&mut self) -> ToServer {
        loop {
            match self.hear_any().await {
                Some(ToServer::Progress(_)) => {}
                Some(message) => return message,
                None => panic!("the link ended"),
            }
        }
    }

    pub(crate) async fn fetch(&mut self, job: &Job) {
        self.say(ToAgent::Fetch(Fetch {
            download_id: job.id,
            attempt: job.attempt,
            path: job.path.clone(),
            on_change: job.on_change,
            max_rate_bytes_per_sec: job.max_rate,
        }))
        .await;
    }

    /// Asks for a file and takes its offer.
    pub(crate) async fn start(&mut self, job: &Job) -> hoist_wire::to_server::Offer {
        self.fetch(job).await;
        let ToServer::Offer(offer) = self.hear().await else { panic!("fetch is answered by offer") };
        self.accept(job, ChecksumKind::Crc64nvme).await;
        offer
    }

    pub(crate) async fn accept(&mut self, job: &Job, checksum: ChecksumKind) {
        self.say(ToAgent::Accept(Accept {
            download_id: job.id,
            attempt: job.attempt,
            part_size_bytes: PART,
            checksum,
            encoding: Encoding::Identity,
        }))
        .await;
    }

    pub(crate) async fn answer(&mut self, job: &Job, number: u16, answer: Answer) {
        let part = PartAnswer { number: PartNumber::new(number).unwrap(), answer };
        self.say(ToAgent::Parts(Parts {
            download_id: job.id,
            attempt: job.attempt,
            parts: Batch::from(part),
        }))
        .await;
    }

    pub(crate) async fn pace(&mut self, job: &Job, max_rate_bytes_per_sec: Option<u64>) {
        let (download_id, attempt) = (job.id, job.attempt);
        self.say(ToAgent::Pace(Pace { download_id, attempt, max_rate_bytes_per_sec })).await;
    }

    pub(crate) async fn forget(&mut self, job: &Job) {
        let (download_id, attempt) = (job.id, job.attempt);
        self.say(ToAgent::Forget(Forget { download_id, attempt, outcome: Outcome::Cancelled })).await;
    }

    /// Serves an attempt to its end, granting everything that is asked; gives every message heard.
    pub(crate) async fn serve(&mut self, job: &Job, bucket: &Bucket) -> Vec<ToServer> {
        let mut heard = Vec::new();
        loop {
            let message = self.hear().await;
            if let ToServer::PartsReady(ready) = &message {
                for part in ready.parts.iter() {
                    let grant = bucket.grant(part.number.get(), part.size_bytes, 900);
                    self.answer(job, part.number.get(), Answer::Put(grant)).await;
                }
            }
            let is_end =
                matches!(message, ToServer::Finished(_) | ToServer::Refused(_) | ToServer::Forgotten(_));
            heard.push(message);
            if is_end {
                return heard;
            }
        }
    }
}

/// One attempt as the server knows it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: DownloadId,
    pub(crate) attempt: Attempt,
    pub(crate) path: Option<String>,
    pub(crate) on_change: OnChange,
    pub(crate) max_rate: Option<u64>,
}

impl Job {
    pub(crate) fn new(path: &str) -> Self {
        Self {
            id: DownloadId::new(1, [path.len().try_into().unwrap_or(255); 10]),
            attempt: Attempt(1),
            path: Some(path.to_owned()),
            on_change: OnChange::Restart,
            max_rate: None,
        }
    }
}

/// What the bucket does with the next PUT of a part.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Answers with this status and body after the whole body was read.
    Answer(u16, &'static str),
    /// Reads nothing and says nothing until `release`.
    Hold,
}

#[derive(Debug, Default)]
struct Kept {
    /// Every whole body by part number, in the order of arrival.
    bodies: BTreeMap<u16, Vec<Bytes>>,
    headers: BTreeMap<u16, BTreeMap<String, String>>,
    deeds: BTreeMap<u16, VecDeque<Deed>>,
    connections: usize,
}

/// A bucket on loopback that keeps what is put.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) addr: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    release: Arc<Notify>,
    holding: watch::Receiver<i32>,
    _tasks: JoinSet<()>,
}

impl Bucket {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let release = Arc::new(Notify::new());
        let (holds, holding) = watch::channel(0);
        let service = Service { kept: Arc::clone(&kept), release: Arc::clone(&release), holds };
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run(listener));
        Self { addr, kept, release, holding, _tasks: tasks }
    }

    /// Makes a grant for a part.
    pub(crate) fn grant(&self, number: u16, len: u64, expires_in_secs: u32) -> Grant {
        let url = format!("http://{}/key?partNumber={number}&X-Amz-Signature=secret", self.addr);
        let headers = BTreeMap::from([("content-length".to_owned(), len.to_string())]);
        Grant { url: Sealed::new(url), headers, expires_in_secs }
    }

    /// Says what becomes of the next PUTs of a part; after that they are kept.
    pub(crate) fn plan(&self, number: u16, deeds: impl IntoIterator<Item = Deed>) {
        self.kept.lock().unwrap().deeds.entry(number).or_default().extend(deeds);
    }

    /// Lets held PUTs go on.
    pub(crate) fn release(&self) {
        self.release.notify_waiters();
    }

    /// Waits until so many PUTs are held.
    pub(crate) async fn wait_held(&mut self, count: i32) {
        soon("a held PUT", self.holding.wait_for(|held| *held == count)).await.unwrap();
    }

    /// Gives how often each part arrived whole.
    pub(crate) fn arrivals(&self) -> BTreeMap<u16, usize> {
        self.kept.lock().unwrap().bodies.iter().map(|(number, bodies)| (*number, bodies.len())).collect()
    }

    /// Gives the last body of each part, joined.
    pub(crate) fn object(&self) -> Vec<u8> {
        let kept = self.kept.lock().unwrap();
        let last: Vec<Bytes> = kept.bodies.values().filter_map(|bodies| bodies.last().cloned()).collect();
        last.concat()
    }

    pub(crate) fn headers(&self, number: u16) -> BTreeMap<String, String> {
        self.kept.lock().unwrap().headers.get(&number).cloned().unwrap_or_default()
    }

    pub(crate) fn connections(&self) -> usize {
        self.kept.lock().unwrap().connections
    }
}

#[derive(Debug, Clone)]
struct Service {
    kept: Arc<Mutex<Kept>>,
    release: Arc<Notify>,
    holds: watch::Sender<i32>,
}

/// Counts a held PUT for as long as its connection lives.
struct Holding<'a>(&'a watch::Sender<i32>);

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

impl Service {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            self.kept.lock().unwrap().connections += 1;
            let service = self.clone();
            connections.spawn(async move {
                let answer = service_fn(|request| service.put(request));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tcp), answer)
                    .await;
            });
        }
    }

    async fn put(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let number: u16 =
            query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap().parse().unwrap();
        let headers = request.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let deed = self.kept.lock().unwrap().deeds.get_mut(&number).and_then(VecDeque::pop_front);
        if let Some(Deed::Hold) = deed {
            let released = self.release.notified();
            self.holds.send_modify(|held| *held += 1);
            let _holding = Holding(&self.holds);
            released.await;
        }
        let body = request.into_body().collect().await?.to_bytes();
        if let Some(Deed::Answer(status, text)) = deed {
            return Ok(Response::builder().status(status).body(Full::from(text)).unwrap());
        }
        let mut kept = self.kept.lock().unwrap();
        kept.headers.insert(number, headers);
        kept.bodies.entry(number).or_default().push(body);
        Ok(Response::builder().header("etag", format!("\"etag-{number}\"")).body(Full::default()).unwrap())
    }
}

/// An agent in this process, with a root of its own.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) dir: tempfile::TempDir,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), AgentError>>,
}

impl Agent {
    pub(crate) fn start(server: SocketAddr) -> Self {
        Self::start_with(server, |_| {})
    }

    pub(crate) fn start_with(server: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(server, dir.path());
        change(&mut config);
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(hoist_agent::run(config, shutdown.clone()));
        Self { dir, shutdown, tasks }
    }

    /// Writes a file of `len` bytes below the root, and gives them.
    pub(crate) fn file(&self, name: &str, len: u64) -> Vec<u8> {
        // A period that is no part of a chunk, so that no two chunks are alike.
        let period: Vec<u8> = (0..=255_u8).chain(0..=250).chain(3..=199).collect();
        let len = usize::try_from(len).unwrap();
        let mut bytes = period.repeat(len / period.len() + 1);
        bytes.truncate(len);
        std::fs::write(self.path(name), &bytes).unwrap();
        bytes
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Stops the agent as a signal would, and gives how it ended.
    pub(crate) async fn stop(mut self) -> Result<(), AgentError> {
        self.shutdown.cancel();
        self.ended().await
    }

    /// Waits for the agent to end by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), AgentError> {
        soon("the agent's end", self.tasks.join_next()).await.unwrap().unwrap()
    }
}

fn config(server: SocketAddr, root: &Path) -> Config {
    Config {
        server: ServerUrl::parse(&format!("ws://{server}")).unwrap(),
        client_id: Some("site-1".parse().unwrap()),
        named: None,
        token: TokenSource::Fixed("the-token".to_owned().into()),
        policy: Policy::of(Roots::new(&[root.to_owned()], None, None).unwrap()),
        slots: 2,
        max_parts_in_flight: 4,
        max_rate: None,
        on_change: None,
        extra_ca_file: None,
        client_cert: None,
        addresses: AddressPolicy { server_is_loopback: true, ..AddressPolicy::default() },
        proxies: Proxies::none(),
    }
}
