//! The audit trail: `GET /audit`. Whoever asks checks the chain themselves: this server may be the liar.

use axum::Json;
use axum::http::Uri;
use hoist_wire::audit::AuditPage;
use hoist_wire::{ErrorCode, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Problem, State, doors};
use crate::store::TrailFilter;

/// In which order lines come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Newest,
    Oldest,
}

/// What the trail may be asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrailQuery {
    /// Only what this operator or client did.
    who: Option<String>,
    /// Only this action, such as `token.make`.
    action: Option<String>,
    /// Only lines with this text in who, subject or detail: a client, a download.
    about: Option<String>,
    /// Only from then on.
    since: Option<Timestamp>,
    /// Only before then.
    until: Option<Timestamp>,
    /// Only what was refused.
    refused: Option<bool>,
    /// `newest` first, or `oldest` first.
    order: Option<Order>,
    /// Most that the page has; 100 where absent.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// Where the page begins: `next` of the page before.
    #[schemars(regex(pattern = "^[0-9]{1,18}$"))]
    cursor: Option<String>,
}

/// Lists lines of the trail.
pub(super) async fn list(pages: State, uri: Uri) -> Result<Json<AuditPage>, Problem> {
    let TrailQuery { who, action, about, since, until, refused, order, limit, cursor } = doors::query(&uri)?;
    let limit = doors::limit(limit)?;
    let cursor = cursor.map(|text| text.parse().ok().filter(|seq| i64::try_from(*seq).is_ok()).ok_or(text));
    let cursor: Option<u64> = cursor.transpose().map_err(|text| {
        let detail = format!("cursor={text:?} is none of this list: take the `next` of the page before");
        Problem::new(ErrorCode::InvalidRequest, detail)
    })?;
    let node = pages.audit.node();
    let filter = TrailFilter {
        who,
        action,
        about,
        since,
        until,
        refused: refused.unwrap_or(false),
        oldest_first: order.unwrap_or_default() == Order::Oldest,
        cursor,
    };
    let mut lines = pages.store.trail(node, &filter, limit + 1).await?;
    // The cut is read last, and what went meanwhile is left out: so whoever checks the chain sees no gap behind the cut.
    let cut = pages.store.trail_cut(node).await?;
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = lines.last().filter(|_| more).map(|line| line.seq.to_string());
    lines.retain(|line| cut.as_ref().is_none_or(|cut| line.seq > cut.seq));
    Ok(Json(AuditPage { lines, next, cut }))
}
