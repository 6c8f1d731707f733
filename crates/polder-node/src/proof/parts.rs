//! Policies taken apart for questions: each rule with the actions that it speaks of, and sets put together anew.
//!
//! By the house rule a layer is one broad permit for each action and the union of its forbids. So the conjunction of
//! several layers is, for an action that all of them permit, one permit and all their forbids. Asking is absent.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, Effect, Policy, PolicyId, PolicySet};
use polder_core::labels::{Action, Closed as _};
use polder_core::policy::{Layer, PolicySchema, axioms_about, paths};
use serde_json::{Value, json};

/// One policy of a layer, its scope's action taken out.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The rule's `@id`; Cedar's own name for a permit.
    pub rule: String,
    /// The policy, whatever the action.
    pub policy: Policy,
    /// The actions that it speaks of.
    pub actions: BTreeSet<Action>,
    /// What it reads, as [`paths`] writes it.
    pub reads: BTreeSet<String>,
    /// Whether its conditions look at the action.
    pub by_action: bool,
}

/// A layer, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// What it permits: no conditions, only actions.
    pub permits: Vec<Part>,
    /// What it forbids.
    pub forbids: Vec<Part>,
}

impl Parts {
    /// Takes a layer apart; `name` keeps the ids of several layers' policies apart.
    pub fn of(name: &str, layer: &Layer) -> Result<Self, String> {
        let mut parts = Self { permits: Vec::new(), forbids: Vec::new() };
        let mut policies: Vec<&Policy> = layer.policies().policies().collect();
        policies.sort_by_key(|policy| policy.id().to_string());
        for policy in policies {
            let part = part(&format!("{name}/{}", policy.id()), policy)?;
            match policy.effect() {
                Effect::Permit => parts.permits.push(part),
                Effect::Forbid => parts.forbids.push(part),
            }
        }
        Ok(parts)
    }

    /// A layer that permits exactly when an expression holds, or when it does not; an error in it permits nothing.
    pub fn when(expression: &str, holds: bool) -> Result<Self, String> {
        let word = if holds { "when" } else { "unless" };
        let text = format!("permit (principal, action, resource) {word} {{ {expression}\n}};");
        let policy = Policy::parse(Some(PolicyId::new("goal")), text).map_err(|e| e.to_string())?;
        Ok(Self { permits: vec![part("goal", &policy)?], forbids: Vec::new() })
    }

    /// Whether the layer has a permit for an action.
    pub fn permits(&self, action: Action) -> bool {
        self.permits.iter().any(|part| part.actions.contains(&action))
    }

    /// The forbids that speak of an action.
    pub fn forbids(&self, action: Action) -> impl Iterator<Item = &Part> {
        self.forbids.iter().filter(move |part| part.actions.contains(&action))
    }
}

fn part(id: &str, policy: &Policy) -> Result<Part, String> {
    let rule = policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_owned);
    let named = |uids: &[cedar_policy::EntityUid]| {
        let meant = |action: &Action| uids.iter().any(|uid| uid.id().unescaped() == action.as_str());
        Action::all().into_iter().filter(meant).collect()
    };
    let actions = match policy.action_constraint() {
        ActionConstraint::Any => Action::all().into_iter().collect(),
        ActionConstraint::Eq(one) => named(&[one]),
        ActionConstraint::In(several) => named(&several),
    };
    let mut json = policy.to_json().map_err(|e| e.to_string())?;
    let (reads, by_action) = (paths(&json), mentions_action(json.get("conditions").unwrap_or(&Value::Null)));
    if let Some(fields) = json.as_object_mut() {
        fields.insert("action".to_owned(), json!({"op": "All"}));
    }
    let policy = Policy::from_json(Some(PolicyId::new(id)), json).map_err(|e| e.to_string())?;
    Ok(Part { rule, policy, actions, reads, by_action })
}

fn mentions_action(json: &Value) -> bool {
    match json {
        Value::Array(items) => items.iter().any(mentions_action),
        Value::Object(fields) => {
            let here = fields.get("Var").and_then(Value::as_str) == Some("action");
            here || fields.values().any(mentions_action)
        }
        _ => false,
    }
}

/// A permit without conditions.
pub(super) fn open() -> Result<Policy, String> {
    let text = "permit (principal, action, resource);";
    Policy::parse(Some(PolicyId::new("open")), text).map_err(|e| e.to_string())
}

/// A forbid turned into a permit of what it forbids.
pub(super) fn turned(part: &Part) -> Result<Policy, String> {
    let mut json = part.policy.to_json().map_err(|e| e.to_string())?;
    if let Some(fields) = json.as_object_mut() {
        fields.insert("effect".to_owned(), "permit".into());
    }
    Policy::from_json(Some(PolicyId::new("turned")), json).map_err(|e| e.to_string())
}

/// The axioms about what is read, as forbids: where an axiom does not hold, nothing is permitted.
pub(super) fn axioms(reads: &BTreeSet<String>, schema: &PolicySchema) -> Result<Vec<Policy>, String> {
    let forbid = |axiom: polder_core::policy::Axiom| {
        let text = format!("forbid (principal, action, resource) unless {{ {} }};", axiom.holds);
        Policy::parse(Some(PolicyId::new(format!("axiom/{}", axiom.id))), text).map_err(|e| e.to_string())
    };
    axioms_about(reads, schema).into_iter().map(forbid).collect()
}

/// One set of several policies.
pub(super) fn together<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Result<PolicySet, String> {
    PolicySet::from_policies(policies.into_iter().cloned()).map_err(|e| e.to_string())
}
