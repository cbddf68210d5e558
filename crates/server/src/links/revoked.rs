//! Links whose client was revoked, or has another key: found by every node in the store, and ended.
//!
//! The node that revokes ends its own link at once. This is for the others, and for whatever was missed: one query every
//! three seconds, of which the answer is as long as the changes of the last minute.

use std::sync::Arc;
use std::time::Duration;

use hoist_wire::ClientId;
use hoist_wire::to_agent::{Goodbye, GoodbyeReason};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{LinkContext, Links, chain};
use crate::store::{Standing, StoreError};

/// How often the store is looked at. A link that another node revoked lives so much longer at most, and the query besides.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Changes are looked at again for so long: another node's clock may be behind, and a write may take its time.
const OVERLAP_MS: i64 = 60_000;

/// Changes on a page.
const PAGE: u32 = 500;

/// How long an agent that was revoked stays away. It comes back by a new token only, which a person has to bring.
const STAYS_AWAY_MS: u64 = 15 * 60 * 1000;

/// What is said to an agent whose key or token is no longer its client's.
pub(super) fn farewell() -> Goodbye {
    Goodbye {
        reason: GoodbyeReason::Revoked,
        message: String::from(
            "this client was revoked, or another key was enrolled for it: it takes a new token to come back",
        ),
        reconnect_after_ms: STAYS_AWAY_MS,
    }
}

impl Links {
    /// Ends a client's link unless what it was opened with still holds.
    pub fn recheck(&self, client: &ClientId, standing: &Standing) {
        if let Some(link) = self.get(client)
            && !link.stamp.holds(standing)
        {
            tracing::info!(client_id = %client, link = link.seq.0, "a link is ended: its client was revoked");
            link.close(farewell());
        }
    }
}

/// Ends links that no longer hold, until the stop.
pub async fn watch_revocations(context: Arc<LinkContext>, stop: CancellationToken) {
    let mut looked_at = context.world.now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
        let now = context.world.now();
        match look(&context, looked_at.0 - OVERLAP_MS).await {
            // A clock that was put back begins anew from there.
            Ok(()) => looked_at = now,
            Err(error) => {
                tracing::error!(error = %chain(&error), "revocations cannot be read: they are looked for again");
            }
        }
    }
}

async fn look(context: &LinkContext, since_ms: i64) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = context.store.identities_changed(hoist_wire::Timestamp(since_ms), after, PAGE).await?;
        for changed in &page {
            context.links.recheck(&changed.client_id, &changed.standing);
        }
        let Some(last) = page.last().filter(|_| page.len() >= PAGE as usize) else { return Ok(()) };
        after = Some((last.at, last.client_id.clone()));
    }
}
