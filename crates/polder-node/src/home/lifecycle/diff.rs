//! What a change of policy would have meant: the latest decisions, made anew under both policies on what is known now.
//!
//! Only the owner's policy differs between the two; facts, terms, load and baseline are those of the moment. What was
//! decided then is absent: the receipts say that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::ids::{DecisionId, NodeId};
use polder_core::placement::{Basis, Decision, Outcome, Snapshot, decide};
use polder_core::policy::{Layer, LayerKind, RuleChanges, is_only_narrower, rule_changes};
use polder_core::request::Request;
use polder_core::statement::v1::Statement;
use serde::{Deserialize, Serialize};

use super::{ActivationError, Lifecycle};
use crate::clock::now_ms;
use crate::home::View;

/// Most decisions that are made anew.
pub const DECISIONS_MAX: u32 = 1_000;

/// A policy that need not be in force.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// The file's name.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// The difference between two policies.
#[derive(Debug, Serialize)]
pub struct Diff {
    old: Side,
    new: Side,
    /// Whether the new one can only forbid more, as far as the texts tell.
    narrower: bool,
    rules: RuleChanges,
    /// How many decisions were made anew.
    decisions: usize,
    /// How many of them choose the same.
    unchanged: usize,
    changed: Vec<Changed>,
}

#[derive(Debug, Serialize)]
struct Side {
    file: String,
    digest: Digest,
}

/// A decision that would be another.
#[derive(Debug, Serialize)]
struct Changed {
    decision: DecisionId,
    at_ms: u64,
    request: Request,
    was: Said,
    would: Said,
    /// The owner's rules that make the difference.
    because: Vec<Because>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Said {
    outcome: Outcome,
    factory: Option<NodeId>,
}

/// A rule of one of the two policies that refuses a factory where the other policy does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Because {
    factory: NodeId,
    rule: String,
    /// Whose rule it is: `old` or `new`.
    policy: &'static str,
}

impl Lifecycle {
    /// Decides the latest decisions anew; `old` is the policy in force where absent.
    pub async fn diff(
        &self,
        view: &View,
        old: Option<PolicySource>,
        new: PolicySource,
        last: u32,
    ) -> Result<Diff, ActivationError> {
        self.log.settled().await;
        let statements = self.store.latest_decision_statements(last.min(DECISIONS_MAX)).await?;
        let snapshot = view.snapshot(now_ms());
        let active = view.policies();
        let schema = Arc::clone(&self.schema);
        let compare = move || {
            let parse = |source: &PolicySource| {
                Layer::parse(LayerKind::Owner, &source.file, &source.text, &schema).map(Arc::new)
            };
            let (before, file) = match &old {
                Some(source) => (parse(source)?, source.file.clone()),
                None => (Arc::clone(&active.owner), active.version.file.clone()),
            };
            let after = parse(&new)?;
            let old = Side { file, digest: before.digest() };
            let new = Side { file: new.file, digest: after.digest() };
            let (rules, narrower) = (rule_changes(&before, &after), is_only_narrower(&before, &after));
            let (decisions, changed) = anew(&statements, &with(&snapshot, before), &with(&snapshot, after));
            let unchanged = decisions - changed.len();
            Ok(Diff { old, new, narrower, rules, decisions, unchanged, changed })
        };
        tokio::task::spawn_blocking(compare).await.map_err(|e| ActivationError::Internal(e.to_string()))?
    }
}

fn with(snapshot: &Snapshot, owner: Arc<Layer>) -> Snapshot {
    let mut other = snapshot.clone();
    other.basis = Arc::new(Basis { owner, ..Basis::clone(&snapshot.basis) });
    other
}

/// How many decisions there were, and those that would be others, newest first.
fn anew(statements: &[Vec<u8>], before: &Snapshot, after: &Snapshot) -> (usize, Vec<Changed>) {
    // Most requests are alike: each kind is decided once.
    let mut known: BTreeMap<Request, Option<(Said, Said, Vec<Because>)>> = BTreeMap::new();
    let (mut decisions, mut changed) = (0, Vec::new());
    for statement in statements {
        let Ok(Statement::Decision(statement)) = serde_json::from_slice(statement) else { continue };
        decisions += 1;
        let request = statement.request;
        let other = known.entry(request.clone()).or_insert_with(|| other(&request, before, after));
        if let Some((was, would, because)) = other.clone() {
            changed.push(Changed { decision: statement.id, at_ms: statement.at_ms, request, was, would, because });
        }
    }
    (decisions, changed)
}

/// What a request comes to under both policies, where that differs.
fn other(request: &Request, before: &Snapshot, after: &Snapshot) -> Option<(Said, Said, Vec<Because>)> {
    let nobody = BTreeMap::new();
    let (old, new) = (decide(before, request, &nobody), decide(after, request, &nobody));
    let said = |decision: &Decision| Said { outcome: decision.outcome, factory: decision.factory.clone() };
    let (was, would) = (said(&old), said(&new));
    if was == would {
        return None;
    }
    let chosen: BTreeSet<&NodeId> = was.factory.iter().chain(&would.factory).collect();
    let refusing = |decision: &Decision| -> BTreeSet<(NodeId, String)> {
        let meant = decision.verdicts.iter().filter(|one| chosen.is_empty() || chosen.contains(&one.factory));
        let owners = |verdict: &polder_core::placement::Verdict| {
            let factory = verdict.factory.clone();
            let causes = verdict.causes.iter().filter(|cause| cause.layer == LayerKind::Owner);
            causes.map(|cause| (factory.clone(), cause.rule.clone())).collect::<Vec<_>>()
        };
        meant.flat_map(owners).collect()
    };
    let (by_old, by_new) = (refusing(&old), refusing(&new));
    let only = |one: &BTreeSet<(NodeId, String)>, other: &BTreeSet<(NodeId, String)>, policy: &'static str| {
        let because =
            |(factory, rule): &(NodeId, String)| Because { factory: factory.clone(), rule: rule.clone(), policy };
        one.difference(other).map(because).collect::<Vec<_>>()
    };
    let because = [only(&by_old, &by_new, "old"), only(&by_new, &by_old, "new")].concat();
    Some((was, would, because))
}
