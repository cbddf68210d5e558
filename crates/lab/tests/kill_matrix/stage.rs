//! A scene of which every step is watched, with a bucket that outlives whatever dies.

use hoist_depot::{Depot, DepotConfig};
use hoist_lab::s3::S3Server;
use hoist_lab::watch::{BucketWatch, LinkWatch, Steps};
use hoist_lab::{AgentProcess, Scene, WITHIN, eventually};
use tempfile::TempDir;

/// The client whose agent it is.
pub(crate) const CLIENT: &str = "restaurant-1";

const ACCESS_KEY: &str = "kill-matrix";
const SECRET_KEY: &str = "a-secret-of-the-bucket-of-the-kill-matrix";
const REGION: &str = "us-east-1";

/// A scene, and what watches it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    pub(crate) steps: Steps,
    links: LinkWatch,
    pub(crate) bucket: BucketWatch,
    depot: Depot,
    _folder: TempDir,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::start(DepotConfig {
            dir: folder.path().to_owned(),
            bind: ([127, 0, 0, 1], 0).into(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.into(),
            region: REGION.to_owned(),
        })
        .await
        .unwrap();
        let place = S3Server {
            endpoint: depot.endpoint_url(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            region: REGION.to_owned(),
        };
        let steps = Steps::default();
        let bucket = BucketWatch::start(&place.endpoint, &steps).await;
        let scene = Scene::on(&place).env("AWS_ENDPOINT_URL", &bucket.url()).start().await;
        let links = LinkWatch::start(scene.server.port(), &steps).await;
        Self { scene, steps, links, bucket, depot, _folder: folder }
    }

    /// Starts the agent; it has one slot, so that a slot that is lost is missed.
    pub(crate) fn agent(&self) -> AgentProcess {
        let agent = self.scene.agent(CLIENT).env("AGENT_SLOTS", "1");
        agent.env("SERVER_WS_URL", self.links.url()).start()
    }

    /// Waits for a step.
    pub(crate) async fn sees(&self, step: &str) {
        eventually(step, WITHIN, || async {
            let names = self.steps.names();
            if names.iter().any(|name| name == step) { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    }

    pub(crate) async fn finish(self) {
        self.scene.finish().await;
        self.depot.stop().await;
    }
}
