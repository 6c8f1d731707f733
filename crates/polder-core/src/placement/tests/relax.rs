//! Relaxations, held to what they promise: making one places the request at the factory it names, and no smaller set of
//! changes would. Small worlds are tried out in full.
//!
//! Making a change means: the rule is gone from its layer, a layer without a permit has one, what was not available is.
//! All worlds are random, from a seed.

use std::sync::Arc;

use super::*;
use crate::policy::{LABELS_POLICY, Usage};
use crate::tests::random::{Dice, FACTORIES};
use crate::tests::{layer, schema};

/// One thing that can give way: whose, of which factory where it is a factory's own, and what.
type Thing = (LayerKind, Option<NodeId>, String);

/// Every text that was met, parsed once.
type Layers = BTreeMap<(LayerKind, String), Arc<Layer>>;

/// A world that things can be taken from.
struct Small {
    basis: Basis,
    factories: Vec<Factory>,
    baseline: String,
    owner: String,
    terms: BTreeMap<NodeId, String>,
    request: Request,
}

impl Small {
    /// A random world of up to `sites` factories with up to `rules` rules in each layer.
    fn new(seed: u64, sites: usize, rules: usize) -> Self {
        let mut dice = Dice::new(seed);
        let names = &FACTORIES[..=dice.below(sites)];
        let site = |(n, name): (u64, &&str)| Site::new(name, "FR", "FR", n % 2);
        let whole = World::new(OPEN, (0..).zip(names).map(site).collect()).snapshot();
        let (baseline, owner) = (dice.layer(rules), dice.layer(rules));
        let mut basis = (*whole.basis).clone();
        let mut factories: Vec<Factory> = whole.each().map(|(_, factory)| factory.clone()).collect();
        let mut terms = BTreeMap::new();
        for (ground, factory) in basis.grounds.iter_mut().zip(&mut factories) {
            let (profile, usage) = (dice.profile(&ground.id), Usage { vendor_share_percent: 50 });
            ground.column = Arc::new(Column::new(&ground.id, profile, usage, &schema()).unwrap());
            terms.insert(ground.id.clone(), dice.layer(rules));
            for rule in [NO_CAPACITY, UNREACHABLE] {
                if dice.percent(15) {
                    factory.unavailable.push(Cause::built_in(LayerKind::Availability, rule, "test"));
                }
            }
        }
        Self { basis, factories, baseline, owner, terms, request: dice.request() }
    }

    /// What is decided after these things gave way.
    fn decide(&self, gone: &BTreeSet<Thing>, layers: &mut Layers) -> Decision {
        let (mut left, mut factories) = (self.basis.clone(), self.factories.clone());
        let is_gone =
            |kind: LayerKind, of: Option<&NodeId>, what: &str| gone.contains(&(kind, of.cloned(), what.to_owned()));
        let mut rest = |kind: LayerKind, of: Option<&NodeId>, text: &str| {
            let rest = rest_of(text, |what| is_gone(kind, of, what));
            layers.entry((kind, rest)).or_insert_with_key(|(kind, text)| layer(*kind, text)).clone()
        };
        left.baseline = rest(LayerKind::Baseline, None, &self.baseline);
        left.owner = rest(LayerKind::Owner, None, &self.owner);
        left.labels = rest(LayerKind::Labels, None, LABELS_POLICY);
        for (ground, factory) in left.grounds.iter_mut().zip(&mut factories) {
            let mended = |what: &str| is_gone(LayerKind::Availability, Some(&ground.id), what);
            factory.unavailable.retain(|cause| !mended(&cause.rule));
            if mended(MODEL_NOT_SERVED) || mended(ACTION_NOT_OFFERED) {
                ground.offers = Arc::new([(self.request.action, self.request.model.clone())].into());
            }
            ground.terms = rest(LayerKind::Terms, Some(&ground.id), &self.terms[&ground.id]);
        }
        let weights = Weights { price: 1, load: 0, latency: 0 };
        let left = Snapshot::new(1_500, Arc::new(left), Digest::default(), weights, factories);
        decide(&left, &self.request, &BTreeMap::new())
    }

    /// Everything in this world that can give way.
    fn things(&self) -> Vec<Thing> {
        let texts = [
            (LayerKind::Baseline, None, self.baseline.as_str()),
            (LayerKind::Owner, None, self.owner.as_str()),
            (LayerKind::Labels, None, LABELS_POLICY),
        ];
        let terms = self.terms.iter().map(|(name, text)| (LayerKind::Terms, Some(name.clone()), text.as_str()));
        let mut things = Vec::new();
        for (kind, of, text) in texts.into_iter().chain(terms) {
            let ids = text.split("\n@id(\"").skip(1).map(|rule| id_of(rule).to_owned());
            let permit = (!text.starts_with(OPEN)).then(|| "not-permitted".to_owned());
            things.extend(ids.chain(permit).map(|what| (kind, of.clone(), what)));
        }
        for (ground, factory) in self.basis.grounds.iter().zip(&self.factories) {
            let offers = ground.offers.contains(&(self.request.action, self.request.model.clone()));
            let rule = if self.request.model.is_some() { MODEL_NOT_SERVED } else { ACTION_NOT_OFFERED };
            let model = (!offers).then(|| rule.to_owned());
            let causes = factory.unavailable.iter().map(|cause| cause.rule.clone()).chain(model);
            things.extend(causes.map(|what| (LayerKind::Availability, Some(ground.id.clone()), what)));
        }
        things
    }

    /// What a relaxation asks for, as things of this world.
    fn meant(relaxation: &Relaxation) -> BTreeSet<Thing> {
        let own = |change: &Change| matches!(change.layer, LayerKind::Terms | LayerKind::Availability);
        let of = |change: &Change| own(change).then(|| relaxation.factory.clone());
        relaxation.changes.iter().map(|change| (change.layer, of(change), change.rule.clone())).collect()
    }

    /// The smallest sets of things without which the request is placed, and where: found by trying every set.
    fn smallest(&self, things: &[Thing], layers: &mut Layers) -> BTreeSet<(BTreeSet<Thing>, NodeId)> {
        let mut sets: Vec<u32> = (0..1 << things.len()).collect();
        sets.sort_by_key(|set| set.count_ones());
        let mut smallest: BTreeSet<(BTreeSet<Thing>, NodeId)> = BTreeSet::new();
        for set in sets {
            let gone = (0..things.len()).filter(|n| (set >> n) & 1 == 1).map(|n| things[n].clone());
            let gone: BTreeSet<Thing> = gone.collect();
            if smallest.iter().any(|(smaller, _)| smaller.is_subset(&gone)) {
                continue;
            }
            if let Some(factory) = self.decide(&gone, layers).factory {
                smallest.insert((gone, factory));
            }
        }
        smallest
    }
}

/// The id of a rule whose text begins behind `@id("`.
fn id_of(rule: &str) -> &str {
    rule.split('"').next().unwrap()
}

/// A layer's text without the rules that are gone, and with the plain permit where its lack is.
fn rest_of(text: &str, is_gone: impl Fn(&str) -> bool) -> String {
    let mut pieces = text.split("\n@id(\"");
    let permits = pieces.next().unwrap();
    let mut rest = if is_gone("not-permitted") { OPEN } else { permits }.to_owned();
    for rule in pieces.filter(|rule| !is_gone(id_of(rule))) {
        rest += &format!("\n@id(\"{rule}");
    }
    rest
}

#[test]
fn making_a_relaxation_places_the_request_where_it_says() {
    let (mut layers, mut made, mut large) = (Layers::new(), 0, 0);
    for seed in 0..400 {
        let world = Small::new(seed, 5, 3);
        let decision = world.decide(&BTreeSet::new(), &mut layers);
        assert_eq!(decision.nearest.is_empty(), decision.outcome == Outcome::Placed, "seed {seed}");
        for relaxation in &decision.nearest {
            let after = world.decide(&Small::meant(relaxation), &mut layers);
            assert_eq!(after.factory.as_ref(), Some(&relaxation.factory), "seed {seed}: {relaxation:?}");
            made += 1;
            large += usize::from(relaxation.changes.len() > 2);
        }
    }
    assert!(made > 300 && large > 50, "{made} relaxations, {large} of them of several changes, prove little");
}

#[test]
fn no_smaller_relaxation_exists_in_small_worlds() {
    let (mut layers, mut tried, mut choices) = (Layers::new(), 0, 0);
    for seed in 1_000..1_500 {
        let world = Small::new(seed, 3, 1);
        let things = world.things();
        let decision = world.decide(&BTreeSet::new(), &mut layers);
        if things.len() > 7 || decision.outcome == Outcome::Placed {
            continue;
        }
        let said = decision.nearest.iter().map(|one| (Small::meant(one), one.factory.clone()));
        let smallest = world.smallest(&things, &mut layers);
        assert_eq!(said.collect::<BTreeSet<_>>(), smallest, "seed {seed}: {:?}", decision.nearest);
        assert!(decision.nearest.is_sorted_by_key(|one| (one.distance, one.changes.len())), "seed {seed}");
        tried += 1;
        choices += usize::from(smallest.len() > 1);
    }
    println!("{tried} worlds, {choices} of them with a choice");
    assert!(tried > 150 && choices > 40, "{tried} worlds, {choices} of them with a choice, prove little");
}

#[test]
fn a_rule_that_gives_way_does_not_stand_for_a_permit() {
    let owner = "@id(\"never\")\n@reason(\"test\")\nforbid (principal, action, resource);";
    let decision = World::new(owner, vec![Site::new("a", "FR", "FR", 1)]).decide(&public());
    let changes: Vec<&str> = decision.nearest[0].changes.iter().map(|change| change.rule.as_str()).collect();
    assert_eq!(changes, ["never", "not-permitted"]);
}

#[test]
fn what_is_a_factorys_own_is_never_anothers() {
    let gone = |name| Site::new(name, "FR", "FR", 1).unavailable(UNREACHABLE);
    let decision = World::new(BANK, vec![gone("a"), gone("b")]).decide(&public());
    let named: Vec<&str> = decision.nearest.iter().map(|one| one.factory.as_str()).collect();
    assert_eq!(named, ["a", "b"], "either of them would do");
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_named_itself() {
    let owner = format!(
        "{OPEN}\n@id(\"sum\")\n@reason(\"test\")\nforbid (principal, action, resource)\n\
         when {{ 9223372036854775807 + 1 == 0 }};"
    );
    let decision = World::new(&owner, vec![Site::new("a", "FR", "FR", 1)]).decide(&public());
    assert_eq!(rules(&decision, "a"), [POLICY_ERROR]);
    let nearest = &decision.nearest[0];
    assert_eq!((nearest.changes[0].rule.as_str(), nearest.distance), ("sum", 10_000));
    assert_eq!(decision.verdicts[0].causes[0].clause.as_ref().unwrap().line, 2);
}

#[test]
fn nothing_is_advised_without_a_purpose() {
    let decision = World::new(BANK, vec![Site::new("a", "FR", "FR", 1)]).decide(&request(DataClass::Public, &[]));
    assert_eq!((decision.outcome, decision.nearest.len()), (Outcome::Refused, 0));
}
