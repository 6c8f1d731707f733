//! Arithmetic over answers, in two readings that must not be confused.
//!
//! [`score`] is the calculator's: what is not answered adds nothing to the score and lowers no SEAL. [`request_seals`] is
//! for one request: a required criterion without evidence counts as SEAL-0. Rounding and clamping are absent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Answers, CriterionId, Evidenced, Framework, Objective, Points};
use crate::facts::Evidence;

/// What a framework's arithmetic makes of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// The sum over the objectives.
    pub score: Points,
    /// The lowest SEAL of any answer; `None` without answers.
    pub seal: Option<u8>,
    /// How many criteria are answered.
    pub answered: usize,
    /// How many there are.
    pub criteria: usize,
    /// One for each objective, in the framework's order.
    pub objectives: Vec<ObjectiveScore>,
}

/// What one objective adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectiveScore {
    /// The objective.
    pub objective: String,
    /// Its part of the whole score: weight × the sum of its answers' values.
    pub score: Points,
    /// The sum of its answers' values, times 100, before the weight.
    pub values_hundredths: u64,
    /// The lowest SEAL of its answers; `None` without any.
    pub seal: Option<u8>,
    /// How many of its criteria are answered.
    pub answered: usize,
    /// How many it has.
    pub criteria: usize,
}

/// Scores answers as the calculator does. An answer that the framework does not have counts as none.
pub fn score(framework: &Framework, answers: &Answers) -> Score {
    let objectives: Vec<ObjectiveScore> =
        framework.objectives().iter().map(|objective| of_objective(objective, answers)).collect();
    Score {
        score: Points(objectives.iter().map(|one| one.score.0).sum()),
        seal: objectives.iter().filter_map(|one| one.seal).min(),
        answered: objectives.iter().map(|one| one.answered).sum(),
        criteria: objectives.iter().map(|one| one.criteria).sum(),
        objectives,
    }
}

fn of_objective(objective: &Objective, answers: &Answers) -> ObjectiveScore {
    let chosen = objective.criteria.iter().filter_map(|criterion| {
        let number = answers.get(&CriterionId::of(objective, criterion))?;
        criterion.answer(*number)
    });
    let (mut values, mut seal, mut answered) = (0_u64, None, 0_usize);
    for answer in chosen {
        values = values.saturating_add(u64::from(answer.value_hundredths));
        seal = Some(seal.map_or(answer.seal, |lowest: u8| lowest.min(answer.seal)));
        answered += 1;
    }
    ObjectiveScore {
        objective: objective.id.clone(),
        // Per cent × hundredths / 1000, counted in hundred-thousandths: both scales cancel.
        score: Points(values.saturating_mul(u64::from(objective.weight_percent))),
        values_hundredths: values,
        seal,
        answered,
        criteria: objective.criteria.len(),
    }
}

/// The SEALs of one request under one framework version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealVector {
    /// The framework version.
    pub framework: String,
    /// The SEAL of each objective of which the request requires a criterion; others are absent.
    pub seals: BTreeMap<String, u8>,
}

/// An objective whose SEAL is below what is demanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// The objective.
    pub objective: String,
    /// The SEAL that is demanded.
    pub demanded: u8,
    /// The SEAL that there is; 0 where the request requires none of its criteria.
    pub seal: u8,
}

/// The SEAL vector of a request that requires these criteria. One without an answer, with an answer evidenced below
/// `at_least`, or with an answer that does not exist counts as SEAL-0. `Err` names a criterion that the framework
/// does not have: refuse then.
pub fn request_seals(
    framework: &Framework,
    required: &BTreeSet<CriterionId>,
    evidenced: &Evidenced,
    at_least: Evidence,
) -> Result<SealVector, CriterionId> {
    let mut seals: BTreeMap<String, u8> = BTreeMap::new();
    for id in required {
        let criterion = framework.criterion(id).ok_or_else(|| id.clone())?;
        let derived = evidenced.get(id).filter(|derived| derived.evidence >= at_least);
        let seal = derived.and_then(|derived| criterion.answer(derived.answer)).map_or(0, |answer| answer.seal);
        let lowest = seals.entry(id.objective.clone()).or_insert(seal);
        *lowest = seal.min(*lowest);
    }
    Ok(SealVector { framework: framework.id().to_owned(), seals })
}

impl SealVector {
    /// The demands, a minimum SEAL for each objective named, that this vector does not meet; empty means met.
    pub fn shortfalls(&self, demands: &BTreeMap<String, u8>) -> Vec<Shortfall> {
        let below = demands.iter().filter_map(|(objective, demanded)| {
            let seal = self.seals.get(objective).copied().unwrap_or(0);
            let short = Shortfall { objective: objective.clone(), demanded: *demanded, seal };
            (seal < *demanded).then_some(short)
        });
        below.collect()
    }
}
