//! Random policies, facts and requests, from a seed: for tests that hold two readings of the same rules together.
//!
//! A policy is text in the house form, valid against the schema, and otherwise as odd as the language allows. What is
//! read stands in [`ATTRIBUTES`] and [`VALUES`], and a new attribute is a row there. Facts are believed as they are:
//! signatures are tested elsewhere.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use super::*;
use crate::facts::{Capability, Held, Licence, Owner, Precision, Vendor};
use crate::labels::Language;

/// A seeded source of choices.
pub struct Dice(Pcg64Mcg);

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Bool,
    Long,
    Text,
    Entity(&'static str),
    Set(&'static str),
}

use Holds::{Bool, Entity, Long, Set, Text};

/// What a rule can read: the attribute that must be asked for first (empty: none), where it stands, and what it holds.
const ATTRIBUTES: &[(&str, &str, Holds)] = &[
    ("", "principal", Entity("Tenant")),
    ("", "action", Entity("Action")),
    ("", "resource", Entity("Factory")),
    ("", "context.class", Entity("Class")),
    ("", "context.purpose", Entity("Purpose")),
    ("", "context.project", Text),
    ("context has model", "context.model", Entity("Model")),
    ("context has model && context.model has origin", "context.model.origin.country", Entity("Country")),
    ("context has model && context.model has origin", "context.model.origin.adequate", Bool),
    ("context has model && context.model has licence", "context.model.licence.open", Bool),
    ("context has model && context.model has licence", "context.model.licence.kind", Entity("Licence")),
    ("context has model && context.model has digest", "context.model.digest.evidence", Set("Evidence")),
    ("context has model && context.model has languages", "context.model.languages.evaluated", Set("Language")),
    ("context has countries", "context.countries", Set("Country")),
    ("context has language", "context.language", Entity("Language")),
    ("resource has site", "resource.site.country", Entity("Country")),
    ("resource has site", "resource.site.in_eu", Bool),
    ("resource has site", "resource.site.in_eea", Bool),
    ("resource has site", "resource.site.adequate", Bool),
    ("resource has site", "resource.site.evidence", Set("Evidence")),
    ("resource has operator", "resource.operator.country", Entity("Country")),
    ("resource has operator", "resource.operator.in_eu", Bool),
    ("resource has operator", "resource.operator.in_eea", Bool),
    ("resource has operator", "resource.operator.evidence", Set("Evidence")),
    ("resource has control", "resource.control.countries", Set("Country")),
    ("resource has control", "resource.control.in_eu", Bool),
    ("resource has control", "resource.control.in_eea", Bool),
    ("resource has control", "resource.control.foreign_share_ppm", Long),
    ("resource has control", "resource.control.evidence", Set("Evidence")),
    ("resource has jurisdiction", "resource.jurisdiction.countries", Set("Country")),
    ("resource has jurisdiction", "resource.jurisdiction.in_eu", Bool),
    ("resource has personnel", "resource.personnel.in_eea", Bool),
    ("resource has personnel", "resource.personnel.evidence", Set("Evidence")),
    ("resource has energy", "resource.energy.renewable_percent", Long),
    ("resource has energy", "resource.energy.pue_percent", Long),
    ("resource has chips", "resource.chips.vendors", Set("Vendor")),
    ("resource has chips", "resource.chips.origins", Set("Country")),
    ("resource has chips", "resource.chips.evidence", Set("Evidence")),
    ("resource has chips && resource.chips has capability", "resource.chips.capability.memory_gib", Long),
    ("resource has chips && resource.chips has capability", "resource.chips.capability.precisions", Set("Precision")),
    ("", "resource.certifications.declared", Set("Certification")),
    ("", "resource.certifications.attested", Set("Certification")),
    ("", "resource.certifications.measured", Set("Certification")),
    ("", "resource.clearances.declared", Set("Country")),
    ("", "resource.clearances.attested", Set("Country")),
    ("", "resource.clearances.measured", Set("Country")),
    ("", "resource.seals.declared[\"csf-calculator-2026-06-01\"][\"SOV-3\"]", Long),
    ("", "resource.seals.attested[\"csf-1.2.1-2025-10\"][\"SOV-1\"]", Long),
    ("", "resource.usage.vendor_share_percent", Long),
];

/// The values that rules name and facts and requests draw from, few enough to meet.
const VALUES: &[(&str, &[&str])] = &[
    ("Tenant", &["bank", "lab"]),
    ("Action", &["infer", "embed", "infer", "embed", "train", "store", "hold-weights"]),
    ("Factory", &FACTORIES),
    ("Class", &["public", "internal", "customer", "restricted"]),
    ("Purpose", &["finance", "research", "health", "defence"]),
    ("Model", &["polder-toy", "lumen/captions"]),
    ("Language", &["de", "fr", "nb"]),
    ("Country", &["FR", "DE", "NO", "US", "CH"]),
    ("Evidence", &["C", "B", "A"]),
    ("Vendor", &["nvidia", "amd", "sipearl"]),
    ("Certification", &["iso-27001", "secnumcloud", "bsi-c5"]),
    ("Precision", &["bf16", "fp8", "fp64"]),
    ("Licence", &["apache-2.0", "open-weights-restricted", "proprietary"]),
];

/// The names that factories have.
pub const FACTORIES: [&str; 5] = ["barcelona", "bologna", "kajaani", "paris", "virginia"];

const PROJECTS: [&str; 4] = ["website", "web.1", "risk-models", "a"];
const PATTERNS: [&str; 9] = ["*", "web*", "*site", "*.1", "*s*t*", r"web\*", "", "risk-*s", "*a*-*o*d*ls*"];
const NUMBERS: [i64; 12] = [0, 1, 2, 3, -1, -7, 40, 100, 3_037_000_500, i64::MAX, i64::MAX - 1, i64::MIN];

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// A number below `end`, which is small and not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % u64::try_from(end).unwrap()).unwrap()
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn one_of<T: Clone>(&mut self, all: impl IntoIterator<Item = T>) -> T {
        let all: Vec<T> = all.into_iter().collect();
        self.pick(&all).clone()
    }

    fn value(&mut self, kind: &str) -> &'static str {
        let values: &'static [&'static str] = VALUES.iter().find(|(name, _)| *name == kind).unwrap().1;
        self.pick::<&'static str>(values)
    }

    fn literal(&mut self, kind: &str) -> String {
        format!("{kind}::\"{}\"", self.value(kind))
    }

    fn literals(&mut self, kind: &str) -> String {
        let all: Vec<String> = (0..=self.below(3)).map(|_| self.literal(kind)).collect();
        format!("[{}]", all.join(", "))
    }

    /// A layer in the house form: permits, then up to `rules` rules, called `r0`, `r1` …
    pub fn layer(&mut self, rules: usize) -> String {
        let permits = [OPEN, OPEN, OPEN, OPEN, OPEN, OPEN, OPEN, OPEN, OPEN, INFER, EMBED, ""];
        let mut text = (*self.pick(&permits)).to_owned();
        for n in 0..self.below(rules + 1) {
            let (scope, conditions) = (self.scope(), self.conditions());
            let relax = if self.percent(20) { format!("@relax(\"{}\")\n", self.below(5)) } else { String::new() };
            text += &format!("\n@id(\"r{n}\")\n@reason(\"test\")\n{relax}forbid ({scope})\n{conditions};");
        }
        text
    }

    fn scope(&mut self) -> String {
        let (tenant, factory) = (self.literal("Tenant"), self.literal("Factory"));
        let (action, actions) = (self.literal("Action"), self.literals("Action"));
        let principal = self.one_of([
            "principal".to_owned(),
            "principal".to_owned(),
            "principal is Tenant".to_owned(),
            format!("principal == {tenant}"),
            format!("principal in {tenant}"),
        ]);
        let action = self.one_of([
            "action".to_owned(),
            "action".to_owned(),
            format!("action == {action}"),
            format!("action in {action}"),
            format!("action in {actions}"),
        ]);
        let resource = self.one_of([
            "resource".to_owned(),
            "resource".to_owned(),
            "resource is Factory".to_owned(),
            format!("resource == {factory}"),
            format!("resource is Factory in {factory}"),
        ]);
        format!("{principal}, {action}, {resource}")
    }

    fn conditions(&mut self) -> String {
        let condition = |dice: &mut Self| {
            let kind = dice.one_of(["when", "when", "unless"]);
            format!("{kind} {{ {} }}", dice.truth(3, &mut Vec::new()))
        };
        let count = 1 + self.below(3);
        (0..count).map(|_| condition(self)).collect::<Vec<_>>().join("\n")
    }

    /// A condition. `known` holds the optional attributes that have been asked for where it will stand.
    fn truth(&mut self, depth: usize, known: &mut Vec<&'static str>) -> String {
        let (choice, depth) = (if depth == 0 { 5 + self.below(6) } else { self.below(11) }, depth.saturating_sub(1));
        match choice {
            0 => format!("({} && {})", self.truth(depth, known), self.truth(depth, known)),
            1 => format!("({} || {})", self.truth(depth, known), self.truth(depth, known)),
            2 => format!("!({})", self.truth(depth, known)),
            3 => {
                let (a, b, c) = (self.truth(depth, known), self.truth(depth, known), self.truth(depth, known));
                format!("(if {a} then {b} else {c})")
            }
            4 => self.guarded(depth, known),
            5 => self.comparison(depth, known),
            6 => self.record(depth, known),
            _ => {
                let (guard, path, kind) = *self.pick(ATTRIBUTES);
                let atom = self.atom(path, kind, depth, known);
                match guard {
                    _ if guard.is_empty() || known.contains(&guard) => atom,
                    // Asking for the attribute's own field comes to the same and is written otherwise.
                    _ if self.percent(20) => format!("({} && {atom})", extended(path)),
                    _ => format!("({guard} && {atom})"),
                }
            }
        }
    }

    /// A condition behind the question whether an optional attribute is there.
    fn guarded(&mut self, depth: usize, known: &mut Vec<&'static str>) -> String {
        let guard = self.one_of(ATTRIBUTES.iter().map(|(guard, _, _)| *guard).filter(|guard| !guard.is_empty()));
        let otherwise = self.truth(depth, known);
        known.push(guard);
        let then = self.truth(depth, known);
        known.pop();
        self.one_of([
            format!("({guard} && {then})"),
            format!("(if {guard} then {then} else {otherwise})"),
            format!("(({otherwise}) || ({guard} && {then}))"),
        ])
    }

    fn atom(&mut self, path: &str, kind: Holds, depth: usize, known: &mut Vec<&'static str>) -> String {
        match kind {
            Bool => {
                let other = self.truth(depth.min(1), known);
                self.one_of([path.to_owned(), format!("{path} == false"), format!("{path} != ({other})")])
            }
            Long => {
                let (sign, other) = (self.one_of(["<", "<=", ">", ">=", "==", "!="]), self.number(depth, known));
                format!("{path} {sign} {other}")
            }
            Text => {
                let (pattern, name) = (*self.pick(&PATTERNS), *self.pick(&PROJECTS));
                self.one_of([
                    format!("{path} like \"{pattern}\""),
                    format!("{path} like \"{pattern}\""),
                    format!("{path} == \"{name}\""),
                    format!("[\"{name}\", \"other\"].contains({path})"),
                ])
            }
            Entity(kind) => {
                let (one, all) = (self.literal(kind), self.literals(kind));
                self.one_of([
                    format!("{path} == {one}"),
                    format!("{path} != {one}"),
                    format!("{path} in {one}"),
                    format!("{path} in {all}"),
                    format!("{all}.contains({path})"),
                    format!("{path} is {kind} && {path} == {one}"),
                    format!("(if {path} is {kind} in {one} then {path} else {one}) != {one}"),
                ])
            }
            Set(kind) => {
                let (one, all) = (self.literal(kind), self.literals(kind));
                self.one_of([
                    format!("{path}.contains({one})"),
                    format!("{path}.containsAll({all})"),
                    format!("{path}.containsAny({all})"),
                    format!("{all}.containsAll({path})"),
                    format!("{all}.containsAny({path})"),
                    format!("{path} == {all}"),
                    format!("{path}.isEmpty()"),
                    format!("{one} in {path}"),
                    format!("[{path}, {all}].contains({all})"),
                ])
            }
        }
    }

    fn comparison(&mut self, depth: usize, known: &mut Vec<&'static str>) -> String {
        let sign = self.one_of(["<", "<=", ">", ">=", "==", "!="]);
        format!("({} {sign} {})", self.number(depth, known), self.number(depth, known))
    }

    /// A number, which may be one that is none: arithmetic stops at 64 bits.
    fn number(&mut self, depth: usize, known: &mut Vec<&'static str>) -> String {
        let literal = self.pick(&NUMBERS).to_string();
        if depth == 0 || self.percent(25) {
            return literal;
        }
        let depth = depth - 1;
        let long = ATTRIBUTES.iter().filter(|(_, _, kind)| *kind == Long).collect::<Vec<_>>();
        match self.below(6) {
            0 => format!("({} + {})", self.number(depth, known), self.number(depth, known)),
            1 => format!("({} - {})", self.number(depth, known), self.number(depth, known)),
            2 => format!("({} * {})", self.number(depth, known), self.number(depth, known)),
            3 => format!("-({})", self.number(depth, known)),
            4 if !long.is_empty() => match **self.pick(&long) {
                (guard, path, _) if guard.is_empty() || known.contains(&guard) => path.to_owned(),
                (guard, path, _) => format!("(if {guard} then {path} else {literal})"),
            },
            _ => format!("(if {} then {} else {literal})", self.truth(depth, known), self.number(depth, known)),
        }
    }

    fn record(&mut self, depth: usize, known: &mut Vec<&'static str>) -> String {
        let (truth, number) = (self.truth(depth, known), self.number(depth, known));
        self.one_of([
            format!("{{ \"a b\": {truth}, n: {number} }}[\"a b\"]"),
            format!("{{ t: {truth}, n: {number} }}.n > 1"),
            format!("{{ t: {truth} }} == {{ t: true }}"),
            format!("[1, 2, {number}].containsAny([3, 40])"),
        ])
    }

    /// Facts as they are believed at instant 1500: of each kind some, of some kinds contradictory ones.
    pub fn profile(&mut self, subject: &NodeId) -> Profile {
        let mut held = Vec::new();
        for n in 0..self.below(22) {
            let mut digest = crate::canonical::Digest::default();
            digest.0[0] = u8::try_from(n).unwrap();
            let until_ms = if self.percent(90) { 2_000 } else { 1_200 };
            let issuer = IssuerId::parse(self.one_of(["register", "auditor"])).unwrap();
            let (claim, evidence) = (self.claim(), self.one_of(Evidence::all()));
            let fact = Fact { subject: subject.clone(), claim, evidence, issuer, from_ms: 1_000, until_ms };
            held.push(Held { fact, evidence, digest, key: [0; 32] });
        }
        Profile::at(&held, 1_500)
    }

    fn claim(&mut self) -> Claim {
        let model = |dice: &mut Self| ModelId::parse(dice.value("Model")).unwrap();
        match self.below(15) {
            0 | 1 => site(self.value("Country")),
            2 => operator(self.value("Country")),
            3 => {
                let owner = |dice: &mut Self| Owner {
                    name: "Owner".to_owned(),
                    country: country(dice.value("Country")),
                    share_ppm: u32::try_from(dice.below(1_000_001)).unwrap(),
                };
                Claim::Control { owners: (0..self.below(3)).map(|_| owner(self)).collect() }
            }
            4 => Claim::Chip {
                vendor: Vendor::parse(self.value("Vendor")).unwrap(),
                origin: country(self.value("Country")),
                accelerators: 8,
                capability: self.percent(60).then(|| Capability {
                    precisions: (0..self.below(3))
                        .map(|_| Precision::parse(self.value("Precision")).unwrap())
                        .collect(),
                    memory_gib: if self.percent(50) { 40 } else { 100 },
                }),
            },
            5 => Claim::Certification { scheme: Certification::parse(self.value("Certification")).unwrap() },
            6 => Claim::Clearance { country: country(self.value("Country")) },
            7 => Claim::Jurisdiction { countries: self.countries() },
            8 => Claim::Personnel { countries: self.countries() },
            9 => Claim::Energy {
                renewable_percent: u32::try_from(self.below(101)).unwrap(),
                carbon_g_per_kwh: u32::try_from(self.below(900)).unwrap(),
                pue_percent: 100 + u32::try_from(self.below(100)).unwrap(),
            },
            10 => Claim::ModelOrigin { model: model(self), country: country(self.value("Country")) },
            11 => Claim::ModelLicence { model: model(self), licence: Licence::parse(self.value("Licence")).unwrap() },
            12 => Claim::ModelDigest { model: model(self), sha256: crate::canonical::Digest([7; 32]) },
            13 => {
                let languages = (0..=self.below(2)).map(|_| Language::parse(self.value("Language")).unwrap()).collect();
                Claim::ModelLanguages { model: model(self), languages }
            }
            _ => Claim::Assessment {
                framework: self.one_of(["csf-calculator-2026-06-01", "csf-1.2.1-2025-10"]).to_owned(),
                objective: self.one_of(["SOV-1", "SOV-3"]).to_owned(),
                criterion: 1 + u32::try_from(self.below(5)).unwrap(),
                answer: 1 + u32::try_from(self.below(4)).unwrap(),
            },
        }
    }

    fn countries(&mut self) -> std::collections::BTreeSet<Country> {
        (0..=self.below(2)).map(|_| country(self.value("Country"))).collect()
    }

    pub fn request(&mut self) -> Request {
        let count = if self.percent(10) { 2 } else { 1 };
        let purposes = (0..count).map(|_| Purpose::parse(self.value("Purpose")).unwrap());
        let purposes = purposes.collect();
        let countries = self.percent(40).then(|| (0..=self.below(3)).map(|_| country(self.value("Country"))).collect());
        let language = self.percent(50).then(|| Language::parse(self.value("Language")).unwrap());
        Request {
            action: Action::parse(self.value("Action")).unwrap(),
            tenant: TenantId::parse(self.value("Tenant")).unwrap(),
            project: ProjectId::parse(self.pick::<&str>(&PROJECTS)).unwrap(),
            model: self.percent(85).then(|| ModelId::parse(self.value("Model")).unwrap()),
            labels: Labels { class: DataClass::parse(self.value("Class")).unwrap(), purposes, countries, language },
        }
    }
}

const INFER: &str = "permit (principal, action == Action::\"infer\", resource);";
const EMBED: &str = "permit (principal, action in [Action::\"embed\"], resource);";

/// `resource has site.country` for `resource.site.country`.
fn extended(path: &str) -> String {
    let (of, rest) = path.split_once('.').unwrap();
    format!("{of} has {rest}")
}
