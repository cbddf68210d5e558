//! Taking a client's way in: `POST /clients/{client_id}/revoke`.

use axum::Json;
use hoist_wire::rest::Client;
use hoist_wire::{ErrorCode, Timestamp};

use super::doors::{self, InPath};
use super::operator::Operator;
use super::{Problem, State, clients};
use crate::store::identities::MAX_NODE_SKEW_MS;

/// Revokes a client: its key, every token that was made until now, every one-time token; and ends its link.
pub(super) async fn revoke(
    pages: State,
    operator: Operator,
    client: InPath,
) -> Result<Json<Client>, Problem> {
    let client_id = doors::client_id(client)?;
    let now = pages.world.now();
    // A token that was made since the last time may say that very moment.
    let before = pages.store.standing(&client_id).await?.tokens_not_before;
    let not_before = tokens_not_before(now).max(Timestamp(before.0 + 1000));
    pages.store.revoke(&client_id, not_before, now).await?;
    let standing = pages.store.standing(&client_id).await?;
    pages.link.links.recheck(&client_id, &standing);
    tracing::warn!(%client_id, by = operator.name, "a client was revoked");
    let row = pages.store.client(&client_id).await?;
    let row = row.ok_or_else(|| Problem::new(ErrorCode::Internal, "a revoked client has no record"))?;
    Ok(Json(clients::show(&pages, row)))
}

/// Gives the moment before which a token must not be made, in whole seconds as tokens have it.
///
/// It lies ahead by as much as the clocks of two nodes may be apart: no node has made a token until now that says it is
/// younger. Those that are made from now on say that moment themselves.
fn tokens_not_before(now: Timestamp) -> Timestamp {
    Timestamp((now.0 + MAX_NODE_SKEW_MS).div_euclid(1000) * 1000 + 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_by_now_on_any_node_is_older() {
        assert_eq!(tokens_not_before(Timestamp(0)), Timestamp(11_000));
        assert_eq!(tokens_not_before(Timestamp(999)), Timestamp(11_000));
        assert_eq!(tokens_not_before(Timestamp(1_000)), Timestamp(12_000));
    }
}
