//! What a decision costs: on a memo hit, cold, and after a change of policy. `cargo xtask bench policy` runs it.
//!
//! Prints one line of JSON for each quantity. The policies are the demo's; factories and facts are made up. Judging the
//! figures is absent: what is asked of them stands in xtask.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark reads the clock; the core does not.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cedar_policy::{Authorizer, Context, Entities, EntityUid, PolicySet, Request as CedarRequest};
use polder_core::canonical::Digest;
use polder_core::facts::{Certification, Claim, Evidence, Fact, Held, Owner, Profile};
use polder_core::ids::{IssuerId, ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::{Action, Closed as _, Country, DataClass, Labels, Purpose};
use polder_core::placement::{Basis, Change, Factory, Ground, Inputs, Memo, Row, Snapshot, Weights, decide_by};
use polder_core::policy::{Column, LABELS_POLICY, Layer, LayerKind, PolicySchema, Usage};
use polder_core::request::Request;

const BASELINE: &str = include_str!("../../../demo/policies/baseline.cedar");
const BANK: &str = include_str!("../../../demo/policies/bank.cedar");
const DEFENCE: &str = include_str!("../../../demo/policies/defence.cedar");
const OPEN: &str = "permit (principal, action, resource);";
/// Places in Europe and elsewhere, so that some are refused by each rule.
const PLACES: [&str; 8] = ["FR", "DE", "FI", "IT", "PL", "US", "NO", "CH"];

fn main() {
    let schema = Arc::new(PolicySchema::shipped().unwrap());
    for count in [50, 1_000] {
        hits(&schema, count);
    }
    cold(&schema, 50);
    refusal(&schema);
    activation(&schema, 1_000, 1_000);
}

fn print(name: &str, value: f64, unit: &str, baseline: Option<f64>) {
    println!("{}", serde_json::json!({"name": name, "value": value, "unit": unit, "baseline": baseline}));
}

fn layer(schema: &PolicySchema, kind: LayerKind, text: &str) -> Arc<Layer> {
    Arc::new(Layer::parse(kind, "bench.cedar", text, schema).unwrap())
}

fn held(factory: &NodeId, claim: Claim) -> Held {
    let issuer = IssuerId::parse("register").unwrap();
    let fact = Fact { subject: factory.clone(), claim, evidence: Evidence::B, issuer, from_ms: 0, until_ms: u64::MAX };
    Held { fact, evidence: Evidence::B, digest: Digest::default(), key: [0; 32] }
}

fn grounds(schema: &PolicySchema, count: usize) -> Vec<Ground> {
    let terms = layer(schema, LayerKind::Terms, OPEN);
    let offers = [(Action::Infer, Some(ModelId::parse("polder-toy").unwrap()))];
    let offers = Arc::new(BTreeSet::from(offers));
    let ground = |place: usize| {
        let id = NodeId::parse(&format!("factory-{place:04}")).unwrap();
        let country = Country::parse(PLACES[place % PLACES.len()]).unwrap();
        let owner = Owner { name: "Owner".to_owned(), country, share_ppm: 1_000_000 };
        let claims = [
            Claim::Site { country, city: "Town".to_owned() },
            Claim::Operator { name: "Operator".to_owned(), country },
            Claim::Control { owners: vec![owner] },
            Claim::Certification { scheme: Certification::Iso27001 },
        ];
        let held: Vec<Held> = claims.into_iter().map(|claim| held(&id, claim)).collect();
        let column = Column::new(&id, Profile::at(&held, 1), Usage::default(), schema).unwrap();
        let (column, terms, offers) = (Arc::new(column), Arc::clone(&terms), Arc::clone(&offers));
        Ground { id, column, passport: Digest::default(), terms, offers }
    };
    (0..count).map(ground).collect()
}

fn snapshot(schema: &Arc<PolicySchema>, owner: &Arc<Layer>, grounds: &[Ground]) -> Snapshot {
    let basis = Basis {
        schema: Arc::clone(schema),
        baseline: layer(schema, LayerKind::Baseline, BASELINE),
        owner: Arc::clone(owner),
        labels: layer(schema, LayerKind::Labels, LABELS_POLICY),
        trust: Digest::default(),
        grounds: grounds.to_vec(),
    };
    snapshot_of(Arc::new(basis))
}

fn snapshot_of(basis: Arc<Basis>) -> Snapshot {
    let factory = |place: usize| Factory {
        unavailable: Vec::new(),
        inputs: Inputs { price_microeur_per_mtok: (place as u64 * 7_919) % 10_007, ..Inputs::default() },
    };
    let factories = (0..basis.grounds.len()).map(factory).collect();
    Snapshot::new(
        1,
        basis,
        Digest::default(),
        Weights { price: 1, load: 1, latency: 1, ..Weights::default() },
        factories,
    )
}

/// Every label tuple of 4 classes, 8 purposes and 2 projects.
fn requests() -> Vec<Request> {
    let mut all = Vec::new();
    for class in DataClass::all() {
        for purpose in Purpose::all() {
            for project in ["website", "customer-service"] {
                all.push(Request {
                    action: Action::Infer,
                    tenant: TenantId::parse("bank").unwrap(),
                    project: ProjectId::parse(project).unwrap(),
                    model: Some(ModelId::parse("polder-toy").unwrap()),
                    labels: Labels { class, purposes: [purpose].into(), countries: None, language: None },
                });
            }
        }
    }
    all
}

/// The quickest of several runs: what the code needs when nothing disturbs it.
fn quickest(runs: u32, mut run: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let before = Instant::now();
        run();
        best = best.min(before.elapsed());
    }
    best
}

fn hits(schema: &Arc<PolicySchema>, count: usize) {
    const ROUNDS: usize = 20_000;
    let grounds = grounds(schema, count);
    let snapshot = snapshot(schema, &layer(schema, LayerKind::Owner, BANK), &grounds);
    let requests = requests();
    let mut memo = Memo::default();
    for request in &requests {
        memo.keep(Arc::new(Row::new(&snapshot.basis, request)));
    }
    let took = quickest(5, || {
        for _ in 0..ROUNDS {
            for request in &requests {
                black_box(memo.choose(&snapshot, black_box(request)).unwrap());
            }
        }
    });
    let decisions = (ROUNDS * requests.len()) as f64;
    print(&format!("memo hit, {count} factories"), decisions / took.as_secs_f64(), "decisions/s", None);
    let rows = memo.len() as f64;
    print(&format!("memory of a row, {count} factories"), memo.bytes() as f64 / rows, "bytes", None);
}

/// One label tuple at every factory, and the Cedar calls that it cannot do without: the same policies, entities and
/// requests, made ready beforehand.
fn cold(schema: &Arc<PolicySchema>, count: usize) {
    let grounds = grounds(schema, count);
    let owner = layer(schema, LayerKind::Owner, BANK);
    let snapshot = snapshot(schema, &owner, &grounds);
    let request = requests().into_iter().find(|one| one.labels.class == DataClass::Customer).unwrap();
    let basis = &snapshot.basis;
    let sets: Vec<PolicySet> =
        [&basis.baseline, &basis.owner, &basis.labels, &grounds[0].terms].map(|layer| layer.cedar().clone()).into();
    let questions: Vec<(CedarRequest, Entities)> = grounds.iter().map(|ground| question(schema, ground)).collect();
    let authorizer = Authorizer::new();
    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    // Taken in turn, so that a slow moment of the machine hits both.
    for _ in 0..40 {
        bare = bare.min(quickest(5, || {
            for (question, entities) in &questions {
                for set in &sets {
                    black_box(authorizer.is_authorized(question, set, entities));
                }
            }
        }));
        ours = ours.min(quickest(5, || drop(black_box(Row::new(basis, black_box(&request))))));
    }
    let micros = |took: Duration| took.as_secs_f64() * 1e6;
    print(&format!("cold label tuple, {count} factories"), micros(ours), "us", Some(micros(bare)));
}

fn question(schema: &PolicySchema, ground: &Ground) -> (CedarRequest, Entities) {
    let uid = |kind: &str, id: &str| -> EntityUid { format!("{kind}::\"{id}\"").parse().unwrap() };
    let context = serde_json::json!({
        "class": {"__entity": {"type": "Class", "id": "customer"}},
        "purpose": {"__entity": {"type": "Purpose", "id": "research"}},
        "project": "website",
        "model": {"__entity": {"type": "Model", "id": "polder-toy"}},
    });
    let action = uid("Action", "infer");
    let context = Context::from_json_value(context, Some((schema.cedar(), &action))).unwrap();
    let resource = uid("Factory", ground.id.as_str());
    let request = CedarRequest::new(uid("Tenant", "bank"), action, resource, context, Some(schema.cedar())).unwrap();
    (request, ground.column.cedar(Action::Infer, true).unwrap().clone())
}

/// A refusal with its advice: nobody's people are cleared, so facts that would help are looked for at each factory.
fn refusal(schema: &Arc<PolicySchema>) {
    let request = requests().into_iter().find(|one| one.labels.class == DataClass::Restricted).unwrap();
    let snapshot = snapshot(schema, &layer(schema, LayerKind::Owner, DEFENCE), &grounds(schema, 8));
    let (row, excluded) = (Row::new(&snapshot.basis, &request), BTreeMap::new());
    let decision = decide_by(&row, &snapshot, &request, &excluded);
    let of_facts = decision.nearest.iter().flat_map(|one| &one.changes).any(|one| matches!(one, Change::Fact { .. }));
    assert!(decision.factory.is_none() && of_facts, "{:?}", decision.nearest);
    let took = quickest(20, || drop(black_box(decide_by(&row, &snapshot, black_box(&request), &excluded))));
    print("a refusal with its advice, 8 factories", took.as_secs_f64() * 1e3, "ms", None);
}

/// One of many owners changes a policy: until their next decision uses it, everything from the text on.
fn activation(schema: &Arc<PolicySchema>, owners: usize, count: usize) {
    let grounds = grounds(schema, count);
    let text = |owner: usize| BANK.replace("class B)", &format!("class B, owner {owner})"));
    let request = requests().into_iter().find(|one| one.labels.class == DataClass::Customer).unwrap();
    let first = snapshot(schema, &layer(schema, LayerKind::Owner, &text(0)), &grounds);
    let mut memos: BTreeMap<usize, (Snapshot, Memo)> = BTreeMap::new();
    for owner in 0..owners {
        let layer = layer(schema, LayerKind::Owner, &text(owner));
        let basis = Basis { owner: layer, ..(*first.basis).clone() };
        let snapshot = snapshot_of(Arc::new(basis));
        let mut memo = Memo::default();
        memo.keep(Arc::new(Row::new(&snapshot.basis, &request)));
        memos.insert(owner, (snapshot, memo));
    }
    let mut worst = Duration::ZERO;
    for owner in [0, owners / 2, owners - 1] {
        let (snapshot, memo) = memos.get_mut(&owner).unwrap();
        let before = Instant::now();
        let layer = layer(schema, LayerKind::Owner, &text(owners + owner));
        let basis = Arc::new(Basis { owner: layer, ..(*snapshot.basis).clone() });
        *snapshot = snapshot_of(basis);
        assert!(memo.row(snapshot, &request).is_none(), "the old policy must not answer");
        let row = memo.stale(&request).unwrap().renew(&snapshot.basis);
        memo.keep(Arc::new(row));
        black_box(memo.choose(snapshot, &request).unwrap());
        worst = worst.max(before.elapsed());
    }
    let name = format!("a changed policy among {owners}, {count} factories, until it decides");
    print(&name, worst.as_secs_f64() * 1e3, "ms", None);
}
