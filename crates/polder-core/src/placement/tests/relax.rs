//! Relaxations, held to what they promise: making one places the request at the factory it names, and no smaller set of
//! changes would. Small worlds are tried out in full.
//!
//! Making a change means: the rule is gone from its layer, a layer without a permit has one, what was not available is,
//! and the profile holds the fact as the change says. All worlds are random, from a seed.

use std::sync::Arc;

use super::*;
use crate::facts::{Certification, Claim, Evidence, Fact, Held, Profile};
use crate::ids::IssuerId;
use crate::labels::{Closed as _, Country};
use crate::placement::nearest::change;
use crate::placement::nearest::facts::{TRIES_MAX, candidates};
use crate::policy::{LABELS_POLICY, POLICY_ERROR, Rule, Usage};
use crate::tests::layer;
use crate::tests::random::{Dice, FACTORIES};

mod facts;

/// One thing that can give way: whose, of which factory where it is a factory's own, and what.
type Thing = (LayerKind, Option<NodeId>, String);

/// A fact that is better known, and of which factory.
type Known = (NodeId, FactChange);

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

    /// A random world in which owner and baseline ask for what facts may say, as policies in earnest do.
    fn of_facts(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut rules = |most: usize| {
            let mut text = OPEN.to_owned();
            for n in 0..=dice.below(most) {
                let relax = if dice.percent(30) { "@relax(\"1\")\n" } else { "" };
                let demand = dice.pick::<&str>(&DEMANDS);
                text += &format!(
                    "\n@id(\"r{n}\")\n@reason(\"test\")\n{relax}forbid (principal, action, resource) unless {{ {demand} }};"
                );
            }
            text
        };
        let (baseline, owner) = (rules(1), rules(3));
        Self { baseline, owner, ..Self::new(seed, 3, 1) }
    }

    /// What is known after these things gave way and these facts are better known.
    fn after(&self, gone: &BTreeSet<Thing>, facts: &[Known], layers: &mut Layers) -> Snapshot {
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
            let mut profile = ground.column.profile().clone();
            let own: Vec<&Known> = facts.iter().filter(|(of, _)| *of == ground.id).collect();
            own.iter().for_each(|(_, change)| make(&mut profile, change, &ground.id));
            if !own.is_empty() {
                let usage = ground.column.usage();
                ground.column = Arc::new(Column::new(&ground.id, profile, usage, &schema()).unwrap());
            }
        }
        let weights = Weights { price: 1, load: 0, latency: 0, ..Weights::default() };
        Snapshot::new(1_500, Arc::new(left), Digest::default(), weights, factories)
    }

    fn decide(&self, gone: &BTreeSet<Thing>, facts: &[Known], layers: &mut Layers) -> Decision {
        decide(&self.after(gone, facts, layers), &self.request, &BTreeMap::new())
    }

    /// Where the request would run. Advice is not asked for: there are many worlds to try.
    fn chosen(&self, gone: &BTreeSet<Thing>, facts: &[Known], layers: &mut Layers) -> Option<NodeId> {
        let snapshot = self.after(gone, facts, layers);
        let row = Row::new(&snapshot.basis, &self.request);
        snapshot.best(row.admitted()).map(|place| snapshot.basis.grounds[place].id.clone())
    }

    /// Everything that keeps the request out of each factory once these facts are better known.
    fn obstacles(&self, facts: &[Known], layers: &mut Layers) -> Vec<BTreeSet<Change>> {
        let snapshot = self.after(&BTreeSet::new(), facts, layers);
        let row = Row::new(&snapshot.basis, &self.request);
        let of = |(place, (ground, factory)): (usize, (&Ground, &Factory))| {
            let causes = row.causes(place).into_iter().chain(factory.unavailable.iter().cloned());
            causes.map(|cause| change(&snapshot.basis, ground, &cause)).collect()
        };
        snapshot.each().enumerate().map(of).collect()
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
            if let Some(factory) = self.chosen(&gone, &[], layers) {
                smallest.insert((gone, factory));
            }
        }
        smallest
    }
}

/// What policies in earnest ask for.
const DEMANDS: [&str; 12] = [
    "resource has site && resource.site.evidence.contains(Evidence::\"B\")",
    "resource has operator && resource.operator.evidence.contains(Evidence::\"B\")",
    "resource has operator && resource.operator.evidence.contains(Evidence::\"A\") && resource has site",
    "resource has control && resource.control.evidence.contains(Evidence::\"B\")",
    "resource has control && resource.control.in_eea && resource.control.evidence.contains(Evidence::\"A\")",
    "resource.certifications.attested.contains(Certification::\"iso-27001\")",
    "resource.certifications.attested.containsAll([Certification::\"iso-27001\", Certification::\"bsi-c5\"])",
    "resource.clearances.declared.containsAny([Country::\"FR\", Country::\"DE\"])",
    "resource.clearances.measured.contains(Country::\"NO\") || resource.certifications.declared.contains(Certification::\"hds\")",
    "resource has chips && resource.chips.evidence.contains(Evidence::\"B\")",
    "resource has energy && resource.energy.evidence.contains(Evidence::\"B\")",
    "context has model && context.model has digest && context.model.digest.evidence.contains(Evidence::\"A\")",
];

/// What a set of changes asks for at a factory: the things that give way, and the facts that are better known.
fn meant(factory: &NodeId, changes: &[Change]) -> (BTreeSet<Thing>, Vec<Known>) {
    let (mut things, mut facts) = (BTreeSet::new(), Vec::new());
    for change in changes {
        match change {
            Change::Rule { layer, rule } => {
                let own = matches!(layer, LayerKind::Terms | LayerKind::Availability);
                things.insert((*layer, own.then(|| factory.clone()), rule.clone()));
            }
            Change::Fact { fact } => facts.push((factory.clone(), fact.clone())),
        }
    }
    (things, facts)
}

/// Makes a fact as well known as a change says, read from the change alone.
fn make(profile: &mut Profile, change: &FactChange, subject: &NodeId) {
    let FactChange { slot, says, issuer, from, to } = change;
    let held = match (from, says) {
        (Some(from), None) => {
            let held = profile.facts[slot].clone();
            assert!(held.evidence == *from && from < to, "{change:?}");
            Held { evidence: *to, ..held }
        }
        (None, Some(says)) => {
            let said = |held: &&Held| {
                held.fact.claim.words() == *says && Some(&held.fact.issuer) == issuer.as_ref() && held.evidence == *to
            };
            profile.contested.remove(slot).unwrap().iter().find(said).unwrap().clone()
        }
        (None, None) => {
            assert!(!profile.facts.contains_key(slot), "{change:?}");
            let claim = match slot.split_once('/').unwrap() {
                ("certifications", scheme) => Claim::Certification { scheme: Certification::parse(scheme).unwrap() },
                ("clearances", code) => Claim::Clearance { country: Country::parse(code).unwrap() },
                _ => panic!("nobody says anything of `{slot}`"),
            };
            let issuer = IssuerId::parse("anyone").unwrap();
            let fact = Fact { subject: subject.clone(), claim, evidence: *to, issuer, from_ms: 1_000, until_ms: 2_000 };
            Held { fact, evidence: *to, digest: Digest::default(), key: [9; 32] }
        }
        (Some(_), Some(_)) => panic!("what is held is not contested: {change:?}"),
    };
    profile.facts.insert(slot.clone(), held);
}

fn changes_a_fact(relaxation: &Relaxation) -> bool {
    relaxation.changes.iter().any(|change| matches!(change, Change::Fact { .. }))
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
    let (mut layers, mut made, mut large, mut of_facts) = (Layers::new(), 0, 0, 0);
    for seed in 0..500 {
        let world = if seed < 400 { Small::new(seed, 5, 3) } else { Small::of_facts(seed) };
        let decision = world.decide(&BTreeSet::new(), &[], &mut layers);
        assert_eq!(decision.nearest.is_empty(), decision.outcome == Outcome::Placed, "seed {seed}");
        for relaxation in &decision.nearest {
            let (things, facts) = meant(&relaxation.factory, &relaxation.changes);
            let after = world.decide(&things, &facts, &mut layers);
            assert_eq!(after.factory.as_ref(), Some(&relaxation.factory), "seed {seed}: {relaxation:?}");
            made += 1;
            large += usize::from(relaxation.changes.len() > 2);
            of_facts += usize::from(!facts.is_empty());
        }
    }
    println!("{made} relaxations, {large} of several changes, {of_facts} of facts");
    assert!(made > 300 && large > 50, "{made} relaxations, {large} of them of several changes, prove little");
    assert!(of_facts > 50, "{of_facts} relaxations that change a fact prove little");
}

#[test]
fn no_smaller_relaxation_exists_in_small_worlds() {
    let (mut layers, mut tried, mut choices) = (Layers::new(), 0, 0);
    for seed in 1_000..1_500 {
        let world = Small::new(seed, 3, 1);
        let things = world.things();
        let decision = world.decide(&BTreeSet::new(), &[], &mut layers);
        if things.len() > 7 || decision.outcome == Outcome::Placed {
            continue;
        }
        let said = decision.nearest.iter().filter(|one| !changes_a_fact(one));
        let said: BTreeSet<_> = said.map(|one| (meant(&one.factory, &one.changes).0, one.factory.clone())).collect();
        let smallest = world.smallest(&things, &mut layers);
        if decision.nearest.len() < NEAREST_MAX {
            assert_eq!(said, smallest, "seed {seed}: {:?}", decision.nearest);
        }
        assert!(said.is_subset(&smallest), "seed {seed}: {:?}", decision.nearest);
        assert!(decision.nearest.is_sorted_by_key(|one| (one.distance, one.changes.len())), "seed {seed}");
        tried += 1;
        choices += usize::from(smallest.len() > 1);
    }
    println!("{tried} worlds, {choices} of them with a choice");
    assert!(tried > 150 && choices > 40, "{tried} worlds, {choices} of them with a choice, prove little");
}

#[test]
fn every_change_of_a_fact_is_needed() {
    let (mut layers, mut tried, mut several) = (Layers::new(), 0, 0);
    for seed in 2_000..2_300 {
        let world = if seed % 3 == 0 { Small::new(seed, 3, 2) } else { Small::of_facts(seed) };
        let decision = world.decide(&BTreeSet::new(), &[], &mut layers);
        for one in decision.nearest.iter().filter(|one| changes_a_fact(one) && one.changes.len() < 8) {
            let facts = meant(&one.factory, &one.changes).1;
            for left_out in 1..1_u32 << one.changes.len() {
                let kept = (0..one.changes.len()).filter(|n| left_out >> n & 1 == 0);
                let (things, facts) = meant(&one.factory, &kept.map(|n| one.changes[n].clone()).collect::<Vec<_>>());
                let placed = world.chosen(&things, &facts, &mut layers);
                assert_eq!(placed, None, "seed {seed}: {one:?} needs no more than {things:?} and {facts:?}");
            }
            if let [(of, fact)] = facts.as_slice() {
                let weaker = |class: &Evidence| fact.says.is_none() && Some(*class) > fact.from && *class < fact.to;
                for to in Evidence::all().into_iter().filter(weaker) {
                    let things = meant(&one.factory, &one.changes).0;
                    let placed = world.chosen(&things, &[(of.clone(), FactChange { to, ..fact.clone() })], &mut layers);
                    assert_eq!(placed, None, "seed {seed}: class {to:?} would do in {one:?}");
                }
            }
            tried += 1;
            several += usize::from(facts.len() > 1);
        }
    }
    println!("{tried} relaxations that change facts, {several} of them several");
    assert!(tried > 100 && several > 20, "{tried} relaxations, {several} of several facts, prove little");
}

#[test]
fn no_single_fact_that_would_help_is_missing() {
    let (mut layers, mut tried, mut helped) = (Layers::new(), 0, 0);
    for seed in 3_000..3_300 {
        let world = if seed % 3 == 0 { Small::new(seed, 3, 2) } else { Small::of_facts(seed) };
        let decision = world.decide(&BTreeSet::new(), &[], &mut layers);
        if decision.outcome != Outcome::Refused || decision.nearest.is_empty() {
            continue;
        }
        let snapshot = world.after(&BTreeSet::new(), &[], &mut layers);
        let before = world.obstacles(&[], &mut layers);
        let mut left = crate::placement::nearest::TRIES_MAX;
        for (place, ground) in snapshot.basis.grounds.iter().enumerate() {
            let refuses = |layer: &Layer, rule: &Rule| {
                before[place].contains(&Change::Rule { layer: layer.kind(), rule: rule.id.clone() })
            };
            let asked = [&snapshot.basis.baseline, &snapshot.basis.owner, &ground.terms];
            let rules: Vec<&Rule> = asked.iter().flat_map(|l| l.rules().filter(|rule| refuses(l, rule))).collect();
            let model = world.request.model.as_ref();
            let ladders = candidates(&rules, ground.column.profile(), model, &ground.id);
            let ladders: Vec<_> = ladders.into_iter().flatten().collect();
            // Of more than that not all are tried.
            left = left.saturating_sub(ladders.len());
            if ladders.len() > TRIES_MAX || left == 0 {
                continue;
            }
            for candidate in ladders {
                let known = [(ground.id.clone(), candidate.change.clone())];
                let after = world.obstacles(&known, &mut layers).swap_remove(place);
                tried += 1;
                if !after.is_subset(&before[place]) || after == before[place] {
                    continue;
                }
                let fact = Change::Fact { fact: candidate.change };
                let whole: BTreeSet<Change> = after.into_iter().chain([fact]).collect();
                let distance: u64 = whole.iter().map(|change| distance(change, &snapshot.basis.owner)).sum();
                let named = decision.nearest.iter().any(|one| is_within(one, &whole, &ground.id));
                let further = |last: &Relaxation| decision.nearest.len() == NEAREST_MAX && last.distance <= distance;
                let crowded = decision.nearest.last().is_some_and(further);
                assert!(named || crowded, "seed {seed}: {whole:?} at {} is not in {:?}", ground.id, decision.nearest);
                helped += 1;
            }
        }
    }
    println!("{tried} facts, {helped} of them would help");
    assert!(helped > 100, "{helped} of {tried} facts that would help prove little");
}

/// Whether a relaxation asks for no more than a set of changes at a factory: the same facts, no better known.
fn is_within(one: &Relaxation, whole: &BTreeSet<Change>, factory: &NodeId) -> bool {
    one.changes.iter().all(|change| match change {
        Change::Rule { layer: LayerKind::Baseline | LayerKind::Owner | LayerKind::Labels, .. } => {
            whole.contains(change)
        }
        Change::Rule { .. } => one.factory == *factory && whole.contains(change),
        Change::Fact { fact } => {
            let stronger = |to| Change::Fact { fact: FactChange { to, ..fact.clone() } };
            let enough = Evidence::all().into_iter().filter(|class| *class >= fact.to);
            one.factory == *factory && enough.map(stronger).any(|change| whole.contains(&change))
        }
    })
}

#[test]
fn a_rule_that_gives_way_does_not_stand_for_a_permit() {
    let owner = "@id(\"never\")\n@reason(\"test\")\nforbid (principal, action, resource);";
    let decision = World::new(owner, vec![Site::new("a", "FR", "FR", 1)]).decide(&public());
    let changes: Vec<&str> = decision.nearest[0].changes.iter().map(|change| change.name()).collect();
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
    assert_eq!((nearest.changes[0].name(), nearest.distance), ("sum", 10_000));
    assert_eq!(decision.verdicts[0].causes[0].clause.as_ref().unwrap().line, 2);
}

#[test]
fn nothing_is_advised_without_a_purpose() {
    let decision = World::new(BANK, vec![Site::new("a", "FR", "FR", 1)]).decide(&request(DataClass::Public, &[]));
    assert_eq!((decision.outcome, decision.nearest.len()), (Outcome::Refused, 0));
}
