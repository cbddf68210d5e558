//! The agent's own loops over a simulated machine: same link, same owner, same attempts; other disk, network and chance.
//!
//! Only with the feature `simulation`. Deliberately absent: faults. Whoever implements [`Machine`] brings them.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::{Sink, Stream};
use hoist_wire::to_server::Identity;
use hoist_wire::{ClientId, Crc64, ErrorCode, Instance, PartSums};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, TokenSource};
use crate::dial::DialError;
use crate::link::{Caller, Links};
use crate::policy::{NotGiven, Policy};
use crate::proxy::Proxies;
use crate::server_url::ServerUrl;
use crate::upload::Site;
use crate::upload::ground::{Contents, Given, Ground, Opened, Part, Putting};
use crate::upload::pace::Gate;
use crate::upload::put::PutError;
use crate::upload::reader::ReadError;
use crate::{AddressPolicy, LINK_EVENTS, LinkError, agent};

/// A machine that an agent runs on.
pub trait Machine: Send + Sync + Debug + 'static {
    /// One of its files.
    type File: OpenFile;
    /// A link to the server.
    type Socket: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin + Send;

    /// Opens a file.
    ///
    /// # Errors
    /// The code and message of the refusal.
    fn open(&self, asked: Option<&str>) -> Result<Found<Self::File>, (ErrorCode, String)>;

    /// Dials the server.
    fn dial(&self, instance: &Instance) -> impl Future<Output = Result<Self::Socket, NoLink>> + Send;

    /// How long the next work that reads takes.
    fn reading_takes(&self) -> Duration;

    /// Gives a number evenly spread over 0.0..1.0.
    fn chance(&self) -> f64;
}

/// A file that was opened.
#[derive(Debug)]
pub struct Found<F> {
    /// Its contents, and the way to storage.
    pub file: Arc<F>,
    /// Its resolved path.
    pub path: String,
    /// Its name.
    pub name: String,
}

/// An open file, and the way of its parts to storage.
pub trait OpenFile: Send + Sync + Debug + 'static {
    /// Gives its identity as it is now.
    fn identity(&self) -> Identity;

    /// Hashes `range`; none where the file is shorter.
    fn hash(&self, range: Range<u64>, needs_md5: bool) -> Option<PartSums>;

    /// Sends one part and gives its ETag. Dropping the future closes the connection.
    fn put(self: Arc<Self>, put: Put) -> impl Future<Output = Result<String, PutFailure>> + Send;
}

/// A part to be sent.
#[derive(Debug)]
pub struct Put {
    /// Its bytes.
    pub range: Range<u64>,
    /// What they hashed to.
    pub crc: Crc64,
    /// Path and query of the grant.
    pub target: String,
    /// To count bytes that the network took: of this part in this try.
    pub sent: Arc<AtomicU64>,
    /// The same, of all parts and tries.
    pub moved: Arc<AtomicU64>,
}

/// Why there is no link.
#[derive(Debug, Clone, Copy)]
pub enum NoLink {
    /// Nobody answers.
    Unreachable,
    /// The server answered with this status.
    Status(u16),
}

/// Why storage did not confirm a part.
#[derive(Debug, Clone)]
pub enum PutFailure {
    /// The connection broke.
    Broken,
    /// No byte was taken.
    Silent,
    /// No answer came.
    NoAnswer,
    /// Storage answered so.
    Answer {
        /// HTTP status.
        status: u16,
        /// The error's code.
        code: &'static str,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Other bytes stand where those were hashed.
    Changed,
}

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Start {
    /// The client.
    pub client_id: ClientId,
    /// This process.
    pub instance: Instance,
    /// Downloads at once.
    pub slots: u8,
    /// Most parts of one download in flight.
    pub max_parts_in_flight: u8,
}

/// Runs an agent until `stop` is cancelled. Dropping the future is its sudden death.
///
/// # Errors
/// [`LinkError`] where the server refuses the credentials.
pub async fn run<M: Machine>(
    machine: Arc<M>,
    start: Start,
    stop: CancellationToken,
) -> Result<(), LinkError> {
    let Start { client_id, instance, slots, max_parts_in_flight } = start;
    let config = Config {
        server: ServerUrl::parse("wss://server.simulation")?,
        client_id: Some(client_id.clone()),
        named: None,
        token: TokenSource::Fixed(SecretString::from("simulated")),
        policy: Policy::default(),
        slots,
        max_parts_in_flight,
        max_rate: None,
        on_change: None,
        extra_ca_file: None,
        client_cert: None,
        addresses: AddressPolicy::default(),
        proxies: Proxies::none(),
    };
    let ground = Arc::new(Simulated(Arc::clone(&machine)));
    let site = Site {
        ground,
        max_parts_in_flight: max_parts_in_flight.into(),
        gate: Arc::new(Gate::new(None)),
        on_change: None,
    };
    let (events, link_events) = mpsc::channel(LINK_EVENTS);
    let owner = agent::Agent::new(site, slots, link_events);
    let links = Links::new(config, client_id, None, Simulated(machine), instance, events, stop);
    let mut tasks = JoinSet::new();
    tasks.spawn(links.run());
    tasks.spawn(async move {
        owner.run().await;
        Ok(())
    });
    tasks.join_next().await.and_then(Result::ok).unwrap_or(Ok(()))
}

/// A simulated machine as ground for attempts and as the way to the server.
#[derive(Debug)]
struct Simulated<M>(Arc<M>);

impl<M: Machine> Ground for Simulated<M> {
    fn open(&self, asked: Option<&str>) -> Result<Opened, NotGiven> {
        let found =
            self.0.open(asked).map_err(|(code, message)| NotGiven { code, message, retry_after_ms: None })?;
        let Found { file, path, name } = found;
        let identity = file.identity();
        Ok(Opened { file: Arc::new(SimulatedFile(file)), path, name, identity })
    }

    fn reading_takes(&self) -> Option<Duration> {
        Some(self.0.reading_takes())
    }

    fn chance(&self) -> f64 {
        self.0.chance()
    }
}

impl<M: Machine> Caller for Simulated<M> {
    type Socket = M::Socket;

    async fn call(
        &self,
        _server: &ServerUrl,
        _token: &SecretString,
        instance: &Instance,
    ) -> Result<Self::Socket, DialError> {
        self.0.dial(instance).await.map_err(|failure| match failure {
            NoLink::Unreachable => DialError::NoAddress(String::from("the server")),
            NoLink::Status(status) => {
                DialError::Answer { status, body: String::new(), retry_after: None, server_time: None }
            }
        })
    }

    fn chance(&self) -> f64 {
        self.0.chance()
    }
}

#[derive(Debug)]
struct SimulatedFile<F>(Arc<F>);

impl<F: OpenFile> Contents for SimulatedFile<F> {
    fn identity(&self) -> io::Result<Identity> {
        Ok(self.0.identity())
    }

    fn hash(
        self: Arc<Self>,
        range: Range<u64>,
        needs_md5: bool,
        _stop: &CancellationToken,
        _counter: &AtomicU64,
    ) -> Result<PartSums, ReadError> {
        self.0.hash(range, needs_md5).ok_or(ReadError::Changed)
    }
}

impl<F: OpenFile> Given for SimulatedFile<F> {
    fn put(self: Arc<Self>, part: Part) -> Putting {
        let (sent, moved) = (part.counters.part, part.counters.moved);
        let put = Put { range: part.range, crc: part.crc, target: part.to.target.to_string(), sent, moved };
        let file = Arc::clone(&self.0);
        Pin::from(Box::new(async move {
            file.put(put).await.map_err(|failure| match failure {
                PutFailure::Broken => PutError::Broken(String::from("simulated")),
                PutFailure::Silent => PutError::Silent,
                PutFailure::NoAnswer => PutError::NoAnswer,
                PutFailure::Answer { status, code, retry_after } => {
                    PutError::Answer { status, code: code.to_owned(), retry_after }
                }
                PutFailure::Changed => PutError::Read(ReadError::Changed),
            })
        }))
    }
}
