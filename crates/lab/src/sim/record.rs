//! The store as one server process reaches it: slow, failing, failing after the commit; and every write is watched.

mod identities;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hoist_server::bucket::MultipartId;
use hoist_server::store::{
    Along, ClientFilter, ClientRow, DownloadFilter, Due, Idempotency, Inserted, Introduction, LabelStore,
    MemoryStore, Record, SessionRow, SessionStore, Store, StoreError, UploadRow,
};
use hoist_wire::reach::Labels;
use hoist_wire::{Attempt, ClientId, DownloadId, Instance, LinkSeq, State, Timestamp};

use super::fault::Fault;
use super::process::Process;
use super::world::World;

/// The store of one server process.
#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) world: World,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) process: Process,
}

impl SimStore {
    /// Makes one call, which is carried out at once, late, or not at all.
    pub(super) async fn call<T>(
        &self,
        doing: &'static str,
        act: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.process.goes_on().await;
        let failed = || StoreError::Query { doing, source: sqlx::Error::PoolTimedOut };
        if self.world.strikes(Fault::StoreSlow) {
            self.world.pause(100, 12_000).await;
        } else {
            self.world.pause(0, 4).await;
        }
        self.process.goes_on().await;
        if self.world.strikes(Fault::StoreError) {
            self.world.trace(format!("store {doing}: failed"));
            return Err(failed());
        }
        let answer = act.await;
        if self.world.strikes(Fault::StoreUnsure) {
            self.world.trace(format!("store {doing}: done, and failed"));
            self.process.goes_on().await;
            return Err(failed());
        }
        self.world.pause(0, 2).await;
        self.process.goes_on().await;
        answer
    }

    /// Writes a record, and looks whether it may become what it becomes.
    async fn save_watched(&self, record: &Record, along: &Along) -> Result<bool, StoreError> {
        let before = self.store.download(record.id).await?;
        let saved = self.store.save(record, along).await?;
        if let (true, Some(before)) = (saved, before) {
            self.watch(&before, record);
        }
        Ok(saved)
    }

    fn watch(&self, before: &Record, after: &Record) {
        let (old, new) = (&before.life, &after.life);
        let wrong =
            |what: &str| self.world.wrong(format!("{}: {what}: {before:?} became {after:?}", after.id));
        if old.state != new.state || old.attempt != new.attempt {
            let reason = new.reason.as_ref().map_or("-", |reason| reason.code.as_str());
            let failure = new.failure.as_ref().map_or("", |failure| failure.message.as_str());
            self.world.trace(format!(
                "store {}: {} {} -> {} {} {reason} {failure}",
                after.id, old.state, old.attempt, new.state, new.attempt
            ));
        }
        let may = match old.state {
            State::Queued => !matches!(new.state, State::Completing | State::Completed),
            State::Uploading => new.state != State::Completed,
            State::Completing => !matches!(new.state, State::Queued | State::Cancelled | State::Expired),
            State::Completed | State::Failed | State::Cancelled | State::Expired => false,
        };
        if !may {
            wrong("no such way, or a final state was written again");
        }
        if new.attempt < old.attempt || new.link < old.link {
            wrong("the fence went back");
        }
        // A key under which an object stands is left for another one, together with the upload.
        let left = old.state == State::Uploading && new.upload.is_none();
        if before.object_key.is_some() && before.object_key != after.object_key && !left {
            wrong("the key changed");
        }
        if before.write_token != after.write_token {
            wrong("the token changed");
        }
        match &new.reason {
            None if !new.state.is_final() => wrong("it waits without a reason"),
            Some(_) if new.state.is_final() => wrong("it is final with a reason"),
            Some(reason) if reason.next_at > new.expires_at => wrong("its next step is behind its deadline"),
            Some(_) | None => {}
        }
    }
}

#[async_trait]
impl LabelStore for SimStore {
    async fn set_labels(&self, client: &ClientId, labels: &Labels) -> Result<(), StoreError> {
        self.call("set labels", self.store.set_labels(client, labels)).await
    }

    async fn labels(&self, client: &ClientId) -> Result<Labels, StoreError> {
        self.call("read labels", self.store.labels(client)).await
    }
}

#[async_trait]
impl SessionStore for SimStore {
    async fn open_session(&self, session: &SessionRow, most: u32) -> Result<(), StoreError> {
        self.call("open a session", self.store.open_session(session, most)).await
    }

    async fn session(&self, cookie_sha256: &str) -> Result<Option<SessionRow>, StoreError> {
        self.call("read a session", self.store.session(cookie_sha256)).await
    }

    async fn session_used(&self, cookie_sha256: &str, now: Timestamp) -> Result<(), StoreError> {
        self.call("note a session's use", self.store.session_used(cookie_sha256, now)).await
    }

    async fn end_session(&self, cookie_sha256: &str) -> Result<(), StoreError> {
        self.call("end a session", self.store.end_session(cookie_sha256)).await
    }

    async fn sessions_of(&self, operator: &str) -> Result<Vec<SessionRow>, StoreError> {
        self.call("list sessions", self.store.sessions_of(operator)).await
    }

    async fn end_sessions(&self, operator: &str) -> Result<u64, StoreError> {
        self.call("end sessions", self.store.end_sessions(operator)).await
    }

    async fn forget_sessions(&self, now: Timestamp, unused_since: Timestamp) -> Result<(), StoreError> {
        self.call("forget sessions", self.store.forget_sessions(now, unused_since)).await
    }

    async fn revoke_operator(&self, operator: &str, made_by_secs: u64) -> Result<u64, StoreError> {
        self.call("revoke an operator", self.store.revoke_operator(operator, made_by_secs)).await
    }

    async fn operator_revoked(&self, operator: &str) -> Result<Option<u64>, StoreError> {
        self.call("look whether an operator is revoked", self.store.operator_revoked(operator)).await
    }
}

#[async_trait]
impl Store for SimStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.call("ping", self.store.ping()).await
    }

    async fn open_link(
        &self,
        client: &ClientId,
        who: &Introduction,
        now: Timestamp,
    ) -> Result<LinkSeq, StoreError> {
        self.call("open a link", self.store.open_link(client, who, now)).await
    }

    async fn close_link(&self, client: &ClientId, link: LinkSeq, now: Timestamp) -> Result<(), StoreError> {
        self.call("close a link", self.store.close_link(client, link, now)).await
    }

    async fn token_renewed(
        &self,
        client: &ClientId,
        link: LinkSeq,
        expires_at: Timestamp,
        kid: &str,
    ) -> Result<(), StoreError> {
        self.call("note a token", self.store.token_renewed(client, link, expires_at, kid)).await
    }

    async fn suspect_clone(
        &self,
        client: &ClientId,
        refused: Option<&Instance>,
        now: Timestamp,
        every: Duration,
    ) -> Result<(), StoreError> {
        self.call("note a clone", self.store.suspect_clone(client, refused, now, every)).await
    }

    async fn close_all_links(&self, now: Timestamp) -> Result<(), StoreError> {
        self.call("close all links", self.store.close_all_links(now)).await
    }

    async fn client(&self, client: &ClientId) -> Result<Option<ClientRow>, StoreError> {
        self.call("read a client", self.store.client(client)).await
    }

    async fn clients(&self, filter: &ClientFilter, limit: u32) -> Result<Vec<ClientRow>, StoreError> {
        self.call("list clients", self.store.clients(filter, limit)).await
    }

    async fn insert(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
    ) -> Result<Option<Inserted>, StoreError> {
        self.call("insert a download", self.store.insert(record, idempotency, max_open)).await
    }

    async fn download(&self, id: DownloadId) -> Result<Option<Record>, StoreError> {
        self.call("read a download", self.store.download(id)).await
    }

    async fn downloads(&self, filter: &DownloadFilter, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.call("list downloads", self.store.downloads(filter, limit)).await
    }

    async fn save(&self, record: &Record, along: &Along) -> Result<bool, StoreError> {
        self.call("write a download", self.save_watched(record, along)).await
    }

    async fn parts(&self, id: DownloadId) -> Result<Option<(Attempt, Vec<u8>)>, StoreError> {
        self.call("read the parts", self.store.parts(id)).await
    }

    async fn due(&self, client: &ClientId, now: Timestamp, limit: u32) -> Result<Due, StoreError> {
        self.call("find due downloads", self.store.due(client, now, limit)).await
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<DownloadId>, StoreError> {
        self.call("find overdue downloads", self.store.overdue(now, limit)).await
    }

    async fn waiting_clients(
        &self,
        after: Option<&ClientId>,
        limit: u32,
    ) -> Result<Vec<ClientId>, StoreError> {
        self.call("find clients that are waited for", self.store.waiting_clients(after, limit)).await
    }

    async fn completing(&self, after: Option<DownloadId>, limit: u32) -> Result<Vec<DownloadId>, StoreError> {
        self.call("find completing downloads", self.store.completing(after, limit)).await
    }

    async fn upload_creating(&self, row: &UploadRow) -> Result<bool, StoreError> {
        self.call("note an upload", self.store.upload_creating(row)).await
    }

    async fn upload_open(&self, upload_row: &str, multipart_id: &MultipartId) -> Result<bool, StoreError> {
        self.call("note an open upload", self.store.upload_open(upload_row, multipart_id)).await
    }

    async fn upload_of(&self, id: DownloadId) -> Result<Option<UploadRow>, StoreError> {
        self.call("read an upload", self.store.upload_of(id)).await
    }

    async fn upload_keys(&self) -> Result<Vec<String>, StoreError> {
        self.call("list the keys of uploads", self.store.upload_keys()).await
    }

    async fn upload_unwanted(&self, upload_row: &str, now: Timestamp) -> Result<(), StoreError> {
        self.call("note an unwanted upload", self.store.upload_unwanted(upload_row, now)).await
    }

    async fn uploads_to_abort(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadRow>, StoreError> {
        self.call("find uploads to abort", self.store.uploads_to_abort(now, limit)).await
    }

    async fn upload_aborted(
        &self,
        upload_row: &str,
        aborted_once: bool,
        next_check_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.call("note an abort", self.store.upload_aborted(upload_row, aborted_once, next_check_at)).await
    }

    async fn forget_idempotency(&self, before: Timestamp) -> Result<(), StoreError> {
        self.call("forget idempotency keys", self.store.forget_idempotency(before)).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.call("read a setting", self.store.setting(name)).await
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.call("keep a setting", self.store.set_setting(name, value)).await
    }
}
