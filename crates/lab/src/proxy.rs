//! A proxy before the bucket: counts what passes, and holds back what a test wants held back.
//!
//! Deliberately absent: damage. It forwards each request whole or not at all. Host is signed, so whoever goes through
//! it must have been told its address as the bucket's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request that came to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// What the bucket answered; none while it is held back, on its way, or was given up.
    pub status: Option<u16>,
}

type Rule = Box<dyn Fn(&Passed, &[Passed]) -> bool + Send>;

struct Inner {
    upstream: String,
    seen: Mutex<Vec<Passed>>,
    rule: Mutex<Option<Rule>>,
    /// Grows with each change of the rule; who is held back then asks again.
    changed: watch::Sender<u64>,
}

/// A running proxy. Dropped, it cuts all its connections.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Passed {
    /// Gives the number of the part that a PUT is for.
    pub fn part(&self) -> Option<u16> {
        let (_, number) = self.target.split_once("partNumber=")?;
        (self.method == "PUT").then(|| number.split('&').next()?.parse().ok())?
    }

    /// Tells whether this is a Complete.
    pub fn is_complete(&self) -> bool {
        self.method == "POST" && self.target.contains("uploadId=")
    }
}

impl Proxy {
    /// Starts a proxy on a free port, before an endpoint such as `http://127.0.0.1:40001`.
    ///
    /// # Panics
    /// If there is no port, or the endpoint is none.
    pub async fn start(endpoint: &str) -> Self {
        let upstream = endpoint.strip_prefix("http://").expect("an endpoint over http").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let inner = Inner {
            upstream,
            seen: Mutex::default(),
            rule: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        let inner = Arc::new(inner);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&inner)));
        Self { address, inner, _tasks: tasks }
    }

    /// Gives its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives all requests so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Passed> {
        locked(&self.inner.seen).clone()
    }

    /// Gives the numbers of the parts that the bucket has confirmed, each as often as it did.
    pub fn confirmed_parts(&self) -> Vec<u16> {
        let seen = self.seen();
        let mut parts: Vec<u16> =
            seen.iter().filter(|passed| passed.status == Some(200)).filter_map(Passed::part).collect();
        parts.sort_unstable();
        parts
    }

    /// Holds back each request for which `rule` says so, given all that came before it, until the rule changes.
    pub fn hold(&self, rule: impl Fn(&Passed, &[Passed]) -> bool + Send + 'static) {
        *locked(&self.inner.rule) = Some(Box::new(rule));
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// Holds back every part after so many were let through.
    pub fn hold_parts_after(&self, count: usize) {
        self.hold(move |passed, before| {
            let parts = before.iter().filter(|passed| passed.part().is_some()).count();
            passed.part().is_some() && parts >= count
        });
    }

    /// Lets everything through.
    pub fn release(&self) {
        *locked(&self.inner.rule) = None;
        self.inner.changed.send_modify(|count| *count += 1);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let inner = Arc::clone(&inner);
        connections.spawn(async move {
            let service = service_fn(move |request| forward(request, Arc::clone(&inner)));
            // Either side may end a connection as it likes.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn forward(
    request: Request<Incoming>,
    inner: Arc<Inner>,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let passed = Passed { method: request.method().to_string(), target, status: None };
    let mut changed = inner.changed.subscribe();
    let at = {
        let mut seen = locked(&inner.seen);
        seen.push(passed.clone());
        seen.len() - 1
    };
    loop {
        changed.mark_unchanged();
        let held = {
            let seen = locked(&inner.seen);
            locked(&inner.rule).as_ref().is_some_and(|rule| rule(&passed, &seen[..at]))
        };
        if !held {
            break;
        }
        changed.changed().await?;
    }
    let stream = TcpStream::connect(&inner.upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let reply = sender.send_request(request).await?;
    let status = reply.status();
    // Read whole: the connection ends with this call. Answers are short, but for GETs, which tests keep away.
    let (parts, body) = reply.into_parts();
    let bytes = body.collect().await?.to_bytes();
    locked(&inner.seen)[at].status = Some(status.as_u16());
    let body: Body = if bytes.is_empty() {
        Empty::new().map_err(|never| match never {}).boxed()
    } else {
        http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed()
    };
    Ok(Response::from_parts(parts, body))
}
