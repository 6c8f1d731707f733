//! Audit: an independent, simpler check of a decision, from its statement and the texts and facts of its time.
//!
//! It shares only `facts` and plain data with what it checks. Policies are parsed anew and evaluated without Cedar,
//! entities and contexts are plain JSON rather than parts, labels are checked without any policy, and the choice is found
//! by looking at every pair. Absent: speed, and any word on whether a fact was true.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::canonical::{Digest, hash};
use crate::facts::{Claim, Passport, Profile, Trust, TrustedIssuer, believe, facts_root, passport_root};
use crate::framework::{Framework, FrameworkSeals};
use crate::ids::NodeId;
use crate::labels::{Closed as _, Purpose};
use crate::placement::{Outcome, Verdict};
use crate::policy::{Cause, LayerKind, PolicySchema};
use crate::request::Request;
use crate::statement::v1::{DecisionRecord, DecisionStatement};

mod attributes;
mod evaluate;

use attributes::{countries_of, entity};
use evaluate::{Entities, Policies, Question};

/// What an auditor holds beside the statement.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// The text of the federation's baseline.
    pub baseline: String,
    /// The text of the owner's policy.
    pub owner: String,
    /// What each factory published.
    pub factories: BTreeMap<NodeId, FactoryRecord>,
    /// The issuers that the owner trusts.
    pub trust: Vec<TrustedIssuer>,
    /// The framework versions that policies could name.
    pub frameworks: Vec<Framework>,
}

/// What one factory published.
#[derive(Debug, Clone)]
pub struct FactoryRecord {
    /// The text of its terms.
    pub terms: String,
    /// Its facts.
    pub passport: Passport,
    /// Its authority key.
    pub authority: [u8; 32],
}

/// Everything in which a decision's statement and tables and the records disagree; empty where the decision holds.
pub fn disagreements(decision: &DecisionRecord, records: &Records) -> Vec<String> {
    let Examined { mut disagreements, told } = examine(decision, records);
    disagreements.extend(told.into_iter().map(|told| format!("{told}: the terms on record do not say so")));
    disagreements
}

/// What came of looking at a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// In what statement, tables and records disagree.
    pub disagreements: Vec<String>,
    /// What a factory is said to have refused by itself, beyond the terms on record, as `factory: rule`. Nobody else can know:
    /// it only forbids, and is the home's word.
    pub told: Vec<String>,
}

/// The same, apart from what only a factory can have said.
pub fn examine(decision: &DecisionRecord, records: &Records) -> Examined {
    let DecisionRecord { statement, verdicts, .. } = decision;
    let (mut found, mut told) = (Vec::new(), Vec::new());
    if decision.tables().digests().and_then(|digests| digests.digest()) != Ok(statement.tables) {
        found.push("the tables are not the ones that the statement names".to_owned());
    }
    let texts = [
        ("baseline", statement.policies.baseline, records.baseline.as_str()),
        ("owner", statement.policies.owner, records.owner.as_str()),
    ];
    for (name, digest, text) in texts {
        if digest != policy_digest(text) {
            found.push(format!("the {name} policy is not the one that was asked"));
        }
    }
    let schema = PolicySchema::new(records.frameworks.clone()).map(|schema| schema.digest());
    if schema != Ok(statement.policies.schema) {
        found.push("the schema, or a framework that it names, is not the one that policies were read by".to_owned());
    }
    let mut roots = BTreeMap::new();
    let mut parsed = Parsed::new();
    for verdict in verdicts {
        match records.factories.get(&verdict.factory) {
            Some(record) => {
                for text in [&records.baseline, &records.owner, &record.terms] {
                    parsed.entry(text).or_insert_with(|| Policies::parse(text));
                }
                told.extend(check_verdict(statement, records, (verdict, record), &parsed, &mut roots, &mut found));
            }
            None => found.push(format!("nothing is on record about `{}`", verdict.factory)),
        }
    }
    if statement.policies.trust != trust_digest(records) {
        found.push("the issuers and members' keys are not the ones that were believed".to_owned());
    }
    check_seals(decision, records, &mut found);
    check_carbon(decision, records, &mut found);
    if facts_root(&roots) != statement.facts {
        found.push("the root over the facts differs".to_owned());
    }
    check_choice(decision, &mut found);
    Examined { disagreements: found, told }
}

/// Each text that was met, read once; `None` where it cannot be read.
type Parsed<'a> = BTreeMap<&'a str, Option<Policies>>;

/// The digest of whose facts count.
fn trust_digest(records: &Records) -> Digest {
    let members = records.factories.iter().map(|(node, record)| (node.clone(), record.authority));
    Trust::new(records.trust.clone(), members).digest().unwrap_or_default()
}

fn policy_digest(text: &str) -> Digest {
    hash("polder/policy/v1", &[text.as_bytes()])
}

/// Checks a verdict; what the factory alone is said to have refused.
fn check_verdict(
    statement: &DecisionStatement,
    records: &Records,
    (verdict, record): (&Verdict, &FactoryRecord),
    parsed: &Parsed<'_>,
    roots: &mut BTreeMap<NodeId, Digest>,
    found: &mut Vec<String>,
) -> Vec<String> {
    let (name, mut told) = (&verdict.factory, Vec::new());
    if verdict.terms != policy_digest(&record.terms) {
        found.push(format!("the terms of `{name}` are not the ones that were asked"));
    }
    match passport_root(&record.passport) {
        Ok(root) if root == verdict.passport => drop(roots.insert(name.clone(), root)),
        // Of whom nothing was ever heard there is no root.
        _ if record.passport.is_empty() && verdict.passport == Digest::default() => {
            roots.insert(name.clone(), verdict.passport);
        }
        _ => found.push(format!("the facts of `{name}` are not the ones that were read")),
    }
    let held = believe(name, &record.passport, &record.authority, &records.trust);
    let profile = Profile::at(&held, statement.at_ms);
    let share = verdict.inputs.vendor_share_percent;
    let entities = entities(name, &profile, &statement.request, share, &records.frameworks);
    let said: BTreeSet<(LayerKind, &str)> = verdict
        .causes
        .iter()
        .filter(|cause| cause.layer != LayerKind::Availability)
        .map(|cause| (cause.layer, cause.rule.as_str()))
        .collect();
    for (layer, text) in [
        (LayerKind::Baseline, &records.baseline),
        (LayerKind::Owner, &records.owner),
        (LayerKind::Terms, &record.terms),
    ] {
        let mut refused = BTreeSet::new();
        if statement.request.labels.purposes.is_empty() {
            refused.insert("no-purpose".to_owned());
        }
        for purpose in &statement.request.labels.purposes {
            let policies = parsed.get(text.as_str()).and_then(Option::as_ref);
            refused.extend(ask(&statement.request, *purpose, name, entities.as_ref(), policies));
        }
        let said: BTreeSet<String> = said.iter().filter(|(l, _)| *l == layer).map(|(_, r)| (*r).to_owned()).collect();
        if layer == LayerKind::Terms && refused.is_subset(&said) {
            told.extend(said.difference(&refused).map(|rule| format!("{name}: {rule}")));
        } else if refused != said {
            found.push(format!("`{name}`: the {layer:?} layer refuses by {refused:?}, the statement says {said:?}"));
        }
    }
    let refuses = labels_refuse(statement, &profile);
    if refuses != said.iter().any(|(layer, _)| *layer == LayerKind::Labels) {
        found.push(format!("`{name}`: the statement and its labels disagree"));
    }
    told
}

/// Whether the labels layer refuses: the site is in none of the named countries, or there is no purpose to ask with.
fn labels_refuse(statement: &DecisionStatement, profile: &Profile) -> bool {
    let labels = &statement.request.labels;
    let Some(countries) = labels.countries.as_ref().filter(|_| !labels.purposes.is_empty()) else {
        return labels.purposes.is_empty();
    };
    match profile.facts.get("site").map(|held| &held.fact.claim) {
        Some(Claim::Site { country, .. }) => !countries.contains(country),
        _ => true,
    }
}

/// The ids of the rules by which one layer refuses; one made-up id where it cannot even be asked.
fn ask(
    request: &Request,
    purpose: Purpose,
    factory: &NodeId,
    entities: Option<&Entities>,
    policies: Option<&Policies>,
) -> BTreeSet<String> {
    let question = entities.and_then(|entities| question(request, purpose, factory, entities));
    match (policies, question) {
        (Some(policies), Some(question)) => policies.refusals(&question),
        _ => BTreeSet::from(["policy-error".to_owned()]),
    }
}

/// The entities that hold anything: the factory, and the models that its facts speak of. The request counts only by
/// what it touches.
fn entities(
    factory: &NodeId,
    profile: &Profile,
    request: &Request,
    vendor_share_percent: u8,
    frameworks: &[Framework],
) -> Option<Entities> {
    let mut of_factory = attributes::factory(profile, vendor_share_percent);
    let seals = attributes::seals(frameworks, profile, request.action, request.model.is_some());
    of_factory.as_object_mut()?.insert("seals".to_owned(), seals);
    let name = evaluate::Value::named("Factory", factory.as_str());
    let mut entities = Entities::from([(name, evaluate::Value::read(&of_factory)?)]);
    for (model, of_model) in attributes::models(profile) {
        let name = evaluate::Value::named("Model", &model);
        entities.insert(name, evaluate::Value::read(&Value::Object(of_model))?);
    }
    Some(entities)
}

fn question<'a>(request: &Request, purpose: Purpose, factory: &NodeId, entities: &'a Entities) -> Option<Question<'a>> {
    let labels = &request.labels;
    let mut context = json!({
        "class": entity("Class", labels.class.as_str()),
        "purpose": entity("Purpose", purpose.as_str()),
        "project": request.project.as_str(),
    });
    let fields = context.as_object_mut()?;
    if let Some(model) = &request.model {
        fields.insert("model".to_owned(), entity("Model", model.as_str()));
    }
    if let Some(countries) = &labels.countries {
        fields.insert("countries".to_owned(), countries_of(countries));
    }
    if let Some(language) = &labels.language {
        fields.insert("language".to_owned(), entity("Language", language.as_str()));
    }
    Some(Question {
        principal: evaluate::Value::named("Tenant", request.tenant.as_str()),
        action: evaluate::Value::named("Action", request.action.as_str()),
        resource: evaluate::Value::named("Factory", factory.as_str()),
        context: evaluate::Value::read(&context)?,
        entities,
    })
}

/// The SEALs that the statement shows are those of the chosen factory's facts.
fn check_seals(decision: &DecisionRecord, records: &Records, found: &mut Vec<String>) {
    let DecisionRecord { statement: s, seals, .. } = decision;
    let chosen = s.factory.as_ref().and_then(|name| Some((name, records.factories.get(name)?)));
    let Some((name, record)) = chosen else {
        if !seals.is_empty() {
            found.push("the statement shows SEALs of no factory".to_owned());
        }
        return;
    };
    let held = believe(name, &record.passport, &record.authority, &records.trust);
    let expected = attributes::seals(
        &records.frameworks,
        &Profile::at(&held, s.at_ms),
        s.request.action,
        s.request.model.is_some(),
    );
    let digests = |said: &FrameworkSeals| {
        records.frameworks.iter().any(|one| one.id() == said.framework && one.digest() == said.digest)
    };
    let grade = |pick: fn(&FrameworkSeals) -> &BTreeMap<String, u8>| -> Value {
        seals.iter().map(|said| (said.framework.clone(), json!(pick(said)))).collect::<Map<_, _>>().into()
    };
    let said = json!({
        "declared": grade(|one| &one.declared), "attested": grade(|one| &one.attested),
        "measured": grade(|one| &one.measured),
    });
    if said != expected || !seals.iter().all(digests) {
        found.push(format!("the SEALs are not those of the facts of `{name}`"));
    }
}

/// Where carbon was weighed, it is what the facts give: of who says nothing, the worst that anybody says.
fn check_carbon(decision: &DecisionRecord, records: &Records, found: &mut Vec<String>) {
    let DecisionRecord { statement: s, verdicts, .. } = decision;
    if s.weights.carbon == 0 {
        return;
    }
    let said = |verdict: &Verdict| {
        let record = records.factories.get(&verdict.factory)?;
        let held = believe(&verdict.factory, &record.passport, &record.authority, &records.trust);
        match Profile::at(&held, s.at_ms).facts.get("energy")?.fact.claim {
            Claim::Energy { carbon_g_per_kwh: grams, pue_percent, .. } => {
                Some(u64::from(grams) * u64::from(pue_percent) * 10)
            }
            _ => None,
        }
    };
    let said: Vec<Option<u64>> = verdicts.iter().map(said).collect();
    let worst = said.iter().flatten().max().copied().unwrap_or_default();
    for (verdict, said) in verdicts.iter().zip(&said).filter(|(verdict, _)| verdict.causes.is_empty()) {
        if verdict.inputs.carbon_mg_per_kwh != said.unwrap_or(worst) {
            found.push(format!("`{}`: the carbon is not what the facts give", verdict.factory));
        }
    }
}

fn check_choice(decision: &DecisionRecord, found: &mut Vec<String>) {
    let DecisionRecord { statement, verdicts, .. } = decision;
    let weights = &statement.weights;
    for verdict in verdicts {
        let products = [
            (verdict.inputs.price_microeur_per_mtok, weights.price),
            (verdict.inputs.load_ppm, weights.load),
            (verdict.inputs.rtt_us, weights.latency),
            (verdict.inputs.queue_ppm, weights.queue),
            (verdict.inputs.first_token_us, weights.first_token),
            (verdict.inputs.carbon_mg_per_kwh, weights.carbon),
            (verdict.inputs.affinity_ppm, weights.affinity),
        ];
        let sum: u128 = products.iter().map(|(input, weight)| u128::from(*input) * u128::from(*weight)).sum();
        // Who is refused is not weighed; the first statements weighed them all the same, to no effect.
        let unweighed = !verdict.causes.is_empty() && verdict.score == 0;
        if !unweighed && u128::from(verdict.score) != sum.min(u128::from(u64::MAX)) {
            found.push(format!("`{}`: the score is not what its inputs and the weights give", verdict.factory));
        }
    }
    let admitted: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.causes.is_empty()).collect();
    let better = |a: &Verdict, b: &Verdict| (a.score, &a.factory) < (b.score, &b.factory);
    let best = admitted.iter().find(|one| !admitted.iter().any(|other| better(other, one)));
    if statement.factory != best.map(|verdict| verdict.factory.clone()) {
        found.push("the chosen factory is not the best of those admitted".to_owned());
    }
    let full = |cause: &Cause| (cause.layer, cause.rule.as_str()) == (LayerKind::Availability, "no-capacity");
    let only_full = |verdict: &&Verdict| !verdict.causes.iter().any(|cause| !full(cause));
    let expected = match (best, verdicts.iter().find(only_full)) {
        (Some(_), _) => Outcome::Placed,
        (None, Some(_)) => Outcome::NoCapacity,
        (None, None) => Outcome::Refused,
    };
    if statement.outcome != expected {
        found.push("the outcome does not follow from the verdicts".to_owned());
    }
}

#[cfg(test)]
mod tests;
