//! The embedded bucket: S3 on a directory, for trials and tests.
//!
//! It speaks S3 as far as hoist needs it (multipart uploads above all), refuses what S3 refuses, and loses
//! nothing that it confirmed, whenever it is killed. Deliberately not here: TLS, users, versions, copies,
//! lifecycle rules, encryption. The S3 protocol and its signatures are the crate `s3s`.

mod bucket;
mod digest;
mod disk;
mod error;
mod gate;
mod intake;
mod keys;
mod lent;
mod listing;
mod names;
mod reading;
mod records;
mod s3;
mod serve;
mod store;
mod upload;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use s3s::service::S3ServiceBuilder;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::keys::{Keys, Signers};
use crate::store::Store;

pub use crate::keys::TemporaryKey;

/// How long [`Depot::stop`] waits for requests in hand.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The file that remembers the port.
const PORT_FILE: &str = "port";

/// What a depot needs to know.
#[derive(Debug, Clone)]
pub struct DepotConfig {
    /// Where buckets are kept; created if need be. One depot at a time.
    pub dir: PathBuf,
    /// Where to listen. Port 0 takes the port of the last time, or a free one.
    pub bind: SocketAddr,
    /// The one access key that it always knows.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
    /// The region for which requests must be signed.
    pub region: String,
}

/// Why a depot did not start.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// A file or folder could not be read or written.
    #[error("cannot use {}: check its rights and what is in it", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another depot works there.
    #[error("another depot holds {}: stop it, or choose another directory", path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: choose another address or port")]
    Listen {
        /// Which one.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A running depot. Dropped, it stops at once; [`Depot::stop`] lets requests in hand end.
#[derive(Debug)]
pub struct Depot {
    addr: SocketAddr,
    keys: Arc<Keys>,
    store: Arc<Store>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Depot {
    /// Opens the directory, mends what a crash left, and starts to listen.
    ///
    /// # Errors
    /// A directory that cannot be used or is in use, or an address that cannot be listened on.
    pub async fn start(config: DepotConfig) -> Result<Self, DepotError> {
        let DepotConfig { dir, bind, access_key, secret_key, region } = config;
        let opened = dir.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&opened)).await.map_err(|panic| {
            DepotError::Directory { path: dir.clone(), source: io::Error::other(panic) }
        })??;
        let store = Arc::new(store);
        let (listener, addr) = listen(&dir, bind).await?;
        let operations = s3::Operations { store: Arc::clone(&store), region: region.clone() };
        let mut builder = S3ServiceBuilder::new(operations);
        let keys = Arc::new(Keys::new(access_key, secret_key));
        builder.set_auth(Signers(Arc::clone(&keys)));
        let service = serve::Service { s3: builder.build(), region: region.into(), keys: Arc::clone(&keys) };
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(serve::accept(listener, service, stop.clone()));
        tracing::info!(%addr, "the depot listens");
        Ok(Self { addr, keys, store, stop, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The endpoint for S3 clients on this machine, to be used with path-style addresses.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        let ip = match self.addr.ip() {
            ip if !ip.is_unspecified() => ip,
            std::net::IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        format!("http://{}", SocketAddr::new(ip, self.addr.port()))
    }

    /// Takes another key for a while, as a security token service would hand it out; for tests of whoever signs. It is
    /// kept in memory alone.
    pub fn lend(&self, key: TemporaryKey) {
        self.keys.lend(key);
    }

    /// Stops: no new connections, requests in hand get five seconds, then all is dropped.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
            tracing::warn!("the depot's requests did not end in time: they are dropped");
        }
        self.tasks.shutdown().await;
        self.store.work.close();
        // File work cannot be aborted; when it is over, the directory is free.
        let _ = tokio::time::timeout(STOP_GRACE, self.store.work.wait()).await;
    }
}

/// Listens on `bind`; with port 0 on the remembered port, if it is free.
async fn listen(dir: &Path, bind: SocketAddr) -> Result<(TcpListener, SocketAddr), DepotError> {
    let file = dir.join(PORT_FILE);
    let remembered = std::fs::read_to_string(&file).ok().and_then(|port| port.trim().parse().ok());
    let before = match remembered {
        Some(port) if bind.port() == 0 => TcpListener::bind(SocketAddr::new(bind.ip(), port)).await.ok(),
        Some(_) | None => None,
    };
    let listen = |source| DepotError::Listen { addr: bind, source };
    let listener = match before {
        Some(listener) => listener,
        None => TcpListener::bind(bind).await.map_err(listen)?,
    };
    let addr = listener.local_addr().map_err(listen)?;
    std::fs::write(&file, addr.port().to_string())
        .map_err(|source| DepotError::Directory { path: file, source })?;
    Ok((listener, addr))
}
