//! HTTP/1.1 on a listener: one task accepts and owns the tasks of its connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use s3s::{Body, HttpResponse, S3Error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::gate;
use crate::keys::Keys;
use crate::lent::Lent;

/// Connections served at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// A request's head must be whole after this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head, and what of a body is read at once.
const MAX_BUFFER_BYTES: usize = 256 << 10;
/// After a failed accept (no more file descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection needs.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) s3: S3Service,
    pub(crate) region: Arc<str>,
    pub(crate) keys: Arc<Keys>,
}

/// Accepts until `stop`, then lets the requests in hand end.
pub(crate) async fn accept(listener: TcpListener, service: Service, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept_one(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    serve(stream, service, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the depot cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn serve(stream: TcpStream, service: Service, stop: CancellationToken) {
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(Box::pin(answer(&service, request)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the depot broke");
    }
}

async fn answer(service: &Service, request: http::Request<Incoming>) -> HttpResponse {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // A client that waits for `100 Continue` has sent nothing, and reading would invite it to.
    let waits = request.headers().contains_key(http::header::EXPECT);
    let (head, body) = request.into_parts();
    let lent = Lent::new(body);
    let response = match gate::check(&head.uri, &head.headers, &service.region, &service.keys) {
        Ok(()) => {
            let request = http::Request::from_parts(head, Body::http_body(lent.clone()));
            // The protocol crate logs requests with their signed URLs, and each 404 as an error: silence.
            let answered = service.s3.call(request).with_subscriber(NoSubscriber::default()).await;
            answered.unwrap_or_else(|_| refused(S3Error::new(s3s::S3ErrorCode::InternalError)))
        }
        Err(refusal) => refused(refusal),
    };
    if !response.status().is_success() && !waits {
        lent.discard().await;
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), "the depot answered");
    response
}

fn refused(refusal: S3Error) -> HttpResponse {
    refusal.to_http_response().unwrap_or_else(|_| {
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
