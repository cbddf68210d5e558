//! One process of the server: the product's own links, drivers and sweeper over the simulated store and bucket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ws::Message;
use hoist_server::bucket::Bucket as _;
use hoist_server::clock::{self, World as _};
use hoist_server::downloads::{Downloads, Shop, sweep};
use hoist_server::links::{Link, LinkContext, Links, Pass};
use hoist_server::store::{MemoryStore, Store};
use hoist_server::tokens::Tokens;
use hoist_wire::claims::Claims;
use hoist_wire::limits::MIN_PART_SIZE_BYTES;
use hoist_wire::to_agent::{Goodbye, GoodbyeReason};
use hoist_wire::{AGENT_AUDIENCE, ChecksumKind, ClientId, Instance};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bucket::{Shared, SimBucket};
use super::process::Process;
use super::record::SimStore;
use super::wire::{Dialect, End, Frame};
use super::world::World;

/// How long links and drivers get to end, as in the real server.
const GRACE: Duration = Duration::from_secs(10);

/// Where agents find the server; none while it is down.
pub(crate) type Door = Arc<Mutex<Option<Node>>>;

/// How the server's library writes frames.
#[derive(Debug)]
pub(crate) struct ServerSide;

impl Dialect for ServerSide {
    type Message = Message;
    type Error = axum::Error;

    fn write(message: Message) -> Frame {
        match message {
            Message::Text(text) => Frame::Text(text.to_string()),
            Message::Ping(_) => Frame::Ping,
            Message::Pong(_) | Message::Binary(_) => Frame::Pong,
            Message::Close(_) => Frame::Close,
        }
    }

    fn read(frame: Frame) -> Result<Message, axum::Error> {
        match frame {
            Frame::Text(text) => Ok(Message::Text(text.into())),
            Frame::Ping => Ok(Message::Ping(bytes::Bytes::new())),
            Frame::Pong => Ok(Message::Pong(bytes::Bytes::new())),
            Frame::Close => Ok(Message::Close(None)),
            Frame::Reset => Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset))),
        }
    }
}

/// What outlives the server's processes.
#[derive(Debug, Clone)]
pub(crate) struct Lasting {
    pub(crate) world: World,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) storage: Shared,
    pub(crate) checksum: ChecksumKind,
    pub(crate) grant_ttl: Duration,
}

/// One process of the server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) downloads: Arc<Downloads>,
    pub(crate) links: Arc<Links>,
    world: World,
    process: Process,
    context: Arc<LinkContext>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    is_stopping: bool,
}

impl Node {
    /// Starts a process.
    pub(crate) fn start(lasting: &Lasting) -> Self {
        let world = lasting.world.clone();
        world.trace("server starts");
        let process = Process::default();
        let store: Arc<dyn Store> = Arc::new(SimStore {
            world: world.clone(),
            store: Arc::clone(&lasting.store),
            process: process.clone(),
        });
        let bucket = Arc::new(SimBucket {
            world: world.clone(),
            storage: Arc::clone(&lasting.storage),
            process: process.clone(),
            checksum: lasting.checksum,
            slowest_complete: Duration::from_secs(90),
        });
        let (links, stop) = (Arc::<Links>::default(), CancellationToken::new());
        // What an earlier probe found is known, most of the time.
        let known = (world.below(2) == 0).then_some(lasting.checksum);
        let (found, checksum) = watch::channel(known);
        let shop = Shop {
            store: Arc::clone(&store),
            bucket: Arc::clone(&bucket) as _,
            checksum,
            links: Arc::clone(&links),
            world: Arc::new(world.clone()),
            key_prefix: String::from("hoist"),
            part_size_bytes: MIN_PART_SIZE_BYTES,
            grant_ttl: lasting.grant_ttl,
        };
        let downloads = Downloads::new(shop, stop.clone());
        let clock: Arc<dyn clock::World> = Arc::new(world.clone());
        let secret = SecretString::from("a secret of more than thirty-two bytes");
        let context = Arc::new(LinkContext {
            links: Arc::clone(&links),
            downloads: Arc::clone(&downloads),
            store: Arc::clone(&store),
            tokens: Arc::new(Tokens::new(&[secret], Arc::clone(&clock))),
            token_ttl: Duration::from_secs(90 * 86_400),
            world: clock,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(sweep(Arc::clone(&downloads)));
        let (beginning, at) = (Arc::clone(&store), world.clone());
        tasks.spawn(async move {
            while beginning.close_all_links(at.now()).await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        tasks.spawn(async move {
            while bucket.probe(false).await.is_err() {
                sleep(Duration::from_secs(2)).await;
            }
            found.send_replace(Some(bucket.checksum));
            std::future::pending::<()>().await;
        });
        Self { store, downloads, links, world, process, context, stop, tasks, is_stopping: false }
    }

    /// Gives what its links stand on.
    pub(crate) fn context(&self) -> Arc<LinkContext> {
        Arc::clone(&self.context)
    }

    /// Takes a link. Gives false while it stops.
    pub(crate) fn accept(&mut self, client: &ClientId, instance: &Instance, socket: End<ServerSide>) -> bool {
        if self.is_stopping {
            return false;
        }
        let now = u64::try_from(self.world.now().0 / 1000).unwrap_or(0);
        let claims = Claims {
            sub: client.to_string(),
            aud: AGENT_AUDIENCE.to_owned(),
            exp: now + 90 * 86_400,
            iat: now,
            jti: String::new(),
            scopes: Vec::new(),
            clients: None,
        };
        let pass = Pass::Token { claims, kid: String::new(), is_current: true };
        let (instance, context) = (Some(instance.clone()), Arc::clone(&self.context));
        let link = Link::serve(socket, client.clone(), pass, instance, context);
        self.tasks.spawn(link);
        true
    }

    /// Takes the process away.
    pub(crate) fn kill(self) {
        self.world.trace("server dies");
        self.process.kill();
        self.stop.cancel();
    }

    /// Says goodbye to all, as the real one does when it is told to stop. The rest is [`Node::end`].
    pub(crate) fn say_goodbye(&mut self) {
        self.world.trace("server stops");
        self.is_stopping = true;
        let world = self.world.clone();
        self.links.close_all(|_, _| Goodbye {
            reason: GoodbyeReason::Stopping,
            message: String::from("the server stops"),
            reconnect_after_ms: world.below(10_000),
        });
    }

    /// Waits for links and drivers, then ends.
    pub(crate) async fn end(self) {
        let gone = async {
            while self.links.count() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(GRACE, gone).await;
        self.stop.cancel();
        let _ = timeout(GRACE, self.downloads.drained()).await;
        self.world.trace("server has ended");
        self.process.kill();
    }
}
