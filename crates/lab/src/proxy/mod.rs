//! A proxy before the bucket: counts what passes, holds back what a test wants held back, and damages what a test wants
//! damaged.
//!
//! It stands between agent and bucket, or server and bucket. Host is signed, so whoever goes through it must have been
//! told its address as the bucket's. [`Wire`] is its plain cousin, between agent and server.

mod body;
mod fault;
mod forward;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use fault::{Call, Canned, Fault, Injected, On};
pub use wire::{Pace, Wire};

use fault::Injection;

/// A request that came to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// What the bucket answered; none while it is held back, on its way, was given up, or never got there.
    pub status: Option<u16>,
    /// The number of the connection that it came on.
    pub connection: usize,
    /// What whoever asked was told; none where nothing was.
    pub told: Option<u16>,
}

type Rule = Box<dyn Fn(&Passed, &[Passed]) -> bool + Send>;

struct Inner {
    upstream: String,
    seen: Mutex<Vec<Passed>>,
    rule: Mutex<Option<Rule>>,
    injections: Mutex<Vec<Arc<Injection>>>,
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
        self.call() == Call::Complete
    }

    /// Tells what it asks of the bucket.
    pub fn call(&self) -> Call {
        Call::of(&self.method, &self.target)
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
            injections: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        let inner = Arc::new(inner);
        let mut tasks = JoinSet::new();
        tasks.spawn(forward::accept(listener, Arc::clone(&inner)));
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

    /// Gives what was asked so far, in the order in which it came.
    pub fn calls(&self) -> Vec<Call> {
        self.seen().iter().map(Passed::call).collect()
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

    /// Lets everything through that was held back. Faults stay.
    pub fn release(&self) {
        *locked(&self.inner.rule) = None;
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// Has the requests that match meet a fault, once they are not held back. Of several faults, the first one given is met.
    pub fn inject(&self, on: On, fault: Fault) -> Injected {
        let injection = Arc::new(Injection::new(on, fault));
        locked(&self.inner.injections).push(Arc::clone(&injection));
        Injected(injection)
    }

    /// Takes all faults away; what was stalled goes on.
    pub fn mend(&self) {
        for injection in locked(&self.inner.injections).drain(..) {
            injection.lift();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
