//! What a drill comes to: whole numbers, as one JSON document, and the digest over it.

use std::collections::BTreeMap;

use polder_core::canonical::digest;
use polder_core::ids::NodeId;
use polder_core::placement::Change;
use serde::Serialize;
use serde_json::{Value, json};

use super::book::{Book, Run};
use super::concentration::{FORMULA, Index};
use super::loss::{Loss, Touch};
use crate::engine::tally::Durations;

/// Work, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Requests, or jobs and sessions of a study.
    pub requests: u64,
    /// Their tokens, read and generated; 0 in studies.
    pub tokens: u64,
}

/// What became of one tenant's work with one class of data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// What had run.
    pub before: Work,
    /// What had been refused, or had found no room, already.
    pub refused_before: u64,
    /// What still runs where it ran.
    pub same: Work,
    /// What runs elsewhere.
    pub elsewhere: Work,
    /// What of both had to wait.
    pub waited: Work,
    /// How long.
    pub waits: Durations,
    /// What stops because no factory that is left may run it.
    pub stopped: Work,
    /// What stops because every factory that may run it stays full for too long.
    pub stopped_full: Work,
    /// What all of it cost before, in millionths of a micro-euro.
    pub cost_before_pico: u128,
    /// What the part of it that still runs cost before.
    pub cost_before_of_rest_pico: u128,
    /// What that part costs now.
    pub cost_after_pico: u128,
    /// How many had no execution in what was read, so that the mean of their like stands for them.
    pub without_execution: u64,
}

/// A factory that drops out, or some of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The factory.
    pub factory: String,
    /// What happens to it.
    pub touch: Touch,
}

/// A factory that work moves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Landing {
    /// The factory.
    pub factory: String,
    /// How much work came.
    pub came: u64,
    /// The highest load, in millionths of its places.
    pub peak_load_ppm: u64,
    /// Its places; absent where nobody knows, and then it never fills.
    pub places: Option<u64>,
}

/// One change that would place work that stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saving {
    /// The factory, where it is that factory's fact, terms or room.
    pub factory: Option<String>,
    /// The change.
    pub change: Change,
    /// What it saves by itself.
    pub saves: Work,
    /// Whose work that is.
    pub tenants: Vec<String>,
}

/// A drill's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// What dropped out.
    pub without: Vec<String>,
    /// Whether every decision was looked at.
    pub whole: bool,
    /// The first and last decision's instants, in Unix milliseconds.
    pub span_ms: (u64, u64),
    /// How long something waits at most.
    pub patience_ms: u64,
    /// How many decisions were decided again as they were.
    pub decided_again: u64,
    /// How many of them came out otherwise.
    pub unlike_count: u64,
    /// The first of them.
    pub unlike: Vec<String>,
    /// How many could not be looked at.
    pub unread: u64,
    /// The first of them, and why.
    pub first_unread: Option<String>,
    /// What drops out.
    pub drops: Vec<Hit>,
    /// By tenant and class of data.
    pub shares: BTreeMap<(String, &'static str), Share>,
    /// Where work moves.
    pub landings: Vec<Landing>,
    /// The single changes that would save most.
    pub savings: Vec<Saving>,
    /// Concentration of what runs, before and after.
    pub concentration: [Vec<Index>; 2],
}

impl Work {
    pub(super) fn add(&mut self, run: &Run) {
        self.requests += 1;
        self.tokens += run.prompt_tokens + run.completion_tokens;
    }

    fn and(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, tokens: self.tokens + other.tokens }
    }
}

impl Landing {
    pub(super) fn new((factory, came, peak_load_ppm, places): (&NodeId, u64, u64, Option<u64>)) -> Self {
        Self { factory: factory.to_string(), came, peak_load_ppm, places }
    }
}

impl Share {
    /// What still runs, sooner or later.
    pub fn runs(&self) -> Work {
        self.same.and(self.elsewhere)
    }

    /// The part of the requests that still runs, in millionths; all where there was none.
    pub fn runs_ppm(&self) -> u64 {
        (self.runs().requests * 1_000_000).checked_div(self.before.requests).unwrap_or(1_000_000)
    }

    /// Both together.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.before, other.before),
            (&mut self.same, other.same),
            (&mut self.elsewhere, other.elsewhere),
            (&mut self.waited, other.waited),
            (&mut self.stopped, other.stopped),
            (&mut self.stopped_full, other.stopped_full),
        ];
        for (own, added) in pairs {
            *own = own.and(added);
        }
        self.waits.merge(&other.waits);
        self.refused_before += other.refused_before;
        self.without_execution += other.without_execution;
        self.cost_before_pico += other.cost_before_pico;
        self.cost_before_of_rest_pico += other.cost_before_of_rest_pico;
        self.cost_after_pico += other.cost_after_pico;
    }

    fn json(&self) -> Value {
        let microeur = |pico: u128| u64::try_from(pico / 1_000_000).unwrap_or(u64::MAX);
        let added = i128::try_from(self.cost_after_pico).unwrap_or(i128::MAX)
            - i128::try_from(self.cost_before_of_rest_pico).unwrap_or(i128::MAX);
        json!({
            "before": self.before, "runs": self.runs(), "runs_ppm": self.runs_ppm(), "same": self.same,
            "elsewhere": self.elsewhere, "waited": self.waited,
            "wait": {"mean_ms": self.waits.mean_us() / 1_000, "p95_ms": self.waits.quantile_us(950) / 1_000,
                "longest_ms": self.waits.longest_us() / 1_000},
            "stops_by_policy": self.stopped, "stops_for_capacity": self.stopped_full,
            "refused_before": self.refused_before, "without_execution": self.without_execution,
            "cost_before_microeur": microeur(self.cost_before_pico),
            "cost_of_the_rest_before_microeur": microeur(self.cost_before_of_rest_pico),
            "cost_of_the_rest_now_microeur": microeur(self.cost_after_pico),
            "added_cost_microeur": i64::try_from(added / 1_000_000).unwrap_or(i64::MAX),
        })
    }
}

impl Saving {
    /// The change in words.
    pub fn words(&self) -> String {
        let at = self.factory.as_ref().map_or_else(String::new, |factory| format!(" at {factory}"));
        match &self.change {
            Change::Rule { layer, rule } => {
                use polder_core::policy::LayerKind;
                match layer {
                    LayerKind::Availability if rule == polder_core::placement::NO_CAPACITY => {
                        format!("more places{at}")
                    }
                    LayerKind::Availability => format!("`{rule}` mended{at}"),
                    LayerKind::Terms => format!("the terms' `{rule}` given up{at}"),
                    LayerKind::Owner => format!("the owner's `{rule}` given up"),
                    LayerKind::Baseline => format!("the federation's `{rule}` given up"),
                    LayerKind::Labels => format!("the request's `{rule}` given up"),
                }
            }
            Change::Fact { fact } => match &fact.says {
                Some(says) => format!("agreement on the fact `{}` ({says}){at}", fact.slot),
                None => format!("the fact `{}` attested at class {:?}{at}", fact.slot, fact.to),
            },
        }
    }
}

impl Hit {
    /// What happens to the factory, in words.
    pub fn words(&self) -> String {
        match self.touch {
            Touch::Stays => "stays".to_owned(),
            Touch::Shrinks(ppm) => format!("keeps {} % of its accelerators", ppm / 10_000),
            Touch::Goes => "is gone".to_owned(),
            Touch::Assumed => "is gone, because no believed fact rules it out".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let left_ppm = match self.touch {
            Touch::Stays => 1_000_000,
            Touch::Shrinks(ppm) => ppm,
            Touch::Goes | Touch::Assumed => 0,
        };
        json!({"factory": self.factory, "left_ppm": left_ppm, "assumed": self.touch == Touch::Assumed})
    }
}

impl Drill {
    pub(super) fn new(losses: &[Loss], book: &Book) -> Self {
        let at = |decision: Option<&polder_core::statement::v1::DecisionStatement>| decision.map_or(0, |one| one.at_ms);
        Self {
            without: losses.iter().map(Loss::to_string).collect(),
            whole: true,
            span_ms: (at(book.decisions.first()), at(book.decisions.last())),
            patience_ms: 0,
            decided_again: 0,
            unlike_count: 0,
            unlike: Vec::new(),
            unread: 0,
            first_unread: None,
            drops: Vec::new(),
            shares: BTreeMap::new(),
            landings: Vec::new(),
            savings: Vec::new(),
            concentration: [Vec::new(), Vec::new()],
        }
    }

    /// All tenants together.
    pub fn all(&self) -> Share {
        let mut all = Share::default();
        self.shares.values().for_each(|share| all.merge(share));
        all
    }

    /// The whole outcome as one JSON document, with its digest.
    pub fn json(&self) -> Value {
        let share = |((tenant, class), share): (&(String, &'static str), &Share)| {
            let mut value = share.json();
            value["tenant"] = json!(tenant);
            value["class"] = json!(class);
            value
        };
        let saving = |one: &Saving| json!({"factory": one.factory, "change": one.change, "words": one.words(), "saves": one.saves, "tenants": one.tenants});
        let [before, after] = &self.concentration;
        let mut value = json!({
            "drill": "polder/drill-report/v1", "without": self.without, "whole": self.whole,
            "from_ms": self.span_ms.0, "until_ms": self.span_ms.1, "patience_ms": self.patience_ms,
            "decided_again": self.decided_again, "came_out_the_same": self.decided_again - self.unlike_count,
            "unlike": self.unlike, "unread": self.unread, "first_unread": self.first_unread,
            "drops": self.drops.iter().map(Hit::json).collect::<Vec<_>>(),
            "work": self.all().json(), "shares": self.shares.iter().map(share).collect::<Vec<_>>(),
            "landings": self.landings, "savings": self.savings.iter().map(saving).collect::<Vec<_>>(),
            "concentration": {"formula": FORMULA, "before": before, "after": after},
        });
        let digest = digest("polder/drill-report/v1", &value).map(|digest| digest.to_string()).unwrap_or_default();
        value["digest"] = json!(digest);
        value
    }

    /// One page that a browser opens from disk.
    pub fn html(&self, title: &str) -> String {
        super::page::page(self, title)
    }
}
