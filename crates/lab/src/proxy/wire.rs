//! A proxy between agent and server: bytes pass as they come, slowly, or not at all, and connections end when a test says.
//!
//! Deliberately absent: HTTP and WebSockets. What it does to a link, a router does to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Most bytes taken at once.
const CHUNK_BYTES: usize = 4096;

/// How bytes pass, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As they come.
    Free,
    /// Not at all: the connections stay, as behind a router that has forgotten them.
    Stalled,
    /// So many in a second, in each direction.
    Throttled(u32),
    /// Each chunk so much later.
    Delayed(Duration),
}

#[derive(Debug)]
struct Inner {
    upstream: String,
    pace: watch::Sender<Pace>,
    /// Grows with each cut.
    cuts: watch::Sender<u64>,
    refuses: AtomicBool,
    cut_after: AtomicU64,
    accepted: AtomicUsize,
}

/// A running proxy. Dropped, it cuts all its connections.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// Starts a proxy on a free port, before a port of loopback.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let inner = Arc::new(Inner {
            upstream: format!("127.0.0.1:{port}"),
            pace: watch::Sender::new(Pace::Free),
            cuts: watch::Sender::new(0),
            refuses: AtomicBool::new(false),
            cut_after: AtomicU64::new(u64::MAX),
            accepted: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&inner)));
        Self { address, inner, _tasks: tasks }
    }

    /// Gives its address, for `SERVER_WS_URL`.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Gives how many connections came so far.
    pub fn accepted(&self) -> usize {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// Sets how bytes pass, on the connections that there are and on later ones.
    pub fn pace(&self, pace: Pace) {
        self.inner.pace.send_replace(pace);
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.inner.cuts.send_modify(|count| *count += 1);
    }

    /// Resets each later connection once so many bytes have passed on it, both directions together.
    pub fn cut_each_after(&self, bytes: u64) {
        self.inner.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Resets every connection that comes, or takes them again.
    pub fn refuse(&self, refuses: bool) {
        self.inner.refuses.store(refuses, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        inner.accepted.fetch_add(1, Ordering::SeqCst);
        connections.spawn(carry(stream, Arc::clone(&inner)));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut near: TcpStream, inner: Arc<Inner>) {
    let mut cuts = inner.cuts.subscribe();
    let left = AtomicU64::new(inner.cut_after.load(Ordering::SeqCst));
    if inner.refuses.load(Ordering::SeqCst) {
        return reset(&near);
    }
    let Ok(mut far) = TcpStream::connect(&inner.upstream).await else { return reset(&near) };
    let ended = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        tokio::select! {
            _ = cuts.changed() => false,
            ended = pass(near_read, far_write, &inner, &left) => ended,
            ended = pass(far_read, near_write, &inner, &left) => ended,
        }
    };
    if !ended {
        reset(&near);
        reset(&far);
    }
}

/// Passes bytes on in one direction. Gives true where their source has ended, and false where they are to be cut.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, inner: &Inner, left: &AtomicU64) -> bool {
    let mut pace = inner.pace.subscribe();
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return true,
            Ok(read) => read,
        };
        // An error means that the proxy is gone, and its tasks with it.
        let Ok(now) = pace.wait_for(|pace| *pace != Pace::Stalled).await.map(|pace| *pace) else {
            return true;
        };
        match now {
            Pace::Free | Pace::Stalled => {}
            Pace::Throttled(bytes_per_sec) => {
                let bytes = u32::try_from(read).expect("no more than a chunk");
                sleep(Duration::from_secs(1) * bytes / bytes_per_sec).await;
            }
            Pace::Delayed(delay) => sleep(delay).await,
        }
        let bytes = read as u64;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes)).is_err() {
            return false;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return true;
        }
    }
}

/// Has the connection end with a reset once it is dropped.
fn reset(stream: &TcpStream) {
    // One that is closed already is as good.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts an echo, and a wire before it.
    async fn echo() -> (Wire, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        (Wire::start(port).await, tasks)
    }

    async fn dial(wire: &Wire) -> TcpStream {
        TcpStream::connect(wire.address).await.unwrap()
    }

    #[tokio::test]
    async fn bytes_pass_until_the_wire_is_cut() {
        let (wire, _tasks) = echo().await;
        let mut stream = dial(&wire).await;
        let mut seen = [0; 4];
        stream.write_all(b"here").await.unwrap();
        stream.read_exact(&mut seen).await.unwrap();
        assert_eq!((&seen, wire.accepted()), (b"here", 1));
        wire.cut();
        assert!(stream.read_exact(&mut seen).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_lives_for_as_many_bytes_as_it_may_carry() {
        let (wire, _tasks) = echo().await;
        wire.cut_each_after(12);
        let mut stream = dial(&wire).await;
        let mut seen = [0; 4];
        stream.write_all(b"here").await.unwrap();
        stream.read_exact(&mut seen).await.unwrap();
        stream.write_all(b"there").await.unwrap();
        assert!(stream.read_exact(&mut seen).await.is_err());
        wire.refuse(true);
        let mut refused = dial(&wire).await;
        assert!(!matches!(refused.read(&mut seen).await, Ok(1..)));
    }

    #[tokio::test]
    async fn a_stalled_wire_carries_on_where_it_stood() {
        let (wire, _tasks) = echo().await;
        let mut stream = dial(&wire).await;
        wire.pace(Pace::Stalled);
        stream.write_all(b"here").await.unwrap();
        let mut seen = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut seen)).await;
        assert!(early.is_err(), "a stalled wire carried {seen:?}");
        for pace in [Pace::Throttled(1_000_000), Pace::Delayed(Duration::from_millis(1))] {
            wire.pace(pace);
            stream.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"here");
            stream.write_all(b"here").await.unwrap();
        }
    }
}
