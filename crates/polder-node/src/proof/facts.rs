//! Facts that give a factory and its model the attributes that a solver found.
//!
//! The way back from what `polder_core` writes out of facts. It need not succeed: whether facts really give the attributes is
//! seen when they are decided about again. Names, dates and signers are made up or absent: no policy reads them.

use std::collections::BTreeSet;

use cedar_policy::{Entity, EvalResult, Record};
use polder_core::canonical::Digest;
use polder_core::facts::{Capability, Claim, Evidence, Owner};
use polder_core::framework::{CriterionId, Framework};
use polder_core::ids::ModelId;
use polder_core::labels::{Action, Closed, Country};
use polder_core::policy::{PolicySchema, touches};
use polder_core::world::FactText;

/// The value of a closed list that an entity names.
pub(super) fn closed<T: Closed>(value: &EvalResult) -> Option<T> {
    match value {
        EvalResult::EntityUid(uid) => T::parse(uid.id().unescaped()).ok(),
        _ => None,
    }
}

/// The values of a closed list in a set.
pub(super) fn members<T: Closed>(value: &EvalResult) -> BTreeSet<T> {
    match value {
        EvalResult::Set(set) => set.iter().filter_map(closed).collect(),
        _ => BTreeSet::new(),
    }
}

/// Share of the tenant's use that is on the factory's vendors, in per cent.
pub(super) fn usage(entity: &Entity) -> u8 {
    let share = record(entity, "usage").map_or(0, |usage| number(&usage, "vendor_share_percent"));
    u8::try_from(share).unwrap_or(0)
}

/// Facts that give a factory its attributes.
pub(super) fn of_factory(
    entity: &Entity,
    schema: &PolicySchema,
    action: Action,
    with_model: bool,
) -> Result<Vec<FactText>, String> {
    let mut facts = Vec::new();
    let mut add = |claim: Claim, of: &Record| facts.push(FactText { claim, evidence: evidence(of) });
    if let Some(site) = record(entity, "site") {
        add(Claim::Site { country: country(&site)?, city: "Somewhere".to_owned() }, &site);
    }
    if let Some(operator) = record(entity, "operator") {
        let home = country(&operator)?;
        add(Claim::Operator { name: "Operator".to_owned(), country: home }, &operator);
        if let Some(control) = record(entity, "control") {
            add(Claim::Control { owners: owners(&control, home) }, &control);
        }
    }
    if let Some(jurisdiction) = record(entity, "jurisdiction") {
        add(Claim::Jurisdiction { countries: countries(&jurisdiction) }, &jurisdiction);
    }
    if let Some(personnel) = record(entity, "personnel") {
        add(Claim::Personnel { countries: countries(&personnel) }, &personnel);
    }
    if let Some(energy) = record(entity, "energy") {
        let claim = Claim::Energy {
            renewable_percent: number(&energy, "renewable_percent").min(100),
            carbon_g_per_kwh: number(&energy, "carbon_g_per_kwh"),
            pue_percent: number(&energy, "pue_percent").max(100),
        };
        add(claim, &energy);
    }
    chips(entity, &mut facts)?;
    graded(entity, "certifications", |scheme| Claim::Certification { scheme }, &mut facts);
    graded(entity, "clearances", |country| Claim::Clearance { country }, &mut facts);
    for framework in schema.frameworks() {
        seals(entity, framework, action, with_model, &mut facts);
    }
    Ok(facts)
}

/// Facts that give a model its attributes.
pub(super) fn of_model(entity: &Entity, model: &ModelId) -> Result<Vec<FactText>, String> {
    let mut facts = Vec::new();
    let mut add = |claim: Claim, of: &Record| facts.push(FactText { claim, evidence: evidence(of) });
    let model = || model.clone();
    if let Some(origin) = record(entity, "origin") {
        add(Claim::ModelOrigin { model: model(), country: country(&origin)? }, &origin);
    }
    if let Some(licence) = record(entity, "licence") {
        let kind = licence.get("kind").and_then(closed).ok_or("a licence without a kind")?;
        add(Claim::ModelLicence { model: model(), licence: kind }, &licence);
    }
    if let Some(digest) = record(entity, "digest") {
        let said = match digest.get("sha256") {
            Some(EvalResult::String(text)) => serde_json::from_value(text.as_str().into()).ok(),
            _ => None,
        };
        add(Claim::ModelDigest { model: model(), sha256: said.unwrap_or(Digest([0; 32])) }, &digest);
    }
    if let Some(languages) = record(entity, "languages") {
        add(Claim::ModelLanguages { model: model(), languages: set_in(&languages, "evaluated") }, &languages);
    }
    Ok(facts)
}

fn record(entity: &Entity, attribute: &str) -> Option<Record> {
    match entity.attr(attribute) {
        Some(Ok(EvalResult::Record(record))) => Some(record),
        _ => None,
    }
}

fn inner<'a>(record: &'a Record, field: &str) -> Option<&'a Record> {
    match record.get(field) {
        Some(EvalResult::Record(record)) => Some(record),
        _ => None,
    }
}

fn set_in<T: Closed>(record: &Record, field: &str) -> BTreeSet<T> {
    record.get(field).map(members).unwrap_or_default()
}

fn number(record: &Record, field: &str) -> u32 {
    match record.get(field) {
        Some(EvalResult::Long(number)) => u32::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

fn country(record: &Record) -> Result<Country, String> {
    record.get("country").and_then(closed).ok_or_else(|| "a place without a country".to_owned())
}

/// Several countries, never none: where the solver was free to name none, any stands for them.
fn countries(record: &Record) -> BTreeSet<Country> {
    let mut countries: BTreeSet<Country> = set_in(record, "countries");
    if countries.is_empty() {
        countries.extend(Country::parse("FR"));
    }
    countries
}

/// The strongest class that an attribute satisfies.
fn evidence(record: &Record) -> Evidence {
    set_in::<Evidence>(record, "evidence").into_iter().max().unwrap_or(Evidence::C)
}

/// Owners in all countries but the operator's own. Those outside the EU hold the foreign share, the others all.
fn owners(control: &Record, home: Country) -> Vec<Owner> {
    let foreign = number(control, "foreign_share_ppm");
    let above = set_in::<Country>(control, "countries").into_iter().filter(|one| *one != home);
    let owner = |country: Country| {
        let share_ppm = if country.in_eu() { 1_000_000 } else { foreign };
        Owner { name: "Owner".to_owned(), country, share_ppm }
    };
    above.map(owner).collect()
}

/// One fact for each vendor, with the origins dealt out among them.
fn chips(entity: &Entity, facts: &mut Vec<FactText>) -> Result<(), String> {
    let Some(chips) = record(entity, "chips") else { return Ok(()) };
    let (mut vendors, mut origins) = (set_in(&chips, "vendors"), set_in::<Country>(&chips, "origins"));
    if vendors.is_empty() {
        vendors.extend(polder_core::facts::Vendor::all().first());
    }
    if origins.is_empty() {
        origins.extend(Country::parse("FR"));
    }
    if vendors.len() < origins.len() {
        return Err("chips of fewer vendors than origins".to_owned());
    }
    let capability = inner(&chips, "capability")
        .map(|can| Capability { precisions: set_in(can, "precisions"), memory_gib: number(can, "memory_gib").max(1) });
    let last = *origins.last().ok_or("chips without an origin")?;
    let dealt = origins.into_iter().chain(std::iter::repeat(last));
    for (vendor, origin) in vendors.into_iter().zip(dealt) {
        let claim = Claim::Chip { vendor, origin, accelerators: 8, capability: capability.clone() };
        facts.push(FactText { claim, evidence: evidence(&chips) });
    }
    Ok(())
}

/// One fact for each member, at the strongest class at which it stands.
fn graded<T: Closed>(entity: &Entity, attribute: &str, claim: impl Fn(T) -> Claim, facts: &mut Vec<FactText>) {
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

/// Answers that give each objective its SEAL: to every criterion that the request touches, the lowest answer that is enough.
fn seals(entity: &Entity, framework: &Framework, action: Action, with_model: bool, facts: &mut Vec<FactText>) {
    let Some(grades) = record(entity, "seals") else { return };
    let level = |grade: &str, objective: &str| {
        inner(&grades, grade).and_then(|all| inner(all, framework.id())).map_or(0, |all| number(all, objective))
    };
    for CriterionId { objective, criterion } in framework.touched_by(&touches(action, with_model)) {
        let wanted = level("declared", &objective);
        let evidence = match (level("measured", &objective), level("attested", &objective)) {
            (1.., _) => Evidence::A,
            (_, 1..) => Evidence::B,
            _ => Evidence::C,
        };
        let id = CriterionId { objective: objective.clone(), criterion };
        let answers = framework.criterion(&id).map(|criterion| criterion.answers.as_slice()).unwrap_or_default();
        let enough = (1..).zip(answers).filter(|(_, answer)| u32::from(answer.seal) >= wanted && wanted > 0);
        if let Some((answer, _)) = enough.min_by_key(|(_, answer)| answer.seal) {
            let framework = framework.id().to_owned();
            facts.push(FactText { claim: Claim::Assessment { framework, objective, criterion, answer }, evidence });
        }
    }
}
