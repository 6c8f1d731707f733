//! An engine behind OpenAI's API: vLLM, llama.cpp's server, SGLang and their kin.
//!
//! Requests are written anew from typed values, and so are answers: no header and no byte of framing passes through. The key goes
//! to the configured origin and nowhere else; redirects are not followed. Starting or stopping the engine is absent.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, BodyStream, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::config::UpstreamConfig;
use crate::inference::{
    ChatRequest, Delta, EmbedRequest, Embeddings, Engine, EngineError, EngineFuture, Event, EventStream, ModelInfo,
    Usage,
};

/// How often the engine is asked what it serves.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer; prompts may take long to read.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest answer that is not a stream, and longest event of one, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// An engine behind OpenAI's API.
pub struct Upstream {
    client: HttpClient,
    base: String,
    key: Option<String>,
    served: Arc<RwLock<Served>>,
}

#[derive(Default)]
struct Served {
    models: Vec<ModelInfo>,
    failure: Option<EngineError>,
}

fn failed(reason: impl ToString) -> EngineError {
    EngineError::Failed { reason: reason.to_string() }
}

/// An error with the causes behind it: the outermost alone often says only that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

impl Upstream {
    /// An engine at a base URL such as `http://127.0.0.1:8000/v1`; asks it at once, and then regularly, what it serves.
    pub async fn connect(config: &UpstreamConfig) -> Result<Arc<Self>, String> {
        let base = config.url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|e| format!("`{base}` is not a URL: {e}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(format!("`{base}` is not an http or https URL: write it like `http://127.0.0.1:8000/v1`"));
        }
        let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let upstream = Arc::new(Self { client, base, key: config.key.clone(), served: Arc::default() });
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
            Ok(models) => *served = Served { models, failure: None },
            Err(error) => served.failure = Some(error),
        }
    }

    async fn list_models(&self) -> Result<Vec<ModelInfo>, EngineError> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
            #[serde(default)]
            max_model_len: Option<u32>,
        }
        let response = self.send(Method::GET, "/models", Bytes::new()).await.map_err(|error| match error {
            EngineError::UnknownModel { .. } => {
                failed(format!("the engine answered 404 at `{}/models`: does its URL end with `/v1`?", self.base))
            }
            other => other,
        })?;
        let list: List = read_json(response).await?;
        let info = |model: Model| ModelInfo {
            id: model.id,
            digest: String::new(),
            context_tokens: model.max_model_len.unwrap_or(0),
            chat: true,
            embed: true,
        };
        Ok(list.data.into_iter().map(info).collect())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<http::Response<Incoming>, EngineError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Full::new(body)).map_err(failed)?;
        let sent = timeout(HEAD_TIMEOUT, self.client.request(request)).await;
        let response = sent.map_err(|_| failed(format!("`{}` did not answer in time", self.base)))?;
        let response = response.map_err(|e| failed(format!("`{}`: {}", self.base, chain(&e))))?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<http::Response<Incoming>, EngineError> {
        self.send(Method::POST, path, Bytes::from(body.to_string())).await
    }
}

async fn read_json<T: serde::de::DeserializeOwned>(response: http::Response<Incoming>) -> Result<T, EngineError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(failed)?;
    serde_json::from_slice(&body.to_bytes()).map_err(|e| failed(format!("the engine's answer is not understood: {e}")))
}

/// What an engine's error means to an application. What it says of a request goes back to whoever sent the request, and nowhere else.
async fn refusal(response: http::Response<Incoming>) -> EngineError {
    let status = response.status();
    let body: Value = read_json(response).await.unwrap_or(Value::Null);
    let error = body.get("error").unwrap_or(&body);
    let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => EngineError::Invalid {
            parameter: text("param").unwrap_or_else(|| "request".to_owned()),
            reason: text("message").unwrap_or_else(|| format!("was refused by the engine with status {status}")),
        },
        StatusCode::NOT_FOUND => {
            EngineError::UnknownModel { model: text("param").unwrap_or_else(|| "model".to_owned()) }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => EngineError::Busy { retry_after_s: 2 },
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

    fn chat(&self, request: ChatRequest) -> EngineFuture<'_, EventStream> {
        Box::pin(async move {
            let mut body = serde_json::to_value(&request).map_err(failed)?;
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
            let raw = request.is_raw();
            if let (true, Some(body)) = (raw, body.as_object_mut()) {
                body.remove("messages");
            }
            let path = if raw { "/completions" } else { "/chat/completions" };
            let response = self.post(path, &body).await?;
            Ok(events(response.into_body()))
        })
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
            let mut answer: Answer = read_json(self.post("/embeddings", &body).await?).await?;
            answer.data.sort_by_key(|item| item.index);
            if answer.data.len() != request.inputs.len() {
                return Err(failed("the engine answered with another number of vectors"));
            }
            Ok(Embeddings {
                vectors: answer.data.into_iter().map(|item| item.embedding).collect(),
                prompt_tokens: answer.usage.map_or(0, |usage| usage.prompt_tokens),
            })
        })
    }
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Map<String, Value>,
    /// What goes on with a raw prompt.
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// Where a stream stands.
struct Reading {
    body: BodyStream<Incoming>,
    buffer: BytesMut,
    ready: std::collections::VecDeque<Event>,
    usage: Usage,
    finished: bool,
}

/// The events in an engine's stream. One that ends without saying so is a failure.
fn events(body: Incoming) -> EventStream {
    let reading = Reading {
        body: BodyStream::new(body),
        buffer: BytesMut::new(),
        ready: std::collections::VecDeque::new(),
        usage: Usage::default(),
        finished: false,
    };
    Box::pin(futures_util::stream::unfold(Some(reading), |state| async move {
        let mut reading = state?;
        match reading.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Event>, EngineError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.finished {
                return Ok(None);
            }
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                self.line(line.trim_ascii())?;
            }
            if !self.ready.is_empty() || self.finished {
                continue;
            }
            match self.body.next().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(failed(error)),
                None => return Err(failed("the engine's answer broke off")),
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err(failed("an event of the engine is too long"));
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), EngineError> {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { return Ok(()) };
        if data == b"[DONE]" {
            self.ready.push_back(Event::Usage(self.usage));
            self.finished = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(data)
            .map_err(|e| failed(format!("an event of the engine is not understood: {e}")))?;
        if chunk.error.is_some() {
            return Err(failed("the engine stopped with an error"));
        }
        if let Some(counts) = chunk.usage {
            let Counts { prompt_tokens, completion_tokens } = counts;
            self.usage = Usage { prompt_tokens, completion_tokens };
        }
        for mut choice in chunk.choices {
            choice.delta.remove("role");
            let content = match choice.delta.remove("content") {
                Some(Value::String(text)) => Some(text),
                _ => choice.text,
            };
            let content = content.filter(|text| !text.is_empty());
            choice.delta.retain(|_, value| !value.is_null());
            if content.is_some() || choice.logprobs.is_some() || !choice.delta.is_empty() {
                self.ready.push_back(Event::Delta(Delta {
                    choice: choice.index,
                    content,
                    logprobs: choice.logprobs,
                    rest: choice.delta,
                }));
            }
            if let Some(reason) = choice.finish_reason {
                self.ready.push_back(Event::Finish { choice: choice.index, reason });
            }
        }
        Ok(())
    }
}
