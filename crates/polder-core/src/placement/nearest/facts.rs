//! Which facts of one factory would have to be better known, and which rules would then still have to give way.
//!
//! A fact can be raised to a better class, a contested one agreed on, and a certificate or clearance that a rule names
//! added. Each change is tried: the factory's column is made anew and every layer is asked again. Absent: facts that
//! would have to say something that nobody says.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Change, FactChange, Place, change};
use crate::canonical::Digest;
use crate::facts::{Certification, Claim, Evidence, Fact, Held, Profile};
use crate::ids::{IssuerId, ModelId, NodeId};
use crate::labels::{Closed as _, Country};
use crate::placement::Ground;
use crate::placement::row::Row;
use crate::policy::{Column, LayerKind, Rule};

/// How many changed profiles of one factory are tried.
pub(in crate::placement) const TRIES_MAX: usize = 32;
/// How many facts change together at most.
const TOGETHER_MAX: usize = 4;
/// What a SEAL is derived from: assessments, and these.
const BEHIND_SEALS: [&str; 7] = ["seals", "certifications", "chips", "clearances", "control", "operator", "site"];

/// A change of one fact that may help.
#[derive(Debug, Clone)]
pub(in crate::placement) struct Candidate {
    pub(in crate::placement) change: FactChange,
    /// What the profile then holds.
    held: Held,
    /// The attributes that it is a part of, as rules read them.
    attributes: BTreeSet<String>,
}

/// The rules that refuse and that facts may satisfy: those of baseline, owner and terms.
fn mendable<'a>(row: &Row, place: &Place<'a>) -> Vec<(Change, &'a Rule)> {
    let layers = place.basis.layers(place.ground);
    let rule = |(layer, number): &(u8, u16)| {
        let layer = layers.get(usize::from(*layer)).filter(|layer| layer.kind() != LayerKind::Labels)?;
        let rule = layer.rules().nth(usize::from(*number))?;
        Some((Change::Rule { layer: layer.kind(), rule: rule.id.clone() }, rule))
    };
    let all = row.no(place.number).into_iter().flat_map(|no| no.rules.iter().filter_map(rule));
    all.filter(|(change, _)| !place.fixed.contains(change)).collect()
}

/// The changes of one fact each that may help against some rules, to classes that the rules tell apart: those of one slot
/// together, the weakest class first, what SEALs read last. `model` is the one that rules read of.
pub(in crate::placement) fn candidates(
    rules: &[&Rule],
    profile: &Profile,
    model: Option<&ModelId>,
    subject: &NodeId,
) -> Vec<Vec<Candidate>> {
    let mut ladders: BTreeMap<(bool, FactChange), Vec<Candidate>> = BTreeMap::new();
    let mut add = |read: &str, change: FactChange, held: Held| {
        let last = read == "seals";
        // Whatever its class, it is the same fact.
        let ladder = ladders.entry((last, FactChange { to: Evidence::C, ..change.clone() })).or_default();
        match ladder.iter_mut().find(|known| known.change == change) {
            Some(known) => drop(known.attributes.insert(read.to_owned())),
            None => ladder.push(Candidate { change, held, attributes: BTreeSet::from([read.to_owned()]) }),
        }
    };
    for (rule, read) in rules.iter().flat_map(|rule| rule.reads.iter().map(move |read| (rule, read))) {
        let of_model = |held: &&Held| {
            let slot = || model.map(|model| format!("{read}/{model}"));
            !read.starts_with("model.") || Some(held.fact.claim.slot()) == slot()
        };
        for source in sources(read) {
            for held in profile.of_attribute(source).filter(of_model) {
                for to in rule.classes.iter().copied().filter(|class| *class > held.evidence) {
                    let from = Some(held.evidence);
                    let change = FactChange { slot: held.fact.claim.slot(), says: None, issuer: None, from, to };
                    add(read, change, Held { evidence: to, ..held.clone() });
                }
            }
            for held in profile.contested_of(source).filter(of_model) {
                let (says, issuer) = (Some(held.fact.claim.words()), Some(held.fact.issuer.clone()));
                let (slot, to) = (held.fact.claim.slot(), held.evidence);
                add(read, FactChange { slot, says, issuer, from: None, to }, held.clone());
            }
        }
        for claim in rule.names.iter().filter_map(|(kind, value)| named(read, kind, value)) {
            let slot = claim.slot();
            if profile.facts.contains_key(&slot) || profile.contested.contains_key(&slot) {
                continue;
            }
            for to in rule.classes.iter().copied() {
                let change = FactChange { slot: slot.clone(), says: None, issuer: None, from: None, to };
                if let Some(held) = would_be(subject, claim.clone(), to) {
                    add(read, change, held);
                }
            }
        }
    }
    let mut ladders: Vec<Vec<Candidate>> = ladders.into_values().collect();
    ladders.iter_mut().for_each(|ladder| ladder.sort_by_key(|one| one.change.to));
    ladders
}

/// The attributes of facts that an attribute is made of, as rules read it.
fn sources(read: &str) -> Vec<&str> {
    match read {
        "control" => vec!["operator", "control"],
        "seals" => BEHIND_SEALS.to_vec(),
        _ => vec![read],
    }
}

/// What a fact would say that makes an attribute hold a value which a rule names.
fn named(read: &str, kind: &str, value: &str) -> Option<Claim> {
    match (read, kind) {
        ("certifications", "Certification") => {
            Certification::parse(value).ok().map(|scheme| Claim::Certification { scheme })
        }
        ("clearances", "Country") => Country::parse(value).ok().map(|country| Claim::Clearance { country }),
        _ => None,
    }
}

/// A fact as it would be held. Nobody has signed it, and it goes nowhere.
fn would_be(subject: &NodeId, claim: Claim, evidence: Evidence) -> Option<Held> {
    let issuer = IssuerId::parse(subject.as_str()).ok()?;
    let fact = Fact { subject: subject.clone(), claim, evidence, issuer, from_ms: 0, until_ms: u64::MAX };
    Some(Held { fact, evidence, digest: Digest::default(), key: [0; 32] })
}

/// What was tried at one factory.
pub(super) struct Search<'a> {
    row: &'a Row,
    pub(super) place: &'a Place<'a>,
    /// The rules that refuse and that facts may satisfy.
    rules: Vec<(Change, &'a Rule)>,
    candidates: Vec<Candidate>,
    /// The candidates that were tried alone.
    ones: Vec<usize>,
    /// How many tries are left here.
    left: usize,
    /// How many tries are left for the whole refusal.
    left_in_all: &'a Cell<usize>,
    /// What would still have to give way, for each set of candidates that was tried.
    known: BTreeMap<BTreeSet<usize>, BTreeSet<Change>>,
}

impl<'a> Search<'a> {
    /// Tries each change of one fact at a factory.
    pub(super) fn begin(row: &'a Row, place: &'a Place<'a>, left_in_all: &'a Cell<usize>) -> Self {
        let rules = mendable(row, place);
        let read: Vec<&Rule> = rules.iter().map(|(_, rule)| *rule).collect();
        let ladders = candidates(&read, place.ground.column.profile(), row.request().model.as_ref(), &place.ground.id);
        let (candidates, ones, known) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut search = Self { row, place, rules, candidates, ones, left: TRIES_MAX, left_in_all, known };
        search.ones = search.ones(ladders);
        search
    }

    /// The sets of changes that change a fact and would place the request at this factory. Of a set that is named every
    /// part was tried; one for which there are no tries left is not named.
    pub(super) fn sets(mut self) -> Vec<BTreeSet<Change>> {
        self.grow();
        self.complete();
        self.found()
    }

    /// Tries candidates alone, the stronger of a ladder only while a rule that may read them still refuses.
    fn ones(&mut self, ladders: Vec<Vec<Candidate>>) -> Vec<usize> {
        let mut ones = Vec::new();
        for ladder in ladders {
            for candidate in ladder {
                let (one, attributes) = (self.candidates.len(), candidate.attributes.clone());
                self.candidates.push(candidate);
                let Some(after) = self.ask(&BTreeSet::from([one])) else { return ones };
                ones.push(one);
                let reads = |rule: &Rule| rule.reads.contains("seals") || !rule.reads.is_disjoint(&attributes);
                if self.is_sound(&after) && !self.open(&after).any(reads) {
                    break;
                }
            }
        }
        ones
    }

    /// Tries several together: where each helps alone, or where an attribute that refuses is made of them.
    fn grow(&mut self) {
        let ones = self.ones.clone();
        let mut level: BTreeSet<BTreeSet<usize>> = ones.iter().map(|one| BTreeSet::from([*one])).collect();
        for _ in 1..TOGETHER_MAX {
            let mut next = BTreeSet::new();
            for set in &level {
                for one in ones.iter().filter(|one| self.may_help(set, **one)).copied().collect::<Vec<_>>() {
                    let larger: BTreeSet<usize> = set.iter().copied().chain([one]).collect();
                    if self.ask(&larger).is_none() {
                        return;
                    }
                    next.insert(larger);
                }
            }
            level = next;
        }
    }

    /// Whether a candidate may be worth adding to a set.
    fn may_help(&self, set: &BTreeSet<usize>, one: usize) -> bool {
        let (Some(with), Some(candidate)) = (self.known.get(set), self.candidates.get(one)) else { return false };
        let mut others = set.iter().filter_map(|other| self.candidates.get(*other));
        if others.clone().any(|other| other.change.slot == candidate.change.slot) || !self.is_sound(with) {
            return false;
        }
        let alone = self.known.get(&BTreeSet::from([one])).filter(|alone| self.is_sound(alone));
        let helps =
            |alone: &BTreeSet<Change>| self.rules.iter().any(|(rule, _)| with.contains(rule) && !alone.contains(rule));
        if *with != self.place.before && alone.is_some_and(helps) {
            return true;
        }
        let open: BTreeSet<&String> = self.open(with).flat_map(|rule| &rule.reads).collect();
        others.any(|other| {
            let level = other.change.to == candidate.change.to
                || other.change.says.is_some()
                || candidate.change.says.is_some();
            let mut shared = other.attributes.intersection(&candidate.attributes);
            level && shared.any(|attribute| open.contains(attribute))
        })
    }

    /// Tries the parts of each set that would do, so that none is named of which a part does.
    fn complete(&mut self) {
        let sets: Vec<BTreeSet<usize>> = self.known.keys().filter(|set| set.len() > 2).cloned().collect();
        for set in sets {
            let does = self.known.get(&set).is_some_and(|after| self.is_sound(after));
            if does && parts(&set).iter().any(|part| self.ask(part).is_none()) {
                return;
            }
        }
    }

    /// The sets that help and of which every part was tried, with the rules that would still have to give way.
    fn found(&self) -> Vec<BTreeSet<Change>> {
        let change = |one: &usize| Some(Change::Fact { fact: self.candidates.get(*one)?.change.clone() });
        let mut found = Vec::new();
        for (set, after) in &self.known {
            let helps = self.is_sound(after) && *after != self.place.before;
            // A part that does as well, or better, is named in its own right.
            let needed = |part: &BTreeSet<usize>| self.known.get(part).is_some_and(|less| !less.is_subset(after));
            if helps && parts(set).iter().all(needed) {
                found.push(set.iter().filter_map(change).chain(after.iter().cloned()).collect());
            }
        }
        found
    }

    /// Whether nothing refuses that did not refuse before.
    fn is_sound(&self, after: &BTreeSet<Change>) -> bool {
        after.is_subset(&self.place.before)
    }

    /// The rules that facts may satisfy and that would still refuse.
    fn open<'b>(&'b self, after: &'b BTreeSet<Change>) -> impl Iterator<Item = &'b Rule> {
        self.rules.iter().filter(|(change, _)| after.contains(change)).map(|(_, rule)| *rule)
    }

    /// What would still have to give way with a set of candidates made: every layer is asked again. `None` where no try
    /// is left.
    fn ask(&mut self, set: &BTreeSet<usize>) -> Option<BTreeSet<Change>> {
        if let Some(after) = self.known.get(set) {
            return Some(after.clone());
        }
        let left_in_all = self.left_in_all.get().checked_sub(1)?;
        self.left = self.left.checked_sub(1)?;
        self.left_in_all.set(left_in_all);
        let (basis, ground) = (self.place.basis, self.place.ground);
        let mut profile = ground.column.profile().clone();
        for candidate in set.iter().filter_map(|one| self.candidates.get(*one)) {
            profile.contested.remove(&candidate.change.slot);
            profile.facts.insert(candidate.change.slot.clone(), candidate.held.clone());
        }
        let after = match Column::new(&ground.id, profile, ground.column.usage(), &basis.schema) {
            Ok(column) => self.refusing(&Ground { column: Arc::new(column), ..ground.clone() }),
            // What cannot be asked about helps nobody.
            Err(_) => self.place.before.clone(),
        };
        self.known.insert(set.clone(), after.clone());
        Some(after)
    }

    fn refusing(&self, ground: &Ground) -> BTreeSet<Change> {
        let basis = self.place.basis;
        let no = self.row.ask_again(basis, ground);
        let layers = basis.layers(ground);
        let rule = |(layer, number): &(u8, u16)| {
            let layer = layers.get(usize::from(*layer))?;
            let rule = layer.rules().nth(usize::from(*number))?.id.clone();
            Some(Change::Rule { layer: layer.kind(), rule })
        };
        let rules = no.rules.iter().filter_map(rule);
        let others = no.others.iter().map(|cause| change(basis, ground, cause));
        rules.chain(others).chain(self.place.fixed.iter().cloned()).collect()
    }
}

/// Every part of a small set, without the empty one and the whole.
fn parts(set: &BTreeSet<usize>) -> Vec<BTreeSet<usize>> {
    let whole = (1_u32 << set.len().min(TOGETHER_MAX)) - 1;
    let part = |mask: u32| (0..).zip(set).filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, one)| *one).collect();
    (1..whole).map(part).collect()
}
