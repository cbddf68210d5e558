//! Labels, sessions and revoked operators, in memory.

use async_trait::async_trait;
use hoist_wire::reach::Labels;
use hoist_wire::{ClientId, Timestamp};

use super::{MemoryStore, size};
use crate::store::StoreError;
use crate::store::operators::{LabelStore, SessionRow, SessionStore};

#[async_trait]
impl LabelStore for MemoryStore {
    async fn set_labels(&self, client: &ClientId, labels: &Labels) -> Result<(), StoreError> {
        self.tables().labels.insert(client.clone(), labels.clone());
        Ok(())
    }

    async fn labels(&self, client: &ClientId) -> Result<Labels, StoreError> {
        Ok(self.tables().labels_of(client))
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn open_session(&self, session: &SessionRow, most: u32) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.sessions.push(session.clone());
        let of_operator = |other: &&SessionRow| other.operator == session.operator;
        let mut surplus = tables.sessions.iter().filter(of_operator).count().saturating_sub(size(most));
        // They stand in the order in which they were opened.
        tables.sessions.retain(|other| {
            let goes = other.operator == session.operator && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
        Ok(())
    }

    async fn session(&self, cookie_sha256: &str) -> Result<Option<SessionRow>, StoreError> {
        let tables = self.tables();
        let found = tables.sessions.iter().find(|session| session.cookie_sha256 == cookie_sha256);
        let stands = |session: &&SessionRow| {
            let revoked = tables.revoked.get(&session.operator);
            revoked.is_none_or(|made_by| session.token_made_secs > *made_by)
        };
        Ok(found.filter(stands).cloned())
    }

    async fn session_used(&self, cookie_sha256: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let mut sessions = tables.sessions.iter_mut();
        if let Some(session) = sessions.find(|session| session.cookie_sha256 == cookie_sha256) {
            session.last_used_at = now;
        }
        Ok(())
    }

    async fn end_session(&self, cookie_sha256: &str) -> Result<(), StoreError> {
        self.tables().sessions.retain(|session| session.cookie_sha256 != cookie_sha256);
        Ok(())
    }

    async fn sessions_of(&self, operator: &str) -> Result<Vec<SessionRow>, StoreError> {
        let tables = self.tables();
        Ok(tables.sessions.iter().filter(|session| session.operator == operator).cloned().collect())
    }

    async fn end_sessions(&self, operator: &str) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let before = tables.sessions.len();
        tables.sessions.retain(|session| session.operator != operator);
        Ok(u64::try_from(before - tables.sessions.len()).unwrap_or(u64::MAX))
    }

    async fn forget_sessions(&self, now: Timestamp, unused_since: Timestamp) -> Result<(), StoreError> {
        let stands = |session: &SessionRow| session.expires_at > now && session.last_used_at >= unused_since;
        self.tables().sessions.retain(stands);
        Ok(())
    }

    async fn revoke_operator(&self, operator: &str, made_by_secs: u64) -> Result<u64, StoreError> {
        {
            let mut tables = self.tables();
            let made_by = tables.revoked.entry(operator.to_owned()).or_default();
            *made_by = made_by_secs.max(*made_by);
        }
        self.end_sessions(operator).await
    }

    async fn operator_revoked(&self, operator: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.tables().revoked.get(operator).copied())
    }
}
