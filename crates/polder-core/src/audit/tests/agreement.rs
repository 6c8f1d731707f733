//! Two readings of the same rules, held together: bare Cedar, one layer at a time, and audit's own evaluator.
//!
//! A verdict is one request at one factory. `POLDER_VERDICTS` says how many (a million where it says nothing) and
//! `POLDER_SEED` which; `cargo xtask soak policy` asks for ten million. A failure names its seed and every text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::policy::{Column, Layer};
use crate::tests::random::{Dice, FACTORIES};

/// A layer and the id of a rule by which it refuses.
type Refusals = BTreeSet<(LayerKind, String)>;

/// Every world asks `REQUESTS` requests at `SITES` factories.
const SITES: usize = 50;
const REQUESTS: usize = 50;
/// How many different factories and requests the worlds draw from.
const POOL: usize = 400;
/// How many worlds of their own run side by side, each from a seed of its own.
const PARTS: u64 = 4;

/// A factory's facts, as each participant reads them.
struct Known {
    name: NodeId,
    column: Column,
    entities: Entities,
}

/// A text as each participant reads it.
struct Text {
    layer: Arc<Layer>,
    policies: Policies,
    text: String,
}

impl Text {
    fn new(kind: LayerKind, text: String) -> Self {
        let layer = Layer::parse(kind, "random.cedar", &text, &schema());
        let layer = Arc::new(layer.unwrap_or_else(|error| panic!("{error} {:?}\n{text}", error.hint)));
        Self { layer, policies: Policies::parse(&text).unwrap(), text }
    }
}

fn known(dice: &mut Dice) -> Known {
    let name = node(dice.pick::<&str>(&FACTORIES));
    let profile = dice.profile(&name);
    let entities = entities(&name, &profile).unwrap();
    Known { column: Column::new(&name, profile, &schema()).unwrap(), entities, name }
}

/// Bare Cedar: each layer on its own, for each purpose.
fn cedar(texts: &[&Text], factory: &Known, request: &Request) -> Refusals {
    let refusals = |text: &&Text| {
        let kind = text.layer.kind();
        let causes = crate::placement::refusals(&text.layer, &factory.column, request, &schema());
        causes.into_iter().map(move |cause| (kind, cause.rule))
    };
    texts.iter().flat_map(refusals).collect()
}

/// Audit's evaluator, asked the same.
fn audit(texts: &[&Text], factory: &Known, request: &Request) -> Refusals {
    let mut refusals = Refusals::new();
    for purpose in &request.labels.purposes {
        let question = question(request, *purpose, &factory.name, &factory.entities).unwrap();
        for text in texts {
            refusals.extend(text.policies.refusals(&question).into_iter().map(|rule| (text.layer.kind(), rule)));
        }
    }
    refusals
}

/// Counts of what came up, by its name.
type Tally = BTreeMap<&'static str, usize>;

/// Asks about one world. A participant is a row of `said`; one that says only yes or no has a row of its own below.
fn compare(texts: &[Text], terms: &[Text], sites: &[&Known], requests: &[&Request], seed: u64, tally: &mut Tally) {
    for (n, factory) in sites.iter().enumerate() {
        let texts: Vec<&Text> = texts.iter().chain([&terms[n % terms.len()]]).collect();
        for request in requests {
            let said = [("cedar", cedar(&texts, factory, request)), ("audit", audit(&texts, factory, request))];
            let first = &said[0].1;
            for (name, other) in &said[1..] {
                if other != first {
                    let texts: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
                    let facts = attributes(factory.column.profile());
                    panic!("seed {seed}: cedar says {first:?}, {name} {other:?}\n{request:?}\n{facts}\n{texts:#?}");
                }
            }
            let errs = first.iter().any(|(_, rule)| rule == "policy-error");
            *tally
                .entry(if errs {
                    "error"
                } else if first.is_empty() {
                    "yes"
                } else {
                    "no"
                })
                .or_default() += 1;
        }
    }
}

/// Asks for so many verdicts, all from one seed. The owner's policy and the terms are random and always asked; one world
/// in five has a baseline and the labels layer as well.
fn agree(seed: u64, verdicts: usize) -> Tally {
    let mut dice = Dice::new(seed);
    let factories: Vec<Known> = (0..POOL).map(|_| known(&mut dice)).collect();
    let requests: Vec<Request> = (0..POOL).map(|_| dice.request()).collect();
    let mut tally = Tally::new();
    for world in 0..verdicts.div_ceil(SITES * REQUESTS) {
        let layer = |dice: &mut Dice, kind| Text::new(kind, dice.layer(3));
        let mut texts = vec![layer(&mut dice, LayerKind::Owner)];
        if world % 5 == 0 {
            texts.push(layer(&mut dice, LayerKind::Baseline));
            texts.push(Text::new(LayerKind::Labels, LABELS_POLICY.to_owned()));
        }
        let terms: Vec<Text> = (0..4).map(|_| layer(&mut dice, LayerKind::Terms)).collect();
        let sites: Vec<&Known> = (0..SITES).map(|_| dice.pick(&factories)).collect();
        let asked: Vec<&Request> = (0..REQUESTS).map(|_| dice.pick(&requests)).collect();
        compare(&texts, &terms, &sites, &asked, seed, &mut tally);
    }
    tally
}

#[allow(clippy::disallowed_methods)] // A test's size and seed come from whoever starts it.
fn asked_for(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn cedar_and_audit_agree_on_random_policies() {
    let (seed, verdicts) = (asked_for("POLDER_SEED", 1), asked_for("POLDER_VERDICTS", 1_000_000));
    let verdicts = usize::try_from(verdicts).unwrap();
    let mut tally = Tally::new();
    std::thread::scope(|scope| {
        let parts = (0..PARTS).map(|part| scope.spawn(move || agree(seed * PARTS + part, verdicts.div_ceil(4))));
        for part in parts.collect::<Vec<_>>() {
            part.join().unwrap().into_iter().for_each(|(kind, count)| *tally.entry(kind).or_default() += count);
        }
    });
    let all: usize = tally.values().sum();
    println!("{all} verdicts: {tally:?}");
    assert!(all >= verdicts);
    for kind in ["yes", "no", "error"] {
        let share = tally.get(kind).copied().unwrap_or(0) * 100 / all;
        assert!(share >= 5, "the random policies are worth little: {kind} is {share} % of {tally:?}");
    }
}
