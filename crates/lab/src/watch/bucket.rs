//! Between everyone and the bucket: every call about an object is a step, named as S3 names it.

use std::net::SocketAddr;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::steps::{Edge, Seen, Side, Steps};
use crate::{Operator, http};

/// What the server tries at its start is no step of a download.
const PROBE: &str = ".hoist-probe";

/// Where the watch itself answers, with the number of the connection.
const NUMBER: &str = "/.lab/connection";

/// A watched way to the bucket. Dropped, it cuts all connections.
#[derive(Debug)]
pub struct BucketWatch {
    address: SocketAddr,
    /// Whether the bucket can be reached.
    up: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl BucketWatch {
    /// Starts it on a free port, before an endpoint such as `http://127.0.0.1:40001`.
    ///
    /// # Panics
    /// If there is no port, or the endpoint is none.
    pub async fn start(endpoint: &str, steps: &Steps) -> Self {
        let upstream = endpoint.strip_prefix("http://").expect("an endpoint over http").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let mut tasks = JoinSet::new();
        let up = watch::Sender::new(true);
        tasks.spawn(accept(listener, upstream, steps.clone(), up.subscribe()));
        Self { address, up, _tasks: tasks }
    }

    /// Gives its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection, whatever is on it, and each new one until [`BucketWatch::mend`].
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets connections be again.
    pub fn mend(&self) {
        self.up.send_replace(true);
    }

    /// Gives the number of a new connection: all smaller ones were begun before now, perhaps by who is dead now.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn next_connection(&self) -> usize {
        let reply = Operator::send(http().get(format!("{}{NUMBER}", self.url()))).await;
        reply.text().parse().expect("the number of a connection")
    }
}

async fn accept(listener: TcpListener, upstream: String, steps: Steps, up: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let mut up = up.clone();
        let way = Way { upstream: upstream.clone(), steps: steps.clone(), number };
        connections.spawn(async move {
            let service = service_fn(move |request| carry(request, way.clone()));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Either side may end it as it likes.
            tokio::select! {
                biased;
                _ = up.wait_for(|up| !up) => {}
                _ = connection => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What a connection needs.
#[derive(Clone)]
struct Way {
    upstream: String,
    steps: Steps,
    number: usize,
}

type Lost = Box<dyn std::error::Error + Send + Sync>;
type Whole = BoxBody<Bytes, hyper::Error>;

/// Carries a call, whole: its body is here before the bucket hears of it, and the answer before the caller does.
async fn carry(request: Request<Incoming>, way: Way) -> Result<Response<Whole>, Lost> {
    let Way { upstream, steps, number: connection } = way;
    let (head, body) = request.into_parts();
    if head.uri.path() == NUMBER {
        return Ok(Response::new(whole(connection.to_string().into())));
    }
    let step = call(&head.method, &head.uri);
    let by = if step == "UploadPart" { Side::Agent } else { Side::Server };
    let at = is_about_an_object(&head.uri).then(|| {
        let part = query(&head.uri, "partNumber").and_then(|number| number.parse().ok());
        steps.begin(Seen { step: step.to_owned(), by, part, connection, bytes: 0, status: None })
    });
    let body = body.collect().await?.to_bytes();
    if let Some(at) = at {
        steps.weighs(at, body.len());
    }
    stop(&steps, at, Edge::Before, by).await?;
    let (parts, reply) = forward(Request::from_parts(head, Full::new(body)), &upstream).await?;
    if let Some(at) = at {
        steps.answered(at, parts.status.as_u16());
    }
    stop(&steps, at, Edge::After, by).await?;
    Ok(Response::from_parts(parts, whole(reply)))
}

fn whole(bytes: Bytes) -> Whole {
    if bytes.is_empty() {
        // HEAD answers with the length of a body that does not follow.
        return Empty::new().map_err(|never| match never {}).boxed();
    }
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

async fn stop(steps: &Steps, at: Option<usize>, edge: Edge, by: Side) -> Result<(), Lost> {
    match at {
        Some(at) if steps.stops(at, edge) && steps.wait().await.contains(&by) => {
            Err("its caller is dead".into())
        }
        Some(_) | None => Ok(()),
    }
}

async fn forward(
    request: Request<Full<Bytes>>,
    upstream: &str,
) -> Result<(hyper::http::response::Parts, Bytes), Lost> {
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok((parts, body.collect().await?.to_bytes()))
}

/// Tells whether a call is about one object: all of a download are, and those about the bucket itself are not.
fn is_about_an_object(uri: &Uri) -> bool {
    let key = uri.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    let about = if key.is_empty() { query(uri, "prefix").unwrap_or_default() } else { key };
    !about.is_empty() && !about.contains(PROBE)
}

/// Names a call.
fn call(method: &Method, uri: &Uri) -> &'static str {
    let has = |name| query(uri, name).is_some();
    match *method {
        Method::PUT if has("partNumber") => "UploadPart",
        Method::PUT => "PutObject",
        Method::POST if has("uploads") => "CreateMultipartUpload",
        Method::POST if has("uploadId") => "CompleteMultipartUpload",
        Method::DELETE if has("uploadId") => "AbortMultipartUpload",
        Method::GET if has("uploadId") => "ListParts",
        // Below a folder and not under a key: the server counts what is not its own.
        Method::GET if has("uploads") && query(uri, "prefix").is_some_and(|it| it.ends_with("%2F")) => {
            "count"
        }
        Method::GET if has("uploads") => "ListMultipartUploads",
        Method::GET => "GetObject",
        Method::HEAD => "HeadObject",
        _ => "Other",
    }
}

fn query<'a>(uri: &'a Uri, wanted: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == wanted).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_names_that_s3_gives_them() {
        for (method, uri, name) in [
            (Method::PUT, "/b/k?partNumber=1&uploadId=x&X-Amz-Expires=1", "UploadPart"),
            (Method::POST, "/b/k?uploads", "CreateMultipartUpload"),
            (Method::POST, "/b/k?uploadId=x", "CompleteMultipartUpload"),
            (Method::GET, "/b/k?max-parts=1000&uploadId=x", "ListParts"),
            (Method::GET, "/b?prefix=k&uploads=", "ListMultipartUploads"),
            (Method::GET, "/b?uploads&prefix=hoist%2F", "count"),
            (Method::DELETE, "/b/k?uploadId=x", "AbortMultipartUpload"),
            (Method::HEAD, "/b/k", "HeadObject"),
        ] {
            assert_eq!(call(&method, &uri.parse().unwrap()), name);
        }
    }

    #[test]
    fn what_the_server_asks_of_the_bucket_itself_is_no_step() {
        for (uri, is) in [
            ("/b/p/k?uploads", true),
            ("/b?prefix=p%2Fk&uploads=", true),
            ("/b/?lifecycle", false),
            ("/b", false),
        ] {
            assert_eq!(is_about_an_object(&uri.parse().unwrap()), is, "{uri}");
        }
        assert!(!is_about_an_object(&"/b/p/.hoist-probe/1f?uploads".parse().unwrap()));
    }
}
