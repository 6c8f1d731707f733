//! An engine behind OpenAI's API: vLLM, llama.cpp's server, SGLang and their kin.
//!
//! Requests are written anew from typed values, and so are answers: no header and no byte of framing passes through. The key goes
//! to the configured origin and nowhere else; redirects are not followed. Starting or stopping the engine is absent.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::config::UpstreamConfig;
use crate::inference::{
    ChatRequest, EmbedRequest, Embeddings, Engine, EngineError, EngineFuture, EventStream, ImageRequest, Images,
    ModelInfo, Ranking, RerankRequest,
};
use crate::metrics;
use crate::patience::within;
use crate::telemetry;

mod answer;
mod connection;
mod exposition;
mod models;
mod quoting;
mod replicas;
mod signals;
mod whole;
mod wire;

use answer::{Counts, Reading, not_understood};
use connection::{Busy, Pool};
pub use replicas::Replicas;
use wire::Head;

/// How often the engine is asked what it serves.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer; prompts may take long to read.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest answer that is not a stream, and longest event of one, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const POST: &str = "POST";
/// Longest error of an engine that is read, in bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// An engine behind OpenAI's API.
pub struct Upstream {
    pool: Arc<Pool>,
    base: String,
    origin: Uri,
    /// The headers that every request has: where it goes, what it is, and with whose key.
    headers: String,
    served: Arc<RwLock<Served>>,
}

#[derive(Default)]
struct Served {
    models: Vec<ModelInfo>,
    /// Whether it must be asked for a stream even where a whole answer is wanted.
    streams_only: bool,
    failure: Option<EngineError>,
}

/// A question to an engine, measured until the head of its answer; dropped before that, it failed.
struct Asked {
    begun: Instant,
    child: telemetry::Child,
    answered: bool,
}

impl Asked {
    fn begin(uri: &Uri) -> Self {
        Self { begun: Instant::now(), child: telemetry::engine_call(uri.host(), uri.port_u16()), answered: false }
    }

    fn answered(mut self, status: StatusCode) {
        self.answered = status == StatusCode::OK;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        metrics::engine_asked(self.begun.elapsed(), self.answered);
        if !self.answered {
            self.child.failed("engine_failed");
        }
    }
}

fn failed(reason: impl ToString) -> EngineError {
    EngineError::Failed { reason: reason.to_string() }
}

impl Upstream {
    /// An engine at a base URL such as `http://127.0.0.1:8000/v1`; asks it at once, and then regularly, what it serves.
    pub async fn connect(config: &UpstreamConfig) -> Result<Arc<Self>, String> {
        let base = config.url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|e| format!("`{base}` is not a URL: {e}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(format!("`{base}` is not an http or https URL: write it like `http://127.0.0.1:8000/v1`"));
        }
        let headers = headers(&uri, config.key.as_deref())?;
        let (pool, origin) = (Pool::new(uri.clone()), uri);
        let upstream = Arc::new(Self { pool, base, origin, headers, served: Arc::default() });
        upstream.look().await;
        for (_, error) in upstream.failures() {
            tracing::warn!(%error, "the engine cannot be used yet; it is asked again every few seconds");
        }
        let watched = Arc::downgrade(&upstream);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(upstream) = watched.upgrade() else { return };
                upstream.look().await;
            }
        });
        Ok(upstream)
    }

    /// An engine that does not answer keeps its models: a request for one then hears that the engine is down, and not that
    /// there is no such model.
    async fn look(&self) {
        let seen = timeout(LOOK_TIMEOUT, self.list_models()).await.unwrap_or_else(|_| Err(failed("no answer in time")));
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok((models, streams_only)) => *served = Served { models, streams_only, failure: None },
            Err(error) => served.failure = Some(error),
        }
    }

    /// What it serves, and whether it must always be asked for a stream: llama.cpp goes on with a whole answer when its client has
    /// left, and counts one of several choices.
    async fn list_models(&self) -> Result<(Vec<ModelInfo>, bool), EngineError> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
            /// vLLM's word for its longest context.
            #[serde(default)]
            max_model_len: Option<u32>,
            #[serde(default)]
            owned_by: Option<String>,
            /// llama.cpp's words.
            #[serde(default)]
            meta: Option<Meta>,
        }
        #[derive(Deserialize)]
        struct Meta {
            #[serde(default)]
            n_ctx: Option<u32>,
        }
        let list: List = self.fetch("GET", "/models", &[]).await.map_err(|error| match error {
            EngineError::UnknownModel { .. } => {
                failed(format!("the engine answered 404 at `{}/models`: does its URL end with `/v1`?", self.base))
            }
            other => other,
        })?;
        let info = |model: Model| ModelInfo {
            digest: String::new(),
            context_tokens: model.max_model_len.or_else(|| model.meta?.n_ctx).unwrap_or(0),
            chat: true,
            embed: true,
            rerank: false,
            image: false,
            id: model.id,
        };
        let streams_only = list.data.iter().any(|model| model.owned_by.as_deref() == Some("llamacpp"));
        Ok((list.data.into_iter().map(info).collect(), streams_only))
    }

    /// A request as it is sent. Its target begins at the origin.
    fn written(&self, method: &str, target: &str, trace: Option<&HeaderValue>, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.headers.len() + target.len() + body.len() + 192);
        let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        add(&[method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n", self.headers.as_bytes()]);
        if let Some(trace) = trace {
            add(&[b"traceparent: ", trace.as_bytes(), b"\r\n"]);
        }
        if method == POST {
            add(&[b"content-length: ", body.len().to_string().as_bytes(), b"\r\n"]);
        }
        add(&[b"\r\n", body]);
        out
    }

    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<(Head, Busy), EngineError> {
        // Whoever asks what the engine serves does so for no request.
        let asked = (method == POST).then(|| Asked::begin(&self.origin));
        let trace = asked.as_ref().and_then(|_| telemetry::header());
        let target = [self.origin.path().trim_end_matches('/'), path].concat();
        let request = self.written(method, &target, trace.as_ref(), body);
        let sent = within(HEAD_TIMEOUT, self.pool.send(&request)).await;
        if let (Some(asked), Some(Ok((head, _)))) = (asked, &sent) {
            asked.answered(head.status);
        }
        let (head, busy) = sent
            .ok_or_else(|| failed(format!("`{}` did not answer in time", self.base)))?
            .map_err(|e| failed(format!("`{}`: {e}", self.base)))?;
        if head.status == StatusCode::OK { Ok((head, busy)) } else { Err(refusal(head.status, busy, body).await) }
    }

    /// An answer in one piece.
    async fn read(&self, method: &str, path: &str, body: &[u8]) -> Result<Bytes, EngineError> {
        let (_, mut busy) = self.send(method, path, body).await?;
        let text = busy.read(ANSWER_BYTES_MAX).await.map_err(failed)?;
        busy.give_back();
        Ok(text)
    }

    async fn fetch<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<T, EngineError> {
        let text = self.read(method, path, body).await?;
        serde_json::from_slice(&text).map_err(|e| not_understood(&e))
    }
}

/// A request to go on with a raw text has no messages.
fn raw_body(request: &ChatRequest) -> Result<Vec<u8>, EngineError> {
    let mut body = serde_json::to_value(request).map_err(failed)?;
    if let Some(body) = body.as_object_mut() {
        body.remove("messages");
    }
    Ok(body.to_string().into_bytes())
}

/// The headers that every request to an engine has.
fn headers(origin: &Uri, key: Option<&str>) -> Result<String, String> {
    let host = origin.authority().map_or("", |authority| authority.as_str());
    // What stands before an `@` is nobody's host.
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let mut headers = format!("host: {host}\r\ncontent-type: application/json\r\n");
    if let Some(key) = key {
        let value = HeaderValue::from_str(&format!("Bearer {key}")).ok();
        let value = value.as_ref().and_then(|value| value.to_str().ok());
        let value = value.ok_or("the engine's key holds characters that no header may have: write it again")?;
        headers.extend(["authorization: ", value, "\r\n"]);
    }
    Ok(headers)
}

/// What an engine's error means to an application. What it says of a request goes back to whoever sent the request, and nowhere else.
async fn refusal(status: StatusCode, mut busy: Busy, asked: &[u8]) -> EngineError {
    let body = match busy.read(ERROR_BYTES_MAX).await {
        Ok(text) => serde_json::from_slice(&text).unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    busy.give_back();
    let error = body.get("error").unwrap_or(&body);
    // Errors go into other people's logs: an engine's words that quote what was asked do not go with them.
    let quotes = |text: &&str| !quoting::quotes(text, asked);
    let text = |key: &str| error.get(key).and_then(Value::as_str).filter(quotes).map(str::to_owned);
    let count = |key: &str| error.get(key).and_then(Value::as_u64);
    // llama.cpp says so with numbers.
    if let (Some("exceed_context_size_error"), Some(tokens), Some(limit)) =
        (text("type").as_deref(), count("n_prompt_tokens"), count("n_ctx"))
    {
        return EngineError::ContextLength { tokens, limit };
    }
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => EngineError::Invalid {
            parameter: text("param").unwrap_or_else(|| "request".to_owned()),
            reason: text("message").unwrap_or_else(|| format!("was refused by the engine with status {status}")),
        },
        StatusCode::NOT_FOUND => {
            EngineError::UnknownModel { model: text("param").unwrap_or_else(|| "model".to_owned()) }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => EngineError::Busy { retry_after_s: 2 },
        status if status.is_redirection() => failed(format!(
            "the engine answered with a redirect ({}), which is not followed: key and prompt go to the configured origin only; \
             set `url` to where the engine really is",
            status.as_u16()
        )),
        _ => failed(format!("the engine answered with status {status}")),
    }
}

impl Engine for Upstream {
    fn backend(&self) -> String {
        "upstream".to_owned()
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).models.clone()
    }

    fn failures(&self) -> Vec<(String, EngineError)> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.failure.iter().map(|error| (self.base.clone(), error.clone())).collect()
    }

    fn chat(&self, mut request: ChatRequest) -> EngineFuture<'_, EventStream> {
        Box::pin(async move {
            let raw = request.is_raw();
            request.stream |= self.served.read().unwrap_or_else(PoisonError::into_inner).streams_only;
            if request.stream {
                request.rest.insert("stream_options".to_owned(), json!({"include_usage": true}));
            }
            let body = match raw {
                true => raw_body(&request)?,
                false => serde_json::to_vec(&request).map_err(failed)?,
            };
            let path = if raw { "/completions" } else { "/chat/completions" };
            let (head, mut busy) = self.send(POST, path, &body).await?;
            // Some engines stream whatever they are asked.
            if request.stream || head.events {
                return Ok(Box::pin(Reading::new(busy)) as EventStream);
            }
            let text = busy.read(ANSWER_BYTES_MAX).await.map_err(failed)?;
            busy.give_back();
            let events = answer::whole(&text)?;
            Ok(Box::pin(futures_util::stream::iter(events.into_iter().map(Ok))) as EventStream)
        })
    }

    fn digest(&self, _: &str) -> Option<String> {
        None
    }

    fn embed(&self, request: EmbedRequest) -> EngineFuture<'_, Embeddings> {
        Box::pin(async move {
            #[derive(Deserialize)]
            struct Answer {
                data: Vec<Item>,
                #[serde(default)]
                usage: Option<Counts>,
            }
            #[derive(Deserialize)]
            struct Item {
                index: usize,
                embedding: Vec<f32>,
            }
            let mut body = json!({"model": request.model, "input": request.inputs, "encoding_format": "float"});
            if let Some(dimensions) = request.dimensions {
                body["dimensions"] = dimensions.into();
            }
            let body = body.to_string();
            let mut answer: Answer = self.fetch(POST, "/embeddings", body.as_bytes()).await?;
            answer.data.sort_by_key(|item| item.index);
            if answer.data.len() != request.inputs.len() {
                return Err(failed("the engine answered with another number of vectors"));
            }
            let wanted = request.dimensions.map_or(usize::MAX, |count| count as usize);
            Ok(Embeddings {
                vectors: answer.data.into_iter().map(|item| cut(item.embedding, wanted)).collect(),
                prompt_tokens: answer.usage.map_or(0, |usage| usage.prompt_tokens),
            })
        })
    }

    fn rerank(&self, request: RerankRequest) -> EngineFuture<'_, Ranking> {
        Box::pin(async move {
            let body = whole::rerank_body(&request).to_string();
            let answer = self.fetch(POST, "/rerank", body.as_bytes()).await?;
            whole::ranking(answer, &request)
        })
    }

    fn image(&self, request: ImageRequest) -> EngineFuture<'_, Images> {
        Box::pin(async move {
            let body = whole::image_body(&request)?.to_string();
            whole::images(self.fetch(POST, "/images/generations", body.as_bytes()).await?)
        })
    }
}

/// A vector of at most this length, made unit length again: some engines take no notice of `dimensions`.
fn cut(mut vector: Vec<f32>, length: usize) -> Vec<f32> {
    if vector.len() > length {
        vector.truncate(length);
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    }
    vector
}
