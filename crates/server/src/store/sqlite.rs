//! The store on SQLite: one writer, several readers, WAL, and every commit flushed to the disk.

mod audit;
mod clients;
mod downloads;
mod idempotency;
mod identities;
mod lists;
mod operators;
mod uploads;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hoist_wire::{Attempt, ClientId, DownloadId, Instance, LinkSeq, Timestamp};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction, query};

use super::record::{
    Along, ClientFilter, ClientRow, DownloadFilter, Due, Idempotency, Inserted, Introduction, Record,
    UploadRow,
};
use super::rows::{self, name};
use super::{Store, StoreError};
use crate::bucket::MultipartId;

/// The store of one machine.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// The last write failed.
    failing: AtomicBool,
}

/// How long a reader waits for the database's lock; the one writer never does.
const BUSY: Duration = Duration::from_secs(10);

impl SqliteStore {
    /// Opens the database at `path`, which is made when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be used, [`StoreError::Migrate`] when a newer hoist made it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        let pool =
            |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(3 * BUSY);
        let writer = pool(1).connect_with(options.clone()).await.map_err(open)?;
        sqlx::migrate!().run(&writer).await.map_err(StoreError::Migrate)?;
        let readers = pool(4).connect_with(options.read_only(true)).await.map_err(open)?;
        Ok(Self { writer, readers, failing: AtomicBool::new(false) })
    }

    async fn read_all(
        &self,
        doing: &'static str,
        query: SqliteQuery<'_>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        query.fetch_all(&self.readers).await.map_err(at(doing))
    }

    async fn read_one(
        &self,
        doing: &'static str,
        query: SqliteQuery<'_>,
    ) -> Result<Option<SqliteRow>, StoreError> {
        query.fetch_optional(&self.readers).await.map_err(at(doing))
    }

    /// Runs one statement, and tells how many rows it changed.
    async fn write(&self, doing: &'static str, query: SqliteQuery<'_>) -> Result<u64, StoreError> {
        let done = query.execute(&self.writer).await;
        self.written(doing, done.map(|done| done.rows_affected()))
    }

    /// Begins a transaction on the one writer.
    ///
    /// SQLite ends a transaction by itself when the disk is full or fails, and the connection does not hear of it: it
    /// counts one as open for ever, and begins no other. Then another connection takes its place.
    async fn begin(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>, StoreError> {
        if let Ok(tx) = self.writer.begin_with(BEGIN).await {
            return Ok(tx);
        }
        if let Ok(stuck) = self.writer.acquire().await {
            let _ = stuck.close().await;
        }
        let begun = self.writer.begin_with(BEGIN).await;
        self.written(doing, begun)
    }

    async fn commit(&self, doing: &'static str, tx: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        let done = tx.commit().await;
        self.written(doing, done)
    }

    /// Notes whether the database takes what is written.
    fn written<T>(&self, doing: &'static str, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.failing.store(false, Ordering::Relaxed);
        result.map_err(self.failed(doing))
    }

    /// Notes that the database does not take what is written.
    fn failed(&self, doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
        move |source| {
            self.failing.store(true, Ordering::Relaxed);
            StoreError::Query { doing, source }
        }
    }
}

/// The writer's lock is taken at once, so that no transaction fails half way for another's sake.
const BEGIN: &str = "begin immediate";

type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Says what was being done when a statement failed.
fn at(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { doing, source }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        if self.failing.load(Ordering::Relaxed) {
            // A full disk answers every question, so after a failed write only a write can tell.
            return self.set_setting("last_trouble", "over").await;
        }
        self.read_one("ping", query("select 1")).await.map(drop)
    }

    async fn open_link(
        &self,
        client: &ClientId,
        who: &Introduction,
        now: Timestamp,
    ) -> Result<LinkSeq, StoreError> {
        self.open_link_row(client, who, now).await
    }

    async fn close_link(&self, client: &ClientId, link: LinkSeq, now: Timestamp) -> Result<(), StoreError> {
        self.close_link_row(client, link, now).await
    }

    async fn suspect_clone(
        &self,
        client: &ClientId,
        refused: Option<&Instance>,
        now: Timestamp,
        every: Duration,
    ) -> Result<(), StoreError> {
        self.suspect_clone_row(client, refused, now, every).await
    }

    async fn token_renewed(
        &self,
        client: &ClientId,
        link: LinkSeq,
        expires_at: Timestamp,
        kid: &str,
    ) -> Result<(), StoreError> {
        self.token_renewed_row(client, link, expires_at, kid).await
    }

    async fn close_all_links(&self, now: Timestamp) -> Result<(), StoreError> {
        let close =
            query("update clients set connected_link = null, since = $1 where connected_link is not null");
        self.write("close all links", close.bind(now.0)).await.map(drop)
    }

    async fn client(&self, client: &ClientId) -> Result<Option<ClientRow>, StoreError> {
        self.client_row(client).await
    }

    async fn clients(&self, filter: &ClientFilter, limit: u32) -> Result<Vec<ClientRow>, StoreError> {
        self.client_rows(filter, limit).await
    }

    async fn insert(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
    ) -> Result<Option<Inserted>, StoreError> {
        self.insert_record(record, idempotency, max_open, None).await
    }

    async fn download(&self, id: DownloadId) -> Result<Option<Record>, StoreError> {
        let select = query("select * from downloads where id = $1").bind(id.to_string());
        self.read_one("read a download", select).await?.as_ref().map(rows::record).transpose()
    }

    async fn downloads(&self, filter: &DownloadFilter, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.download_rows(filter, limit).await
    }

    async fn save(&self, record: &Record, along: &Along) -> Result<bool, StoreError> {
        self.save_record(record, along).await
    }

    async fn parts(&self, id: DownloadId) -> Result<Option<(Attempt, Vec<u8>)>, StoreError> {
        let select = query("select attempt, parts from parts where download_id = $1").bind(id.to_string());
        let Some(row) = self.read_one("read the parts", select).await? else { return Ok(None) };
        let attempt: i64 = row.try_get("attempt").map_err(at("attempt"))?;
        let parts: Vec<u8> = row.try_get("parts").map_err(at("parts"))?;
        Ok(Some((Attempt(u32::try_from(attempt).unwrap_or(0)), parts)))
    }

    async fn due(&self, client: &ClientId, now: Timestamp, limit: u32) -> Result<Due, StoreError> {
        let select = query(DUE).bind(client.as_str()).bind(now.0).bind(i64::from(limit));
        let ids = self.read_all("find due downloads", select).await?;
        let next = self
            .read_one("find the next due time", query(NEXT_DUE).bind(client.as_str()).bind(now.0))
            .await?;
        let next_at: Option<i64> = match next {
            Some(row) => row.try_get("next_at").map_err(at("next_at"))?,
            None => None,
        };
        Ok(Due { ids: ids.iter().map(id_of).collect::<Result<_, _>>()?, next_at: next_at.map(Timestamp) })
    }

    async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<DownloadId>, StoreError> {
        let select = query(OVERDUE);
        let rows = self.read_all("find overdue downloads", select.bind(now.0).bind(i64::from(limit))).await?;
        rows.iter().map(id_of).collect()
    }

    async fn waiting_clients(
        &self,
        after: Option<&ClientId>,
        limit: u32,
    ) -> Result<Vec<ClientId>, StoreError> {
        let select = query(WAITING_CLIENTS).bind(after.map_or("", ClientId::as_str)).bind(i64::from(limit));
        let rows = self.read_all("find clients that are waited for", select).await?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get("client_id").map_err(at("client_id"))?;
                id.parse().map_err(|_| StoreError::Corrupt { what: "client id", value: id })
            })
            .collect()
    }

    async fn completing(&self, after: Option<DownloadId>, limit: u32) -> Result<Vec<DownloadId>, StoreError> {
        let select =
            query("select id from downloads where state = 'completing' and id > $1 order by id limit $2");
        let after = name(after).unwrap_or_default();
        let rows =
            self.read_all("find completing downloads", select.bind(after).bind(i64::from(limit))).await?;
        rows.iter().map(id_of).collect()
    }

    async fn upload_creating(&self, row: &UploadRow) -> Result<bool, StoreError> {
        self.upload_creating_row(row).await
    }

    async fn upload_open(&self, upload_row: &str, multipart_id: &MultipartId) -> Result<bool, StoreError> {
        self.upload_open_row(upload_row, multipart_id).await
    }

    async fn upload_of(&self, id: DownloadId) -> Result<Option<UploadRow>, StoreError> {
        self.upload_of_row(id).await
    }

    async fn upload_keys(&self) -> Result<Vec<String>, StoreError> {
        self.upload_keys_row().await
    }

    async fn upload_unwanted(&self, upload_row: &str, now: Timestamp) -> Result<(), StoreError> {
        self.upload_unwanted_row(upload_row, now).await
    }

    async fn uploads_to_abort(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadRow>, StoreError> {
        self.uploads_to_abort_row(now, limit).await
    }

    async fn upload_aborted(
        &self,
        upload_row: &str,
        aborted_once: bool,
        next_check_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.upload_aborted_row(upload_row, aborted_once, next_check_at).await
    }

    async fn forget_idempotency(&self, before: Timestamp) -> Result<(), StoreError> {
        let delete = query("delete from idempotency where created_at < $1").bind(before.0);
        self.write("forget idempotency keys", delete).await.map(drop)
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let select = query("select value from settings where name = $1").bind(name);
        let row = self.read_one("read a setting", select).await?;
        row.map(|row| row.try_get("value").map_err(at("value"))).transpose()
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let upsert = query(
            "insert into settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value",
        );
        self.write("keep a setting", upsert.bind(name).bind(value)).await.map(drop)
    }
}

// `is_open = 1` and no state by `=`: else a client's whole past is read, or all that is queued for anybody.
const DUE: &str = "select id from downloads where client_id = $1 and is_open = 1 \
     and state <> 'completing' and not (state = 'queued' and reason_code not in ('client_offline', 'client_busy') and next_at > $2) \
     order by id limit $3";

const NEXT_DUE: &str = "select min(next_at) as next_at from downloads where client_id = $1 and \
     is_open = 1 and state <> 'uploading' and state <> 'completing' and reason_code not in ('client_offline', 'client_busy') and next_at > $2";

/// Answered by the index alone.
const WAITING_CLIENTS: &str = "select distinct client_id from downloads where is_open = 1 and client_id > $1 \
     order by client_id limit $2";

/// Deadlines have an index of their own.
const OVERDUE: &str =
    "select id from downloads where expires_at <= $1 and is_open = 1 order by expires_at limit $2";

fn id_of(row: &SqliteRow) -> Result<DownloadId, StoreError> {
    let id: String = row.try_get("id").map_err(at("id"))?;
    id.parse().map_err(|_| StoreError::Corrupt { what: "download id", value: id })
}

#[cfg(test)]
mod tests;
