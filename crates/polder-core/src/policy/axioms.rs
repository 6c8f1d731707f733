//! Axioms: what is true of every factory that facts can describe, as Cedar conditions.
//!
//! A proof speaks of every value that the schema allows, and the schema allows nonsense: a site in France outside the EU,
//! a fact of class A that is not of class B. Each axiom excludes one kind of nonsense; a test holds each against columns
//! made of random facts, so that no axiom can exclude what may really come. Solvers are absent: whoever proves takes the
//! axioms about what its policies read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NUMBERS, PolicySchema, SEALS};
use crate::facts::{Licence, SHARE_PPM_MAX};
use crate::labels::{ADEQUATE, Closed as _, EEA, EU};

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

    fn of_model(attribute: &str) -> Self {
        Self {
            path: format!("model.{attribute}"),
            value: format!("context.model.{attribute}"),
            guard: format!("context has model && context.model has {attribute}"),
        }
    }

    /// An attribute of this one that may be absent too.
    fn inner(&self, attribute: &str) -> Self {
        Self {
            path: join(&self.path, attribute),
            value: format!("{}.{attribute}", self.value),
            guard: format!("{} && {} has {attribute}", self.guard, self.value),
        }
    }
}

fn join(path: &str, field: &str) -> String {
    if field.is_empty() { path.to_owned() } else { format!("{path}.{field}") }
}

/// Every axiom; the schema says which framework versions there are.
pub fn axioms(schema: &PolicySchema) -> Vec<Axiom> {
    let mut all = Vec::new();
    for subject in [Subject::of_factory("site"), Subject::of_factory("operator"), Subject::of_model("origin")] {
        place(&subject, &mut all);
    }
    for attribute in ["jurisdiction", "personnel"] {
        places(&Subject::of_factory(attribute), &mut all);
    }
    let control = Subject::of_factory("control");
    places(&control, &mut all);
    of_control(&control, &mut all);
    number("foreign_share_ppm", &control, &mut all);
    of_chips(&Subject::of_factory("chips"), &mut all);
    let energy = Subject::of_factory("energy");
    for field in ["renewable_percent", "carbon_g_per_kwh", "pue_percent"] {
        number(field, &energy, &mut all);
    }
    evidence(&energy, &mut all);
    of_models(&mut all);
    graded("certifications", &mut all);
    graded("clearances", &mut all);
    seals(schema, &mut all);
    let usage = Subject { path: "usage".to_owned(), value: "resource.usage".to_owned(), guard: "true".to_owned() };
    number("vendor_share_percent", &usage, &mut all);
    all
}

/// The axioms about these paths and about all that the axioms themselves bring in.
pub fn axioms_about(read: &BTreeSet<String>, schema: &PolicySchema) -> Vec<Axiom> {
    let mut read = read.clone();
    let mut left = axioms(schema);
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
    let adequate = format!("{EEA} {ADEQUATE}");
    for (field, codes) in [("in_eu", EU), ("in_eea", EEA), ("adequate", &adequate)] {
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
    // Whoever is outside the EU holds a share, which may be nothing; an operator outside holds all.
    let inside = "if @.in_eu then @.foreign_share_ppm == 0 else true";
    all.push(Axiom::guarded("foreign_share_ppm", control, &["in_eu"], inside).named("inside"));
    let whole = format!("resource has operator && (resource.operator.in_eu || @.foreign_share_ppm == {SHARE_PPM_MAX})");
    let mut axiom = Axiom::guarded("foreign_share_ppm", control, &[], &whole).named("operator");
    axiom.brings.push(operator("in_eu"));
    all.push(axiom);
    let weaker = "resource has operator && resource.operator.evidence.containsAll(@.evidence)";
    let mut axiom = Axiom::guarded("evidence", control, &[], weaker).named("operator");
    axiom.brings.push(operator("evidence"));
    all.push(axiom);
}

/// A number in its range.
fn number(field: &str, subject: &Subject, all: &mut Vec<Axiom>) {
    for (_, from, to) in NUMBERS.iter().filter(|(name, _, _)| *name == field) {
        let holds = format!("@.{field} >= {from} && @.{field} <= {to}");
        all.push(Axiom::guarded(field, subject, &[], &holds).named("range"));
    }
}

fn of_chips(chips: &Subject, all: &mut Vec<Axiom>) {
    all.push(Axiom::guarded("vendors", chips, &[], "!@.vendors.isEmpty()"));
    all.push(Axiom::guarded("origins", chips, &[], "!@.origins.isEmpty()"));
    number("memory_gib", &chips.inner("capability"), all);
    evidence(chips, all);
}

fn of_models(all: &mut Vec<Axiom>) {
    let licence = Subject::of_model("licence");
    let open = Licence::all().into_iter().filter(|licence| licence.is_open());
    let open: Vec<String> = open.map(|licence| format!("Licence::\"{}\"", licence.as_str())).collect();
    let holds = format!("@.open == [{}].contains(@.kind)", open.join(", "));
    all.push(Axiom::guarded("open", &licence, &["kind"], &holds));
    let languages = Subject::of_model("languages");
    all.push(Axiom::guarded("evaluated", &languages, &[], "!@.evaluated.isEmpty()"));
    for subject in [licence, Subject::of_model("digest"), languages] {
        evidence(&subject, all);
    }
}

/// A SEAL is in its range; one criterion without evidence of a class makes it 0 there, and none leaves it as it is declared.
fn seals(schema: &PolicySchema, all: &mut Vec<Axiom>) {
    let (from, to) = SEALS;
    for framework in schema.frameworks() {
        for objective in framework.objectives() {
            let place = |grade: &str| format!("resource.seals.{grade}[\"{}\"][\"{}\"]", framework.id(), objective.id);
            let path = |grade: &str| format!("seals.{grade}.{}.{}", framework.id(), objective.id);
            let declared = place("declared");
            let id = format!("{}.range", path("declared"));
            let holds = format!("{declared} >= {from} && {declared} <= {to}");
            all.push(Axiom::new(id, &path("declared"), &[], holds));
            for (narrow, wide) in [("attested", "declared"), ("measured", "attested")] {
                let holds = format!("{} == 0 || {} == {}", place(narrow), place(narrow), place(wide));
                all.push(Axiom::new(path(narrow), &path(narrow), &[path(wide)], holds));
            }
        }
    }
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
