//! The server as a whole: everything is made here, in order, and ended in the opposite order.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hoist_depot::{Depot, DepotConfig, DepotError};
use hoist_engine::backoff::Backoff;
use hoist_wire::ChecksumKind;
use hoist_wire::to_agent::{Goodbye, GoodbyeReason};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Ending, retain};
use crate::bucket::{BadEndpoint, Bucket, BucketError, Check, S3Bucket, StaticCredentials, Verdict};
use crate::census::Census;
use crate::clock::{RealWorld, World, chance, random_id};
use crate::config::Config;
use crate::downloads::{Downloads, Shop, sweep};
use crate::http::{Pages, Readiness, Strangers, router};
use crate::links::{LinkContext, Links, chain, comeback, watch_revocations};
use crate::nonces::Nonces;
use crate::proofs::Proofs;
use crate::serve::tls::TlsError;
use crate::serve::{Certificates, Crowd, Headroom, Reception, serve};
use crate::store::{SqliteStore, Store, StoreError};
use crate::tokens::Tokens;

/// How long links and drivers get to end when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// DATA_DIR cannot be used.
    #[error("DATA_DIR {} cannot be used: check that it can be made and written", path.display())]
    DataDir {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another server works there.
    #[error(
        "DATA_DIR {} is in use by another server: stop that one, or give this one a DATA_DIR (and DATABASE_URL) of its own",
        path.display()
    )]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The record cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The embedded bucket does not start.
    #[error("the embedded bucket does not start")]
    Depot(#[from] DepotError),
    /// TLS cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An endpoint cannot be used.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The bucket will not do.
    #[error("the bucket cannot be used: {0}")]
    Bucket(#[from] BucketError),
    /// The address is taken, or not ours.
    #[error(
        "cannot listen on {address}: set SERVER_HOST and SERVER_PORT to an address of this machine that is free"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The parts of a server that run by themselves. One that should run for ever gives its name when it ends.
type Tasks = JoinSet<Option<&'static str>>;

/// Runs a part that ends only with the server.
fn lasting(tasks: &mut Tasks, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        part.await;
        Some(name)
    });
}

/// Runs a part that ends when it has done its work.
fn passing(tasks: &mut Tasks, part: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        part.await;
        None
    });
}

/// A server that listens.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    scheme: &'static str,
    links: Arc<Links>,
    downloads: Arc<Downloads>,
    readiness: Readiness,
    world: Arc<dyn World>,
    depot: Option<Depot>,
    stop: CancellationToken,
    tasks: Tasks,
    trail_ends: Ending,
    /// Held until the process ends: DATA_DIR is this server's alone.
    _lock: File,
}

impl App {
    /// Starts a server: it listens when this returns.
    ///
    /// # Errors
    /// [`StartError`]. A bucket that cannot be reached is none: the server takes requests, and `/ready` says why not.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let world: Arc<dyn World> = Arc::new(RealWorld);
        make_dir(&config.data_dir)?;
        let lock = lock_dir(&config.data_dir)?;
        let certificates = config.tls.clone().map(Certificates::read).transpose()?.map(Arc::new);
        let headroom = Arc::new(Headroom::of_process(config.max_memory));
        let crowd = Crowd::new(headroom, config.max_strangers_per_address, config.max_links_per_address);
        let depot = if config.trial { Some(start_trial(&mut config, &*world).await?) } else { None };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.database).await?);
        store.close_all_links(world.now()).await?;
        let bucket: Arc<dyn Bucket> = Arc::new(S3Bucket::connect(config.s3.clone()).await?);
        let readiness = Readiness::default();
        let (found, checksum) = watch::channel(None);
        let probing = Probing {
            bucket: Arc::clone(&bucket),
            store: Arc::clone(&store),
            readiness: readiness.clone(),
            found,
        };
        let probing = probing.first(config.create_bucket, &config).await?;
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stop = CancellationToken::new();
        let links = Arc::<Links>::default();
        let shop = Shop {
            store: Arc::clone(&store),
            bucket: Arc::clone(&bucket),
            checksum,
            links: Arc::clone(&links),
            world: Arc::clone(&world),
            key_prefix: config.s3.prefix.clone(),
            part_size_bytes: config.part_size_bytes,
            grant_ttl: config.grant_ttl,
        };
        let census = Census {
            bucket: Arc::clone(&bucket),
            store: Arc::clone(&store),
            readiness: readiness.clone(),
            answered: shop.checksum.clone(),
        };
        let downloads = Downloads::new(shop, stop.clone());
        let tokens = Arc::new(Tokens::new(&config.jwt_secrets, Arc::clone(&world)));
        let server_id = store.server_id(&random_id(&*world)).await?;
        let nonces = Nonces::new(&config.jwt_secrets, Arc::clone(&world));
        let link = Arc::new(LinkContext {
            links: Arc::clone(&links),
            downloads: Arc::clone(&downloads),
            store: Arc::clone(&store),
            tokens: Arc::clone(&tokens),
            token_ttl: config.client_token_ttl,
            world: Arc::clone(&world),
        });
        let (audit, trail) = Audit::open(Arc::clone(&store), Arc::clone(&world), config.audit_stdout).await?;
        let node = audit.node().to_owned();
        let kept = (Arc::clone(&store), config.retention);
        let pages = Arc::new(Pages {
            link: Arc::clone(&link),
            downloads: Arc::clone(&downloads),
            store,
            bucket,
            tokens,
            proofs: Proofs::new(server_id, nonces, Arc::clone(&world)),
            strangers: Strangers::default(),
            agents_are_certified: config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()),
            audit: Arc::new(audit),
            world: Arc::clone(&world),
            readiness: readiness.clone(),
            trial_port: config.trial.then_some(address.port()),
            client_token_ttl: config.client_token_ttl,
            grant_ttl: config.grant_ttl,
            max_open_per_client: config.max_open_per_client,
        });
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let mut tasks = Tasks::new();
        let reception = Reception {
            router: router(pages),
            certificates: certificates.clone(),
            crowd: Arc::clone(&crowd),
            trusted: config.trusted_proxies.clone(),
            stop: stop.clone(),
        };
        lasting(&mut tasks, "the listener", serve(listener, reception));
        lasting(&mut tasks, "the sweeper", sweep(Arc::clone(&downloads)));
        lasting(&mut tasks, "the look for revoked clients", watch_revocations(link, stop.clone()));
        let watched = stop.clone();
        lasting(&mut tasks, "the look at files and memory", async move { crowd.watch(watched).await });
        if let Some(certificates) = certificates {
            lasting(&mut tasks, "the look at the certificate", certificates.watch(stop.clone()));
        }
        let trail_ends = trail.ending();
        lasting(&mut tasks, "the audit trail", trail.run(Arc::clone(&world)));
        let ((store, retention), world_too) = (kept, Arc::clone(&world));
        lasting(&mut tasks, "the retention", retain(store, world_too, node, retention, stop.clone()));
        passing(&mut tasks, census.take(stop.clone()));
        if let Some(probing) = probing {
            let (create, world) = (config.create_bucket, Arc::clone(&world));
            passing(&mut tasks, probing.until_answered(create, config, stop.clone(), world));
        }
        Ok(Self {
            address,
            scheme,
            links,
            downloads,
            readiness,
            world,
            depot,
            stop,
            tasks,
            trail_ends,
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Waits until a part of the server ends that should run for ever.
    pub async fn failed(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                // It was to end some time.
                Some(Ok(None)) => {}
                Some(Ok(Some(part))) => return format!("{part} ended by itself"),
                None => return String::from("every part of the server ended by itself"),
                Some(Err(panic)) => return format!("a part of the server failed: {panic}"),
            }
        }
    }

    /// Stops: not ready, a goodbye to each agent, time to end, then the rest.
    pub async fn stop(mut self) {
        self.readiness.stop();
        let world = Arc::clone(&self.world);
        self.links.close_all(|nth, of| {
            let wait = comeback(nth, of, chance(&*world));
            Goodbye {
                reason: GoodbyeReason::Stopping,
                message: String::from("the server stops"),
                reconnect_after_ms: u64::try_from(wait.as_millis()).unwrap_or(0),
            }
        });
        let gone = async {
            while self.links.count() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(GRACE, gone).await;
        self.stop.cancel();
        if timeout(GRACE, self.downloads.drained()).await.is_err() {
            tracing::warn!("some downloads did not come to rest in time: they go on after the next start");
        }
        if timeout(GRACE, async { while self.tasks.join_next().await.is_some() {} }).await.is_err() {
            // Some connection hangs, and its page could note something: the trail ends all the same, with its head.
            let _ = timeout(GRACE, self.trail_ends.end()).await;
        }
        self.tasks.shutdown().await;
        if let Some(depot) = self.depot {
            depot.stop().await;
        }
    }
}

/// Finding out what the bucket can do.
struct Probing {
    bucket: Arc<dyn Bucket>,
    store: Arc<dyn Store>,
    readiness: Readiness,
    found: watch::Sender<Option<ChecksumKind>>,
}

impl Probing {
    /// Probes once. A bucket that does not answer leaves what an earlier probe found, and the probing to be gone on with.
    async fn first(self, create: bool, config: &Config) -> Result<Option<Self>, StartError> {
        match self.bucket.probe(create).await {
            Ok(probe) => {
                self.answered(&probe, config).await;
                Ok(None)
            }
            Err(error @ (BucketError::Unclear { .. } | BucketError::Other { .. })) => {
                let problem = chain(&error);
                tracing::warn!(
                    problem,
                    "the bucket does not answer: links and requests are taken, and it is asked again"
                );
                self.readiness.bucket_failed(problem);
                let known = self.store.setting(&name_of(config)).await?;
                self.found.send_replace(known.and_then(|kind| kind.parse().ok()));
                Ok(Some(self))
            }
            Err(error) => Err(StartError::Bucket(error)),
        }
    }

    async fn until_answered(
        self,
        create: bool,
        config: Config,
        stop: CancellationToken,
        world: Arc<dyn World>,
    ) {
        let mut backoff = Backoff::for_storage();
        loop {
            let wait = Duration::from_secs(1) + backoff.next_delay(chance(&*world));
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            match self.bucket.probe(create).await {
                Ok(probe) => {
                    tracing::info!("the bucket answers");
                    return self.answered(&probe, &config).await;
                }
                Err(error) => self.readiness.bucket_failed(chain(&error)),
            }
        }
    }

    async fn answered(&self, probe: &crate::bucket::Probe, config: &Config) {
        // The embedded bucket is for one machine: a rule, a closed door and encryption are asked of others.
        let checks: &[Check] = if config.trial { &[] } else { &probe.checks };
        for check in checks.iter().filter(|check| check.verdict == Verdict::Bad) {
            tracing::warn!(check = check.name, detail = check.detail, "the bucket is not as it should be");
        }
        tracing::info!(
            bucket = self.bucket.name(),
            proof = probe.checksum.as_str(),
            "the bucket can be used"
        );
        self.readiness.bucket_probed(checks);
        self.found.send_replace(Some(probe.checksum));
        if let Err(error) = self.store.set_setting(&name_of(config), probe.checksum.as_str()).await {
            tracing::warn!(error = %chain(&error), "what the bucket can do is not kept");
        }
    }
}

/// What the probe's result is kept under: another bucket has another.
fn name_of(config: &Config) -> String {
    let endpoint = config.s3.endpoint.as_ref().map_or("aws", url::Url::as_str);
    format!("probe {endpoint} {}", config.s3.bucket)
}

/// Makes what a trial needs: secrets that are kept, and the embedded bucket.
async fn start_trial(config: &mut Config, world: &dyn World) -> Result<Depot, StartError> {
    if config.jwt_secrets.is_empty() {
        config.jwt_secrets.push(kept_secret(&config.data_dir.join("jwt-secret"), world)?);
    }
    let secret_key = kept_secret(&config.data_dir.join("bucket-secret"), world)?;
    let access_key = String::from("hoist-trial");
    let depot = Depot::start(DepotConfig {
        dir: config.data_dir.join("bucket"),
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        access_key: access_key.clone(),
        secret_key: secret_key.clone(),
        region: config.s3.region.clone(),
    })
    .await?;
    config.s3.endpoint = url::Url::parse(&depot.endpoint_url()).ok();
    config.s3.public_endpoint = None;
    config.s3.download_endpoint = None;
    config.s3.credentials = Some(StaticCredentials { access_key, secret_key });
    Ok(depot)
}

/// Reads a secret, or makes it: 64 hexadecimal digits in a file that only its owner reads.
fn kept_secret(path: &Path, world: &dyn World) -> Result<SecretString, StartError> {
    let failed = |source| StartError::DataDir { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= crate::config::MIN_SECRET_BYTES => {
            Ok(SecretString::from(text.trim().to_owned()))
        }
        Ok(_) => Err(failed(std::io::Error::other(
            "it holds no secret of at least 32 bytes: remove it, and one is made",
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = SecretString::from(format!("{}{}", random_id(world), random_id(world)));
            write_secret(path, secret.expose_secret()).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()
}

/// Takes a folder for this server alone: two of them with one database would both drive each download.
///
/// The system gives the lock back when the process ends, however it ends.
fn lock_dir(path: &Path) -> Result<File, StartError> {
    let file = path.join("lock");
    let failed = |source| StartError::DataDir { path: file.clone(), source };
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn make_dir(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StartError::DataDir { path: path.to_owned(), source })
}
