//! The audit trail, as one server process reaches it.

use async_trait::async_trait;
use hoist_server::store::{Done, Idempotency, Inserted, Intent, Record, StoreError, Trail, TrailFilter};
use hoist_wire::Timestamp;
use hoist_wire::audit::{Entry, Head, Line};

use super::record::SimStore;

#[async_trait]
impl Trail for SimStore {
    async fn trail_write(&self, intents: &[Intent], done: &[Done]) -> Result<(), StoreError> {
        self.call("write the trail", self.store.trail_write(intents, done)).await
    }

    async fn trail_unsettled(&self, node: &str, limit: u32) -> Result<Vec<Intent>, StoreError> {
        self.call("read what was not settled", self.store.trail_unsettled(node, limit)).await
    }

    async fn trail(&self, node: &str, filter: &TrailFilter, limit: u32) -> Result<Vec<Line>, StoreError> {
        self.call("read the trail", self.store.trail(node, filter, limit)).await
    }

    async fn trail_head(&self, node: &str) -> Result<Option<Head>, StoreError> {
        self.call("read the trail's head", self.store.trail_head(node)).await
    }

    async fn trail_cut(&self, node: &str) -> Result<Option<Head>, StoreError> {
        self.call("read the trail's cut", self.store.trail_cut(node)).await
    }

    async fn trail_forget(
        &self,
        node: &str,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.call("cut the trail", self.store.trail_forget(node, before, limit, now)).await
    }

    async fn insert_noted(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
        entry: &Entry,
    ) -> Result<Option<Inserted>, StoreError> {
        let insert = self.store.insert_noted(record, idempotency, max_open, entry);
        self.call("insert a download", insert).await
    }

    async fn forget_downloads(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.call("forget downloads", self.store.forget_downloads(before, limit)).await
    }
}
