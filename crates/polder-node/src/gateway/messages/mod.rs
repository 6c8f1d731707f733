//! `/v1/messages`: Anthropic's Messages, for applications that were written for them.
//!
//! A request becomes a conversation as every other surface asks for it, and the answer is written in Anthropic's blocks and
//! events. What has no counterpart in a conversation (thinking, server tools, files) is refused by name. Counting tokens
//! without an answer is absent: only the engine that will run a request could do it, and a guess would be worse than none.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::answer::{Answer, ask};
use super::body::{Parameters, read_object};
use super::{ApiError, Gateway, labels};

mod blocks;
mod failure;
mod request;
mod shape;
mod stream;

use failure::{Failure, set_request_id};

/// `POST /v1/messages`
pub async fn create(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    Ok(answered(&gateway, headers, body).await?)
}

async fn answered(gateway: &Gateway, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let headers = with_bearer(headers);
    let caller = gateway.caller(&headers)?;
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, &headers, &mut metadata)?;
    let request = request::chat_request(parameters)?;
    let (model, stream) = (request.model.clone(), request.stream);
    let answer = ask(gateway, &caller, labels, request).await?;
    if stream { Ok(streamed(answer, model)) } else { plain(answer, &model).await }
}

/// Anthropic's SDKs send the key as `x-api-key`; here it is read where every other surface reads it.
pub fn with_bearer(mut headers: HeaderMap) -> HeaderMap {
    if headers.contains_key(header::AUTHORIZATION) {
        return headers;
    }
    let bearer = headers.get("x-api-key").and_then(|key| {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", key.as_bytes()].concat()).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    if let Some(bearer) = bearer {
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers
}

async fn plain(answer: Answer, model: &str) -> Result<Response, ApiError> {
    let (id, decision, mut headers) = (answer.id("msg"), answer.decision.clone(), answer.headers());
    let collected = answer.collect().await.map_err(|error| ApiError::of_engine(&error))?;
    let body: Value = shape::message(&id, model, collected).map_err(|error| ApiError::of_engine(&error))?;
    set_request_id(&mut headers, decision.as_str());
    Ok((headers, axum::Json(body)).into_response())
}

fn streamed(answer: Answer, model: String) -> Response {
    let mut headers = answer.headers();
    set_request_id(&mut headers, answer.decision.as_str());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (headers, Body::from_stream(stream::events(answer, model))).into_response()
}

/// Everything else under `/v1/messages`.
pub async fn unknown(uri: http::Uri) -> Failure {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", format!("`{}` is not offered here", uri.path())).into()
}

/// `/v1/messages` with another method.
pub async fn wrong_method(method: http::Method) -> Failure {
    let message = format!("`{method}` is not offered on `/v1/messages`: use POST");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into()
}

#[cfg(test)]
mod tests;
