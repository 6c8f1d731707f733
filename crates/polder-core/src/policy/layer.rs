//! One layer of policy: parsed, checked against schema and house rule, ready to be asked.
//!
//! Merging layers is absent on purpose: each is asked on its own, so that none can widen another.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Decision, Effect, Entities, EntityUid, Policy, PolicyId,
    PolicySet, PrincipalConstraint, Request, ResourceConstraint, ValidationMode, Validator,
};
use serde_json::Value;

use super::column::{Case, Column, Question};
use super::{
    Cause, Clause, FactRead, LayerKind, NOT_PERMITTED, POLICY_ERROR, PolicySchema, RESERVED, hazards, limits,
    policy_digest,
};
use crate::canonical::Digest;
use crate::facts::Evidence;
use crate::labels::{Action, Closed as _};

/// Why a policy file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// One `forbid` of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    /// Its `@reason`.
    pub reason: String,
    /// The line of its `@id`.
    pub line: u32,
    /// Its `@relax`: how readily the owner would give it up, 1 first; `None` where they said nothing.
    pub relax: Option<u32>,
    /// The attributes of the factory that it reads; those of the model begin with `model.`.
    pub reads: BTreeSet<String>,
    /// The values of closed lists that its conditions name, as type and value: (`Certification`, `iso-27001`).
    pub names: BTreeSet<(String, String)>,
    /// The evidence classes that its conditions tell apart: those they name, and those behind `declared`, `attested` and
    /// `measured`.
    pub classes: BTreeSet<Evidence>,
    /// Why it could fail to be evaluated, in a few words; it would then refuse. `None` where it cannot fail.
    pub hazard: Option<String>,
}

/// A layer that can be asked.
#[derive(Debug, Clone)]
pub struct Layer {
    kind: LayerKind,
    file: String,
    digest: Digest,
    set: PolicySet,
    /// In the order of the text.
    rules: Vec<Rule>,
    /// The place of each rule by what Cedar calls it.
    numbers: BTreeMap<PolicyId, u16>,
    /// The actions that a permit of this layer speaks of.
    permitted: BTreeSet<Action>,
}

/// Why a layer refuses; empty where it permits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The numbers of the rules that refuse, ascending.
    pub rules: Vec<u16>,
    /// What no rule says: evaluation errors, no permit.
    pub others: Vec<Cause>,
}

impl Layer {
    /// Parses a layer and holds it against limits, schema and house rule.
    pub fn parse(kind: LayerKind, file: &str, text: &str, schema: &PolicySchema) -> Result<Self, PolicyError> {
        let source = Source { file, text };
        limits::check(text).map_err(|beyond| source.at(beyond.offset, &beyond.message, Some(beyond.hint)))?;
        let set = PolicySet::from_str(text).map_err(|errors| source.of_parse(&DetailedError::from(&errors)))?;
        if set.num_of_templates() > 0 {
            return Err(source.at(0, "policy templates are not used here", Some("write each policy out")));
        }
        let (mut rules, mut numbers) = (Vec::new(), BTreeMap::new());
        let mut seen = BTreeSet::new();
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| number(policy));
        for policy in policies {
            if policy.effect() == Effect::Permit {
                source.check_permit(policy)?;
                continue;
            }
            let rule = source.rule(policy)?;
            if !seen.insert(rule.id.clone()) {
                let line = source.lines_of_id(&rule.id).last().unwrap_or(rule.line);
                return Err(source.at_line(line, &format!("the rule id `{}` is used twice", rule.id)));
            }
            let Ok(place) = u16::try_from(rules.len()) else {
                return Err(source.at_line(rule.line, "there are more rules than a layer may have"));
            };
            numbers.insert(policy.id().clone(), place);
            rules.push(rule);
        }
        let report = Validator::new(schema.schema.clone()).validate(&set, ValidationMode::Strict);
        let errors = report.validation_errors().map(|error| source.of_validation(&DetailedError::from(error)));
        if let Some(error) = errors.min_by_key(|error| (error.line, error.column, error.message.clone())) {
            return Err(error);
        }
        let permitted = Action::all().into_iter().filter(|action| permits(&set, *action)).collect();
        let digest = policy_digest(text);
        Ok(Self { kind, file: file.to_owned(), digest, set, rules, numbers, permitted })
    }

    /// Whose rules these are.
    pub fn kind(&self) -> LayerKind {
        self.kind
    }

    /// The digest of the layer's text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rules, in the order of the text.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The first rule that could fail to be evaluated, as a fault of the file.
    pub fn hazard(&self) -> Option<PolicyError> {
        let (rule, hazard) = self.rules.iter().find_map(|rule| Some((rule, rule.hazard.as_ref()?)))?;
        Some(PolicyError {
            file: self.file.clone(),
            line: rule.line,
            column: 1,
            message: format!("`{}` could fail to be evaluated, and would then refuse: {hazard}", rule.id),
            hint: Some("compare numbers without adding or multiplying what has no small range".to_owned()),
        })
    }

    /// The policies as Cedar holds them.
    pub fn cedar(&self) -> &PolicySet {
        &self.set
    }

    /// The policies as Cedar holds them.
    pub fn policies(&self) -> &PolicySet {
        &self.set
    }

    /// Why this layer refuses a case at a factory; nothing where it permits.
    pub fn refusals(&self, column: &Column, case: &Case, schema: &PolicySchema) -> Vec<Cause> {
        let refusal = match Question::new(case.clone(), schema) {
            Ok(question) => ask(&[self], column, &question).pop().unwrap_or_default(),
            Err(message) => self.unasked(message),
        };
        let mut causes: BTreeSet<Cause> = refusal.others.into_iter().collect();
        causes.extend(refusal.rules.into_iter().filter_map(|rule| self.cause(rule, column, case)));
        causes.into_iter().collect()
    }

    /// The refusal of a layer that cannot even be asked.
    pub fn unasked(&self, message: String) -> Refusal {
        Refusal { rules: Vec::new(), others: vec![self.built_in(POLICY_ERROR, message)] }
    }

    fn answer(&self, request: &Request, entities: &Entities, action: Action) -> Refusal {
        let response = Authorizer::new().is_authorized(request, &self.set, entities);
        let mut refusal = Refusal::default();
        for error in response.diagnostics().errors() {
            refusal.others.push(self.error(error));
        }
        if response.decision() == Decision::Deny {
            refusal.rules.extend(response.diagnostics().reason().filter_map(|id| self.numbers.get(id)));
            refusal.rules.sort_unstable();
        }
        // Without a permit the layer refuses even where each of its rules gives way, so this is a cause of its own. And
        // where nothing named a cause and yet the layer does not permit, say so rather than let it pass.
        let named = !refusal.rules.is_empty() || !refusal.others.is_empty();
        let unnamed = !named && response.decision() != Decision::Allow;
        if unnamed || !self.permitted.contains(&action) {
            let reason = "no permit of this layer speaks of this action".to_owned();
            refusal.others.push(self.built_in(NOT_PERMITTED, reason));
        }
        refusal
    }

    /// An evaluation error, with the rule's own name and place instead of Cedar's number.
    fn error(&self, error: &AuthorizationError) -> Cause {
        let AuthorizationError::PolicyEvaluationError(failed) = error;
        let rule = self.numbers.get(failed.policy_id()).and_then(|number| self.rules.get(usize::from(*number)));
        let name = rule.map_or_else(|| "a permit".to_owned(), |rule| format!("`{}`", rule.id));
        let clause = Some(Clause { file: self.file.clone(), line: rule.map_or(1, |rule| rule.line) });
        Cause { clause, ..self.built_in(POLICY_ERROR, format!("{name} cannot be evaluated: {}", failed.inner())) }
    }

    fn built_in(&self, rule: &str, reason: String) -> Cause {
        let clause = Some(Clause { file: self.file.clone(), line: 1 });
        Cause { clause, ..Cause::built_in(self.kind, rule, reason) }
    }

    /// The cause that a rule is, by its number; what it read stands as the column has it.
    pub fn cause(&self, rule: u16, column: &Column, case: &Case) -> Option<Cause> {
        let rule = self.rules.get(usize::from(rule))?;
        let clause = (self.kind != LayerKind::Labels).then(|| Clause { file: self.file.clone(), line: rule.line });
        // What is read of control names the operator already.
        let twice = |kind: &String| kind == "operator" && rule.reads.contains("control");
        let facts: Vec<FactRead> =
            rule.reads.iter().filter(|kind| !twice(kind)).flat_map(|kind| column.read(kind, case)).collect();
        Some(Cause { layer: self.kind, rule: rule.id.clone(), reason: rule.reason.clone(), clause, facts })
    }
}

/// Which rules of each layer refuse a question at a factory, and what else does; empty where a layer permits. Each layer is
/// asked on its own.
pub fn ask(layers: &[&Layer], column: &Column, question: &Question) -> Vec<Refusal> {
    match (question.about(column), column.entities(question.case())) {
        (Ok(request), Ok(entities)) => {
            layers.iter().map(|layer| layer.answer(&request, entities, question.case().action)).collect()
        }
        (Err(message), _) | (_, Err(message)) => layers.iter().map(|layer| layer.unasked(message.clone())).collect(),
    }
}

/// A policy file's text, for messages that say where.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn check_permit(&self, policy: &Policy) -> Result<(), PolicyError> {
        let broad = !policy.has_non_scope_constraint()
            && policy.principal_constraint() == PrincipalConstraint::Any
            && policy.resource_constraint() == ResourceConstraint::Any;
        if broad {
            return Ok(());
        }
        let offset = self.offset_of_policy(policy);
        let hint = "write `permit (principal, action, resource);` and turn each condition into a `forbid` with `@id` \
                    and `@reason`";
        Err(self.at(offset, "a permit must not have conditions", Some(hint)))
    }

    fn rule(&self, policy: &Policy) -> Result<Rule, PolicyError> {
        let named = |key: &str| policy.annotation(key).filter(|text| !text.is_empty());
        let (Some(id), Some(reason)) = (named("id"), named("reason")) else {
            let hint = "put `@id(\"…\")` and `@reason(\"…\")` before it, so that a refusal can be explained";
            return Err(self.at(self.offset_of_policy(policy), "a forbid needs `@id` and `@reason`", Some(hint)));
        };
        let line = self.line_of_id(id);
        if RESERVED.contains(&id) {
            let hint = "choose another `@id`, so that a refusal says who refused".to_owned();
            let message = format!("the rule id `{id}` is one of Polder's own");
            return Err(PolicyError { hint: Some(hint), ..self.at_line(line, &message) });
        }
        let relax = match named("relax").map(str::parse) {
            None => None,
            Some(Ok(rank)) => Some(rank),
            Some(Err(_)) => return Err(self.at_line(line, "`@relax` takes a whole number, 1 for what may go first")),
        };
        let json = policy.to_json().map_err(|e| self.at_line(line, &e.to_string()))?;
        if let Some(function) = function_called(json.get("conditions").unwrap_or(&Value::Null)) {
            let hint = "nothing that a rule can read needs one, and `audit` checks decisions without them";
            let message = format!("the function `{function}` is not used here");
            return Err(PolicyError { hint: Some(hint.to_owned()), ..self.at_line(line, &message) });
        }
        let (mut reads, mut names) = (BTreeSet::new(), BTreeSet::new());
        collect_reads(&json, &mut reads);
        let conditions = json.get("conditions").unwrap_or(&Value::Null);
        collect_names(conditions, &mut names);
        let mut classes = BTreeSet::new();
        let class = |(kind, value): &(String, String)| Evidence::parse(value).ok().filter(|_| kind == "Evidence");
        classes.extend(names.iter().filter_map(class));
        collect_classes(conditions, &mut classes);
        let hazard = hazards::hazard(&json);
        Ok(Rule { id: id.to_owned(), reason: reason.to_owned(), line, relax, reads, names, classes, hazard })
    }

    /// Policies carry no position; the n-th one (`policy0`, `policy1` …) begins at the n-th `permit` or `forbid`.
    fn offset_of_policy(&self, policy: &Policy) -> usize {
        let mut offsets = Vec::new();
        let (mut quoted, mut escaped, mut comment) = (false, false, false);
        for (at, c) in self.text.char_indices() {
            let rest = self.text.get(at..).unwrap_or_default();
            match c {
                '\n' => comment = false,
                _ if comment => {}
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ if quoted => {}
                '/' if rest.starts_with("//") => comment = true,
                'p' | 'f' => {
                    let after = rest.strip_prefix("permit").or_else(|| rest.strip_prefix("forbid"));
                    if after.is_some_and(|after| after.trim_start().starts_with('(')) {
                        offsets.push(at);
                    }
                }
                _ => {}
            }
        }
        offsets.get::<usize>(number(policy)).copied().unwrap_or(0)
    }

    fn line_of_id(&self, id: &str) -> u32 {
        self.lines_of_id(id).next().unwrap_or(1)
    }

    fn lines_of_id(&self, id: &str) -> impl Iterator<Item = u32> {
        let mark = format!("@id(\"{id}\")");
        let lines = (1..).zip(self.text.lines());
        lines
            .filter(move |(_, line)| !line.trim_start().starts_with("//") && line.contains(&mark))
            .map(|(number, _)| number)
    }

    fn of_parse(&self, error: &DetailedError) -> PolicyError {
        let offset = error.source_locations.first().map_or(0, |label| label.loc.start);
        self.at(offset, &error.message, error.help.as_deref())
    }

    /// Validation errors name the policy by number in their text; the house's reader knows it by its place.
    fn of_validation(&self, error: &DetailedError) -> PolicyError {
        let offset = error.source_locations.first().map_or(0, |label| label.loc.start);
        let message = match error.message.split_once(", ") {
            Some((before, after)) if before.starts_with("for policy") => after,
            _ => error.message.as_str(),
        };
        self.at(offset, message, error.help.as_deref())
    }

    fn at(&self, offset: usize, message: &str, hint: Option<&str>) -> PolicyError {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count());
        PolicyError {
            file: self.file.to_owned(),
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    fn at_line(&self, line: u32, message: &str) -> PolicyError {
        PolicyError { line, ..self.at(0, message, None) }
    }
}

/// Whether a permit speaks of an action: of every action, or of this one by name. Actions have no groups.
fn permits(set: &PolicySet, action: Action) -> bool {
    let named = |uid: &EntityUid| uid.id().unescaped() == action.as_str();
    set.policies().filter(|policy| policy.effect() == Effect::Permit).any(|policy| match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(one) => named(&one),
        ActionConstraint::In(all) => all.iter().any(named),
    })
}

/// A policy's place in its file, from 0: Cedar calls the policies `policy0`, `policy1` …
fn number(policy: &Policy) -> usize {
    policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(0)
}

/// A function of one of Cedar's extensions (`decimal`, `ip` …) that conditions in Cedar's JSON form call. Its name is a
/// key with a list of arguments; the other keys with lists are known.
fn function_called(json: &Value) -> Option<&str> {
    match json {
        Value::Array(items) => items.iter().find_map(function_called),
        Value::Object(fields) => fields.iter().find_map(|(name, of)| {
            let call = of.is_array() && !matches!(name.as_str(), "Set" | "pattern" | "attr");
            if call { Some(name.as_str()) } else { function_called(of) }
        }),
        _ => None,
    }
}

/// The attributes of `resource` and, as `model.…`, of `context.model` that a policy in Cedar's JSON form reads or asks
/// for.
fn collect_reads(json: &Value, reads: &mut BTreeSet<String>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect_reads(item, reads)),
        Value::Object(fields) => {
            for (operator, operands) in fields {
                let reads_one = matches!(operator.as_str(), "." | "has");
                let attribute = operands.get("attr").and_then(Value::as_str).filter(|_| reads_one);
                let text = |place: &str| operands.pointer(place).and_then(Value::as_str);
                let of_model = text("/left/./left/Var") == Some("context") && text("/left/./attr") == Some("model");
                if let Some(attribute) = attribute.filter(|_| text("/left/Var") == Some("resource")) {
                    reads.insert(attribute.to_owned());
                }
                if let Some(attribute) = attribute.filter(|_| of_model) {
                    reads.insert(format!("model.{attribute}"));
                }
                collect_reads(operands, reads);
            }
        }
        _ => {}
    }
}

/// The entities that conditions in Cedar's JSON form name.
fn collect_names(json: &Value, names: &mut BTreeSet<(String, String)>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        Value::Object(fields) => {
            let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
            let entity = fields.get("__entity");
            names.extend(entity.and_then(|of| text(of, "type").zip(text(of, "id"))));
            fields.values().for_each(|of| collect_names(of, names));
        }
        _ => {}
    }
}

/// The evidence classes behind the attributes that conditions in Cedar's JSON form read.
fn collect_classes(json: &Value, classes: &mut BTreeSet<Evidence>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect_classes(item, classes)),
        Value::Object(fields) => {
            classes.extend(match fields.get("attr").and_then(Value::as_str) {
                Some("declared") => Some(Evidence::C),
                Some("attested") => Some(Evidence::B),
                Some("measured") => Some(Evidence::A),
                _ => None,
            });
            fields.values().for_each(|of| collect_classes(of, classes));
        }
        _ => {}
    }
}
