//! Who is who, as one server process reaches it.

use async_trait::async_trait;
use hoist_server::store::{Changed, Enrolled, Enrolment, Identities, Standing, StoreError};
use hoist_wire::audit::Entry;
use hoist_wire::{ClientId, Timestamp};

use super::SimStore;

#[async_trait]
impl Identities for SimStore {
    async fn server_id(&self, fresh: &str) -> Result<String, StoreError> {
        self.call("read the server's id", self.store.server_id(fresh)).await
    }

    async fn standing(&self, client: &ClientId) -> Result<Standing, StoreError> {
        self.call("read how a client stands", self.store.standing(client)).await
    }

    async fn note_enrolment(&self, enrolment: &Enrolment) -> Result<(), StoreError> {
        self.call("note a one-time token", self.store.note_enrolment(enrolment)).await
    }

    async fn enrol(
        &self,
        token_hash: &str,
        public_key: &str,
        now: Timestamp,
        line: &Entry,
    ) -> Result<Enrolled, StoreError> {
        self.call("enrol a key", self.store.enrol(token_hash, public_key, now, line)).await
    }

    async fn use_nonce(
        &self,
        client: &ClientId,
        made: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.call("use a nonce", self.store.use_nonce(client, made, now)).await
    }

    async fn revoke(
        &self,
        client: &ClientId,
        tokens_not_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.call("revoke a client", self.store.revoke(client, tokens_not_before, now)).await
    }

    async fn identities_changed(
        &self,
        since: Timestamp,
        after: Option<(Timestamp, ClientId)>,
        limit: u32,
    ) -> Result<Vec<Changed>, StoreError> {
        self.call("find changed identities", self.store.identities_changed(since, after, limit)).await
    }
}
