//! Where the server is.

use hoist_wire::LINK_PATH;
use http::Uri;

use crate::config::ConfigError;
use crate::proxy::is_loopback;
use crate::upload::address;

/// The server as it is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Over TLS.
    pub tls: bool,
    /// Host without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The whole URL, with its path.
    pub uri: Uri,
}

impl ServerUrl {
    /// Reads a URL; one without a path gets [`LINK_PATH`].
    ///
    /// # Errors
    /// [`ConfigError::ServerUrl`] for anything but `ws://` and `wss://` with a host.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = |why| ConfigError::ServerUrl { url: text.chars().take(256).collect(), why };
        let uri: Uri = text.trim().parse().map_err(|_| bad("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            Some(_) | None => return Err(bad("it starts with neither ws:// nor wss://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            // It would stand in logs; and the token belongs into a header.
            return Err(ConfigError::ServerUrl { url: "…".to_owned(), why: "it carries a user name" });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = address::port(authority, tls).ok_or_else(|| bad("its port is no number"))?;
        let path = match uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
            None | Some("" | "/") => LINK_PATH,
            Some(path) => path,
        };
        let scheme = if tls { "wss" } else { "ws" };
        let uri = format!("{scheme}://{authority}{path}").parse().map_err(|_| bad("it is no URL"))?;
        Ok(Self { tls, host, port, uri })
    }

    /// Gives host and port, as a key is bound to them.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Tells whether the server is on this very machine, by its name.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_link_path() {
        for (text, uri, port) in [
            ("ws://h:8080", "ws://h:8080/ws/connect", 8080),
            ("wss://h/", "wss://h/ws/connect", 443),
            ("ws://h/other", "ws://h/other", 80),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((url.uri.to_string().as_str(), url.port), (uri, port));
        }
        for bad in ["", "h:8080", "http://h", "ws://", "ws://u:p@h", "ws:h", "ws://h:x", "ws://h:99999"] {
            assert!(ServerUrl::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ServerUrl::parse("ws://[::1]:1").unwrap().is_loopback());
        assert!(!ServerUrl::parse("ws://10.0.0.1").unwrap().is_loopback());
    }
}
