//! Everything that a test needs, in one place: a bucket, a server, a site, operators. At its end it looks for litter
//! and for secrets that were told.

use std::sync::Arc;

use hoist_wire::rest::Scope;
use tempfile::TempDir;

use crate::agent::AgentSetup;
use crate::book::Book;
use crate::cli::Cli;
use crate::s3::S3Server;
use crate::scripted::Refused;
use crate::storage::Storage;
use crate::{Operator, Proxy, ScriptedAgent, ServerProcess, Site, WITHIN, eventually, jwt};

/// The secret that signs tokens where it is not a trial: 32 bytes and more.
const JWT_SECRET: &str = "a-secret-of-the-lab-that-must-not-stand-in-any-log";

/// The bucket where it is not a trial's own.
const BUCKET: &str = "lab-e2e";

/// A server with its bucket, a site, and everyone who has to do with them.
#[derive(Debug)]
pub struct Scene {
    /// The server.
    pub server: ServerProcess,
    /// The site's folder.
    pub site: Site,
    /// The bucket.
    pub storage: Storage,
    /// Secrets, and what was written.
    pub book: Arc<Book>,
    proxy: Option<Proxy>,
    /// A trial server of which only the bucket is used, so that the bucket outlives the server.
    keeper: Option<ServerProcess>,
    secret: String,
    trial: bool,
    finished: bool,
    /// Uploads under keys that begin so are somebody else's.
    foreign: Option<String>,
    // Last: the programs work in it.
    folder: TempDir,
}

/// A scene that is about to be set.
#[derive(Debug)]
pub struct Setup {
    bucket: Bucket,
    env: Vec<(String, String)>,
    proxied: Option<&'static str>,
}

#[derive(Debug)]
enum Bucket {
    Embedded,
    Kept,
    Of(S3Server),
}

impl Setup {
    /// Sets an environment variable of the server.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has agents (and those who fetch files) reach the bucket through a proxy.
    #[must_use]
    pub fn proxied_for_agents(mut self) -> Self {
        self.proxied = Some("S3_PUBLIC_ENDPOINT_URL");
        self
    }

    /// Has the server, and whoever it sends to the bucket, reach it through a proxy.
    #[must_use]
    pub fn proxied_for_all(mut self) -> Self {
        self.proxied = Some("AWS_ENDPOINT_URL");
        self
    }

    /// Starts what belongs to it.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(self) -> Scene {
        let folder = tempfile::tempdir().expect("a folder for the programs");
        let book = Arc::<Book>::default();
        match self.bucket {
            Bucket::Embedded => {
                let server =
                    ServerProcess::start("server", folder.path(), &["--trial"], &self.env, &book).await;
                let (storage, secret) = (trial_storage(&server, "hoist-trial"), server.kept("jwt-secret"));
                book.secret(&secret);
                book.secret(&server.kept("bucket-secret"));
                let site = Site::new();
                let (proxy, keeper, trial, finished, foreign) = (None, None, true, false, None);
                Scene { server, site, storage, book, proxy, keeper, secret, trial, finished, foreign, folder }
            }
            Bucket::Kept => {
                let keeper = ServerProcess::start("keeper", folder.path(), &["--trial"], &[], &book).await;
                let place = trial_place(&keeper);
                Self { bucket: Bucket::Of(place), ..self }.on(folder, book, Some(keeper)).await
            }
            Bucket::Of(_) => self.on(folder, book, None).await,
        }
    }

    async fn on(mut self, folder: TempDir, book: Arc<Book>, keeper: Option<ServerProcess>) -> Scene {
        let Bucket::Of(place) = self.bucket else { panic!("a bucket of another server was due") };
        let proxy = if self.proxied.is_some() { Some(Proxy::start(&place.endpoint).await) } else { None };
        let mut env: Vec<(String, String)> = [
            ("AWS_ENDPOINT_URL", place.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", &place.access_key),
            ("AWS_SECRET_ACCESS_KEY", &place.secret_key),
            ("AWS_REGION", &place.region),
            ("S3_BUCKET_NAME", BUCKET),
            ("S3_CREATE_BUCKET", "true"),
            ("JWT_SECRET", JWT_SECRET),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        env.append(&mut self.env);
        if let (Some(name), Some(proxy)) = (self.proxied, &proxy) {
            env.retain(|(there, _)| there != name);
            env.push((name.to_owned(), proxy.url()));
        }
        book.secret(JWT_SECRET);
        // LocalStack's is `test`, a word that stands in many a line.
        if place.secret_key.len() > 8 {
            book.secret(&place.secret_key);
        }
        let server = ServerProcess::start("server", folder.path(), &[], &env, &book).await;
        let (site, storage) = (Site::new(), Storage::new(place, BUCKET));
        let (secret, trial, finished, foreign) = (JWT_SECRET.to_owned(), false, false, None);
        Scene { server, site, storage, book, proxy, keeper, secret, trial, finished, foreign, folder }
    }
}

fn trial_place(server: &ServerProcess) -> S3Server {
    S3Server {
        endpoint: format!("http://127.0.0.1:{}", server.kept("bucket/port")),
        access_key: "hoist-trial".to_owned(),
        secret_key: server.kept("bucket-secret"),
        region: "us-east-1".to_owned(),
    }
}

fn trial_storage(server: &ServerProcess, bucket: &str) -> Storage {
    Storage::new(trial_place(server), bucket)
}

impl Scene {
    /// Begins a trial: its own bucket, no tokens for operators.
    pub fn trial() -> Setup {
        Setup { bucket: Bucket::Embedded, env: Vec::new(), proxied: None }
    }

    /// Begins a server as it runs for earnest, with a bucket that outlives it.
    pub fn earnest() -> Setup {
        Setup { bucket: Bucket::Kept, env: Vec::new(), proxied: None }
    }

    /// Begins a server as it runs for earnest, with a bucket of another maker's server.
    pub fn on(place: &S3Server) -> Setup {
        Setup { bucket: Bucket::Of(place.clone()), env: Vec::new(), proxied: None }
    }

    /// Gives an operator who may do everything.
    pub fn operator(&self) -> Operator {
        let token = (!self.trial).then(|| self.operator_token(&[Scope::Admin]));
        Operator::new(self.server.url(), token)
    }

    /// Makes a token for an operator.
    pub fn operator_token(&self, scopes: &[Scope]) -> String {
        self.sign(&jwt::operator_claims("lab", scopes))
    }

    /// Makes a token for an agent.
    pub fn agent_token(&self, client: &str) -> String {
        self.sign(&jwt::agent_claims(client))
    }

    /// Signs claims with the right secret by another rule, HS512.
    pub fn sign_hs512(&self, claims: &serde_json::Value) -> String {
        let token = jwt::sign_hs512(claims, &self.secret);
        self.book.secret(&token);
        token
    }

    /// Signs claims with the server's secret.
    pub fn sign(&self, claims: &serde_json::Value) -> String {
        let token = jwt::sign(claims, &self.secret);
        self.book.secret(&token);
        token
    }

    /// Starts the server anew with another secret, and accepts the old one too. Gives the old one.
    ///
    /// # Panics
    /// If the server does not come back.
    pub async fn rotate(&mut self, secret: &str) -> String {
        let old = std::mem::replace(&mut self.secret, secret.to_owned());
        self.book.secret(secret);
        self.server.terminate().await;
        self.server.set("JWT_SECRET", secret);
        self.server.set("JWT_SECRET_PREVIOUS", &old);
        self.server.restart().await;
        old
    }

    /// Starts the server anew without the old secrets.
    ///
    /// # Panics
    /// If the server does not come back.
    pub async fn forget_old_secrets(&mut self) {
        self.server.terminate().await;
        self.server.set("JWT_SECRET_PREVIOUS", "");
        self.server.restart().await;
    }

    /// Begins the agent of a client; nothing may leave yet.
    pub fn bare_agent(&self, client: &str) -> AgentSetup {
        let url = self.server.url().replacen("http", "ws", 1);
        let env = vec![
            ("SERVER_WS_URL".to_owned(), url.into()),
            ("CLIENT_TOKEN".to_owned(), self.agent_token(client).into()),
        ];
        AgentSetup::new(client, self.folder.path(), env, &self.book)
    }

    /// Begins the agent of a client that may give the site's files.
    pub fn agent(&self, client: &str) -> AgentSetup {
        self.bare_agent(client).root(self.site.root())
    }

    /// Dials as the agent of a client.
    pub async fn scripted(&self, client: &str) -> ScriptedAgent {
        ScriptedAgent::dial(self.server.port(), &self.agent_token(client)).await
    }

    /// Dials as the agent of a client, as a process on a machine.
    ///
    /// # Errors
    /// What the server answers instead of a link.
    pub async fn scripted_as(&self, client: &str, instance: &str) -> Result<ScriptedAgent, Refused> {
        let token = self.agent_token(client);
        ScriptedAgent::dial_as(self.server.port(), &token, instance, 2, Vec::new()).await
    }

    /// Gives the command line of an operator without a token.
    pub fn cli(&self) -> Cli {
        Cli::new(self.folder.path(), &self.server.url(), &self.book)
    }

    /// Gives the proxy before the bucket.
    ///
    /// # Panics
    /// If the scene has none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a scene with a proxy")
    }

    /// Gives the folder in which the programs work.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Leaves uploads under keys that begin so open at the end: they are somebody else's.
    pub fn disregard(&mut self, prefix: &str) {
        self.foreign = Some(prefix.to_owned());
    }

    /// Ends the scene: every download is final, no upload is open, and nobody told a secret.
    ///
    /// # Panics
    /// If it is otherwise.
    pub async fn finish(self) {
        let open: Vec<_> = self
            .operator()
            .downloads()
            .await
            .into_iter()
            .filter(|download| !download.state.is_final())
            .collect();
        assert!(open.is_empty(), "downloads are left open: {open:#?}");
        self.finish_open().await;
    }

    /// Ends a scene that leaves downloads open on purpose; uploads that no download needs must still be gone.
    ///
    /// # Panics
    /// If an upload is litter, or somebody told a secret.
    pub async fn finish_open(mut self) {
        assert!(self.server.is_running(), "the scene ends with a server that runs");
        let operator = self.operator();
        eventually("no upload to be left open", WITHIN, || async {
            let wanted: Vec<String> = operator
                .downloads()
                .await
                .into_iter()
                .filter(|download| !download.state.is_final())
                .filter_map(|download| download.object_key)
                .collect();
            let mut left = self.storage.open_uploads().await?;
            let is_foreign = |key: &str| self.foreign.as_ref().is_some_and(|prefix| key.starts_with(prefix));
            left.retain(|key| !wanted.contains(key) && !is_foreign(key));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        let status = self.server.terminate().await;
        assert!(status.success(), "the server ended with {status}");
        self.finished = true;
        self.book.check();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let forgotten = !self.finished && !std::thread::panicking();
        assert!(!forgotten, "a test must end its scene with finish()");
        let _ = &self.keeper;
    }
}
