//! The audit trail. The chain is made inside of the transaction, so that no two writers can fork it.

use async_trait::async_trait;
use hoist_wire::Timestamp;
use hoist_wire::audit::{Entry, GENESIS, Head, Line};
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{Row as _, SqliteConnection, query};

use super::{SqliteStore, at};
use crate::store::StoreError;
use crate::store::record::{Idempotency, Inserted, Record};
use crate::store::rows::{self, number};
use crate::store::trail::{Done, Intent, Trail, TrailFilter, cut_line, sha256};

const INSERT_LINE: &str = "insert into audit (node, seq, at, action, who, token, from_address, subject, status, code, \
     detail, count, prev, hash) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

const INSERT_INTENT: &str = "insert into audit_intents (intent, node, at, action, who, token, from_address, subject, \
     detail) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const HEAD: &str = "select seq, hash from audit where node = $1 order by seq desc limit 1";

const CUT: &str = "select seq, hash from audit_cuts where node = $1";

const KEEP_CUT: &str = "insert into audit_cuts (node, seq, hash, at) values ($1, $2, $3, $4) \
     on conflict (node) do update set seq = excluded.seq, hash = excluded.hash, at = excluded.at";

/// A clock that was set back leaves a younger line between older ones: the cut ends before the first young one.
const CUT_TO: &str = "select seq, hash, at from audit where node = $1 order by seq limit $2";

/// Gives a statement that lists lines in an order.
macro_rules! list {
    ($order:literal) => {
        concat!(
            "select * from audit where node = $1 and ($2 is null or who = $2) and ($3 is null or action = $3) \
             and ($4 is null or who = $4 or instr(subject, $4) > 0 or instr(coalesce(detail, ''), $4) > 0) \
             and ($5 is null or at >= $5) and ($6 is null or at < $6) \
             and ($7 = 0 or status in (401, 403, 409, 429)) ",
            $order
        )
    };
}

/// Only downloads that are final, and whose every upload is known to be gone.
const FORGETTABLE: &str = "select id from downloads where is_open = 0 and finished_at < $1 and not exists \
     (select 1 from uploads where download_id = downloads.id and status <> 'gone') order by finished_at limit $2";

impl SqliteStore {
    /// Appends a line to its chain.
    pub(super) async fn append(&self, tx: &mut SqliteConnection, entry: &Entry) -> Result<Head, StoreError> {
        let last = match one_head(tx, HEAD, &entry.node).await? {
            Some(head) => head,
            None => match one_head(tx, CUT, &entry.node).await? {
                Some(cut) => cut,
                None => Head { seq: 0, hash: GENESIS.to_owned() },
            },
        };
        let line = Line::seal(entry.clone(), last.seq + 1, last.hash, sha256);
        query(INSERT_LINE)
            .bind(&line.node)
            .bind(number(line.seq))
            .bind(line.at.0)
            .bind(&line.action)
            .bind(line.who.as_deref())
            .bind(line.token.as_deref())
            .bind(line.from.as_deref())
            .bind(&line.subject)
            .bind(i64::from(line.status))
            .bind(line.code.as_deref())
            .bind(line.detail.as_deref())
            .bind(number(line.count))
            .bind(&line.prev)
            .bind(&line.hash)
            .execute(tx)
            .await
            .map_err(self.failed("append to the audit trail"))
            .and_then(one_row)?;
        Ok(Head { seq: line.seq, hash: line.hash })
    }

    async fn write_intent(&self, tx: &mut SqliteConnection, intent: &Intent) -> Result<(), StoreError> {
        let entry = &intent.entry;
        query(INSERT_INTENT)
            .bind(&intent.id)
            .bind(&entry.node)
            .bind(entry.at.0)
            .bind(&entry.action)
            .bind(entry.who.as_deref())
            .bind(entry.token.as_deref())
            .bind(entry.from.as_deref())
            .bind(&entry.subject)
            .bind(entry.detail.as_deref())
            .execute(tx)
            .await
            .map_err(self.failed("note what is about to be done"))
            .and_then(one_row)
    }
}

/// Checks that a row was really written: a trigger of somebody's may have the database pass it over in silence.
#[expect(clippy::needless_pass_by_value, reason = "`and_then` hands it over")]
fn one_row(done: SqliteQueryResult) -> Result<(), StoreError> {
    if done.rows_affected() == 1 {
        return Ok(());
    }
    let value = String::from("the database passed the row over: look for a trigger on its tables");
    Err(StoreError::Corrupt { what: "audit trail", value })
}

async fn one_head(
    tx: &mut SqliteConnection,
    statement: &'static str,
    node: &str,
) -> Result<Option<Head>, StoreError> {
    let row = query(statement).bind(node).fetch_optional(tx).await.map_err(at("read the trail's head"))?;
    row.as_ref().map(rows::head).transpose()
}

#[async_trait]
impl Trail for SqliteStore {
    async fn trail_write(&self, intents: &[Intent], done: &[Done]) -> Result<(), StoreError> {
        let mut tx = self.begin("begin a piece of the audit trail").await?;
        for intent in intents {
            self.write_intent(&mut tx, intent).await?;
        }
        for Done { entry, intent } in done {
            self.append(&mut tx, entry).await?;
            if let Some(intent) = intent {
                let settle = query("delete from audit_intents where intent = $1").bind(intent);
                settle.execute(&mut *tx).await.map_err(self.failed("settle an intent"))?;
            }
        }
        self.commit("commit a piece of the audit trail", tx).await
    }

    async fn trail_unsettled(&self, node: &str, limit: u32) -> Result<Vec<Intent>, StoreError> {
        let select = "select * from audit_intents where node = $1 order by at, intent limit $2";
        let select = query(select).bind(node).bind(i64::from(limit));
        self.read_all("read what was not settled", select).await?.iter().map(rows::intent).collect()
    }

    async fn trail(&self, node: &str, filter: &TrailFilter, limit: u32) -> Result<Vec<Line>, StoreError> {
        let statement = if filter.oldest_first {
            list!("and seq > $8 order by seq limit $9")
        } else {
            list!("and seq < $8 order by seq desc limit $9")
        };
        let cursor = filter.cursor.map(number);
        let select = query(statement)
            .bind(node)
            .bind(filter.who.as_deref())
            .bind(filter.action.as_deref())
            .bind(filter.about.as_deref())
            .bind(filter.since.map(|time| time.0))
            .bind(filter.until.map(|time| time.0))
            .bind(i64::from(filter.refused))
            .bind(cursor.unwrap_or(if filter.oldest_first { 0 } else { i64::MAX }))
            .bind(i64::from(limit));
        self.read_all("read the audit trail", select).await?.iter().map(rows::line).collect()
    }

    async fn trail_head(&self, node: &str) -> Result<Option<Head>, StoreError> {
        self.read_one("read the trail's head", query(HEAD).bind(node))
            .await?
            .as_ref()
            .map(rows::head)
            .transpose()
    }

    async fn trail_cut(&self, node: &str) -> Result<Option<Head>, StoreError> {
        self.read_one("read the trail's cut", query(CUT).bind(node))
            .await?
            .as_ref()
            .map(rows::head)
            .transpose()
    }

    async fn trail_forget(
        &self,
        node: &str,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let select = query(CUT_TO).bind(node).bind(i64::from(limit));
        let oldest = self.read_all("find old lines", select).await?;
        let is_old = |row: &&SqliteRow| row.try_get::<i64, _>("at").is_ok_and(|at| at < before.0);
        let old = oldest.iter().take_while(is_old).count();
        let Some(last) = old.checked_sub(1).and_then(|nth| oldest.get(nth)) else { return Ok(0) };
        let cut = rows::head(last)?;
        let lines = u64::try_from(old).unwrap_or(u64::MAX);
        let mut tx = self.begin("begin a cut").await?;
        self.append(&mut tx, &cut_line(node, &cut, lines, now)).await?;
        let keep = query(KEEP_CUT).bind(node).bind(number(cut.seq)).bind(&cut.hash).bind(now.0);
        keep.execute(&mut *tx).await.map_err(self.failed("keep where the trail was cut"))?;
        let delete =
            query("delete from audit where node = $1 and seq <= $2").bind(node).bind(number(cut.seq));
        delete.execute(&mut *tx).await.map_err(self.failed("cut the trail"))?;
        self.commit("commit a cut", tx).await?;
        Ok(lines)
    }

    async fn insert_noted(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
        entry: &Entry,
    ) -> Result<Option<Inserted>, StoreError> {
        self.insert_record(record, idempotency, max_open, Some(entry)).await
    }

    async fn forget_downloads(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let select = query(FORGETTABLE).bind(before.0).bind(i64::from(limit));
        let rows = self.read_all("find downloads to forget", select).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin("begin to forget downloads").await?;
        for row in &rows {
            let id: String = row.try_get("id").map_err(at("id"))?;
            for statement in [
                "delete from uploads where download_id = $1 and status = 'gone'",
                "delete from parts where download_id = $1",
                "delete from downloads where id = $1 and is_open = 0",
            ] {
                let delete = query(statement).bind(&id);
                delete.execute(&mut *tx).await.map_err(self.failed("forget a download"))?;
            }
        }
        self.commit("commit what was forgotten", tx).await?;
        Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }
}
