//! Where a server gets keys that do not last: the endpoint that a container platform gives its containers
//! (`AWS_CONTAINER_CREDENTIALS_FULL_URI`), on loopback.
//!
//! Deliberately absent: the bucket. Who makes the service says how it hears of a new key.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hoist_wire::Timestamp;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a server must show to be given keys.
const PASS: &str = "a-pass-of-the-lab-for-the-key-service";

/// A key that ends by itself.
#[derive(Debug, Clone)]
pub struct ShortKey {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// What requests show beside their signature.
    pub session_token: String,
    /// When it ends.
    pub expires_at: SystemTime,
}

impl ShortKey {
    /// Tells whether it has ended.
    pub fn is_over(&self) -> bool {
        self.expires_at <= SystemTime::now()
    }
}

type Lend = Box<dyn Fn(&ShortKey) + Send + Sync>;

struct Inner {
    life: Duration,
    lend: Lend,
    keys: Mutex<Vec<ShortKey>>,
    is_down: AtomicBool,
}

/// A running service. Dropped, it answers no more.
pub struct KeyService {
    address: SocketAddr,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for KeyService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyService").field("address", &self.address).finish_non_exhaustive()
    }
}

impl KeyService {
    /// Starts one whose keys live for `life`; a new one is made once the last has half of that behind it.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(life: Duration, lend: impl Fn(&ShortKey) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let inner = Arc::new(Inner {
            life,
            lend: Box::new(lend),
            keys: Mutex::default(),
            is_down: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&inner)));
        Self { address, inner, _tasks: tasks }
    }

    /// Gives the environment of a server that gets its keys here.
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ACCESS_KEY_ID", String::new()),
            ("AWS_SECRET_ACCESS_KEY", String::new()),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/keys", self.address)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", PASS.to_owned()),
        ]
    }

    /// Gives no keys any more until [`KeyService::mend`].
    pub fn cut(&self) {
        self.inner.is_down.store(true, Ordering::SeqCst);
    }

    /// Gives keys again.
    pub fn mend(&self) {
        self.inner.is_down.store(false, Ordering::SeqCst);
    }

    /// Gives all keys so far, the newest last.
    pub fn keys(&self) -> Vec<ShortKey> {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inner {
    /// Gives the key of now.
    fn key(&self) -> ShortKey {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        match keys.last() {
            Some(key) if key.expires_at > now + self.life / 2 => key.clone(),
            Some(_) | None => {
                let number = keys.len() + 1;
                let key = ShortKey {
                    access_key: format!("ASIALAB{number:08}"),
                    secret_key: format!("a-secret-of-the-lab-that-lives-shortly-{number}"),
                    session_token: format!("a-session-of-the-lab-that-lives-shortly-{number}"),
                    expires_at: now + self.life,
                };
                (self.lend)(&key);
                keys.push(key.clone());
                key
            }
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let pass = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
        if request.uri().path() != "/keys" || pass != Some(PASS.as_bytes()) {
            return refusal(StatusCode::FORBIDDEN);
        }
        if self.is_down.load(Ordering::SeqCst) {
            return refusal(StatusCode::SERVICE_UNAVAILABLE);
        }
        let key = self.key();
        let since = key.expires_at.duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
        let ends = i64::try_from(since.as_millis()).expect("a time that a record can have");
        let said = json!({
            "AccessKeyId": key.access_key,
            "SecretAccessKey": key.secret_key,
            "Token": key.session_token,
            "Expiration": Timestamp(ends).to_string(),
        });
        Response::new(Full::from(said.to_string()))
    }
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let mut refused = Response::new(Full::default());
    *refused.status_mut() = status;
    refused
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let inner = Arc::clone(&inner);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = inner.answer(&request);
                async { Ok::<_, std::convert::Infallible>(answer) }
            });
            // A server may end a connection as it likes.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}
