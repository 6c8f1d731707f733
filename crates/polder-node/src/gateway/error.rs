//! Errors in OpenAI's envelope, with what the SDKs do next in mind.
//!
//! 4xx answers that a retry cannot mend say `x-should-retry: false`. A refusal carries every factory's causes and the nearest
//! relaxations in one shape, the same in `why` and in the demo's JSON.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use polder_core::placement::Outcome;
use polder_core::statement::v1::DecisionRecord;
use serde_json::{Map, Value, json};

use crate::home::HomeError;
use crate::inference::{EngineError, StopCause};
use crate::metrics;
use crate::refusal;

/// An error on its way to an application.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    error: Map<String, Value>,
    headers: Box<HeaderMap>,
}

impl ApiError {
    /// An error with OpenAI's `code` and a message.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let fields =
            [("message", message.into().into()), ("type", kind.into()), ("param", Value::Null), ("code", code.into())];
        let error = fields.into_iter().map(|(name, value): (&str, Value)| (name.to_owned(), value)).collect();
        let mut headers = Box::new(HeaderMap::new());
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        Self { status, error, headers }
    }

    /// A 400 that names a parameter.
    pub fn parameter(parameter: &str, code: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, code, message);
        error.error.insert("param".to_owned(), parameter.into());
        error
    }

    /// A budget is used up: waiting does not help.
    pub fn quota(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", message);
        error.error.insert("type".to_owned(), "insufficient_quota".into());
        error.header("x-should-retry", "false")
    }

    /// Whether this node is to blame.
    pub(super) fn is_server_error(&self) -> bool {
        self.status.is_server_error()
    }

    /// With a header.
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With the wait that is advised.
    pub(super) fn retry_after(self, wait_ms: u64) -> Self {
        self.header("retry-after", &super::limits::retry_s(wait_ms).to_string())
    }

    /// The model is offered by no factory.
    pub fn unknown_model(model: &str) -> Self {
        let model: String = model.chars().take(128).collect();
        let message = format!("the model `{model}` does not exist; `GET /v1/models` lists those that do");
        let mut error = Self::new(StatusCode::NOT_FOUND, "model_not_found", message);
        error.error.insert("param".to_owned(), "model".into());
        error
    }

    /// A failure of this node, whose cause stands in its log and not in the answer.
    pub fn internal(reason: &str) -> Self {
        tracing::error!(reason, "a request failed inside this node");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "this node failed; its operator's log says why")
    }

    /// A refusal with every reason.
    fn refusal(record: &DecisionRecord) -> Self {
        let statement = &record.statement;
        let full = statement.outcome == Outcome::NoCapacity;
        let message = refusal::sentence(statement);
        let mut error = match full {
            true => Self::new(StatusCode::TOO_MANY_REQUESTS, "no_capacity", message),
            false => Self::new(StatusCode::FORBIDDEN, "policy_unsatisfiable", message),
        };
        error.error.insert("refusals".to_owned(), refusal::refusals(&record.verdicts));
        error.error.insert("nearest".to_owned(), refusal::nearest(&statement.nearest));
        error.error.insert("decision".to_owned(), statement.id.as_str().into());
        error.headers.extend(super::proof_headers(&statement.id, None));
        if full {
            error.headers.insert("retry-after", HeaderValue::from_static("2"));
        }
        error
    }

    /// What an engine said of a request.
    pub fn of_engine(error: &EngineError) -> Self {
        match error {
            EngineError::ContextLength { .. } => {
                Self::parameter("messages", "context_length_exceeded", error.to_string())
            }
            EngineError::Unsupported { parameter } => {
                Self::parameter(parameter, "unsupported_parameter", error.to_string())
            }
            EngineError::Invalid { parameter, .. } => Self::parameter(parameter, "invalid_value", error.to_string()),
            EngineError::UnknownModel { model } => Self::unknown_model(model),
            EngineError::Busy { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, "no_capacity", error.to_string()),
            EngineError::Stopped { cause: StopCause::Quota } => Self::quota(error.to_string()),
            EngineError::Stopped { cause: StopCause::Revoked } => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", error.to_string())
            }
            EngineError::ModelFile { .. } | EngineError::Failed { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "engine_failed", error.to_string())
            }
        }
    }

    /// The error under another name of its parameter, where `rename` knows one.
    pub fn renamed(mut self, rename: impl Fn(&str) -> Option<String>) -> Self {
        let Some(name) = self.error.get("param").and_then(Value::as_str).map(str::to_owned) else { return self };
        if let Some(new) = rename(&name) {
            let message = self.message().replace(&format!("`{name}`"), &format!("`{new}`"));
            self.error.insert("message".to_owned(), message.into());
            self.error.insert("param".to_owned(), new.into());
        }
        self
    }

    /// Its status, for what runs without a client.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its code, for what runs without a client.
    pub fn code(&self) -> &str {
        self.error.get("code").and_then(Value::as_str).unwrap_or_default()
    }

    /// What it says, for surfaces with another envelope.
    pub fn message(&self) -> String {
        self.error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Its parts, for surfaces with another envelope: the status, OpenAI's fields, and the headers.
    pub fn into_parts(self) -> (StatusCode, Map<String, Value>, HeaderMap) {
        metrics::told_error(self.code());
        (self.status, self.error, *self.headers)
    }

    /// The envelope.
    pub fn body(&self) -> Value {
        json!({"error": self.error})
    }
}

impl From<HomeError> for ApiError {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Refused(record) => Self::refusal(&record),
            HomeError::Request { decision, error } => {
                let mut answer = Self::of_engine(&error);
                answer.headers.extend(super::proof_headers(&decision, None));
                answer
            }
            HomeError::Internal(reason) => Self::internal(&reason),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        metrics::told_error(self.code());
        (self.status, HeaderMap::clone(&self.headers), Json(self.body())).into_response()
    }
}
