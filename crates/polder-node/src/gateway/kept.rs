//! What all surfaces over kept things share: ids in paths, pages of lists, how long a thing is kept, what a full store says.
//!
//! Keeping is absent: the content store's.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use polder_core::ids::ProjectId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Gateway};
use crate::clock::now_ms;
use crate::content::{ContentError, Kept, Kind, Page};

/// What a kept thing may ask for as its time, in seconds: an hour to 30 days, as OpenAI has it.
const KEEP_S: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;
/// How many things are looked at together where a list picks among them.
const LOOK: u32 = 256;

/// The id in a path.
pub fn id_of(path: Result<Path<String>, PathRejection>, name: &str) -> Result<String, ApiError> {
    let odd = |_| ApiError::parameter(name, "invalid_value", format!("`{name}` is not UTF-8"));
    path.map(|Path(id)| id).map_err(odd)
}

/// The parameters behind a path.
pub fn query_of<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    let odd = |_| ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", "the query's parameters are not understood");
    query.map(|Query(query)| query).map_err(odd)
}

/// What went wrong with the content store, as an application hears it.
pub fn of_content(error: &ContentError) -> ApiError {
    match error {
        // Not 507: the SDKs try any 5xx again, which makes no room.
        ContentError::Full { .. } => ApiError::new(StatusCode::BAD_REQUEST, "storage_full", error.to_string()),
        other => ApiError::internal(&other.to_string()),
    }
}

/// A thing that is not there, or is another project's.
pub fn unknown(what: &str, id: &str) -> ApiError {
    let id: String = id.chars().take(64).collect();
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("no {what} `{id}` is kept for this project"))
}

/// How long a thing is to be kept, in milliseconds, by an `expires_after` in its parts.
pub fn keep_ms(name: &str, anchor: Option<&str>, seconds: Option<u64>) -> Result<Option<u64>, ApiError> {
    let part = |part: &str| format!("{name}[{part}]");
    match (anchor, seconds) {
        (None, None) => Ok(None),
        (Some("created_at"), Some(seconds)) if KEEP_S.contains(&seconds) => Ok(Some(seconds.saturating_mul(1_000))),
        (Some("created_at"), seconds) => {
            let message = format!("`{name}.seconds` must be between {} and {}", KEEP_S.start(), KEEP_S.end());
            let code = if seconds.is_some() { "invalid_value" } else { "missing_required_parameter" };
            Err(ApiError::parameter(&part("seconds"), code, message))
        }
        _ => {
            let message = format!("`{name}.anchor` must be `created_at`");
            Err(ApiError::parameter(&part("anchor"), "invalid_value", message))
        }
    }
}

/// Which things are listed, as a query says it.
#[derive(Debug, Default, Deserialize)]
pub struct Listing {
    after: Option<String>,
    limit: Option<u32>,
    order: Option<String>,
    /// Which files, by what they are for.
    pub purpose: Option<String>,
}

/// How many things one list has.
pub struct Length {
    /// Where the query does not say.
    pub usual: usize,
    /// At most.
    pub most: usize,
}

impl Length {
    /// The length that a query asks for.
    pub fn limit(&self, limit: Option<usize>) -> Result<usize, ApiError> {
        let message = || format!("`limit` must be between 1 and {}", self.most);
        let fits = Some(limit.unwrap_or(self.usual)).filter(|limit| (1..=self.most).contains(limit));
        fits.ok_or_else(|| ApiError::parameter("limit", "invalid_value", message()))
    }
}

/// Whether a list begins with the newest, as a query's `order` says.
pub fn newest_first(order: Option<&str>) -> Result<bool, ApiError> {
    match order {
        None | Some("desc") => Ok(true),
        Some("asc") => Ok(false),
        Some(_) => Err(ApiError::parameter("order", "invalid_value", "`order` must be asc or desc")),
    }
}

/// A list in OpenAI's shape.
pub fn list_of(data: &[Value], more: bool) -> Value {
    let id_at = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned().unwrap_or_default();
    json!({
        "object": "list", "data": data, "first_id": id_at(data.first()), "last_id": id_at(data.last()),
        "has_more": more,
    })
}

/// Deletes a project's thing of a kind, and says so.
pub async fn deleted(
    gateway: &Gateway,
    project: &ProjectId,
    (kind, what): (Kind, &str),
    id: &str,
) -> Result<Response, ApiError> {
    match gateway.content.delete(project, kind, id, now_ms()).await.map_err(|error| of_content(&error))? {
        true => Ok(axum::Json(json!({"id": id, "object": what, "deleted": true})).into_response()),
        false => Err(unknown(what, id)),
    }
}

impl Listing {
    /// A page of a project's things of a kind, in OpenAI's shape. `show` leaves out what is not wanted.
    pub async fn page(
        &self,
        gateway: &Gateway,
        project: &ProjectId,
        kind: Kind,
        length: Length,
        show: impl Fn(&Kept) -> Result<Option<Value>, ApiError>,
    ) -> Result<Value, ApiError> {
        let limit = length.limit(self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))?;
        let newest_first = newest_first(self.order.as_deref())?;
        let (mut data, mut after, mut more) = (Vec::new(), self.after.clone(), false);
        'pages: loop {
            let page = Page { after: after.as_deref(), newest_first, count: LOOK };
            let found = gateway.content.list(project, kind, page, now_ms()).await.map_err(|e| of_content(&e))?;
            let Some(last) = found.last().map(|kept| kept.id.clone()) else { break };
            for kept in &found {
                let Some(shown) = show(kept)? else { continue };
                if data.len() == limit {
                    more = true;
                    break 'pages;
                }
                data.push(shown);
            }
            after = Some(last);
        }
        Ok(list_of(&data, more))
    }
}
