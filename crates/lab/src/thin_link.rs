//! A site's thin line, in this process: TCP relays that share one rate, one delay, and one fate.
//!
//! Deliberately absent: lost packets and congestion control, which a relay above TCP cannot show. What it shows is what
//! the programs see: bytes that leave slowly, answers that come late, and a silence in which nothing breaks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes that travel together.
const CHUNK: usize = 4096;

/// Chunks on their way in one direction of a connection.
const ON_THE_WAY: usize = 16;

/// What the kernel may hold before the relay: little, so that a sender feels the line.
const KERNEL_BYTES: u32 = 16 * 1024;

#[derive(Debug)]
struct Line {
    bytes_per_sec: u64,
    delay: Duration,
    /// When the uplink is free for the next byte.
    free: Mutex<Instant>,
    silent: watch::Sender<bool>,
    sent: AtomicU64,
    open: AtomicUsize,
}

/// A line that is up. Dropped, it cuts all its connections.
#[derive(Debug)]
pub struct ThinLink {
    line: Arc<Line>,
    relays: JoinSet<()>,
}

impl ThinLink {
    /// Makes a line that takes so many bytes a second from the site, all its connections together, each of them
    /// `delay` late; what comes down is late too, and as fast as it likes.
    pub fn new(bytes_per_sec: u64, delay: Duration) -> Self {
        let line = Line {
            bytes_per_sec,
            delay,
            free: Mutex::new(Instant::now()),
            silent: watch::Sender::new(false),
            sent: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        };
        Self { line: Arc::new(line), relays: JoinSet::new() }
    }

    /// Opens a way over this line to `upstream`, such as `127.0.0.1:40001`, and gives its address.
    ///
    /// # Panics
    /// If there is no port.
    pub fn to(&mut self, upstream: &str) -> String {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(KERNEL_BYTES).expect("a small buffer");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port of loopback");
        let listener = socket.listen(64).expect("a socket that listens");
        let address = listener.local_addr().expect("the address of a bound socket");
        self.relays.spawn(accept(listener, upstream.to_owned(), Arc::clone(&self.line)));
        address.to_string()
    }

    /// Gives the bytes that have left the site.
    pub fn sent(&self) -> u64 {
        self.line.sent.load(Ordering::Relaxed)
    }

    /// Gives how many connections of the site are open.
    pub fn open(&self) -> usize {
        self.line.open.load(Ordering::Relaxed)
    }

    /// Lets nothing through, in either direction, until it is told otherwise; connections live on.
    pub fn silence(&self, silent: bool) {
        self.line.silent.send_replace(silent);
    }
}

async fn accept(listener: TcpListener, upstream: String, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((site, _)) = listener.accept().await else { continue };
        let (upstream, line) = (upstream.clone(), Arc::clone(&line));
        connections.spawn(async move {
            line.open.fetch_add(1, Ordering::Relaxed);
            connection(site, &upstream, &line).await;
            line.open.fetch_sub(1, Ordering::Relaxed);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(site: TcpStream, upstream: &str, line: &Arc<Line>) {
    let Ok(far) = TcpStream::connect(upstream).await else { return };
    let ((from_site, to_site), (from_far, to_far)) = (site.into_split(), far.into_split());
    // Whoever ends first ends both, as a broken connection does.
    tokio::select! {
        () = carry(from_site, to_far, line, true) => {}
        () = carry(from_far, to_site, line, false) => {}
    }
}

async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, line: &Arc<Line>, up: bool) {
    let (take, given) = mpsc::channel(ON_THE_WAY);
    tokio::join!(enter(from, take, line, up), leave(given, to, line, up));
}

async fn enter(mut from: OwnedReadHalf, take: mpsc::Sender<(Instant, Vec<u8>)>, line: &Line, up: bool) {
    loop {
        line.loud().await;
        let mut chunk = vec![0; CHUNK];
        let Ok(count @ 1..) = from.read(&mut chunk).await else { return };
        chunk.truncate(count);
        let through = if up { line.takes(count) } else { Instant::now() };
        sleep_until(through).await;
        if take.send((through + line.delay, chunk)).await.is_err() {
            return;
        }
    }
}

async fn leave(mut given: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf, line: &Line, up: bool) {
    while let Some((at, chunk)) = given.recv().await {
        sleep_until(at).await;
        line.loud().await;
        if to.write_all(&chunk).await.is_err() {
            // The other half notices as well; what is on its way is lost.
            return given.close();
        }
        if up {
            line.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Line {
    /// Gives when so many bytes are through the uplink, behind all that came before.
    fn takes(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = bytes as u64 * 1_000_000 / self.bytes_per_sec;
        *free = (*free).max(Instant::now()) + Duration::from_micros(micros);
        *free
    }

    /// Waits out a silence.
    async fn loud(&self) {
        // Its sender lives as long as the line.
        let _ = self.silent.subscribe().wait_for(|silent| !silent).await;
    }
}
