//! From what the solver found to a request file: facts that give the same attributes, decided again before it is shown.
//!
//! The solver speaks of attributes; people and nodes speak of facts. What facts cannot reproduce is said, never shown. What
//! the exception does not need is left out, one fact at a time. Asking the solver is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::{EntityUid, EvalResult};
use cedar_policy_symcc::Env;
use polder_core::ids::{ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::{Action, Closed as _};
use polder_core::placement::{Outcome, decide, refusals};
use polder_core::policy::{Layer, LayerKind, PolicySchema};
use polder_core::world::{FactoryText, PolicyText, World, WorldRequest};

use super::facts::{self, closed, members};
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
        let (Some((other, refuses)), Some(ground)) = (&self.other, snapshot.basis.grounds.first()) else {
            return Ok(());
        };
        let refused = !refusals(other, &ground.column, &request, &self.schema).is_empty();
        if refused == *refuses { Ok(()) } else { Err("it meets what is claimed".to_owned()) }
    }

    /// Leaves out what the exception does not need.
    fn shrink(&self, request: &mut WorldRequest, expected: Expected) {
        self.attempt(request, expected, |smaller| smaller.model = None);
        self.attempt(request, expected, |smaller| {
            smaller.world.factories.iter_mut().for_each(|factory| factory.vendor_share_percent = 0);
        });
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
        // The solver's model may have a name that is none here; then the one below stands for it.
        let model = context.get("model").map(|model| match &model {
            EvalResult::EntityUid(uid) => (env.entities.get(uid), ModelId::parse(uid.id().unescaped())),
            _ => (None, ModelId::parse("")),
        });
        let (of_model, model) = match model {
            Some((entity, name)) => {
                let name = name.or_else(|_| ModelId::parse("model")).map_err(|e| e.to_string())?;
                (entity, Some(name))
            }
            None => (None, None),
        };
        let mut described = facts::of_factory(entity, &self.schema, action, model.is_some())?;
        if let (Some(entity), Some(model)) = (of_model, &model) {
            described.extend(facts::of_model(entity, model)?);
        }
        let vendor_share_percent = facts::usage(entity);
        let factory = FactoryText { name: node(factory)?, facts: described, vendor_share_percent, terms };
        // Names that the solver makes up are seldom names here; the ones below stand for any.
        Ok(WorldRequest {
            about: Some(self.about.clone()),
            action,
            tenant: TenantId::parse(&tenant).or_else(|_| TenantId::parse("tenant")).map_err(|e| e.to_string())?,
            project: ProjectId::parse(&text("project"))
                .or_else(|_| ProjectId::parse("project"))
                .map_err(|e| e.to_string())?,
            model,
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
