//! One request from whoever asks to the bucket, and the answer back.

use std::net::TcpStream as Socket;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::body::{BoxError, Load, Streamed};
use super::fault::{Canned, Fault, Injection};
use super::{Inner, Passed, locked};

type Body = BoxBody<Bytes, BoxError>;

pub(super) async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let inner = Arc::clone(&inner);
        connections.spawn(async move {
            // Either side may end a connection as it likes.
            let _ = serve(stream, number, inner).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, number: usize, inner: Arc<Inner>) -> Result<(), BoxError> {
    let stream = stream.into_std()?;
    let knife = Arc::new(stream.try_clone()?);
    let stream = TokioIo::new(TcpStream::from_std(stream)?);
    let service =
        service_fn(move |request| exchange(request, number, Arc::clone(&inner), Arc::clone(&knife)));
    hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await?;
    Ok(())
}

/// Ends a connection: an error of the service drops it, and without lingering that is a reset.
fn reset(knife: &Socket) -> BoxError {
    // A socket that is closed already is as good.
    let _ = socket2::SockRef::from(knife).set_linger(Some(Duration::ZERO));
    "reset by the lab".into()
}

async fn exchange(
    request: Request<Incoming>,
    connection: usize,
    inner: Arc<Inner>,
    knife: Arc<Socket>,
) -> Result<Response<Body>, BoxError> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let method = request.method().to_string();
    let passed = Passed { method, target, connection, status: None, told: None };
    let at = {
        let mut seen = locked(&inner.seen);
        seen.push(passed.clone());
        seen.len() - 1
    };
    held_back(&inner, &passed, at).await?;
    let injection = locked(&inner.injections)
        .iter()
        .find(|injection| injection.takes(passed.call(), passed.part()))
        .map(Arc::clone);
    let reply = match injection.as_ref().map(|injection| &injection.fault) {
        Some(Fault::Reset) => return Err(reset(&knife)),
        Some(Fault::Answer(canned)) => {
            // Read whole, so that the answer is not lost in a reset.
            request.into_body().collect().await?;
            canned_reply(canned)
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(*delay).await;
            ask(request, &inner, at, None, &knife).await?
        }
        Some(Fault::Misreport(canned)) => {
            ask(request, &inner, at, None, &knife).await?;
            canned_reply(canned)
        }
        Some(Fault::LoseReply) => {
            ask(request, &inner, at, None, &knife).await?;
            return Err("the answer is lost in the lab".into());
        }
        Some(Fault::CutReplyAfter(most)) => {
            let reply = ask(request, &inner, at, None, &knife).await?;
            cut_reply(reply, *most).await?
        }
        Some(Fault::Header(name, value)) => {
            let mut reply = ask(request, &inner, at, None, &knife).await?;
            reply.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
            reply
        }
        Some(Fault::CutAfter(_) | Fault::StallAfter(_) | Fault::Throttle(_) | Fault::FlipBit(_)) | None => {
            ask(request, &inner, at, injection, &knife).await?
        }
    };
    locked(&inner.seen)[at].told = Some(reply.status().as_u16());
    Ok(reply)
}

async fn held_back(inner: &Inner, passed: &Passed, at: usize) -> Result<(), BoxError> {
    let mut changed = inner.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let held = {
            let seen = locked(&inner.seen);
            locked(&inner.rule).as_ref().is_some_and(|rule| rule(passed, &seen[..at]))
        };
        if !held {
            return Ok(());
        }
        changed.changed().await?;
    }
}

/// Has the bucket do it, and gives its answer.
async fn ask(
    request: Request<Incoming>,
    inner: &Inner,
    at: usize,
    injection: Option<Arc<Injection>>,
    knife: &Socket,
) -> Result<Response<Body>, BoxError> {
    let is_cut = injection.as_ref().is_some_and(|injection| matches!(injection.fault, Fault::CutAfter(_)));
    let is_get = request.method() == Method::GET;
    let stream = TcpStream::connect(&inner.upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let request = request.map(|body| Load::new(body, injection));
    let reply = match sender.send_request(request).await {
        Ok(reply) => reply,
        Err(_) if is_cut => return Err(reset(knife)),
        Err(error) => return Err(error.into()),
    };
    let status = reply.status();
    let (parts, body) = reply.into_parts();
    let body: Body = if is_get {
        locked(&inner.seen)[at].status = Some(status.as_u16());
        Streamed { inner: body, _connection: tasks }.boxed()
    } else {
        let bytes = body.collect().await?.to_bytes();
        locked(&inner.seen)[at].status = Some(status.as_u16());
        whole(bytes)
    };
    Ok(Response::from_parts(parts, body))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn canned_reply(canned: &Canned) -> Response<Body> {
    let mut reply = Response::new(whole(Bytes::from(canned.body.clone())));
    *reply.status_mut() = canned.status.try_into().expect("a status of HTTP");
    if let Some(secs) = canned.retry_after_secs {
        reply.headers_mut().insert(RETRY_AFTER, secs.into());
    }
    reply
}

/// Promises the whole body, and gives its beginning.
async fn cut_reply(reply: Response<Body>, most: usize) -> Result<Response<Body>, BoxError> {
    let (mut parts, body) = reply.into_parts();
    let mut bytes = body.collect().await?.to_bytes();
    // One byte more than comes, where there are none to cut.
    let promised = bytes.len().max(most + 1);
    parts.headers.insert(CONTENT_LENGTH, promised.into());
    bytes.truncate(most);
    let cut: BoxError = "the answer is cut in the lab".into();
    let body = StreamBody::new(stream::iter([Ok(Frame::data(bytes)), Err(cut)]));
    Ok(Response::from_parts(parts, body.boxed()))
}
