//! An agent that does what a test says: it holds grants, says odd things, and refuses to answer.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the messages that it waits for")]

use std::collections::BTreeMap;
use std::time::Duration;

use crc_fast::CrcAlgorithm;
use futures_util::{SinkExt as _, StreamExt as _};
use hoist_wire::to_agent::{Accept, Answer, Fetch, Forget, Grant, PartAnswer, Welcome};
use hoist_wire::to_server::{
    Busy, Finished, Forgotten, Hello, Identity, Offer, PartsReady, ReadyPart, Receipt, Receipts, ToServer,
};
use hoist_wire::{Batch, Crc64, PROTOCOL, PartNumber, PartSums, ToAgent};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

/// How long the server may take to say something that is waited for.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// A live link, spoken by the test.
#[derive(Debug)]
pub struct ScriptedAgent {
    socket: WebSocketStream<TcpStream>,
    /// What the server welcomed it with.
    pub welcome: Welcome,
}

/// What a server answers instead of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The problem's code.
    pub code: String,
    /// Seconds until it may be asked again.
    pub retry_after: Option<u64>,
}

impl Refused {
    fn read(answer: &tungstenite::http::Response<Option<Vec<u8>>>) -> Self {
        let body = answer.body().as_deref().unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or_default().to_owned();
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.and_then(|secs| secs.to_str().ok()?.parse().ok());
        Self { status: answer.status().as_u16(), code, retry_after }
    }
}

/// A file that the server has asked for, and how it wants it cut.
#[derive(Debug, Clone)]
pub struct Job {
    /// What was asked.
    pub fetch: Fetch,
    /// How to cut it.
    pub accept: Accept,
    /// What the file has.
    pub bytes: Vec<u8>,
}

impl ScriptedAgent {
    /// Dials and says `hello` with two slots and nothing in hand.
    ///
    /// # Panics
    /// If the server does not welcome it.
    pub async fn dial(port: u16, token: &str) -> Self {
        Self::dial_with(port, token, 2, Vec::new()).await
    }

    /// Dials and says `hello`.
    ///
    /// # Panics
    /// If the server does not welcome it.
    pub async fn dial_with(port: u16, token: &str, slots: u8, busy: Vec<Busy>) -> Self {
        let dialled = Self::dial_as(port, token, "lab.lab", slots, busy).await;
        dialled.unwrap_or_else(|refused| panic!("a link that is taken, and it is refused: {refused:?}"))
    }

    /// Dials as a process on a machine, written as in `Hoist-Instance`, and says `hello`.
    ///
    /// # Errors
    /// What the server answers instead of a link.
    ///
    /// # Panics
    /// If the server neither welcomes nor refuses it.
    pub async fn dial_as(
        port: u16,
        token: &str,
        instance: &str,
        slots: u8,
        busy: Vec<Busy>,
    ) -> Result<Self, Refused> {
        let url = format!("ws://127.0.0.1:{port}{}", hoist_wire::LINK_PATH);
        let mut request = url.into_client_request().expect("a request to dial with");
        let bearer = format!("Bearer {token}").parse().expect("a token that fits a header");
        request.headers_mut().insert("authorization", bearer);
        request.headers_mut().insert("sec-websocket-protocol", PROTOCOL.parse().expect("a header"));
        request.headers_mut().insert(hoist_wire::INSTANCE_HEADER, instance.parse().expect("a header"));
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a server that listens");
        let socket = match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => socket,
            Err(tungstenite::Error::Http(answer)) => return Err(Refused::read(&answer)),
            Err(error) => panic!("neither a link nor an answer: {error}"),
        };
        let first = Welcome {
            link: hoist_wire::LinkSeq(0),
            server_time: hoist_wire::Timestamp(0),
            ping_interval_secs: 0,
        };
        let mut agent = Self { socket, welcome: first };
        let hello = Hello {
            agent_version: "0.0.0-lab".to_owned(),
            os: "lab".to_owned(),
            // It stays one line, wherever it is written.
            host: "lab\nERROR a forged line \u{1b}[2J".to_owned(),
            facts: BTreeMap::new(),
            slots,
            busy,
            on_change: None,
        };
        agent.say(&ToServer::Hello(hello)).await;
        match agent.hear().await {
            ToAgent::Welcome(welcome) => agent.welcome = welcome,
            other => panic!("a welcome was due, and this came: {other:?}"),
        }
        Ok(agent)
    }

    /// Says something, also where the link may be gone.
    pub async fn try_say(&mut self, message: &ToServer) {
        let text = serde_json::to_string(message).expect("a message encodes");
        // A server that has closed it does not listen, and that is the point.
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// Reads and answers pings until the link ends, and forgets what is said.
    pub async fn idle(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Says something.
    pub async fn say(&mut self, message: &ToServer) {
        self.say_text(&serde_json::to_string(message).expect("a message encodes")).await;
    }

    /// Says any text.
    ///
    /// # Panics
    /// If the link is down.
    pub async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).await.expect("a link to speak on");
    }

    /// Waits for the next message.
    ///
    /// # Panics
    /// If the link ends, or nothing comes.
    pub async fn hear(&mut self) -> ToAgent {
        self.hear_or_end().await.expect("a message, and the link ended")
    }

    /// Waits for the next message; none where the link ends instead.
    ///
    /// # Panics
    /// If nothing happens.
    pub async fn hear_or_end(&mut self) -> Option<ToAgent> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Some(ToAgent::decode(&text).expect("a message of the server"));
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        };
        timeout(HEARD_WITHIN, next).await.expect("the server says nothing")
    }

    /// Waits for `fetch`.
    pub async fn hear_fetch(&mut self) -> Fetch {
        match self.hear().await {
            ToAgent::Fetch(fetch) => fetch,
            other => panic!("a fetch was due, and this came: {other:?}"),
        }
    }

    /// Waits for `forget`.
    pub async fn hear_forget(&mut self) -> Forget {
        match self.hear().await {
            ToAgent::Forget(forget) => forget,
            other => panic!("a forget was due, and this came: {other:?}"),
        }
    }

    /// Offers a file of these bytes for a `fetch`, and waits until it is accepted.
    pub async fn offer(&mut self, fetch: Fetch, bytes: Vec<u8>) -> Job {
        self.say_offer(&fetch, bytes.len() as u64).await;
        self.accepted(fetch, bytes).await
    }

    /// Offers a file of so many bytes for a `fetch`.
    pub async fn say_offer(&mut self, fetch: &Fetch, size_bytes: u64) {
        let (download_id, attempt) = (fetch.download_id, fetch.attempt);
        let name = "report".to_owned();
        let (path, identity) = ("/lab/report".to_owned(), identity(size_bytes));
        let offer = Offer { download_id, attempt, path, name, size_bytes, modified_ms: 0, identity };
        self.say(&ToServer::Offer(offer)).await;
    }

    /// Waits until what was offered is accepted.
    pub async fn accepted(&mut self, fetch: Fetch, bytes: Vec<u8>) -> Job {
        match self.hear().await {
            ToAgent::Accept(accept) => Job { fetch, accept, bytes },
            other => panic!("an accept was due, and this came: {other:?}"),
        }
    }

    /// Waits for `fetch`, and offers a file of these bytes.
    pub async fn take(&mut self, bytes: Vec<u8>) -> Job {
        let fetch = self.hear_fetch().await;
        self.offer(fetch, bytes).await
    }

    /// Asks about one part, and gives the answer.
    pub async fn ask(&mut self, job: &Job, number: u16) -> Answer {
        self.say(&job.ready(number)).await;
        match self.hear().await {
            ToAgent::Parts(parts) => {
                let [PartAnswer { answer, .. }] = &parts.parts[..] else { panic!("one answer was due") };
                answer.clone()
            }
            other => panic!("an answer was due, and this came: {other:?}"),
        }
    }

    /// Asks about one part that must be sent, and gives its grant.
    pub async fn grant(&mut self, job: &Job, number: u16) -> Grant {
        match self.ask(job, number).await {
            Answer::Put(grant) => grant,
            other => panic!("a grant was due, and this came: {other:?}"),
        }
    }
}

impl Job {
    /// Gives the bytes of a part.
    ///
    /// # Panics
    /// If the file has no such part.
    pub fn part(&self, number: u16) -> &[u8] {
        let size = usize::try_from(self.accept.part_size_bytes).expect("a part that fits into memory");
        self.bytes.chunks(size).nth(usize::from(number) - 1).expect("a part of the file")
    }

    /// Makes the message that asks about a part.
    pub fn ready(&self, number: u16) -> ToServer {
        let part = self.part(number);
        let ready = ReadyPart {
            number: PartNumber::new(number).expect("a part's number"),
            size_bytes: part.len() as u64,
            sums: sums(part),
        };
        ToServer::PartsReady(PartsReady {
            download_id: self.fetch.download_id,
            attempt: self.fetch.attempt,
            parts: Batch::from(ready),
        })
    }

    /// Makes the receipt of a part.
    pub fn receipt(&self, number: u16, etag: &str) -> ToServer {
        let part = self.part(number);
        let receipt = Receipt {
            number: PartNumber::new(number).expect("a part's number"),
            size_bytes: part.len() as u64,
            etag: etag.to_owned(),
            sums: sums(part),
        };
        ToServer::Receipts(Receipts {
            download_id: self.fetch.download_id,
            attempt: self.fetch.attempt,
            parts: Batch::from(receipt),
        })
    }

    /// Makes the message that all parts are stored.
    pub fn finished(&self) -> ToServer {
        ToServer::Finished(Finished {
            download_id: self.fetch.download_id,
            attempt: self.fetch.attempt,
            size_bytes: self.bytes.len() as u64,
            crc64nvme: sums(&self.bytes).crc64nvme,
            identity: identity(self.bytes.len() as u64),
        })
    }

    /// Makes the message that the attempt is dropped.
    pub fn forgotten(&self) -> ToServer {
        ToServer::Forgotten(Forgotten { download_id: self.fetch.download_id, attempt: self.fetch.attempt })
    }

    /// Names the attempt for the next `hello`.
    pub fn busy(&self) -> Busy {
        Busy { download_id: self.fetch.download_id, attempt: self.fetch.attempt }
    }
}

/// Hashes bytes as an agent does for a bucket that proves by CRC64NVME.
pub fn sums(bytes: &[u8]) -> PartSums {
    PartSums { crc64nvme: Crc64(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)), md5: None }
}

fn identity(size_bytes: u64) -> Identity {
    Identity { device: 1, inode: 1, size_bytes, modified_ns: 1, changed_ns: 1 }
}
