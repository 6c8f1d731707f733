//! What differs between two layers, rule by rule.
//!
//! Which decisions that changes is absent: it takes requests and a snapshot to say.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Effect;
use serde::Serialize;
use serde_json::Value;

use super::Layer;

/// The differences between two layers, each in name order. A permit goes by its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuleChanges {
    /// In the new layer only.
    pub added: Vec<String>,
    /// In the old layer only.
    pub removed: Vec<String>,
    /// In both, with other conditions, scope or annotations.
    pub changed: Vec<String>,
}

impl RuleChanges {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What differs between an old layer and a new one.
pub fn rule_changes(old: &Layer, new: &Layer) -> RuleChanges {
    let (before, after) = (by_name(old), by_name(new));
    let only = |one: &BTreeMap<String, Option<Value>>, other: &BTreeMap<String, Option<Value>>| {
        let (one, other): (BTreeSet<&String>, BTreeSet<&String>) = (one.keys().collect(), other.keys().collect());
        one.difference(&other).map(|name| (*name).clone()).collect()
    };
    let differs = |(name, json): &(&String, &Option<Value>)| after.get(*name).is_some_and(|other| other != *json);
    let changed = before.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    RuleChanges { added: only(&after, &before), removed: only(&before, &after), changed }
}

/// The policies in Cedar's JSON form; nothing for one that has no such form.
fn by_name(layer: &Layer) -> BTreeMap<String, Option<Value>> {
    let named = |policy: &cedar_policy::Policy| {
        let id = policy.annotation("id").filter(|_| policy.effect() == Effect::Forbid);
        let written = || policy.to_cedar().unwrap_or_else(|| policy.to_string());
        let name = id.map_or_else(|| written().split_whitespace().collect::<Vec<_>>().join(" "), str::to_owned);
        (name, policy.to_json().ok())
    };
    layer.policies().policies().map(named).collect()
}
