//! The log as strangers read it (C2SP `tlog-tiles`): `/log/checkpoint` and `/log/tile/…`, without a key.
//!
//! A tile that is not full is the beginning of the one that it becomes, so any width up to what is published is served from the
//! fuller one. What lies beyond the published checkpoint does not exist here. Compression is absent: hashes do not shrink.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderName, StatusCode, Uri, header};
use polder_core::tiles::{Kind, Place, tile_bytes};

use super::{Log, LogError};

type Head = [(HeaderName, &'static str); 2];

/// A checkpoint changes with every batch.
const CHECKPOINT: Head =
    [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=1")];
/// A tile never changes.
const TILE: Head = [
    (header::CONTENT_TYPE, "application/octet-stream"),
    (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
];

/// The routes.
pub fn router(log: Log) -> Router {
    Router::new().route("/log/checkpoint", get(checkpoint)).route("/log/tile/{*path}", get(tile)).with_state(log)
}

async fn checkpoint(State(log): State<Log>) -> Response {
    (CHECKPOINT, log.checkpoint()).into_response()
}

async fn tile(State(log): State<Log>, uri: Uri) -> Response {
    let missing = |says: &'static str| (StatusCode::NOT_FOUND, says).into_response();
    let Some(place) = uri.path().strip_prefix("/log/").and_then(Place::parse) else {
        return missing("this is no tile's path\n");
    };
    match read(&log, place).await {
        Ok(Some(bytes)) => (TILE, bytes).into_response(),
        Ok(None) => missing("the published checkpoint needs no such tile\n"),
        Err(error) => {
            tracing::error!(%error, tile = place.path(), "a tile cannot be served");
            (StatusCode::SERVICE_UNAVAILABLE, "this tile cannot be read now\n").into_response()
        }
    }
}

/// The bytes of a tile or bundle; `None` where the published tree has none of that width.
async fn read(log: &Log, place: Place) -> Result<Option<Vec<u8>>, LogError> {
    let published = log.published();
    let filled = place.full().filled(published.edge.size());
    if filled.is_none_or(|filled| filled.width < place.width) {
        return Ok(None);
    }
    if place.kind == Kind::Entries {
        return log.shelf.entries(place).await.map(Some);
    }
    let hashes = |leaves: &[_]| leaves.get(..usize::from(place.width)).map(tile_bytes);
    Ok(match published.edge.tile(place) {
        Some(tile) => hashes(tile.leaves()),
        None => hashes(log.shelf.tile(place).await?.leaves()),
    })
}
