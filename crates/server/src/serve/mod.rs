//! Accepting connections: plain or over TLS, bounded in number, in the time that each step may take, and by what is left
//! of files and memory.
//!
//! Deliberately absent: who a caller is (`http`). A connection is a stranger's until a page has recognised somebody on it.

mod crowd;
mod headroom;
mod patient;
mod refusal;
pub(crate) mod tls;
mod trusted;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crowd::{Crowd, Place};
pub use headroom::Headroom;
pub use tls::{Certificates, TlsSettings};
pub use trusted::TrustedProxies;

use crate::http::{Certified, Peer};
use crowd::Full;
use patient::Patient;

/// How long the head of a request may take, and how long a connection may rest between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take.
const TLS_WITHIN: Duration = Duration::from_secs(10);

/// Largest head of a request: a token, and what browsers add.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long to wait when the system has no more files or memory for a connection.
const OUT_OF_FILES: Duration = Duration::from_millis(200);

/// How connections are taken.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) router: Router,
    /// TLS; none for plain HTTP.
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) trusted: TrustedProxies,
    pub(crate) stop: CancellationToken,
}

/// Serves until the stop, then lets requests in hand end.
pub(crate) async fn serve(listener: TcpListener, reception: Reception) {
    let (tasks, reception) = (TaskTracker::new(), Arc::new(reception));
    loop {
        let (stream, address) = tokio::select! {
            () = reception.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(OUT_OF_FILES).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let counted = (!reception.trusted.contains(address.ip())).then_some(address.ip());
        match reception.crowd.enter(counted) {
            Ok(place) => {
                let reception = Arc::clone(&reception);
                tasks.spawn(async move { reception.take(stream, address, place).await });
            }
            Err(full) => refuse(&reception, &tasks, stream, full),
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Turns a connection away, with an answer where that costs little.
fn refuse(reception: &Reception, tasks: &TaskTracker, stream: TcpStream, full: Full) {
    // Over TLS an answer would cost a handshake, which is more than there is to give.
    if reception.certificates.is_none()
        && let Some(desk) = reception.crowd.refusing()
    {
        tasks.spawn(async move {
            refusal::answer(stream, full).await;
            drop(desk);
        });
    }
}

impl Reception {
    async fn take(&self, stream: TcpStream, address: SocketAddr, place: Place) {
        let place = Arc::new(place);
        let Some(certificates) = &self.certificates else {
            return self.speak(Patient::new(stream), address.ip(), false, place).await;
        };
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return,
            shaken = timeout(TLS_WITHIN, certificates.acceptor().accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let certified = stream.get_ref().1.peer_certificates().is_some();
                self.speak(Patient::new(stream), address.ip(), certified, place).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, %address, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        }
    }

    async fn speak<S>(&self, stream: S, address: IpAddr, certified: bool, place: Arc<Place>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD_BYTES);
        let (router, trusted) = (TowerToHyperService::new(self.router.clone()), self.trusted.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let peer = Peer(trusted.peer(address, request.headers()));
            let extensions = request.extensions_mut();
            extensions.insert(peer);
            extensions.insert(Certified(certified));
            extensions.insert(Arc::clone(&place));
            router.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            outcome = connection.as_mut() => log(outcome),
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                log(connection.await);
            }
        }
    }
}

fn log(outcome: Result<(), hyper::Error>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended badly");
    }
}
