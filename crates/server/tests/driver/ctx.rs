//! A server's inner half on a real store and a real link, without REST: what a test needs to play an agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _};
use hoist_engine::life::Life;
use hoist_server::clock::{RealWorld, World, download_id, random_id};
use hoist_server::downloads::{Downloads, Letter, Shop, sweep};
use hoist_server::links::{Link, LinkContext, Links, Pass};
use hoist_server::store::{Record, SqliteStore, Store};
use hoist_server::tokens::{Tokens, secs};
use hoist_wire::claims::Claims;
use hoist_wire::limits::MIN_PART_SIZE_BYTES;
use hoist_wire::to_agent::{Accept, Answer, Fetch, Forget, Grant};
use hoist_wire::to_server::{
    Busy, Finished, Forgotten, Hello, Identity, Offer, PartsReady, ReadyPart, Receipt, Receipts, Refused,
};
use hoist_wire::{
    Attempt, Batch, ChecksumKind, ClientId, Crc64, DownloadId, ErrorCode, INSTANCE_HEADER, OnChange, Outcome,
    PartNumber, PartSums, State, Timestamp, ToAgent, ToServer,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

use crate::bucket::FakeBucket;

/// How long anything may take before a test says that it does not come.
const SOON: Duration = Duration::from_secs(30);

/// How long an agent's first token is good: longer than any test moves its clock but the one that is about this.
pub(crate) const TOKEN_SECS: u64 = 10 * 365 * 86_400;

/// How long a renewed one is good.
pub(crate) const RENEWED_SECS: u64 = 86_400;

/// The machine's clock, moved on by the test.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl World for Clock {
    fn now(&self) -> Timestamp {
        RealWorld.now().plus_ms(self.0.load(Ordering::SeqCst))
    }

    fn random(&self, bytes: &mut [u8]) {
        RealWorld.random(bytes);
    }
}

/// One run of a server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) downloads: Arc<Downloads>,
    pub(crate) links: Arc<Links>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What outlives a server.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(crate) bucket: Arc<FakeBucket>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) database: PathBuf,
    _dir: tempfile::TempDir,
}

impl Ctx {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("hoist.db");
        let store = Arc::new(SqliteStore::open(&database).await.unwrap());
        Self { bucket: Arc::default(), store, clock: Arc::default(), database, _dir: dir }
    }

    /// Gives the time of the test.
    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Copies the database as it is now: the backup.
    pub(crate) async fn backup(&self) -> PathBuf {
        let to = self.database.with_file_name(format!("backup-{}.db", random_id(&*self.clock)));
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&self.database);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query("vacuum into $1").bind(to.to_str().unwrap()).execute(&pool).await.unwrap();
        pool.close().await;
        to
    }

    /// Goes on with a backup, on the same bucket.
    pub(crate) async fn restored(self, backup: PathBuf) -> Self {
        let store = Arc::new(SqliteStore::open(&backup).await.unwrap());
        Self { store, database: backup, ..self }
    }

    /// Starts a server, without a sweeper.
    pub(crate) async fn serve(&self) -> Server {
        let world: Arc<dyn World> = Arc::clone(&self.clock) as _;
        let links = Arc::<Links>::default();
        let stop = CancellationToken::new();
        let shop = Shop {
            store: Arc::clone(&self.store),
            bucket: Arc::clone(&self.bucket) as _,
            checksum: watch::channel(Some(ChecksumKind::Crc64nvme)).1,
            links: Arc::clone(&links),
            world: Arc::clone(&world),
            key_prefix: String::from("hoist"),
            part_size_bytes: MIN_PART_SIZE_BYTES,
            grant_ttl: Duration::from_secs(900),
        };
        let downloads = Downloads::new(shop, stop.clone());
        let context = Arc::new(LinkContext {
            links: Arc::clone(&links),
            downloads: Arc::clone(&downloads),
            store: Arc::clone(&self.store),
            tokens: Arc::new(Tokens::new(
                &["a secret of the tests, long enough".to_owned().into()],
                Arc::clone(&world),
            )),
            token_ttl: Duration::from_secs(RENEWED_SECS),
            world,
        });
        let door = get(async move |headers: HeaderMap, upgrade: WebSocketUpgrade| {
            let instance = headers.get(INSTANCE_HEADER).map(|it| it.to_str().unwrap().parse().unwrap());
            if context.knock(&client(), instance.as_ref()).await.is_err() {
                return StatusCode::CONFLICT.into_response();
            }
            let iat = secs(context.world.now());
            let claims = Claims {
                sub: client().to_string(),
                aud: String::new(),
                exp: iat + TOKEN_SECS,
                iat,
                jti: String::new(),
                scopes: Vec::new(),
                clients: None,
            };
            let pass = Pass::Token { claims, kid: String::new(), is_current: true };
            upgrade.on_upgrade(move |socket| Link::serve(socket, client(), pass, instance, context))
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let router = Router::new().route("/ws/connect", door);
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Server { downloads, links, address, stop, tasks }
    }

    /// Writes a request for a file.
    pub(crate) async fn ask(&self, server: &Server) -> DownloadId {
        self.ask_for(server, None).await
    }

    /// Asks for a download that lives so long.
    pub(crate) async fn ask_for(&self, server: &Server, ttl_secs: Option<u64>) -> DownloadId {
        let now = self.clock.now();
        let record = Record {
            id: download_id(&*self.clock),
            client_id: client(),
            version: 1,
            life: Life::queued(now, ttl_secs, OnChange::Restart),
            file_path: None,
            found: None,
            object_key: None,
            write_token: random_id(&*self.clock),
            metadata: BTreeMap::new(),
            requested_by: String::from("test"),
            max_rate_bytes_per_sec: None,
            stored_bytes: 0,
            created_at: now,
            started_at: None,
            updated_at: now,
            finished_at: None,
        };
        self.store.insert(&record, None, 100).await.unwrap();
        server.links.nudge(&client());
        record.id
    }

    pub(crate) async fn record(&self, id: DownloadId) -> Record {
        self.store.download(id).await.unwrap().unwrap()
    }

    /// Waits until the store says so.
    pub(crate) async fn until(&self, id: DownloadId, what: &str, holds: impl Fn(&Record) -> bool) -> Record {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let record = self.record(id).await;
            if holds(&record) {
                return record;
            }
            assert!(tokio::time::Instant::now() < deadline, "never {what}: {:?}", record.life);
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn until_state(&self, id: DownloadId, state: State) -> Record {
        self.until(id, state.as_str(), |record| record.life.state == state).await
    }

    /// Waits until no upload is open in the bucket.
    pub(crate) async fn until_no_upload(&self) {
        let gone = async {
            while self.bucket.open_uploads() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, gone).await.expect("every upload ends");
    }
}

impl Server {
    /// Sweeps as a whole server does.
    pub(crate) fn sweeps(&mut self) {
        self.tasks.spawn(sweep(Arc::clone(&self.downloads)));
    }

    /// Has a driver look, as the sweeper does.
    pub(crate) async fn look(&self, id: DownloadId) {
        self.downloads.drive(id, Letter::Sweep).await;
    }

    /// Waits until the driver has read all that the link gave it: its answer to this letter comes behind.
    pub(crate) async fn read_all(&self, id: DownloadId, agent: &mut Agent) {
        let link = self.links.get(&client()).expect("the client is connected");
        self.downloads.drive(id, Letter::Attach { link }).await;
        assert_eq!(agent.forget().await.outcome, Outcome::Superseded);
    }

    /// Ends it: links break, drivers write what they have.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
        timeout(SOON, self.downloads.drained()).await.expect("drivers end");
    }

    /// Opens a link as an agent that works on `busy`.
    pub(crate) async fn agent(&self, slots: u8, busy: Vec<Busy>) -> Agent {
        self.agent_as("process.machine", slots, busy).await.expect("a link")
    }

    /// Opens a link as a process on a machine; none where it is refused.
    pub(crate) async fn agent_as(&self, instance: &str, slots: u8, busy: Vec<Busy>) -> Option<Agent> {
        Some(self.dial(instance).await?.hello(slots, busy).await)
    }

    /// Makes the handshake as a process on a machine; none where it is refused.
    pub(crate) async fn dial(&self, instance: &str) -> Option<Agent> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/ws/connect", self.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert(INSTANCE_HEADER, instance.parse().unwrap());
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Some(Agent { socket }),
            Err(tungstenite::Error::Http(answer)) => {
                assert_eq!(answer.status(), StatusCode::CONFLICT);
                None
            }
            Err(error) => panic!("no link: {error}"),
        }
    }
}

pub(crate) fn client() -> ClientId {
    "restaurant-1".parse().unwrap()
}

/// A file as the test invents it: what each part hashes to. All parts but the last have 5 MiB, the last has one byte.
#[derive(Debug, Clone)]
pub(crate) struct File(pub(crate) Vec<u64>);

impl File {
    pub(crate) fn size(&self) -> u64 {
        (self.0.len() as u64).checked_sub(1).map_or(0, |full| full * MIN_PART_SIZE_BYTES + 1)
    }

    pub(crate) fn parts(&self) -> Vec<ReadyPart> {
        let part = |(index, crc): (usize, &u64)| ReadyPart {
            number: PartNumber::new(u16::try_from(index).unwrap() + 1).unwrap(),
            size_bytes: if index + 1 == self.0.len() { 1 } else { MIN_PART_SIZE_BYTES },
            sums: PartSums { crc64nvme: Crc64(*crc), md5: None },
        };
        self.0.iter().enumerate().map(part).collect()
    }

    fn whole(&self) -> Crc64 {
        let combine = |whole, part: ReadyPart| {
            crc_fast::checksum_combine(
                crc_fast::CrcAlgorithm::Crc64Nvme,
                whole,
                part.sums.crc64nvme.0,
                part.size_bytes,
            )
        };
        Crc64(self.parts().into_iter().fold(0, combine))
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { device: 1, inode: 1, size_bytes: self.size(), modified_ns: 1, changed_ns: 1 }
    }
}

/// An agent whose every word the test chooses.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: WebSocketStream<TcpStream>,
}

impl Agent {
    /// Says who it is and what it works on, and waits for the welcome.
    pub(crate) async fn hello(mut self, slots: u8, busy: Vec<Busy>) -> Self {
        let hello = Hello {
            agent_version: String::from("0"),
            os: String::from("test"),
            host: String::from("test"),
            facts: BTreeMap::new(),
            slots,
            busy,
            on_change: None,
        };
        self.say(ToServer::Hello(hello)).await;
        assert!(matches!(self.hear().await, ToAgent::Welcome(_)));
        self
    }

    pub(crate) async fn say(&mut self, message: ToServer) {
        let text = serde_json::to_string(&message).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> ToAgent {
        loop {
            let frame = timeout(SOON, self.socket.next()).await.expect("the server says something");
            if let Message::Text(text) = frame.expect("the link lives").unwrap() {
                return ToAgent::decode(&text).unwrap();
            }
        }
    }

    /// Answers one ping.
    pub(crate) async fn pinged(&mut self) {
        loop {
            let frame = timeout(SOON, self.socket.next()).await.expect("the server asks whether it lives");
            if let Message::Ping(_) = frame.expect("the link lives").unwrap() {
                // The library has queued the answer.
                return self.socket.flush().await.unwrap();
            }
        }
    }

    pub(crate) async fn fetch(&mut self) -> Busy {
        match self.hear().await {
            ToAgent::Fetch(Fetch { download_id, attempt, .. }) => Busy { download_id, attempt },
            other => panic!("no fetch but {other:?}"),
        }
    }

    pub(crate) async fn accept(&mut self) -> Accept {
        match self.hear().await {
            ToAgent::Accept(accept) => accept,
            other => panic!("no accept but {other:?}"),
        }
    }

    pub(crate) async fn forget(&mut self) -> Forget {
        match self.hear().await {
            ToAgent::Forget(forget) => forget,
            other => panic!("no forget but {other:?}"),
        }
    }

    pub(crate) async fn offer(&mut self, of: Busy, file: &File) {
        let Busy { download_id, attempt } = of;
        let (path, name) = (String::from("/srv/day.log"), String::from("day.log"));
        let (size_bytes, identity) = (file.size(), file.identity());
        let offer = Offer { download_id, attempt, path, name, size_bytes, modified_ms: 1, identity };
        self.say(ToServer::Offer(offer)).await;
    }

    /// Asks for parts, and gives the answers in order.
    pub(crate) async fn ready(&mut self, of: Busy, parts: Vec<ReadyPart>) -> Vec<Answer> {
        let Busy { download_id, attempt } = of;
        let parts = Batch::new(parts).unwrap();
        self.say(ToServer::PartsReady(PartsReady { download_id, attempt, parts })).await;
        match self.hear().await {
            ToAgent::Parts(parts) => parts.parts.into_iter().map(|part| part.answer).collect(),
            other => panic!("no answer for parts but {other:?}"),
        }
    }

    pub(crate) async fn receipts(&mut self, of: Busy, parts: Vec<(ReadyPart, String)>) {
        let Busy { download_id, attempt } = of;
        let receipt = |(part, etag): (ReadyPart, String)| Receipt {
            number: part.number,
            size_bytes: part.size_bytes,
            etag,
            sums: part.sums,
        };
        let parts = Batch::new(parts.into_iter().map(receipt).collect()).unwrap();
        self.say(ToServer::Receipts(Receipts { download_id, attempt, parts })).await;
    }

    /// Sends parts, all of which must be granted or stored.
    pub(crate) async fn send(&mut self, of: Busy, bucket: &FakeBucket, parts: Vec<ReadyPart>) {
        let answers = self.ready(of, parts.clone()).await;
        let put = |(part, answer): (ReadyPart, Answer)| {
            let grant: Grant = match answer {
                Answer::Put(grant) => grant,
                Answer::Stored => return None,
                Answer::Wait(wait) => panic!("part {} must wait: {wait:?}", part.number),
            };
            Some((part, bucket.put(&grant).expect("the upload is there")))
        };
        let receipts: Vec<_> = parts.into_iter().zip(answers).filter_map(put).collect();
        if !receipts.is_empty() {
            self.receipts(of, receipts).await;
        }
    }

    pub(crate) async fn finished(&mut self, of: Busy, file: &File) {
        let Busy { download_id, attempt } = of;
        let (size_bytes, crc64nvme, identity) = (file.size(), file.whole(), file.identity());
        let finished = Finished { download_id, attempt, size_bytes, crc64nvme, identity };
        self.say(ToServer::Finished(finished)).await;
    }

    pub(crate) async fn refused(&mut self, of: Busy, code: ErrorCode, retry_after_ms: Option<u64>) {
        let Busy { download_id, attempt } = of;
        let message = String::from("no");
        self.say(ToServer::Refused(Refused { download_id, attempt, code, message, retry_after_ms })).await;
    }

    pub(crate) async fn forgotten(&mut self, of: Busy) {
        let Busy { download_id, attempt } = of;
        self.say(ToServer::Forgotten(Forgotten { download_id, attempt })).await;
    }

    /// Says what no server understands, and waits for the answer: the link has read all that was said before.
    pub(crate) async fn nonsense(&mut self) {
        self.socket.send(Message::text(r#"{"type": "nonsense"}"#)).await.unwrap();
        assert!(matches!(self.hear().await, ToAgent::Unsupported(_)));
    }

    /// Does the whole of an attempt, from the offer to `finished`.
    pub(crate) async fn bring(&mut self, of: Busy, bucket: &FakeBucket, file: &File) {
        self.offer(of, file).await;
        self.accept().await;
        if !file.0.is_empty() {
            self.send(of, bucket, file.parts()).await;
        }
        self.finished(of, file).await;
    }
}

pub(crate) fn attempt(of: Busy) -> u32 {
    let Attempt(number) = of.attempt;
    number
}
