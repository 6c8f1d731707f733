//! Errors in Anthropic's envelope: the same errors as everywhere, written as its SDKs read them.
//!
//! A refusal keeps `refusals`, `nearest` and `decision`, and every error its `code` and `param`: the SDKs hand the whole
//! body to the application. The texts of errors are made elsewhere.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::super::ApiError;
use crate::clock::random;

/// An error on its way to an application that speaks Anthropic's Messages.
#[derive(Debug)]
pub struct Failure(ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

/// What Anthropic calls an error of a status.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    }
}

/// The parameters that have another name here than where they are checked.
const RENAMED: [(&str, &str); 2] = [("stop", "stop_sequences"), ("response_format", "output_config.format")];

/// The envelope of an error that is known by OpenAI's fields.
pub(super) fn envelope(status: StatusCode, mut error: Map<String, Value>) -> Value {
    error.insert("type".to_owned(), kind(status).into());
    for (theirs, ours) in RENAMED {
        if error.get("param").and_then(Value::as_str) == Some(theirs) {
            error.insert("param".to_owned(), ours.into());
        }
        if let Some(Value::String(message)) = error.get_mut("message") {
            *message = message.replace(&format!("`{theirs}`"), &format!("`{ours}`"));
        }
    }
    if let Some(Value::String(message)) = error.get_mut("message") {
        *message = message.replace("OPENAI_API_KEY", "ANTHROPIC_API_KEY");
    }
    json!({"type": "error", "error": error})
}

/// The header by which Anthropic's SDKs name a request: here the decision's id, where there is one.
pub(super) fn set_request_id(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert("request-id", value);
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error, mut headers) = self.0.into_parts();
        let decision = headers.get("polder-decision").and_then(|value| value.to_str().ok()).map(str::to_owned);
        // Without randomness there is no id, and the answer is the same.
        let fresh = || random::<16>().map(|bytes| format!("req-{}", hex::encode(bytes))).ok();
        let mut body = envelope(status, error);
        if let Some(id) = decision.or_else(fresh) {
            set_request_id(&mut headers, &id);
            body["request_id"] = id.into();
        }
        (status, headers, Json(body)).into_response()
    }
}
