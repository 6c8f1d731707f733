//! Axioms: what is true of every factory that facts can describe, as Cedar conditions.
//!
//! A proof speaks of every value that the schema allows, and the schema allows nonsense: a site in France outside the EU,
//! a fact of class A that is not of class B. Each axiom excludes one kind of nonsense; a test holds each against columns
//! made of random facts, so that no axiom can exclude what may really come. Solvers are absent: whoever proves takes the
//! axioms about what its policies read.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::labels::{EEA, EU};

/// One thing that is true of every factory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axiom {
    /// Its name, such as `site.in_eu`.
    pub id: String,
    /// What it speaks of, as [`paths`] writes it: whoever reads this needs the axiom.
    pub about: String,
    /// What it reads besides.
    pub brings: Vec<String>,
    /// The condition, in Cedar's notation; it never errors.
    pub holds: String,
}

impl Axiom {
    fn new(id: String, about: &str, brings: &[String], holds: String) -> Self {
        Self { id, about: about.to_owned(), brings: brings.to_vec(), holds }
    }

    /// An axiom about an attribute that may be absent; `holds` writes `@` for the attribute.
    fn guarded(field: &str, subject: &Subject, brings: &[&str], holds: &str) -> Self {
        let about = join(&subject.path, field);
        let brings: Vec<String> = brings.iter().map(|one| join(&subject.path, one)).collect();
        let holds = format!("if {} then {} else true", subject.guard, holds.replace('@', &subject.value));
        Self::new(about.clone(), &about, &brings, holds)
    }

    fn named(mut self, id: &str) -> Self {
        self.id = format!("{}.{id}", self.about);
        self
    }
}

/// An attribute that may be absent.
struct Subject {
    /// Its path, such as `site`.
    path: String,
    /// Its value in Cedar, such as `resource.site`.
    value: String,
    /// When it is there, in Cedar.
    guard: String,
}

impl Subject {
    fn of_factory(attribute: &str) -> Self {
        Self {
            path: attribute.to_owned(),
            value: format!("resource.{attribute}"),
            guard: format!("resource has {attribute}"),
        }
    }
}

fn join(path: &str, field: &str) -> String {
    if field.is_empty() { path.to_owned() } else { format!("{path}.{field}") }
}

/// Every axiom.
pub fn axioms() -> Vec<Axiom> {
    let mut all = Vec::new();
    for attribute in ["site", "operator"] {
        place(&Subject::of_factory(attribute), &mut all);
    }
    let control = Subject::of_factory("control");
    places(&control, &mut all);
    of_control(&control, &mut all);
    let chips = Subject::of_factory("chips");
    all.push(Axiom::guarded("vendors", &chips, &[], "!@.vendors.isEmpty()"));
    all.push(Axiom::guarded("origins", &chips, &[], "!@.origins.isEmpty()"));
    evidence(&chips, &mut all);
    graded("certifications", &mut all);
    graded("clearances", &mut all);
    all
}

/// The axioms about these paths and about all that the axioms themselves bring in.
pub fn axioms_about(read: &BTreeSet<String>) -> Vec<Axiom> {
    let mut read = read.clone();
    let mut left = axioms();
    let mut taken = Vec::new();
    loop {
        let (wanted, rest): (Vec<Axiom>, Vec<Axiom>) = left.into_iter().partition(|one| read.contains(&one.about));
        if wanted.is_empty() {
            return taken;
        }
        for axiom in &wanted {
            read.extend(axiom.brings.iter().flat_map(|path| prefixes(path)));
        }
        taken.extend(wanted);
        left = rest;
    }
}

/// A group of countries that the law knows, as a Cedar set.
fn group(codes: &str) -> String {
    let members: Vec<String> = codes.split(' ').map(|code| format!("Country::\"{code}\"")).collect();
    format!("[{}]", members.join(", "))
}

/// One country, and what follows from it.
fn place(subject: &Subject, all: &mut Vec<Axiom>) {
    for (field, codes) in [("in_eu", EU), ("in_eea", EEA)] {
        let holds = format!("@.{field} == {}.contains(@.country)", group(codes));
        all.push(Axiom::guarded(field, subject, &["country"], &holds));
    }
    evidence(subject, all);
}

/// Several countries, never none, and what follows from them.
fn places(subject: &Subject, all: &mut Vec<Axiom>) {
    for (field, codes) in [("in_eu", EU), ("in_eea", EEA)] {
        let holds = format!("@.{field} == {}.containsAll(@.countries)", group(codes));
        all.push(Axiom::guarded(field, subject, &["countries"], &holds));
    }
    all.push(Axiom::guarded("countries", subject, &[], "!@.countries.isEmpty()"));
    evidence(subject, all);
}

/// Control begins with the operator, and is no better evidenced.
fn of_control(control: &Subject, all: &mut Vec<Axiom>) {
    let operator = |field: &str| join("operator", field);
    let known = "if resource has control then resource has operator else true".to_owned();
    all.push(Axiom::new("control.operator".to_owned(), "control", &[operator("")], known));
    let among = "resource has operator && @.countries.contains(resource.operator.country)";
    let mut axiom = Axiom::guarded("countries", control, &[], among).named("operator");
    axiom.brings.push(operator("country"));
    all.push(axiom);
    let weaker = "resource has operator && resource.operator.evidence.containsAll(@.evidence)";
    let mut axiom = Axiom::guarded("evidence", control, &[], weaker).named("operator");
    axiom.brings.push(operator("evidence"));
    all.push(axiom);
}

/// A fact of a class satisfies every weaker class.
fn evidence(subject: &Subject, all: &mut Vec<Axiom>) {
    let class = |name: &str| format!("@.evidence.contains(Evidence::\"{name}\")");
    all.push(Axiom::guarded("evidence", subject, &[], &class("C")).named("least"));
    let stronger = format!("!{} || {}", class("A"), class("B"));
    all.push(Axiom::guarded("evidence", subject, &[], &stronger).named("order"));
}

/// What is measured is attested, and what is attested is declared.
fn graded(attribute: &str, all: &mut Vec<Axiom>) {
    for (narrow, wide) in [("attested", "declared"), ("measured", "attested")] {
        let id = format!("{attribute}.{narrow}");
        let holds = format!("resource.{attribute}.{wide}.containsAll(resource.{attribute}.{narrow})");
        all.push(Axiom::new(id.clone(), &id, &[join(attribute, wide)], holds));
    }
}

/// What a policy in Cedar's JSON form reads of the factory (`site.country`), of the model (`model.origin.country`) and of
/// the request (`context.class`), each with every part of its path.
pub fn paths(json: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(json, &mut found);
    found.iter().flat_map(|path| prefixes(path)).collect()
}

fn prefixes(path: &str) -> Vec<String> {
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    ends.filter_map(|end| path.get(..end).map(str::to_owned)).collect()
}

fn collect(json: &Value, found: &mut BTreeSet<String>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            found.extend(path(json));
            fields.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

/// The path that an expression names, if it names one.
fn path(json: &Value) -> Option<String> {
    let access = json.get(".").or_else(|| json.get("has"))?;
    let (left, attribute) = (access.get("left")?, access.get("attr")?.as_str()?);
    match left.get("Var").and_then(Value::as_str) {
        Some("resource") => Some(attribute.to_owned()),
        Some("context") => Some(format!("context.{attribute}")),
        Some(_) => None,
        None => match path(left)?.as_str() {
            "context.model" => Some(format!("model.{attribute}")),
            above => Some(format!("{above}.{attribute}")),
        },
    }
}

#[cfg(test)]
mod tests;
