//! The attributes of factories and models that policies read, written from a profile.
//!
//! What Cedar cannot compute is computed here and documented in the schema: all countries of a chain of control, the
//! largest foreign share, what every chip can do. Choosing which facts to believe is absent: see `facts`.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Entity, RestrictedExpression as Expr};

use super::column::Usage;
use super::schema::uid;
use crate::facts::{Capability, Claim, Evidence, Precision, Profile, SHARE_PPM_MAX};
use crate::framework::FrameworkSeals;
use crate::labels::{Closed, Country};

type Attributes = Vec<(String, Expr)>;

pub(super) fn value<T: Closed>(kind: &str, value: &T) -> Result<Expr, String> {
    Ok(Expr::new_entity_uid(uid(kind, value.as_str())?))
}

pub(super) fn set<'a, T: Closed>(kind: &str, values: impl IntoIterator<Item = &'a T>) -> Result<Expr, String> {
    Ok(Expr::new_set(values.into_iter().map(|one| value(kind, one)).collect::<Result<Vec<_>, _>>()?))
}

fn record(fields: Vec<(&str, Expr)>) -> Result<Expr, String> {
    Expr::new_record(fields.into_iter().map(|(name, value)| (name.to_owned(), value))).map_err(|e| e.to_string())
}

fn number(value: u32) -> Expr {
    Expr::new_long(i64::from(value))
}

/// The classes that a fact satisfies: its own and every weaker one.
fn satisfied(evidence: Evidence) -> Result<Expr, String> {
    set("Evidence", Evidence::all().iter().filter(|class| **class <= evidence))
}

fn place(country: Country, evidence: Evidence) -> Result<Expr, String> {
    record(vec![
        ("country", value("Country", &country)?),
        ("in_eu", Expr::new_bool(country.in_eu())),
        ("in_eea", Expr::new_bool(country.in_eea())),
        ("adequate", Expr::new_bool(country.is_adequate())),
        ("evidence", satisfied(evidence)?),
    ])
}

fn places(countries: &BTreeSet<Country>, evidence: Evidence, more: Option<(&str, Expr)>) -> Result<Expr, String> {
    let mut fields = vec![
        ("countries", set("Country", countries)?),
        ("in_eu", Expr::new_bool(countries.iter().all(|country| country.in_eu()))),
        ("in_eea", Expr::new_bool(countries.iter().all(|country| country.in_eea()))),
        ("evidence", satisfied(evidence)?),
    ];
    fields.extend(more);
    record(fields)
}

/// The attributes of a factory.
pub(super) fn factory(profile: &Profile, usage: Usage, seals: &[FrameworkSeals]) -> Result<Attributes, String> {
    let mut attributes = Vec::new();
    for held in profile.facts.values() {
        let attribute = match &held.fact.claim {
            Claim::Site { country, .. } | Claim::Operator { country, .. } => place(*country, held.evidence)?,
            Claim::Control { .. } => match control(profile)? {
                Some(control) => control,
                None => continue,
            },
            Claim::Jurisdiction { countries } | Claim::Personnel { countries } => {
                places(countries, held.evidence, None)?
            }
            Claim::Energy { renewable_percent, carbon_g_per_kwh, pue_percent } => record(vec![
                ("renewable_percent", number(*renewable_percent)),
                ("carbon_g_per_kwh", number(*carbon_g_per_kwh)),
                ("pue_percent", number(*pue_percent)),
                ("evidence", satisfied(held.evidence)?),
            ])?,
            _ => continue,
        };
        attributes.push((held.fact.claim.kind().attribute().to_owned(), attribute));
    }
    if let Some(chips) = chips(profile)? {
        attributes.push(("chips".to_owned(), chips));
    }
    let scheme = |claim: &Claim| if let Claim::Certification { scheme } = claim { Some(*scheme) } else { None };
    attributes.push(("certifications".to_owned(), graded(profile, "Certification", scheme)?));
    let country = |claim: &Claim| if let Claim::Clearance { country } = claim { Some(*country) } else { None };
    attributes.push(("clearances".to_owned(), graded(profile, "Country", country)?));
    attributes.push(("seals".to_owned(), seal_grades(seals)?));
    let share = ("vendor_share_percent", number(u32::from(usage.vendor_share_percent)));
    attributes.push(("usage".to_owned(), record(vec![share])?));
    Ok(attributes)
}

/// Control begins with the operator: without it, nothing is known of control, and with it control is only as well
/// evidenced as the weaker of the two. Shares are not multiplied down the chain: who holds all of a holding that holds
/// little decides what the holding does. An operator outside the EU is control from outside, whole.
fn control(profile: &Profile) -> Result<Option<Expr>, String> {
    let (Some(operator), Some(held)) = (profile.facts.get("operator"), profile.facts.get("control")) else {
        return Ok(None);
    };
    let (Claim::Operator { country: home, .. }, Claim::Control { owners }) = (&operator.fact.claim, &held.fact.claim)
    else {
        return Ok(None);
    };
    let countries = owners.iter().map(|owner| owner.country).chain([*home]).collect();
    let foreign = owners.iter().filter(|owner| !owner.country.in_eu()).map(|owner| owner.share_ppm).max();
    let foreign = if home.in_eu() { foreign.unwrap_or(0) } else { SHARE_PPM_MAX };
    let share = ("foreign_share_ppm", number(foreign));
    places(&countries, held.evidence.min(operator.evidence), Some(share)).map(Some)
}

/// The chips as one attribute, only as well evidenced as the weakest fact about them; absent where any is contested,
/// because one that is not known could be of any make.
fn chips(profile: &Profile) -> Result<Option<Expr>, String> {
    let (mut vendors, mut origins, mut capabilities) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut weakest = Evidence::A;
    for held in profile.of_attribute("chips") {
        if let Claim::Chip { vendor, origin, capability, .. } = &held.fact.claim {
            vendors.insert(*vendor);
            origins.insert(*origin);
            capabilities.push(capability.as_ref());
            weakest = weakest.min(held.evidence);
        }
    }
    if vendors.is_empty() || profile.contested_of("chips").next().is_some() {
        return Ok(None);
    }
    let mut fields = vec![
        ("vendors", set("Vendor", &vendors)?),
        ("origins", set("Country", &origins)?),
        ("evidence", satisfied(weakest)?),
    ];
    let all: Option<Vec<&Capability>> = capabilities.into_iter().collect();
    if let Some((first, rest)) = all.as_deref().and_then(<[_]>::split_first) {
        let both = |a: BTreeSet<Precision>, b: &&Capability| a.intersection(&b.precisions).copied().collect();
        let precisions = rest.iter().fold(first.precisions.clone(), both);
        let memory = rest.iter().fold(first.memory_gib, |least, one| least.min(one.memory_gib));
        let can = vec![("precisions", set("Precision", &precisions)?), ("memory_gib", number(memory))];
        fields.push(("capability", record(can)?));
    }
    record(fields).map(Some)
}

/// A set that facts of one kind make up, once for each evidence class.
fn graded<T: Closed>(profile: &Profile, kind: &str, pick: impl Fn(&Claim) -> Option<T>) -> Result<Expr, String> {
    let at_least = |class: Evidence| {
        let held = profile.facts.values().filter(|held| held.evidence >= class);
        set(kind, &held.filter_map(|held| pick(&held.fact.claim)).collect::<BTreeSet<T>>())
    };
    grades(at_least(Evidence::C)?, at_least(Evidence::B)?, at_least(Evidence::A)?)
}

fn grades(declared: Expr, attested: Expr, measured: Expr) -> Result<Expr, String> {
    record(vec![("declared", declared), ("attested", attested), ("measured", measured)])
}

fn seal_grades(seals: &[FrameworkSeals]) -> Result<Expr, String> {
    let grade = |pick: fn(&FrameworkSeals) -> &BTreeMap<String, u8>| {
        let framework = |one| {
            let levels = pick(one).iter().map(|(objective, seal)| (objective.clone(), number(u32::from(*seal))));
            Ok((one.framework.clone(), Expr::new_record(levels).map_err(|e| e.to_string())?))
        };
        let all = seals.iter().map(framework).collect::<Result<Vec<_>, String>>()?;
        Expr::new_record(all).map_err(|e| e.to_string())
    };
    grades(grade(|one| &one.declared)?, grade(|one| &one.attested)?, grade(|one| &one.measured)?)
}

/// One entity for each model that facts speak of.
pub(super) fn models(profile: &Profile) -> Result<Vec<Entity>, String> {
    let mut models: BTreeMap<&str, Attributes> = BTreeMap::new();
    for held in profile.facts.values() {
        let evidence = || Ok::<_, String>(("evidence", satisfied(held.evidence)?));
        let (model, attribute, says) = match &held.fact.claim {
            Claim::ModelOrigin { model, country } => (model, "origin", place(*country, held.evidence)?),
            Claim::ModelLicence { model, licence } => {
                let open = ("open", Expr::new_bool(licence.is_open()));
                (model, "licence", record(vec![("kind", value("Licence", licence)?), open, evidence()?])?)
            }
            Claim::ModelDigest { model, sha256 } => {
                (model, "digest", record(vec![("sha256", Expr::new_string(sha256.to_hex())), evidence()?])?)
            }
            Claim::ModelLanguages { model, languages } => {
                let evaluated = ("evaluated", set("Language", languages)?);
                (model, "languages", record(vec![evaluated, evidence()?])?)
            }
            _ => continue,
        };
        models.entry(model.as_str()).or_default().push((attribute.to_owned(), says));
    }
    let entity = |(model, attributes): (&str, Attributes)| {
        let uid = uid("Model", model)?;
        Entity::new(uid, attributes.into_iter().collect(), std::iter::empty().collect()).map_err(|e| e.to_string())
    };
    models.into_iter().map(entity).collect()
}
