//! Between agents and their server: every message is a step, named by its `type`.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::steps::{Edge, Seen, Side, Steps};

/// What the watch pings with: its pong says that all before it was read.
const READ: &[u8] = b"lab: read";

/// Longest head of a handshake.
const MAX_HEAD: usize = 16 * 1024;

/// A watched way to the server. Dropped, it cuts all links.
#[derive(Debug)]
pub struct LinkWatch {
    address: SocketAddr,
    /// Whether links may be.
    up: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl LinkWatch {
    /// Starts it on a free port, before the server on `port`.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(port: u16, steps: &Steps) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let up = watch::Sender::new(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, port, steps.clone(), up.subscribe()));
        Self { address, up, _tasks: tasks }
    }

    /// Gives the URL that an agent is told.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Cuts every link, and lets none through until [`LinkWatch::mend`].
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets links through again.
    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}

async fn accept(listener: TcpListener, port: u16, steps: Steps, up: watch::Receiver<bool>) {
    let mut links = JoinSet::new();
    loop {
        let Ok((agent, _)) = listener.accept().await else { continue };
        let (steps, mut up) = (steps.clone(), up.clone());
        links.spawn(async move {
            tokio::select! {
                biased;
                _ = up.wait_for(|up| !up) => {}
                _ = carry(agent, port, &steps) => {}
            }
        });
        while links.try_join_next().is_some() {}
    }
}

/// Carries the handshake as it is, then message by message; ends with either side.
async fn carry(mut agent: TcpStream, port: u16, steps: &Steps) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (request, early) = head(&mut agent).await?;
    server.write_all(&request).await?;
    let (reply, late) = head(&mut server).await?;
    agent.write_all(&reply).await?;
    if !reply.starts_with(b"HTTP/1.1 101 ") {
        agent.write_all(&late).await?;
        tokio::io::copy(&mut server, &mut agent).await?;
        return agent.shutdown().await;
    }
    let agent = WebSocketStream::from_partially_read(agent, early, Role::Server, None).await;
    let server = WebSocketStream::from_partially_read(server, late, Role::Client, None).await;
    let ((to_agent, from_agent), (to_server, from_server)) = (agent.split(), server.split());
    let read = Arc::new(Notify::new());
    tokio::select! {
        () = pump(from_agent, to_server, Side::Agent, steps, &read) => {}
        () = pump(from_server, to_agent, Side::Server, steps, &read) => {}
    }
    Ok(())
}

async fn head(stream: &mut TcpStream) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            return Ok((head, rest));
        }
        if stream.read_buf(&mut head).await? == 0 || head.len() > MAX_HEAD {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Carries messages one way, until the link ends or is lost at a stop. `read` tells the other way of a pong.
async fn pump(
    mut from: SplitStream<WebSocketStream<TcpStream>>,
    mut to: SplitSink<WebSocketStream<TcpStream>, Message>,
    by: Side,
    steps: &Steps,
    read: &Notify,
) {
    while let Some(Ok(message)) = from.next().await {
        let name = match &message {
            Message::Text(text) => name(text),
            Message::Pong(said) if said.as_ref() == READ => {
                read.notify_one();
                continue;
            }
            // Each half of the way answers the pings of its own side.
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(_) | Message::Close(_) | Message::Frame(_) => None,
        };
        let Some(step) = name else {
            if to.send(message).await.is_err() {
                return;
            }
            continue;
        };
        let at =
            steps.begin(Seen { step, by, part: None, connection: 0, bytes: message.len(), status: None });
        // Whoever was ended, the link is lost.
        if steps.stops(at, Edge::Before) && !steps.wait().await.is_empty() {
            return;
        }
        if to.send(message).await.is_err() {
            return;
        }
        if steps.stops(at, Edge::After) {
            if to.send(Message::Ping(READ.into())).await.is_err() {
                return;
            }
            read.notified().await;
            if !steps.wait().await.is_empty() {
                return;
            }
        }
    }
}

fn name(text: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(text).ok()?;
    message.get("type")?.as_str().map(str::to_owned)
}
