//! The attributes that policies read, written out plainly from the facts, a second time and in another way.
//!
//! Shared with what is checked: `facts`, and how a framework answers from facts. Absent: Cedar's types.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::facts::{Capability, Claim, Evidence, Profile};
use crate::framework::{Framework, Touch, derive};
use crate::labels::{Action, Closed as _, Country};

pub(super) fn entity(kind: &str, id: &str) -> Value {
    json!({"__entity": {"type": kind, "id": id}})
}

pub(super) fn countries_of(countries: &BTreeSet<Country>) -> Value {
    countries.iter().map(|country| entity("Country", country.as_str())).collect()
}

fn classes(evidence: Evidence) -> Value {
    Evidence::all().iter().filter(|c| **c <= evidence).map(|c| entity("Evidence", c.as_str())).collect()
}

fn place(country: Country, evidence: Evidence) -> Value {
    json!({
        "country": entity("Country", country.as_str()), "in_eu": country.in_eu(), "in_eea": country.in_eea(),
        "adequate": country.is_adequate(), "evidence": classes(evidence),
    })
}

fn places(countries: &BTreeSet<Country>, evidence: Evidence) -> Value {
    json!({
        "countries": countries_of(countries),
        "in_eu": !countries.iter().any(|country| !country.in_eu()),
        "in_eea": !countries.iter().any(|country| !country.in_eea()),
        "evidence": classes(evidence),
    })
}

/// A factory's attributes, without the SEALs.
pub(super) fn factory(profile: &Profile, vendor_share_percent: u8) -> Value {
    let mut attributes = Map::new();
    for (claim, evidence) in claims(profile) {
        let attribute = match claim {
            Claim::Site { country, .. } | Claim::Operator { country, .. } => place(*country, evidence),
            Claim::Jurisdiction { countries } | Claim::Personnel { countries } => places(countries, evidence),
            Claim::Energy { renewable_percent, carbon_g_per_kwh, pue_percent } => json!({
                "renewable_percent": renewable_percent, "carbon_g_per_kwh": carbon_g_per_kwh,
                "pue_percent": pue_percent, "evidence": classes(evidence),
            }),
            _ => continue,
        };
        attributes.insert(claim.kind().attribute().to_owned(), attribute);
    }
    attributes.extend(control(profile).map(|control| ("control".to_owned(), control)));
    attributes.extend(chips(profile).map(|chips| ("chips".to_owned(), chips)));
    for kind in ["certifications", "clearances"] {
        let mut grades = Map::new();
        for (grade, least) in [("declared", Evidence::C), ("attested", Evidence::B), ("measured", Evidence::A)] {
            let one = |(claim, evidence): (&Claim, Evidence)| match claim {
                _ if evidence < least || claim.kind().attribute() != kind => None,
                Claim::Certification { scheme } => Some(entity("Certification", scheme.as_str())),
                Claim::Clearance { country } => Some(entity("Country", country.as_str())),
                _ => None,
            };
            grades.insert(grade.to_owned(), claims(profile).filter_map(one).collect());
        }
        attributes.insert(kind.to_owned(), Value::Object(grades));
    }
    attributes.insert("usage".to_owned(), json!({"vendor_share_percent": vendor_share_percent}));
    Value::Object(attributes)
}

fn claims(profile: &Profile) -> impl Iterator<Item = (&Claim, Evidence)> {
    profile.facts.values().map(|held| (&held.fact.claim, held.evidence))
}

fn control(profile: &Profile) -> Option<Value> {
    let (operator, held) = (profile.facts.get("operator")?, profile.facts.get("control")?);
    let (Claim::Operator { country: home, .. }, Claim::Control { owners }) = (&operator.fact.claim, &held.fact.claim)
    else {
        return None;
    };
    let mut chain = vec![(*home, 1_000_000)];
    chain.extend(owners.iter().map(|owner| (owner.country, owner.share_ppm)));
    let weaker = if operator.evidence < held.evidence { operator.evidence } else { held.evidence };
    let mut control = places(&chain.iter().map(|(country, _)| *country).collect(), weaker);
    let foreign = chain.iter().filter(|(country, _)| !country.in_eu()).map(|(_, share)| *share).max().unwrap_or(0);
    control.as_object_mut()?.insert("foreign_share_ppm".to_owned(), foreign.into());
    Some(control)
}

fn chips(profile: &Profile) -> Option<Value> {
    let all: Vec<_> = claims(profile).filter(|(claim, _)| matches!(claim, Claim::Chip { .. })).collect();
    let weakest = all.iter().map(|(_, evidence)| *evidence).min()?;
    let quarrel = |held: &crate::facts::Held| matches!(held.fact.claim, Claim::Chip { .. });
    if profile.contested.values().flatten().any(quarrel) {
        return None;
    }
    let (mut vendors, mut origins, mut can) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (claim, _) in &all {
        if let Claim::Chip { vendor, origin, capability, .. } = claim {
            vendors.insert(vendor);
            origins.insert(*origin);
            can.extend(capability.as_ref());
        }
    }
    let vendors: Value = vendors.iter().map(|vendor| entity("Vendor", vendor.as_str())).collect();
    let mut chips = json!({"vendors": vendors, "origins": countries_of(&origins), "evidence": classes(weakest)});
    if can.len() == all.len() {
        chips.as_object_mut()?.insert("capability".to_owned(), capability(&can)?);
    }
    Some(chips)
}

fn capability(all: &[&Capability]) -> Option<Value> {
    let shared =
        crate::facts::Precision::all().into_iter().filter(|one| all.iter().all(|c| c.precisions.contains(one)));
    let precisions: Value = shared.map(|one| entity("Precision", one.as_str())).collect();
    let memory = all.iter().map(|one| one.memory_gib).min()?;
    Some(json!({"precisions": precisions, "memory_gib": memory}))
}

/// The SEALs: every objective's lowest answer among the criteria that are touched, 0 where one is not evidenced or none
/// is touched.
pub(super) fn seals(frameworks: &[Framework], profile: &Profile, action: Action, with_model: bool) -> Value {
    let mut grades = Map::new();
    for (grade, least) in [("declared", Evidence::C), ("attested", Evidence::B), ("measured", Evidence::A)] {
        let mut versions = Map::new();
        for framework in frameworks {
            let evidenced = derive(framework, profile);
            let mut levels: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
            for (objective, criterion) in framework.criteria() {
                let level = levels.entry(objective.id.as_str()).or_default();
                let touched = criterion.touches.iter().any(|part| match part {
                    Touch::Operator | Touch::Route => true,
                    Touch::Model => with_model,
                    Touch::Chip => !matches!(action, Action::Store | Action::Move | Action::HoldWeights),
                });
                if touched {
                    let id = crate::framework::CriterionId::of(objective, criterion);
                    let answer = evidenced.get(&id).filter(|one| one.evidence >= least);
                    level.push(answer.and_then(|one| criterion.answer(one.answer)).map_or(0, |answer| answer.seal));
                }
            }
            let lowest = |(id, all): (&str, Vec<u8>)| (id.to_owned(), all.into_iter().min().unwrap_or(0).into());
            versions.insert(framework.id().to_owned(), Value::Object(levels.into_iter().map(lowest).collect()));
        }
        grades.insert(grade.to_owned(), Value::Object(versions));
    }
    Value::Object(grades)
}

/// The attributes of every model that facts speak of.
pub(super) fn models(profile: &Profile) -> BTreeMap<String, Map<String, Value>> {
    let mut models: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (claim, evidence) in claims(profile) {
        let (model, name, value) = match claim {
            Claim::ModelOrigin { model, country } => (model, "origin", place(*country, evidence)),
            Claim::ModelLicence { model, licence } => {
                let kind = entity("Licence", licence.as_str());
                (model, "licence", json!({"kind": kind, "open": licence.is_open(), "evidence": classes(evidence)}))
            }
            Claim::ModelDigest { model, sha256 } => {
                (model, "digest", json!({"sha256": sha256.to_hex(), "evidence": classes(evidence)}))
            }
            Claim::ModelLanguages { model, languages } => {
                let evaluated: Value = languages.iter().map(|one| entity("Language", one.as_str())).collect();
                (model, "languages", json!({"evaluated": evaluated, "evidence": classes(evidence)}))
            }
            _ => continue,
        };
        models.entry(model.as_str().to_owned()).or_default().insert(name.to_owned(), value);
    }
    models
}
