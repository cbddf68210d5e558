//! What the tests of faults share: a site, a bucket behind a proxy, and a file that must arrive whole all the same.

use std::path::{Path, PathBuf};

use hoist_lab::proxy::Call;
use hoist_lab::scene::Setup;
use hoist_lab::{AgentProcess, Operator, Scene};
use hoist_wire::rest::Download;
use hoist_wire::{DownloadId, ReasonCode};

/// Two parts of 5 MiB, and a short one.
pub(crate) const THREE_PARTS: u64 = 2 * 5 * 1024 * 1024 + 77;

/// A scene in which storage is about to fail.
pub(crate) struct Trouble {
    pub(crate) scene: Scene,
    pub(crate) operator: Operator,
    pub(crate) path: PathBuf,
    agent: AgentProcess,
}

impl Trouble {
    /// Starts everything, with a file of so many bytes at the site.
    pub(crate) async fn begin(setup: Setup, bytes: u64) -> Self {
        let scene = setup.start().await;
        let operator = scene.operator();
        let path = scene.site.random("report", bytes);
        let agent = scene.agent("restaurant-1").start();
        operator.sees("restaurant-1", true).await;
        Self { scene, operator, path, agent }
    }

    pub(crate) async fn ask(&self) -> DownloadId {
        self.operator.ask("restaurant-1", self.path.to_str().unwrap()).await.id
    }

    /// Waits until the download waits for this reason, with these words in its message.
    pub(crate) async fn waits(&self, id: DownloadId, code: ReasonCode, words: &str) -> Download {
        let what = format!("{code}: {words}");
        let is = |download: &Download| {
            let said = download.reason_message.as_ref().is_some_and(|message| message.contains(words));
            assert!(!download.state.is_final(), "it ended, and did not wait for {what}: {download:#?}");
            download.reason == Some(code) && said
        };
        self.operator.until(id, &what, is).await
    }

    /// Waits for the end, which must be a good one, and compares the bytes.
    pub(crate) async fn arrives(&self, id: DownloadId) -> Download {
        let download = self.operator.completes(id).await;
        let (bytes, _) = self.operator.fetch(id).await;
        assert!(bytes == std::fs::read(&self.path).unwrap(), "the object is not the file");
        download
    }

    /// Kills the agent, and starts it again once the server has noticed.
    pub(crate) async fn agent_dies(&mut self) {
        self.agent.kill();
        self.operator.sees("restaurant-1", false).await;
        self.agent.start_again();
        self.operator.sees("restaurant-1", true).await;
    }

    pub(crate) async fn finish(mut self) {
        assert!(self.agent.terminate().await.success());
        self.scene.finish().await;
    }

    /// Gives how often the bucket was asked for this since the request of this number.
    pub(crate) fn count(&self, since: usize, call: Call) -> usize {
        self.scene.proxy().calls()[since..].iter().filter(|seen| **seen == call).count()
    }

    /// Gives how many requests the proxy has seen.
    pub(crate) fn mark(&self) -> usize {
        self.scene.proxy().seen().len()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
