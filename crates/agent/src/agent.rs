//! The owner of all downloads: one task that hears the server and speaks for every attempt.
//!
//! Deliberately absent: sockets (`link`) and the work on a file (`upload`). State here outlives links: attempts go on
//! while the link is down, and what they say is meant for one link and is dropped on any other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hoist_wire::limits::MAX_FACT_BYTES;
use hoist_wire::to_agent::{Fetch, Forget, Pace as Paced};
use hoist_wire::to_server::{Busy, Forgotten, Hello, Refused};
use hoist_wire::{Attempt, DownloadId, ErrorCode, ToAgent, ToServer};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info};

use crate::link::LinkEvent;
use crate::platform;
use crate::upload::pace::Pace;
use crate::upload::{End, Order, Said, Site, Task};

/// Messages of all attempts that wait for the link.
const SAID: usize = 32;

/// Orders that wait for an attempt; each ask has one answer, so more never come.
const ORDERS: usize = 64;

/// Most answers of the owner itself that wait for the link before the server is no longer listened to.
const MAX_OUTBOX: usize = 64;

/// When a server that gave too much may ask again, in milliseconds.
const BUSY_RETRY_MS: u64 = 10_000;

/// One attempt that this agent has.
#[derive(Debug)]
struct Held {
    attempt: Attempt,
    orders: mpsc::Sender<Order>,
    pace: Arc<Pace>,
    stop: CancellationToken,
    /// The link on which the server last asked for it.
    link: u64,
    /// It cannot go on, and no link has heard of it yet.
    refused: Option<Refused>,
}

/// The link of now.
#[derive(Debug)]
struct Up {
    number: u64,
    queue: mpsc::Sender<ToServer>,
}

/// What happens next to the owner.
enum Event {
    Link(Option<LinkEvent>),
    Said(Said),
    Ended(Result<(Id, End), JoinError>),
    /// The link takes another message; none where it is gone.
    Room(bool),
}

/// The owner.
#[derive(Debug)]
pub(crate) struct Agent {
    site: Arc<Site>,
    slots: u8,
    links: mpsc::Receiver<LinkEvent>,
    up: Option<Up>,
    link_number: u64,
    held: BTreeMap<DownloadId, Held>,
    tasks: JoinSet<End>,
    running: HashMap<Id, Busy>,
    /// Attempts that end because the server said `forget`.
    leaving: Vec<Busy>,
    outbox: VecDeque<ToServer>,
    say: mpsc::Sender<Said>,
    said: mpsc::Receiver<Said>,
}

impl Agent {
    pub(crate) fn new(site: Site, slots: u8, links: mpsc::Receiver<LinkEvent>) -> Self {
        let (say, said) = mpsc::channel(SAID);
        Self {
            site: Arc::new(site),
            slots,
            links,
            up: None,
            link_number: 0,
            held: BTreeMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            leaving: Vec::new(),
            outbox: VecDeque::new(),
            say,
            said,
        }
    }

    /// Works until no link will come any more.
    pub(crate) async fn run(mut self) {
        loop {
            let event = self.next().await;
            if let Event::Link(None) = event {
                return;
            }
            self.apply(event);
        }
    }

    async fn next(&mut self) -> Event {
        let waits = !self.outbox.is_empty();
        let room = async {
            match &self.up {
                Some(up) if waits => up.queue.reserve().await.is_ok(),
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            room = room => Event::Room(room),
            Some(ended) = self.tasks.join_next_with_id() => Event::Ended(ended),
            event = self.links.recv(), if self.outbox.len() < MAX_OUTBOX => Event::Link(event),
            Some(said) = self.said.recv(), if !waits => Event::Said(said),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Link(None) => {}
            Event::Link(Some(LinkEvent::Up(queue))) => self.linked(queue),
            Event::Link(Some(LinkEvent::Down)) | Event::Room(false) => {
                self.up = None;
                self.outbox.clear();
            }
            Event::Link(Some(LinkEvent::Said(message))) => self.heard(message),
            Event::Said(said) => {
                if self.up.as_ref().is_some_and(|up| up.number == said.link) && self.is_current(&said.message)
                {
                    self.outbox.push_back(said.message);
                }
            }
            Event::Room(true) => {
                if let (Some(up), Some(message)) = (&self.up, self.outbox.pop_front())
                    && let Err(mpsc::error::TrySendError::Full(message)) = up.queue.try_send(message)
                {
                    self.outbox.push_front(message);
                }
            }
            Event::Ended(Ok((id, end))) => self.ended(id, Some(end)),
            Event::Ended(Err(failure)) => {
                error!(error = %failure, "an attempt failed by a defect of the agent");
                self.ended(failure.id(), None);
            }
        }
    }

    /// Says something on the link of now; without one it is not said, and the state tells it on the next.
    fn tell(&mut self, message: ToServer) {
        if self.up.is_some() {
            self.outbox.push_back(message);
        }
    }

    fn linked(&mut self, queue: mpsc::Sender<ToServer>) {
        self.link_number += 1;
        self.up = Some(Up { number: self.link_number, queue });
        self.outbox.clear();
        let busy = self.held.iter().map(|(id, held)| Busy { download_id: *id, attempt: held.attempt });
        let cut = |text: String| text.chars().take(MAX_FACT_BYTES / 4).collect::<String>();
        let hello = Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            os: platform::os(),
            host: cut(platform::host_name()),
            facts: BTreeMap::new(),
            slots: self.slots,
            busy: busy.collect(),
            on_change: self.site.on_change,
        };
        self.outbox.push_back(ToServer::Hello(hello));
    }

    fn heard(&mut self, message: ToAgent) {
        match message {
            ToAgent::Fetch(fetch) => self.fetch(fetch),
            ToAgent::Accept(accept) => {
                self.order(accept.download_id, accept.attempt, Order::Accept(accept));
            }
            ToAgent::Parts(parts) => self.order(parts.download_id, parts.attempt, Order::Parts(parts)),
            ToAgent::Pace(pace) => self.pace(pace),
            ToAgent::Forget(forget) => self.forget(forget),
            // The link itself acts on these.
            ToAgent::Welcome(_) | ToAgent::Renew(_) | ToAgent::Goodbye(_) | ToAgent::Unsupported(_) => {}
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        let (download_id, attempt, link) = (fetch.download_id, fetch.attempt, self.link_number);
        let is_full = self.held.len() >= usize::from(self.slots);
        match self.held.get_mut(&download_id) {
            Some(held) if held.attempt > attempt => {
                return debug!(%download_id, %attempt, "a fetch of an older attempt is dropped");
            }
            Some(held) if held.attempt == attempt => {
                held.link = link;
                held.pace.set(fetch.max_rate_bytes_per_sec);
                match held.refused.take() {
                    Some(refused) => {
                        self.held.remove(&download_id);
                        self.tell(ToServer::Refused(refused));
                    }
                    None => self.order(download_id, attempt, Order::Attach(link)),
                }
                return;
            }
            Some(older) => older.stop.cancel(),
            None if is_full => {
                let message = format!("all {} slots of this agent are taken", self.slots);
                let (code, retry_after_ms) = (ErrorCode::AgentBusy, Some(BUSY_RETRY_MS));
                let refused = Refused { download_id, attempt, code, message, retry_after_ms };
                return self.tell(ToServer::Refused(refused));
            }
            None => {}
        }
        self.start(fetch, link);
    }

    fn start(&mut self, fetch: Fetch, link: u64) {
        let Fetch { download_id, attempt, path, on_change, max_rate_bytes_per_sec } = fetch;
        let span = tracing::info_span!("download", %download_id, %attempt);
        let busy = Busy { download_id, attempt };
        let (orders, inbox) = mpsc::channel(ORDERS);
        let stop = CancellationToken::new();
        let pace = Pace::new(max_rate_bytes_per_sec, &self.site.gate);
        let task = Task {
            busy,
            path,
            on_change,
            pace: Arc::clone(&pace),
            site: Arc::clone(&self.site),
            link,
            orders: inbox,
            say: self.say.clone(),
            stop: stop.clone(),
        };
        let handle = self.tasks.spawn(task.run().instrument(span));
        self.running.insert(handle.id(), busy);
        self.held.insert(download_id, Held { attempt, orders, pace, stop, link, refused: None });
    }

    fn order(&mut self, download_id: DownloadId, attempt: Attempt, order: Order) {
        let held = self.held.get(&download_id).filter(|held| held.attempt == attempt);
        let Some(held) = held else {
            return debug!(%download_id, %attempt, "a message about an attempt that is not here is dropped");
        };
        if held.orders.try_send(order).is_err() {
            // What was answered is asked for again; a flood is not listened to.
            debug!(%download_id, %attempt, "an order found no room and is dropped");
        }
    }

    /// Changes the rate at once: an order could find no room, and would not be said again.
    fn pace(&self, pace: Paced) {
        let Paced { download_id, attempt, max_rate_bytes_per_sec } = pace;
        match self.held.get(&download_id).filter(|held| held.attempt == attempt) {
            Some(held) => {
                info!(%download_id, %attempt, ?max_rate_bytes_per_sec, "the server sets the pace");
                held.pace.set(max_rate_bytes_per_sec);
            }
            None => debug!(%download_id, %attempt, "a pace for an attempt that is not here is dropped"),
        }
    }

    fn forget(&mut self, forget: Forget) {
        let Forget { download_id, attempt, outcome } = forget;
        let busy = Busy { download_id, attempt };
        info!(%download_id, %attempt, %outcome, "the server ends the attempt");
        match self.held.get(&download_id) {
            Some(held) if held.attempt <= attempt => {
                held.stop.cancel();
                self.held.remove(&download_id);
            }
            Some(_) | None => {}
        }
        if self.running.values().any(|running| *running == busy) {
            self.leaving.push(busy);
        } else {
            self.tell(ToServer::Forgotten(Forgotten { download_id, attempt }));
        }
    }

    fn ended(&mut self, id: Id, end: Option<End>) {
        let Some(busy) = self.running.remove(&id) else { return };
        let Busy { download_id, attempt } = busy;
        if let Some(at) = self.leaving.iter().position(|leaving| *leaving == busy) {
            self.leaving.swap_remove(at);
            return self.tell(ToServer::Forgotten(Forgotten { download_id, attempt }));
        }
        let Some(held) = self.held.get_mut(&download_id).filter(|held| held.attempt == attempt) else {
            return;
        };
        let refused = match end {
            Some(End::Stopped) => {
                self.held.remove(&download_id);
                return;
            }
            Some(End::Refused(refused)) => refused,
            None => {
                let message = "the agent has a defect: see its log".to_owned();
                let (code, retry_after_ms) = (ErrorCode::Internal, Some(60_000));
                Refused { download_id, attempt, code, message, retry_after_ms }
            }
        };
        if self.up.as_ref().is_some_and(|up| up.number == held.link) {
            self.held.remove(&download_id);
            self.tell(ToServer::Refused(refused));
        } else {
            held.refused = Some(refused);
        }
    }

    /// Tells whether a message is about an attempt that is still here.
    fn is_current(&self, message: &ToServer) -> bool {
        message.about().is_some_and(|about| {
            self.held.get(&about.download_id).is_some_and(|held| held.attempt == about.attempt)
        })
    }
}
