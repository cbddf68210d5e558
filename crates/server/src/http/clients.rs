//! Who is there: `GET /clients` and `GET /status/{client_id}`.

use axum::Json;
use axum::http::Uri;
use hoist_wire::reach::Reach;
use hoist_wire::rest::{Client, ClientPage, ClientStatus, CloneRole, CloneSuspect, IdentityKind};
use hoist_wire::{ClientId, Instance};
use schemars::JsonSchema;
use serde::Deserialize;

use super::doors::{self, InPath};
use super::operator::Operator;
use super::{Pages, Problem, State};
use crate::store::{ClientFilter, ClientRow, CloneSuspicion, DownloadFilter};

/// Most open downloads that a status shows.
const MAX_CURRENT: u32 = 100;

/// Most ended downloads that a status shows.
const MAX_RECENT: u32 = 10;

/// What a list may be asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only those that have a link now, or only those that have none.
    connected: Option<bool>,
    /// Only those whose id begins so.
    prefix: Option<String>,
    /// Most that the page has; 100 where absent.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// Where the page begins: `next` of the page before.
    cursor: Option<ClientId>,
}

/// Lists clients by id, connected or not.
pub(super) async fn list(pages: State, operator: Operator, uri: Uri) -> Result<Json<ClientPage>, Problem> {
    let (ListQuery { connected, prefix, limit, cursor }, labels) = doors::query_and_labels(&uri)?;
    let limit = doors::limit(limit)?;
    let Some(reach) = operator.within(Reach { prefix, labels }) else {
        return Ok(Json(ClientPage { clients: Vec::new(), next: None }));
    };
    let filter = ClientFilter { connected, reach, after: cursor };
    let mut rows = pages.store.clients(&filter, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| row.client_id.to_string());
    let clients = rows.into_iter().map(|row| show(&pages, row)).collect();
    Ok(Json(ClientPage { clients, next }))
}

/// Shows a client and its downloads.
pub(super) async fn status(
    pages: State,
    operator: Operator,
    client: InPath,
) -> Result<Json<ClientStatus>, Problem> {
    let client_id = doors::client_id(client)?;
    if !operator.reaches(&*pages.store, &client_id).await? {
        return Err(operator.knows_no(&client_id));
    }
    let of_client =
        |open| DownloadFilter { client_id: Some(client_id.clone()), open: Some(open), ..Default::default() };
    let current = pages.store.downloads(&of_client(true), MAX_CURRENT).await?;
    let recent = pages.store.downloads(&of_client(false), MAX_RECENT).await?;
    let row = pages.store.client(&client_id).await?;
    let labels = match &row {
        Some(row) => row.labels.clone(),
        None => pages.store.labels(&client_id).await?,
    };
    if row.is_none() && labels.is_empty() && current.is_empty() && recent.is_empty() {
        return Err(operator.knows_no(&client_id));
    }
    // Asked for with `allow_unknown`, a client may have downloads before it was ever seen.
    let client = row.map(|row| show(&pages, row));
    Ok(Json(ClientStatus {
        client_id,
        connected: client.as_ref().is_some_and(|client| client.connected),
        since: client.as_ref().and_then(|client| client.since),
        last_seen: client.as_ref().and_then(|client| client.last_seen),
        identity: client.as_ref().and_then(|client| client.identity),
        token_kid: client.as_ref().and_then(|client| client.token_kid.clone()),
        token_secret_is_old: client.as_ref().is_some_and(|client| client.token_secret_is_old),
        revoked_at: client.as_ref().and_then(|client| client.revoked_at),
        clone_suspected_at: client.as_ref().and_then(|client| client.clone_suspected_at),
        clone_suspects: client.as_ref().map(|client| client.clone_suspects.clone()).unwrap_or_default(),
        version: client.and_then(|client| client.version),
        labels,
        current: current.iter().map(|record| pages.downloads.view(record)).collect(),
        recent: recent.iter().map(|record| pages.downloads.view(record)).collect(),
    }))
}

pub(super) fn show(pages: &Pages, row: ClientRow) -> Client {
    let connected = pages.link.links.is_connected(&row.client_id);
    // A link that lives is heard of at every ping.
    let last_seen = if connected { Some(pages.world.now()) } else { row.last_seen };
    let identity = match (&row.enrolled_at, &row.token_expires_at) {
        (Some(_), _) => Some(IdentityKind::Key),
        (None, Some(_)) => Some(IdentityKind::Token),
        (None, None) => None,
    };
    Client {
        client_id: row.client_id,
        connected,
        since: row.since,
        last_seen,
        version: row.agent_version,
        os: row.os,
        host: row.host,
        token_expires_at: row.token_expires_at,
        identity,
        token_secret_is_old: row.token_kid.as_deref().is_some_and(|kid| kid != pages.tokens.kid()),
        token_kid: row.token_kid,
        enrolled_at: row.enrolled_at,
        revoked_at: row.revoked_at,
        clone_suspected_at: row.suspicion.as_ref().map(|suspicion| suspicion.at),
        clone_suspects: row.suspicion.map(suspects).unwrap_or_default(),
        labels: row.labels,
    }
}

fn suspects(suspicion: CloneSuspicion) -> Vec<CloneSuspect> {
    let suspect = |role, instance: Option<Instance>, host| CloneSuspect {
        role,
        machine: instance.as_ref().map(|it| it.machine().to_owned()),
        process: instance.as_ref().map(|it| it.process().to_owned()),
        host,
    };
    vec![
        suspect(CloneRole::Linked, suspicion.linked, suspicion.linked_host),
        suspect(CloneRole::Refused, suspicion.refused, None),
    ]
}
