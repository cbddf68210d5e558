//! The statements about downloads that write one or list many.

use hoist_wire::audit::Entry;
use sqlx::{Row as _, query};

use super::idempotency::earlier_request;
use super::{SqliteQuery, SqliteStore, at};
use crate::store::StoreError;
use crate::store::record::{Along, Idempotency, Inserted, Record, UploadFate};
use crate::store::rows::{name, number};

impl SqliteStore {
    pub(super) async fn insert_record(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
        noted: Option<&Entry>,
    ) -> Result<Option<Inserted>, StoreError> {
        let mut tx = self.begin("begin an insert").await?;
        if let Some(key) = idempotency
            && let Some(before) = earlier_request(&mut tx, key).await?
        {
            return Ok(Some(before));
        }
        let open = query(
            "select count(*) as open from (select 1 from downloads where client_id = $1 \
             and is_open = 1 limit $2)",
        );
        let row = open.bind(record.client_id.as_str()).bind(i64::from(max_open)).fetch_one(&mut *tx).await;
        let open: i64 = row.and_then(|row| row.try_get("open")).map_err(at("count downloads"))?;
        if open >= i64::from(max_open) {
            return Ok(None);
        }
        bind_record(query(INSERT_RECORD), record)
            .execute(&mut *tx)
            .await
            .map_err(self.failed("insert a download"))?;
        if let Some(key) = idempotency {
            let insert = query(
                "insert into idempotency (operator, idempotency_key, body_hash, download_id, created_at) \
                 values ($1, $2, $3, $4, $5)",
            );
            let insert =
                insert.bind(&key.operator).bind(&key.key).bind(&key.body_hash).bind(record.id.to_string());
            insert
                .bind(record.created_at.0)
                .execute(&mut *tx)
                .await
                .map_err(self.failed("keep an idempotency key"))?;
        }
        if let Some(entry) = noted {
            self.append(&mut tx, entry).await?;
        }
        self.commit("commit a download", tx).await?;
        Ok(Some(Inserted::New))
    }

    pub(super) async fn save_record(&self, record: &Record, along: &Along) -> Result<bool, StoreError> {
        let mut tx = self.begin("begin a write").await?;
        let done = bind_record(query(UPDATE_RECORD), record)
            .execute(&mut *tx)
            .await
            .map_err(self.failed("write a download"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some((attempt, parts)) = &along.parts {
            let upsert = query(
                "insert into parts (download_id, attempt, parts) values ($1, $2, $3) \
                 on conflict (download_id) do update set attempt = excluded.attempt, parts = excluded.parts",
            );
            let upsert = upsert.bind(record.id.to_string()).bind(i64::from(attempt.0)).bind(parts);
            upsert.execute(&mut *tx).await.map_err(self.failed("write the parts"))?;
        }
        if record.life.state.is_final() {
            let delete = query("delete from parts where download_id = $1").bind(record.id.to_string());
            delete.execute(&mut *tx).await.map_err(self.failed("drop the parts"))?;
        }
        if let Some(fate) = along.upload {
            let update = query(match fate {
                UploadFate::Completing => {
                    "update uploads set status = 'completing', next_check_at = $2 where download_id = $1 \
                     and status = 'open'"
                }
                UploadFate::Closed => {
                    "update uploads set status = 'gone', next_check_at = $2 where download_id = $1 \
                     and status in ('open', 'completing')"
                }
                UploadFate::Abort => {
                    "update uploads set status = 'aborting', next_check_at = $2 where download_id = $1 \
                     and status in ('creating', 'open', 'completing')"
                }
            });
            let update = update.bind(record.id.to_string()).bind(record.updated_at.0);
            update.execute(&mut *tx).await.map_err(self.failed("write an upload's fate"))?;
        }
        self.commit("commit a write", tx).await?;
        Ok(true)
    }
}

const INSERT_RECORD: &str = "insert into downloads (id, client_id, version, state, reason_code, reason_message, \
     reason_since, next_at, attempt, link, changed_passes, on_change, expires_at, size_bytes, part_size_bytes, checksum, \
     crc64nvme, absent_since, proof, error_code, error_message, file_path, found_path, file_name, modified_ms, \
     object_key, write_token, metadata, requested_by, stored_bytes, created_at, started_at, updated_at, finished_at, is_open, \
     max_rate_bytes_per_sec, site_chooses, contradicted) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
     $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38)";

const UPDATE_RECORD: &str = "update downloads set version = version + 1, client_id = $2, state = $4, reason_code = $5, \
     reason_message = $6, reason_since = $7, next_at = $8, attempt = $9, link = $10, changed_passes = $11, \
     on_change = $12, expires_at = $13, size_bytes = $14, part_size_bytes = $15, checksum = $16, crc64nvme = $17, \
     absent_since = $18, proof = $19, error_code = $20, error_message = $21, file_path = $22, found_path = $23, \
     file_name = $24, modified_ms = $25, object_key = $26, write_token = $27, metadata = $28, requested_by = $29, \
     stored_bytes = $30, created_at = $31, started_at = $32, updated_at = $33, finished_at = $34, is_open = $35, \
     max_rate_bytes_per_sec = $36, site_chooses = $37, contradicted = $38 where id = $1 and version = $3";

fn bind_record<'q>(query: SqliteQuery<'q>, record: &'q Record) -> SqliteQuery<'q> {
    let life = &record.life;
    let reason = life.reason.as_ref();
    let failure = life.failure.as_ref();
    let found = record.found.as_ref();
    query
        .bind(record.id.to_string())
        .bind(record.client_id.as_str())
        .bind(number(record.version))
        .bind(life.state.as_str())
        .bind(reason.map(|reason| reason.code.as_str()))
        .bind(reason.map(|reason| reason.message.as_str()))
        .bind(reason.map(|reason| reason.since.0))
        .bind(reason.map(|reason| reason.next_at.0))
        .bind(i64::from(life.attempt.0))
        .bind(life.link.map(|link| number(link.0)))
        .bind(i64::from(life.changed_passes))
        .bind(life.on_change.as_str())
        .bind(life.expires_at.0)
        .bind(life.size_bytes.map(number))
        .bind(life.upload.map(|upload| number(upload.part_size_bytes)))
        .bind(life.upload.map(|upload| upload.checksum.as_str()))
        .bind(name(life.crc64nvme))
        .bind(life.absent_since.map(|time| time.0))
        .bind(life.proof.map(hoist_wire::ChecksumKind::as_str))
        .bind(failure.map(|failure| failure.code.as_str()))
        .bind(failure.map(|failure| failure.message.as_str()))
        .bind(record.file_path.as_deref())
        .bind(found.map(|found| found.path.as_str()))
        .bind(found.map(|found| found.name.as_str()))
        .bind(found.map(|found| found.modified_ms))
        .bind(record.object_key.as_deref())
        .bind(&record.write_token)
        .bind(serde_json::to_string(&record.metadata).unwrap_or_default())
        .bind(&record.requested_by)
        .bind(number(record.stored_bytes))
        .bind(record.created_at.0)
        .bind(record.started_at.map(|time| time.0))
        .bind(record.updated_at.0)
        .bind(record.finished_at.map(|time| time.0))
        .bind(i64::from(!life.state.is_final()))
        .bind(record.max_rate_bytes_per_sec.map(number))
        .bind(i64::from(life.site_chooses))
        .bind(i64::from(life.contradicted))
}
