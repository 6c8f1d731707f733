//! The calculator's arithmetic over answers: what is not answered adds nothing to the score and lowers no SEAL.
//!
//! Rounding and clamping are absent. So is the other reading, for one request, in which a criterion without evidence
//! counts as SEAL-0: see `seals`.

use super::{Answers, CriterionId, Framework, Objective, Points};

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
