//! One line of a batch: asked as the endpoint itself would ask it, again where waiting helps, and written down.
//!
//! Every attempt is decided, metered and paid for as any request of the same key; the line's own labels narrow the batch's. A line
//! waits while every factory that may run it is full or a rate is used up, for a while where one that may run it is away, and
//! tries twice more what failed. A refusal or a used-up budget is its answer. Reading and keeping it are absent.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use polder_core::placement::{CIRCUIT_OPEN, NO_CAPACITY, UNREACHABLE};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::time::Instant;

use super::super::body::Parameters;
use super::super::{ApiError, Caller, Gateway, chat, completions, embeddings, labels, responses};
use super::journal::Ended;
use super::lines::Request;
use super::live::Under;
use super::record::{Batch, Endpoint};
use crate::clock::now_ms;
use crate::home::{ENGINE_FAILED, NO_ANSWER, NOT_UNDERSTOOD};

/// How long a line waits between two attempts, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long it waits for a factory that may run it and does not answer.
const AWAY_MAX: Duration = Duration::from_secs(600);
/// How often it tries again what failed.
const AGAIN_MAX: u32 = 2;
/// Longest answer of a line, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a line came to.
pub enum Came {
    /// Its end.
    Ended(Ended),
    /// Nothing: the key that made the batch no longer holds.
    Nobody,
}

/// Whether another attempt is worth its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as the batch has time.
    Long,
    /// For some minutes.
    Some,
    /// A few times.
    Little,
    /// Not at all.
    None,
}

/// Who asks for a batch's lines: the project of the key that made it, with the batch's labels.
pub fn caller(gateway: &Gateway, batch: &Batch) -> Result<Option<Caller>, ApiError> {
    let Some(key) = gateway.ledger.holding(&batch.key, now_ms()) else { return Ok(None) };
    let header = |(name, value): (&String, &String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    let headers: HeaderMap = batch.labels.iter().filter_map(header).collect();
    let labels = labels::labels(&key.labels, &headers, &mut batch.metadata.clone())?;
    Ok(Some(Caller { project: key.project.clone(), labels, origin: None, key }))
}

/// Runs a line until it has come to something.
pub async fn run(gateway: Gateway, under: Arc<Under>, number: u32, request: Request) -> Came {
    let batch = under.batch();
    let (begun, mut pause, mut again) = (Instant::now(), PAUSE.0, 0);
    loop {
        let answer = match caller(&gateway, &batch) {
            Ok(None) => return Came::Nobody,
            Ok(Some(caller)) => ask(&gateway, caller, batch.endpoint, &request).await,
            Err(error) => Err(error),
        };
        let error = match answer {
            Ok(answer) => return Came::Ended(answered(&batch, number, &request.custom_id, answer).await),
            Err(error) if error.code() == "invalid_api_key" => return Came::Nobody,
            Err(error) => error,
        };
        let goes_on = match patience(&error) {
            Patience::Long => true,
            Patience::Some => begun.elapsed() < AWAY_MAX,
            Patience::Little => again < AGAIN_MAX,
            Patience::None => false,
        };
        if !goes_on {
            return Came::Ended(failed(&batch, number, &request.custom_id, error));
        }
        again = again.saturating_add(1);
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE.1);
    }
}

/// What an error says of another attempt.
pub fn patience(error: &ApiError) -> Patience {
    match error.code() {
        "no_capacity" | "rate_limit_exceeded" => Patience::Long,
        "policy_unsatisfiable" => of_refusals(&error.body()["error"]["refusals"]),
        _ if error.status().is_server_error() => Patience::Little,
        _ => Patience::None,
    }
}

/// What may change without anybody's rules: a factory that would run it is away, or its engine failed.
pub fn of_refusals(refusals: &Value) -> Patience {
    let entries = || refusals.as_array().into_iter().flatten();
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let would = |refused: &Value| {
        let mut own = entries().filter(|entry| entry.get("factory") == refused.get("factory"));
        own.all(|entry| text(entry, "layer").as_deref() == Some("availability"))
    };
    let because = |rules: &[&str]| {
        let named = |entry: &&Value| text(entry, "rule").is_some_and(|rule| rules.contains(&rule.as_str()));
        entries().filter(named).any(would)
    };
    match () {
        () if because(&[UNREACHABLE, NO_CAPACITY, CIRCUIT_OPEN]) => Patience::Some,
        () if because(&[ENGINE_FAILED, NOT_UNDERSTOOD, NO_ANSWER]) => Patience::Little,
        () => Patience::None,
    }
}

async fn ask(gateway: &Gateway, caller: Caller, endpoint: Endpoint, request: &Request) -> Result<Response, ApiError> {
    for name in ["stream", "background"] {
        if request.body.get(name) == Some(&Value::Bool(true)) {
            let message = format!("`{name}` is not for the lines of a batch: its answers come whole, in a file");
            return Err(ApiError::parameter(name, "unsupported_parameter", message));
        }
    }
    let (gateway, parameters, headers) = (gateway.clone(), Parameters(request.body.clone()), HeaderMap::new());
    match endpoint {
        Endpoint::Chat => chat::run(gateway, caller, &headers, parameters).await,
        Endpoint::Completions => completions::run(gateway, caller, &headers, parameters).await,
        Endpoint::Embeddings => embeddings::run(gateway, caller, &headers, parameters).await,
        Endpoint::Responses => responses::run(gateway, caller, &headers, parameters).await,
    }
}

/// The id of a line's answer: the same whenever it is written.
fn line_id(batch: &str, number: u32) -> String {
    let digest = sha2::Sha256::digest(format!("{batch}/{number}"));
    let digits: String = hex::encode(digest).chars().take(32).collect();
    format!("batch_req_{digits}")
}

/// What leads from a line to its decision and receipt.
fn proof(headers: &HeaderMap) -> Value {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("polder-decision") {
        None => Value::Null,
        Some(decision) => json!({
            "decision": decision, "factory": text("polder-factory"), "receipt": text("polder-receipt"),
        }),
    }
}

/// A line of a batch's files.
fn written(batch: &str, number: u32, custom_id: &str, told: (StatusCode, &HeaderMap, &RawValue)) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Told<'a> {
        status_code: u16,
        request_id: Option<&'a Value>,
        body: &'a RawValue,
    }
    #[derive(serde::Serialize)]
    struct Line<'a> {
        id: String,
        custom_id: &'a str,
        response: Told<'a>,
        error: Option<()>,
        polder: &'a Value,
    }
    let (status, headers, body) = told;
    let proof = proof(headers);
    let response = Told { status_code: status.as_u16(), request_id: proof.get("decision"), body };
    let line = Line { id: line_id(batch, number), custom_id, response, error: None, polder: &proof };
    serde_json::to_vec(&line).unwrap_or_default()
}

async fn answered(batch: &Batch, number: u32, custom_id: &str, answer: Response) -> Ended {
    let (head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, ANSWER_BYTES_MAX).await.ok();
    let raw = bytes.and_then(|bytes| serde_json::from_slice::<Box<RawValue>>(&bytes).ok());
    // A line of a file has no end in its middle.
    let raw = raw.and_then(|raw| match raw.get().contains(['\n', '\r']) {
        true => serde_json::from_str::<Value>(raw.get()).and_then(|value| serde_json::value::to_raw_value(&value)).ok(),
        false => Some(raw),
    });
    match raw {
        Some(raw) => {
            let text = written(&batch.id, number, custom_id, (head.status, &head.headers, &raw));
            Ended { number, good: head.status.is_success(), text }
        }
        None => failed(batch, number, custom_id, ApiError::internal("a batch's line has no whole answer")),
    }
}

fn failed(batch: &Batch, number: u32, custom_id: &str, error: ApiError) -> Ended {
    let body = serde_json::value::to_raw_value(&error.body()).unwrap_or_default();
    let (status, _, headers) = error.into_parts();
    Ended { number, good: false, text: written(&batch.id, number, custom_id, (status, &headers, &body)) }
}

/// A line that did not run.
pub fn not_run(batch: &str, number: u32, custom_id: &str, (code, message): (&str, &str)) -> Ended {
    let line = json!({
        "id": line_id(batch, number), "custom_id": custom_id, "response": null,
        "error": {"code": code, "message": message},
    });
    Ended { number, good: false, text: line.to_string().into_bytes() }
}
