//! Accepting connections: bounded in number, and in the time that a request's head may take.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::Peer;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Largest head of a request: a token, and what browsers add.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long to wait when the system has no more files or memory for a connection.
const OUT_OF_FILES: Duration = Duration::from_millis(200);

/// Most requests at once; links are not counted once they are open.
const MAX_REQUESTS: usize = 4096;

/// Serves until the stop, then lets requests in hand end.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let room = Arc::new(Semaphore::new(MAX_REQUESTS));
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(OUT_OF_FILES).await;
                    continue;
                }
            },
        };
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
        let _ = stream.set_nodelay(true);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD_BYTES);
        let (router, peer) = (TowerToHyperService::new(router.clone()), Peer(address.ip()));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let stop = stop.clone();
        tasks.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                outcome = connection.as_mut() => log(outcome),
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    log(connection.await);
                }
            }
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

fn log(outcome: Result<(), hyper::Error>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended badly");
    }
}
