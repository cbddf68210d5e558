//! What the store keeps, as the rest of the server sees it. Rows and columns stay in the back ends.

use std::collections::BTreeMap;

use hoist_engine::life::Life;
use hoist_wire::reach::{Labels, Reach};
use hoist_wire::rest::DownloadRequest;
use hoist_wire::{Attempt, ClientId, DownloadId, Instance, LinkSeq, Timestamp};

use crate::bucket::MultipartId;
use crate::clock::{World, download_id, random_id};

/// A download, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: DownloadId,
    /// Whose file it is.
    pub client_id: ClientId,
    /// Grows with each write: the guard.
    pub version: u64,
    /// What decides over it.
    pub life: Life,
    /// The file as it was asked for; none for the agent's own.
    pub file_path: Option<String>,
    /// The file as the agent found it.
    pub found: Option<FoundFile>,
    /// The object; fixed with the first offer.
    pub object_key: Option<String>,
    /// Proves whose object it is; agents never see it.
    pub write_token: String,
    /// The operator's own metadata.
    pub metadata: BTreeMap<String, String>,
    /// Who asked.
    pub requested_by: String,
    /// Most bytes a second that the operator allows; none for no limit. It moves nothing in `life`.
    pub max_rate_bytes_per_sec: Option<u64>,
    /// Bytes that storage had confirmed when the parts were last flushed.
    pub stored_bytes: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When an agent first took it.
    pub started_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// When it came to its final state.
    pub finished_at: Option<Timestamp>,
}

impl Record {
    /// Makes the record of a request that was accepted.
    pub fn asked(
        world: &dyn World,
        client_id: ClientId,
        requested_by: String,
        asked: DownloadRequest,
    ) -> Self {
        let now = world.now();
        Self {
            id: download_id(world),
            client_id,
            version: 1,
            life: Life::queued(now, asked.ttl_secs, asked.on_change),
            file_path: asked.file_path,
            found: None,
            object_key: None,
            write_token: random_id(world),
            metadata: asked.metadata,
            requested_by,
            max_rate_bytes_per_sec: asked.max_rate_bytes_per_sec,
            stored_bytes: 0,
            created_at: now,
            started_at: None,
            updated_at: now,
            finished_at: None,
        }
    }
}

/// The file as the agent found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Its path at the site.
    pub path: String,
    /// Its name.
    pub name: String,
    /// When it was last modified, in milliseconds by the site's clock.
    pub modified_ms: i64,
}

/// What is written together with a record, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Along {
    /// What becomes of its upload.
    pub upload: Option<UploadFate>,
    /// The confirmed parts of an attempt.
    pub parts: Option<(Attempt, Vec<u8>)>,
}

/// What becomes of a download's open upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFate {
    /// Complete is about to be sent.
    Completing,
    /// It became the object.
    Closed,
    /// It is to be aborted.
    Abort,
}

/// One multipart upload that is, or may be, ours in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// Its name in the table: a random text.
    pub upload_row: String,
    /// For which download.
    pub download_id: DownloadId,
    /// Under which key.
    pub object_key: String,
    /// Its id; none while it is being created, or when that was cut short.
    pub multipart_id: Option<MultipartId>,
    /// Whether it was aborted once already.
    pub aborted_once: bool,
}

/// A client, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow {
    /// Its id.
    pub client_id: ClientId,
    /// Its live link; none while it is offline.
    pub connected_link: Option<LinkSeq>,
    /// Since when it is connected, or not.
    pub since: Option<Timestamp>,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// Operating system and processor.
    pub os: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// When its token ends.
    pub token_expires_at: Option<Timestamp>,
    /// Names the secret that its newest token was signed with; none for one with a key of its own.
    pub token_kid: Option<String>,
    /// Since when it has its own key.
    pub enrolled_at: Option<Timestamp>,
    /// When it was last revoked.
    pub revoked_at: Option<Timestamp>,
    /// Two agents that both were this client, when that was last seen.
    pub suspicion: Option<CloneSuspicion>,
    /// The labels that an admin gave it.
    pub labels: Labels,
}

impl ClientRow {
    /// Makes the row of a client that has had no link yet.
    pub fn never_seen(client: &ClientId) -> Self {
        Self {
            client_id: client.clone(),
            connected_link: None,
            since: None,
            last_seen: None,
            agent_version: None,
            os: None,
            host: None,
            token_expires_at: None,
            token_kid: None,
            enrolled_at: None,
            revoked_at: None,
            suspicion: None,
            labels: Labels::new(),
        }
    }
}

/// One agent was refused while another one had the client's link and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSuspicion {
    /// When.
    pub at: Timestamp,
    /// Who had the link; none for an agent that names no instance.
    pub linked: Option<Instance>,
    /// Its host name.
    pub linked_host: Option<String>,
    /// Who was refused.
    pub refused: Option<Instance>,
}

/// What an agent's `hello` tells the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The agent's version.
    pub agent_version: String,
    /// Operating system and processor.
    pub os: String,
    /// Host name.
    pub host: String,
    /// What else it says of itself.
    pub facts: BTreeMap<String, String>,
    /// When its token ends; none for one that showed its key.
    pub token_expires_at: Option<Timestamp>,
    /// Names the secret that its token was signed with; none for one that showed its key.
    pub token_kid: Option<String>,
    /// Which process on which machine it is, where it says so.
    pub instance: Option<Instance>,
}

/// An `Idempotency-Key`, as it came with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Whose key.
    pub operator: String,
    /// The key.
    pub key: String,
    /// What the request hashes to.
    pub body_hash: String,
}

/// What became of a new download.
#[derive(Debug, Clone, PartialEq)]
pub enum Inserted {
    /// It is on disk.
    New,
    /// The same request came before, and this is its download.
    Before(DownloadId),
    /// The same key came before with another request.
    Mismatch,
}

/// Which downloads a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct DownloadFilter {
    /// Of one client.
    pub client_id: Option<ClientId>,
    /// In one state.
    pub state: Option<hoist_wire::State>,
    /// Only those that are not final (`true`), or that are (`false`).
    pub open: Option<bool>,
    /// Only of clients within this reach.
    pub reach: Reach,
    /// Only those older than this one.
    pub before: Option<DownloadId>,
}

/// Which clients a list shows, by id.
#[derive(Debug, Clone, Default)]
pub struct ClientFilter {
    /// Only those that are connected, or that are not.
    pub connected: Option<bool>,
    /// Only those within this reach.
    pub reach: Reach,
    /// Only those behind this one.
    pub after: Option<ClientId>,
}

/// Downloads that a client can be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Oldest first.
    pub ids: Vec<DownloadId>,
    /// When the next one that waits for its time is due.
    pub next_at: Option<Timestamp>,
}
