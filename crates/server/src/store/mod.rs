//! The record of everything: the database is the truth, all else is a cache or a nudge.
//!
//! Deliberately absent: rules. A write here is guarded, never judged; what to write is decided in `engine`.

pub mod identities;
#[cfg(feature = "simulation")]
mod memory;
mod operators;
mod record;
mod rows;
mod sqlite;
mod trail;

use std::time::Duration;

use async_trait::async_trait;
use hoist_wire::{Attempt, ClientId, DownloadId, Instance, LinkSeq, Timestamp};

pub use identities::{Changed, Enrolled, Enrolment, Identities, Standing};
#[cfg(feature = "simulation")]
pub use memory::MemoryStore;
pub use operators::{LabelStore, SessionRow, SessionStore};
pub use record::{
    Along, ClientFilter, ClientRow, CloneSuspicion, DownloadFilter, Due, FoundFile, Idempotency, Inserted,
    Introduction, Record, UploadFate, UploadRow,
};
pub use sqlite::SqliteStore;
pub use trail::{Done, Intent, Trail, TrailFilter, sha256};

use crate::bucket::MultipartId;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error(
        "the database {path} cannot be opened: check that its folder exists, is writable and not full, and that it is a database of hoist; one that is damaged is restored from a backup"
    )]
    Open {
        /// The database.
        path: String,
        /// What it said.
        #[source]
        source: sqlx::Error,
    },
    /// The database was made by a newer hoist, or is damaged.
    #[error("the database cannot be brought to this version's layout")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("the database failed at {doing}")]
    Query {
        /// At what.
        doing: &'static str,
        /// What it said.
        #[source]
        source: sqlx::Error,
    },
    /// A row does not read back.
    #[error("the database holds a {what} that cannot be read: {value:?}")]
    Corrupt {
        /// Of what.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// What hoist keeps. Every write that returns `Ok` is on disk.
#[async_trait]
pub trait Store: Identities + LabelStore + SessionStore + Trail + Send + Sync + std::fmt::Debug {
    /// Tells whether the store answers, and takes writes again if the last one failed.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Gives a client its next link, and notes that it is connected.
    async fn open_link(
        &self,
        client: &ClientId,
        who: &Introduction,
        now: Timestamp,
    ) -> Result<LinkSeq, StoreError>;

    /// Notes that a client's link ended; a late one moves nothing.
    async fn close_link(&self, client: &ClientId, link: LinkSeq, now: Timestamp) -> Result<(), StoreError>;

    /// Notes until when the token is good that a client was given over this link, and which secret signed it.
    async fn token_renewed(
        &self,
        client: &ClientId,
        link: LinkSeq,
        expires_at: Timestamp,
        kid: &str,
    ) -> Result<(), StoreError>;

    /// Notes at the start that this node has no link: whoever seems connected is not.
    async fn close_all_links(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Notes that another agent of a client was refused while the one on its link answered; moves nothing where that was
    /// noted less than `every` ago.
    async fn suspect_clone(
        &self,
        client: &ClientId,
        refused: Option<&Instance>,
        now: Timestamp,
        every: Duration,
    ) -> Result<(), StoreError>;

    /// Gives a client.
    async fn client(&self, client: &ClientId) -> Result<Option<ClientRow>, StoreError>;

    /// Lists clients by id.
    async fn clients(&self, filter: &ClientFilter, limit: u32) -> Result<Vec<ClientRow>, StoreError>;

    /// Writes a new download. With `max_open`, refuses (gives none) where the client has that many that are not final.
    async fn insert(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
    ) -> Result<Option<Inserted>, StoreError>;

    /// Gives a download.
    async fn download(&self, id: DownloadId) -> Result<Option<Record>, StoreError>;

    /// Lists downloads, newest first (oldest first with `filter.open == Some(true)`).
    async fn downloads(&self, filter: &DownloadFilter, limit: u32) -> Result<Vec<Record>, StoreError>;

    /// Writes a record whose `version` must still be the one in the store; the store's becomes one more.
    ///
    /// Gives false, and writes nothing, when somebody else wrote it first.
    async fn save(&self, record: &Record, along: &Along) -> Result<bool, StoreError>;

    /// Gives the confirmed parts as they were last flushed, and of which attempt.
    async fn parts(&self, id: DownloadId) -> Result<Option<(Attempt, Vec<u8>)>, StoreError>;

    /// Gives what a connected client can be asked for now, first in, first out.
    async fn due(&self, client: &ClientId, now: Timestamp, limit: u32) -> Result<Due, StoreError>;

    /// Gives downloads whose deadline has passed.
    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<DownloadId>, StoreError>;

    /// Gives clients with downloads that are not final, behind `after`, by id.
    async fn waiting_clients(
        &self,
        after: Option<&ClientId>,
        limit: u32,
    ) -> Result<Vec<ClientId>, StoreError>;

    /// Gives downloads that are completing, behind `after`, by id.
    async fn completing(&self, after: Option<DownloadId>, limit: u32) -> Result<Vec<DownloadId>, StoreError>;

    /// Notes that an upload is about to be created. Gives false, and notes nothing, when its download has ended: nobody
    /// would abort it.
    async fn upload_creating(&self, row: &UploadRow) -> Result<bool, StoreError>;

    /// Notes an upload's id. Gives false when it is no longer wanted: then it must be aborted.
    async fn upload_open(&self, upload_row: &str, multipart_id: &MultipartId) -> Result<bool, StoreError>;

    /// Gives the upload of a download that is being created, open or completing.
    async fn upload_of(&self, id: DownloadId) -> Result<Option<UploadRow>, StoreError>;

    /// Gives the keys of all uploads that are not known to be gone: what in the bucket is ours.
    async fn upload_keys(&self) -> Result<Vec<String>, StoreError>;

    /// Notes that an upload is to be aborted, since nothing was ever put into it.
    async fn upload_unwanted(&self, upload_row: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Gives uploads that are to be aborted now.
    async fn uploads_to_abort(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadRow>, StoreError>;

    /// Notes how an abort went: look again at `next_check_at`, or never (`None`: storage says that it is gone).
    async fn upload_aborted(
        &self,
        upload_row: &str,
        aborted_once: bool,
        next_check_at: Option<Timestamp>,
    ) -> Result<(), StoreError>;

    /// Forgets idempotency keys older than `before`.
    async fn forget_idempotency(&self, before: Timestamp) -> Result<(), StoreError>;

    /// Gives a setting that the server keeps for itself.
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Keeps a setting.
    async fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError>;
}
