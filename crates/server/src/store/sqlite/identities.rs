//! The statements about who is who.

use async_trait::async_trait;
use hoist_wire::audit::Entry;
use hoist_wire::{ClientId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, query};

use super::{SqliteStore, at};
use crate::store::StoreError;
use crate::store::identities::{
    Changed, Enrolled, Enrolment, Identities, KEPT_MS, MAX_NODE_SKEW_MS, Standing, enrolled_line,
};

const USE_TOKEN: &str = "update enrolments set used_at = $2, public_key = $3 \
     where token_hash = $1 and used_at is null and expires_at > $2 returning client_id";

/// A client that was never here gets its row: links, facts and times come with its first link.
const SET_KEY: &str = "insert into clients (client_id, link_seq, facts, tokens_not_before, public_key, enrolled_at, \
     identity_changed_at) values ($1, 0, '{}', 0, $2, $3, $3) on conflict (client_id) do update set \
     public_key = excluded.public_key, enrolled_at = excluded.enrolled_at, nonce_at = null, token_kid = null, \
     token_expires_at = null, identity_changed_at = excluded.identity_changed_at";

const REVOKE: &str = "insert into clients (client_id, link_seq, facts, tokens_not_before, revoked_at, \
     identity_changed_at) values ($1, 0, '{}', $2, $3, $3) on conflict (client_id) do update set \
     tokens_not_before = max(clients.tokens_not_before, excluded.tokens_not_before), public_key = null, \
     enrolled_at = null, nonce_at = null, token_kid = null, token_expires_at = null, \
     revoked_at = excluded.revoked_at, identity_changed_at = excluded.identity_changed_at";

/// A time far ahead of ours was written by a clock that was wrong, and must not keep the client out.
const USE_NONCE: &str = "update clients set nonce_at = $2 where client_id = $1 and public_key is not null \
     and (nonce_at is null or nonce_at < $2 or nonce_at > $3)";

const CHANGED: &str = "select client_id, identity_changed_at, tokens_not_before, public_key from clients \
     where identity_changed_at >= $1 and (identity_changed_at, client_id) > ($2, $3) \
     order by identity_changed_at, client_id limit $4";

#[async_trait]
impl Identities for SqliteStore {
    async fn server_id(&self, fresh: &str) -> Result<String, StoreError> {
        let keep =
            "insert into settings (name, value) values ('server_id', $1) on conflict (name) do nothing";
        self.write("keep the server's id", query(keep).bind(fresh)).await?;
        let read = query("select value from settings where name = 'server_id'");
        let row = self.read_one("read the server's id", read).await?;
        let missing = || StoreError::Corrupt { what: "server id", value: String::new() };
        row.ok_or_else(missing)?.try_get("value").map_err(at("value"))
    }

    async fn standing(&self, client: &ClientId) -> Result<Standing, StoreError> {
        let select = query("select tokens_not_before, public_key from clients where client_id = $1");
        let row = self.read_one("read how a client stands", select.bind(client.as_str())).await?;
        row.as_ref().map_or_else(|| Ok(Standing::default()), standing)
    }

    async fn note_enrolment(&self, enrolment: &Enrolment) -> Result<(), StoreError> {
        let Enrolment { token_hash, client_id, created_at, expires_at } = enrolment;
        let forget = query("delete from enrolments where expires_at < $1").bind(created_at.0 - KEPT_MS);
        self.write("forget one-time tokens", forget).await?;
        let insert =
            "insert into enrolments (token_hash, client_id, created_at, expires_at) values ($1, $2, $3, $4)";
        let insert = query(insert).bind(token_hash).bind(client_id.as_str());
        self.write("note a one-time token", insert.bind(created_at.0).bind(expires_at.0)).await.map(drop)
    }

    async fn enrol(
        &self,
        token_hash: &str,
        public_key: &str,
        now: Timestamp,
        line: &Entry,
    ) -> Result<Enrolled, StoreError> {
        const DOING: &str = "enrol a key";
        let mut tx = self.begin(DOING).await?;
        let used = query(USE_TOKEN).bind(token_hash).bind(now.0).bind(public_key);
        let used = used.fetch_optional(&mut *tx).await.map_err(self.failed(DOING))?;
        let Some(used) = used else {
            drop(tx);
            return self.enrolled_before(token_hash, public_key, now).await;
        };
        let client_id = client_of(&used)?;
        let before = query("select 1 from clients where client_id = $1 and public_key is not null");
        let before = before.bind(client_id.as_str()).fetch_optional(&mut *tx).await;
        let replaced = before.map_err(self.failed(DOING))?.is_some();
        let set = query(SET_KEY).bind(client_id.as_str()).bind(public_key).bind(now.0);
        set.execute(&mut *tx).await.map_err(self.failed(DOING))?;
        self.append(&mut tx, &enrolled_line(line, &client_id, replaced)).await?;
        self.commit(DOING, tx).await?;
        Ok(Enrolled::Now { client_id, replaced })
    }

    async fn use_nonce(
        &self,
        client: &ClientId,
        made: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let ahead = now.0.saturating_add(MAX_NODE_SKEW_MS);
        let update = query(USE_NONCE).bind(client.as_str()).bind(made.0).bind(ahead);
        Ok(self.write("use a nonce", update).await? == 1)
    }

    async fn revoke(
        &self,
        client: &ClientId,
        tokens_not_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "revoke a client";
        let mut tx = self.begin(DOING).await?;
        let revoke = query(REVOKE).bind(client.as_str()).bind(tokens_not_before.0).bind(now.0);
        revoke.execute(&mut *tx).await.map_err(self.failed(DOING))?;
        let end = query("delete from enrolments where client_id = $1").bind(client.as_str());
        end.execute(&mut *tx).await.map_err(self.failed(DOING))?;
        self.commit(DOING, tx).await
    }

    async fn identities_changed(
        &self,
        since: Timestamp,
        after: Option<(Timestamp, ClientId)>,
        limit: u32,
    ) -> Result<Vec<Changed>, StoreError> {
        let (at_time, id) = after.map_or((i64::MIN, String::new()), |(at, id)| (at.0, id.to_string()));
        let select = query(CHANGED).bind(since.0).bind(at_time).bind(id).bind(i64::from(limit));
        let rows = self.read_all("find changed identities", select).await?;
        let changed = |row: &SqliteRow| {
            let changed_at = row.try_get("identity_changed_at").map_err(at("identity_changed_at"))?;
            Ok(Changed { client_id: client_of(row)?, at: Timestamp(changed_at), standing: standing(row)? })
        };
        rows.iter().map(changed).collect()
    }
}

impl SqliteStore {
    /// Tells whether a key was enrolled by this token before, and is the client's still.
    async fn enrolled_before(
        &self,
        token_hash: &str,
        public_key: &str,
        now: Timestamp,
    ) -> Result<Enrolled, StoreError> {
        let select = "select enrolments.client_id, enrolments.expires_at > $3 \
             and enrolments.public_key is $2 and clients.public_key is $2 as is_the_same \
             from enrolments left join clients on clients.client_id = enrolments.client_id where token_hash = $1";
        let select = query(select).bind(token_hash).bind(public_key).bind(now.0);
        let Some(row) = self.read_one("read a one-time token", select).await? else {
            return Ok(Enrolled::Refused { client_id: None });
        };
        let client_id = client_of(&row)?;
        let is_the_same: bool = row.try_get("is_the_same").map_err(at("is_the_same"))?;
        Ok(if is_the_same {
            Enrolled::Before { client_id }
        } else {
            Enrolled::Refused { client_id: Some(client_id) }
        })
    }
}

fn client_of(row: &SqliteRow) -> Result<ClientId, StoreError> {
    let id: String = row.try_get("client_id").map_err(at("client_id"))?;
    id.parse().map_err(|_| StoreError::Corrupt { what: "client id", value: id })
}

fn standing(row: &SqliteRow) -> Result<Standing, StoreError> {
    let not_before = row.try_get("tokens_not_before").map_err(at("tokens_not_before"))?;
    let public_key = row.try_get("public_key").map_err(at("public_key"))?;
    Ok(Standing { tokens_not_before: Timestamp(not_before), public_key })
}
