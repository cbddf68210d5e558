//! The statements about uploads: the memory of what we own in the bucket.

use hoist_wire::{DownloadId, Timestamp};
use sqlx::{Row, query};

use super::{SqliteStore, at};
use crate::bucket::MultipartId;
use crate::store::{StoreError, UploadRow, rows};

impl SqliteStore {
    pub(super) async fn upload_creating_row(&self, row: &UploadRow) -> Result<bool, StoreError> {
        let insert = query(
            "insert into uploads (upload_row, download_id, object_key, multipart_id, status, aborted_once, next_check_at) \
             select $1, id, $3, null, 'creating', 0, 0 from downloads where id = $2 and state = 'uploading'",
        );
        let insert = insert.bind(&row.upload_row).bind(row.download_id.to_string()).bind(&row.object_key);
        Ok(self.write("note an upload", insert).await? == 1)
    }

    pub(super) async fn upload_open_row(
        &self,
        upload_row: &str,
        multipart_id: &MultipartId,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin("begin an upload").await?;
        let update =
            query("update uploads set multipart_id = $2 where upload_row = $1 and multipart_id is null");
        update
            .bind(upload_row)
            .bind(&multipart_id.0)
            .execute(&mut *tx)
            .await
            .map_err(self.failed("note an upload's id"))?;
        let open = query("update uploads set status = 'open' where upload_row = $1 and status = 'creating'");
        let done =
            open.bind(upload_row).execute(&mut *tx).await.map_err(self.failed("note an open upload"))?;
        self.commit("commit an upload", tx).await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn upload_of_row(&self, id: DownloadId) -> Result<Option<UploadRow>, StoreError> {
        // The newest row wins: an older one that is still open was made by a node that lost its guard.
        let select = query(
            "select * from uploads where download_id = $1 and status in ('creating', 'open', 'completing') \
             order by rowid desc limit 1",
        );
        self.read_one("read an upload", select.bind(id.to_string()))
            .await?
            .as_ref()
            .map(rows::upload)
            .transpose()
    }

    pub(super) async fn upload_keys_row(&self) -> Result<Vec<String>, StoreError> {
        let select = query("select object_key from uploads where status <> 'gone'");
        let rows = self.read_all("list the keys of uploads", select).await?;
        rows.iter().map(|row| row.try_get("object_key").map_err(at("object_key"))).collect()
    }

    pub(super) async fn upload_unwanted_row(
        &self,
        upload_row: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = query(
            "update uploads set status = 'aborting', next_check_at = $2 where upload_row = $1 \
             and status in ('creating', 'open')",
        );
        self.write("note an unwanted upload", update.bind(upload_row).bind(now.0)).await.map(drop)
    }

    pub(super) async fn uploads_to_abort_row(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<UploadRow>, StoreError> {
        let select = query(
            "select * from uploads where status = 'aborting' and next_check_at <= $1 order by next_check_at limit $2",
        );
        let rows = self.read_all("find uploads to abort", select.bind(now.0).bind(i64::from(limit))).await?;
        rows.iter().map(rows::upload).collect()
    }

    pub(super) async fn upload_aborted_row(
        &self,
        upload_row: &str,
        aborted_once: bool,
        next_check_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let update = match next_check_at {
            Some(at) => query(
                "update uploads set aborted_once = $2, next_check_at = $3 where upload_row = $1 and status = 'aborting'",
            )
            .bind(upload_row)
            .bind(i64::from(aborted_once))
            .bind(at.0),
            None => query("update uploads set status = 'gone' where upload_row = $1 and status = 'aborting'")
                .bind(upload_row),
        };
        self.write("note an abort", update).await.map(drop)
    }
}
