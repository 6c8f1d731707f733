//! The ways from a home to its factories: what came of requests there, and what a snapshot says of it.
//!
//! A factory that failed several times in a row counts as unavailable, with its reason and until when; nothing here can make
//! one available that policies, terms or its own silence keep out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use polder_core::breaker::{Limits, Pass, Standing};
use polder_core::ids::NodeId;
use polder_core::placement::{CIRCUIT_OPEN, Factory};
use polder_core::policy::{Cause, LayerKind};
use serde_json::{Value, json};

use super::View;
use crate::clock::{now_ms, ticks_ms};
use crate::route::{Came, Route};

/// The ways, by factory.
pub struct Routes(ArcSwap<BTreeMap<NodeId, Arc<Route>>>);

impl Routes {
    /// Ways on which nothing was sent yet.
    pub fn new(factories: impl Iterator<Item = NodeId>) -> Self {
        Self(ArcSwap::from_pointee(factories.map(|factory| (factory, Arc::default())).collect()))
    }

    /// Follows who is a member now; what was learned of those who stay is kept.
    pub fn follow<'a>(&self, factories: impl Iterator<Item = &'a NodeId>) {
        let before = self.0.load();
        let kept = |factory: &NodeId| before.get(factory).cloned().unwrap_or_default();
        let now = factories.map(|factory| (factory.clone(), kept(factory))).collect();
        self.0.store(Arc::new(now));
    }

    fn of(&self, factory: &NodeId) -> Option<Arc<Route>> {
        self.0.load().get(factory).cloned()
    }

    /// Writes into a snapshot's entry what is known of the way to it. Returns the instant until which that holds, in Unix
    /// milliseconds.
    pub fn tell(&self, factory: &NodeId, now_ms: u64, entry: &mut Factory) -> u64 {
        let Some(route) = self.of(factory) else { return u64::MAX };
        let measured = route.first_token_us();
        if measured > 0 {
            entry.inputs.first_token_us = measured;
        }
        let (until_ms, reason) = match route.standing() {
            Standing::Closed | Standing::HalfOpen => return u64::MAX,
            Standing::Open { until_ms } => (until_ms, "it failed several times in a row and is left alone"),
            Standing::Probing { until_ms } => {
                (until_ms, "it failed several times in a row, and one request is trying it")
            }
        };
        let until_ms = now_ms.saturating_add(until_ms.saturating_sub(ticks_ms()).max(1));
        let reason = format!("{reason} until {} at the latest", time_of_day(until_ms));
        entry.unavailable.push(Cause::built_in(LayerKind::Availability, CIRCUIT_OPEN, reason));
        until_ms
    }
}

impl View {
    /// Asks to pass to a factory; who may not hears why.
    pub(super) fn enter(&self, factory: &NodeId, limits: &Limits) -> Result<Option<Pass>, Cause> {
        let Some(route) = self.routes.of(factory) else { return Ok(None) };
        match route.enter(limits) {
            Ok((pass, probe)) => {
                if probe {
                    self.compose(now_ms());
                }
                Ok(Some(pass))
            }
            Err(_) => {
                let reason = "it failed several times in a row, and another request is trying it";
                Err(Cause::built_in(LayerKind::Availability, CIRCUIT_OPEN, reason))
            }
        }
    }

    /// Notes what came of a request at a factory.
    pub(super) fn judge(&self, factory: &NodeId, pass: Option<Pass>, came: Came, limits: &Limits) {
        let changed = |(route, pass): (Arc<Route>, Pass)| route.judge(pass, came, limits);
        if self.routes.of(factory).zip(pass).is_some_and(changed) {
            self.say(factory);
        }
    }

    /// Notes how an answer that had begun ended.
    pub(super) fn ended(&self, factory: &NodeId, whole: bool, limits: &Limits) {
        if self.routes.of(factory).is_some_and(|route| route.ended(whole, limits)) {
            self.say(factory);
        }
    }

    /// Takes in how long a factory took to its first token.
    pub(super) fn measure(&self, factory: &NodeId, took: Duration) {
        if let Some(route) = self.routes.of(factory) {
            route.measure(took);
        }
    }

    /// How the way to a factory stands, for its operators.
    pub fn circuit(&self, factory: &NodeId) -> Value {
        let Some(route) = self.routes.of(factory) else { return Value::Null };
        let until = |until_ms: u64| now_ms().saturating_add(until_ms.saturating_sub(ticks_ms()));
        let mut answer = match route.standing() {
            Standing::Closed => json!({"state": "closed"}),
            Standing::Open { until_ms } => json!({"state": "open", "until_ms": until(until_ms)}),
            Standing::HalfOpen => json!({"state": "half-open"}),
            Standing::Probing { until_ms } => json!({"state": "probing", "until_ms": until(until_ms)}),
        };
        answer["first_token_us"] = json!(Some(route.first_token_us()).filter(|us| *us > 0));
        answer
    }

    fn say(&self, factory: &NodeId) {
        match self.routes.of(factory).map(|route| route.standing()) {
            Some(Standing::Open { .. }) => {
                tracing::warn!(%factory, "failed several times in a row: left alone for a while")
            }
            Some(Standing::Closed) => tracing::info!(%factory, "answers again"),
            _ => {}
        }
        self.compose(now_ms());
    }
}

/// The time of day of an instant in Unix milliseconds, in UTC; the second that has begun counts whole.
fn time_of_day(at_ms: u64) -> String {
    let second = at_ms.div_ceil(1_000) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", second / 3_600, second / 60 % 60, second % 60)
}
