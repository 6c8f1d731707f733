//! From what the solver found to a request file: facts that give the same attributes, decided again before it is shown.
//!
//! The solver speaks of attributes; people and nodes speak of facts. What facts cannot reproduce is said, never shown. What
//! the exception does not need is left out, one fact at a time. Asking the solver is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::{Entity, EntityUid, EvalResult, Record};
use cedar_policy_symcc::Env;
use polder_core::facts::{Claim as FactClaim, Evidence, Owner};
use polder_core::ids::{ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::{Action, Closed, Country};
use polder_core::placement::{Outcome, decide, refusals};
use polder_core::policy::{Layer, LayerKind, PolicySchema};
use polder_core::world::{FactText, FactoryText, PolicyText, World, WorldRequest};

use super::{Claim, Goal, LABELS, NamedPolicy};

/// What becomes of an exception when it is decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is permitted, and the goal is not met.
    Placed,
    /// It is refused because a policy ended in an error.
    PolicyError,
}

/// What is needed to decide an exception again.
pub(super) struct Replay {
    schema: Arc<PolicySchema>,
    about: String,
    slots: Vec<PolicyText>,
    /// A layer that must refuse the exception; for `can_permit`, one that must not.
    other: Option<(Layer, bool)>,
}

impl Replay {
    pub fn new(
        schema: &Arc<PolicySchema>,
        claim: &Claim,
        policies: &[NamedPolicy],
        bound: Option<&NamedPolicy>,
    ) -> Result<Self, String> {
        let goal = |word: &str, expression: &str| {
            let text = format!(
                "permit (principal, action, resource);\n@id(\"goal\")\n@reason(\"the claim\")\nforbid (principal, \
                 action, resource)\n{word} {{ {expression}\n}};"
            );
            Layer::parse(LayerKind::Owner, "the claim", &text, schema).map_err(|e| e.message)
        };
        let other = match &claim.goal {
            Goal::PermittedOnlyWhen(expression) => Some((goal("unless", expression)?, true)),
            Goal::NeverPermittedWhen(expression) => Some((goal("when", expression)?, true)),
            Goal::CanPermit(expression) => Some((goal("unless", expression)?, false)),
            Goal::NoWiderThan(_) => bound.map(|bound| (bound.layer.clone(), true)),
            Goal::NeverErrors | Goal::NoDeadRule | Goal::NoRedundantRule => None,
        };
        let written = policies.iter().filter(|policy| policy.name != LABELS);
        let slots = written.map(|policy| PolicyText { file: file_name(&policy.name), text: Some(policy.text.clone()) });
        let head = if matches!(claim.goal, Goal::CanPermit(_)) { "shows" } else { "contradicts" };
        let about = format!("{head} `{}`: {}", claim.name, claim.says);
        Ok(Self { schema: schema.clone(), about, slots: slots.collect(), other })
    }

    /// The request file of an exception, or why facts cannot make one.
    pub fn example(&self, env: &Env, expected: Expected) -> Result<WorldRequest, String> {
        let mut request = self.request(env)?;
        self.shows(&request, expected)?;
        self.shrink(&mut request, expected);
        Ok(request)
    }

    /// Whether a request, decided as any other, comes out as the exception must.
    fn shows(&self, asked: &WorldRequest, expected: Expected) -> Result<(), String> {
        let snapshot =
            asked.snapshot(&self.schema, &|_| Err("no file is read".to_owned())).map_err(|e| e.to_string())?;
        let request = asked.request();
        let decision = decide(&snapshot, &request, &BTreeMap::new());
        let causes: Vec<&str> =
            decision.verdicts.iter().flat_map(|verdict| &verdict.causes).map(|cause| cause.rule.as_str()).collect();
        if expected == Expected::PolicyError {
            let failed = causes.contains(&"policy-error");
            return if failed { Ok(()) } else { Err("no policy ends in an error".to_owned()) };
        }
        if decision.outcome != Outcome::Placed {
            return Err(format!("it is refused by `{}`", causes.join("`, `")));
        }
        let (Some((other, refuses)), Some(factory)) = (&self.other, snapshot.factories.first()) else { return Ok(()) };
        let refused = !refusals(other, &factory.column, &request, &self.schema).is_empty();
        if refused == *refuses { Ok(()) } else { Err("it meets what is claimed".to_owned()) }
    }

    /// Leaves out what the exception does not need.
    fn shrink(&self, request: &mut WorldRequest, expected: Expected) {
        self.attempt(request, expected, |smaller| smaller.countries = None);
        self.attempt(request, expected, |smaller| smaller.language = None);
        // From the end, so that what was looked at keeps its place.
        for place in (0..places(request)).rev() {
            self.attempt(request, expected, |smaller| {
                for facts in smaller.world.factories.iter_mut().map(|factory| &mut factory.facts) {
                    drop((place < facts.len()).then(|| facts.remove(place)));
                }
            });
        }
    }

    fn attempt(&self, request: &mut WorldRequest, expected: Expected, change: impl Fn(&mut WorldRequest)) {
        let mut smaller = request.clone();
        change(&mut smaller);
        if self.shows(&smaller, expected).is_ok() {
            *request = smaller;
        }
    }

    fn request(&self, env: &Env) -> Result<WorldRequest, String> {
        let uid = |uid: Option<&EntityUid>| uid.map(|uid| uid.id().unescaped().to_owned()).unwrap_or_default();
        let (tenant, factory) = (uid(env.request.principal()), env.request.resource().ok_or("no factory")?);
        let action = Action::parse(&uid(env.request.action())).map_err(|e| e.to_string())?;
        let context = env.request.context().ok_or("no context")?;
        let text = |key: &str| match context.get(key) {
            Some(EvalResult::String(text)) => text,
            Some(EvalResult::EntityUid(uid)) => uid.id().unescaped().to_owned(),
            _ => String::new(),
        };
        let purpose = context.get("purpose").and_then(|value| closed(&value)).ok_or("no purpose")?;
        let mut slots = self.slots.iter().cloned();
        let (first, second, terms) = (slots.next(), slots.next(), slots.next());
        // One policy is the owner's; of several the first is the baseline and the third are the factory's terms.
        let (baseline, owner) = if second.is_some() { (first, second) } else { (None, first) };
        let entity = env.entities.get(factory).ok_or("the factory has no attributes")?;
        let factory = FactoryText { name: node(factory)?, facts: facts(entity)?, terms };
        // Names that the solver makes up are seldom names here; the ones below stand for any.
        Ok(WorldRequest {
            about: Some(self.about.clone()),
            action,
            tenant: TenantId::parse(&tenant).or_else(|_| TenantId::parse("tenant")).map_err(|e| e.to_string())?,
            project: ProjectId::parse(&text("project"))
                .or_else(|_| ProjectId::parse("project"))
                .map_err(|e| e.to_string())?,
            model: ModelId::parse(&text("model")).or_else(|_| ModelId::parse("model")).map_err(|e| e.to_string())?,
            class: context.get("class").and_then(|value| closed(&value)).ok_or("no class")?,
            purposes: BTreeSet::from([purpose]),
            countries: context.get("countries").map(|value| members(&value)),
            language: context.get("language").and_then(|value| closed(&value)),
            world: World { baseline, owner, factories: vec![factory] },
        })
    }
}

/// How many facts the largest factory has.
fn places(request: &WorldRequest) -> usize {
    request.world.factories.iter().map(|factory| factory.facts.len()).max().unwrap_or(0)
}

fn file_name(name: &str) -> String {
    if name.ends_with(".cedar") { name.to_owned() } else { format!("{name}.cedar") }
}

fn node(uid: &EntityUid) -> Result<NodeId, String> {
    NodeId::parse(uid.id().unescaped()).or_else(|_| NodeId::parse("factory")).map_err(|e| e.to_string())
}

/// The value of a closed list that an entity names.
fn closed<T: Closed>(value: &EvalResult) -> Option<T> {
    match value {
        EvalResult::EntityUid(uid) => T::parse(uid.id().unescaped()).ok(),
        _ => None,
    }
}

fn members<T: Closed>(value: &EvalResult) -> BTreeSet<T> {
    match value {
        EvalResult::Set(set) => set.iter().filter_map(closed).collect(),
        _ => BTreeSet::new(),
    }
}

fn record(entity: &Entity, attribute: &str) -> Option<Record> {
    match entity.attr(attribute) {
        Some(Ok(EvalResult::Record(record))) => Some(record),
        _ => None,
    }
}

fn set_in<T: Closed>(record: &Record, field: &str) -> BTreeSet<T> {
    record.get(field).map(members).unwrap_or_default()
}

/// The strongest class that an attribute satisfies.
fn evidence(record: &Record) -> Evidence {
    set_in::<Evidence>(record, "evidence").into_iter().max().unwrap_or(Evidence::C)
}

/// Facts that give a factory its attributes.
fn facts(entity: &Entity) -> Result<Vec<FactText>, String> {
    let mut facts = Vec::new();
    let country =
        |record: &Record| record.get("country").and_then(closed::<Country>).ok_or("a place without a country");
    if let Some(site) = record(entity, "site") {
        let claim = FactClaim::Site { country: country(&site)?, city: "Somewhere".to_owned() };
        facts.push(FactText { claim, evidence: evidence(&site) });
    }
    if let Some(operator) = record(entity, "operator") {
        let home = country(&operator)?;
        let claim = FactClaim::Operator { name: "Operator".to_owned(), country: home };
        facts.push(FactText { claim, evidence: evidence(&operator) });
        if let Some(control) = record(entity, "control") {
            let above = set_in::<Country>(&control, "countries").into_iter().filter(|one| *one != home);
            let owner = |country| Owner { name: "Owner".to_owned(), country, share_ppm: 1_000_000 };
            let claim = FactClaim::Control { owners: above.map(owner).collect() };
            facts.push(FactText { claim, evidence: evidence(&control) });
        }
    }
    chips(entity, &mut facts)?;
    graded(entity, "certifications", |scheme| FactClaim::Certification { scheme }, &mut facts);
    graded(entity, "clearances", |country| FactClaim::Clearance { country }, &mut facts);
    Ok(facts)
}

/// One fact for each vendor, with the origins dealt out among them.
fn chips(entity: &Entity, facts: &mut Vec<FactText>) -> Result<(), String> {
    let Some(chips) = record(entity, "chips") else { return Ok(()) };
    let (vendors, origins) = (set_in(&chips, "vendors"), set_in::<Country>(&chips, "origins"));
    if vendors.len() < origins.len() {
        return Err("chips of fewer vendors than origins".to_owned());
    }
    let last = *origins.last().ok_or("chips without an origin")?;
    let dealt = origins.into_iter().chain(std::iter::repeat(last));
    for (vendor, origin) in vendors.into_iter().zip(dealt) {
        let claim = FactClaim::Chip { vendor, origin, accelerators: 8 };
        facts.push(FactText { claim, evidence: evidence(&chips) });
    }
    Ok(())
}

/// One fact for each member, at the strongest class at which it stands.
fn graded<T: Closed>(entity: &Entity, attribute: &str, claim: impl Fn(T) -> FactClaim, facts: &mut Vec<FactText>) {
    let Some(grades) = record(entity, attribute) else { return };
    let (attested, measured) = (set_in::<T>(&grades, "attested"), set_in::<T>(&grades, "measured"));
    for one in set_in::<T>(&grades, "declared") {
        let evidence = match (measured.contains(&one), attested.contains(&one)) {
            (true, _) => Evidence::A,
            (_, true) => Evidence::B,
            _ => Evidence::C,
        };
        facts.push(FactText { claim: claim(one), evidence });
    }
}
