//! A small federation in virtual time, honest or lying, and the monitor that reads it: hundreds of seeds for every kind of lie.
//!
//! The nodes number, link and sign as the product does; a lie is told by the node that holds the keys, so everything that it signs
//! is signed well. An honest federation, with its crashes, retries and midnights, gives no finding.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use ed25519_dalek::SigningKey;

use super::*;
use crate::canonical::to_bytes;
use crate::chain::{Counted, Counters};
use crate::facts::{SignedFact, passport_root};
use crate::ids::DecisionId;
use crate::labels::{DataClass, Purpose};
use crate::merkle::leaf_hash;
use crate::note::origin;
use crate::placement::{Outcome, Snapshot, decide};
use crate::policy::{Cause, LayerKind, policy_digest};
use crate::statement::v1::*;
use crate::tests::{BANK, BASELINE, DEFENCE, REGISTER, Site, World, key, node, request, schema};

/// Days since the epoch, at noon: the demo's facts are made to hold for ever here.
const BEGIN_MS: u64 = 20_000 * 86_400_000 + 43_200_000;
const FOR_EVER_MS: u64 = 9_000_000_000_000;

/// SplitMix64: seeds that are neighbours give numbers that are not.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.iter_mut().for_each(|byte| *byte = self.next() as u8);
        bytes
    }
}

/// The worlds that are decided in, with their snapshots: policies are read once.
fn worlds() -> &'static [(World, Snapshot)] {
    static WORLDS: OnceLock<Vec<(World, Snapshot)>> = OnceLock::new();
    WORLDS.get_or_init(|| {
        let world = |owner: &str| {
            let sites = vec![
                Site::new("berlin", "DE", "DE", 3),
                Site::new("paris", "FR", "FR", 2),
                Site::new("virginia", "US", "US", 1),
            ];
            let mut world = World { at_ms: BEGIN_MS, ..World::new(owner, sites) };
            for site in &mut world.sites {
                for signed in &mut site.passport {
                    let fact = crate::facts::Fact { until_ms: FOR_EVER_MS, ..signed.fact.clone() };
                    *signed = SignedFact::sign(fact, &key(REGISTER)).unwrap();
                }
            }
            let snapshot = world.snapshot();
            (world, snapshot)
        };
        [BANK, DEFENCE].map(world).into()
    })
}

/// What the world's decisions name by digest.
fn objects(world: &World) -> Objects {
    let sources = world.sources();
    let mut objects = Objects::new();
    objects.extend(sources.policies.into_iter().map(|(digest, text)| (digest, text.into_bytes())));
    for passport in sources.passports.into_values() {
        objects.insert(passport_root(&passport).unwrap(), to_bytes(&passport).unwrap());
    }
    objects.insert(sources.trust.digest().unwrap(), to_bytes(&sources.trust).unwrap());
    objects.insert(schema().digest(), to_bytes(&sources.frameworks).unwrap());
    objects
}

/// A node that keeps a log.
struct Site1 {
    node: NodeId,
    key: SigningKey,
    counters: Counters,
    salts: Chance,
    leaves: Vec<([u8; 32], Vec<u8>)>,
    /// Places that are not shown, and places that are left out of the count.
    withheld: BTreeSet<u64>,
}

impl Site1 {
    fn new(name: &str, number: u8, seed: u64) -> Self {
        let (node, key) = (node(name), key(number));
        let counters = Counters::new(node.clone(), 0, BEGIN_MS);
        Self { node, key, counters, salts: Chance(seed), leaves: Vec::new(), withheld: BTreeSet::new() }
    }

    fn push(&mut self, statement: &Statement, now_ms: u64, counted: bool) -> u64 {
        let (salt, bytes) = (self.salts.bytes(), statement.to_bytes().unwrap());
        let (place, entry) = (self.leaves.len() as u64, commitment(&salt, &bytes));
        let chain = ChainName::of(statement, &self.node).filter(|_| counted);
        let leaf = Counted { kind: statement.kind(), chain: chain.as_ref(), place, entry: &entry };
        self.counters.take(leaf, now_ms, [7; 32]).unwrap();
        self.leaves.push((salt, bytes));
        place
    }

    fn link(&mut self, now_ms: u64, all: bool) {
        for link in self.counters.links(now_ms, all) {
            self.push(&Statement::Link(link), now_ms, true);
        }
    }

    /// What the writer does before each batch and when nothing comes.
    fn tick(&mut self, now_ms: u64, lie: Lie) {
        if self.counters.day_over(now_ms) {
            self.link(now_ms, true);
            let mut day = self.counters.state_day(now_ms);
            if lie == Lie::WrongDay {
                *day.kinds.values_mut().next().unwrap() += 1;
            }
            self.push(&Statement::Day(day), now_ms, true);
        }
        if self.counters.due(now_ms) {
            self.link(now_ms, false);
        }
    }

    fn entries(&self) -> Vec<Digest> {
        self.leaves.iter().map(|(salt, bytes)| commitment(salt, bytes)).collect()
    }

    fn tree(&self, size: usize) -> Tree {
        let mut tree = Tree::default();
        self.entries()[..size].iter().for_each(|entry| tree.push(leaf_hash(&entry.0)));
        tree
    }

    fn note(&self, size: usize) -> String {
        Checkpoint::new(origin(&self.node), size as u64, self.tree(size).root()).sign(&self.key)
    }

    fn vkey(&self) -> VerifierKey {
        VerifierKey::new_log(origin(&self.node), self.key.verifying_key()).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// The history that was shown is replaced by one without a leaf.
    Fork,
    /// The newest leaves are taken back.
    Truncated,
    /// A decision never gets a leaf.
    Omitted,
    /// A decision is taken out before anybody has seen the log, and all is signed anew.
    TakenOut,
    /// A decision has a leaf and no number.
    Uncounted,
    /// A statement is kept back.
    Withheld,
    /// A statement is shown that is another than was logged.
    Rewritten,
    /// A decision claims to be three days older.
    Backdated,
    /// A decision claims to be made tomorrow.
    Postdated,
    /// Something runs where the policy forbids it, and the verdict is bent to fit.
    WrongVerdict,
    /// The second best is chosen.
    WrongChoice,
    /// A policy is used that no leaf put in force.
    OtherPolicy,
    /// A factory's facts are used that no leaf took in.
    OtherFacts,
    /// A factory bills what nobody placed.
    MadeUp,
    /// A factory runs something else than the ticket says.
    OtherTicket,
    /// The day's statement counts wrongly.
    WrongDay,
    /// Somebody was shown another tree.
    SplitView,
}

const LIES: [(Lie, &[Kind]); 17] = [
    // Where nothing came after what was taken out, the log is merely shorter.
    (Lie::Fork, &[Kind::Fork, Kind::Shrunk]),
    (Lie::Truncated, &[Kind::Shrunk]),
    (Lie::Omitted, &[Kind::UnpairedExecution]),
    (Lie::TakenOut, &[Kind::Gap, Kind::DoubleNumber, Kind::Day]),
    (Lie::Uncounted, &[Kind::LeftOut]),
    (Lie::Withheld, &[Kind::Withheld]),
    (Lie::Rewritten, &[Kind::Commitment]),
    (Lie::Backdated, &[Kind::Backdated]),
    (Lie::Postdated, &[Kind::Postdated]),
    (Lie::WrongVerdict, &[Kind::Verdict]),
    (Lie::WrongChoice, &[Kind::Verdict]),
    (Lie::OtherPolicy, &[Kind::Policy]),
    (Lie::OtherFacts, &[Kind::Import]),
    (Lie::MadeUp, &[Kind::UnpairedExecution]),
    (Lie::OtherTicket, &[Kind::Mismatch]),
    (Lie::WrongDay, &[Kind::Day]),
    (Lie::SplitView, &[Kind::Fork]),
];

/// A federation of one home and its factories.
struct Federation {
    snapshot: &'static Snapshot,
    chance: Chance,
    home: Site1,
    factories: BTreeMap<NodeId, Site1>,
    objects: Objects,
    now_ms: u64,
    lie: Lie,
    /// Which placement the lie is told about; the first that can be lied about from then on.
    target: u64,
    told: bool,
    placed: u64,
    cuts: Vec<Cut>,
    /// How many leaves the home had when the monitor first looked.
    first_look: usize,
}

impl Federation {
    fn new(seed: u64, lie: Lie) -> Self {
        let mut chance = Chance(seed);
        let (world, snapshot) = &worlds()[chance.below(2) as usize];
        let factories = [("berlin", 40), ("paris", 50), ("virginia", 60)];
        let factories =
            factories.map(|(name, number)| (node(name), Site1::new(name, number, seed ^ u64::from(number))));
        let target = 2 + chance.below(8);
        let mut federation = Self {
            snapshot,
            chance,
            home: Site1::new("home", 30, seed ^ 30),
            factories: factories.into(),
            objects: objects(world),
            now_ms: BEGIN_MS,
            lie,
            target,
            told: false,
            placed: 0,
            cuts: Vec::new(),
            first_look: 0,
        };
        let activation = Statement::Activation(ActivationStatement {
            home: node("home"),
            file: "owner.cedar".to_owned(),
            digest: policy_digest(&world.owner),
            previous: None,
            baseline: policy_digest(BASELINE),
            at_ms: BEGIN_MS,
            how: How::Start,
            narrower: false,
            proofs: Vec::new(),
        });
        federation.home.push(&activation, BEGIN_MS, true);
        federation.take_in();
        federation
    }

    /// Writes down the texts, facts and terms that the home decides by.
    fn take_in(&mut self) {
        let statement = self.record(&BTreeMap::new(), Digest([5; 32]));
        let policies = &statement.statement.policies;
        let now = Grounds { baseline: policies.baseline, schema: policies.schema, trust: policies.trust };
        let view = ViewStatement { home: node("home"), at_ms: BEGIN_MS, now, previous: None };
        self.home.push(&Statement::View(view), BEGIN_MS, true);
        for ruling in statement.tables().verdicts {
            let other = self.lie == Lie::OtherFacts && !std::mem::replace(&mut self.told, true);
            let import = ImportStatement {
                node: node("home"),
                about: ruling.factory,
                from: Source::Peer,
                at_ms: BEGIN_MS,
                root: if other { Digest([4; 32]) } else { ruling.passport },
                previous: None,
                terms: ruling.terms,
                taken: Vec::new(),
                dropped: Vec::new(),
            };
            self.home.push(&Statement::Import(import), BEGIN_MS, true);
        }
    }

    /// Whether the lie is told now.
    fn lies(&mut self, lie: Lie) -> bool {
        let now = self.lie == lie && !self.told && self.placed >= self.target;
        self.told |= now;
        now
    }

    /// Runs for a day and a half.
    fn run(&mut self) {
        for _ in 0..24 {
            self.now_ms += 60_000 + self.chance.below(10_000_000);
            self.ask();
            if self.chance.below(12) == 0 {
                self.crash();
            }
            for _ in 0..3 {
                self.now_ms += 5_000;
                self.tick();
            }
            if self.first_look == 0 && self.told {
                self.first_look = self.home.leaves.len();
            }
        }
        self.now_ms += 3_600_000;
        self.tick();
    }

    fn tick(&mut self) {
        let (now_ms, lie) = (self.now_ms, self.lie);
        self.home.tick(now_ms, if lie == Lie::WrongDay && !self.told { lie } else { Lie::None });
        self.told |= lie == Lie::WrongDay && !self.home.counters.days().is_empty();
        self.factories.values_mut().for_each(|one| one.tick(now_ms, Lie::None));
    }

    fn record(&mut self, excluded: &BTreeMap<NodeId, Vec<Cause>>, body: Digest) -> DecisionRecord {
        let classes = [DataClass::Public, DataClass::Internal, DataClass::Customer];
        let class = classes[self.chance.below(3) as usize];
        let request = request(class, &[Purpose::Industry]);
        let snapshot = self.snapshot.at(self.now_ms);
        let decision = decide(&snapshot, &request, excluded);
        let id = DecisionId::at(self.now_ms, self.chance.bytes());
        DecisionRecord::of(id, node("home"), &snapshot, request, body, decision).unwrap()
    }

    /// One request: decided, sometimes again, and run.
    fn ask(&mut self) {
        let body = Digest(self.chance.bytes());
        let mut record = self.record(&BTreeMap::new(), body);
        if record.statement.outcome == Outcome::Placed && self.chance.below(6) == 0 {
            // The factory is gone: the home decides again.
            let chosen = record.statement.factory.clone().unwrap();
            self.state(record);
            let gone = Cause::built_in(LayerKind::Availability, crate::placement::UNREACHABLE, "test");
            record = self.record(&BTreeMap::from([(chosen, vec![gone])]), body);
        }
        let Some(factory) = record.statement.factory.clone() else {
            self.state(record);
            return;
        };
        self.placed += 1;
        let bent = self.bend(&mut record);
        let ticket = Digest(self.chance.bytes());
        record.statement.ticket = Some(ticket);
        let factory = record.statement.factory.clone().filter(|_| bent).unwrap_or(factory);
        let statement = self.state(record);
        let Statement::Decision(decided) = statement else { unreachable!() };
        self.now_ms += 800;
        let execution = ExecutionStatement {
            factory: factory.clone(),
            home: node("home"),
            tenant: decided.request.tenant.clone(),
            decision: decided.id.clone(),
            ticket: if self.lies(Lie::OtherTicket) { Digest([9; 32]) } else { ticket },
            body,
            terms: policy_digest(crate::tests::OPEN),
            model: decided.request.model.clone(),
            model_digest: None,
            backend: "cpu".to_owned(),
            prompt_tokens: 3,
            completion_tokens: 5,
            started_ms: self.now_ms - 700,
            ended_ms: self.now_ms,
            outcome: ExecutionOutcome::Completed,
        };
        let made_up = self.lies(Lie::MadeUp).then(|| DecisionId::at(self.now_ms, self.chance.bytes()));
        let (now_ms, site) = (self.now_ms, self.factories.get_mut(&factory).unwrap());
        if let Some(decision) = made_up {
            site.push(&Statement::Execution(ExecutionStatement { decision, ..execution.clone() }), now_ms, true);
        }
        site.push(&Statement::Execution(execution), now_ms, true);
    }

    /// Bends a decision as the lie wants it; whether the work goes where the bent one says.
    fn bend(&mut self, record: &mut DecisionRecord) -> bool {
        // Who could not be reached, or refused by itself, is the home's word: nothing else can be told of that.
        let by_rule = |cause: &Cause| matches!(cause.layer, LayerKind::Baseline | LayerKind::Owner | LayerKind::Labels);
        let refused = record.verdicts.iter().position(|verdict| verdict.causes.iter().any(by_rule));
        let admitted: Vec<usize> =
            (0..record.verdicts.len()).filter(|n| record.verdicts[*n].causes.is_empty()).collect();
        let worse = admitted.iter().find(|n| Some(&record.verdicts[**n].factory) != record.statement.factory.as_ref());
        match (refused, worse) {
            (Some(refused), _) if self.lies(Lie::WrongVerdict) => {
                record.verdicts[refused].causes.clear();
                let verdicts = &mut record.verdicts;
                let inputs = verdicts[refused].inputs;
                verdicts[refused].score = inputs.price_microeur_per_mtok * u64::from(record.statement.weights.price);
                let best = verdicts.iter().filter(|one| one.causes.is_empty());
                record.statement.factory =
                    best.min_by_key(|one| (one.score, one.factory.clone())).map(|one| one.factory.clone());
            }
            (_, Some(worse)) if self.lies(Lie::WrongChoice) => {
                record.statement.factory = Some(record.verdicts[*worse].factory.clone());
            }
            _ if self.lies(Lie::Backdated) => record.statement.at_ms -= 3 * 86_400_000,
            _ if self.lies(Lie::Postdated) => record.statement.at_ms += 10 * 86_400_000,
            _ if self.lies(Lie::OtherPolicy) => {
                record.statement.policies.owner = policy_digest(crate::tests::OPEN);
                self.objects.insert(policy_digest(crate::tests::OPEN), crate::tests::OPEN.as_bytes().to_vec());
            }
            _ => return false,
        }
        true
    }

    /// Writes a decision into the home's log, with what it names.
    fn state(&mut self, mut record: DecisionRecord) -> Statement {
        let tables = record.tables();
        let digests = tables.digests().unwrap();
        record.statement.tables = digests.digest().unwrap();
        self.objects.insert(record.statement.tables, to_bytes(&digests).unwrap());
        self.objects.insert(digests.verdicts, to_bytes(&tables.verdicts).unwrap());
        self.objects.insert(digests.scores, to_bytes(&tables.scores).unwrap());
        self.objects.insert(digests.seals, to_bytes(&tables.seals).unwrap());
        let placed = record.statement.ticket.is_some();
        let statement = Statement::Decision(Box::new(record.statement));
        if placed && self.lies(Lie::Omitted) {
            return statement;
        }
        let counted = !(placed && self.lies(Lie::Uncounted));
        let place = self.home.push(&statement, self.now_ms, counted);
        if placed && self.lies(Lie::Withheld) {
            self.home.withheld.insert(place);
        }
        if placed && (self.lies(Lie::Fork) || self.lies(Lie::TakenOut)) {
            // Which leaf goes is remembered as the one that is not shown.
            self.home.withheld.insert(place);
        }
        if placed && self.lies(Lie::Rewritten) {
            let Statement::Decision(one) = &statement else { unreachable!() };
            let other = DecisionStatement { body: Digest([8; 32]), ..(**one).clone() };
            self.home.withheld.insert(place);
            self.objects.insert(Digest([8; 32]), Statement::Decision(Box::new(other)).to_bytes().unwrap());
        }
        statement
    }

    /// The home is cut short: what it has just decided, and the factory has run, has no leaf; and it says when that was.
    fn crash(&mut self) {
        let record = self.record(&BTreeMap::new(), Digest([6; 32]));
        let (id, Some(factory)) = (record.statement.id.clone(), record.statement.factory.clone()) else { return };
        let execution = ExecutionStatement {
            factory: factory.clone(),
            home: node("home"),
            tenant: record.statement.request.tenant.clone(),
            decision: id,
            ticket: Digest(self.chance.bytes()),
            body: Digest([6; 32]),
            terms: policy_digest(crate::tests::OPEN),
            model: record.statement.request.model.clone(),
            model_digest: None,
            backend: "cpu".to_owned(),
            prompt_tokens: 1,
            completion_tokens: 1,
            started_ms: self.now_ms,
            ended_ms: self.now_ms,
            outcome: ExecutionOutcome::Cancelled,
        };
        self.cuts.push(Cut { node: node("home"), from_ms: self.now_ms - 500, until_ms: self.now_ms + 500 });
        let now_ms = self.now_ms;
        self.factories.get_mut(&factory).unwrap().push(&Statement::Execution(execution), now_ms, true);
    }

    /// The home's log without the leaf that is taken out, all signed anew: numbers and links as they were written.
    fn without(&self) -> Site1 {
        let gone = *self.home.withheld.first().unwrap() as usize;
        let mut other = Site1::new("home", 30, 1);
        other.leaves.clone_from(&self.home.leaves);
        other.leaves.remove(gone);
        other
    }
}

/// Reads one node's log as a monitor does, from what it knows on; every finding.
fn follow(
    log: &mut Log,
    site: &Site1,
    sizes: &[usize],
    others: &[Shown],
    now_ms: u64,
) -> (Vec<Statement1>, Vec<Finding>) {
    let (mut statements, mut findings) = (Vec::new(), Vec::new());
    for size in sizes {
        let (shown, found) = log.look(&site.note(*size), &site.vkey(), None);
        findings.extend(found);
        let Some(shown) = shown else { continue };
        let entries = site.entries();
        let from = log.size() as usize;
        match log.grow(&entries[from..*size], &shown, others) {
            Ok(found) => findings.extend(found),
            Err(finding) => {
                let (tree, last) = (site.tree(*size), log.last().cloned());
                let proof = tree.consistency(from as u64, *size as u64).unwrap();
                let prefix = tree.root_at(from as u64).unwrap();
                let forked = last.and_then(|last| log.forked(&last, &shown, prefix, &proof));
                findings.push(forked.unwrap_or(*finding));
                continue;
            }
        }
        for (index, entry) in (0..).zip(&entries[..*size]).skip(log.statements_read() as usize) {
            let leaf = &site.leaves[index as usize];
            let shown = Some((&leaf.0, leaf.1.as_slice())).filter(|_| !site.withheld.contains(&index));
            let (statement, found) = log.read(Leaf { index, entry: *entry, shown }, now_ms);
            findings.extend(found);
            statements.extend(statement.map(|statement| (log.origin().to_owned(), index, statement)));
        }
        // What is kept between two looks is all that is needed.
        *log = serde_json::from_slice(&serde_json::to_vec(log).unwrap()).unwrap();
    }
    findings.extend(log.overdue(now_ms));
    (statements, findings)
}

type Statement1 = (String, u64, Statement);

/// What the monitor finds in a federation that told a lie.
fn monitor(federation: &Federation, verdicts: bool) -> Vec<Finding> {
    let (now_ms, home) = (federation.now_ms, &federation.home);
    let (mut pairs, mut findings, mut statements) = (Pairs::default(), Vec::new(), Vec::new());
    pairs.show(&home.node, federation.cuts.clone());
    let mut log = Log::new(origin(&home.node));
    let size = home.leaves.len();
    let middle = federation.first_look.clamp(1, size);
    let (mut read, found) = match federation.lie {
        Lie::Fork => {
            let honest = Site1 { withheld: BTreeSet::new(), ..federation.without() };
            let mut first = Site1::new("home", 30, 1);
            first.leaves.clone_from(&home.leaves);
            let (_, mut found) = follow(&mut log, &first, &[middle], &[], now_ms);
            let (read, more) = follow(&mut log, &honest, &[honest.leaves.len()], &[], now_ms);
            found.extend(more);
            (read, found)
        }
        Lie::TakenOut => follow(&mut log, &federation.without(), &[size - 1], &[], now_ms),
        Lie::Truncated => follow(&mut log, home, &[size, size - 1], &[], now_ms),
        Lie::Rewritten => {
            let mut shown = Site1::new("home", 30, 1);
            shown.leaves.clone_from(&home.leaves);
            let place = *home.withheld.first().unwrap() as usize;
            let (mut log, entries) = (Log::new(origin(&home.node)), shown.entries());
            let (mut read, mut found) = (Vec::new(), Vec::new());
            for (index, entry) in (0..).zip(entries) {
                let (salt, bytes) = &shown.leaves[index as usize];
                let bytes = if index as usize == place { &federation.objects[&Digest([8; 32])] } else { bytes };
                let (statement, more) = log.read(Leaf { index, entry, shown: Some((salt, bytes)) }, now_ms);
                found.extend(more);
                read.extend(statement.map(|statement| (log.origin().to_owned(), index, statement)));
            }
            (read, found)
        }
        Lie::SplitView => {
            let other = Checkpoint::new(origin(&home.node), middle as u64, Digest([1; 32])).sign(&home.key);
            let other = Shown { size: middle as u64, root: Digest([1; 32]), note: other };
            follow(&mut log, home, &[size], &[other], now_ms)
        }
        _ => follow(&mut log, home, &[middle, size], &[], now_ms),
    };
    findings.extend(found);
    statements.append(&mut read);
    let home_log = log;
    for site in federation.factories.values() {
        pairs.show(&site.node, []);
        let mut log = Log::new(origin(&site.node));
        let sizes: Vec<usize> = [site.leaves.len()].into_iter().filter(|size| *size > 0).collect();
        let (mut read, found) = follow(&mut log, site, &sizes, &[], now_ms);
        findings.extend(found);
        statements.append(&mut read);
    }
    for (log, index, statement) in &statements {
        findings.extend(pairs.take(log, *index, statement));
        if let (true, Statement::Decision(decision)) = (verdicts, statement) {
            let (tables, sources) = named(decision, &federation.objects).unwrap();
            findings.extend(home_log.check_imports(*index, decision, &tables));
            let wrong = check_verdict(decision, &tables, &sources);
            findings.extend(wrong.into_iter().map(|says| Finding::new(Kind::Verdict, log, Some(*index), says)));
        }
    }
    findings.extend(pairs.findings(now_ms, 60_000));
    findings
}

fn run(seed: u64, lie: Lie) -> Federation {
    let mut federation = Federation::new(seed, lie);
    federation.run();
    federation
}

#[test]
fn an_honest_federation_gives_no_finding() {
    let (mut paired, mut days, mut cuts) = (0, 0, 0);
    for seed in 0..60 {
        let federation = run(seed, Lie::None);
        // Deciding again costs most of the time.
        assert_eq!(monitor(&federation, seed < 8), Vec::new(), "seed {seed}");
        paired += federation.placed;
        days += federation.home.counters.days().len();
        cuts += federation.cuts.len();
    }
    assert!(paired > 300 && days > 30 && cuts > 30, "{paired} placed, {days} days, {cuts} crashes");
}

#[test]
fn every_lie_is_found_and_by_what() {
    for (lie, kinds) in LIES {
        let (mut told, decides) = (0, matches!(lie, Lie::WrongVerdict | Lie::WrongChoice | Lie::OtherFacts));
        for seed in 0..if decides { 16 } else { 60 } {
            let federation = run(1_000 + seed, lie);
            // Some worlds give no occasion: nothing else is admitted, or nothing refused.
            if !federation.told && !matches!(lie, Lie::Truncated | Lie::SplitView) {
                continue;
            }
            // A crash of the home at that time may have lost the decision: then the execution is listed, and nobody accused.
            if lie == Lie::MadeUp && !federation.cuts.is_empty() {
                continue;
            }
            told += 1;
            let found = monitor(&federation, decides);
            assert!(found.iter().any(|one| kinds.contains(&one.kind)), "{lie:?}, seed {seed}: {found:?}");
            for fork in found.iter().filter_map(|one| one.evidence.as_ref()) {
                assert!(
                    fork.check(&federation.home.vkey()).is_ok(),
                    "{lie:?}, seed {seed}: the evidence proves itself"
                );
            }
        }
        assert!(told >= 5, "{lie:?} was told {told} times");
    }
}

#[test]
fn the_words_are_stable_and_each_says_what_to_do() {
    for kind in Kind::ALL {
        let finding = Finding::new(kind, "polder/home", Some(3), "something");
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert!(!finding.follows.is_empty() && !finding.next.is_empty());
    }
    let words: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words.len(), Kind::ALL.len());
}

#[test]
fn numbers_that_would_count_for_ever_are_refused_at_once() {
    let site = Site1::new("home", 30, 1);
    let mut log = Log::new("polder/home");
    let link = crate::chain::v1::LinkStatement {
        node: site.node.clone(),
        chain: Digest([1; 32]),
        at_ms: BEGIN_MS,
        from: 1,
        to: u64::MAX,
        places: vec![[0, u64::MAX], [5, 2]],
        before: Digest([1; 32]),
        head: Digest([2; 32]),
    };
    let bytes = Statement::Link(link).to_bytes().unwrap();
    let entry = commitment(&[0; 32], &bytes);
    let (_, found) = log.read(Leaf { index: 0, entry, shown: Some((&[0; 32], &bytes)) }, BEGIN_MS);
    assert_eq!(found.iter().map(|one| one.kind).collect::<Vec<_>>(), [Kind::DoubleNumber, Kind::Gap]);
}
