//! The REST interface of the server, as a client sees it.
//!
//! Redirects are never followed: the token goes to the server that was configured, and to nobody else.

use std::time::Duration;

use hoist_wire::ErrorCode;
use hoist_wire::rest::Problem;
use hoist_wire::switch::parse_switch;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use crate::failure::Failure;

/// Pauses between the tries of a request whose answer is not waited for any longer.
const PAUSES_MS: [u64; 4] = [250, 500, 1000, 2000];

/// Longest pause that a server may ask for with `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read: a page of downloads has less than a tenth.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A server and the right to talk to it.
#[derive(Debug)]
pub(crate) struct Api {
    base: Url,
    token: Option<HeaderValue>,
    http: reqwest::Client,
}

/// An answer: what it means, and the JSON as it came.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    pub(crate) value: T,
    pub(crate) text: String,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Ask {
    method: Method,
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<String>,
    key: Option<String>,
    again: bool,
}

impl Ask {
    fn new(method: Method, path: &[&str]) -> Self {
        let segments = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method, segments, query: Vec::new(), body: None, key: None, again: true }
    }

    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Changes something; said twice it is said once.
    pub(crate) fn patch(path: &[&str], body: String) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, path) }
    }

    /// Puts something in the place of what was there; said twice it is said once.
    pub(crate) fn put(path: &[&str], body: String) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path) }
    }

    /// Posts JSON; only with an idempotency key it is posted again when no answer comes.
    pub(crate) fn post(path: &[&str], body: String, key: Option<String>) -> Self {
        Self { again: key.is_some(), body: Some(body), key, ..Self::new(Method::POST, path) }
    }

    pub(crate) fn query(mut self, name: &'static str, value: Option<String>) -> Self {
        self.query.extend(value.map(|value| (name, value)));
        self
    }
}

impl Api {
    /// Prepares to talk to the server at `base`.
    ///
    /// # Errors
    /// [`Failure::Input`] when the URL or the token cannot be used.
    pub(crate) fn new(base: Url, token: Option<&SecretString>) -> Result<Self, Failure> {
        let plain = matches!(base.scheme(), "http" | "https") && base.host().is_some();
        if !plain || !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            let mut shown = base;
            // A password in a URL must not reach a terminal's log; a URL that cannot have one refuses, rightly.
            let _ = shown.set_password(None);
            return Err(Failure::Input(format!(
                "{shown} is no server's URL: write it as http://127.0.0.1:8080 or https://hoist.example.com"
            )));
        }
        let token = token.map(bearer).transpose()?;
        let is_open = base.scheme() == "http" && !is_loopback(&base);
        if token.is_some() && is_open && !allows_plain()? {
            return Err(Failure::Input(format!(
                "{base} is plain http:// to another machine, where anyone on the way could read OPERATOR_TOKEN: use https://, \
                or set ALLOW_PLAIN_SERVER=true in a network that is yours alone"
            )));
        }
        let http = client(&base)?.timeout(Duration::from_secs(30)).build().map_err(|e| setup(&e))?;
        Ok(Self { base, token, http })
    }

    /// Asks, and asks again a few times when no answer comes and that is safe.
    ///
    /// # Errors
    /// Whatever the last try ended with.
    pub(crate) async fn send<T: DeserializeOwned>(&self, ask: &Ask) -> Result<Reply<T>, Failure> {
        let mut pauses = PAUSES_MS.iter();
        loop {
            let failure = match self.once(ask).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            match pauses.next() {
                Some(ms) if ask.again && failure.is_passing() => {
                    tokio::time::sleep(pause(&failure, Duration::from_millis(*ms))).await;
                }
                Some(_) | None => return Err(failure),
            }
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], [`Failure::Problem`] or [`Failure::Answer`].
    pub(crate) async fn once<T: DeserializeOwned>(&self, ask: &Ask) -> Result<Reply<T>, Failure> {
        let response = self.request(ask).await?;
        let status = response.status();
        let target = location(&response);
        let retry_after_secs = number(response.headers().get(RETRY_AFTER));
        let text = self.text(response, ask).await?;
        if !status.is_success() {
            return Err(refusal(status, text, target.as_ref(), retry_after_secs));
        }
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Reply { value, text }),
            Err(error) => Err(Failure::Answer { what: self.name(ask), cause: error.to_string() }),
        }
    }

    /// Asks for a redirect, and gives where it leads without going there.
    ///
    /// # Errors
    /// As [`Api::once`]; also when the answer is no redirect to http or https.
    pub(crate) async fn redirect(&self, ask: &Ask) -> Result<Url, Failure> {
        let response = self.request(ask).await?;
        let status = response.status();
        match location(&response) {
            Some(target) if status.is_redirection() && matches!(target.scheme(), "http" | "https") => {
                Ok(target)
            }
            target if status.is_client_error() || status.is_server_error() => {
                let retry_after_secs = number(response.headers().get(RETRY_AFTER));
                let text = self.text(response, ask).await?;
                Err(refusal(status, text, target.as_ref(), retry_after_secs))
            }
            Some(_) | None => Err(Failure::Answer {
                what: self.name(ask),
                cause: format!("status {status} leads nowhere; a redirect to the bucket was expected"),
            }),
        }
    }

    async fn request(&self, ask: &Ask) -> Result<Response, Failure> {
        let mut request = self.http.request(ask.method.clone(), self.url(ask));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(key) = &ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &ask.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        request.send().await.map_err(|error| self.unreachable(error))
    }

    async fn text(&self, mut response: Response, ask: &Ask) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(Failure::Answer {
                    what: self.name(ask),
                    cause: format!("it is longer than {MAX_ANSWER_BYTES} bytes"),
                });
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn url(&self, ask: &Ask) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&ask.segments);
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        url
    }

    fn name(&self, ask: &Ask) -> String {
        format!("{} {}", ask.method, self.url(ask))
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        Failure::Unreachable {
            who: self.base.to_string(),
            cause: causes(error),
            mend: "is it running, and is SERVER_URL (or --server) right?",
        }
    }
}

/// Gives the pause before the next try: `usual`, or what the server asked for.
pub(crate) fn pause(failure: &Failure, usual: Duration) -> Duration {
    if let Failure::Problem { retry_after_secs: Some(secs), .. } = failure {
        return usual.max(Duration::from_secs(*secs)).min(LONGEST_PAUSE);
    }
    usual
}

/// Starts an HTTP client that follows no redirect, and uses no proxy to this very machine.
///
/// # Errors
/// [`Failure::Input`] when the address names no host.
pub(crate) fn client(url: &Url) -> Result<reqwest::ClientBuilder, Failure> {
    if url.host().is_none() {
        return Err(Failure::Input(format!("{url} names no host")));
    }
    let builder = reqwest::Client::builder()
        .tls_certs_merge(extra_authorities()?)
        .user_agent(concat!("hoist/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10));
    Ok(if is_loopback(url) { builder.no_proxy() } else { builder })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Tells whether a token may go over the network for all to read.
fn allows_plain() -> Result<bool, Failure> {
    let name = "ALLOW_PLAIN_SERVER";
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            parse_switch(name, &text).map_err(|why| Failure::Input(why.to_string()))
        }
        Ok(_) | Err(_) => Ok(false),
    }
}

/// Reads the authorities that are trusted beside the system's.
fn extra_authorities() -> Result<Vec<Certificate>, Failure> {
    let Some(path) = std::env::var_os("EXTRA_CA_FILE").filter(|path| !path.is_empty()) else {
        return Ok(Vec::new());
    };
    let bad = |why: String| {
        Failure::Input(format!(
            "EXTRA_CA_FILE={path:?} cannot be used: {why}; give a file with certificates in PEM"
        ))
    };
    let pem = std::fs::read(&path).map_err(|error| bad(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| bad(causes(error)))?;
    if found.is_empty() { Err(bad("it holds no certificate".to_owned())) } else { Ok(found) }
}

/// Explains a client that cannot be built, by the trust store for one.
pub(crate) fn setup(error: &reqwest::Error) -> Failure {
    Failure::Input(format!("cannot set up HTTP: {error}"))
}

/// Gives an error with its causes, and without the URL, which may be signed.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

fn bearer(token: &SecretString) -> Result<HeaderValue, Failure> {
    let text = format!("Bearer {}", token.expose_secret());
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Failure::Input("OPERATOR_TOKEN has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn location(response: &Response) -> Option<Url> {
    let text = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(text).ok()
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.trim().parse().ok()
}

/// Makes an error of an answer that is no success, also of one that no hoist server wrote.
fn refusal(status: StatusCode, text: String, target: Option<&Url>, retry_after_secs: Option<u64>) -> Failure {
    if let Ok(problem) = serde_json::from_str::<Problem>(&text) {
        let problem = Box::new(Problem { status: status.as_u16(), ..problem });
        return Failure::Problem { problem, text: Some(text), retry_after_secs };
    }
    let title = status.canonical_reason().unwrap_or("unknown status").to_owned();
    let code = match status.as_u16() {
        401 => ErrorCode::Unauthorized,
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        503 => ErrorCode::NotReady,
        _ => ErrorCode::Unknown,
    };
    let detail = match target.filter(|_| status.is_redirection()) {
        Some(target) => format!(
            "the server sends us on to {}: set SERVER_URL to where it really is",
            target.origin().ascii_serialization()
        ),
        None => format!("the server answered {} {title}", status.as_u16()),
    };
    let problem = Problem { r#type: "about:blank".to_owned(), title, status: status.as_u16(), detail, code };
    Failure::Problem { problem: Box::new(problem), text: None, retry_after_secs }
}
