//! The way out through a proxy: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, and CONNECT.
//!
//! Everything goes through CONNECT, plain http too, so that what is said to storage is said to nobody else. Deliberately
//! absent: proxies that are themselves reached over TLS or SOCKS; they are refused by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest answer to CONNECT, in bytes.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// How long a proxy may take to open the way.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Which proxy stands before which host.
#[derive(Clone)]
pub struct Proxies {
    matcher: Arc<Matcher>,
    /// This machine is reached without a proxy, whatever `NO_PROXY` says.
    spares_loopback: bool,
}

/// A proxy to go through.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    auth: Option<HeaderValue>,
}

/// Why the way out is not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("proxy {0:?} is not supported: use one of the form http://host:port")]
    Unsupported(String),
    #[error("proxy did not open the way within {} s", CONNECT_TIMEOUT.as_secs())]
    TimeOut,
    #[error("proxy answered {0} to CONNECT: check HTTPS_PROXY and what the proxy allows")]
    Refused(u16),
    #[error("proxy gave no answer of HTTP to CONNECT")]
    Garbage,
    #[error("proxy hung up: {0}")]
    Io(#[from] std::io::Error),
}

impl Proxies {
    /// Takes the environment's word.
    pub fn from_env() -> Self {
        Self { matcher: Arc::new(Matcher::from_env()), spares_loopback: true }
    }

    /// Sends everything but `except` through `proxy`; for tests.
    pub fn fixed(proxy: &str, except: &str) -> Self {
        let matcher = Matcher::builder().all(proxy.to_owned()).no(except.to_owned()).build();
        Self { matcher: Arc::new(matcher), spares_loopback: false }
    }

    /// Uses none.
    pub fn none() -> Self {
        Self { matcher: Arc::new(Matcher::builder().build()), spares_loopback: false }
    }

    /// Gives the proxy that stands before a host, if any.
    pub(crate) fn before(&self, tls: bool, host: &str, port: u16) -> Result<Option<Proxy>, ProxyError> {
        if self.spares_loopback && is_loopback(host) {
            return Ok(None);
        }
        let scheme = if tls { "https" } else { "http" };
        let Ok(target) = format!("{scheme}://{}", authority(host, port)).parse::<Uri>() else {
            return Ok(None);
        };
        let Some(found) = self.matcher.intercept(&target) else { return Ok(None) };
        let uri = found.uri();
        let shown = || format!("{}://{}", uri.scheme_str().unwrap_or(""), uri.host().unwrap_or(""));
        if uri.scheme_str() != Some("http") {
            return Err(ProxyError::Unsupported(shown()));
        }
        let host = uri.host().ok_or_else(|| ProxyError::Unsupported(shown()))?;
        Ok(Some(Proxy {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(80),
            auth: found.basic_auth().cloned(),
        }))
    }
}

impl Proxy {
    /// Asks the proxy at the other end of `stream` for a way to `host`.
    ///
    /// # Errors
    /// [`ProxyError`] unless it says 2xx.
    pub(crate) async fn open<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let work = self.connect(stream, host, port);
        tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(|_| ProxyError::TimeOut)?
    }

    async fn connect<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let to = authority(host, port);
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
        if let Some(auth) = &self.auth {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(auth.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;

        let mut answer = Vec::with_capacity(256);
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_ANSWER_BYTES {
                return Err(ProxyError::Garbage);
            }
            // One byte at a time, so that nothing behind the answer is swallowed; it is short and comes once.
            answer.push(stream.read_u8().await?);
        }
        match status(&answer) {
            Some(200..=299) => Ok(()),
            Some(other) => Err(ProxyError::Refused(other)),
            None => Err(ProxyError::Garbage),
        }
    }
}

/// Tells whether a name or address means this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Reads the status of `HTTP/1.1 200 …`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\r').next()?).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// Joins host and port, with brackets around an IPv6 address.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_and_networks() {
        let proxies = Proxies::fixed("http://user:pass@proxy.example:3128", "direct.example,10.0.0.0/8");
        let found = proxies.before(true, "bucket.example", 443).unwrap().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("proxy.example", 3128));
        assert!(!format!("{found:?}").contains("pass"));
        for direct in ["direct.example", "sub.direct.example", "10.1.2.3"] {
            assert!(proxies.before(true, direct, 443).unwrap().is_none(), "{direct}");
        }
        assert!(proxies.before(false, "::1", 80).unwrap().is_some());
        assert!(Proxies::none().before(true, "bucket.example", 443).unwrap().is_none());
        assert!(Proxies::fixed("socks5://proxy.example", "").before(true, "h", 1).is_err());
        for near in ["localhost", "127.0.0.1", "::1"] {
            assert!(Proxies::from_env().before(true, near, 443).unwrap().is_none(), "{near}");
        }
    }

    async fn ask(answer: &[u8]) -> (Result<(), ProxyError>, String) {
        let (mut near, mut far) = tokio::io::duplex(16 * 1024);
        far.write_all(answer).await.unwrap();
        let proxy = Proxies::fixed("http://u:p@proxy:1", "").before(true, "h", 443).unwrap().unwrap();
        let result = proxy.open(&mut near, "h", 443).await;
        drop(near);
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        (result, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn connect_is_asked_with_credentials_and_read_to_its_end() {
        let (result, asked) = ask(b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n").await;
        assert!(result.is_ok());
        assert_eq!(asked, "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\nproxy-authorization: Basic dTpw\r\n\r\n");
        assert!(matches!(ask(b"HTTP/1.0 407 No\r\n\r\n").await.0, Err(ProxyError::Refused(407))));
        assert!(matches!(ask(b"SSH-2.0-x\r\n\r\n").await.0, Err(ProxyError::Garbage)));
        assert!(matches!(ask(&[b'x'; 9000]).await.0, Err(ProxyError::Garbage)));
        assert!(matches!(ask(b"").await.0, Err(ProxyError::TimeOut)));
    }
}
