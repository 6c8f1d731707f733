//! The meter of one answer: reserved before it is sent off, extended while it grows, settled by what was really used.
//!
//! Small answers and whole ones reserve their worst case. A long stream reserves a piece and extends it while it goes on; when
//! no extension is left it is stopped. An answer that ends without word of what it used (its client left, its engine broke
//! off) stays reserved until the factory's half of the receipt tells, and counts in full where that never comes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use polder_core::ids::{DecisionId, NodeId};
use polder_core::ledger::{Bucket, Hold, cost_microeur};
use tokio::sync::futures::OwnedNotified;

use super::{Key, Ledger, Stop};
use crate::clock::now_ms;
use crate::inference::{Delta, EngineError, Event, StopCause, Usage};
use crate::store::OpenAnswer;

/// Generated tokens that a stream reserves at a time.
const PIECE_TOKENS: u64 = 512;
/// Tokens that may be on their way when a stream is stopped: they are reserved too.
const ON_THE_WAY_TOKENS: u64 = 64;
/// Most answers whose use is asked for at once; what comes beyond counts in full.
const UNCERTAIN_MAX: usize = 10_000;
/// Bytes of text that count as one token until the engine's own count comes; few, so that a count is rather too high.
const BYTES_PER_TOKEN: usize = 3;

/// What a request may use at most, in tokens.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Tokens read, as far as that is known before.
    pub prompt: u64,
    /// Tokens that are paid for: generated ones, or those read where vectors are made. Where nobody knows, `None`.
    pub paid_max: Option<u64>,
    /// Whether the answer comes piece by piece, so that it can be stopped.
    pub pieces: bool,
    /// Whether reading is what is paid for.
    pub reads: bool,
    /// The dearest price at which it may run, in micro-euro for a million tokens.
    pub price_max: u64,
}

/// The meter of one answer. Dropping it settles as well as it can.
pub struct Meter {
    ledger: Arc<Ledger>,
    key: Arc<Key>,
    hold: Option<Hold>,
    price: u64,
    prompt: u64,
    /// Paid tokens that are reserved, and the most that can come.
    reserved: u64,
    paid_max: u64,
    /// Paid tokens seen so far.
    seen: u64,
    /// Whether the engine has begun: what it used is then not nothing.
    sent: bool,
    /// Whether reading is what is paid for.
    reads: bool,
    /// Whether a budget pays, so that the reserved price is the most that is asked.
    pays: bool,
    placed: Option<(DecisionId, NodeId)>,
    /// Whether the price is that of where it runs.
    priced: bool,
    /// Where it was sent last, while nothing has come back yet.
    sent_to: Mutex<Option<(DecisionId, NodeId)>>,
}

/// An answer that ended without word of what it used.
pub(super) struct Uncertain {
    pub decision: DecisionId,
    pub factory: NodeId,
    pub since_ms: u64,
    pub meter: Meter,
}

impl Ledger {
    /// Reserves for a request before it is sent off.
    pub async fn meter(self: &Arc<Self>, key: &Arc<Key>, asked: &Asked) -> Result<Meter, Stop> {
        let most = asked.paid_max.unwrap_or(u64::MAX);
        // What costs nothing needs no extension.
        let first = if asked.pieces && asked.price_max > 0 { most.min(PIECE_TOKENS) } else { most };
        // The rates take what is likely, and settle with what was; the budgets take the worst.
        let tokens = asked.prompt.saturating_add(first.min(PIECE_TOKENS));
        let hold = self.reserve(key, tokens, cost_microeur(first, asked.price_max)).await?;
        Ok(Meter {
            ledger: Arc::clone(self),
            key: Arc::clone(key),
            hold: Some(hold),
            price: asked.price_max,
            prompt: asked.prompt,
            reserved: first,
            paid_max: most,
            seen: 0,
            sent: false,
            reads: asked.reads,
            pays: asked.price_max > 0,
            placed: None,
            priced: false,
            sent_to: Mutex::default(),
        })
    }
}

impl Meter {
    /// It is sent off: from now on something may be used.
    pub fn sending(&mut self) {
        self.sent = true;
    }

    /// It is on its way to a factory, under a decision: if nobody waits for the first word of it, that factory says what was used.
    pub fn sent_to(&self, decision: &DecisionId, factory: &NodeId) {
        let mut sent_to = self.sent_to.lock().unwrap_or_else(PoisonError::into_inner);
        *sent_to = Some((decision.clone(), factory.clone()));
    }

    /// What the key's rates leave now: requests, then tokens.
    pub fn rates(&self) -> [Option<Bucket>; 2] {
        self.ledger.rates(&self.key)
    }

    /// It came to nothing, and nothing was used.
    pub fn nothing(mut self) {
        self.settle(0, 0);
    }

    /// It runs at a factory, at its price; a price that rose meanwhile counts from the next request on.
    pub fn placed(&mut self, decision: &DecisionId, factory: &NodeId, price: u64) {
        self.price = if self.pays { self.price.min(price) } else { price };
        (self.placed, self.priced) = (Some((decision.clone(), factory.clone())), true);
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.microeur() > 0) {
            let mut state = self.ledger.state();
            let name = |account: polder_core::ledger::Account| state.names.get(account.place()).cloned();
            let pays = hold.pays().filter_map(|(account, period)| Some((name(account)?, period))).collect();
            let answer = OpenAnswer {
                decision: decision.to_string(),
                factory: factory.to_string(),
                project: self.key.project.to_string(),
                key: self.key.id.clone(),
                price: self.price,
                reserved: hold.microeur(),
                pays,
                at_ms: now_ms(),
            };
            state.opened.push(answer);
        }
    }

    /// What was used, as the engine says.
    pub fn used(&mut self, prompt: u64, paid: u64) {
        self.prompt = prompt;
        self.settle(paid, cost_microeur(paid, self.price));
    }

    /// What was used where only reading is paid for.
    pub fn used_by_reading(&mut self, tokens: u64) {
        self.reads = true;
        self.prompt = 0;
        self.settle(tokens, cost_microeur(tokens, self.price));
    }

    /// Settles by paid tokens and their cost.
    fn settle(&mut self, paid: u64, microeur: u64) {
        let Some(hold) = self.hold.take() else { return };
        let nothing = paid == 0 && microeur == 0 && self.placed.is_none();
        let prompt = if nothing { 0 } else { self.prompt };
        let mut state = self.ledger.state();
        let money = hold.microeur() > 0;
        let charged = state.purses.settle(hold, prompt.saturating_add(paid), microeur);
        if let Some(used) = state.used.get_mut(self.key.place).filter(|_| !nothing) {
            used.requests = used.requests.saturating_add(1);
            let (read, generated) = if self.reads { (paid, 0) } else { (prompt, paid) };
            used.prompt_tokens = used.prompt_tokens.saturating_add(read);
            used.completion_tokens = used.completion_tokens.saturating_add(generated);
            used.microeur = used.microeur.saturating_add(charged);
        }
        if let Some((decision, _)) = self.placed.as_ref().filter(|_| money) {
            // One that has begun and ended between two flushes needs no row.
            match state.opened.iter().rposition(|answer| answer.decision == decision.as_str()) {
                Some(place) => drop(state.opened.swap_remove(place)),
                None => state.closed.push(decision.to_string()),
            }
        }
    }

    /// The factory's half has come: settles by what it says. What was read counts as it was taken for where the engine was stopped
    /// before it counted.
    pub(super) fn told(&mut self, usage: Usage) {
        match (self.reads, usage.prompt_tokens) {
            (true, 0) => self.used_by_reading(self.paid_max),
            (true, read) => self.used_by_reading(read),
            (false, 0) => self.used(self.prompt, usage.completion_tokens),
            (false, read) => self.used(read, usage.completion_tokens),
        }
    }

    /// The price of where it was sent, where nothing had come back to say so.
    pub(super) fn priced(&mut self, price: u64) {
        if !self.priced {
            self.price = if self.pays { self.price.min(price) } else { price };
        }
    }

    /// Nobody can say what was used: what is reserved counts.
    pub(super) fn in_full(&mut self) {
        let microeur = self.hold.as_ref().map_or(0, Hold::microeur);
        self.settle(self.seen, microeur);
    }

    /// The node ends: what the tables know of is settled after the next start, the rest now.
    pub(super) fn leave(&mut self) {
        match self.hold.as_ref().is_some_and(|hold| hold.microeur() > 0) {
            true => self.hold = None,
            false => self.in_full(),
        }
    }

    /// Waits for something unless the key is revoked meanwhile.
    pub async fn unless_revoked<T>(&self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        let end = self.key.end.notified();
        if self.key.is_revoked() {
            return Err(EngineError::Stopped { cause: StopCause::Revoked });
        }
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = end => Err(EngineError::Stopped { cause: StopCause::Revoked }),
        }
    }

    /// Counts what came. False where the reservation must grow before it is used up.
    fn covers(&mut self, tokens: u64) -> bool {
        self.seen = self.seen.saturating_add(tokens);
        self.reserved >= self.paid_max || self.seen.saturating_add(ON_THE_WAY_TOKENS) <= self.reserved
    }

    /// Extends the reservation for so many tokens more, or says that it cannot be.
    async fn extend(&mut self, tokens: u64) -> Result<(), EngineError> {
        let more = PIECE_TOKENS.max(tokens).min(self.paid_max.saturating_sub(self.reserved));
        let microeur = cost_microeur(self.reserved.saturating_add(more), self.price);
        let Some(hold) = &mut self.hold else { return Ok(()) };
        let missing = microeur.saturating_sub(hold.microeur());
        let ledger = Arc::clone(&self.ledger);
        let extended =
            ledger.with_tranche(|| ledger.state().purses.extend(hold, more, missing).map_err(super::stop)).await;
        match extended {
            Ok(()) => {
                self.reserved = self.reserved.saturating_add(more);
                Ok(())
            }
            Err(_) => Err(EngineError::Stopped { cause: StopCause::Quota }),
        }
    }

    /// Counts a step of an answer; the tokens for which the reservation must grow first.
    fn count(&mut self, event: &Event) -> Option<u64> {
        match event {
            // An engine that does not count is not believed to have generated nothing.
            Event::Usage(usage) if usage.completion_tokens == 0 => self.used(usage.prompt_tokens, self.seen),
            Event::Usage(usage) => self.used(usage.prompt_tokens, usage.completion_tokens),
            Event::Delta(delta) if self.price > 0 => {
                let tokens = tokens_of(delta);
                return (!self.covers(tokens)).then_some(tokens);
            }
            Event::Delta(_) | Event::Finish { .. } => {}
        }
        None
    }

    /// The steps of an answer with this meter on them. An error ends them.
    pub fn watch<S>(self, events: S) -> Watched<S>
    where
        S: Stream<Item = Result<Event, EngineError>> + Send + Unpin,
    {
        // From now on no word of a revocation is missed.
        let revoked = Box::pin(Arc::clone(&self.key.end).notified_owned());
        Watched { events: Some(events), meter: Some(self), revoked, growing: None }
    }
}

/// An answer's steps with a meter on them.
pub struct Watched<S> {
    /// Nothing once they have ended.
    events: Option<S>,
    /// Nothing once they have ended, or while its reservation grows.
    meter: Option<Meter>,
    revoked: Pin<Box<OwnedNotified>>,
    growing: Option<Growing>,
}

/// A reservation that grows before a step goes on.
type Growing = Pin<Box<dyn Future<Output = (Meter, Result<Event, EngineError>)> + Send>>;

impl<S: Stream<Item = Result<Event, EngineError>> + Unpin> Watched<S> {
    /// The next step as it came, or why there is none.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, EngineError>>> {
        let (Some(events), Some(meter)) = (&mut self.events, &self.meter) else { return Poll::Ready(None) };
        if !meter.key.is_revoked() {
            if let Poll::Ready(event) = Pin::new(events).poll_next(cx) {
                return Poll::Ready(event);
            }
            ready!(self.revoked.as_mut().poll(cx));
        }
        Poll::Ready(Some(Err(EngineError::Stopped { cause: StopCause::Revoked })))
    }

    /// What a step is to whoever reads; anything but an event ends the answer.
    fn told(&mut self, step: Option<Result<Event, EngineError>>) -> Poll<Option<Result<Event, EngineError>>> {
        if !matches!(step, Some(Ok(_))) {
            self.events = None;
            self.meter = None;
        }
        Poll::Ready(step)
    }
}

impl<S: Stream<Item = Result<Event, EngineError>> + Send + Unpin> Stream for Watched<S> {
    type Item = Result<Event, EngineError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(growing) = &mut this.growing {
                let (meter, event) = ready!(growing.as_mut().poll(cx));
                (this.growing, this.meter) = (None, Some(meter));
                return this.told(Some(event));
            }
            let event = match ready!(this.poll_step(cx)) {
                Some(Ok(event)) => event,
                other => return this.told(other),
            };
            let Some(tokens) = this.meter.as_mut().and_then(|meter| meter.count(&event)) else {
                return Poll::Ready(Some(Ok(event)));
            };
            let Some(mut meter) = this.meter.take() else { return Poll::Ready(None) };
            this.growing = Some(Box::pin(async move {
                let extended = meter.extend(tokens).await;
                (meter, extended.map(|()| event))
            }));
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Some(mut hold) = self.hold.take() else { return };
        if !self.sent {
            self.hold = Some(hold);
            return self.settle(0, 0);
        }
        let ledger = Arc::clone(&self.ledger);
        let sent_to = self.sent_to.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some((decision, factory)) = self.placed.clone().or(sent_to) else {
            // It was not sent anywhere.
            self.hold = Some(hold);
            return self.settle(0, 0);
        };
        let mut state = ledger.state();
        state.purses.ended(&mut hold);
        if state.uncertain.len() >= UNCERTAIN_MAX {
            drop(state);
            self.hold = Some(hold);
            return self.in_full();
        }
        let meter = Self {
            ledger: Arc::clone(&self.ledger),
            key: Arc::clone(&self.key),
            hold: Some(hold),
            // A factory has it, also where no word of it came back.
            placed: Some((decision.clone(), factory.clone())),
            sent_to: Mutex::default(),
            ..*self
        };
        state.uncertain.push(Uncertain { decision, factory, since_ms: now_ms(), meter });
    }
}

/// About how many tokens a piece of an answer is.
fn tokens_of(delta: &Delta) -> u64 {
    let text = delta.content.as_ref().map_or(0, String::len);
    let rest: usize = delta.rest.values().map(text_bytes).sum();
    u64::try_from(text.saturating_add(rest).div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX).max(1)
}

/// The bytes of the texts in a value; arguments of tool calls are nested.
fn text_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(text_bytes).sum(),
        serde_json::Value::Object(fields) => fields.values().map(text_bytes).sum(),
        _ => 0,
    }
}
