//! Mutations: a policy with one thing left out, to see whether its tests would notice.
//!
//! Left out are, one at a time, each policy, each condition, each operand of `&&` and `||`, each entry of a list, and each
//! action of a scope. Changes that replace one thing by another are absent: what is left out is what an edit forgets.

use cedar_policy::{Effect, Policy, PolicyId};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::policy::Layer;

/// A policy with one thing left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mutation {
    /// The rule's `@id`; `permit` for a permit.
    pub rule: String,
    /// What was left out, in Cedar's words or in ours.
    pub left_out: String,
    /// The text of the whole layer without it.
    #[serde(skip)]
    pub text: String,
}

/// Every mutation of a layer, in the order of its policies.
pub fn mutations(layer: &Layer) -> Vec<Mutation> {
    let mut policies: Vec<&Policy> = layer.policies().policies().collect();
    policies.sort_by_key(|policy| policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(0_usize));
    let texts: Vec<String> = policies.iter().map(|policy| policy.to_string()).collect();
    let mut all = Vec::new();
    for (place, policy) in policies.iter().enumerate() {
        let id = policy.annotation("id").filter(|_| policy.effect() == Effect::Forbid);
        let rule = id.unwrap_or("permit").to_owned();
        let whole = |changed: Option<&str>| -> String {
            let texts = texts.iter().enumerate();
            texts
                .filter_map(|(at, text)| if at == place { changed } else { Some(text.as_str()) })
                .collect::<Vec<_>>()
                .join("\n")
        };
        all.push(Mutation { rule: rule.clone(), left_out: "the whole policy".to_owned(), text: whole(None) });
        let Ok(json) = policy.to_json() else { continue };
        for (left_out, changed) in of_policy(&json) {
            let Some(text) = written(changed) else { continue };
            all.push(Mutation { rule: rule.clone(), left_out, text: whole(Some(&text)) });
        }
    }
    all
}

fn written(json: Value) -> Option<String> {
    Policy::from_json(Some(PolicyId::new("mutation")), json).ok().map(|policy| policy.to_string())
}

/// An expression in Cedar's words, on one line.
fn words(expression: &Value) -> String {
    let policy = json!({
        "effect": "permit", "principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"},
        "conditions": [{"kind": "when", "body": expression}],
    });
    let text = written(policy).unwrap_or_default();
    let body = text.split_once("when {").and_then(|(_, rest)| rest.rsplit_once('}')).map_or("?", |(body, _)| body);
    format!("`{}`", body.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Every change of one policy in Cedar's JSON form, with what it leaves out.
fn of_policy(policy: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    if let Some(actions) = policy.pointer("/action/entities").and_then(Value::as_array).filter(|all| all.len() > 1) {
        for (place, action) in actions.iter().enumerate() {
            let mut changed = policy.clone();
            if let Some(list) = changed.pointer_mut("/action/entities") {
                *list = without(actions, place);
            }
            let name = action.pointer("/id").and_then(Value::as_str).unwrap_or_default();
            all.push((format!("the action `{name}`"), changed));
        }
    }
    let conditions = policy.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    for (place, condition) in conditions.iter().enumerate() {
        let kind = condition.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(body) = condition.get("body") else { continue };
        let with = |conditions: Value| {
            let mut changed = policy.clone();
            if let Some(list) = changed.get_mut("conditions") {
                *list = conditions;
            }
            changed
        };
        all.push((format!("the whole `{kind}`"), with(without(&conditions, place))));
        for (left_out, expression) in of_expression(body) {
            let mut changed = conditions.clone();
            if let Some(slot) = changed.get_mut(place).and_then(|one| one.get_mut("body")) {
                *slot = expression;
            }
            all.push((format!("{left_out} of `{kind}`"), with(changed.into())));
        }
    }
    all
}

fn without(list: &[Value], place: usize) -> Value {
    list.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, one)| one.clone()).collect()
}

/// Every change of one expression, with what it leaves out.
fn of_expression(expression: &Value) -> Vec<(String, Value)> {
    let Some((operator, operands)) = expression.as_object().and_then(|all| all.iter().next()) else {
        return Vec::new();
    };
    match (operator.as_str(), operands) {
        ("&&" | "||", _) => of_chain(operator, expression),
        ("Set", Value::Array(entries)) if entries.len() > 1 => {
            let left = |place: usize, entry: &Value| (words(entry), json!({ "Set": without(entries, place) }));
            entries.iter().enumerate().map(|(place, entry)| left(place, entry)).collect()
        }
        ("Value" | "Var", _) => Vec::new(),
        (_, Value::Object(parts)) => {
            let mut all = Vec::new();
            for part in ["left", "right", "arg", "if", "then", "else"] {
                let Some(inner) = parts.get(part) else { continue };
                for (left_out, changed) in of_expression(inner) {
                    let mut parts = parts.clone();
                    parts.insert(part.to_owned(), changed);
                    all.push((left_out, one(operator, parts.into())));
                }
            }
            all
        }
        _ => Vec::new(),
    }
}

/// A chain of one operator: each operand left out, and each changed in itself.
fn of_chain(operator: &str, expression: &Value) -> Vec<(String, Value)> {
    let mut operands = Vec::new();
    flatten(operator, expression, &mut operands);
    let mut all = Vec::new();
    for (place, operand) in operands.iter().enumerate() {
        let others = operands.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, one)| (*one).clone());
        all.extend(joined(operator, others).map(|changed| (words(operand), changed)));
        for (left_out, changed) in of_expression(operand) {
            let operands = operands.iter().enumerate();
            let with = operands.map(|(at, one)| if at == place { changed.clone() } else { (*one).clone() });
            all.extend(joined(operator, with).map(|changed| (left_out, changed)));
        }
    }
    all
}

fn flatten<'a>(operator: &str, expression: &'a Value, operands: &mut Vec<&'a Value>) {
    match (expression.pointer(&format!("/{operator}/left")), expression.pointer(&format!("/{operator}/right"))) {
        (Some(left), Some(right)) => {
            flatten(operator, left, operands);
            flatten(operator, right, operands);
        }
        _ => operands.push(expression),
    }
}

fn joined(operator: &str, operands: impl Iterator<Item = Value>) -> Option<Value> {
    operands.reduce(|left, right| one(operator, json!({"left": left, "right": right})))
}

fn one(operator: &str, operands: Value) -> Value {
    Value::Object(Map::from_iter([(operator.to_owned(), operands)]))
}
