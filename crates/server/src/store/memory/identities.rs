//! Who is who, in memory.

use async_trait::async_trait;
use hoist_wire::audit::Entry;
use hoist_wire::{ClientId, LinkSeq, Timestamp};

use super::{Client, MemoryStore, Tables};
use crate::store::identities::{
    Changed, Enrolled, Enrolment, Identities, KEPT_MS, MAX_NODE_SKEW_MS, Standing, enrolled_line,
};
use crate::store::{ClientRow, StoreError};

/// What is known of a client beside its row.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    standing: Standing,
    nonce_at: Option<Timestamp>,
    changed_at: Option<Timestamp>,
}

/// A one-time token, and the key that took it.
#[derive(Debug)]
pub(super) struct Token {
    enrolment: Enrolment,
    used_by: Option<String>,
}

impl Tables {
    /// Gives a client's row, which is made for one that was never here.
    fn client_or_new(&mut self, client: &ClientId) -> &mut Client {
        self.clients.entry(client.clone()).or_insert_with(|| Client {
            newest: LinkSeq(0),
            instance: None,
            identity: Identity::default(),
            row: ClientRow::never_seen(client),
        })
    }
}

#[async_trait]
impl Identities for MemoryStore {
    async fn server_id(&self, fresh: &str) -> Result<String, StoreError> {
        let mut tables = self.tables();
        Ok(tables.settings.entry(String::from("server_id")).or_insert_with(|| fresh.to_owned()).clone())
    }

    async fn standing(&self, client: &ClientId) -> Result<Standing, StoreError> {
        let tables = self.tables();
        Ok(tables.clients.get(client).map(|client| client.identity.standing.clone()).unwrap_or_default())
    }

    async fn note_enrolment(&self, enrolment: &Enrolment) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let oldest = enrolment.created_at.0 - KEPT_MS;
        tables.enrolments.retain(|_, token| token.enrolment.expires_at.0 >= oldest);
        let token = Token { enrolment: enrolment.clone(), used_by: None };
        tables.enrolments.insert(enrolment.token_hash.clone(), token);
        Ok(())
    }

    async fn enrol(
        &self,
        token_hash: &str,
        public_key: &str,
        now: Timestamp,
        line: &Entry,
    ) -> Result<Enrolled, StoreError> {
        let mut tables = self.tables();
        let Some(token) = tables.enrolments.get_mut(token_hash) else {
            return Ok(Enrolled::Refused { client_id: None });
        };
        let client_id = token.enrolment.client_id.clone();
        let lives = token.enrolment.expires_at > now;
        if token.used_by.is_none() && lives {
            token.used_by = Some(public_key.to_owned());
            let client = tables.client_or_new(&client_id);
            let key = Some(public_key.to_owned());
            let replaced = std::mem::replace(&mut client.identity.standing.public_key, key).is_some();
            (client.identity.nonce_at, client.identity.changed_at) = (None, Some(now));
            client.row.enrolled_at = Some(now);
            (client.row.token_expires_at, client.row.token_kid) = (None, None);
            tables.trail.append(&enrolled_line(line, &client_id, replaced));
            return Ok(Enrolled::Now { client_id, replaced });
        }
        let same_token = token.used_by.as_deref() == Some(public_key);
        let of_client =
            tables.clients.get(&client_id).and_then(|it| it.identity.standing.public_key.as_deref());
        Ok(if lives && same_token && of_client == Some(public_key) {
            Enrolled::Before { client_id }
        } else {
            Enrolled::Refused { client_id: Some(client_id) }
        })
    }

    async fn use_nonce(
        &self,
        client: &ClientId,
        made: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(Client { identity, .. }) = tables.clients.get_mut(client) else { return Ok(false) };
        let ahead = now.0.saturating_add(MAX_NODE_SKEW_MS);
        let fresh = identity.nonce_at.is_none_or(|used| used < made || used.0 > ahead);
        if fresh && identity.standing.public_key.is_some() {
            identity.nonce_at = Some(made);
            return Ok(true);
        }
        Ok(false)
    }

    async fn revoke(
        &self,
        client: &ClientId,
        tokens_not_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let Client { identity, row, .. } = tables.client_or_new(client);
        let before = identity.standing.tokens_not_before;
        let standing = Standing { tokens_not_before: before.max(tokens_not_before), public_key: None };
        *identity = Identity { standing, nonce_at: None, changed_at: Some(now) };
        (row.revoked_at, row.enrolled_at, row.token_expires_at, row.token_kid) =
            (Some(now), None, None, None);
        tables.enrolments.retain(|_, token| token.enrolment.client_id != *client);
        Ok(())
    }

    async fn identities_changed(
        &self,
        since: Timestamp,
        after: Option<(Timestamp, ClientId)>,
        limit: u32,
    ) -> Result<Vec<Changed>, StoreError> {
        let tables = self.tables();
        let mut changed: Vec<Changed> = tables
            .clients
            .iter()
            .filter_map(|(id, Client { identity, .. })| {
                let (client_id, at) = (id.clone(), identity.changed_at?);
                Some(Changed { client_id, at, standing: identity.standing.clone() })
            })
            .filter(|it| it.at >= since)
            .filter(|it| after.as_ref().is_none_or(|(at, id)| (it.at, &it.client_id) > (*at, id)))
            .collect();
        changed.sort_by(|a, b| (a.at, &a.client_id).cmp(&(b.at, &b.client_id)));
        changed.truncate(super::size(limit));
        Ok(changed)
    }
}
