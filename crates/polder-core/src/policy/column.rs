//! A factory and a case as Cedar sees them: entities and requests built from parts, never parsed from text.
//!
//! A column is valid as long as the profile and the usage behind it. Load and price are absent: they never touch a
//! policy. The attributes themselves are written in `attributes`.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression as Expr};

use super::attributes::{self, set, value};
use super::schema::uid;
use super::{FactRead, PolicySchema};
use crate::facts::{Held, Profile};
use crate::framework::{FrameworkSeals, Touch, seals};
use crate::ids::{ModelId, NodeId, ProjectId, TenantId};
use crate::labels::{Action, Closed as _, Country, DataClass, Language, Purpose};

/// A factory with its facts, ready to be asked about.
#[derive(Debug, Clone)]
pub struct Column {
    uid: EntityUid,
    profile: Profile,
    usage: Usage,
    schema: PolicySchema,
    /// One for each set of touched parts, made when it is first asked for.
    facets: [OnceLock<Result<Facet, String>>; 4],
}

/// What Cedar sees of a factory for one set of touched parts.
#[derive(Debug, Clone)]
struct Facet {
    entities: Entities,
    seals: Vec<FrameworkSeals>,
}

/// What the tenant's own use of late says about a factory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Share of the tenant's last 30 days that ran on chips of this factory's vendors, the largest of them, in per cent.
    pub vendor_share_percent: u8,
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
    /// The model, where there is one.
    pub model: Option<ModelId>,
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
    pub fn new(factory: &NodeId, profile: Profile, usage: Usage, schema: &PolicySchema) -> Result<Self, String> {
        let uid = uid("Factory", factory.as_str())?;
        let column = Self { uid, profile, usage, schema: schema.clone(), facets: Default::default() };
        // What most requests touch is made at once, so that a factory that cannot be asked about is known at once.
        column.facet(Action::Infer, true)?;
        Ok(column)
    }

    /// What the factory's facts amount to.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What the tenant's use of late says about the factory.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The SEALs of an action here, one entry for each framework version.
    pub fn seals(&self, action: Action, with_model: bool) -> Result<&[FrameworkSeals], String> {
        self.facet(action, with_model).map(|facet| facet.seals.as_slice())
    }

    /// The factory as Cedar sees it, for whoever asks Cedar without Polder.
    pub fn cedar(&self, action: Action, with_model: bool) -> Result<&Entities, String> {
        self.facet(action, with_model).map(|facet| &facet.entities)
    }

    pub(super) fn entities(&self, case: &Case) -> Result<&Entities, String> {
        self.cedar(case.action, case.model.is_some())
    }

    fn facet(&self, action: Action, with_model: bool) -> Result<&Facet, String> {
        let place = usize::from(action.computes()) * 2 + usize::from(with_model);
        let facet = self.facets.get(place).ok_or("no such facet")?;
        let made = facet.get_or_init(|| self.make(&touches(action, with_model)));
        made.as_ref().map_err(Clone::clone)
    }

    fn make(&self, touches: &BTreeSet<Touch>) -> Result<Facet, String> {
        let seals = seals(&self.schema.frameworks, &self.profile, touches);
        let mut entities = attributes::models(&self.profile)?;
        let factory = attributes::factory(&self.profile, self.usage, &seals)?;
        entities.push(
            Entity::new(self.uid.clone(), factory.into_iter().collect(), std::iter::empty().collect())
                .map_err(|e| e.to_string())?,
        );
        let entities = Entities::from_entities(entities, Some(&self.schema.schema)).map_err(|e| e.to_string())?;
        Ok(Facet { entities, seals })
    }

    /// The facts behind one attribute, or the lack of them. Control is made of the operator and its owners, so both
    /// stand there; what is read of a model is what stands about the case's model.
    pub(super) fn read(&self, attribute: &str, case: &Case) -> Vec<FactRead> {
        match attribute {
            "control" => [self.read_one("operator", None), self.read_one("control", None)].concat(),
            "seals" => self.read_seals(case),
            "usage" => {
                let says = format!("{} % of the last 30 days on its vendors", self.usage.vendor_share_percent);
                vec![plain(attribute, says)]
            }
            _ => self.read_one(attribute, attribute.starts_with("model.").then_some(case.model.as_ref()).flatten()),
        }
    }

    fn read_one(&self, attribute: &str, model: Option<&ModelId>) -> Vec<FactRead> {
        let meant = |held: &&Held| {
            model.is_none_or(|model| held.fact.claim.slot() == format!("{attribute}/{model}"))
                && (model.is_some() || !attribute.starts_with("model."))
        };
        let found: Vec<FactRead> = self.profile.of_attribute(attribute).filter(meant).map(read).collect();
        let contested = self.profile.contested_of(attribute).filter(meant);
        let contested = contested.map(read).map(|one| FactRead { says: format!("contested: {}", one.says), ..one });
        let all: Vec<FactRead> = found.into_iter().chain(contested).collect();
        if all.is_empty() { vec![plain(attribute, "absent".to_owned())] } else { all }
    }

    /// The SEALs in a few words: attested ones, as these are what most owners ask for.
    fn read_seals(&self, case: &Case) -> Vec<FactRead> {
        let Ok(all) = self.seals(case.action, case.model.is_some()) else { return Vec::new() };
        let one = |seals: &FrameworkSeals| {
            let levels = |of: &std::collections::BTreeMap<String, u8>| {
                of.iter().map(|(objective, seal)| format!("{objective} {seal}")).collect::<Vec<_>>().join(", ")
            };
            let (declared, attested) = (levels(&seals.declared), levels(&seals.attested));
            plain("seals", format!("{}: attested {attested}; declared {declared}", seals.framework))
        };
        all.iter().map(one).collect()
    }
}

/// The parts that a request touches: who runs the factory and where the data goes always, the accelerators where they
/// work, the model where there is one.
pub fn touches(action: Action, with_model: bool) -> BTreeSet<Touch> {
    let mut touches = BTreeSet::from([Touch::Operator, Touch::Route]);
    if action.computes() {
        touches.insert(Touch::Chip);
    }
    if with_model {
        touches.insert(Touch::Model);
    }
    touches
}

fn plain(attribute: &str, says: String) -> FactRead {
    FactRead { kind: attribute.to_owned(), says, evidence: None, issuer: None, from_ms: None }
}

fn read(held: &Held) -> FactRead {
    FactRead {
        kind: held.fact.claim.kind().attribute().to_owned(),
        says: held.fact.claim.words(),
        evidence: Some(held.evidence),
        issuer: Some(held.fact.issuer.clone()),
        from_ms: Some(held.fact.from_ms),
    }
}

/// A case as Cedar takes it, made ready once and asked about any factory.
#[derive(Debug, Clone)]
pub struct Question {
    case: Case,
    principal: EntityUid,
    action: EntityUid,
    context: Context,
}

impl Question {
    /// Makes a case ready and holds it against the schema. An error means that nothing can be asked: refuse.
    pub fn new(case: Case, schema: &PolicySchema) -> Result<Self, String> {
        let mut context = vec![
            ("class".to_owned(), value("Class", &case.class)?),
            ("purpose".to_owned(), value("Purpose", &case.purpose)?),
            ("project".to_owned(), Expr::new_string(case.project.as_str().to_owned())),
        ];
        if let Some(model) = &case.model {
            context.push(("model".to_owned(), Expr::new_entity_uid(uid("Model", model.as_str())?)));
        }
        if let Some(countries) = &case.countries {
            context.push(("countries".to_owned(), set("Country", countries)?));
        }
        if let Some(language) = &case.language {
            context.push(("language".to_owned(), value("Language", language)?));
        }
        let context = Context::from_pairs(context).map_err(|e| e.to_string())?;
        let principal = uid("Tenant", case.tenant.as_str())?;
        let action = uid("Action", case.action.as_str())?;
        // What differs from factory to factory is only the resource's id, of which the schema asks nothing.
        let any = uid("Factory", "any")?;
        Request::new(principal.clone(), action.clone(), any, context.clone(), Some(&schema.schema))
            .map_err(|e| e.to_string())?;
        Ok(Self { case, principal, action, context })
    }

    /// The case that is asked about.
    pub fn case(&self) -> &Case {
        &self.case
    }

    pub(super) fn about(&self, column: &Column) -> Result<Request, String> {
        let (principal, action) = (self.principal.clone(), self.action.clone());
        Request::new(principal, action, column.uid.clone(), self.context.clone(), None).map_err(|e| e.to_string())
    }
}
