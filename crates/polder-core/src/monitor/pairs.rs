//! Pairs: what homes placed and what factories ran, by the decision's random id, which is in neither public log.
//!
//! What has no other side is listed with its age and why that may be. Wrong is only what no crash, retry or missing view
//! explains. A crash is a node's own word; it names the time. Asking for receipts is absent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Finding, Kind};
use crate::canonical::Digest;
use crate::ids::{DecisionId, NodeId};
use crate::placement::Outcome;
use crate::statement::v1::{DecisionStatement, ExecutionStatement, Statement};

/// How long what is explained stays listed, in milliseconds.
const LISTED_MS: u64 = 86_400_000;

/// Which side there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The home's: it placed something.
    Home,
    /// The factory's: it ran something.
    Factory,
}

/// Why there is no other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is too new to say.
    InFlight,
    /// The other node's statements are not among those that were read.
    NotShown,
    /// The home decided again about the same request: the factory had refused, or was gone.
    DecidedAgain,
    /// The other node was cut short at about that time, and says so.
    Lost,
    /// The other node has deleted statements of that time, and its log says so.
    Deleted,
    /// The factory has nothing of it: the application left before, or the factory never answered. Nothing was paid for.
    NeverRan,
    /// The home has no decision that placed it.
    NoDecision,
}

impl Why {
    /// Whether this should not be.
    pub fn is_wrong(self) -> bool {
        self == Self::NoDecision
    }

    /// What it means, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::InFlight => "under way, or too new to say",
            Self::NotShown => "the other node's statements were not read",
            Self::DecidedAgain => "the home decided again: the factory had refused, or was gone",
            Self::Lost => "the other node was cut short then, and says so",
            Self::Deleted => "the other node has deleted statements of that time, and its log says so",
            Self::NeverRan => {
                "the factory has nothing of it: it never answered, or the application left before; nothing was paid"
            }
            Self::NoDecision => "the home has no decision that placed it",
        }
    }
}

/// A statement whose other side is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// The pairing id.
    pub decision: DecisionId,
    /// Which side there is.
    pub side: Side,
    /// The log in which it stands.
    pub log: String,
    /// Its place there.
    pub index: u64,
    /// The node whose side is missing.
    pub other: NodeId,
    /// How old it is, in milliseconds.
    pub age_ms: u64,
    /// Why there is no other side.
    pub why: Why,
}

/// A time in which a node was cut short: what it said then may have no leaf.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The node.
    pub node: NodeId,
    /// From when on, in Unix milliseconds.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
}

/// What has only one side so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pairs {
    decided: BTreeMap<DecisionId, Half<Decided>>,
    ran: BTreeMap<DecisionId, Half<Box<ExecutionStatement>>>,
    /// The open decision about a body: another about the same body is one more attempt.
    bodies: BTreeMap<Digest, DecisionId>,
    shown: BTreeSet<NodeId>,
    cuts: BTreeSet<Cut>,
    /// What each node has deleted.
    deleted: BTreeMap<NodeId, Deleted>,
    /// How many pairs were made.
    paired: u64,
}

/// What a node says that it has deleted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deleted {
    /// The instant of the last deletion.
    last_ms: u64,
    /// How many leaves, in all.
    leaves: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Half<T> {
    log: String,
    index: u64,
    what: T,
    again: bool,
}

/// What must be the same on both sides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    at_ms: u64,
    home: NodeId,
    factory: NodeId,
    ticket: Option<Digest>,
    body: Digest,
    tenant: String,
    model: Option<String>,
}

impl Pairs {
    /// How many pairs were made.
    pub fn paired(&self) -> u64 {
        self.paired
    }

    /// Notes that a node's statements are read, and when it was cut short.
    pub fn show(&mut self, node: &NodeId, cuts: impl IntoIterator<Item = Cut>) {
        self.shown.insert(node.clone());
        self.cuts.extend(cuts);
    }

    /// Takes a statement that stands in a log.
    pub fn take(&mut self, log: &str, index: u64, statement: &Statement) -> Vec<Finding> {
        match statement {
            Statement::Decision(one) => self.decision(log, index, one),
            Statement::Execution(one) => self.execution(log, index, one),
            Statement::Deletion(one) => {
                let deleted = self.deleted.entry(one.node.clone()).or_default();
                deleted.last_ms = deleted.last_ms.max(one.at_ms);
                let ranges = one.leaves.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1));
                deleted.leaves = ranges.fold(deleted.leaves, u64::saturating_add);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn decision(&mut self, log: &str, index: u64, one: &DecisionStatement) -> Vec<Finding> {
        if let Some(before) = self.bodies.remove(&one.body).and_then(|id| self.decided.get_mut(&id)) {
            before.again = true;
        }
        let (Outcome::Placed, Some(factory)) = (one.outcome, &one.factory) else { return Vec::new() };
        let decided = Decided {
            at_ms: one.at_ms,
            home: one.home.clone(),
            factory: factory.clone(),
            ticket: one.ticket,
            body: one.body,
            tenant: one.request.tenant.to_string(),
            model: one.request.model.as_ref().map(ToString::to_string),
        };
        if let Some(ran) = self.ran.remove(&one.id) {
            self.paired = self.paired.saturating_add(1);
            return compare(&decided, &ran.what, &ran.log, ran.index);
        }
        let half = Half { log: log.to_owned(), index, what: decided, again: false };
        if self.decided.insert(one.id.clone(), half).is_some() {
            let claimed = format!("`{}` was decided before", one.id);
            return vec![Finding::new(Kind::Mismatch, log, Some(index), claimed)];
        }
        self.bodies.insert(one.body, one.id.clone());
        Vec::new()
    }

    fn execution(&mut self, log: &str, index: u64, one: &ExecutionStatement) -> Vec<Finding> {
        if let Some(decided) = self.decided.remove(&one.decision) {
            self.paired = self.paired.saturating_add(1);
            self.bodies.remove(&decided.what.body);
            return compare(&decided.what, one, log, index);
        }
        let half = Half { log: log.to_owned(), index, what: Box::new(one.clone()), again: false };
        if self.ran.insert(one.decision.clone(), half).is_some() {
            let claimed = format!("`{}` ran before", one.decision);
            return vec![Finding::new(Kind::Mismatch, log, Some(index), claimed)];
        }
        Vec::new()
    }

    fn cut(&self, node: &NodeId, at_ms: u64) -> bool {
        self.cuts.iter().any(|cut| cut.node == *node && cut.from_ms <= at_ms && at_ms <= cut.until_ms)
    }

    /// What has no other side. A deleted leaf explains one missing decision and no more. What is younger than `flight_ms` may be under way.
    pub fn unmatched(&self, now_ms: u64, flight_ms: u64) -> Vec<Unmatched> {
        let of_home = self.decided.iter().map(|(id, half)| {
            let Decided { at_ms, factory, .. } = &half.what;
            let age_ms = now_ms.saturating_sub(*at_ms);
            let why = match () {
                () if half.again => Why::DecidedAgain,
                () if age_ms < flight_ms => Why::InFlight,
                () if !self.shown.contains(factory) => Why::NotShown,
                () if self.cut(factory, *at_ms) => Why::Lost,
                () if self.deleted.get(factory).is_some_and(|one| *at_ms < one.last_ms) => Why::Deleted,
                () => Why::NeverRan,
            };
            let (decision, log, other) = (id.clone(), half.log.clone(), factory.clone());
            Unmatched { decision, side: Side::Home, log, index: half.index, other, age_ms, why }
        });
        let mut explained: BTreeMap<&NodeId, u64> = BTreeMap::new();
        let of_factory = self.ran.iter().map(move |(id, half)| {
            let age_ms = now_ms.saturating_sub(half.what.ended_ms);
            let home = &half.what.home;
            let why = match () {
                () if age_ms < flight_ms => Why::InFlight,
                () if !self.shown.contains(home) => Why::NotShown,
                () if self.cut(home, id.at_ms()) => Why::Lost,
                () => match self.deleted.get(home).filter(|one| id.at_ms() < one.last_ms) {
                    Some(one) => {
                        let explained = explained.entry(home).or_default();
                        *explained = explained.saturating_add(1);
                        if *explained <= one.leaves { Why::Deleted } else { Why::NoDecision }
                    }
                    None => Why::NoDecision,
                },
            };
            let (decision, log, other) = (id.clone(), half.log.clone(), home.clone());
            Unmatched { decision, side: Side::Factory, log, index: half.index, other, age_ms, why }
        });
        of_home.chain(of_factory).collect()
    }

    /// What should have another side and has none.
    pub fn findings(&self, now_ms: u64, flight_ms: u64) -> Vec<Finding> {
        let wrong = self.unmatched(now_ms, flight_ms).into_iter().filter(|one| one.why.is_wrong());
        let finding = |one: Unmatched| {
            let claimed = format!("`{}` ran, and `{}` has no decision that placed it", one.decision, one.other);
            Finding::new(Kind::UnpairedExecution, &one.log, Some(one.index), claimed)
        };
        wrong.map(finding).collect()
    }

    /// Forgets what was explained long ago.
    pub fn forget(&mut self, now_ms: u64) {
        let Self { decided, bodies, .. } = self;
        decided.retain(|_, half| half.what.at_ms.saturating_add(LISTED_MS) > now_ms);
        bodies.retain(|_, id| decided.contains_key(id));
    }
}

fn compare(decided: &Decided, ran: &ExecutionStatement, log: &str, index: u64) -> Vec<Finding> {
    let pairs = [
        (decided.factory == ran.factory, "another factory ran it than was chosen"),
        (decided.ticket == Some(ran.ticket), "the tickets differ"),
        (decided.home == ran.home, "the homes differ"),
        (decided.body == ran.body, "the request digests differ"),
        (decided.tenant == ran.tenant.as_str(), "the tenants differ"),
        (decided.model.as_deref() == ran.model.as_ref().map(crate::ids::ModelId::as_str), "the models differ"),
    ];
    let wrong = pairs.iter().find(|(holds, _)| !holds);
    let claimed = wrong.map(|(_, says)| format!("`{}`: {says}", ran.decision));
    claimed.into_iter().map(|claimed| Finding::new(Kind::Mismatch, log, Some(index), claimed)).collect()
}
