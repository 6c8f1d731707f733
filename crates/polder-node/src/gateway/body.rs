//! Reading a request's body: bounded, valid UTF-8, strict JSON, an object with known types.
//!
//! Too large a body is refused by its declared length before it is read, and by its real length while it is read. Errors name the
//! parameter, never its contents.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Map, Value};

use super::ApiError;

mod strict;

#[cfg(test)]
pub use strict::DEPTH_MAX;

/// What is refused by its length.
pub fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than the {limit} bytes that are read here");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
}

/// Reads a body as a JSON object.
pub async fn read_object(headers: &HeaderMap, body: Body, limit: usize) -> Result<Map<String, Value>, ApiError> {
    parse_object(&read_bytes(headers, body, limit).await?)
}

/// Reads a bounded body.
pub async fn read_bytes(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    not_compressed(headers)?;
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large(limit)),
        Err(_) => Err(malformed("the body broke off")),
    }
}

/// Bodies are read as they come: what is small on the wire must not grow large in here.
pub fn not_compressed(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let message = "compressed bodies are not read here: send the body without `Content-Encoding`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", message))
}

/// Reads bytes as a JSON object.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| malformed(format!("the body is not UTF-8: the byte at {} is wrong", e.valid_up_to())))?;
    strict::object(text).map_err(|fault| match fault.place {
        Some(place) => ApiError::parameter(&place, "invalid_json", fault.message),
        None => malformed(fault.message),
    })
}

/// Takes parameters out of a body one by one, with OpenAI's errors for wrong types.
pub struct Parameters(pub Map<String, Value>);

impl Parameters {
    /// The error for a value of a wrong type.
    pub fn wrong<T>(name: &str, expected: &str, value: &Value) -> Result<T, ApiError> {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        Err(ApiError::parameter(name, "invalid_type", format!("`{name}` must be {expected}, not {found}")))
    }

    /// Takes a parameter; null counts as absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a parameter that must be there.
    pub fn required(&mut self, name: &str) -> Result<Value, ApiError> {
        let missing = || ApiError::parameter(name, "missing_required_parameter", format!("`{name}` is missing"));
        self.take(name).ok_or_else(missing)
    }

    /// Takes a text.
    pub fn text(&mut self, name: &str) -> Result<String, ApiError> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            other => Self::wrong(name, "a string", &other),
        }
    }

    /// Takes a whole number of at least `least`.
    pub fn integer(&mut self, name: &str, least: u64) -> Result<Option<u64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if number >= least => Ok(Some(number)),
                _ if value.is_number() => {
                    let message = format!("`{name}` must be a whole number of at least {least}");
                    Err(ApiError::parameter(name, "invalid_value", message))
                }
                _ => Self::wrong(name, "a whole number", &value),
            },
        }
    }

    /// Takes a whole number within a range.
    pub fn integer_in(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        match self.integer(name, *range.start())? {
            Some(number) if number > *range.end() => {
                let message = format!("`{name}` must be between {} and {}", range.start(), range.end());
                Err(ApiError::parameter(name, "invalid_value", message))
            }
            number => Ok(number),
        }
    }

    /// Takes one of a few words.
    pub fn word(&mut self, name: &str, words: &[&str]) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(Some(word)),
            Some(Value::String(_)) => {
                let message = format!("`{name}` must be one of {}", words.join(", "));
                Err(ApiError::parameter(name, "invalid_value", message))
            }
            Some(other) => Self::wrong(name, "a string", &other),
        }
    }

    /// Takes a number within a range.
    pub fn number(&mut self, name: &str, range: std::ops::RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if range.contains(&number) => Ok(Some(number)),
                Some(_) => {
                    let message = format!("`{name}` must be between {} and {}", range.start(), range.end());
                    Err(ApiError::parameter(name, "invalid_value", message))
                }
                None => Self::wrong(name, "a number", &value),
            },
        }
    }

    /// Takes a boolean; absent counts as false.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Self::wrong(name, "a boolean", &other),
        }
    }

    /// Takes an object; absent counts as empty.
    pub fn object(&mut self, name: &str) -> Result<Map<String, Value>, ApiError> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(other) => Self::wrong(name, "an object", &other),
        }
    }

    /// Takes a text or a list of texts; absent counts as empty.
    pub fn texts(&mut self, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let texts = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) => {
                let text = |item: Value| match item {
                    Value::String(text) => Ok(text),
                    other => Self::wrong(name, "a list of strings", &other),
                };
                items.into_iter().map(text).collect::<Result<_, _>>()?
            }
            Some(other) => return Self::wrong(name, "a string or a list of strings", &other),
        };
        if texts.len() > most {
            return Err(ApiError::parameter(name, "invalid_value", format!("`{name}` takes at most {most} texts")));
        }
        Ok(texts)
    }
}
