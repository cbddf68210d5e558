//! The statements about labels, sessions and revoked operators.

use async_trait::async_trait;
use hoist_wire::reach::Labels;
use hoist_wire::{ClientId, Timestamp};
use sqlx::{Row, query};

use super::{SqliteStore, at};
use crate::store::operators::{LabelStore, SessionRow, SessionStore};
use crate::store::rows::number;
use crate::store::{StoreError, rows};

/// Of which the token was not revoked, now or at any time since the session was opened.
const SESSION: &str = "select s.* from sessions s left join revoked_operators r on r.operator = s.operator \
     where s.cookie_sha256 = $1 and (r.operator is null or s.token_made_secs > r.tokens_not_before_secs)";

const OPEN_SESSION: &str = "insert into sessions (cookie_sha256, operator, scopes, reach, token_id, token_made_secs, \
     created_at, last_used_at, expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const KEEP_NEWEST: &str = "delete from sessions where operator = $1 and cookie_sha256 not in \
     (select cookie_sha256 from sessions where operator = $1 order by created_at desc, rowid desc limit $2)";

const REVOKE: &str = "insert into revoked_operators (operator, tokens_not_before_secs) values ($1, $2) \
     on conflict (operator) do update \
     set tokens_not_before_secs = max(revoked_operators.tokens_not_before_secs, excluded.tokens_not_before_secs)";

#[async_trait]
impl LabelStore for SqliteStore {
    async fn set_labels(&self, client: &ClientId, labels: &Labels) -> Result<(), StoreError> {
        let mut tx = self.begin("begin to set labels").await?;
        let delete = query("delete from labels where client_id = $1").bind(client.as_str());
        delete.execute(&mut *tx).await.map_err(self.failed("drop labels"))?;
        for (name, value) in labels {
            let insert = query("insert into labels (client_id, name, value) values ($1, $2, $3)");
            let insert = insert.bind(client.as_str()).bind(name).bind(value);
            insert.execute(&mut *tx).await.map_err(self.failed("set a label"))?;
        }
        self.commit("commit labels", tx).await
    }

    async fn labels(&self, client: &ClientId) -> Result<Labels, StoreError> {
        let select = query("select name, value from labels where client_id = $1").bind(client.as_str());
        let rows = self.read_all("read labels", select).await?;
        let label = |row: &sqlx::sqlite::SqliteRow| {
            Ok((row.try_get("name").map_err(at("name"))?, row.try_get("value").map_err(at("value"))?))
        };
        rows.iter().map(label).collect()
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn open_session(&self, session: &SessionRow, most: u32) -> Result<(), StoreError> {
        let mut tx = self.begin("begin to open a session").await?;
        let insert = query(OPEN_SESSION)
            .bind(&session.cookie_sha256)
            .bind(&session.operator)
            .bind(serde_json::to_string(&session.scopes).unwrap_or_default())
            .bind(session.reach.as_ref().map(|reach| serde_json::to_string(reach).unwrap_or_default()))
            .bind(&session.token_id)
            .bind(number(session.token_made_secs))
            .bind(session.created_at.0)
            .bind(session.last_used_at.0)
            .bind(session.expires_at.0);
        insert.execute(&mut *tx).await.map_err(self.failed("open a session"))?;
        let keep = query(KEEP_NEWEST).bind(&session.operator).bind(i64::from(most));
        keep.execute(&mut *tx).await.map_err(self.failed("end the oldest sessions"))?;
        self.commit("commit a session", tx).await
    }

    async fn session(&self, cookie_sha256: &str) -> Result<Option<SessionRow>, StoreError> {
        let row = self.read_one("read a session", query(SESSION).bind(cookie_sha256)).await?;
        row.as_ref().map(rows::session).transpose()
    }

    async fn session_used(&self, cookie_sha256: &str, now: Timestamp) -> Result<(), StoreError> {
        let update = query("update sessions set last_used_at = $2 where cookie_sha256 = $1");
        self.write("note a session's use", update.bind(cookie_sha256).bind(now.0)).await.map(drop)
    }

    async fn end_session(&self, cookie_sha256: &str) -> Result<(), StoreError> {
        let delete = query("delete from sessions where cookie_sha256 = $1").bind(cookie_sha256);
        self.write("end a session", delete).await.map(drop)
    }

    async fn sessions_of(&self, operator: &str) -> Result<Vec<SessionRow>, StoreError> {
        let select = query("select * from sessions where operator = $1 order by created_at").bind(operator);
        self.read_all("list sessions", select).await?.iter().map(rows::session).collect()
    }

    async fn end_sessions(&self, operator: &str) -> Result<u64, StoreError> {
        self.write("end sessions", query("delete from sessions where operator = $1").bind(operator)).await
    }

    async fn forget_sessions(&self, now: Timestamp, unused_since: Timestamp) -> Result<(), StoreError> {
        let delete = query("delete from sessions where expires_at <= $1 or last_used_at < $2");
        self.write("forget sessions", delete.bind(now.0).bind(unused_since.0)).await.map(drop)
    }

    async fn revoke_operator(&self, operator: &str, made_by_secs: u64) -> Result<u64, StoreError> {
        let mut tx = self.begin("begin to revoke an operator").await?;
        let revoke = query(REVOKE).bind(operator).bind(number(made_by_secs));
        revoke.execute(&mut *tx).await.map_err(self.failed("revoke an operator"))?;
        let delete = query("delete from sessions where operator = $1").bind(operator);
        let ended = delete.execute(&mut *tx).await.map_err(self.failed("end sessions"))?.rows_affected();
        self.commit("commit a revocation", tx).await?;
        Ok(ended)
    }

    async fn operator_revoked(&self, operator: &str) -> Result<Option<u64>, StoreError> {
        let select = query("select tokens_not_before_secs from revoked_operators where operator = $1");
        let Some(row) = self.read_one("look whether an operator is revoked", select.bind(operator)).await?
        else {
            return Ok(None);
        };
        let secs: i64 = row.try_get("tokens_not_before_secs").map_err(at("tokens_not_before_secs"))?;
        Ok(Some(secs.unsigned_abs()))
    }
}
