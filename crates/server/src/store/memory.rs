//! The store in memory, for the simulation: what SQLite does, without SQL, a disk or a thread.
//!
//! Only with the feature `simulation`. It passes the same conformance suite. Deliberately absent: faults and delays;
//! whoever simulates wraps it.

mod identities;
mod operators;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hoist_wire::reach::Labels;
use hoist_wire::{Attempt, ClientId, DownloadId, Instance, LinkSeq, ReasonCode, State, Timestamp};

use super::operators::SessionRow;
use super::record::{
    Along, ClientFilter, ClientRow, CloneSuspicion, DownloadFilter, Due, Idempotency, Inserted, Introduction,
    Record, UploadFate, UploadRow,
};
use super::{Store, StoreError};
use crate::bucket::MultipartId;
use identities::{Identity, Token};

/// Where a row of the table `uploads` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Creating,
    Open,
    Completing,
    Aborting,
    Gone,
}

#[derive(Debug, Clone)]
struct Upload {
    row: UploadRow,
    status: Status,
    next_check_at: Timestamp,
}

#[derive(Debug)]
struct Client {
    newest: LinkSeq,
    /// Who opened the newest link.
    instance: Option<Instance>,
    identity: Identity,
    row: ClientRow,
}

#[derive(Debug, Default)]
struct Tables {
    clients: BTreeMap<ClientId, Client>,
    downloads: BTreeMap<DownloadId, Record>,
    parts: BTreeMap<DownloadId, (Attempt, Vec<u8>)>,
    /// Oldest first.
    uploads: Vec<Upload>,
    idempotency: BTreeMap<(String, String), (String, DownloadId, Timestamp)>,
    settings: BTreeMap<String, String>,
    trail: trail::Kept,
    labels: BTreeMap<ClientId, Labels>,
    /// Oldest first.
    sessions: Vec<SessionRow>,
    revoked: BTreeMap<String, u64>,
    enrolments: BTreeMap<String, Token>,
}

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every download, oldest first.
    pub fn all(&self) -> Vec<Record> {
        self.tables().downloads.values().cloned().collect()
    }

    /// Gives every upload that is not known to be gone.
    pub fn not_gone(&self) -> Vec<UploadRow> {
        let tables = self.tables();
        let rows = tables.uploads.iter().filter(|upload| upload.status != Status::Gone);
        rows.map(|upload| upload.row.clone()).collect()
    }
}

impl Tables {
    fn upload(&mut self, upload_row: &str) -> Option<&mut Upload> {
        self.uploads.iter_mut().find(|upload| upload.row.upload_row == upload_row)
    }

    fn labels_of(&self, client: &ClientId) -> Labels {
        self.labels.get(client).cloned().unwrap_or_default()
    }

    fn row(&self, client: &Client) -> ClientRow {
        ClientRow { labels: self.labels_of(&client.row.client_id), ..client.row.clone() }
    }

    fn open_of<'a>(&'a self, client: &'a ClientId) -> impl Iterator<Item = &'a Record> {
        let open = |record: &&Record| !record.life.state.is_final();
        self.downloads.values().filter(move |record| record.client_id == *client).filter(open)
    }

    fn insert(
        &mut self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
    ) -> Result<Option<Inserted>, StoreError> {
        let key = idempotency.map(|key| (key.operator.clone(), key.key.clone()));
        let before = key.as_ref().and_then(|key| self.idempotency.get(key));
        if let (Some((body_hash, id, _)), Some(idempotency)) = (before, idempotency) {
            let same = *body_hash == idempotency.body_hash;
            return Ok(Some(if same { Inserted::Before(*id) } else { Inserted::Mismatch }));
        }
        if self.open_of(&record.client_id).count() >= size(max_open) {
            return Ok(None);
        }
        self.downloads.insert(record.id, record.clone());
        if let (Some(key), Some(idempotency)) = (key, idempotency) {
            let value = (idempotency.body_hash.clone(), record.id, record.created_at);
            self.idempotency.insert(key, value);
        }
        Ok(Some(Inserted::New))
    }

    fn settle_fate(&mut self, record: &Record, fate: UploadFate) {
        use Status::{Aborting, Completing, Creating, Gone, Open};
        for upload in self.uploads.iter_mut().filter(|upload| upload.row.download_id == record.id) {
            let next = match (fate, upload.status) {
                (UploadFate::Completing, Open) => Completing,
                (UploadFate::Closed, Open | Completing) => Gone,
                (UploadFate::Abort, Creating | Open | Completing) => Aborting,
                (UploadFate::Completing | UploadFate::Closed | UploadFate::Abort, _) => continue,
            };
            (upload.status, upload.next_check_at) = (next, record.updated_at);
        }
    }
}

/// Tells whether a queued download waits for a time, and for which.
fn waits_until(record: &Record) -> Option<Timestamp> {
    let reason = record.life.reason.as_ref().filter(|_| record.life.state == State::Queued)?;
    let timed = !matches!(reason.code, ReasonCode::ClientOffline | ReasonCode::ClientBusy);
    timed.then_some(reason.next_at)
}

fn size(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn open_link(
        &self,
        client: &ClientId,
        who: &Introduction,
        now: Timestamp,
    ) -> Result<LinkSeq, StoreError> {
        let mut tables = self.tables();
        let before = tables.clients.get(client);
        let newest = LinkSeq(before.map_or(0, |before| before.newest.0) + 1);
        let known = before.map_or_else(|| ClientRow::never_seen(client), |before| before.row.clone());
        let identity = before.map(|before| before.identity.clone()).unwrap_or_default();
        let row = ClientRow {
            client_id: client.clone(),
            connected_link: Some(newest),
            since: Some(now),
            last_seen: Some(now),
            agent_version: Some(who.agent_version.clone()),
            os: Some(who.os.clone()),
            host: Some(who.host.clone()),
            token_expires_at: who.token_expires_at,
            token_kid: who.token_kid.clone(),
            ..known
        };
        let instance = who.instance.clone();
        tables.clients.insert(client.clone(), Client { newest, instance, identity, row });
        Ok(newest)
    }

    async fn close_link(&self, client: &ClientId, link: LinkSeq, now: Timestamp) -> Result<(), StoreError> {
        if let Some(Client { row, .. }) = self.tables().clients.get_mut(client)
            && row.connected_link == Some(link)
        {
            (row.connected_link, row.since, row.last_seen) = (None, Some(now), Some(now));
        }
        Ok(())
    }

    async fn close_all_links(&self, now: Timestamp) -> Result<(), StoreError> {
        for Client { row, .. } in self.tables().clients.values_mut() {
            if row.connected_link.is_some() {
                (row.connected_link, row.since) = (None, Some(now));
            }
        }
        Ok(())
    }

    async fn token_renewed(
        &self,
        client: &ClientId,
        link: LinkSeq,
        expires_at: Timestamp,
        kid: &str,
    ) -> Result<(), StoreError> {
        if let Some(Client { row, .. }) = self.tables().clients.get_mut(client)
            && row.connected_link == Some(link)
        {
            (row.token_expires_at, row.token_kid) = (Some(expires_at), Some(kid.to_owned()));
        }
        Ok(())
    }

    async fn suspect_clone(
        &self,
        client: &ClientId,
        refused: Option<&Instance>,
        now: Timestamp,
        every: Duration,
    ) -> Result<(), StoreError> {
        if let Some(Client { instance, row, .. }) = self.tables().clients.get_mut(client) {
            let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
            let fresh = |noted: &CloneSuspicion| noted.at <= now && now.0 - noted.at.0 < every;
            if !row.suspicion.as_ref().is_some_and(fresh) {
                row.suspicion = Some(CloneSuspicion {
                    at: now,
                    linked: instance.clone(),
                    linked_host: row.host.clone(),
                    refused: refused.cloned(),
                });
            }
        }
        Ok(())
    }

    async fn client(&self, client: &ClientId) -> Result<Option<ClientRow>, StoreError> {
        let tables = self.tables();
        Ok(tables.clients.get(client).map(|client| tables.row(client)))
    }

    async fn clients(&self, filter: &ClientFilter, limit: u32) -> Result<Vec<ClientRow>, StoreError> {
        let tables = self.tables();
        let rows = tables.clients.values().map(|client| tables.row(client)).filter(|row| {
            filter.reach.has(&row.client_id, &row.labels)
                && filter.after.as_ref().is_none_or(|after| row.client_id > *after)
                && filter.connected.is_none_or(|connected| row.connected_link.is_some() == connected)
        });
        Ok(rows.take(size(limit)).collect())
    }

    async fn insert(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
    ) -> Result<Option<Inserted>, StoreError> {
        self.tables().insert(record, idempotency, max_open)
    }

    async fn download(&self, id: DownloadId) -> Result<Option<Record>, StoreError> {
        Ok(self.tables().downloads.get(&id).cloned())
    }

    async fn downloads(&self, filter: &DownloadFilter, limit: u32) -> Result<Vec<Record>, StoreError> {
        let tables = self.tables();
        let found = tables.downloads.values().filter(|record| {
            filter.client_id.as_ref().is_none_or(|client| record.client_id == *client)
                && filter.state.is_none_or(|state| record.life.state == state)
                && filter.open.is_none_or(|open| record.life.state.is_final() != open)
                && filter.before.is_none_or(|before| record.id < before)
                && (filter.reach.is_all()
                    || filter.reach.has(&record.client_id, &tables.labels_of(&record.client_id)))
        });
        let mut found: Vec<Record> = found.cloned().collect();
        if (filter.client_id.is_none(), filter.open) != (false, Some(true)) {
            found.reverse();
        }
        found.truncate(size(limit));
        Ok(found)
    }

    async fn save(&self, record: &Record, along: &Along) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        match tables.downloads.get_mut(&record.id) {
            Some(there) if there.version == record.version => {
                *there = Record { version: record.version + 1, ..record.clone() };
            }
            Some(_) | None => return Ok(false),
        }
        if let Some(parts) = &along.parts {
            tables.parts.insert(record.id, parts.clone());
        }
        if record.life.state.is_final() {
            tables.parts.remove(&record.id);
        }
        if let Some(fate) = along.upload {
            tables.settle_fate(record, fate);
        }
        Ok(true)
    }

    async fn parts(&self, id: DownloadId) -> Result<Option<(Attempt, Vec<u8>)>, StoreError> {
        Ok(self.tables().parts.get(&id).cloned())
    }

    async fn due(&self, client: &ClientId, now: Timestamp, limit: u32) -> Result<Due, StoreError> {
        let tables = self.tables();
        let later = |record: &Record| waits_until(record).is_some_and(|at| at > now);
        let due = tables
            .open_of(client)
            .filter(|record| record.life.state != State::Completing && !later(record))
            .map(|record| record.id);
        let next_at = tables.open_of(client).filter_map(waits_until).filter(|at| *at > now).min();
        Ok(Due { ids: due.take(size(limit)).collect(), next_at })
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<DownloadId>, StoreError> {
        let tables = self.tables();
        let open = tables.downloads.values().filter(|record| !record.life.state.is_final());
        let mut overdue: Vec<_> = open
            .filter(|record| record.life.expires_at <= now)
            .map(|record| (record.life.expires_at, record.id))
            .collect();
        overdue.sort_unstable();
        Ok(overdue.into_iter().take(size(limit)).map(|(_, id)| id).collect())
    }

    async fn waiting_clients(
        &self,
        after: Option<&ClientId>,
        limit: u32,
    ) -> Result<Vec<ClientId>, StoreError> {
        let tables = self.tables();
        let open = tables.downloads.values().filter(|record| !record.life.state.is_final());
        let clients: BTreeSet<&ClientId> = open.map(|record| &record.client_id).collect();
        let behind = clients.into_iter().filter(|client| after.is_none_or(|after| *client > after));
        Ok(behind.take(size(limit)).cloned().collect())
    }

    async fn completing(&self, after: Option<DownloadId>, limit: u32) -> Result<Vec<DownloadId>, StoreError> {
        let tables = self.tables();
        let completing = tables.downloads.values().filter(|record| record.life.state == State::Completing);
        let ids = completing.map(|record| record.id).filter(|id| after.is_none_or(|after| *id > after));
        Ok(ids.take(size(limit)).collect())
    }

    async fn upload_creating(&self, row: &UploadRow) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let download = tables.downloads.get(&row.download_id);
        if download.is_none_or(|record| record.life.state != State::Uploading) {
            return Ok(false);
        }
        let row = UploadRow { multipart_id: None, aborted_once: false, ..row.clone() };
        tables.uploads.push(Upload { row, status: Status::Creating, next_check_at: Timestamp(0) });
        Ok(true)
    }

    async fn upload_open(&self, upload_row: &str, multipart_id: &MultipartId) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(upload) = tables.upload(upload_row) else { return Ok(false) };
        upload.row.multipart_id.get_or_insert_with(|| multipart_id.clone());
        let wanted = upload.status == Status::Creating;
        if wanted {
            upload.status = Status::Open;
        }
        Ok(wanted)
    }

    async fn upload_of(&self, id: DownloadId) -> Result<Option<UploadRow>, StoreError> {
        let tables = self.tables();
        let mut newest_first = tables.uploads.iter().rev();
        let found = newest_first.find(|upload| {
            let wanted = matches!(upload.status, Status::Creating | Status::Open | Status::Completing);
            upload.row.download_id == id && wanted
        });
        Ok(found.map(|upload| upload.row.clone()))
    }

    async fn upload_keys(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.not_gone().into_iter().map(|row| row.object_key).collect())
    }

    async fn upload_unwanted(&self, upload_row: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if let Some(upload) = tables.upload(upload_row)
            && matches!(upload.status, Status::Creating | Status::Open)
        {
            (upload.status, upload.next_check_at) = (Status::Aborting, now);
        }
        Ok(())
    }

    async fn uploads_to_abort(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadRow>, StoreError> {
        let tables = self.tables();
        let aborting = tables.uploads.iter().filter(|upload| upload.status == Status::Aborting);
        let mut due: Vec<_> = aborting.filter(|upload| upload.next_check_at <= now).collect();
        due.sort_by_key(|upload| upload.next_check_at);
        Ok(due.into_iter().take(size(limit)).map(|upload| upload.row.clone()).collect())
    }

    async fn upload_aborted(
        &self,
        upload_row: &str,
        aborted_once: bool,
        next_check_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if let Some(upload) = tables.upload(upload_row)
            && upload.status == Status::Aborting
        {
            match next_check_at {
                Some(at) => (upload.row.aborted_once, upload.next_check_at) = (aborted_once, at),
                None => upload.status = Status::Gone,
            }
        }
        Ok(())
    }

    async fn forget_idempotency(&self, before: Timestamp) -> Result<(), StoreError> {
        self.tables().idempotency.retain(|_, (_, _, created_at)| *created_at >= before);
        Ok(())
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.tables().settings.get(name).cloned())
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.tables().settings.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}
