//! From facts to answers: a framework's rules read a factory's profile, and each answer carries its evidence.
//!
//! An answer is as well evidenced as the weakest fact that it rests on. What no fact says is left unanswered; guessing
//! from what is absent is absent.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answers, Condition, Criterion, CriterionId, Framework};
use crate::facts::{Claim, Evidence, Held, Kind, Profile};
use crate::labels::Country;

/// An answer that facts give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// The answer's number.
    pub answer: u32,
    /// The class of the weakest fact behind it.
    pub evidence: Evidence,
    /// The slots of the facts behind it, such as `site` and `control`.
    pub facts: BTreeSet<String>,
}

/// The answers that facts give.
pub type Evidenced = BTreeMap<CriterionId, Derived>;

/// How many of a framework's criteria rest on what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// On facts measured by the protocol.
    pub a: usize,
    /// On facts signed by a third party.
    pub b: usize,
    /// On facts declared by the operator.
    pub c: usize,
    /// On no fact: not answered, or answered by hand.
    pub nothing: usize,
}

/// Answers from facts and by hand, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Combined {
    /// The answers that count.
    pub answers: Answers,
    /// Those of them that facts give.
    pub evidenced: Evidenced,
    /// The criteria on which hand and facts differ; there the lower answer counts.
    pub differing: BTreeSet<CriterionId>,
}

/// The answers that a factory's facts give: for each criterion, an assessor's, or the first rule whose conditions all
/// hold; where both speak, the one with the lower SEAL, then the lower value.
pub fn derive(framework: &Framework, profile: &Profile) -> Evidenced {
    let answered = framework.criteria().filter_map(|(objective, criterion)| {
        let id = CriterionId::of(objective, criterion);
        let both = [assessed(framework, &id, criterion, profile), first_that_holds(criterion, profile)];
        let rank = |derived: &Derived| criterion.answer(derived.answer).map(|one| (one.seal, one.value_hundredths));
        let lower = both.into_iter().flatten().min_by_key(rank)?;
        Some((id, lower))
    });
    answered.collect()
}

/// The answer that an assessor gave, where it is one that the criterion has.
fn assessed(framework: &Framework, id: &CriterionId, criterion: &Criterion, profile: &Profile) -> Option<Derived> {
    let slot = Kind::Assessment.attribute();
    let slot = format!("{slot}/{}/{}/{}", framework.id(), id.objective, id.criterion);
    let held = profile.facts.get(&slot)?;
    let Claim::Assessment { answer, .. } = held.fact.claim else { return None };
    criterion.answer(answer)?;
    Some(Derived { answer, evidence: held.evidence, facts: BTreeSet::from([slot]) })
}

fn first_that_holds(criterion: &Criterion, profile: &Profile) -> Option<Derived> {
    criterion.rules.iter().find_map(|rule| {
        let mut read: Vec<&Held> = Vec::new();
        for condition in &rule.when {
            read.extend(condition.holds(profile)?);
        }
        let evidence = read.iter().map(|held| held.evidence).min()?;
        let facts = read.iter().map(|held| held.fact.claim.slot()).collect();
        Some(Derived { answer: rule.answer, evidence, facts })
    })
}

impl Condition {
    /// The facts by which it holds; `None` where it does not.
    fn holds<'a>(&self, profile: &'a Profile) -> Option<Vec<&'a Held>> {
        match *self {
            Self::SiteInEu => place(profile, "site", Country::in_eu),
            Self::SiteOutsideEu => place(profile, "site", |country| !country.in_eu()),
            Self::SiteInEea => place(profile, "site", Country::in_eea),
            Self::SiteOutsideEea => place(profile, "site", |country| !country.in_eea()),
            Self::OperatorInEu => place(profile, "operator", Country::in_eu),
            Self::OperatorOutsideEu => place(profile, "operator", |country| !country.in_eu()),
            Self::ControlInEu => control(profile, |chain| chain.iter().all(|country| country.in_eu())),
            Self::ControlOutsideEu => control(profile, |chain| chain.iter().all(|country| !country.in_eu())),
            Self::UltimateOwnerInEu => control(profile, |chain| chain.last().is_some_and(|last| last.in_eu())),
            Self::UltimateOwnerOutsideEu => control(profile, |chain| chain.last().is_some_and(|last| !last.in_eu())),
            Self::ChipsFromEu => chips(profile, Country::in_eu),
            Self::ChipsFromOutsideEu => chips(profile, |origin| !origin.in_eu()),
            Self::Certified(scheme) => slot(profile, &Claim::Certification { scheme }),
            Self::ClearedBy(country) => slot(profile, &Claim::Clearance { country }),
        }
    }
}

fn place<'a>(profile: &'a Profile, slot: &str, fits: impl Fn(Country) -> bool) -> Option<Vec<&'a Held>> {
    let held = profile.facts.get(slot)?;
    match &held.fact.claim {
        Claim::Site { country, .. } | Claim::Operator { country, .. } if fits(*country) => Some(vec![held]),
        _ => None,
    }
}

/// Control begins with the operator: the chain from it to the ultimate parent, both facts needed.
fn control(profile: &Profile, fits: impl Fn(&[Country]) -> bool) -> Option<Vec<&Held>> {
    let (operator, control) = (profile.facts.get("operator")?, profile.facts.get("control")?);
    let (Claim::Operator { country, .. }, Claim::Control { owners }) = (&operator.fact.claim, &control.fact.claim)
    else {
        return None;
    };
    let chain: Vec<Country> = std::iter::once(*country).chain(owners.iter().map(|owner| owner.country)).collect();
    fits(&chain).then(|| vec![operator, control])
}

/// All chips, none of them contested: one that is not known could be of any origin.
fn chips(profile: &Profile, fits: impl Fn(Country) -> bool) -> Option<Vec<&Held>> {
    let contested = profile.contested_of("chips").next().is_some();
    let all: Vec<&Held> = profile.of_attribute("chips").collect();
    let fits = |held: &&Held| matches!(held.fact.claim, Claim::Chip { origin, .. } if fits(origin));
    (!contested && !all.is_empty() && all.iter().all(fits)).then_some(all)
}

fn slot<'a>(profile: &'a Profile, claim: &Claim) -> Option<Vec<&'a Held>> {
    profile.facts.get(&claim.slot()).map(|held| vec![held])
}

/// Puts answers by hand and from facts together. Where both speak of a criterion and differ, the one with the lower
/// SEAL counts, then the one with the lower value; a hand's answer that counts rests on no fact.
pub fn combine(framework: &Framework, by_hand: &Answers, derived: &Evidenced) -> Combined {
    let mut combined = Combined { answers: by_hand.clone(), ..Combined::default() };
    for (id, from_facts) in derived {
        let Some(criterion) = framework.criterion(id) else { continue };
        let rank = |number: u32| criterion.answer(number).map(|answer| (answer.seal, answer.value_hundredths));
        let given = by_hand.get(id).copied();
        if given.is_some_and(|given| given != from_facts.answer) {
            combined.differing.insert(id.clone());
        }
        if given.is_none_or(|given| rank(from_facts.answer) <= rank(given)) {
            combined.answers.insert(id.clone(), from_facts.answer);
            combined.evidenced.insert(id.clone(), from_facts.clone());
        }
    }
    combined
}

impl Coverage {
    /// Counts what a framework's criteria rest on.
    pub fn of(framework: &Framework, evidenced: &Evidenced) -> Self {
        let mut coverage = Self::default();
        for (objective, criterion) in framework.criteria() {
            let derived = evidenced.get(&CriterionId::of(objective, criterion));
            let counter = match derived.map(|derived| derived.evidence) {
                Some(Evidence::A) => &mut coverage.a,
                Some(Evidence::B) => &mut coverage.b,
                Some(Evidence::C) => &mut coverage.c,
                None => &mut coverage.nothing,
            };
            *counter += 1;
        }
        coverage
    }
}
