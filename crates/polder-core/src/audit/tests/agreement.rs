//! Three readings of the same rules, held together: bare Cedar, one layer at a time, audit's own evaluator, and the memo.
//!
//! A verdict is one request at one factory. `POLDER_VERDICTS` says how many (a million where it says nothing) and
//! `POLDER_SEED` which; `cargo xtask soak policy` asks for ten million. A failure names its seed and every text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::canonical::Digest;
use crate::placement::{Basis, Ground, Memo, Row, Snapshot, Weights};
use crate::policy::{Column, LABELS_POLICY, Layer, Usage};
use crate::tests::random::{Dice, FACTORIES};

/// A layer and the id of a rule by which it refuses.
type Refusals = BTreeSet<(LayerKind, String)>;

/// Every world asks `REQUESTS` requests at `SITES` factories.
const SITES: usize = 50;
const REQUESTS: usize = 50;
/// Every world is looked at so many times, and a little of it changes in between: the memo has to notice.
const MOMENTS: usize = 4;
/// How many different factories and requests the worlds draw from.
const POOL: usize = 400;
/// How many worlds of their own run side by side, each from a seed of its own.
const PARTS: u64 = 4;

/// A factory's facts, as each participant reads them.
struct Known {
    name: NodeId,
    column: Arc<Column>,
    /// By what a request touches: whether it computes, and whether it names a model.
    entities: [Entities; 4],
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
    let usage = Usage { vendor_share_percent: u8::try_from(dice.below(101)).unwrap() };
    let of = |action, model: Option<&str>| {
        let model = model.map(|model| crate::ids::ModelId::parse(model).unwrap());
        let request = Request { action, model, ..crate::tests::request(crate::labels::DataClass::Public, &[]) };
        entities(&name, &profile, &request, usage.vendor_share_percent, schema().frameworks()).unwrap()
    };
    let (store, infer) = (crate::labels::Action::Store, crate::labels::Action::Infer);
    let entities = [of(store, None), of(store, Some("m")), of(infer, None), of(infer, Some("m"))];
    Known { column: Arc::new(Column::new(&name, profile, usage, &schema()).unwrap()), entities, name }
}

/// The memo: a basis as it stands now, and rows that were made on it or on an earlier one.
struct Remembered {
    basis: Arc<Basis>,
    memo: Memo,
}

impl Remembered {
    /// The basis of a world now. What has no text of its own is open.
    fn basis(texts: &[Text], terms: &[Text], sites: &[&Known], before: Option<&Basis>) -> Arc<Basis> {
        let layer = |kind| {
            let known = texts.iter().find(|text| text.layer.kind() == kind).map(|text| Arc::clone(&text.layer));
            let before = before.map(|before| match kind {
                LayerKind::Baseline => &before.baseline,
                _ => &before.labels,
            });
            known.or_else(|| before.cloned()).unwrap_or_else(|| crate::tests::layer(kind, OPEN))
        };
        let models = ["polder-toy", "lumen/captions"].map(|model| Some(crate::ids::ModelId::parse(model).unwrap()));
        let every = |action| models.iter().cloned().chain([None]).map(move |model| (action, model)).collect::<Vec<_>>();
        let offers = Arc::new(crate::labels::Action::all().into_iter().flat_map(every).collect());
        let ground = |(n, site): (usize, &&Known)| Ground {
            // Names stand in order, and the column keeps its own.
            id: node(&format!("factory-{n:02}")),
            column: Arc::clone(&site.column),
            passport: crate::canonical::Digest::default(),
            terms: Arc::clone(&terms[n % terms.len()].layer),
            offers: Arc::clone(&offers),
        };
        Arc::new(Basis {
            schema: schema(),
            baseline: layer(LayerKind::Baseline),
            owner: layer(LayerKind::Owner),
            labels: layer(LayerKind::Labels),
            trust: Digest::default(),
            grounds: sites.iter().enumerate().map(ground).collect(),
        })
    }

    /// The row of a request, as a home gets it: what is remembered, brought to this basis where it has to be.
    fn row(&mut self, request: &Request) -> Arc<Row> {
        let weights = Weights { price: 1, load: 0, latency: 0, ..Weights::default() };
        let snapshot = Snapshot::new(1_500, Arc::clone(&self.basis), Digest::default(), weights, Vec::new());
        if let Some(row) = self.memo.row(&snapshot, request) {
            return Arc::clone(row);
        }
        let row = match self.memo.stale(request) {
            Some(stale) => stale.renew(&self.basis),
            None => Row::new(&self.basis, request),
        };
        let row = Arc::new(row);
        self.memo.keep(Arc::clone(&row));
        row
    }
}

/// What a row says of the factory at a place.
fn remembered(row: &Row, place: usize) -> Refusals {
    let refusals: Refusals = row.causes(place).into_iter().map(|cause| (cause.layer, cause.rule)).collect();
    assert_eq!(refusals.is_empty(), row.admitted().contains(place), "the bit and the causes differ");
    refusals
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
        let touched = usize::from(request.action.computes()) * 2 + usize::from(request.model.is_some());
        let question = question(request, *purpose, &factory.name, &factory.entities[touched]).unwrap();
        for text in texts {
            refusals.extend(text.policies.refusals(&question).into_iter().map(|rule| (text.layer.kind(), rule)));
        }
    }
    refusals
}

/// Counts of what came up, by its name.
type Tally = BTreeMap<&'static str, usize>;

/// Asks about one world. A participant is a row of `said`.
fn compare(
    texts: &[Text],
    terms: &[Text],
    sites: &[&Known],
    asked: &[(&Request, Arc<Row>)],
    seed: u64,
    tally: &mut Tally,
) {
    for (n, factory) in sites.iter().enumerate() {
        let texts: Vec<&Text> = texts.iter().chain([&terms[n % terms.len()]]).collect();
        for (request, row) in asked {
            let said = [
                ("cedar", cedar(&texts, factory, request)),
                ("audit", audit(&texts, factory, request)),
                ("memo", remembered(row, n)),
            ];
            let first = &said[0].1;
            for (name, other) in &said[1..] {
                if other != first {
                    let texts: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
                    let facts = attributes::factory(factory.column.profile(), 0);
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
    for world in 0..verdicts.div_ceil(SITES * REQUESTS * MOMENTS) {
        let layer = |dice: &mut Dice, kind| Text::new(kind, dice.layer(3));
        let mut texts = vec![layer(&mut dice, LayerKind::Owner)];
        if world % 5 == 0 {
            texts.push(layer(&mut dice, LayerKind::Baseline));
            texts.push(Text::new(LayerKind::Labels, LABELS_POLICY.to_owned()));
        }
        let mut terms: Vec<Text> = (0..4).map(|_| layer(&mut dice, LayerKind::Terms)).collect();
        let mut sites: Vec<&Known> = (0..SITES).map(|_| dice.pick(&factories)).collect();
        let asked: Vec<&Request> = (0..REQUESTS).map(|_| dice.pick(&requests)).collect();
        let basis = Remembered::basis(&texts, &terms, &sites, None);
        let mut remembered = Remembered { basis, memo: Memo::default() };
        for moment in 0..MOMENTS {
            if moment > 0 {
                // A few facts change, now and then a factory's terms, and at times the owner's policy.
                (0..4).for_each(|_| sites[dice.below(SITES)] = dice.pick(&factories));
                if dice.percent(50) {
                    let changed = dice.below(terms.len());
                    terms[changed] = layer(&mut dice, LayerKind::Terms);
                }
                if dice.percent(10) {
                    texts[0] = layer(&mut dice, LayerKind::Owner);
                }
                remembered.basis = Remembered::basis(&texts, &terms, &sites, Some(&remembered.basis));
            }
            let rows: Vec<(&Request, Arc<Row>)> =
                asked.iter().map(|request| (*request, remembered.row(request))).collect();
            compare(&texts, &terms, &sites, &rows, seed, &mut tally);
        }
    }
    tally
}

#[allow(clippy::disallowed_methods)] // A test's size and seed come from whoever starts it.
fn asked_for(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn cedar_audit_and_memo_agree_on_random_policies() {
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
