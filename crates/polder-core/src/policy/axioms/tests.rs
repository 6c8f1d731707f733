//! Tests of the axioms: every column that facts can make satisfies every one of them, and each excludes something.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::facts::{Capability, Certification, Claim, Evidence, Owner, Precision, Vendor};
use crate::ids::ModelId;
use crate::labels::{Action, Country, DataClass, Language, Purpose};
use crate::policy::{Case, Layer, LayerKind};
use crate::tests::schema;
use crate::world::{FactText, FactoryText};

fn one_of<T: crate::labels::Closed + std::fmt::Debug>() -> impl Strategy<Value = T> {
    prop::sample::select(T::all())
}

/// Few countries, so that they meet: in the EU, in the EEA only, outside.
fn country() -> impl Strategy<Value = Country> {
    prop_oneof![3 => prop::sample::select(vec!["FR", "DE", "NO", "CH", "US"]).prop_map(|code| Country::parse(code).unwrap()),
        1 => one_of::<Country>()]
}

fn countries() -> impl Strategy<Value = BTreeSet<Country>> {
    prop::collection::btree_set(country(), 1..3)
}

fn model() -> ModelId {
    ModelId::parse("polder-toy").unwrap()
}

fn claim_of_a_model() -> impl Strategy<Value = Claim> {
    prop_oneof![
        country().prop_map(|country| Claim::ModelOrigin { model: model(), country }),
        one_of::<Licence>().prop_map(|licence| Claim::ModelLicence { model: model(), licence }),
        Just(Claim::ModelDigest { model: model(), sha256: crate::canonical::hash("test", &[]) }),
        prop::collection::btree_set(one_of::<Language>(), 1..3)
            .prop_map(|languages| Claim::ModelLanguages { model: model(), languages }),
    ]
}

/// An answer to some criterion of some framework version, so often that whole objectives come together.
fn assessment() -> impl Strategy<Value = Claim> {
    let mut criteria = Vec::new();
    for framework in schema().frameworks() {
        for (objective, criterion) in framework.criteria() {
            criteria.push((framework.id().to_owned(), objective.id.clone(), criterion.number, criterion.answers.len()));
        }
    }
    (prop::sample::select(criteria), any::<prop::sample::Index>()).prop_map(
        |((framework, objective, criterion, n), answer)| {
            let answer = u32::try_from(answer.index(n)).unwrap() + 1;
            Claim::Assessment { framework, objective, criterion, answer }
        },
    )
}

fn claim_of_a_factory() -> impl Strategy<Value = Claim> {
    let owner = (country(), 0..=1_000_000_u32).prop_map(|(country, share_ppm)| Owner {
        name: "Owner".to_owned(),
        country,
        share_ppm,
    });
    let capability = (prop::collection::btree_set(one_of::<Precision>(), 0..4), 1..=4_096_u32)
        .prop_map(|(precisions, memory_gib)| Capability { precisions, memory_gib });
    prop_oneof![
        country().prop_map(|country| Claim::Site { country, city: "Town".to_owned() }),
        country().prop_map(|country| Claim::Operator { name: "Operator".to_owned(), country }),
        prop::collection::vec(owner, 0..3).prop_map(|owners| Claim::Control { owners }),
        (one_of::<Vendor>(), country(), 1..9_u32, prop::option::of(capability)).prop_map(
            |(vendor, origin, accelerators, capability)| Claim::Chip { vendor, origin, accelerators, capability }
        ),
        one_of::<Certification>().prop_map(|scheme| Claim::Certification { scheme }),
        country().prop_map(|country| Claim::Clearance { country }),
        countries().prop_map(|countries| Claim::Jurisdiction { countries }),
        countries().prop_map(|countries| Claim::Personnel { countries }),
        (0..=100_u32, 0..=2_000_u32, 100..=500_u32).prop_map(|(renewable_percent, carbon_g_per_kwh, pue_percent)| {
            Claim::Energy { renewable_percent, carbon_g_per_kwh, pue_percent }
        }),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![3 => claim_of_a_factory(), 1 => claim_of_a_model(), 4 => assessment()]
}

fn facts() -> impl Strategy<Value = Vec<FactText>> {
    let fact = (claim(), one_of::<Evidence>()).prop_map(|(claim, evidence)| FactText { claim, evidence });
    prop::collection::vec(fact, 0..40)
}

fn case(action: Action, with_model: bool) -> Case {
    Case {
        action,
        tenant: crate::ids::TenantId::parse("bank").unwrap(),
        project: crate::ids::ProjectId::parse("website").unwrap(),
        model: with_model.then(model),
        class: DataClass::Public,
        purpose: Purpose::Finance,
        countries: None,
        language: None,
    }
}

/// All axioms as one layer: each forbids where it does not hold.
fn layer(axioms: &[Axiom]) -> Layer {
    let rule = |axiom: &Axiom| {
        format!(
            "@id(\"{}\")\n@reason(\"axiom\")\nforbid (principal, action, resource) unless {{ {} }};\n",
            axiom.id, axiom.holds
        )
    };
    let text: String = axioms.iter().map(rule).collect();
    Layer::parse(LayerKind::Owner, "axioms", &format!("{}{text}", crate::world::OPEN_POLICY), &schema()).unwrap()
}

/// Every axiom as one layer.
fn all() -> &'static Layer {
    static ALL: std::sync::OnceLock<Layer> = std::sync::OnceLock::new();
    ALL.get_or_init(|| layer(&axioms(&schema())))
}

proptest! {
    #[test]
    fn whatever_facts_describe_satisfies_every_axiom(
        facts in facts(), action in one_of::<Action>(), with_model in any::<bool>(), vendor_share_percent in 0..=100_u8,
    ) {
        let factory = FactoryText { name: crate::tests::node("paris"), facts, vendor_share_percent, terms: None };
        let column = factory.column(&schema()).unwrap();
        prop_assert_eq!(all().refusals(&column, &case(action, with_model), &schema()), vec![]);
    }
}

#[test]
fn each_axiom_has_a_name_of_its_own_and_reads_what_it_says() {
    let all = axioms(&schema());
    let ids: BTreeSet<&String> = all.iter().map(|axiom| &axiom.id).collect();
    assert_eq!(ids.len(), all.len());
    for axiom in &all {
        let layer = layer(std::slice::from_ref(axiom));
        let forbid =
            layer.policies().policies().find(|policy| policy.effect() == cedar_policy::Effect::Forbid).unwrap();
        // What leads to the model is read of the request; the axiom speaks of the model itself.
        let read = paths(&forbid.to_json().unwrap()).into_iter().filter(|path| !path.starts_with("context"));
        let read: BTreeSet<String> = read.collect();
        let said: BTreeSet<String> =
            axiom.brings.iter().chain([&axiom.about]).flat_map(|path| prefixes(path)).collect();
        assert_eq!(read, said, "{}", axiom.id);
    }
}

#[test]
fn only_what_is_read_brings_axioms_and_these_bring_others() {
    let about = |paths: &[&str]| {
        let read = paths.iter().flat_map(|path| prefixes(path)).collect();
        axioms_about(&read, &schema()).into_iter().map(|axiom| axiom.id).collect::<Vec<_>>()
    };
    assert!(about(&[]).is_empty());
    assert!(about(&["context.class"]).is_empty());
    assert_eq!(about(&["site.in_eu"]), ["site.in_eu"]);
    assert_eq!(about(&["site.country"]), [""; 0]);
    let control = about(&["control.evidence"]);
    assert!(
        control.contains(&"control.operator".to_owned()) && control.contains(&"operator.evidence.least".to_owned())
    );
}

#[test]
fn paths_are_those_of_the_factory_the_model_and_the_request() {
    let text = "permit (principal, action, resource);\n@id(\"a\")\n@reason(\"a\")\nforbid (principal, action, resource) \
                when { context.class == Class::\"public\" && resource has site && resource.site.in_eu };";
    let layer = Layer::parse(LayerKind::Owner, "a", text, &schema()).unwrap();
    let forbid = layer.policies().policies().find(|policy| policy.effect() == cedar_policy::Effect::Forbid).unwrap();
    let found: Vec<String> = paths(&forbid.to_json().unwrap()).into_iter().collect();
    assert_eq!(found, ["context", "context.class", "site", "site.in_eu"]);
}
