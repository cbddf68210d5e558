//! The lists of clients and downloads: page by page, each shape with a statement that uses its own index.
//!
//! Within a reach there are two ways to a page of downloads. Where the reach has much, its newest are among the newest
//! of all; where it has little, they are few enough to be looked through by client. The first look is at the newest of
//! all, and bounded; only where it finds too little, the second way is gone.

use hoist_wire::reach::Reach;
use hoist_wire::{ClientId, DownloadId};
use sqlx::query;

use super::{SqliteQuery, SqliteStore};
use crate::store::rows::{self, name};
use crate::store::{ClientFilter, ClientRow, DownloadFilter, Record, StoreError};

/// How many of the newest downloads are looked at for each that a page may have.
const WINDOW: i64 = 20;

/// An `exists` that has all labels of a JSON object; the client's id stands in for `{client}`.
macro_rules! has_labels {
    ($client:literal, $labels:literal) => {
        concat!(
            "not exists (select 1 from json_each(",
            $labels,
            ") j where not exists (select 1 from labels h where h.client_id = ",
            $client,
            " and h.name = j.key and h.value = j.value))"
        )
    };
}

/// A client's row together with its labels.
macro_rules! with_labels {
    () => {
        "c.*, (select json_group_object(b.name, b.value) from labels b where b.client_id = c.client_id) as labels"
    };
}

pub(super) const CLIENT: &str = concat!("select ", with_labels!(), " from clients c where c.client_id = $1");

/// A client id holds no character above '~', so this ends the range of a prefix, and nothing in it is a wildcard.
pub(super) const CLIENTS: &str = concat!(
    "select ",
    with_labels!(),
    " from clients c where c.client_id > $1 and c.client_id >= $2 and c.client_id <= $2 || '~' \
     and ($3 is null or (c.connected_link is not null) = $3) order by c.client_id limit $4"
);

/// Driven by the first label of the filter; `cross join` keeps that order.
pub(super) const CLIENTS_WITH_LABELS: &str = concat!(
    "select ",
    with_labels!(),
    " from labels l cross join clients c on c.client_id = l.client_id where l.name = $6 and l.value = $7 \
     and l.client_id > $1 and l.client_id >= $2 and l.client_id <= $2 || '~' \
     and ($3 is null or (c.connected_link is not null) = $3) and ",
    has_labels!("l.client_id", "$5"),
    " order by l.client_id limit $4"
);

pub(super) const WINDOW_OF_ALL: &str = concat!(
    "select * from (select * from downloads where id < $1 order by id desc limit $6) d \
     where d.client_id >= $3 and d.client_id <= $3 || '~' and ",
    has_labels!("d.client_id", "$4"),
    " order by d.id desc limit $5"
);

pub(super) const WINDOW_OF_STATE: &str = concat!(
    "select * from (select * from downloads where state = $2 and id < $1 order by id desc limit $6) d \
     where d.client_id >= $3 and d.client_id <= $3 || '~' and ",
    has_labels!("d.client_id", "$4"),
    " order by d.id desc limit $5"
);

/// How much there was to look at, from the index alone.
const SEEN_OF_ALL: &str = "select count(*) as seen from (select 1 from downloads where id < $1 limit $3)";

const SEEN_OF_STATE: &str =
    "select count(*) as seen from (select 1 from downloads where state = $2 and id < $1 limit $3)";

pub(super) const BY_PREFIX: &str = "select d.* from (select id from downloads indexed by downloads_of_client \
     where client_id >= $3 and client_id <= $3 || '~' and id < $1 and ($2 is null or state = $2) \
     order by id desc limit $4) f cross join downloads d on d.id = f.id order by d.id desc";

pub(super) const BY_LABEL: &str = concat!(
    "select d.* from (select e.id from labels l cross join downloads e indexed by downloads_of_client \
     on e.client_id = l.client_id where l.name = $6 and l.value = $7 \
     and l.client_id >= $3 and l.client_id <= $3 || '~' and ",
    has_labels!("l.client_id", "$5"),
    " and e.id < $1 and ($2 is null or e.state = $2) order by e.id desc limit $4) f \
     cross join downloads d on d.id = f.id order by d.id desc"
);

fn labels_json(reach: &Reach) -> String {
    // Strings alone: it cannot fail, and if it did, the statement would.
    serde_json::to_string(&reach.labels).unwrap_or_default()
}

impl SqliteStore {
    pub(super) async fn client_row(&self, client: &ClientId) -> Result<Option<ClientRow>, StoreError> {
        let select = query(CLIENT).bind(client.as_str());
        self.read_one("read a client", select).await?.as_ref().map(rows::client).transpose()
    }

    pub(super) async fn client_rows(
        &self,
        filter: &ClientFilter,
        limit: u32,
    ) -> Result<Vec<ClientRow>, StoreError> {
        let Reach { prefix, labels } = &filter.reach;
        let first = labels.iter().next();
        let select = query(if first.is_some() { CLIENTS_WITH_LABELS } else { CLIENTS })
            .bind(filter.after.as_ref().map_or("", ClientId::as_str))
            .bind(prefix.as_deref().unwrap_or_default())
            .bind(filter.connected)
            .bind(i64::from(limit));
        let select = match first {
            Some((name, value)) => select.bind(labels_json(&filter.reach)).bind(name).bind(value),
            None => select,
        };
        self.read_all("list clients", select).await?.iter().map(rows::client).collect()
    }

    pub(super) async fn download_rows(
        &self,
        filter: &DownloadFilter,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        match &filter.client_id {
            Some(client) if filter.reach.is_all() => self.of_client(client, filter, limit).await,
            Some(client) => {
                let labels = crate::store::LabelStore::labels(self, client).await?;
                if filter.reach.has(client, &labels) {
                    self.of_client(client, filter, limit).await
                } else {
                    Ok(Vec::new())
                }
            }
            None if filter.reach.is_all() => self.of_all(filter, limit).await,
            None => self.within_reach(filter, limit).await,
        }
    }

    async fn of_client(
        &self,
        client: &ClientId,
        filter: &DownloadFilter,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let (client, before, limit) = (client.as_str(), before(filter), i64::from(limit));
        let select = match (filter.state, filter.open) {
            (None, Some(true)) => query(
                "select * from downloads where client_id = $1 and id < $2 \
                 and is_open = 1 order by id limit $3",
            )
            .bind(client)
            .bind(before)
            .bind(limit),
            (state, open) => query(
                "select * from downloads where client_id = $1 and id < $2 and ($3 is null or state = $3) \
                 and ($4 is null or (is_open = 1) = $4) order by id desc limit $5",
            )
            .bind(client)
            .bind(before)
            .bind(name(state))
            .bind(open)
            .bind(limit),
        };
        self.records(select).await
    }

    async fn of_all(&self, filter: &DownloadFilter, limit: u32) -> Result<Vec<Record>, StoreError> {
        let (before, limit) = (before(filter), i64::from(limit));
        let select = match filter.state {
            Some(state) => {
                query("select * from downloads where state = $1 and id < $2 order by id desc limit $3")
                    .bind(state.as_str())
                    .bind(before)
                    .bind(limit)
            }
            None => query("select * from downloads where id < $1 order by id desc limit $2")
                .bind(before)
                .bind(limit),
        };
        self.records(select).await
    }

    async fn within_reach(&self, filter: &DownloadFilter, limit: u32) -> Result<Vec<Record>, StoreError> {
        let Reach { prefix, labels } = &filter.reach;
        let (before, state, limit) = (before(filter), name(filter.state), i64::from(limit));
        let (prefix, json) = (prefix.as_deref().unwrap_or_default(), labels_json(&filter.reach));
        let (window, seen) = match filter.state {
            Some(_) => (WINDOW_OF_STATE, SEEN_OF_STATE),
            None => (WINDOW_OF_ALL, SEEN_OF_ALL),
        };
        let wide = WINDOW.saturating_mul(limit);
        let select = query(window).bind(&before).bind(&state).bind(prefix).bind(&json).bind(limit).bind(wide);
        let found = self.records(select).await?;
        if i64::try_from(found.len()).is_ok_and(|found| found >= limit) {
            return Ok(found);
        }
        let seen =
            self.read_one("count downloads", query(seen).bind(&before).bind(&state).bind(wide)).await?;
        if seen.map(|row| rows::count(&row, "seen")).transpose()?.is_some_and(|seen| seen < wide) {
            return Ok(found);
        }
        let select = match labels.iter().next() {
            Some((name, value)) => query(BY_LABEL)
                .bind(before)
                .bind(state)
                .bind(prefix)
                .bind(limit)
                .bind(json)
                .bind(name)
                .bind(value),
            None => query(BY_PREFIX).bind(before).bind(state).bind(prefix).bind(limit),
        };
        self.records(select).await
    }

    async fn records(&self, select: SqliteQuery<'_>) -> Result<Vec<Record>, StoreError> {
        self.read_all("list downloads", select).await?.iter().map(rows::record).collect()
    }
}

fn before(filter: &DownloadFilter) -> String {
    filter.before.map_or_else(|| String::from("~"), |id: DownloadId| id.to_string())
}
