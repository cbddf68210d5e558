//! Asking for files, `POST /trigger-download/{client_id}`, and all of `/downloads`.

mod request;

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hoist_engine::life::Rejection;
use hoist_wire::reach::Reach;
use hoist_wire::rest::{Download, DownloadChange, DownloadPage, DownloadRequest};
use hoist_wire::{ClientId, DownloadId, ErrorCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::doors::{self, Body, InPath};
use super::operator::Operator;
use super::{Pages, Problem, State};
use crate::audit::{Deed, Noted, Outcome};
use crate::links::chain;
use crate::store::{DownloadFilter, Inserted, Record};

/// Asks for a file. 202 means that the request is on disk, whatever becomes of the server.
pub(super) async fn trigger(
    pages: State,
    operator: Operator,
    Extension(deed): Extension<Deed>,
    client: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let client_id = doors::client_id(client)?;
    let body = doors::whole(body)?;
    let asked: DownloadRequest = doors::json_or_default(&headers, &body)?;
    request::check(&asked)?;
    let idempotency = request::idempotency(&headers, &operator, &client_id, &body)?;
    let reached = operator.reaches(&*pages.store, &client_id).await?;
    if !reached || (!asked.allow_unknown && pages.store.client(&client_id).await?.is_none()) {
        return Err(operator.knows_no(&client_id));
    }
    let record = Record::asked(&*pages.world, client_id, operator.name.clone(), asked);
    let file = record.file_path.as_deref().unwrap_or("the agent's own file");
    let detail = Some(format!("download {}: {file}", record.id));
    let line =
        pages.audit.entry(&deed, Outcome { status: StatusCode::ACCEPTED.as_u16(), code: None, detail });
    match pages.downloads.accept(record.clone(), idempotency, pages.max_open_per_client, line).await? {
        Some(Inserted::New) => {
            let (client_id, by) = (&record.client_id, &record.requested_by);
            tracing::info!(download_id = %record.id, %client_id, by, "download asked for");
            let mut response = accepted(pages.downloads.view(&record));
            response.extensions_mut().insert(Noted);
            Ok(response)
        }
        Some(Inserted::Before(id)) => Ok(accepted(show(&pages, &operator, id).await?)),
        Some(Inserted::Mismatch) => {
            let detail = "this Idempotency-Key came with another request in the last 24 hours: use a new key";
            Err(Problem::new(ErrorCode::IdempotencyMismatch, detail))
        }
        None => {
            let (most, client) = (pages.max_open_per_client, &record.client_id);
            let detail =
                format!("{most} downloads of client {client} wait or run already: wait, or cancel some");
            Err(Problem::new(ErrorCode::QueueFull, detail))
        }
    }
}

fn accepted(download: Download) -> Response {
    let location = format!("/downloads/{}", download.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(download)).into_response()
}

/// What a list may be asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only this client's.
    client_id: Option<ClientId>,
    /// Only those in this state.
    state: Option<hoist_wire::State>,
    /// Most that the page has; 100 where absent.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// Where the page begins: `next` of the page before.
    cursor: Option<DownloadId>,
}

/// Lists downloads, newest first.
pub(super) async fn list(pages: State, operator: Operator, uri: Uri) -> Result<Json<DownloadPage>, Problem> {
    let (ListQuery { client_id, state, limit, cursor }, labels) = doors::query_and_labels(&uri)?;
    let limit = doors::limit(limit)?;
    let Some(reach) = operator.within(Reach { prefix: None, labels }) else {
        return Ok(Json(DownloadPage { downloads: Vec::new(), next: None }));
    };
    let filter = DownloadFilter { client_id, state, open: None, reach, before: cursor };
    let mut records = pages.store.downloads(&filter, limit + 1).await?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next = records.last().filter(|_| more).map(|record| record.id.to_string());
    let downloads = records.iter().map(|record| pages.downloads.view(record)).collect();
    Ok(Json(DownloadPage { downloads, next }))
}

/// Shows one download.
pub(super) async fn one(pages: State, operator: Operator, id: InPath) -> Result<Json<Download>, Problem> {
    show(&pages, &operator, doors::download_id(id)?).await.map(Json)
}

/// Gives a download; one that is out of the operator's reach is as unknown as one that never was.
async fn record(pages: &Pages, operator: &Operator, id: DownloadId) -> Result<Record, Problem> {
    let unknown =
        || Problem::new(ErrorCode::UnknownDownload, format!("there is no download {id}: see GET /downloads"));
    let record = pages.store.download(id).await?.ok_or_else(unknown)?;
    if operator.reaches(&*pages.store, &record.client_id).await? { Ok(record) } else { Err(unknown()) }
}

async fn show(pages: &Pages, operator: &Operator, id: DownloadId) -> Result<Download, Problem> {
    Ok(pages.downloads.view(&record(pages, operator, id).await?))
}

/// Cancels a download; one that is cancelled already stays so.
pub(super) async fn cancel(pages: State, operator: Operator, id: InPath) -> Result<Json<Download>, Problem> {
    let id = doors::download_id(id)?;
    record(&pages, &operator, id).await?;
    match pages.downloads.cancel(id, operator.name.clone()).await {
        Some(Ok(()) | Err(Rejection::AlreadyCancelled)) => show(&pages, &operator, id).await.map(Json),
        Some(Err(Rejection::TooLate)) => {
            let detail =
                format!("download {id} is being completed and ends by itself: see GET /downloads/{id}");
            Err(Problem::new(ErrorCode::TooLate, detail))
        }
        Some(Err(Rejection::Final)) => {
            let state = record(&pages, &operator, id).await?.life.state;
            let detail = format!("download {id} is {state} already: there is nothing to cancel");
            Err(Problem::new(ErrorCode::AlreadyFinal, detail))
        }
        Some(Err(Rejection::Stale | Rejection::Unexpected | Rejection::NotYet)) | None => {
            Err(Problem::new(ErrorCode::NotReady, "the server is stopping: nothing was cancelled, try again"))
        }
    }
}

/// Changes how fast a download may go, in every state but the final ones.
pub(super) async fn change(
    pages: State,
    operator: Operator,
    id: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Download>, Problem> {
    let id = doors::download_id(id)?;
    let body = doors::whole(body)?;
    let DownloadChange { max_rate_bytes_per_sec } = doors::json(&headers, &body)?;
    request::check_rate(max_rate_bytes_per_sec)?;
    record(&pages, &operator, id).await?;
    match pages.downloads.pace(id, max_rate_bytes_per_sec).await {
        Some(Ok(())) => {
            tracing::info!(download_id = %id, ?max_rate_bytes_per_sec, by = operator.name, "download paced");
            show(&pages, &operator, id).await.map(Json)
        }
        Some(Err(Rejection::Final)) => {
            let state = record(&pages, &operator, id).await?.life.state;
            let detail = format!("download {id} is {state} already: nothing of it is sent any more");
            Err(Problem::new(ErrorCode::AlreadyFinal, detail))
        }
        Some(Err(
            Rejection::AlreadyCancelled
            | Rejection::TooLate
            | Rejection::Stale
            | Rejection::Unexpected
            | Rejection::NotYet,
        ))
        | None => {
            Err(Problem::new(ErrorCode::NotReady, "the server is stopping: nothing was changed, try again"))
        }
    }
}

/// Sends the operator to the object.
pub(super) async fn file(pages: State, operator: Operator, id: InPath) -> Result<Response, Problem> {
    let record = record(&pages, &operator, doors::download_id(id)?).await?;
    let (hoist_wire::State::Completed, Some(key)) = (record.life.state, &record.object_key) else {
        let detail =
            format!("download {} is {}: there is a file once it is completed", record.id, record.life.state);
        return Err(Problem::new(ErrorCode::NotCompleted, detail));
    };
    let name = record.found.as_ref().map_or("file", |found| found.name.as_str());
    let url = pages.bucket.grant_get(key, name, pages.grant_ttl).await.map_err(|error| {
        tracing::error!(download_id = %record.id, error = %chain(&error), "no GET can be signed");
        Problem::new(
            ErrorCode::BucketUnavailable,
            "the server cannot sign a URL for the file now: see its log",
        )
    })?;
    let headers =
        [(header::LOCATION, url.open().to_owned()), (header::CACHE_CONTROL, String::from("no-store"))];
    Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}
