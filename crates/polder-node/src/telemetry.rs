//! Traces: a span for each request that is sampled, with children for deciding, each attempt and the engine, sent by OTLP.
//!
//! Off unless `[telemetry]` names a collector. Where a request comes with a W3C `traceparent` its trace goes on, through the peers'
//! channel and to the engine; `tracestate` and `baggage` go no further, because they may hold anything. A span holds names, counts
//! and instants from closed lists, never a text of a request or an answer. Whoever runs a request never waits for the collector:
//! what it cannot take is thrown away and counted.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context as Polling, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::Stream;
use http::{HeaderMap, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::futures::TaskLocalFuture;

use crate::clock::random;
use crate::factory::Frames;
use crate::inference::{Event, Usage};
use crate::metrics;
use crate::peers::wire::Frame;

mod context;
mod export;
mod messages;

pub use context::{Context, Origin};
pub use export::Exporter;

/// Most spans that wait for the exporter.
const WAITING_MAX: usize = 8192;

/// The way to the exporter; absent where nothing is traced.
static SPANS: OnceLock<Spans> = OnceLock::new();

struct Spans {
    sender: mpsc::Sender<Span>,
    /// Requests whose random number lies below it are sampled.
    below: u64,
}

tokio::task_local! {
    /// The trace of the request that this task works on.
    static CURRENT: Option<Arc<Current>>;
}

/// What an attribute of a span may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A word of a closed list.
    Word(&'static str),
    /// A configured name, or an id of Polder's own.
    Text(String),
    /// A count.
    Count(u64),
    /// Words of a closed list.
    Words(Vec<&'static str>),
}

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It answers.
    Server,
    /// It asks.
    Client,
    /// It works.
    Internal,
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct Span {
    context: Context,
    parent: Option<u64>,
    name: String,
    kind: Kind,
    begun_ns: u64,
    ended_ns: u64,
    attributes: Vec<(&'static str, Value)>,
    error: Option<&'static str>,
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Eight random bytes as a number that is not 0, which no span may be.
fn new_id() -> u64 {
    random().map_or(1, u64::from_le_bytes).max(1)
}

fn send(span: Span) {
    if let Some(spans) = SPANS.get().filter(|_| span.context.sampled)
        && spans.sender.try_send(span).is_err()
    {
        metrics::dropped(1);
    }
}

/// The span of one request.
#[derive(Debug)]
pub struct Trace {
    context: Context,
    parent: Option<u64>,
    begun_ns: u64,
    attributes: Vec<(&'static str, Value)>,
    reasons: Vec<&'static str>,
}

impl Trace {
    /// Begins where a request came from.
    pub fn begin(origin: Origin) -> Self {
        let context = Context { trace: origin.trace, span: new_id(), sampled: origin.sampled };
        Self { context, parent: origin.parent, begun_ns: now_ns(), attributes: Vec::new(), reasons: Vec::new() }
    }

    /// Notes an attribute.
    pub fn set(&mut self, name: &'static str, value: Value) {
        if self.context.sampled {
            self.attributes.push((name, value));
        }
    }

    /// A choice of the answer ended.
    pub fn finished(&mut self, reason: &'static str) {
        if self.context.sampled && self.reasons.len() < 128 {
            self.reasons.push(reason);
        }
    }

    /// Ends with the request.
    pub fn end(mut self, operation: &'static str, model: &str, usage: Option<Usage>, error: Option<&'static str>) {
        if !self.context.sampled {
            return;
        }
        self.set("gen_ai.operation.name", Value::Word(operation));
        self.set("gen_ai.provider.name", Value::Word("polder"));
        self.set("gen_ai.request.model", Value::Text(model.to_owned()));
        if let Some(usage) = usage {
            self.set("gen_ai.response.model", Value::Text(model.to_owned()));
            self.set("gen_ai.usage.input_tokens", Value::Count(usage.prompt_tokens));
            self.set("gen_ai.usage.output_tokens", Value::Count(usage.completion_tokens));
        }
        if !self.reasons.is_empty() {
            let reasons = std::mem::take(&mut self.reasons);
            self.set("gen_ai.response.finish_reasons", Value::Words(reasons));
        }
        self.close(format!("{operation} {model}"), error);
    }

    fn close(self, name: String, error: Option<&'static str>) {
        let Self { context, parent, begun_ns, attributes, .. } = self;
        let span = Span { context, parent, name, kind: Kind::Server, begun_ns, ended_ns: now_ns(), attributes, error };
        send(span);
    }
}

/// Where a task stands in its trace.
#[derive(Debug)]
struct Current {
    context: Context,
    /// The span that new ones are children of.
    span: AtomicU64,
    /// Since when it has been deciding; 0 where it is not.
    deciding_ns: AtomicU64,
}

impl Current {
    fn of(context: Context, deciding: bool) -> Arc<Self> {
        let since = if deciding && context.sampled { now_ns() } else { 0 };
        Arc::new(Self { context, span: AtomicU64::new(context.span), deciding_ns: AtomicU64::new(since) })
    }

    fn decided(&self) {
        let begun_ns = self.deciding_ns.swap(0, Ordering::Relaxed);
        if begun_ns != 0 {
            let context = Context { span: new_id(), ..self.context };
            let (parent, name) = (Some(self.context.span), "decide".to_owned());
            let (kind, ended_ns, attributes) = (Kind::Internal, now_ns(), Vec::new());
            send(Span { context, parent, name, kind, begun_ns, ended_ns, attributes, error: None });
        }
    }
}

impl Drop for Current {
    /// Where nothing followed the last decision, it refused.
    fn drop(&mut self) {
        self.decided();
    }
}

/// Work that decides and runs, as a part of a trace where there is one.
pub fn within<F: Future>(trace: Option<&Trace>, work: F) -> impl Future<Output = F::Output> + use<F> {
    let scoped: TaskLocalFuture<_, F> = CURRENT.scope(trace.map(|trace| Current::of(trace.context, true)), work);
    scoped
}

/// A part of a request's work that is under way; nothing where it is not traced.
pub struct Child(Option<Box<Part>>);

struct Part {
    current: Arc<Current>,
    span: Span,
    /// What new spans were children of before.
    before: u64,
}

/// Begins an attempt at a factory: the decision that led to it has been made.
pub fn attempt(factory: &polder_core::ids::NodeId) -> Child {
    let child = part("attempt", Kind::Internal);
    match child {
        Some(mut part) => {
            part.current.decided();
            part.span.attributes.push(("polder.factory", Value::Text(factory.to_string())));
            Child(Some(part))
        }
        None => Child(None),
    }
}

/// Begins a call of an engine.
pub fn engine_call(host: Option<&str>, port: Option<u16>) -> Child {
    let mut child = part("engine", Kind::Client);
    if let Some(part) = &mut child {
        part.span.attributes.extend(host.map(|host| ("server.address", Value::Text(host.to_owned()))));
        part.span.attributes.extend(port.map(|port| ("server.port", Value::Count(u64::from(port)))));
    }
    Child(child)
}

/// Another decision begins, after an attempt that came to nothing.
pub fn deciding_again() {
    let begin = |current: &Option<Arc<Current>>| {
        if let Some(current) = current.as_ref().filter(|current| current.context.sampled) {
            current.deciding_ns.store(now_ns(), Ordering::Relaxed);
        }
    };
    // Outside of a request there is no trace.
    let _ = CURRENT.try_with(begin);
}

fn part(name: &str, kind: Kind) -> Option<Box<Part>> {
    let current = CURRENT.try_with(|current| current.clone()).ok().flatten()?;
    if !current.context.sampled {
        return None;
    }
    let context = Context { span: new_id(), ..current.context };
    let before = current.span.swap(context.span, Ordering::Relaxed);
    let (parent, name, begun_ns) = (Some(before), name.to_owned(), now_ns());
    let span = Span { context, parent, name, kind, begun_ns, ended_ns: 0, attributes: Vec::new(), error: None };
    Some(Box::new(Part { current, span, before }))
}

impl Child {
    /// It came to nothing, for this reason.
    pub fn failed(&mut self, error: &'static str) {
        if let Some(part) = &mut self.0 {
            part.span.error = Some(error);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(mut part) = self.0.take() {
            part.current.span.store(part.before, Ordering::Relaxed);
            part.span.ended_ns = now_ns();
            send(part.span);
        }
    }
}

/// The `traceparent` for whoever is asked next; none where there is no trace.
pub fn header() -> Option<HeaderValue> {
    let context = |current: &Option<Arc<Current>>| {
        let current = current.as_ref()?;
        Some(Context { span: current.span.load(Ordering::Relaxed), ..current.context })
    };
    CURRENT.try_with(context).ok().flatten()?.header()
}

/// What a factory does for a peer, as a part of the peer's trace where it has one.
pub fn served(headers: &HeaderMap, model: Option<&str>, frames: Frames) -> Frames {
    let Some(origin) = Origin::of_peer(headers) else { return frames };
    let mut trace = Trace::begin(origin);
    trace.set("gen_ai.provider.name", Value::Word("polder"));
    if let Some(model) = model {
        trace.set("gen_ai.request.model", Value::Text(model.to_owned()));
    }
    let current = Current::of(trace.context, false);
    Box::pin(Served { frames, current, trace: Some(trace), error: Some("cancelled") })
}

struct Served {
    frames: Frames,
    current: Arc<Current>,
    trace: Option<Trace>,
    error: Option<&'static str>,
}

impl Stream for Served {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Polling<'_>) -> Poll<Option<Frame>> {
        let current = Some(Arc::clone(&self.current));
        let polled = CURRENT.sync_scope(current, || self.frames.as_mut().poll_next(context));
        match &polled {
            Poll::Ready(Some(Frame::Refused(_))) => self.error = Some("refused"),
            Poll::Ready(Some(Frame::Failed(_))) => self.error = Some("engine_failed"),
            Poll::Ready(Some(Frame::Event(Event::Usage(usage)))) => {
                let usage = *usage;
                self.error = None;
                if let Some(trace) = &mut self.trace {
                    trace.set("gen_ai.usage.input_tokens", Value::Count(usage.prompt_tokens));
                    trace.set("gen_ai.usage.output_tokens", Value::Count(usage.completion_tokens));
                }
            }
            Poll::Ready(Some(Frame::Embeddings(_) | Frame::Ranking(_) | Frame::Images(_))) => self.error = None,
            _ => {}
        }
        polled
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take() {
            trace.close("run".to_owned(), self.error);
        }
    }
}

#[cfg(test)]
mod tests;
