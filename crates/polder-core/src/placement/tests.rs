//! Tests of the choice: lowest score, then name; full is not refused; relaxations are smallest, ordered and few.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::facts::{Claim, Evidence, SignedFact, Vendor};
use crate::ids::ModelId;
use crate::labels::{DataClass, Purpose};
use crate::request::Request;
use crate::tests::{
    BANK, CIVIL, DEFENCE, OPEN, REGISTER, START_UP, Site, World, country, fact, key, node, request, schema,
};

mod relax;

fn public() -> Request {
    request(DataClass::Public, &[Purpose::Finance])
}

fn customer() -> Request {
    request(DataClass::Customer, &[Purpose::Finance])
}

fn chosen(decision: &Decision) -> Option<&str> {
    decision.factory.as_ref().map(NodeId::as_str)
}

fn rules(decision: &Decision, factory: &str) -> Vec<String> {
    let verdict = decision.verdicts.iter().find(|verdict| verdict.factory.as_str() == factory).unwrap();
    verdict.causes.iter().map(|cause| cause.rule.clone()).collect()
}

#[test]
fn the_lowest_score_wins_and_then_the_name() {
    let sites = vec![
        Site::new("c", "FR", "FR", 300),
        Site::new("b", "FR", "FR", 200),
        Site::new("a", "FR", "FR", 200),
        Site::new("d", "FR", "FR", 201),
    ];
    let world = World::new(BANK, sites);
    let decision = world.decide(&public());
    assert_eq!(chosen(&decision), Some("a"));
    assert_eq!(decision.outcome, Outcome::Placed);
    assert!(decision.nearest.is_empty());
    let names: Vec<&str> = decision.verdicts.iter().map(|verdict| verdict.factory.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(world.decide(&public()), decision);
}

#[test]
fn scores_are_weighed_sums_that_stop_at_the_top() {
    let inputs =
        Inputs { price_microeur_per_mtok: 5, load_ppm: 7, rtt_us: 11, vendor_share_percent: 99, ..Inputs::default() };
    assert_eq!(score(&inputs, &Weights { price: 1, load: 2, latency: 3, ..Weights::default() }), 5 + 14 + 33);
    assert_eq!(score(&inputs, &Weights::default()), 0);
    let huge = Inputs { price_microeur_per_mtok: u64::MAX, load_ppm: u64::MAX, rtt_us: 1, ..Inputs::default() };
    assert_eq!(score(&huge, &Weights { price: 2, load: 2, latency: 2, ..Weights::default() }), u64::MAX);
}

#[test]
fn every_weight_reaches_its_own_input() {
    let inputs = Inputs {
        price_microeur_per_mtok: 1,
        load_ppm: 10,
        rtt_us: 100,
        vendor_share_percent: 99,
        queue_ppm: 1_000,
        first_token_us: 10_000,
        carbon_mg_per_kwh: 100_000,
        affinity_ppm: 1_000_000,
    };
    let weights = Weights { price: 1, load: 2, latency: 3, queue: 4, first_token: 5, carbon: 6, affinity: 7 };
    assert_eq!(score(&inputs, &weights), 7_654_321);
}

#[test]
fn what_was_written_before_the_newer_weights_reads_and_writes_the_same() {
    let weights = r#"{"price":1,"load":2,"latency":3}"#;
    let read: Weights = serde_json::from_str(weights).unwrap();
    assert_eq!(read, Weights { price: 1, load: 2, latency: 3, ..Weights::default() });
    assert_eq!(serde_json::to_string(&read).unwrap(), weights);
    let inputs = r#"{"price_microeur_per_mtok":1,"load_ppm":2,"rtt_us":3,"vendor_share_percent":4}"#;
    let read: Inputs = serde_json::from_str(inputs).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), inputs);
    assert!(serde_json::from_str::<Weights>(r#"{"price":1,"load":2,"latency":3,"beauty":4}"#).is_err());
}

#[test]
fn a_conversation_falls_on_the_same_factory_and_moves_only_with_it() {
    let sites: Vec<Site> = ["a", "b", "c", "d", "e"].map(|name| Site::new(name, "FR", "FR", 1)).into();
    let weights = Weights { affinity: 1, ..Weights::default() };
    let world = World { weights, ..World::new(BANK, sites) };
    let snapshot = world.snapshot();
    let row = Row::new(&snapshot.basis, &public());
    let near = |key: u64, excluded: &BTreeMap<NodeId, Vec<Cause>>| {
        decide_near(&row, &snapshot, &public(), excluded, Some(Affinity(key)))
    };
    let mut falls: BTreeMap<String, u32> = BTreeMap::new();
    for key in 0..1_000u64 {
        let first = near(key, &BTreeMap::new());
        let home = chosen(&first).unwrap().to_owned();
        *falls.entry(home.clone()).or_default() += 1;
        let mut far: Vec<u64> = first.verdicts.iter().map(|verdict| verdict.inputs.affinity_ppm).collect();
        far.sort_unstable();
        assert_eq!(far, [0, 500_000, 1_000_000, 1_000_000, 1_000_000]);
        for gone in ["a", "b", "c", "d", "e"] {
            let cause = Cause::built_in(LayerKind::Availability, UNREACHABLE, "test");
            let after = near(key, &BTreeMap::from([(node(gone), vec![cause])]));
            assert_eq!(chosen(&after) == Some(home.as_str()), gone != home, "{key} without {gone}");
        }
    }
    assert!(falls.len() == 5 && falls.values().all(|count| (140..260).contains(count)), "{falls:?}");
}

#[test]
fn affinity_is_a_bonus_and_no_rule() {
    let dear = Site::new("a", "FR", "FR", 2_000_000);
    let world = World {
        weights: Weights { price: 1, affinity: 1, ..Weights::default() },
        ..World::new(BANK, vec![dear, Site::new("b", "FR", "FR", 0)])
    };
    let snapshot = world.snapshot();
    let row = Row::new(&snapshot.basis, &public());
    for key in 0..50 {
        let decision = decide_near(&row, &snapshot, &public(), &BTreeMap::new(), Some(Affinity(key)));
        assert_eq!(chosen(&decision), Some("b"), "two euro are more than any affinity");
    }
}

#[test]
fn carbon_comes_of_the_energy_fact_and_the_unknown_counts_as_the_worst() {
    let energy = Claim::Energy { renewable_percent: 90, carbon_g_per_kwh: 50, pue_percent: 120 };
    let signed = SignedFact::sign(fact("a", energy, Evidence::B, "register"), &key(REGISTER)).unwrap();
    let site = Site { passport: vec![signed], ..Site::new("a", "FR", "FR", 1) };
    let world = World::new(BANK, vec![site, Site::new("b", "FR", "FR", 1)]);
    let snapshot = world.snapshot();
    let known: Vec<Option<u64>> =
        snapshot.basis.grounds.iter().map(|ground| carbon_mg_per_kwh(ground.column.profile())).collect();
    assert_eq!(known, [Some(60_000), None], "50 g at 1.2");
    let told: Vec<u64> = snapshot.each().map(|(_, factory)| factory.inputs.carbon_mg_per_kwh).collect();
    assert_eq!(told, [60_000, 60_000], "silence gains nothing");
    let silent = World::new(BANK, vec![Site::new("b", "FR", "FR", 1)]).snapshot();
    assert!(silent.each().all(|(_, factory)| factory.inputs.carbon_mg_per_kwh == 0));
}

#[test]
fn excluded_factories_are_not_chosen_again() {
    let world = World::new(BANK, vec![Site::new("a", "FR", "FR", 1), Site::new("b", "FR", "FR", 2)]);
    let gone = Cause::built_in(LayerKind::Availability, UNREACHABLE, "test");
    let one = BTreeMap::from([(node("a"), vec![gone.clone()])]);
    assert_eq!(chosen(&decide(&world.snapshot(), &public(), &one)), Some("b"));
    let both = BTreeMap::from([(node("a"), vec![gone.clone()]), (node("b"), vec![gone])]);
    let decision = decide(&world.snapshot(), &public(), &both);
    assert_eq!((decision.outcome, chosen(&decision)), (Outcome::Refused, None));
    assert_eq!(rules(&decision, "a"), [UNREACHABLE]);
}

#[test]
fn excluding_never_admits_another() {
    let world = World::new(BANK, vec![Site::new("a", "FR", "FR", 1), Site::new("b", "FR", "US", 2)]);
    let before = world.decide(&customer());
    let cause = Cause::built_in(LayerKind::Availability, UNREACHABLE, "test");
    let after = decide(&world.snapshot(), &customer(), &BTreeMap::from([(node("a"), vec![cause])]));
    assert_eq!(rules(&before, "b"), rules(&after, "b"));
    assert_eq!(after.outcome, Outcome::Refused);
}

#[test]
fn full_is_not_refused() {
    let full = Site::new("a", "FR", "FR", 1).unavailable(NO_CAPACITY);
    let foreign = Site::new("b", "US", "US", 1);
    let world = World::new(BANK, vec![full.clone(), foreign.clone()]);
    assert_eq!(world.decide(&customer()).outcome, Outcome::NoCapacity);
    // A factory that is full and may not have it anyway is no reason to wait.
    let world = World::new(BANK, vec![Site::new("a", "US", "US", 1).unavailable(NO_CAPACITY), foreign.clone()]);
    assert_eq!(world.decide(&customer()).outcome, Outcome::Refused);
    // Full and gone is gone.
    let world = World::new(BANK, vec![full.unavailable(UNREACHABLE), foreign]);
    assert_eq!(world.decide(&customer()).outcome, Outcome::Refused);
}

#[test]
fn what_a_factory_calls_like_a_built_in_cause_still_refuses() {
    let cause = Cause::built_in(LayerKind::Terms, NO_CAPACITY, "test");
    let excluded = BTreeMap::from([(node("a"), vec![cause])]);
    let decision = decide(&World::new(OPEN, vec![Site::new("a", "FR", "FR", 1)]).snapshot(), &public(), &excluded);
    assert_eq!(decision.outcome, Outcome::Refused);
    assert_eq!(decision.nearest[0].distance, 1_000_000);
}

#[test]
fn built_in_causes_are_no_rules_of_anybody() {
    for cause in [NO_CAPACITY, UNREACHABLE, ACTION_NOT_OFFERED, MODEL_NOT_SERVED] {
        assert!(crate::policy::RESERVED.contains(&cause), "{cause}");
    }
}

#[test]
fn a_model_that_is_not_served_is_a_cause() {
    let world = World::new(BANK, vec![Site::new("a", "FR", "FR", 1)]);
    let request = Request { model: Some(ModelId::parse("other").unwrap()), ..public() };
    let decision = world.decide(&request);
    assert_eq!((decision.outcome, rules(&decision, "a")), (Outcome::Refused, vec![MODEL_NOT_SERVED.to_owned()]));
}

#[test]
fn every_purpose_must_be_allowed() {
    let civil = Site { terms: CIVIL, ..Site::new("a", "FR", "FR", 1) };
    let world = World::new(BANK, vec![civil]);
    let ask = |purposes: &[Purpose]| world.decide(&request(DataClass::Public, purposes)).outcome;
    assert_eq!(ask(&[Purpose::Finance]), Outcome::Placed);
    assert_eq!(ask(&[Purpose::Defence]), Outcome::Refused);
    assert_eq!(ask(&[Purpose::Finance, Purpose::Research, Purpose::Defence]), Outcome::Refused);
    let none = world.decide(&request(DataClass::Public, &[]));
    assert_eq!(none.outcome, Outcome::Refused);
    assert!(rules(&none, "a").iter().all(|rule| rule == "no-purpose"));
}

#[test]
fn every_layer_must_permit() {
    let site = |terms| Site { terms, ..Site::new("a", "FR", "FR", 1) };
    let outcome = |world: World, request: &Request| world.decide(request).outcome;
    assert_eq!(outcome(World::new(OPEN, vec![site(OPEN)]), &public()), Outcome::Placed);
    assert_eq!(outcome(World::new("", vec![site(OPEN)]), &public()), Outcome::Refused, "owner");
    assert_eq!(outcome(World::new(OPEN, vec![site("")]), &public()), Outcome::Refused, "terms");
    let unknown = site(OPEN).without("site");
    assert_eq!(outcome(World::new(OPEN, vec![unknown]), &public()), Outcome::Refused, "baseline");
    let mut elsewhere = public();
    elsewhere.labels.countries = Some([country("DE")].into());
    assert_eq!(outcome(World::new(OPEN, vec![site(OPEN)]), &elsewhere), Outcome::Refused, "labels");
}

#[test]
fn relaxations_are_smallest_and_in_the_owners_order() {
    let uncertified = Site::new("b", "FR", "FR", 1).without("certifications");
    let sites = vec![
        Site::new("a", "FR", "US", 1),
        uncertified,
        Site::new("c", "US", "US", 1),
        Site::new("d", "FR", "FR", 9).unavailable(UNREACHABLE),
        Site::new("e", "FR", "US", 2),
    ];
    let decision = World::new(BANK, sites).decide(&customer());
    assert_eq!(decision.outcome, Outcome::Refused);
    let named: Vec<(&str, Vec<&str>, u64)> = decision
        .nearest
        .iter()
        .map(|one| (one.factory.as_str(), one.changes.iter().map(|c| c.name()).collect(), one.distance))
        .collect();
    // `c` needs what `a` needs and more; `e` needs the same at a higher price: neither is named.
    let expected = [
        ("d", vec![UNREACHABLE], 2),
        ("b", vec!["customer-data-certified"], 11),
        ("b", vec!["certifications/iso-27001"], 1_200),
        ("a", vec!["customer-data-under-eu-control"], 10_000),
    ];
    assert_eq!(named, expected);
}

#[test]
fn a_relaxation_that_is_made_places_the_request() {
    let world = World::new(BANK, vec![Site::new("a", "FR", "US", 1), Site::new("b", "US", "US", 2)]);
    for relaxation in world.decide(&customer()).nearest {
        let mut relaxed = world.clone();
        for change in &relaxation.changes {
            assert!(matches!(change, Change::Rule { .. }), "no better evidence moves an owner: {change:?}");
            let from = relaxed.owner.find(&format!("@id(\"{}\")", change.name())).unwrap();
            let to = from + relaxed.owner[from..].find(';').unwrap() + 1;
            relaxed.owner.replace_range(from..to, "");
        }
        let decision = relaxed.decide(&customer());
        assert_eq!(chosen(&decision), Some(relaxation.factory.as_str()));
    }
}

#[test]
fn at_most_five_relaxations_are_named() {
    let mut owner = OPEN.to_owned();
    let mut sites = Vec::new();
    for n in 0..8 {
        let name = format!("f{n}");
        owner += &format!(
            "\n@id(\"not-{name}\")\n@reason(\"test\")\nforbid (principal, action, resource)\n\
             when {{ resource == Factory::\"{name}\" }};"
        );
        sites.push(Site::new(&name, "FR", "FR", 8 - n));
    }
    let decision = World::new(&owner, sites).decide(&public());
    assert_eq!(decision.nearest.len(), NEAREST_MAX);
    let order: Vec<&str> = decision.nearest.iter().map(|one| one.factory.as_str()).collect();
    assert_eq!(order, ["f7", "f6", "f5", "f4", "f3"], "equally near: the better score first");
}

#[test]
fn nothing_to_choose_from_is_a_refusal() {
    let decision = World::new(START_UP, Vec::new()).decide(&public());
    assert_eq!((decision.outcome, decision.nearest.len()), (Outcome::Refused, 0));
}

#[test]
fn control_is_explained_by_the_operator_and_its_owners() {
    let decision = World::new(BANK, vec![Site::new("a", "FR", "US", 1)]).decide(&customer());
    let facts: Vec<&str> = decision.verdicts[0].causes[0].facts.iter().map(|read| read.kind.as_str()).collect();
    assert_eq!(facts, ["operator", "control"]);
    let without = World::new(DEFENCE, vec![Site::new("a", "FR", "FR", 1)]);
    let decision = without.decide(&request(DataClass::Restricted, &[Purpose::Defence]));
    assert_eq!(decision.verdicts[0].causes[0].facts[0].says, "absent");
}

/// An assessor's best answer to a criterion of the calculator.
fn assessed(name: &str, objective: &str, criterion: u32) -> SignedFact {
    let schema = schema();
    let calculator = &schema.frameworks()[0];
    let id = crate::framework::CriterionId { objective: objective.to_owned(), criterion };
    let answers = &calculator.criterion(&id).unwrap().answers;
    let best = (0..answers.len()).max_by_key(|place| answers[*place].seal).unwrap();
    let claim = Claim::Assessment {
        framework: calculator.id().to_owned(),
        objective: objective.to_owned(),
        criterion,
        answer: u32::try_from(best + 1).unwrap(),
    };
    SignedFact::sign(fact(name, claim, Evidence::B, "register"), &key(REGISTER)).unwrap()
}

#[test]
fn a_policy_demands_seals_of_a_named_framework_and_the_decision_carries_them() {
    let owner = format!(
        "{OPEN}\n@id(\"sovereign\")\n@reason(\"test\")\nforbid (principal, action, resource)\nunless {{ \
         resource.seals.attested[\"csf-calculator-2026-06-01\"][\"SOV-3\"] >= 2 }};"
    );
    let site = |answers: &[u32]| {
        let mut site = Site::new("paris", "FR", "FR", 1);
        site.passport.extend(answers.iter().map(|criterion| assessed("paris", "SOV-3", *criterion)));
        World::new(&owner, vec![site])
    };
    // The route touches criterion 4, the model criterion 5: both must be answered, or the SEAL is 0.
    let refused = site(&[4]).decide(&public());
    assert_eq!(rules(&refused, "paris"), ["sovereign"]);
    assert!(refused.seals.is_empty());
    let read = &refused.verdicts[0].causes[0].facts[0];
    assert!(read.kind == "seals" && read.says.contains("SOV-3 0"), "{read:?}");
    let placed = site(&[4, 5]).decide(&public());
    let seals = placed.seals.iter().find(|one| one.framework == "csf-calculator-2026-06-01").unwrap();
    assert_eq!((placed.outcome, seals.attested["SOV-3"], seals.measured["SOV-3"]), (Outcome::Placed, 4, 0));
    assert_eq!(seals.digest, schema().frameworks()[0].digest());
    // What keeps data and names no model is held to the route alone.
    let store = Request { action: crate::labels::Action::Store, model: None, ..public() };
    let kept = site(&[4]).decide(&store);
    assert_eq!(rules(&kept, "paris"), [ACTION_NOT_OFFERED], "the policy has nothing against it");
}

#[test]
fn a_policy_reads_the_tenants_own_use_of_a_vendor() {
    let owner = include_str!("../../../../templates/vendor-share.cedar");
    let chip = |vendor| Claim::Chip { vendor, origin: country("US"), accelerators: 8, capability: None };
    let site = |name: &str, vendor, percent| {
        let mut site = Site::new(name, "FR", "FR", 1);
        let signed = SignedFact::sign(fact(name, chip(vendor), Evidence::B, "register"), &key(REGISTER)).unwrap();
        site.passport.push(signed);
        site.usage = crate::policy::Usage { vendor_share_percent: percent };
        site
    };
    let sites = vec![site("a", Vendor::Nvidia, 61), site("b", Vendor::Amd, 39), Site::new("c", "FR", "FR", 0)];
    let decision = World::new(owner, sites).decide(&public());
    assert_eq!(rules(&decision, "a"), ["no-single-vendor"]);
    assert_eq!(rules(&decision, "c"), ["chips-known"]);
    assert_eq!(decision.factory, Some(node("b")));
    assert_eq!(decision.verdicts[0].inputs.vendor_share_percent, 61, "what was read stands in the verdict");
    assert!(decision.verdicts[0].causes[0].facts.iter().any(|read| read.kind == "usage" && read.says.contains("61 %")));
}
