//! Tests of drills: a day comes out again whole, nothing is lost or made up, waits are those of a queue, and what is said to save does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use polder_core::canonical::{Digest, to_bytes};
use polder_core::facts::{Trust, facts_root};
use polder_core::labels::Action;
use polder_core::monitor::Objects;
use polder_core::placement::{Basis, Factory, NO_CAPACITY, Snapshot, decide};
use polder_core::policy::{Cause, LABELS_POLICY, LayerKind, policy_digest};
use polder_core::statement::v1::DecisionRecord;
use polder_core::tables::TableDigests;

use super::concentration::{DIMENSIONS, Spread};
use super::*;
use crate::draw::Draws;
use crate::federation::{Federation, FederationKeys, Tenant};
use crate::scenario::node::{authority_of, key_of};
use crate::study::ground::Grounds;

const BEGIN_MS: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 86_400_000;

fn demo() -> Federation {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
    let described = std::fs::read_to_string(folder.join("federation.toml")).unwrap();
    let texts = crate::study::ground::texts(&described, &|name| std::fs::read_to_string(folder.join(name)).ok());
    Federation::parse("federation.toml", &described, |name| texts.get(name).map(String::as_str)).unwrap()
}

/// Homes that decide, and what their statements name.
struct Day {
    federation: Federation,
    bases: Vec<Arc<Basis>>,
    book: Book,
    running: BTreeMap<NodeId, Vec<u64>>,
    number: u64,
}

impl Day {
    fn new() -> Self {
        let federation = demo();
        let span = (BEGIN_MS, BEGIN_MS + 2 * DAY_MS);
        let grounds = Grounds::new(&federation, span).unwrap();
        let bases: Vec<_> = federation.tenants.iter().map(|tenant| Arc::new(grounds.basis(tenant).unwrap())).collect();
        let keys = FederationKeys {
            issuers: federation.issuers.iter().map(|one| (one.id.clone(), key_of(one.id.as_str()))).collect(),
            factories: federation.factories.iter().map(|one| (one.id.clone(), authority_of(&one.id))).collect(),
        };
        let mut objects = Objects::new();
        let passports = federation.passports(&keys, span.0, span.1).unwrap();
        for passport in passports.values() {
            let root = polder_core::facts::passport_root(passport).unwrap();
            objects.insert(root, serde_json::to_vec(passport).unwrap());
        }
        let texts = federation.factories.iter().map(|one| &one.terms.text);
        let texts = texts.chain(federation.tenants.iter().map(|one| &one.policy.text));
        for text in texts.chain([&federation.baseline.text]) {
            objects.insert(policy_digest(text), text.clone().into_bytes());
        }
        for (tenant, basis) in federation.tenants.iter().zip(&bases) {
            let members = federation.factories.iter();
            let members = members.map(|one| (one.id.clone(), authority_of(&one.id).verifying_key().to_bytes()));
            let trust = Trust::new(federation.trust(tenant, &keys.issuers_public()), members);
            objects.insert(trust.digest().unwrap(), serde_json::to_vec(&trust).unwrap());
            objects.insert(basis.schema.digest(), serde_json::to_vec(basis.schema.frameworks()).unwrap());
        }
        assert!(!LABELS_POLICY.is_empty());
        let book = Book { objects, ..Book::default() };
        Self { federation, bases, book, running: BTreeMap::new(), number: 0 }
    }

    fn tenant(&self, name: &str) -> (usize, &Tenant) {
        self.federation.tenants.iter().enumerate().find(|(_, tenant)| tenant.id.as_str() == name).unwrap()
    }

    /// A home decides; where it places the request, that runs for so long.
    fn ask(&mut self, tenant: &str, project: &str, at_ms: u64, run: Run) -> DecisionStatement {
        let (place, tenant) = self.tenant(tenant);
        let project = tenant.project(project).unwrap();
        let request = Request {
            action: Action::Infer,
            tenant: tenant.id.clone(),
            project: project.id.clone(),
            model: Some(project.model.clone()),
            labels: project.labels.clone(),
        };
        let (home, weights) = (tenant.home.clone(), tenant.weights);
        let basis = Arc::clone(&self.bases[place]);
        let mut factories = Vec::new();
        for ground in &basis.grounds {
            let described = self.federation.factory(ground.id.as_str()).unwrap();
            let running = self.running.entry(ground.id.clone()).or_default();
            running.retain(|end_ms| *end_ms > at_ms);
            let places = u64::from(described.places);
            let load_ppm = running.len() as u64 * 1_000_000 / places;
            let full = Cause::built_in(LayerKind::Availability, NO_CAPACITY, "every place is taken");
            let inputs =
                Inputs { price_microeur_per_mtok: described.price_microeur_per_mtok, load_ppm, ..Inputs::default() };
            let unavailable = if load_ppm >= 1_000_000 { vec![full] } else { Vec::new() };
            factories.push(Factory { unavailable, inputs });
        }
        let roots = basis.grounds.iter().map(|ground| (ground.id.clone(), ground.passport)).collect();
        let snapshot = Snapshot::new(at_ms, basis, facts_root(&roots), weights, factories);
        let decision = decide(&snapshot, &request, &BTreeMap::new());
        self.number += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.number.to_be_bytes());
        let id = DecisionId::at(at_ms, random);
        let record = DecisionRecord::of(id.clone(), home, &snapshot, request, Digest::default(), decision).unwrap();
        let tables = record.tables();
        let digests: TableDigests = tables.digests().unwrap();
        let objects = &mut self.book.objects;
        objects.insert(digests.digest().unwrap(), to_bytes(&digests).unwrap());
        objects.insert(digests.verdicts, to_bytes(&tables.verdicts).unwrap());
        objects.insert(digests.scores, to_bytes(&tables.scores).unwrap());
        objects.insert(digests.seals, to_bytes(&tables.seals).unwrap());
        if let Some(factory) = &record.statement.factory {
            self.running.get_mut(factory).unwrap().push(at_ms + run.ms);
            self.book.runs.insert(id, run);
        }
        self.book.decisions.push(record.statement.clone());
        record.statement
    }
}

/// A day of the demo: every tenant asks about some project every few seconds.
fn day(seed: u64, count: u64) -> Day {
    let mut day = Day::new();
    let mut draws = Draws::new(seed, 4);
    let mut at_ms = BEGIN_MS;
    let projects: Vec<(String, String)> = day
        .federation
        .tenants
        .iter()
        .flat_map(|tenant| tenant.projects.iter().map(|project| (tenant.id.to_string(), project.id.to_string())))
        .collect();
    for _ in 0..count {
        at_ms += draws.below(DAY_MS / count * 2);
        let (tenant, project) = &projects[draws.below(projects.len() as u64) as usize];
        let run = Run {
            prompt_tokens: 100 + draws.below(400),
            completion_tokens: 20 + draws.below(200),
            ms: draws.below(400_000),
        };
        day.ask(tenant, project, at_ms, run);
    }
    day.book.close(0);
    day
}

fn drill(book: &Book, without: &[&str]) -> Drill {
    let losses: Vec<Loss> = without.iter().map(|text| Loss::parse(text).unwrap()).collect();
    rehearse(book, &losses, PATIENCE_MS, &mut |_| true)
}

fn balances(drill: &Drill) {
    for (who, share) in &drill.shares {
        let parts =
            share.same.requests + share.elsewhere.requests + share.stopped.requests + share.stopped_full.requests;
        assert_eq!(share.before.requests, parts, "{who:?}");
        let tokens = share.same.tokens + share.elsewhere.tokens + share.stopped.tokens + share.stopped_full.tokens;
        assert_eq!(share.before.tokens, tokens, "{who:?}");
        assert_eq!(share.waited.requests, share.waits.count());
    }
}

#[test]
fn a_day_is_decided_again_exactly() {
    let day = day(1, 3_000);
    let nothing = drill(&day.book, &[]);
    assert_eq!((nothing.decided_again, nothing.unlike_count, nothing.unread), (3_000, 0, 0), "{:?}", nothing.unlike);
    let all = nothing.all();
    assert_eq!((all.before, all.elsewhere.requests, all.stopped.requests), (all.same, 0, 0));
    assert!(all.before.requests > 2_000 && all.refused_before > 0, "both occur: {all:?}");
    assert_eq!(nothing.concentration[0], nothing.concentration[1]);
    assert_eq!(nothing.json(), drill(&day.book, &[]).json());
}

#[test]
fn what_was_altered_does_not_come_out() {
    let mut day = day(2, 200);
    let placed = day.book.decisions.iter().position(|one| one.factory.is_some()).unwrap();
    let other = NodeId::parse("krakow").unwrap();
    assert_ne!(day.book.decisions[placed].factory, Some(other.clone()));
    day.book.decisions[placed].factory = Some(other);
    let found = drill(&day.book, &[]);
    assert_eq!((found.unlike_count, found.unlike), (1, vec![day.book.decisions[placed].id.to_string()]));
    // Tables that are not the ones that are named, and such as are not there, are not read.
    let named = day.book.decisions[0].tables;
    let other = day.book.decisions.iter().map(|one| one.tables).find(|tables| *tables != named).unwrap();
    let bytes = day.book.objects[&other].clone();
    day.book.objects.insert(named, bytes);
    assert!(drill(&day.book, &[]).unread > 0);
    day.book.objects.remove(&named);
    assert!(drill(&day.book, &[]).first_unread.unwrap().contains("list of tables"));
}

#[test]
fn losses_touch_whom_facts_name() {
    let day = day(3, 40);
    let dropped = |without: &[&str]| -> BTreeSet<String> {
        drill(&day.book, without).drops.into_iter().map(|hit| hit.factory).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(dropped(&["vendor=nvidia"]), set(&["paris", "munich", "bologna", "frankfurt", "virginia"]));
    assert_eq!(dropped(&["country=DE"]), set(&["munich", "frankfurt"]));
    // Frankfurt's control is contested, and one side names a US owner.
    assert_eq!(dropped(&["jurisdiction=US"]), set(&["frankfurt", "virginia"]));
    assert_eq!(dropped(&["operator=Potomac Compute Inc."]), set(&["frankfurt", "virginia"]));
    assert_eq!(dropped(&["factory=kajaani", "country=PL"]), set(&["kajaani", "krakow"]));
    assert_eq!(dropped(&["link=bank-home/munich"]), set(&["munich"]));
    assert_eq!(dropped(&["link=nobody/munich"]), set(&[]));
    for wrong in
        ["", "vendor", "vendor=acme", "country=Utopia", "link=bank-home", "moon=full", "operator= ", "factory=A b"]
    {
        let error = Loss::parse(wrong).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{wrong}` names nothing")), "{error}");
    }
    for right in ["vendor=amd", "operator=Seine Calcul", "link=bank-home/FR", "jurisdiction=US"] {
        assert_eq!(Loss::parse(right).unwrap().to_string(), right);
    }
}

#[test]
fn nothing_is_lost_or_made_up_and_nothing_runs_where_it_may_not() {
    let day = day(4, 2_000);
    for without in ["vendor=nvidia", "country=FR", "jurisdiction=US", "factory=frankfurt", "link=bank-home/munich"] {
        let found = drill(&day.book, &[without]);
        balances(&found);
        assert_eq!(found.unlike_count, 0);
        let all = found.all();
        assert!(all.runs().requests < all.before.requests || all.elsewhere.requests > 0, "{without} changes something");
    }
    // Customers' data of the bank may run in Paris and Munich alone.
    let found = drill(&day.book, &["country=FR", "country=DE"]);
    let share = &found.shares[&("bank".to_owned(), "customer")];
    assert_eq!((share.runs().requests, share.stopped), (0, share.before));
    let words: Vec<String> = found.savings.iter().map(Saving::words).collect();
    assert!(words.iter().any(|words| words.contains("certifications") || words.contains("given up")), "{words:?}");
    for saving in &found.savings {
        assert!(saving.saves.requests <= found.all().stopped.requests + found.all().stopped_full.requests);
    }
}

/// What is said to save: made, it does.
#[test]
fn a_change_that_is_said_to_save_saves() {
    let day = day(5, 600);
    let found = drill(&day.book, &["country=FR", "country=DE"]);
    let rule = found.savings.iter().find_map(|saving| match &saving.change {
        Change::Rule { layer: LayerKind::Owner, rule } => Some((rule.clone(), saving.clone())),
        _ => None,
    });
    let (rule, saving) = rule.unwrap();
    let [tenant] = saving.tenants.as_slice() else { panic!("{saving:?}") };
    // The owner's policy without that rule, told apart by its `@id`, decides the same requests with what is left.
    let (place, tenant) = day.tenant(tenant);
    let policy = tenant.policy.text.clone();
    let at = policy.find(&format!("@id(\"{rule}\")")).unwrap();
    let end = at + policy[at..].find(';').unwrap() + 1;
    let given_up = format!("{}{}", &policy[..at], &policy[end..]);
    let basis = &day.bases[place];
    let owner = polder_core::policy::Layer::parse(LayerKind::Owner, "bank.cedar", &given_up, &basis.schema).unwrap();
    let losses = [Loss::parse("country=FR").unwrap(), Loss::parse("country=DE").unwrap()];
    let (_, _, left) = situation::less(basis, &losses, &tenant.home).unwrap();
    let left = Arc::new(Basis { owner: Arc::new(owner), ..Basis::clone(&left) });
    let mut placed = 0;
    for decision in day.book.decisions.iter().filter(|one| one.request.tenant == tenant.id && one.factory.is_some()) {
        let before = situation::less(basis, &losses, &tenant.home).unwrap().2;
        let open = |basis: &Arc<Basis>| {
            let factories = basis.grounds.iter().map(|_| Factory::default()).collect();
            let snapshot = Snapshot::new(0, Arc::clone(basis), Digest::default(), tenant.weights, factories);
            decide(&snapshot, &decision.request, &BTreeMap::new()).factory.is_some()
        };
        placed += u64::from(!open(&before) && open(&left));
    }
    assert_eq!(placed, saving.saves.requests);
}

/// One factory with one place, work of ten seconds every five: each waits five seconds longer than the one before.
#[test]
fn waits_are_those_of_a_queue() {
    let mut day = Day::new();
    let run = Run { prompt_tokens: 1, completion_tokens: 1, ms: 10_000 };
    let paris = NodeId::parse("paris").unwrap();
    let munich = NodeId::parse("munich").unwrap();
    for number in 0..40 {
        let at_ms = BEGIN_MS + number * 5_000;
        // All places are free when they are asked.
        day.running.clear();
        let decision = day.ask("bank", "customer-service", at_ms, run);
        assert_eq!(decision.factory, Some(munich.clone()));
    }
    day.book.close(0);
    day.book.places = BTreeMap::from([(paris, 1)]);
    let found = drill(&day.book, &["factory=munich"]);
    balances(&found);
    let share = found.all();
    // The n-th waits 5 (n - 1) seconds; above 120 it is too long, and whoever leaves makes room for those behind.
    let (mut free_ms, mut waits, mut late) = (0, Vec::new(), 0);
    for number in 0..40_u64 {
        let at_ms = number * 5_000;
        let begin_ms = at_ms.max(free_ms);
        if begin_ms - at_ms > PATIENCE_MS {
            late += 1;
            continue;
        }
        waits.push(begin_ms - at_ms);
        free_ms = begin_ms + run.ms;
    }
    assert!(late > 0);
    assert_eq!((share.elsewhere.requests, share.stopped_full.requests), (waits.len() as u64, late));
    assert_eq!(share.waits.sum_us(), u128::from(waits.iter().sum::<u64>()) * 1_000);
    assert_eq!(share.waits.longest_us(), waits.iter().max().unwrap() * 1_000);
    assert_eq!(found.landings[0].places, Some(1));
    let more = found.savings.iter().find(|saving| saving.words() == "more places at paris").unwrap();
    assert_eq!(more.saves.requests, late);
}

#[test]
fn the_index_is_herfindahls() {
    let mut spread = Spread::default();
    let named = |name: &str| -> [Vec<(String, u64)>; DIMENSIONS.len()] {
        std::array::from_fn(|_| vec![(name.to_owned(), 1_000_000)])
    };
    spread.add(&named("a"), 50);
    spread.add(&named("b"), 30);
    spread.add(&named("c"), 20);
    for index in spread.indices() {
        assert_eq!((index.hhi, index.largest.as_str(), index.largest_ppm, index.count), (3_800, "a", 500_000, 3));
    }
    assert!(Spread::default().indices().iter().all(|index| index.hhi == 0));
}

#[test]
fn the_page_needs_no_network_and_names_what_stops() {
    let day = day(6, 100);
    let page = drill(&day.book, &["vendor=nvidia"]).html("A <drill>");
    assert!(page.contains("A &lt;drill&gt;") && page.contains("vendor=nvidia") && page.contains("HHI"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
}

/// A study with a factory lost: what is left over runs elsewhere or stops, and the two runs are of one seed.
#[test]
fn a_study_without() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let text = std::fs::read_to_string(studies.join("demo.toml")).unwrap();
    let read = |name: &str| std::fs::read_to_string(studies.join(name)).ok();
    let files = crate::study::Files { read: &read, folder: studies.clone() };
    let plan = crate::study::parse("demo.toml", &text, &files).unwrap();
    let plan = Arc::new(crate::engine::plan::Plan { days: 6, ..crate::engine::plan::Plan::clone(&plan) });
    let loss = |text: &str| vec![Loss::parse(text).unwrap()];
    let run = |losses: &[Loss]| plans::rehearse(&plan, losses, (0, u64::MAX / 2), 1, &mut |_| true).unwrap();
    let nothing = run(&loss("link=nobody/munich"));
    let all = nothing.all();
    assert_eq!((all.runs(), all.elsewhere.requests), (all.before, 0));
    let found = run(&[loss("country=FR"), loss("country=DE")].concat());
    assert_eq!(found.drops.len(), 3);
    let share = &found.shares[&("bank".to_owned(), "customer")];
    assert!(share.runs().requests == 0 && share.stopped == share.before, "{share:?}");
    assert!(!found.savings.is_empty());
}
