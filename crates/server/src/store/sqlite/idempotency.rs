//! Requests that came before, under the key that their operator gave them.

use sqlx::{Row as _, SqliteConnection, query};

use super::super::StoreError;
use super::super::record::{Idempotency, Inserted};
use super::at;

/// Finds the download of an earlier request with the same key.
pub(super) async fn earlier_request(
    tx: &mut SqliteConnection,
    key: &Idempotency,
) -> Result<Option<Inserted>, StoreError> {
    let select =
        query("select body_hash, download_id from idempotency where operator = $1 and idempotency_key = $2");
    let row =
        select.bind(&key.operator).bind(&key.key).fetch_optional(tx).await.map_err(at("find a request"))?;
    let Some(row) = row else { return Ok(None) };
    let body_hash: String = row.try_get("body_hash").map_err(at("body_hash"))?;
    if body_hash != key.body_hash {
        return Ok(Some(Inserted::Mismatch));
    }
    let id: String = row.try_get("download_id").map_err(at("download_id"))?;
    let id = id.parse().map_err(|_| StoreError::Corrupt { what: "download id", value: id })?;
    Ok(Some(Inserted::Before(id)))
}
