//! Property tests: audit agrees with every decision over random worlds, and with none that was tampered with.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::facts::{Certification, Evidence, Fact, SignedFact, Vendor};
use crate::ids::{IssuerId, ModelId};
use crate::labels::{Action, DataClass, Language};
use crate::placement::{Inputs, NO_CAPACITY, UNREACHABLE, Weights};
use crate::policy::Cause;
use crate::request::Request;
use crate::statement::v1::Policies as Digests;
use crate::tests::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;

mod agreement;
mod odd;
mod preference;

const COUNTRIES: [&str; 5] = ["FR", "DE", "NO", "US", "CH"];

fn any_claim() -> impl Strategy<Value = Claim> {
    let code = || select(&COUNTRIES[..]);
    prop_oneof![
        3 => code().prop_map(site),
        3 => code().prop_map(operator),
        3 => proptest::collection::vec(code(), 0..3).prop_map(|codes| control(&codes)),
        1 => (select(Vendor::all()), code(), 1u32..9)
            .prop_map(|(vendor, code, accelerators)| Claim::Chip { vendor, origin: country(code), accelerators, capability: None }),
        2 => select(Certification::all()).prop_map(|scheme| Claim::Certification { scheme }),
        2 => code().prop_map(|code| Claim::Clearance { country: country(code) }),
        2 => (0u32..3, 100u32..103).prop_map(|(carbon_g_per_kwh, pue_percent)| {
            Claim::Energy { renewable_percent: 0, carbon_g_per_kwh, pue_percent }
        }),
    ]
}

/// A fact of one of four sources: the register, the factory, a stranger, or the factory under the register's name.
fn any_fact(name: &'static str) -> impl Strategy<Value = SignedFact> {
    let sources = vec![("register", REGISTER), ("register", REGISTER), (name, 10), ("stranger", 3), ("register", 10)];
    let times =
        (prop_oneof![9 => 0u64..1_500, 1 => 1_500u64..1_600], prop_oneof![9 => 1_501u64..3_000, 1 => 0u64..1_501]);
    (any_claim(), select(Evidence::all()), select(sources), times).prop_map(
        move |(claim, evidence, (issuer, signer), (from_ms, until_ms))| {
            let issuer = IssuerId::parse(issuer).unwrap();
            let fact = Fact { subject: node(name), claim, evidence, issuer, from_ms, until_ms };
            SignedFact::sign(fact, &key(signer)).unwrap()
        },
    )
}

fn any_site(name: &'static str) -> impl Strategy<Value = Site> {
    let measured = (any::<u64>(), 0u64..3, 0u64..3, 0u64..3, 0u64..3);
    let inputs = measured.prop_map(|(price, load_ppm, rtt_us, queue_ppm, first_token_us)| Inputs {
        price_microeur_per_mtok: if price % 3 == 0 { price } else { price % 4 },
        load_ppm,
        rtt_us,
        queue_ppm,
        first_token_us,
        ..Inputs::default()
    });
    let terms = select(vec![OPEN, OPEN, CIVIL, ""]);
    let unavailable = select(vec![None, None, None, Some(NO_CAPACITY), Some(UNREACHABLE)]);
    let facts = proptest::collection::vec(any_fact(name), 0..12);
    (select(&COUNTRIES[..]), any::<bool>(), facts, terms, unavailable, inputs).prop_map(
        move |(place, known, facts, terms, unavailable, inputs)| {
            let mut site = Site::new(name, place, place, 0);
            if !known {
                site.passport.clear();
            }
            site.passport.extend(facts);
            let causes = unavailable.map(|rule| Cause::built_in(LayerKind::Availability, rule, "test"));
            Site { terms, inputs, unavailable: causes.into_iter().collect(), ..site }
        },
    )
}

fn any_world() -> impl Strategy<Value = World> {
    let sites =
        (any_site("barcelona"), any_site("bologna"), any_site("kajaani"), any_site("paris"), any_site("virginia"));
    let weights = (0u32..3, 0u32..3, 0u32..3, 0u32..3, 0u32..3, 0u32..3, 0u32..3);
    let weights = weights.prop_map(|(price, load, latency, queue, first_token, carbon, affinity)| Weights {
        price,
        load,
        latency,
        queue,
        first_token,
        carbon,
        affinity,
    });
    let owner = select(vec![BANK, DEFENCE, IMAGE_LAB, START_UP, ""]);
    (owner, weights, sites)
        .prop_map(|(owner, weights, (a, b, c, d, e))| World { weights, ..World::new(owner, vec![a, b, c, d, e]) })
}

fn any_request() -> impl Strategy<Value = Request> {
    let countries = proptest::option::of(subsequence(&COUNTRIES[..], 1..4));
    (
        select(DataClass::all()),
        prop_oneof![19 => subsequence(Purpose::all(), 1..4), 1 => Just(Vec::new())],
        countries,
        proptest::option::of(select(Language::all())),
        select(Action::all()),
        select(vec!["polder-toy", "polder-toy", "lumen/captions"]),
    )
        .prop_map(|(class, purposes, countries, language, action, model)| {
            let mut request = request(class, &purposes);
            request.labels.countries = countries.map(|codes| codes.into_iter().map(country).collect());
            request.labels.language = language;
            request.action = action;
            request.model = Some(ModelId::parse(model).unwrap());
            request
        })
}

/// Whether audit can speak about a cause: of availability there is no record.
fn on_record(cause: &Cause) -> bool {
    cause.layer != LayerKind::Availability
}

/// Every tampering that applies to a decision, by name. Whoever lies has the tables and their digests fit each other.
fn tampered(decision: &DecisionRecord) -> Vec<(&'static str, DecisionRecord)> {
    let mut all = Vec::new();
    for (n, verdict) in decision.verdicts.iter().enumerate() {
        all.extend(tampered_verdict(decision, n, verdict));
    }
    let statement = &decision.statement;
    let mut state = |name, statement| all.push((name, DecisionRecord { statement, ..decision.clone() }));
    for outcome in [Outcome::Placed, Outcome::Refused, Outcome::NoCapacity] {
        if outcome != statement.outcome {
            state("another outcome", DecisionStatement { outcome, ..statement.clone() });
        }
    }
    if statement.factory.is_some() {
        state("no choice", DecisionStatement { factory: None, ..statement.clone() });
    }
    let zero = crate::canonical::Digest::default();
    let policies = statement.policies;
    state("other facts", DecisionStatement { facts: zero, ..statement.clone() });
    let mut named = |name, policies| state(name, DecisionStatement { policies, ..statement.clone() });
    named("another schema", Digests { schema: zero, ..policies });
    named("another policy", Digests { owner: zero, ..policies });
    named("another trust", Digests { trust: zero, ..policies });
    for (n, seals) in decision.seals.iter().enumerate() {
        let mut changed = decision.clone();
        changed.seals[n].attested.insert("SOV-1".to_owned(), (seals.attested["SOV-1"] + 1) % 5);
        all.push(("other SEALs", changed));
    }
    for (_, changed) in &mut all {
        changed.statement.tables = changed.tables().digests().unwrap().digest().unwrap();
    }
    let mut other = decision.clone();
    other.statement.tables = zero;
    all.push(("other tables", other));
    all
}

fn tampered_verdict(decision: &DecisionRecord, n: usize, verdict: &Verdict) -> Vec<(&'static str, DecisionRecord)> {
    let mut all = Vec::new();
    let mut with = |name, change: &dyn Fn(&mut DecisionRecord)| {
        let mut changed = decision.clone();
        change(&mut changed);
        all.push((name, changed));
    };
    with("score", &|changed| changed.verdicts[n].score ^= 1 << 40);
    if verdict.causes.is_empty() {
        let cause = || Cause::built_in(LayerKind::Owner, "made-up", "test");
        with("a no made up", &|changed| changed.verdicts[n].causes.push(cause()));
    }
    if verdict.causes.iter().any(on_record) {
        with("a no turned to yes", &|changed| changed.verdicts[n].causes.retain(|cause| !on_record(cause)));
    }
    for place in (0..verdict.causes.len()).filter(|place| on_record(&verdict.causes[*place])) {
        with("a cause dropped", &|changed| drop(changed.verdicts[n].causes.remove(place)));
    }
    let carbon = decision.statement.weights.carbon;
    if verdict.causes.is_empty() && carbon > 0 && verdict.score < u64::MAX / 2 {
        with("another carbon", &|changed| {
            changed.verdicts[n].inputs.carbon_mg_per_kwh += 1;
            changed.verdicts[n].score += u64::from(carbon);
        });
    }
    if decision.statement.factory.as_ref() != Some(&verdict.factory) {
        with("another choice", &|changed| {
            changed.statement.factory = Some(verdict.factory.clone());
            changed.statement.outcome = Outcome::Placed;
        });
    }
    with("a verdict left out", &|changed| drop(changed.verdicts.remove(n)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn audit_agrees_with_every_decision(world in any_world(), request in any_request()) {
        prop_assert_eq!(disagreements(&world.statement(&request), &world.records()), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn audit_agrees_with_no_decision_that_was_tampered_with(world in any_world(), request in any_request()) {
        let records = world.records();
        for (name, changed) in tampered(&world.statement(&request)) {
            prop_assert!(!disagreements(&changed, &records).is_empty(), "{} went unnoticed", name);
        }
    }
}

/// The random worlds are worth something only if they are not all alike.
#[test]
fn random_worlds_place_refuse_and_are_full() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut outcomes = BTreeSet::new();
    for _ in 0..300 {
        let world = any_world().new_tree(&mut runner).unwrap().current();
        let request = any_request().new_tree(&mut runner).unwrap().current();
        outcomes.insert(format!("{:?}", world.statement(&request).statement.outcome));
    }
    assert_eq!(outcomes.iter().map(String::as_str).collect::<Vec<_>>(), ["NoCapacity", "Placed", "Refused"]);
}

#[test]
fn a_factory_without_a_record_is_named() {
    let world = World::new(BANK, vec![Site::new("paris", "FR", "FR", 1)]);
    let statement = world.statement(&request(DataClass::Public, &[Purpose::Finance]));
    let records = Records { factories: BTreeMap::new(), ..world.records() };
    assert!(disagreements(&statement, &records)[0].contains("nothing is on record about `paris`"));
}

#[test]
fn other_terms_and_other_facts_are_noticed() {
    let world = World::new(BANK, vec![Site::new("paris", "FR", "FR", 1)]);
    let statement = world.statement(&request(DataClass::Public, &[Purpose::Finance]));
    let mut records = world.records();
    records.factories.get_mut(&node("paris")).unwrap().terms = CIVIL.to_owned();
    assert!(disagreements(&statement, &records)[0].contains("terms of `paris`"));
    let mut records = world.records();
    records.factories.get_mut(&node("paris")).unwrap().passport.pop();
    assert!(disagreements(&statement, &records)[0].contains("facts of `paris`"));
    let mut records = world.records();
    records.baseline.push('\n');
    assert!(disagreements(&statement, &records)[0].contains("baseline"));
}
