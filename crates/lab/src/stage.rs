//! A scene of which every step is watched: a bucket in the test's own process, which outlives whatever dies, and proxies
//! before it and before the server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hoist_depot::{Depot, DepotConfig, TemporaryKey};
use tempfile::TempDir;

use crate::agent::AgentSetup;
use crate::s3::S3Server;
use crate::watch::{BucketWatch, LinkWatch, Steps};
use crate::{KeyService, Scene, WITHIN, eventually};

/// The client whose agent it is.
pub const CLIENT: &str = "restaurant-1";

const ACCESS_KEY: &str = "stage";
const SECRET_KEY: &str = "a-secret-of-the-bucket-that-must-not-stand-in-any-log";
const REGION: &str = "us-east-1";

/// A scene, and what watches it.
#[derive(Debug)]
pub struct Stage {
    /// The scene.
    pub scene: Scene,
    /// What passes.
    pub steps: Steps,
    /// The way to the server.
    pub links: LinkWatch,
    /// The way to the bucket.
    pub bucket: BucketWatch,
    keys: Option<KeyService>,
    _depot: Arc<Depot>,
    _folder: TempDir,
}

/// A stage that is about to be set.
#[derive(Debug, Default)]
pub struct StageSetup {
    env: Vec<(String, String)>,
    key_life: Option<Duration>,
}

impl StageSetup {
    /// Sets an environment variable of the server.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the server sign with keys that live for so long, and fetch new ones as a container does.
    #[must_use]
    pub fn keys_that_live(mut self, life: Duration) -> Self {
        self.key_life = Some(life);
        self
    }

    /// Starts what belongs to it, but for agents.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn set(self) -> Stage {
        let folder = tempfile::tempdir().expect("a folder for the bucket");
        let depot = Depot::start(DepotConfig {
            dir: folder.path().to_owned(),
            bind: ([127, 0, 0, 1], 0).into(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.into(),
            region: REGION.to_owned(),
        });
        let depot = Arc::new(depot.await.expect("a bucket that starts"));
        let place = S3Server {
            endpoint: depot.endpoint_url(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            region: REGION.to_owned(),
        };
        let steps = Steps::default();
        let bucket = BucketWatch::start(&place.endpoint, &steps).await;
        let mut setup = Scene::on(&place).env("AWS_ENDPOINT_URL", &bucket.url());
        let keys = match self.key_life {
            Some(life) => Some(key_service(life, Arc::clone(&depot)).await),
            None => None,
        };
        for (name, value) in keys.iter().flat_map(KeyService::env) {
            setup = setup.env(name, &value);
        }
        for (name, value) in self.env {
            setup = setup.env(&name, &value);
        }
        let scene = setup.start().await;
        let links = LinkWatch::start(scene.server.port(), &steps).await;
        Stage { scene, steps, links, bucket, keys, _depot: depot, _folder: folder }
    }
}

async fn key_service(life: Duration, depot: Arc<Depot>) -> KeyService {
    KeyService::start(life, move |key| {
        depot.lend(TemporaryKey {
            access_key: key.access_key.clone(),
            secret_key: key.secret_key.clone().into(),
            session_token: key.session_token.clone().into(),
            expires_at: key.expires_at,
        });
    })
    .await
}

impl Stage {
    /// Begins a stage.
    pub fn begin() -> StageSetup {
        StageSetup::default()
    }

    /// Begins the agent of [`CLIENT`], which may give the site's files.
    pub fn agent(&self) -> AgentSetup {
        self.scene.agent(CLIENT).env("SERVER_WS_URL", self.links.url())
    }

    /// Gives where the server gets its keys.
    ///
    /// # Panics
    /// If it has one for good.
    pub fn keys(&self) -> &KeyService {
        self.keys.as_ref().expect("a stage with keys that do not last")
    }

    /// Waits for a step.
    ///
    /// # Panics
    /// If it does not come.
    pub async fn sees(&self, step: &str) {
        eventually(step, WITHIN, || async {
            let names = self.steps.names();
            if names.iter().any(|name| name == step) { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    }

    /// Ends it, as a scene ends; no program has left a file behind but the server.
    ///
    /// # Panics
    /// If something is left.
    pub async fn finish(self) {
        for key in self.keys.iter().flat_map(KeyService::keys) {
            self.scene.book.secret(&key.secret_key);
            self.scene.book.secret(&key.session_token);
        }
        let folder = std::fs::read_dir(self.scene.folder()).expect("the folder of the programs");
        let names = folder.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
        // Its own output is what the lab makes of it; home and working folder of every program are this folder.
        let kept: BTreeSet<String> = names
            .filter(|name| name != "server-data" && !name.ends_with(".out") && !name.ends_with(".err"))
            .collect();
        assert!(kept.is_empty(), "somebody keeps files: {kept:?}");
        self.scene.finish().await;
    }
}
