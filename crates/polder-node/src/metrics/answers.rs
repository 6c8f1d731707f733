//! What is measured of each answer: how long it took, when it began, how fast it came, how many tokens it was.
//!
//! One [`Observation`] goes with a request from its key to its last byte, and is written down once, when it is dropped. It costs
//! two looks at the clock and some atomic additions, and a comparison for each piece of a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream;
use pin_project_lite::pin_project;
use polder_core::ids::{DecisionId, ModelId, NodeId};
use polder_core::placement::Outcome;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge, Registry};

use super::{DURATIONS, Known, OTHER, Open, kept, metrics};
use crate::home::{HomeError, Placed};
use crate::inference::{EngineError, Event, StopCause, Usage};
use crate::peers::wire::{Frame, Work};
use crate::telemetry::{Trace, Value};

/// Most models that are told apart.
const MODELS_MAX: usize = 256;
/// Seconds, as the conventions have them for the first token, and for each one after it.
const FIRST_TOKENS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const TOKEN_TIMES: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// Tokens, as the conventions have them.
const TOKENS: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0,
    16_777_216.0, 67_108_864.0,
];
const BY_MODEL: [&str; 2] = ["gen_ai_operation_name", "gen_ai_request_model"];

/// What is done, by the conventions' names where they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A conversation.
    Chat,
    /// A raw text that is gone on with.
    TextCompletion,
    /// Vectors.
    Embeddings,
    /// Texts ordered by a query.
    Rerank,
    /// Pictures.
    ImageGeneration,
}

impl Operation {
    /// What a request is.
    pub fn of(work: &Work) -> Self {
        match work {
            Work::Chat(chat) if chat.is_raw() => Self::TextCompletion,
            Work::Chat(_) => Self::Chat,
            Work::Embed(_) => Self::Embeddings,
            Work::Rerank(_) => Self::Rerank,
            Work::Image(_) => Self::ImageGeneration,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::ImageGeneration => "image_generation",
        }
    }
}

/// The histograms of all answers.
pub(super) struct Answers {
    durations: HistogramVec,
    first_tokens: HistogramVec,
    token_times: HistogramVec,
    tokens: HistogramVec,
    /// By operation, in the order of [`Operation`], and model.
    series: [Known<ModelId, Series>; 5],
}

/// Those of one operation and model.
struct Series {
    duration: Histogram,
    first_token: Histogram,
    token_time: Histogram,
    read: Histogram,
    written: Histogram,
}

impl Answers {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let made = |name: &str, help: &str, buckets: &[f64], more: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            // Required by the conventions: applications speak to this gateway, whoever runs the model.
            let opts = opts.const_label("gen_ai_provider_name", "polder");
            kept(registry, HistogramVec::new(opts, &[BY_MODEL.as_slice(), more].concat()))
        };
        Ok(Self {
            durations: made(
                "gen_ai_server_request_duration_seconds",
                "How long requests took, from their key to the last piece of the answer.",
                &DURATIONS,
                &["error_type"],
            )?,
            first_tokens: made(
                "gen_ai_server_time_to_first_token_seconds",
                "How long streams took to their first piece.",
                &FIRST_TOKENS,
                &[],
            )?,
            token_times: made(
                "gen_ai_server_time_per_output_token_seconds",
                "How long each token of a stream took after the first one.",
                &TOKEN_TIMES,
                &[],
            )?,
            tokens: made(
                "gen_ai_client_token_usage",
                "Tokens that were read and written, as engines count them.",
                &TOKENS,
                &["gen_ai_token_type"],
            )?,
            series: std::array::from_fn(|_| Known::new()),
        })
    }

    fn make(&self, operation: Operation, model: &str) -> Option<Series> {
        let names = [operation.name(), model];
        let one = |vec: &HistogramVec, more: &[&str]| {
            vec.get_metric_with_label_values(&[names.as_slice(), more].concat()).ok()
        };
        Some(Series {
            duration: one(&self.durations, &[""])?,
            first_token: one(&self.first_tokens, &[])?,
            token_time: one(&self.token_times, &[])?,
            read: one(&self.tokens, &["input"])?,
            written: one(&self.tokens, &["output"])?,
        })
    }

    fn series(&self, operation: Operation, model: &ModelId) -> Option<Arc<Series>> {
        // Beyond the bound all share one, which is looked for each time.
        self.known(operation, model).or_else(|| self.make(operation, OTHER).map(Arc::new))
    }

    fn known(&self, operation: Operation, model: &ModelId) -> Option<Arc<Series>> {
        let series = self.series.get(operation as usize)?;
        series.of(model, MODELS_MAX, || model.clone(), || self.make(operation, model.as_str()))
    }

    /// A request that failed; these are few, and are looked for each time.
    fn failed(&self, operation: Operation, model: &ModelId, error: &str) -> Option<Histogram> {
        let model = if self.known(operation, model).is_some() { model.as_str() } else { OTHER };
        self.durations.get_metric_with_label_values(&[operation.name(), model, error]).ok()
    }
}

/// One request under way, for a model that some factory offers. Dropping it writes down what is known by then.
pub struct Observation {
    operation: Operation,
    model: ModelId,
    begun: Instant,
    streamed: bool,
    first: Option<Instant>,
    usage: Option<(Usage, Duration)>,
    /// What went wrong; an answer that is dropped before its end was left by its client.
    error: Option<&'static str>,
    open: Option<Open>,
    trace: Option<Box<Trace>>,
}

impl Observation {
    /// Begins with a request whose model is offered.
    pub fn begin(work: &Work, model: ModelId, trace: Option<Box<Trace>>) -> Self {
        let operation = Operation::of(work);
        let streamed = matches!(work, Work::Chat(chat) if chat.stream);
        let (first, usage, error, open) = (None, None, Some("cancelled"), None);
        Self { operation, model, begun: Instant::now(), streamed, first, usage, error, open, trace }
    }

    /// The trace that it belongs to.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    /// What came of the decision.
    pub fn decided(&mut self, result: &Result<Placed, HomeError>) {
        super::decided(result);
        let streams: Option<&'static IntGauge> = metrics().map(|metrics| &metrics.streams);
        match result {
            Ok(placed) => {
                self.open = Some(Open::of(streams));
                self.placed(&placed.decision, &placed.factory);
            }
            Err(HomeError::Refused(record)) if record.statement.outcome == Outcome::NoCapacity => {
                self.error = Some("no_capacity");
            }
            Err(HomeError::Refused(_)) => self.error = Some("policy_unsatisfiable"),
            Err(HomeError::Request { error, .. }) => self.error = Some(error_type(error)),
            Err(HomeError::Internal(_)) => self.error = Some("internal_error"),
        }
    }

    fn placed(&mut self, decision: &DecisionId, factory: &NodeId) {
        if let Some(trace) = &mut self.trace {
            trace.set("polder.decision", Value::Text(decision.to_string()));
            trace.set("polder.factory", Value::Text(factory.to_string()));
        }
    }

    /// The answer came in one piece.
    pub fn whole(&mut self, frame: &Frame) {
        let usage = match frame {
            Frame::Embeddings(made) => Usage { prompt_tokens: made.prompt_tokens, ..Usage::default() },
            Frame::Ranking(made) => Usage { prompt_tokens: made.prompt_tokens, ..Usage::default() },
            Frame::Images(made) => made.usage,
            _ => return,
        };
        self.used(usage);
    }

    fn used(&mut self, usage: Usage) {
        self.usage = Some((usage, self.begun.elapsed()));
        self.error = None;
    }

    /// A step of the answer.
    fn event(&mut self, event: &Event) {
        match event {
            Event::Delta(_) if self.first.is_none() => self.first = Some(Instant::now()),
            Event::Delta(_) => {}
            Event::Finish { reason, .. } => {
                if let Some(trace) = &mut self.trace {
                    trace.finished(finish_reason(reason));
                }
            }
            Event::Usage(usage) => self.used(*usage),
        }
    }

    /// It was stopped, or its engine failed.
    pub fn failed(&mut self, error: &EngineError) {
        self.error = Some(error_type(error));
    }

    fn measure(&self, answers: &Answers, usage: Usage, whole: Duration) {
        let Some(series) = answers.series(self.operation, &self.model) else { return };
        series.duration.observe(self.begun.elapsed().as_secs_f64());
        series.read.observe(usage.prompt_tokens as f64);
        if matches!(self.operation, Operation::Chat | Operation::TextCompletion) {
            series.written.observe(usage.completion_tokens as f64);
        }
        let Some(first) = self.first.filter(|_| self.streamed) else { return };
        let first = first.duration_since(self.begun);
        series.first_token.observe(first.as_secs_f64());
        if usage.completion_tokens > 1 {
            let rest = whole.saturating_sub(first).as_secs_f64();
            series.token_time.observe(rest / (usage.completion_tokens - 1) as f64);
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let answers = metrics().map(|metrics| &metrics.answers);
        match (answers, self.usage, self.error) {
            (Some(answers), Some((usage, whole)), None) => self.measure(answers, usage, whole),
            (Some(answers), _, error) => {
                let histogram = answers.failed(self.operation, &self.model, error.unwrap_or(OTHER));
                if let Some(histogram) = histogram {
                    histogram.observe(self.begun.elapsed().as_secs_f64());
                }
            }
            (None, ..) => {}
        }
        if let Some(trace) = self.trace.take() {
            trace.end(self.operation.name(), self.model.as_str(), self.usage.map(|(usage, _)| usage), self.error);
        }
    }
}

/// What an engine's error is called; a closed list.
fn error_type(error: &EngineError) -> &'static str {
    match error {
        EngineError::UnknownModel { .. } => "model_not_found",
        EngineError::ContextLength { .. } => "context_length_exceeded",
        EngineError::Unsupported { .. } => "unsupported_parameter",
        EngineError::Invalid { .. } => "invalid_value",
        EngineError::Busy { .. } => "no_capacity",
        EngineError::Stopped { cause: StopCause::Quota } => "insufficient_quota",
        EngineError::Stopped { cause: StopCause::Revoked } => "invalid_api_key",
        EngineError::ModelFile { .. } | EngineError::Failed { .. } => "engine_failed",
    }
}

/// Why an answer ended; an engine's own words stay with the asker.
fn finish_reason(reason: &str) -> &'static str {
    ["stop", "length", "tool_calls", "content_filter", "function_call"]
        .into_iter()
        .find(|known| *known == reason)
        .unwrap_or(OTHER)
}

pin_project! {
    /// An answer with an observation on it.
    pub struct Observed<S> {
        #[pin]
        events: S,
        observation: Observation,
    }
}

impl<S> Observed<S> {
    /// Watches the steps of an answer.
    pub fn new(events: S, observation: Observation) -> Self {
        Self { events, observation }
    }
}

impl<S: Stream<Item = Result<Event, EngineError>>> Stream for Observed<S> {
    type Item = Result<Event, EngineError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let polled = this.events.poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(event))) => this.observation.event(event),
            Poll::Ready(Some(Err(error))) => this.observation.failed(error),
            _ => {}
        }
        polled
    }
}
