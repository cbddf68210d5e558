//! The statements about clients that change something: links come and go, and clones are suspected.

use std::time::Duration;

use hoist_wire::{ClientId, Instance, LinkSeq, Timestamp};
use sqlx::{Row, query};

use super::{SqliteStore, at};
use crate::store::rows::number;
use crate::store::{Introduction, StoreError};

const OPEN_LINK: &str = "insert into clients (client_id, link_seq, connected_link, since, last_seen, agent_version, os, \
     host, facts, token_expires_at, tokens_not_before, instance, token_kid) values ($1, 1, 1, $2, $2, $3, $4, $5, $6, $7, 0, \
     $8, $9) \
     on conflict (client_id) do update set link_seq = clients.link_seq + 1, connected_link = clients.link_seq + 1, \
     since = excluded.since, last_seen = excluded.last_seen, agent_version = excluded.agent_version, \
     os = excluded.os, host = excluded.host, facts = excluded.facts, token_expires_at = excluded.token_expires_at, \
     instance = excluded.instance, token_kid = excluded.token_kid returning link_seq";

const TOKEN_RENEWED: &str =
    "update clients set token_expires_at = $3, token_kid = $4 where client_id = $1 and connected_link = $2";

const CLOSE_LINK: &str = "update clients set connected_link = null, since = $3, last_seen = $3 \
     where client_id = $1 and connected_link = $2";

/// The one that has the link is in the row already. A time ahead of ours was written by a clock that was wrong.
const SUSPECT_CLONE: &str = "update clients set clone_suspected_at = $2, clone_linked = instance, \
     clone_linked_host = host, clone_refused = $3 where client_id = $1 \
     and (clone_suspected_at is null or clone_suspected_at <= $4 or clone_suspected_at > $2)";

impl SqliteStore {
    pub(super) async fn open_link_row(
        &self,
        client: &ClientId,
        who: &Introduction,
        now: Timestamp,
    ) -> Result<LinkSeq, StoreError> {
        let row = query(OPEN_LINK)
            .bind(client.as_str())
            .bind(now.0)
            .bind(&who.agent_version)
            .bind(&who.os)
            .bind(&who.host)
            .bind(serde_json::to_string(&who.facts).unwrap_or_default())
            .bind(who.token_expires_at.map(|at| at.0))
            .bind(who.instance.as_ref().map(ToString::to_string))
            .bind(who.token_kid.as_deref())
            .fetch_one(&self.writer)
            .await;
        let row = self.written("open a link", row)?;
        let link: i64 = row.try_get("link_seq").map_err(at("link_seq"))?;
        Ok(LinkSeq(link.unsigned_abs()))
    }

    pub(super) async fn close_link_row(
        &self,
        client: &ClientId,
        link: LinkSeq,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let close = query(CLOSE_LINK).bind(client.as_str()).bind(number(link.0)).bind(now.0);
        self.write("close a link", close).await.map(drop)
    }

    pub(super) async fn token_renewed_row(
        &self,
        client: &ClientId,
        link: LinkSeq,
        expires_at: Timestamp,
        kid: &str,
    ) -> Result<(), StoreError> {
        let update =
            query(TOKEN_RENEWED).bind(client.as_str()).bind(number(link.0)).bind(expires_at.0).bind(kid);
        self.write("note a token", update).await.map(drop)
    }

    pub(super) async fn suspect_clone_row(
        &self,
        client: &ClientId,
        refused: Option<&Instance>,
        now: Timestamp,
        every: Duration,
    ) -> Result<(), StoreError> {
        let long_ago = now.0.saturating_sub(i64::try_from(every.as_millis()).unwrap_or(i64::MAX));
        let refused = refused.map(ToString::to_string);
        let suspect = query(SUSPECT_CLONE).bind(client.as_str()).bind(now.0).bind(refused).bind(long_ago);
        self.write("note a clone", suspect).await.map(drop)
    }
}
