//! Connections: name, address, proxy, TCP, TLS, and the WebSocket upgrade.
//!
//! Deliberately absent: trying again, and what is said over the connection. Every address is checked here, after it was
//! resolved and just before it is dialled, so that a name cannot point elsewhere in between.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hoist_wire::identity::TIME_HEADER;
use hoist_wire::limits::MAX_FRAME_TO_AGENT;
use hoist_wire::rest::Problem;
use hoist_wire::{ErrorCode, INSTANCE_HEADER, Instance, PROTOCOL, Timestamp};
use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, StatusCode};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error as WsError};

use crate::link::Caller;
use crate::proxy::{Proxies, ProxyError};
use crate::server_url::ServerUrl;
use crate::upload::address::{AddressPolicy, Endpoint, Forbidden};

/// How long one address may take to answer a dial.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a name server may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the far end may take for the TLS handshake, and again for the upgrade.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Most bytes that wait unsent in the kernel: progress means what the network took, and a cancel loses little.
const UNSENT_BYTES: u32 = 128 * 1024;

/// What is needed to connect anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    /// For storage.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// For the server, with a certificate of the agent's own.
    pub(crate) link_tls: Arc<rustls::ClientConfig>,
    pub(crate) proxies: Proxies,
    pub(crate) addresses: AddressPolicy,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("{host} cannot be resolved: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("{addr} cannot be reached: {source}")]
    Tcp { addr: SocketAddr, source: io::Error },
    #[error("no way through the proxy: {0}")]
    Proxy(#[from] ProxyError),
    #[error("TLS with {host} failed: {source}{}", mend(source))]
    Tls { host: String, source: io::Error },
    #[error("{0} did not answer the handshake within {t} s", t = HANDSHAKE_TIMEOUT.as_secs())]
    TimeOut(String),
    #[error("the server answered {status}: {body}")]
    Answer { status: u16, body: String, retry_after: Option<Duration>, server_time: Option<Timestamp> },
    #[error("the server cannot be asked: {0}")]
    Ask(String),
    #[error("the upgrade failed: {0}")]
    Upgrade(#[source] Box<WsError>),
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Counted),
    Tls(Box<TlsStream<Counted>>),
}

impl Caller for Dialer {
    type Socket = WebSocketStream<Stream>;

    async fn nonce(&self, server: &ServerUrl) -> Result<String, DialError> {
        crate::enrol::nonce(self, server).await
    }

    async fn call(
        &self,
        server: &ServerUrl,
        token: &SecretString,
        instance: &Instance,
    ) -> Result<WebSocketStream<Stream>, DialError> {
        let stream = self.server(server).await?;
        let upgrade = |error| DialError::Upgrade(Box::new(error));
        let mut request = server.uri.clone().into_client_request().map_err(upgrade)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|error| upgrade(WsError::HttpFormat(error.into())))?;
        bearer.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        if let Ok(value) = HeaderValue::from_str(&instance.to_string()) {
            headers.insert(INSTANCE_HEADER, value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(64 * 1024)
            .max_message_size(Some(MAX_FRAME_TO_AGENT))
            .max_frame_size(Some(MAX_FRAME_TO_AGENT));
        let shake = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, shake).await {
            Err(_) => Err(DialError::TimeOut(server.host.clone())),
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(WsError::Http(answer))) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err(DialError::answered(answer.status(), answer.headers(), body))
            }
            Ok(Err(error)) => Err(upgrade(error)),
        }
    }
}

impl DialError {
    /// Reads an answer that is none of those that were hoped for.
    pub(crate) fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned();
        let retry_after = headers.get(RETRY_AFTER).and_then(retry_after);
        let time = headers.get(TIME_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self::Answer { status: status.as_u16(), body, retry_after, server_time: time.map(Timestamp) }
    }

    /// Gives the server's time, where it says that a proof was right and the clock was not.
    pub(crate) fn skewed(&self) -> Option<Timestamp> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "one answer says so, and nothing else does")]
        match self {
            Self::Answer { status: 401, body, server_time, .. } if has_code(body, ErrorCode::ClockSkew) => {
                *server_time
            }
            _ => None,
        }
    }
}

/// Tells whether an answer has this code.
fn has_code(body: &str, code: ErrorCode) -> bool {
    serde_json::from_str::<Problem>(body).is_ok_and(|problem| problem.code == code)
}

impl Dialer {
    /// Connects to the server, which is the administrator's own choice: no policy for its address.
    pub(crate) async fn server(&self, server: &ServerUrl) -> Result<Stream, DialError> {
        Ok(self.connect(server.tls, &server.host, server.port, None).await?.0)
    }

    /// Connects to storage; also gives the counter of the bytes that the network took.
    pub(crate) async fn storage(&self, to: &Endpoint) -> Result<(Stream, Arc<AtomicU64>), DialError> {
        self.connect(to.tls, &to.host, to.port, Some(to)).await
    }

    async fn connect(
        &self,
        tls: bool,
        host: &str,
        port: u16,
        guarded: Option<&Endpoint>,
    ) -> Result<(Stream, Arc<AtomicU64>), DialError> {
        let tcp = match self.proxies.before(tls, host, port)? {
            Some(proxy) => {
                if let Some(endpoint) = guarded {
                    self.addresses.check_name(endpoint)?;
                }
                let mut tcp = dial(&proxy.host, proxy.port, |_| Ok(())).await?;
                proxy.open(&mut tcp, host, port).await?;
                tcp
            }
            None => {
                let check = |ip| guarded.map_or(Ok(()), |to| self.addresses.check(to, ip));
                dial(host, port, check).await?
            }
        };
        let taken = Arc::new(AtomicU64::new(0));
        let tcp = Counted { tcp, taken: Arc::clone(&taken) };
        if !tls {
            return Ok((Stream::Plain(tcp), taken));
        }
        let failed = |source| DialError::Tls { host: host.to_owned(), source };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
        let shake =
            TlsConnector::from(Arc::clone(if guarded.is_some() { &self.tls } else { &self.link_tls }))
                .connect(name, tcp);
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake).await;
        let stream = shaken.map_err(|_| DialError::TimeOut(host.to_owned()))?.map_err(failed)?;
        Ok((Stream::Tls(Box::new(stream)), taken))
    }
}

/// Says what may be done about a certificate that is not trusted.
fn mend(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "; if the certificate is of an authority of your own, name it with EXTRA_CA_FILE"
        }
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. }
            | rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. },
        )) => "; renew the certificate, or set this machine's clock",
        Some(_) | None => "",
    }
}

/// Resolves `host` and dials its addresses one after another, those that `check` allows.
async fn dial(
    host: &str,
    port: u16,
    check: impl Fn(IpAddr) -> Result<(), Forbidden>,
) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress(host.to_owned());
    for addr in resolve(host, port).await? {
        if let Err(forbidden) = check(addr.ip()) {
            last = forbidden.into();
            continue;
        }
        let tried = tokio::time::timeout(TCP_TIMEOUT, TcpStream::connect(addr)).await;
        match tried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => {
                tune(&tcp);
                return Ok(tcp);
            }
            Err(source) => last = DialError::Tcp { addr, source },
        }
    }
    Err(last)
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let looked = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let found = looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    found.map(Iterator::collect).map_err(|source| DialError::Resolve { host: host.to_owned(), source })
}

/// Sets what makes a connection tell the truth soon. Where a system refuses, it only tells later.
fn tune(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
    #[cfg(not(target_os = "linux"))]
    let _ = socket.set_send_buffer_size(UNSENT_BYTES as usize);
}

/// Reads how long a server wants to be left alone. A date is not read: a site's clock may be wrong by years.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Tells whether the server refused the token itself.
pub(crate) fn refuses_credentials(error: &DialError) -> bool {
    // 403 may come from a firewall or a proxy on the way: then it is tried again, slowly.
    #[expect(clippy::wildcard_enum_match_arm, reason = "one answer says so, and nothing else does")]
    match error {
        DialError::Answer { status: 401, body, .. } => {
            !has_code(body, ErrorCode::ClockSkew) && !has_code(body, ErrorCode::StaleNonce)
        }
        _ => false,
    }
}

/// Tells whether an error of the socket is only its end.
pub(crate) fn is_closed(error: &tungstenite::Error) -> bool {
    matches!(error, WsError::ConnectionClosed | WsError::AlreadyClosed)
}

/// A TCP connection that counts what the kernel took.
#[derive(Debug)]
pub(crate) struct Counted {
    tcp: TcpStream,
    taken: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = written {
            self.taken.fetch_add(*n as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
