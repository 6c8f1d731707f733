//! What a model is asked and what it answers: one shape for gateway, peers and engines.
//!
//! The gateway turns OpenAI's JSON into these types, peers carry them, and every engine
//! (embedded or upstream) speaks them. Labels are absent on purpose: they decide where a
//! request runs and never reach an engine.

use std::future::Future;
use std::pin::Pin;

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a request without messages holds the raw text, or texts, to go on with: in [`ChatRequest::rest`].
pub const PROMPT: &str = "prompt";

/// A chat request as an engine sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model's id as the factory names it.
    pub model: String,
    /// The conversation, oldest first; empty where a raw [`PROMPT`] stands in its place.
    pub messages: Vec<Message>,
    /// Most tokens to generate; the engine's own limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2; 0 is greedy, absent is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus mass, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Seed of the sampler; the same seed gives the same tokens on the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts that end the answer; they are not part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Whether the answer is wanted piece by piece; a whole one costs an upstream engine less.
    #[serde(default)]
    pub stream: bool,
    /// Parameters that only some engines know, such as `tools`, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ChatRequest {
    /// How many choices are asked for.
    #[must_use]
    pub fn choices(&self) -> u32 {
        let asked = self.rest.get("n").and_then(Value::as_u64).unwrap_or(1);
        u32::try_from(asked).unwrap_or(u32::MAX).max(1)
    }

    /// Most tokens that may be generated, over all choices; the largest number where only the engine's limit holds.
    #[must_use]
    pub fn tokens_max(&self) -> u32 {
        self.max_tokens.unwrap_or(u32::MAX).saturating_mul(self.choices())
    }

    /// Whether it is a raw text to go on with, and no conversation. An engine without raw prompts refuses it by that name.
    pub fn is_raw(&self) -> bool {
        self.messages.is_empty() && self.rest.contains_key(PROMPT)
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text, or its parts; `None` where an assistant only called tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// Fields beside role and content, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A message's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Typed parts; the embedded engine reads those of type `text`.
    Parts(Vec<Map<String, Value>>),
}

/// A request for embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// The model's id as the factory names it.
    pub model: String,
    /// The inputs; one vector comes back for each, in order.
    pub inputs: Vec<EmbedInput>,
    /// Cut vectors to this length and normalise them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

/// One input of an embedding request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbedInput {
    /// Text, tokenised by the engine.
    Text(String),
    /// Token ids of the model's own vocabulary.
    Tokens(Vec<u32>),
}

/// What embeddings come back as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// One unit-length vector for each input, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens read.
    pub prompt_tokens: u64,
}

/// A request to order texts by how well they answer a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RerankRequest {
    /// The model's id as the factory names it.
    pub model: String,
    /// What is looked for.
    pub query: String,
    /// The texts.
    pub documents: Vec<String>,
    /// How many of the best are wanted; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_n: Option<u32>,
}

/// Texts in their order, the best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The best of them.
    pub results: Vec<Ranked>,
    /// Tokens read.
    pub prompt_tokens: u64,
}

/// One text's place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Which of the request's texts, from 0.
    pub index: u32,
    /// How well it answers; higher is better, and only scores of one answer can be compared.
    pub score: f32,
}

impl Ranking {
    /// Puts scored texts into their order, ties by index, and keeps the first `top_n`.
    pub fn of(mut results: Vec<Ranked>, top_n: Option<u32>, prompt_tokens: u64) -> Self {
        results.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        results.truncate(top_n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
        Self { results, prompt_tokens }
    }
}

/// A request for pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// The model's id as the factory names it.
    pub model: String,
    /// What they are to show.
    pub prompt: String,
    /// How many.
    pub n: u32,
    /// Parameters that only some engines know, such as `size`, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// The pictures, in the engine's order.
    pub images: Vec<Image>,
    /// Tokens read and written, where the engine counts them.
    pub usage: Usage,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its file's bytes as base64.
    pub base64: String,
    /// The prompt that the engine made of the request's, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revised_prompt: Option<String>,
}

/// One step of a chat answer, in the order: deltas, then one `Finish` per choice, then one `Usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// More of the answer.
    Delta(Delta),
    /// A choice has ended.
    Finish {
        /// Which choice, from 0.
        choice: u32,
        /// `stop`, `length`, `tool_calls` or `content_filter`.
        reason: String,
    },
    /// What was read and written; the last event.
    Usage(Usage),
}

/// A piece of one choice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Which choice, from 0.
    pub choice: u32,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// How likely the tokens of this piece were, in OpenAI's shape, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
    /// Fields beside the text, such as `tool_calls`, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Token counts of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
}

/// A model that an engine serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The id that requests name.
    pub id: String,
    /// SHA-256 over the model's files in name order, lower-case hex; empty where an upstream does not tell.
    pub digest: String,
    /// Longest prompt plus answer, in tokens; 0 where an upstream does not tell.
    pub context_tokens: u32,
    /// Whether `chat` answers for it.
    pub chat: bool,
    /// Whether `embed` answers for it.
    pub embed: bool,
    /// Whether `rerank` answers for it.
    pub rerank: bool,
    /// Whether `image` answers for it.
    pub image: bool,
}

/// Why an engine did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum EngineError {
    /// The model is not served here.
    #[error("model `{model}` is not served here")]
    UnknownModel {
        /// What was asked for.
        model: String,
    },
    /// Prompt plus requested answer do not fit.
    #[error("this model's context is {limit} tokens, the request needs {tokens}")]
    ContextLength {
        /// What the request needs.
        tokens: u64,
        /// What the model holds.
        limit: u64,
    },
    /// A parameter would change the answer and is not supported.
    #[error("`{parameter}` is not supported by this model's engine")]
    Unsupported {
        /// The parameter's name.
        parameter: String,
    },
    /// A parameter's value is out of its range.
    #[error("`{parameter}` {reason}")]
    Invalid {
        /// The parameter's name.
        parameter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model's files cannot be used.
    #[error("model file `{file}`: {reason}")]
    ModelFile {
        /// The file, and the tensor in it where one is to blame.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Every place is taken and the queue is full.
    #[error("the engine is full, try again in {retry_after_s} s")]
    Busy {
        /// When a place is likely.
        retry_after_s: u32,
    },
    /// The home stopped the answer.
    #[error("{cause}")]
    Stopped {
        /// Why.
        cause: StopCause,
    },
    /// The engine does not answer, or stopped in the middle.
    #[error("the engine failed: {reason}")]
    Failed {
        /// What happened, without any of the prompt.
        reason: String,
    },
}

/// Why a home stops an answer that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// A budget of the key, its project or its tenant is used up.
    #[error("the budget is used up: the answer ends here; whoever keeps the budget can raise it")]
    Quota,
    /// The key was revoked.
    #[error("this API key was revoked while its answer came")]
    Revoked,
}

/// A future that an [`Engine`] returns.
pub type EngineFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;
/// The steps of a chat answer. Dropping it stops the generation.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// What an engine says of its load; each part only where it offers it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Requests that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Requests that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Share of the memory for contexts that is taken, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_used_permille: Option<u64>,
    /// Share of the prompts' tokens that were found in the prefix cache of late, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_hit_permille: Option<u64>,
    /// How long the prompts of those that wait will take to read, in milliseconds: their number times the mean of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_backlog_ms: Option<u64>,
    /// Mean time to the first token of late, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<u64>,
}

impl Signals {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that runs models: the embedded CPU engine, or an upstream that speaks OpenAI's API.
pub trait Engine: Send + Sync {
    /// The back end that really runs, such as `cpu` or `upstream`; stands in execution statements.
    fn backend(&self) -> String;
    /// The models served now.
    fn models(&self) -> Vec<ModelInfo>;
    /// SHA-256 over a model's files, lower-case hex; `None` where that is not known.
    fn digest(&self, model: &str) -> Option<String> {
        self.models()
            .into_iter()
            .find(|info| info.id == model)
            .map(|info| info.digest)
            .filter(|digest| !digest.is_empty())
    }
    /// Models that were configured and cannot be served, with the reason.
    fn failures(&self) -> Vec<(String, EngineError)>;
    /// What it says of its load; nothing where it does not tell.
    fn signals(&self) -> Signals {
        Signals::default()
    }
    /// Answers a conversation. Errors before the first token come from the future, later ones from the stream.
    fn chat(&self, request: ChatRequest) -> EngineFuture<'_, EventStream>;
    /// Turns texts into vectors.
    fn embed(&self, request: EmbedRequest) -> EngineFuture<'_, Embeddings>;
    /// Orders texts by how well they answer a query: by the angle between their vectors and the query's, unless an engine
    /// knows better.
    fn rerank(&self, request: RerankRequest) -> EngineFuture<'_, Ranking> {
        Box::pin(async move {
            let inputs = std::iter::once(request.query).chain(request.documents).map(EmbedInput::Text).collect();
            let embeddings = self.embed(EmbedRequest { model: request.model, inputs, dimensions: None }).await?;
            let mut vectors = embeddings.vectors.into_iter();
            let query = vectors.next().unwrap_or_default();
            // Vectors have unit length: their product is the cosine.
            let product = |vector: Vec<f32>| query.iter().zip(&vector).map(|(a, b)| a * b).sum();
            let results = (0..).zip(vectors).map(|(index, vector)| Ranked { index, score: product(vector) }).collect();
            Ok(Ranking::of(results, request.top_n, embeddings.prompt_tokens))
        })
    }
    /// Makes pictures; most engines do not.
    fn image(&self, request: ImageRequest) -> EngineFuture<'_, Images> {
        Box::pin(async move { Err(EngineError::UnknownModel { model: request.model }) })
    }
}
