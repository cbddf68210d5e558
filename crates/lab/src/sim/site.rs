//! A site: its disk, its thin line, and the process that runs the agent on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hoist_agent::simulation::{self, Found, Machine, NoLink, OpenFile, Put, PutFailure, Start};
use hoist_server::links::Refusal;
use hoist_wire::to_server::Identity;
use hoist_wire::{ClientId, ErrorCode, Instance, PartSums};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

use super::bucket::{Shared, open};
use super::content::Content;
use super::disk::{Disk, Inode};
use super::fault::Fault;
use super::node::{Door, ServerSide};
use super::storage::{No, Part};
use super::wire::{Dialect, End, Frame, Gate, Side, Wire, wire};
use super::world::World;

/// How an agent's library writes frames.
#[derive(Debug)]
pub(crate) struct AgentSide;

impl Dialect for AgentSide {
    type Message = Message;
    type Error = tungstenite::Error;

    fn write(message: Message) -> Frame {
        match message {
            Message::Text(text) => Frame::Text(text.to_string()),
            Message::Ping(_) => Frame::Ping,
            Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => Frame::Pong,
            Message::Close(_) => Frame::Close,
        }
    }

    fn read(frame: Frame) -> Result<Message, tungstenite::Error> {
        match frame {
            Frame::Text(text) => Ok(Message::text(text)),
            Frame::Ping => Ok(Message::Ping(bytes::Bytes::new())),
            Frame::Pong => Ok(Message::Pong(bytes::Bytes::new())),
            Frame::Close => Ok(Message::Close(None)),
            Frame::Reset => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
        }
    }
}

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) client_id: ClientId,
    pub(crate) disk: Disk,
    pub(crate) gate: Arc<Gate>,
    pub(crate) storage_shut: AtomicBool,
    world: World,
    storage: Shared,
    door: Door,
    bytes_per_sec: u64,
    latency: Duration,
    slots: u8,
    wires: Mutex<Vec<Weak<Wire>>>,
    agent: Mutex<Option<Agent>>,
}

/// One process of an agent.
#[derive(Debug)]
struct Agent {
    stop: CancellationToken,
    silent: Arc<AtomicBool>,
    /// Holds the process: dropping it is its death.
    tasks: JoinSet<()>,
}

impl Site {
    pub(crate) fn new(number: u64, world: &World, storage: &Shared, door: &Door) -> Option<Arc<Self>> {
        let disk = Disk::new(world);
        for n in 0..1 + world.below(3) {
            disk.put(&format!("f{n}"), disk.new_content());
        }
        Some(Arc::new(Self {
            client_id: format!("restaurant-{number}").parse().ok()?,
            disk,
            gate: Arc::default(),
            storage_shut: AtomicBool::default(),
            world: world.clone(),
            storage: Arc::clone(storage),
            door: Arc::clone(door),
            bytes_per_sec: 20_000 << world.below(10),
            latency: world.between(Duration::from_millis(2), Duration::from_millis(300)),
            slots: 1 + u8::try_from(world.below(3)).unwrap_or(0),
            wires: Mutex::default(),
            agent: Mutex::default(),
        }))
    }

    fn wires(&self) -> Vec<Arc<Wire>> {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        wires.retain(|wire| wire.strong_count() > 0);
        wires.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn cut(&self) {
        for wire in self.wires() {
            wire.cut();
        }
    }

    pub(crate) fn shut(&self, to: Side, shut: bool) {
        self.world.trace(format!("{} gate {to:?} shut: {shut}", self.client_id));
        self.gate.shut(to, shut);
        for wire in self.wires() {
            wire.nudge();
        }
    }

    /// Starts a process, unless one runs.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        if agent.is_some() {
            return;
        }
        let process = format!("{:016x}", self.world.below(u64::MAX));
        let Ok(instance) = Instance::new(&process, self.client_id.as_str()) else { return };
        self.world.trace(format!("{} agent {process} starts", self.client_id));
        let (stop, silent) = (CancellationToken::new(), Arc::<AtomicBool>::default());
        let machine = Arc::new(Running { site: Arc::clone(self), silent: Arc::clone(&silent) });
        let max_parts_in_flight = 4;
        let client_id = self.client_id.clone();
        let start = Start { client_id, instance, slots: self.slots, max_parts_in_flight };
        let mut tasks = JoinSet::new();
        let (stopped, world) = (stop.clone(), self.world.clone());
        tasks.spawn(async move {
            if let Err(failure) = simulation::run(machine, start, stopped).await {
                world.wrong(format!("an agent ended by itself: {failure}"));
            }
        });
        *agent = Some(Agent { stop, silent, tasks });
    }

    /// Takes the process away; `silent` where not even its connections say so. Tells whether there was one.
    pub(crate) fn kill(&self, silent: bool) -> bool {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(agent) = agent else { return false };
        self.world.trace(format!("{} agent dies, silent: {silent}", self.client_id));
        agent.silent.store(silent, Ordering::Relaxed);
        drop(agent.tasks);
        true
    }

    /// Tells the process to stop, and lets it end within half a second.
    pub(crate) fn stop(&self) -> bool {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut agent) = agent else { return false };
        self.world.trace(format!("{} agent is told to stop", self.client_id));
        agent.stop.cancel();
        self.world.send(async move {
            sleep(Duration::from_millis(500)).await;
            agent.tasks.abort_all();
        });
        true
    }

    /// Asks the server for a place, as its door does.
    async fn knock(&self, instance: &Instance) -> Result<(), NoLink> {
        let context = {
            let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            door.as_ref().ok_or(NoLink::Unreachable)?.context()
        };
        context.knock(&self.client_id, Some(instance)).await.map_err(|refusal| match refusal {
            Refusal::Taken => NoLink::Status(409),
            Refusal::TooOften { .. } => NoLink::Status(429),
            Refusal::Crowded => NoLink::Status(503),
        })
    }

    /// Gives the server its end of a connection.
    fn enter(&self, instance: &Instance, socket: End<ServerSide>) -> Result<(), NoLink> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let node = door.as_mut().ok_or(NoLink::Unreachable)?;
        if node.accept(&self.client_id, instance, socket) { Ok(()) } else { Err(NoLink::Status(503)) }
    }

    fn storage_is_shut(&self) -> bool {
        self.storage_shut.load(Ordering::Relaxed)
    }
}

/// The machine as one process sees it.
#[derive(Debug)]
struct Running {
    site: Arc<Site>,
    silent: Arc<AtomicBool>,
}

impl Machine for Running {
    type File = OnDisk;
    type Socket = End<AgentSide>;

    fn open(&self, asked: Option<&str>) -> Result<Found<OnDisk>, (ErrorCode, String)> {
        let name = asked.unwrap_or("f0");
        let inode = self.site.disk.open(name);
        let inode = inode.ok_or_else(|| (ErrorCode::FileNotFound, format!("{name} is not there")))?;
        let file = Arc::new(OnDisk { inode, site: Arc::clone(&self.site) });
        Ok(Found { file, path: format!("/site/{name}"), name: name.to_owned() })
    }

    async fn dial(&self, instance: &Instance) -> Result<End<AgentSide>, NoLink> {
        let (site, world) = (&self.site, &self.site.world);
        sleep(3 * site.latency).await;
        world.pause(1, 200).await;
        if site.gate.is_shut(Side::Agent) || site.gate.is_shut(Side::Server) {
            sleep(Duration::from_secs(20)).await;
            return Err(NoLink::Unreachable);
        }
        let is_lost = world.strikes(Fault::DialLost);
        let silent = if is_lost { Arc::new(AtomicBool::new(true)) } else { Arc::clone(&self.silent) };
        let name = format!("{}/{}", site.client_id, instance.process());
        let (wire, agent, server) =
            wire::<AgentSide, ServerSide>(name, world, &site.gate, &silent, site.latency);
        self.site.knock(instance).await?;
        self.site.enter(instance, server)?;
        site.wires.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&wire));
        if is_lost {
            drop(agent);
            sleep(Duration::from_secs(20)).await;
            return Err(NoLink::Unreachable);
        }
        Ok(agent)
    }

    fn reading_takes(&self) -> Duration {
        self.site.world.between(Duration::from_millis(1), Duration::from_millis(900))
    }

    fn chance(&self) -> f64 {
        self.site.world.fraction()
    }
}

/// A file that the agent has open.
#[derive(Debug)]
pub(crate) struct OnDisk {
    inode: Arc<Inode>,
    site: Arc<Site>,
}

impl OpenFile for OnDisk {
    fn identity(&self) -> Identity {
        self.inode.identity()
    }

    fn hash(&self, range: std::ops::Range<u64>, needs_md5: bool) -> Option<PartSums> {
        self.inode.read(range).map(|content| content.sums(needs_md5))
    }

    async fn put(self: Arc<Self>, put: Put) -> Result<String, PutFailure> {
        let world = &self.site.world;
        // Storage looks at a grant when the request begins.
        let (begun, begun_ns) = (Instant::now(), world.true_ns());
        self.send_bytes(&put).await?;
        let content = self.inode.read(put.range.clone()).filter(|content| content.crc() == put.crc);
        let content = Arc::new(content.ok_or(PutFailure::Changed)?);
        let refusals: [(Fault, No); 4] = [
            (Fault::PutThrottled, (503, "SlowDown")),
            (Fault::PutError, (500, "InternalError")),
            (Fault::PutDamaged, (400, "BadDigest")),
            (Fault::PutDenied, (403, "AccessDenied")),
        ];
        for (fault, (status, code)) in refusals {
            if world.strikes(fault) {
                world.pause(5, 300).await;
                let retry_after = (status == 503).then(|| Duration::from_secs(world.below(8)));
                return Err(PutFailure::Answer { status, code, retry_after });
            }
        }
        let grant = put.target.trim_start_matches('/').parse().unwrap_or(0);
        let is_late = world.strikes(Fault::PutLate);
        let way = world.between(Duration::from_millis(5), Duration::from_millis(900));
        let late = if is_late {
            world.between(Duration::from_secs(1), Duration::from_secs(600))
        } else {
            Duration::ZERO
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let (storing, arrives) = (Arc::clone(&self), way + late);
        world.send(async move {
            sleep(arrives).await;
            let _ = tell.send(storing.arrive(grant, &content, begun, begun_ns));
        });
        if is_late {
            world.pause(1_000, 60_000).await;
            return Err(PutFailure::NoAnswer);
        }
        let stored = told.await.map_err(|_| PutFailure::Broken)?;
        if world.strikes(Fault::PutLostReply) {
            return Err(PutFailure::Broken);
        }
        match stored {
            Ok(part) => {
                self.confirm(grant, &part);
                Ok(part.etag)
            }
            Err((status, code)) => Err(PutFailure::Answer { status, code, retry_after: None }),
        }
    }
}

impl OnDisk {
    /// Connects and sends, which takes as long as the line needs.
    async fn send_bytes(&self, put: &Put) -> Result<(), PutFailure> {
        let (site, world) = (&self.site, &self.site.world);
        sleep(2 * site.latency).await;
        if site.storage_is_shut() {
            sleep(Duration::from_secs(10)).await;
            return Err(PutFailure::Broken);
        }
        if world.strikes(Fault::PutSilent) {
            sleep(Duration::from_secs(30)).await;
            return Err(PutFailure::Silent);
        }
        let breaks_at = if world.strikes(Fault::PutBroken) { world.below(4) } else { 4 };
        let quarter = (put.range.end - put.range.start) / 4;
        for step in 0..4 {
            sleep(Duration::from_millis(1 + 1000 * quarter / site.bytes_per_sec)).await;
            if site.storage_is_shut() {
                sleep(Duration::from_secs(30)).await;
                return Err(PutFailure::Silent);
            }
            if step == breaks_at {
                return Err(PutFailure::Broken);
            }
            put.sent.fetch_add(quarter, Ordering::Relaxed);
            put.moved.fetch_add(quarter, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The part is at storage, which takes it or does not.
    fn arrive(&self, grant: u64, content: &Arc<Content>, begun: Instant, begun_ns: i64) -> Result<Part, No> {
        let world = &self.site.world;
        let mut storage = open(&self.site.storage);
        let before = storage.part(grant).cloned();
        let size_bytes = content.size_bytes();
        let stored = storage.put(grant, content.sums(true), Arc::clone(content), size_bytes, begun_ns);
        let forgives = storage.habits.lists_no_crc;
        drop(storage);
        world.trace(format!(
            "bucket put {grant} of {size_bytes}: {:?}",
            stored.as_ref().map(|part| &part.etag)
        ));
        if stored.is_ok() {
            let again = before.is_some_and(|before| {
                before.content == *content && before.confirmed.is_some_and(|confirmed| confirmed < begun)
            });
            world.put_bytes(size_bytes, again);
            if again && !forgives {
                world.wrong(format!(
                    "{}: a confirmed part was sent again with grant {grant}",
                    self.site.client_id
                ));
            }
        }
        stored
    }

    /// The answer is at the agent.
    fn confirm(&self, grant: u64, part: &Part) {
        let mut storage = open(&self.site.storage);
        if let Some(stored) = storage.part_mut(grant).filter(|stored| stored.etag == part.etag) {
            stored.confirmed.get_or_insert_with(Instant::now);
        }
    }
}
