//! The agent as a library, so that tests can run it in their own process.
//!
//! Deliberately absent: reading the environment and signals, which `main` does.

mod agent;
mod config;
mod dial;
mod enrol;
#[cfg(feature = "simulation")]
pub mod exposed;
mod keyfile;
mod link;
mod opening;
mod platform;
pub mod policy;
mod proxy;
mod server_url;
#[cfg(feature = "simulation")]
pub mod simulation;
mod tls;
mod upload;

use std::sync::Arc;

use hoist_wire::ClientId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use config::{Config, ConfigError, Settings, TokenSource};
pub use enrol::EnrolError;
pub use keyfile::{KeyError, OwnKey};
pub use link::LinkError;
pub use policy::{Policy, PolicyError, Roots, RootsError};
pub use proxy::Proxies;
pub use server_url::ServerUrl;
pub use tls::{ClientCert, TlsError};
pub use upload::address::AddressPolicy;

use dial::Dialer;
use keyfile::KeyFile;
use link::Links;
use upload::Site;
use upload::ground::Machine;
use upload::pace::Gate;

/// Events of the link that wait for the owner of the downloads.
const LINK_EVENTS: usize = 16;

/// Why an agent ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No other link would help.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no key to work with.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The process has no randomness to name itself.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A task that lives as long as the agent ended.
    #[error("the agent has a defect: {0}")]
    Defect(String),
}

/// Finds out who this agent is; enrols its key first where there is none.
async fn identity(
    config: &Config,
    dialer: &Dialer,
    shutdown: &CancellationToken,
) -> Result<(ClientId, Option<OwnKey>), AgentError> {
    let TokenSource::Key(path, token) = &config.token else {
        let defect = || AgentError::Defect("a token names no client".to_owned());
        return Ok((config.client_id.clone().ok_or_else(defect)?, None));
    };
    let file = KeyFile::read(path).map_err(EnrolError::from)?;
    let key = enrol::own_key(dialer, &config.server, file, token.as_ref(), shutdown).await?;
    let client_id = key.client_id.clone();
    if let Some(given) = config.named.as_deref().filter(|given| *given != client_id.as_str()) {
        let (given, token) = (given.to_owned(), client_id.to_string());
        return Err(LinkError::Config(ConfigError::ClientId { given, token }).into());
    }
    config.policy.enrolled(&key.storage_hosts);
    Ok((client_id, Some(key)))
}

/// Runs an agent until `shutdown` is cancelled; what it was sending is closed at once.
///
/// # Errors
/// [`AgentError`] where going on cannot help: refused credentials above all.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    let extra = config.extra_ca_file.as_deref();
    let tls = tls::client_config(extra, None)?;
    let link_tls = match &config.client_cert {
        Some(own) => tls::client_config(extra, Some(own))?,
        None => Arc::clone(&tls),
    };
    let dialer = Dialer { tls, link_tls, proxies: config.proxies.clone(), addresses: config.addresses };
    let random = getrandom::u64().map_err(|error| AgentError::Random(error.to_string()))?;
    let instance = hoist_wire::Instance::new(&format!("{random:016x}"), &platform::machine_id())
        .map_err(|error| AgentError::Defect(error.to_string()))?;
    let (client_id, key) = identity(&config, &dialer, &shutdown).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        %client_id,
        by = if key.is_some() { "key" } else { "token" },
        // What the server's `clone_suspects` name.
        instance = %instance,
        server = config.server.host,
        port = config.server.port,
        max_rate_bytes_per_sec = config.max_rate,
        may_leave = config.policy.describe(),
        "hoist-agent starts"
    );
    let ground = Arc::new(Machine { dialer: dialer.clone(), policy: config.policy.clone() });
    let site = Site {
        ground,
        max_parts_in_flight: config.max_parts_in_flight.into(),
        gate: Arc::new(Gate::new(config.max_rate)),
        on_change: config.on_change,
    };
    let (events, link_events) = mpsc::channel(LINK_EVENTS);
    let owner = agent::Agent::new(site, config.slots, link_events);
    let links = Links::new(config, client_id, key, dialer, instance, events, shutdown.clone());

    let mut tasks: JoinSet<Result<(), LinkError>> = JoinSet::new();
    tasks.spawn(links.run());
    tasks.spawn(async move {
        owner.run().await;
        Ok(())
    });
    // The first to end ends the agent: the link when it is told to stop or refused, the owner by a defect.
    match tasks.join_next().await {
        Some(Ok(Ok(()))) if shutdown.is_cancelled() => Ok(()),
        Some(Ok(Ok(()))) | None => Err(AgentError::Defect("a task ended".to_owned())),
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Err(error)) => Err(AgentError::Defect(error.to_string())),
    }
}
