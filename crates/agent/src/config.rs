//! The settings of an agent: what the command line and the environment say, and what follows from it.
//!
//! Deliberately absent: defaults for secrets and ids. A bad value stops the start and names itself.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::builder::{OsStringValueParser, StringValueParser, TypedValueParser};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use hoist_wire::claims::Claims;
use hoist_wire::duration::{parse_rate, parse_size};
use hoist_wire::limits::MAX_SLOTS;
use hoist_wire::switch::parse_switch;
use hoist_wire::{AGENT_AUDIENCE, ClientId, OnChange};
use secrecy::{ExposeSecret as _, SecretString};

use crate::keyfile::{KeyError, KeyFile};
use crate::platform;
use crate::policy::{self, Policy, PolicyError};
use crate::proxy::Proxies;
use crate::server_url::ServerUrl;
use crate::tls::ClientCert;
use crate::upload::address::AddressPolicy;

/// Brings files up on demand: dials the server and puts files straight into its bucket.
#[derive(Debug, Parser)]
#[command(name = "hoist-agent", version)]
pub struct Settings {
    /// Server to dial: ws:// or wss://; without a path /ws/connect is meant.
    #[arg(long, env = "SERVER_WS_URL", default_value = "ws://127.0.0.1:8080/ws/connect")]
    pub server_ws_url: String,
    /// Client id; must be the one in the token. May be left out.
    #[arg(long, env = "CLIENT_ID")]
    pub client_id: Option<String>,
    /// Token of this agent (`hoist token client ID`). Better given by environment or file than by argument.
    #[arg(long, env = "CLIENT_TOKEN", hide_env_values = true)]
    pub client_token: Option<SecretString>,
    /// File with the token; renewed tokens are written there.
    #[arg(long, env = "CLIENT_TOKEN_FILE", value_parser = path())]
    pub client_token_file: Option<PathBuf>,
    /// File with this machine's own key, made at enrolment; with it no token is needed.
    #[arg(long, env = "AGENT_KEY_FILE", value_parser = path())]
    pub agent_key_file: Option<PathBuf>,
    /// One-time token (`hoist token enroll ID`) with which the agent enrols a key of its own into AGENT_KEY_FILE.
    #[arg(long, env = "ENROLL_TOKEN", hide_env_values = true)]
    pub enroll_token: Option<SecretString>,
    /// The file that is sent when a request names none. It may leave also when it is below no root.
    #[arg(long, env = "FILE_PATH", value_parser = path())]
    pub file_path: Option<PathBuf>,
    /// Folder from which files may leave; repeat it, or separate several by ':' in the environment.
    #[arg(long = "root", env = "AGENT_ROOTS", value_parser = path(), value_delimiter = ':')]
    pub roots: Vec<PathBuf>,
    /// TOML file with more of the site's policy, read again on SIGHUP.
    #[arg(long = "policy", env = "POLICY_FILE", value_parser = path())]
    pub policy_file: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as hoist_agent=debug.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Downloads worked on at once, 1 to 16.
    #[arg(long, env = "AGENT_SLOTS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_SLOTS)))]
    pub slots: u8,
    /// Most parts of one download in flight at once, 1 to 16.
    #[arg(long, env = "MAX_PARTS_IN_FLIGHT", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub max_parts_in_flight: u8,
    /// Most bytes a second that all downloads together may send, such as 500KB or 2Mbit; at least 1KiB.
    #[arg(long, env = "MAX_RATE", value_parser = parse_rate)]
    pub max_rate: Option<u64>,
    /// Largest file that may leave, such as 10GiB.
    #[arg(long, env = "MAX_FILE_SIZE", value_parser = max_file_size)]
    pub max_file_size: Option<u64>,
    /// What to do when a file changes while it is read, where the request does not say: restart, fail, or prefix.
    #[arg(long, env = "ON_CHANGE", value_name = "WHAT")]
    pub on_change: Option<OnChange>,
    /// More certificate authorities to trust (PEM), beside the system's.
    #[arg(long, env = "EXTRA_CA_FILE", value_parser = path())]
    pub extra_ca_file: Option<PathBuf>,
    /// Certificate (PEM) that the agent shows to the server, or to a proxy before it.
    #[arg(long, env = "CLIENT_CERT_FILE", value_parser = path())]
    pub client_cert_file: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, env = "CLIENT_KEY_FILE", value_parser = path())]
    pub client_key_file: Option<PathBuf>,
    /// Allow ws:// to a server that is not on this machine: anyone on the way can read the token and act as this site.
    #[arg(long, env = "ALLOW_PLAIN_SERVER", value_parser = switch("ALLOW_PLAIN_SERVER"))]
    pub allow_plain_server: bool,
    /// Allow storage over plain http that is not on this machine.
    #[arg(long, env = "ALLOW_PLAIN_STORAGE", value_parser = switch("ALLOW_PLAIN_STORAGE"))]
    pub allow_plain_storage: bool,
    /// Allow storage at private addresses.
    #[arg(long, env = "ALLOW_PRIVATE_STORAGE", value_parser = switch("ALLOW_PRIVATE_STORAGE"))]
    pub allow_private_storage: bool,
}

/// Gives the command line, for which an empty variable is as good as none: compose files cannot unset one.
fn command() -> clap::Command {
    Settings::command().mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { arg.env(None::<&'static str>) } else { arg }
    })
}

/// Reads the switch that the setting `name` is.
fn switch(name: &'static str) -> impl TypedValueParser<Value = bool> {
    StringValueParser::new().try_map(move |text| parse_switch(name, &text))
}

/// Reads the size of the largest file.
fn max_file_size(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => {
            Err(String::from("no file could leave: give a size of at least 1, or leave it out for no limit"))
        }
        other => other.map_err(|error| error.to_string()),
    }
}

/// Reads a path; an empty one is as none, because that is how compose files leave a setting out.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL to dial.
    #[error("SERVER_WS_URL {url:?} is not valid: {why}; write ws://host:8080 or wss://host")]
    ServerUrl {
        /// The value.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token would go over the network for all to read.
    #[error(
        "SERVER_WS_URL {0:?} is plain ws:// to another machine, where anyone on the way could read the token: use wss://, or \
        set ALLOW_PLAIN_SERVER=true in a network that is yours alone"
    )]
    PlainServer(String),
    /// A key and a token, of which one would be idle.
    #[error(
        "AGENT_KEY_FILE and CLIENT_TOKEN (or CLIENT_TOKEN_FILE) are both set: a client with a key has no token; unset one"
    )]
    KeyAndToken,
    /// A one-time token with nowhere to keep the key.
    #[error(
        "ENROLL_TOKEN is set without AGENT_KEY_FILE: name a file for the key, in a folder that this user may write"
    )]
    NoKeyFile,
    /// Half of a certificate.
    #[error("{set} is set without {missing}: set both, or none")]
    HalfCert {
        /// What is set.
        set: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// No token, or two.
    #[error(
        "no way in: set AGENT_KEY_FILE and once ENROLL_TOKEN (`hoist token enroll ID`), or CLIENT_TOKEN or CLIENT_TOKEN_FILE \
        (`hoist token client ID`)"
    )]
    NoToken,
    /// The token file cannot be read.
    #[error("CLIENT_TOKEN_FILE {path:?} cannot be read: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not a token of an agent.
    #[error(
        "CLIENT_TOKEN (or the file CLIENT_TOKEN_FILE) is not a token of an agent: {0}; make one with `hoist token client ID`"
    )]
    Token(&'static str),
    /// The id and the token disagree.
    #[error(
        "CLIENT_ID is {given:?}, and CLIENT_TOKEN belongs to {token:?}: leave CLIENT_ID out or give the right token"
    )]
    ClientId {
        /// `CLIENT_ID`.
        given: String,
        /// The token's `sub`.
        token: String,
    },
    /// The agent's own key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What may leave.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Where the token comes from: read again before each link, so that a renewed or replaced one is used.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// Given once.
    Fixed(SecretString),
    /// Read from a file, and renewed there.
    File(PathBuf),
    /// None: a key of the agent's own, in this file, is proved; it is enrolled first with a one-time token.
    Key(PathBuf, Option<SecretString>),
}

/// Everything that an agent must know to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server.
    pub server: ServerUrl,
    /// The client that the token belongs to; none where a key says who it is.
    pub client_id: Option<ClientId>,
    /// `CLIENT_ID`, which a key must agree with.
    pub named: Option<String>,
    /// The token.
    pub token: TokenSource,
    /// What may leave.
    pub policy: Policy,
    /// Downloads at once.
    pub slots: u8,
    /// Most parts of one download in flight.
    pub max_parts_in_flight: u8,
    /// Most bytes a second of all downloads together.
    pub max_rate: Option<u64>,
    /// What to do when a file changes, where the request does not say.
    pub on_change: Option<OnChange>,
    /// More certificate authorities to trust.
    pub extra_ca_file: Option<PathBuf>,
    /// The certificate that it shows to the server.
    pub client_cert: Option<ClientCert>,
    /// Where it may send.
    pub addresses: AddressPolicy,
    /// The way out.
    pub proxies: Proxies,
}

impl Settings {
    /// Reads arguments and environment; ends the program with a usage error where they cannot be understood.
    pub fn read() -> Self {
        let read = Self::from_arg_matches(&command().get_matches());
        read.unwrap_or_else(|error| error.exit())
    }

    /// Turns settings into a configuration, or says which one is wrong.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its mend.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let server = ServerUrl::parse(&self.server_ws_url)?;
        if !server.tls && !server.is_loopback() && !self.allow_plain_server {
            return Err(ConfigError::PlainServer(server.uri.to_string()));
        }
        let filled = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let half = |set, missing| ConfigError::HalfCert { set, missing };
        let client_cert = match (filled(self.client_cert_file), filled(self.client_key_file)) {
            (Some(cert_file), Some(key_file)) => Some(ClientCert { cert_file, key_file }),
            (Some(_), None) => return Err(half("CLIENT_CERT_FILE", "CLIENT_KEY_FILE")),
            (None, Some(_)) => return Err(half("CLIENT_KEY_FILE", "CLIENT_CERT_FILE")),
            (None, None) => None,
        };
        let key = filled(self.agent_key_file);
        let enroll = self.enroll_token.filter(|token| !token.expose_secret().trim().is_empty());
        let has_token =
            self.client_token.as_ref().is_some_and(|token| !token.expose_secret().trim().is_empty());
        if key.is_some() && (has_token || filled(self.client_token_file.clone()).is_some()) {
            return Err(ConfigError::KeyAndToken);
        }
        if key.is_none() && enroll.is_some() {
            return Err(ConfigError::NoKeyFile);
        }
        let token = match (filled(self.client_token_file), self.client_token) {
            _ if key.is_some() => TokenSource::Key(key.unwrap_or_default(), enroll),
            // With both, the token given is what the file starts from when it does not exist yet.
            (Some(path), Some(token)) if !path.exists() && !token.expose_secret().is_empty() => {
                crate::platform::write_private(&path, token.expose_secret())
                    .map_err(|source| ConfigError::TokenFile { path: path.clone(), source })?;
                TokenSource::File(path)
            }
            (Some(path), _) => TokenSource::File(path),
            (None, Some(token)) if !token.expose_secret().trim().is_empty() => TokenSource::Fixed(token),
            (None, _) => return Err(ConfigError::NoToken),
        };
        let named = self.client_id.filter(|given| !given.is_empty());
        let client_id = match &token {
            TokenSource::Key(path, enroll) => {
                // What is wrong with the file shows now.
                let known = KeyFile::read(path)?.identity(&server.authority())?;
                if known.is_none() && enroll.is_none() {
                    return Err(KeyError::NotEnrolled(path.clone()).into());
                }
                known.map(|key| key.client_id.clone())
            }
            TokenSource::Fixed(_) | TokenSource::File(_) => Some(client_of(&token.read()?)?),
        };
        if let (Some(given), Some(client)) = (&named, &client_id)
            && given != client.as_str()
        {
            return Err(ConfigError::ClientId { given: given.clone(), token: client.to_string() });
        }
        let roots: Vec<PathBuf> =
            self.roots.into_iter().filter(|root| !root.as_os_str().is_empty()).collect();
        let file_path = filled(self.file_path);
        let addresses = AddressPolicy {
            allow_plain: self.allow_plain_storage,
            allow_private: self.allow_private_storage,
            server_is_loopback: server.is_loopback(),
        };
        Ok(Config {
            server,
            client_id,
            named,
            token,
            policy: Policy::read(policy::Source {
                file: filled(self.policy_file),
                roots,
                default_file: file_path,
                max_file_bytes: self.max_file_size,
            })?,
            slots: self.slots,
            max_parts_in_flight: self.max_parts_in_flight,
            max_rate: self.max_rate,
            on_change: self.on_change,
            extra_ca_file: filled(self.extra_ca_file),
            client_cert,
            addresses,
            proxies: Proxies::from_env(),
        })
    }
}

impl TokenSource {
    /// Reads the token as it is now.
    ///
    /// # Errors
    /// [`ConfigError::TokenFile`] where the file cannot be read.
    pub fn read(&self) -> Result<SecretString, ConfigError> {
        match self {
            Self::Fixed(token) => Ok(SecretString::from(token.expose_secret().trim())),
            Self::File(path) => read_token(path),
            Self::Key(..) => Err(ConfigError::NoToken),
        }
    }
}

fn read_token(path: &Path) -> Result<SecretString, ConfigError> {
    let failed = |source| ConfigError::TokenFile { path: path.to_owned(), source };
    let text = platform::read_own(path, platform::MAX_SECRET_BYTES).map_err(failed)?;
    Ok(SecretString::from(text.trim()))
}

/// Reads whose token it is. Nothing is verified: the server does that, and only it can.
pub(crate) fn client_of(token: &SecretString) -> Result<ClientId, ConfigError> {
    let mut pieces = token.expose_secret().split('.');
    let (Some(_), Some(body), Some(_), None) = (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(ConfigError::Token("it is no JWT"));
    };
    let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| ConfigError::Token("it is no JWT"))?;
    let claims: Claims =
        serde_json::from_slice(&json).map_err(|_| ConfigError::Token("its claims are not hoist's"))?;
    if claims.aud != AGENT_AUDIENCE {
        return Err(ConfigError::Token("it is for somebody else (its aud is not hoist-agent)"));
    }
    claims.sub.parse().map_err(|_| ConfigError::Token("its sub is no client id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(sub: &str, aud: &str) -> String {
        let body = serde_json::json!({"sub": sub, "aud": aud, "exp": 2, "iat": 1, "jti": "j"});
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(body.to_string()))
    }

    fn settings(more: &[&str]) -> Result<Config, ConfigError> {
        let args = ["hoist-agent", "--root", "/tmp"].iter().chain(more);
        Settings::try_parse_from(args).unwrap().resolve()
    }

    #[test]
    fn the_client_comes_from_the_token() {
        let good = token("site-1", AGENT_AUDIENCE);
        assert_eq!(settings(&["--client-token", &good]).unwrap().client_id.unwrap().as_str(), "site-1");
        assert!(settings(&["--client-token", &good, "--client-id", "site-1"]).is_ok());
        let error = settings(&["--client-token", &good, "--client-id", "site-2"]).unwrap_err().to_string();
        assert!(error.contains("site-2") && error.contains("site-1"), "{error}");
    }

    #[test]
    fn a_token_is_not_sent_for_all_to_read() {
        let good = token("site-1", AGENT_AUDIENCE);
        let to = |url: &str, more: &[&str]| {
            let args = ["--client-token", good.as_str(), "--server-ws-url", url];
            settings(&args.iter().chain(more).copied().collect::<Vec<_>>())
        };
        for plain in ["ws://hoist.example.com", "ws://10.0.0.1:8080", "ws://localhost.example.com"] {
            let error = to(plain, &[]).unwrap_err().to_string();
            assert!(error.contains(plain) && error.contains("ALLOW_PLAIN_SERVER"), "{error}");
            assert!(to(plain, &["--allow-plain-server"]).is_ok());
        }
        for good in ["wss://hoist.example.com", "ws://127.0.0.1:8080", "ws://localhost:1", "ws://[::1]:1"] {
            assert!(to(good, &[]).is_ok(), "{good}");
        }
        let error = to("wss://h", &["--client-cert-file", "/c"]).unwrap_err().to_string();
        assert!(error.contains("CLIENT_KEY_FILE"), "{error}");
    }

    #[test]
    fn bad_tokens_name_the_setting_and_not_the_token() {
        for bad in ["nonsense", "a.b.c", &token("site-1", "hoist-api"), &token("a/b", AGENT_AUDIENCE)] {
            let error = settings(&["--client-token", bad]).unwrap_err().to_string();
            assert!(error.contains("CLIENT_TOKEN") && !error.contains(bad), "{error}");
        }
        assert!(matches!(settings(&[]), Err(ConfigError::NoToken)));
        assert!(matches!(
            settings(&["--client-token-file", "/absent/x"]),
            Err(ConfigError::TokenFile { .. })
        ));
        let shown = format!("{:?}", settings(&["--client-token", &token("s", AGENT_AUDIENCE)]).unwrap());
        assert!(!shown.contains("e30."), "{shown}");
    }

    #[test]
    fn bad_values_stop_the_start() {
        for bad in [
            ["--slots", "0"],
            ["--slots", "17"],
            ["--max-parts-in-flight", "17"],
            ["--max-file-size", "big"],
            ["--max-rate", "fast"],
            ["--max-rate", "0"],
            ["--max-rate", "1KB"],
            ["--max-file-size", "0"],
        ] {
            let args = ["hoist-agent", "--root", "/tmp"].iter().chain(&bad);
            assert!(Settings::try_parse_from(args).is_err(), "{bad:?}");
        }
        let good = token("site-1", AGENT_AUDIENCE);
        let nothing = Settings::try_parse_from(["hoist-agent", "--client-token", &good]).unwrap();
        assert!(matches!(
            nothing.resolve(),
            Err(ConfigError::Policy(PolicyError::Roots(crate::RootsError::Nothing)))
        ));
        let absent = settings(&["--client-token", &good, "--root", "/absent/root"]).unwrap_err();
        assert!(absent.to_string().contains("/absent/root"));
    }
}
