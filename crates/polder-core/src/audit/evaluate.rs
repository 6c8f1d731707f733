//! Policies in Cedar's JSON form, evaluated without Cedar: a second reading of the same rules, for audit.
//!
//! Cedar only turns the text into JSON (<https://docs.cedarpolicy.com/policies/json-format.html>); reading that JSON and
//! evaluating it happens here, over plain data. What the schema of Polder has no use for is absent: extension
//! functions, tags, templates and hierarchies of entities. A policy that uses one of them fails, and what fails
//! refuses. Which of two errors comes first is absent too: an error says only that there was one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use cedar_policy::PolicySet;
use serde_json::Value as Json;

/// How deep an expression may be. Deeper ones fail, as they do in Cedar at a depth that hangs on the stack.
const DEPTH_MAX: usize = 400;

/// A value of the policy language. An entity is its type and its id; what it holds stands in [`Question::entities`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Bool(bool),
    Long(i64),
    Text(String),
    Entity { kind: String, id: String },
    Set(BTreeSet<Value>),
    Record(BTreeMap<String, Value>),
}

/// What entities hold: a record each. An entity that is absent here has no attributes.
pub(super) type Entities = BTreeMap<Value, Value>;

/// One question to a layer.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) principal: Value,
    pub(super) action: Value,
    pub(super) resource: Value,
    pub(super) context: Value,
    pub(super) entities: &'a Entities,
}

/// The evaluation of a policy ended in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fails;

/// The policies of one layer.
#[derive(Debug)]
pub(super) struct Policies(Vec<Policy>);

#[derive(Debug)]
struct Policy {
    permit: bool,
    id: Option<String>,
    scope: Vec<Expr>,
    /// What must hold (`when`, true) and what must not (`unless`, false).
    conditions: Vec<(bool, Expr)>,
}

#[derive(Debug)]
enum Expr {
    Literal(Value),
    Variable(Variable),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    IsEmpty(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Both(Operator, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Get(Box<Expr>, String),
    Has(Box<Expr>, Vec<String>),
    /// The pattern's characters; `None` stands for any number of any.
    Like(Box<Expr>, Vec<Option<char>>),
    Is(Box<Expr>, String),
    Set(Vec<Expr>),
    Record(BTreeMap<String, Expr>),
    /// What is not of the subset.
    Outside,
}

#[derive(Debug, Clone, Copy)]
enum Variable {
    Principal,
    Action,
    Resource,
    Context,
}

/// An operator that evaluates both its sides, whatever they come to.
#[derive(Debug, Clone, Copy)]
enum Operator {
    Equal,
    NotEqual,
    In,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Times,
    Contains,
    ContainsAll,
    ContainsAny,
}

impl Policies {
    /// Reads a layer's text; `None` where Cedar cannot parse it or it is more than policies written out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let json = PolicySet::from_str(text).ok()?.to_json().ok()?;
        if !json.get("templates").and_then(Json::as_object).is_none_or(serde_json::Map::is_empty) {
            return None;
        }
        json.get("staticPolicies")?.as_object()?.values().map(Policy::read).collect::<Option<_>>().map(Self)
    }

    /// The ids of the rules by which the layer refuses, sorted; empty where it permits.
    pub(super) fn refusals(&self, question: &Question<'_>) -> BTreeSet<String> {
        let mut refused = BTreeSet::new();
        let mut permitted = false;
        for policy in &self.0 {
            match policy.applies(question) {
                Err(Fails) => drop(refused.insert("policy-error".to_owned())),
                Ok(true) if policy.permit => permitted = true,
                Ok(true) => drop(refused.insert(policy.id.clone().unwrap_or_default())),
                Ok(false) => {}
            }
        }
        if !permitted {
            refused.insert("not-permitted".to_owned());
        }
        refused
    }
}

impl Policy {
    fn read(json: &Json) -> Option<Self> {
        let permit = match json.get("effect")?.as_str()? {
            "permit" => true,
            "forbid" => false,
            _ => return None,
        };
        let variables =
            [("principal", Variable::Principal), ("action", Variable::Action), ("resource", Variable::Resource)];
        let scope = variables.into_iter().filter_map(|(name, variable)| scope(json.get(name)?, variable)).collect();
        let conditions = json.get("conditions")?.as_array()?;
        let condition = |one: &Json| Some((one.get("kind")?.as_str()? == "when", Expr::read(one.get("body")?, 0)));
        let id = json.pointer("/annotations/id").and_then(Json::as_str).map(str::to_owned);
        Some(Self { permit, id, scope, conditions: conditions.iter().map(condition).collect::<Option<_>>()? })
    }

    fn applies(&self, question: &Question<'_>) -> Result<bool, Fails> {
        let conditions = self.conditions.iter().map(|(expected, body)| (*expected, body));
        for (expected, body) in self.scope.iter().map(|body| (true, body)).chain(conditions) {
            if truth(&*body.evaluate(question)?)? != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A constraint of the scope as an expression over its variable; `None` where there is none.
fn scope(json: &Json, variable: Variable) -> Option<Expr> {
    let literal = |json: &Json| Box::new(Value::entity(json).map_or(Expr::Outside, Expr::Literal));
    let this = || Box::new(Expr::Variable(variable));
    let within = |json: &Json| {
        let entities = json.get("entities").and_then(Json::as_array);
        match (json.get("entity"), entities) {
            (Some(entity), _) => Expr::Both(Operator::In, this(), literal(entity)),
            (_, Some(all)) => {
                let all = all.iter().map(|entity| *literal(entity)).collect();
                Expr::Both(Operator::In, this(), Box::new(Expr::Set(all)))
            }
            _ => Expr::Outside,
        }
    };
    match json.get("op").and_then(Json::as_str) {
        Some("All") => None,
        Some("==") => Some(match json.get("entity") {
            Some(entity) => Expr::Both(Operator::Equal, this(), literal(entity)),
            None => Expr::Outside,
        }),
        Some("in") => Some(within(json)),
        Some("is") => {
            let kind = json.get("entity_type").and_then(Json::as_str);
            let is = kind.map_or(Expr::Outside, |kind| Expr::Is(this(), kind.to_owned()));
            Some(match json.get("in") {
                Some(inside) => Expr::And(Box::new(is), Box::new(within(inside))),
                None => is,
            })
        }
        _ => Some(Expr::Outside),
    }
}

impl Value {
    /// A value from JSON as Cedar writes data: `{"__entity": {"type", "id"}}` is an entity, any other object a record.
    pub(super) fn read(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Long(number.as_i64()?),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::Set(items.iter().map(Self::read).collect::<Option<_>>()?),
            Json::Object(fields) => match json.get("__entity") {
                Some(entity) => Self::entity(entity)?,
                None if fields.contains_key("__extn") || fields.contains_key("__expr") => return None,
                None => {
                    let field = |(name, value): (&String, &Json)| Some((name.clone(), Self::read(value)?));
                    Self::Record(fields.iter().map(field).collect::<Option<_>>()?)
                }
            },
            Json::Null => return None,
        })
    }

    fn entity(json: &Json) -> Option<Self> {
        let part = |name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
        Some(Self::Entity { kind: part("type")?, id: part("id")? })
    }

    /// An entity by its type and id.
    pub(super) fn named(kind: &str, id: &str) -> Self {
        Self::Entity { kind: kind.to_owned(), id: id.to_owned() }
    }
}

impl Operator {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "in" => Self::In,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "+" => Self::Plus,
            "-" => Self::Minus,
            "*" => Self::Times,
            "contains" => Self::Contains,
            "containsAll" => Self::ContainsAll,
            "containsAny" => Self::ContainsAny,
            _ => return None,
        })
    }

    fn apply(self, left: &Value, right: &Value) -> Result<Value, Fails> {
        Ok(match self {
            Self::Equal => Value::Bool(left == right),
            Self::NotEqual => Value::Bool(left != right),
            Self::In => Value::Bool(within(left, right)?),
            Self::Less => Value::Bool(number(left)? < number(right)?),
            Self::LessOrEqual => Value::Bool(number(left)? <= number(right)?),
            Self::Greater => Value::Bool(number(left)? > number(right)?),
            Self::GreaterOrEqual => Value::Bool(number(left)? >= number(right)?),
            Self::Plus => Value::Long(number(left)?.checked_add(number(right)?).ok_or(Fails)?),
            Self::Minus => Value::Long(number(left)?.checked_sub(number(right)?).ok_or(Fails)?),
            Self::Times => Value::Long(number(left)?.checked_mul(number(right)?).ok_or(Fails)?),
            Self::Contains => Value::Bool(set(left)?.contains(right)),
            Self::ContainsAll => Value::Bool(set(right)?.is_subset(set(left)?)),
            Self::ContainsAny => Value::Bool(!set(left)?.is_disjoint(set(right)?)),
        })
    }
}

impl Expr {
    fn read(json: &Json, depth: usize) -> Self {
        let only = json.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
        match only {
            Some((name, of)) if depth < DEPTH_MAX => Self::read_operation(name, of, depth).unwrap_or(Self::Outside),
            _ => Self::Outside,
        }
    }

    fn read_operation(name: &str, of: &Json, depth: usize) -> Option<Self> {
        let all = |json: &Json| Self::read(json, depth + 1);
        let part = |name: &str| Some(Box::new(all(of.get(name)?)));
        let attribute = || of.get("attr")?.as_str().map(str::to_owned);
        Some(match name {
            "Value" => Self::Literal(Value::read(of)?),
            "Var" => Self::Variable(match of.as_str()? {
                "principal" => Variable::Principal,
                "action" => Variable::Action,
                "resource" => Variable::Resource,
                "context" => Variable::Context,
                _ => return None,
            }),
            "!" => Self::Not(part("arg")?),
            "neg" => Self::Negative(part("arg")?),
            "isEmpty" => Self::IsEmpty(part("arg")?),
            "&&" => Self::And(part("left")?, part("right")?),
            "||" => Self::Or(part("left")?, part("right")?),
            "if-then-else" => Self::If(part("if")?, part("then")?, part("else")?),
            "." => Self::Get(part("left")?, attribute()?),
            "has" => {
                let path = match of.get("attr")? {
                    Json::Array(names) => names.iter().map(Json::as_str).collect::<Option<_>>()?,
                    one => vec![one.as_str()?],
                };
                Self::Has(part("left")?, path.into_iter().map(str::to_owned).collect())
            }
            "like" => {
                let mut pattern = Vec::new();
                for element in of.get("pattern")?.as_array()? {
                    match element.get("Literal").and_then(Json::as_str) {
                        Some(text) => pattern.extend(text.chars().map(Some)),
                        None if element.as_str() == Some("Wildcard") => pattern.push(None),
                        None => return None,
                    }
                }
                Self::Like(part("left")?, pattern)
            }
            "is" => {
                let kind = of.get("entity_type")?.as_str()?.to_owned();
                let is = Self::Is(part("left")?, kind);
                match of.get("in") {
                    None => is,
                    Some(inside) => {
                        let within = Self::Both(Operator::In, part("left")?, Box::new(all(inside)));
                        Self::And(Box::new(is), Box::new(within))
                    }
                }
            }
            "Set" => Self::Set(of.as_array()?.iter().map(all).collect()),
            "Record" => Self::Record(of.as_object()?.iter().map(|(name, value)| (name.clone(), all(value))).collect()),
            _ => Self::Both(Operator::read(name)?, part("left")?, part("right")?),
        })
    }

    fn evaluate<'a>(&'a self, question: &'a Question<'_>) -> Result<Cow<'a, Value>, Fails> {
        let truth_of = |one: &'a Self| truth(&*one.evaluate(question)?);
        let value = match self {
            Self::Literal(value) => return Ok(Cow::Borrowed(value)),
            Self::Variable(variable) => {
                return Ok(Cow::Borrowed(match variable {
                    Variable::Principal => &question.principal,
                    Variable::Action => &question.action,
                    Variable::Resource => &question.resource,
                    Variable::Context => &question.context,
                }));
            }
            Self::If(condition, then, otherwise) => {
                return if truth_of(condition)? { then.evaluate(question) } else { otherwise.evaluate(question) };
            }
            Self::Get(of, name) => return get(of.evaluate(question)?, name, question)?.ok_or(Fails),
            Self::Has(of, path) => Value::Bool(has(of.evaluate(question)?, path, question)?),
            Self::Not(one) => Value::Bool(!truth_of(one)?),
            Self::And(left, right) => Value::Bool(truth_of(left)? && truth_of(right)?),
            Self::Or(left, right) => Value::Bool(truth_of(left)? || truth_of(right)?),
            Self::Negative(one) => Value::Long(number(&*one.evaluate(question)?)?.checked_neg().ok_or(Fails)?),
            Self::IsEmpty(one) => Value::Bool(set(&*one.evaluate(question)?)?.is_empty()),
            Self::Both(operator, left, right) => {
                operator.apply(&*left.evaluate(question)?, &*right.evaluate(question)?)?
            }
            Self::Like(one, pattern) => match &*one.evaluate(question)? {
                Value::Text(text) => Value::Bool(matches(pattern, text)),
                _ => return Err(Fails),
            },
            Self::Is(one, expected) => match &*one.evaluate(question)? {
                Value::Entity { kind, .. } => Value::Bool(kind == expected),
                _ => return Err(Fails),
            },
            Self::Set(items) => {
                let items = items.iter().map(|item| item.evaluate(question).map(Cow::into_owned));
                Value::Set(items.collect::<Result<_, _>>()?)
            }
            Self::Record(fields) => {
                let field = |(name, one): (&String, &'a Self)| Ok((name.clone(), one.evaluate(question)?.into_owned()));
                Value::Record(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
            Self::Outside => return Err(Fails),
        };
        Ok(Cow::Owned(value))
    }
}

fn truth(value: &Value) -> Result<bool, Fails> {
    if let Value::Bool(value) = value { Ok(*value) } else { Err(Fails) }
}

fn number(value: &Value) -> Result<i64, Fails> {
    if let Value::Long(value) = value { Ok(*value) } else { Err(Fails) }
}

fn set(value: &Value) -> Result<&BTreeSet<Value>, Fails> {
    if let Value::Set(items) = value { Ok(items) } else { Err(Fails) }
}

/// `in`, where no entity has a parent: the entity itself, or one of a set of entities and nothing else.
fn within(left: &Value, right: &Value) -> Result<bool, Fails> {
    let entity = |value: &Value| matches!(value, Value::Entity { .. });
    match right {
        _ if !entity(left) => Err(Fails),
        Value::Entity { .. } => Ok(left == right),
        Value::Set(items) if items.iter().all(entity) => Ok(items.contains(left)),
        _ => Err(Fails),
    }
}

/// An attribute of a record or an entity; nothing where it is absent, an error for any other value.
fn get<'a>(of: Cow<'a, Value>, name: &str, question: &'a Question<'_>) -> Result<Option<Cow<'a, Value>>, Fails> {
    match of {
        Cow::Borrowed(Value::Record(fields)) => Ok(fields.get(name).map(Cow::Borrowed)),
        Cow::Owned(Value::Record(mut fields)) => Ok(fields.remove(name).map(Cow::Owned)),
        entity if matches!(*entity, Value::Entity { .. }) => match question.entities.get(&*entity) {
            Some(Value::Record(fields)) => Ok(fields.get(name).map(Cow::Borrowed)),
            _ => Ok(None),
        },
        _ => Err(Fails),
    }
}

/// `has`, one attribute after the other: the first that is absent ends it.
fn has<'a>(of: Cow<'a, Value>, path: &[String], question: &'a Question<'_>) -> Result<bool, Fails> {
    let mut at = of;
    for name in path {
        match get(at, name, question)? {
            Some(next) => at = next,
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// `like`: which places of the text the pattern can have come to, one element after the other.
fn matches(pattern: &[Option<char>], text: &str) -> bool {
    let mut reached: Vec<bool> = std::iter::once(true).chain(text.chars().map(|_| false)).collect();
    for element in pattern {
        reached = match element {
            None => {
                let mut any = false;
                let from_here_on = |here: &bool| {
                    any |= *here;
                    any
                };
                reached.iter().map(from_here_on).collect()
            }
            Some(wanted) => {
                let step = reached.iter().zip(text.chars()).map(|(here, c)| *here && c == *wanted);
                std::iter::once(false).chain(step).collect()
            }
        };
    }
    reached.last().copied().unwrap_or(false)
}
