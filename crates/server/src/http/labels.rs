//! The labels of a client: `PUT /clients/{client_id}/labels`.
//!
//! They grant access, so only an admin who reaches all clients sets them: nobody can widen a reach of their own.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use hoist_wire::ErrorCode;
use hoist_wire::operators::ClientLabels;
use hoist_wire::reach::{Labels, check_labels};

use super::doors::{self, Body, InPath};
use super::{Problem, State};
use crate::audit::Detail;

/// Gives a client these labels and no others. It need not have been seen.
pub(super) async fn set(
    pages: State,
    client: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let client_id = doors::client_id(client)?;
    let labels: Labels = doors::json(&headers, &doors::whole(body)?)?;
    check_labels(&labels).map_err(|error| Problem::new(ErrorCode::InvalidRequest, error.to_string()))?;
    pages.store.set_labels(&client_id, &labels).await?;
    let detail: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut response = Json(ClientLabels { client_id, labels }).into_response();
    response.extensions_mut().insert(Detail(detail.join(" ")));
    Ok(response)
}
