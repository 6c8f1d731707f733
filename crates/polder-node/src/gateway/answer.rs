//! A conversation's answer as the gateway's surfaces see it: asked for once, then a row of events.
//!
//! Every surface that generates text (chat, responses, messages, …) asks through [`ask`], so that what holds for one holds for
//! all: the decision, the receipt, and what is counted. How a surface writes its answer down is absent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use polder_core::ids::{DecisionId, ModelId, NodeId};
use polder_core::labels::{Action, Labels};
use polder_core::ledger::Bucket;
use serde_json::{Map, Value};

use super::calls::Calls;
use super::limits::say_rates;
use super::{ApiError, Caller, Gateway, proof_headers};
use crate::home::{Home, Placed};
use crate::inference::{ChatRequest, Delta, EngineError, Event, Usage};
use crate::ledger::Meter;
use crate::metrics::{Observation, Observed};
use crate::peers::wire::{Frame, Work};
use crate::peers::{FrameStream, PeerError};
use crate::telemetry::{self, Trace};

/// The steps of an answer, in the order that [`Event`] names. Dropping it stops the work.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// An answer that has begun.
pub struct Answer {
    /// The decision that placed it.
    pub decision: DecisionId,
    /// Where it runs.
    pub factory: NodeId,
    /// What comes of it.
    pub events: Events,
    /// What the key's rates leave: requests, then tokens.
    rates: [Option<Bucket>; 2],
}

/// Decides about a conversation and has it answered. Errors that come before the first token are the request's own.
pub async fn ask(
    gateway: &Gateway,
    caller: &Caller,
    labels: Labels,
    mut request: ChatRequest,
) -> Result<Answer, ApiError> {
    let unknown = || ApiError::unknown_model(&request.model);
    let model = ModelId::parse(&request.model).map_err(|_| unknown())?;
    if !gateway.home.offers(&model, Action::Infer) {
        return Err(unknown());
    }
    let meter = gateway.meter_chat(caller, &labels, &model, &mut request).await?;
    let (placed, meter, observed) = start(gateway, caller, labels, (Work::Chat(request), model), meter).await?;
    let (decision, factory, rates) = (placed.decision.clone(), placed.factory.clone(), meter.rates());
    let events = meter.watch(Steps::new(placed, Arc::clone(&gateway.home)));
    Ok(Answer { decision, factory, rates, events: Box::pin(Observed::new(events, observed)) })
}

/// Decides about work that is answered in one piece, and has it done, with its meter running.
pub async fn begin(
    gateway: &Gateway,
    caller: &Caller,
    labels: Labels,
    work: Work,
    meter: Meter,
) -> Result<(Placed, Meter), ApiError> {
    let (_, model) = work.asks();
    let model = ModelId::parse(model).map_err(|_| ApiError::unknown_model(model))?;
    let (placed, meter, mut observed) = start(gateway, caller, labels, (work, model), meter).await?;
    observed.whole(&placed.first);
    Ok((placed, meter))
}

/// Decides about work for a model that is offered and has it begun, with its meter running and an eye on it.
async fn start(
    gateway: &Gateway,
    caller: &Caller,
    labels: Labels,
    (work, model): (Work, ModelId),
    mut meter: Meter,
) -> Result<(Placed, Meter, Observation), ApiError> {
    let trace = caller.origin.map(|origin| Box::new(Trace::begin(origin)));
    let mut observed = Observation::begin(&work, model, trace);
    meter.sending();
    let sent = |decision: &DecisionId, factory: &NodeId| meter.sent_to(decision, factory);
    let run = telemetry::within(observed.trace(), gateway.home.run(&caller.project, labels, work, &sent));
    let run = meter.unless_revoked(run).await.map_err(|stopped| {
        observed.failed(&stopped);
        ApiError::of_engine(&stopped)
    })?;
    observed.decided(&run);
    let placed = match run {
        Ok(placed) => placed,
        Err(error) => {
            meter.nothing();
            return Err(error.into());
        }
    };
    meter.placed(&placed.decision, &placed.factory, gateway.price_of(&placed.factory));
    Ok((placed, meter, observed))
}

/// Refuses a model that no factory offers for conversations.
pub fn check_model(gateway: &Gateway, model: &str) -> Result<(), ApiError> {
    let offered = ModelId::parse(model).is_ok_and(|model| gateway.home.offers(&model, Action::Infer));
    if offered { Ok(()) } else { Err(ApiError::unknown_model(model)) }
}

/// The frames of an answer, the first among them, as events or the failure that ended them.
struct Steps {
    first: Option<Frame>,
    /// Nothing once the answer has ended.
    source: Option<Source>,
    calls: Calls,
}

/// Where an answer comes from.
struct Source {
    rest: FrameStream,
    home: Arc<Home>,
    decision: DecisionId,
    factory: NodeId,
}

impl Steps {
    fn new(placed: Placed, home: Arc<Home>) -> Self {
        let Placed { decision, factory, first, rest } = placed;
        Self { first: Some(first), source: Some(Source { rest, home, decision, factory }), calls: Calls::default() }
    }

    fn step(&mut self, frame: Option<Result<Frame, PeerError>>) -> Result<Event, EngineError> {
        if let Some(Ok(Frame::Event(event))) = frame {
            // Nothing but the receipt comes after the usage: it is kept while the answer ends.
            if let Some(Source { rest, home, decision, factory }) =
                self.source.take_if(|_| matches!(event, Event::Usage(_)))
            {
                home.ended(&factory, true);
                home.keep_rest(decision, rest);
            }
            return Ok(self.calls.numbered(event));
        }
        if let Some(Source { home, factory, .. }) = self.source.take() {
            home.ended(&factory, false);
        }
        let reason = match frame {
            Some(Ok(Frame::Failed(error))) => return Err(error),
            Some(Ok(_)) => "the factory sent what does not belong into an answer".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "the factory's answer broke off".to_owned(),
        };
        Err(EngineError::Failed { reason })
    }
}

impl Stream for Steps {
    type Item = Result<Event, EngineError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let frame = match (this.first.take(), &mut this.source) {
            (Some(first), _) => Some(Ok(first)),
            (None, Some(source)) => ready!(source.rest.as_mut().poll_next(cx)),
            (None, None) => return Poll::Ready(None),
        };
        Poll::Ready(Some(this.step(frame)))
    }
}

/// An id for an answer, such as `chatcmpl-…`, made of its decision's own, so that one leads to the other.
pub fn answer_id(decision: &DecisionId, prefix: &str) -> String {
    let (_, digits) = decision.as_str().rsplit_once('-').unwrap_or_default();
    format!("{prefix}-{digits}")
}

impl Answer {
    /// The answer's id, with the prefix of the surface that writes it.
    pub fn id(&self, prefix: &str) -> String {
        answer_id(&self.decision, prefix)
    }

    /// The headers that lead to its proof, and those that say what the key's rates leave.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = proof_headers(&self.decision, Some(&self.factory));
        say_rates(&mut headers, self.rates);
        headers
    }

    /// Waits for the whole answer.
    pub async fn collect(self) -> Result<Collected, EngineError> {
        let (mut collected, mut events) = (Collected::default(), self.events);
        while let Some(event) = events.next().await {
            collected.add(event?);
        }
        Ok(collected)
    }
}

/// An answer put together from its events.
#[derive(Debug, Default)]
pub struct Collected {
    /// Its choices, by index.
    pub choices: Vec<Choice>,
    /// What was read and written.
    pub usage: Usage,
}

/// One choice of an answer.
#[derive(Debug, Default)]
pub struct Choice {
    /// Its text; `None` where the model only called tools.
    pub text: Option<String>,
    /// The likelihoods of its tokens, where they were asked for.
    pub logprobs: Option<Value>,
    /// Fields beside the text, such as `tool_calls`, put together.
    pub rest: Map<String, Value>,
    /// Why it ended.
    pub reason: Option<String>,
}

/// Most choices of one answer; OpenAI's own limit. An engine that claims more is not believed.
pub const CHOICES_MAX: u64 = 128;

impl Collected {
    /// Adds one event.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Delta(Delta { choice, content, logprobs, rest }) => {
                let Some(choice) = self.choice(choice) else { return };
                if let Some(content) = content {
                    choice.text.get_or_insert_default().push_str(&content);
                }
                match (&mut choice.logprobs, logprobs) {
                    (Some(Value::Object(before)), Some(Value::Object(more))) => append(before, more),
                    (place, Some(more)) => *place = Some(more),
                    (_, None) => {}
                }
                merge(&mut choice.rest, rest);
            }
            Event::Finish { choice, reason } => {
                if let Some(choice) = self.choice(choice) {
                    choice.reason = Some(reason);
                }
            }
            Event::Usage(usage) => self.usage = usage,
        }
    }

    fn choice(&mut self, index: u32) -> Option<&mut Choice> {
        let index = usize::try_from(index).ok().filter(|_| u64::from(index) < CHOICES_MAX)?;
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        self.choices.get_mut(index)
    }
}

/// Adds lists of token likelihoods behind those of before.
fn append(whole: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (whole.get_mut(&key), value) {
            (Some(Value::Array(before)), Value::Array(more)) => before.extend(more),
            (_, value) => drop(whole.insert(key, value)),
        }
    }
}

/// Adds the pieces of a delta to what came before: texts are joined, lists are merged by `index`, other values replaced.
fn merge(whole: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (whole.get_mut(&key), value) {
            (Some(Value::String(before)), Value::String(more)) => before.push_str(&more),
            (Some(Value::Object(before)), Value::Object(more)) => merge(before, more),
            (Some(Value::Array(before)), Value::Array(more)) => {
                more.into_iter().for_each(|item| merge_item(before, item))
            }
            (_, value) => drop(whole.insert(key, value)),
        }
    }
}

fn merge_item(list: &mut Vec<Value>, item: Value) {
    let index = item.get("index").cloned();
    let place = index.and_then(|index| list.iter_mut().find(|known| known.get("index") == Some(&index)));
    match (place, item) {
        (Some(Value::Object(before)), Value::Object(more)) => merge(before, more),
        (_, item) => list.push(item),
    }
}

/// Token counts as chat completions and completions write them.
pub fn usage_json(usage: &Usage) -> Value {
    serde_json::json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}
