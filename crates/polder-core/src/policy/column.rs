//! A factory and a case as Cedar sees them: entities and requests built from parts, never parsed from text.
//!
//! A column is valid as long as the profile behind it. Load and price are absent: they never touch a policy.

use std::collections::BTreeSet;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression as Expr};

use super::schema::uid;
use super::{FactRead, PolicySchema};
use crate::facts::{Certification, Claim, Evidence, Held, Profile};
use crate::ids::{ModelId, NodeId, ProjectId, TenantId};
use crate::labels::{Action, Closed, Country, DataClass, Language, Purpose};

/// A factory with its facts, ready to be asked about.
#[derive(Debug, Clone)]
pub struct Column {
    uid: EntityUid,
    entities: Entities,
    profile: Profile,
}

/// What is asked of each layer: one action of one tenant with one model for one purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is to be done.
    pub action: Action,
    /// Whose work it is.
    pub tenant: TenantId,
    /// The part of the tenant's work.
    pub project: ProjectId,
    /// The model.
    pub model: ModelId,
    /// How sensitive the data is.
    pub class: DataClass,
    /// What the work is for.
    pub purpose: Purpose,
    /// Where it may run.
    pub countries: Option<BTreeSet<Country>>,
    /// The language of the text.
    pub language: Option<Language>,
}

impl Column {
    /// The column of a factory. An error is Cedar's and means that the factory cannot be asked about: refuse it.
    pub fn new(factory: &NodeId, profile: Profile, schema: &PolicySchema) -> Result<Self, String> {
        let uid = uid("Factory", factory.as_str())?;
        let attributes = attributes(&profile)?;
        let entity = Entity::new(uid.clone(), attributes.into_iter().collect(), std::iter::empty().collect())
            .map_err(|e| e.to_string())?;
        let entities = Entities::from_entities([entity], Some(&schema.schema)).map_err(|e| e.to_string())?;
        Ok(Self { uid, entities, profile })
    }

    /// What the factory's facts amount to.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(super) fn entities(&self) -> &Entities {
        &self.entities
    }

    /// The facts behind one attribute, or the lack of them. Control is made of the operator and its owners, so both
    /// stand there.
    pub(super) fn read(&self, kind: &str) -> Vec<FactRead> {
        match kind {
            "control" => [self.read_one("operator"), self.read_one("control")].concat(),
            _ => self.read_one(kind),
        }
    }

    fn read_one(&self, kind: &str) -> Vec<FactRead> {
        let found: Vec<FactRead> = self.profile.of_kind(kind).map(read).collect();
        if !found.is_empty() {
            return found;
        }
        let contested = self.profile.contested.iter().any(|slot| slot.split('/').next() == Some(kind));
        let says = if contested { "contested" } else { "absent" };
        vec![FactRead { kind: kind.to_owned(), says: says.to_owned(), evidence: None, issuer: None, from_ms: None }]
    }
}

fn read(held: &Held) -> FactRead {
    FactRead {
        kind: held.fact.claim.kind().to_owned(),
        says: held.fact.claim.words(),
        evidence: Some(held.evidence),
        issuer: Some(held.fact.issuer.clone()),
        from_ms: Some(held.fact.from_ms),
    }
}

impl Case {
    pub(super) fn request(&self, column: &Column, schema: &PolicySchema) -> Result<Request, String> {
        let mut context = vec![
            ("class".to_owned(), value("Class", &self.class)?),
            ("purpose".to_owned(), value("Purpose", &self.purpose)?),
            ("project".to_owned(), Expr::new_string(self.project.as_str().to_owned())),
            ("model".to_owned(), Expr::new_entity_uid(uid("Model", self.model.as_str())?)),
        ];
        if let Some(countries) = &self.countries {
            context.push(("countries".to_owned(), set("Country", countries)?));
        }
        if let Some(language) = &self.language {
            context.push(("language".to_owned(), value("Language", language)?));
        }
        let context = Context::from_pairs(context).map_err(|e| e.to_string())?;
        let principal = uid("Tenant", self.tenant.as_str())?;
        let action = uid("Action", self.action.as_str())?;
        Request::new(principal, action, column.uid.clone(), context, Some(&schema.schema)).map_err(|e| e.to_string())
    }
}

fn value<T: Closed>(kind: &str, value: &T) -> Result<Expr, String> {
    Ok(Expr::new_entity_uid(uid(kind, value.as_str())?))
}

fn set<'a, T: Closed>(kind: &str, values: impl IntoIterator<Item = &'a T>) -> Result<Expr, String> {
    Ok(Expr::new_set(values.into_iter().map(|one| value(kind, one)).collect::<Result<Vec<_>, _>>()?))
}

fn record(fields: Vec<(&str, Expr)>) -> Result<Expr, String> {
    Expr::new_record(fields.into_iter().map(|(name, value)| (name.to_owned(), value))).map_err(|e| e.to_string())
}

/// The classes that a fact satisfies: its own and every weaker one.
fn satisfied(evidence: Evidence) -> Result<Expr, String> {
    set("Evidence", Evidence::all().iter().filter(|class| **class <= evidence))
}

fn attributes(profile: &Profile) -> Result<Vec<(String, Expr)>, String> {
    let mut attributes = Vec::new();
    for held in profile.facts.values() {
        let place = match &held.fact.claim {
            Claim::Site { country, .. } | Claim::Operator { country, .. } => record(vec![
                ("country", value("Country", country)?),
                ("in_eu", Expr::new_bool(country.in_eu())),
                ("in_eea", Expr::new_bool(country.in_eea())),
                ("evidence", satisfied(held.evidence)?),
            ])?,
            Claim::Control { owners } => {
                let Some((operator, evidence)) = operator(profile) else { continue };
                let countries: BTreeSet<Country> = owners.iter().map(|owner| owner.country).chain([operator]).collect();
                record(vec![
                    ("countries", set("Country", &countries)?),
                    ("in_eu", Expr::new_bool(countries.iter().all(|country| country.in_eu()))),
                    ("in_eea", Expr::new_bool(countries.iter().all(|country| country.in_eea()))),
                    ("evidence", satisfied(held.evidence.min(evidence))?),
                ])?
            }
            Claim::Chip { .. } | Claim::Certification { .. } | Claim::Clearance { .. } => continue,
        };
        attributes.push((held.fact.claim.kind().to_owned(), place));
    }
    if let Some(chips) = chips(profile)? {
        attributes.push(("chips".to_owned(), chips));
    }
    let scheme = |claim: &Claim| if let Claim::Certification { scheme } = claim { Some(*scheme) } else { None };
    attributes.push(("certifications".to_owned(), graded::<Certification>(profile, "Certification", scheme)?));
    let country = |claim: &Claim| if let Claim::Clearance { country } = claim { Some(*country) } else { None };
    attributes.push(("clearances".to_owned(), graded::<Country>(profile, "Country", country)?));
    Ok(attributes)
}

/// The operator's jurisdiction and how well it is evidenced. Control begins with the operator: without it, nothing is
/// known of control, and with it control is only as well evidenced as the weaker of the two.
fn operator(profile: &Profile) -> Option<(Country, Evidence)> {
    let held = profile.facts.get("operator")?;
    match &held.fact.claim {
        Claim::Operator { country, .. } => Some((*country, held.evidence)),
        _ => None,
    }
}

/// The chips as one attribute, only as well evidenced as the weakest fact about them.
fn chips(profile: &Profile) -> Result<Option<Expr>, String> {
    let (mut vendors, mut origins) = (BTreeSet::new(), BTreeSet::new());
    let mut weakest = Evidence::A;
    for held in profile.of_kind("chips") {
        if let Claim::Chip { vendor, origin, .. } = &held.fact.claim {
            vendors.insert(*vendor);
            origins.insert(*origin);
            weakest = weakest.min(held.evidence);
        }
    }
    if vendors.is_empty() {
        return Ok(None);
    }
    record(vec![
        ("vendors", set("Vendor", &vendors)?),
        ("origins", set("Country", &origins)?),
        ("evidence", satisfied(weakest)?),
    ])
    .map(Some)
}

/// A set that facts of one kind make up, once for each evidence class.
fn graded<T: Closed>(profile: &Profile, kind: &str, pick: impl Fn(&Claim) -> Option<T>) -> Result<Expr, String> {
    let at_least = |class: Evidence| {
        let held = profile.facts.values().filter(|held| held.evidence >= class);
        set(kind, &held.filter_map(|held| pick(&held.fact.claim)).collect::<BTreeSet<T>>())
    };
    record(vec![
        ("declared", at_least(Evidence::C)?),
        ("attested", at_least(Evidence::B)?),
        ("measured", at_least(Evidence::A)?),
    ])
}
