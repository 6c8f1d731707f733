//! The search: plans are tried in rounds, and what is not beaten has children.
//!
//! A child has parts of two plans and a few changes; where it would cost or draw too much by itself, orders are taken out before it is
//! tried. Trying is what takes time, so a round's plans are tried side by side; everything that is drawn is drawn before, in order.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Genes, Ground, STREAM_OF_SEARCH, Score};
use crate::draw::Draws;

/// Plans of a round.
const ROUND: usize = 32;
/// Most plans of a front that are kept.
pub const FRONT_MAX: usize = 24;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// Plans that keep to everything and that none beats, cheapest first; where there is none, the plan that misses least.
    pub plans: Vec<(Genes, Score)>,
    /// Whether they keep to everything.
    pub reached: bool,
    /// How many plans were tried.
    pub tried: usize,
    /// Whether the search came to its end.
    pub whole: bool,
}

/// Tries so many plans. `look` is told how many were tried, and ends the search early by saying no.
pub fn search(
    ground: &Ground<'_>,
    seed: u64,
    count: usize,
    threads: usize,
    look: &mut dyn FnMut(usize) -> bool,
) -> Result<Front, String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    let pool = pool.map_err(|e| format!("threads cannot be started: {e}; try `--threads 1`"))?;
    let mut draws = Draws::new(seed, STREAM_OF_SEARCH);
    // By genes, so that no plan is tried twice.
    let mut tried: BTreeMap<Genes, Score> = BTreeMap::new();
    let mut alive: Vec<Genes> = Vec::new();
    let (mut whole, mut in_vain) = (true, 0);
    while tried.len() < count && in_vain < 16 {
        if !look(tried.len()) {
            whole = false;
            break;
        }
        let round = ROUND.min(count - tried.len());
        let mut new: Vec<Genes> = Vec::new();
        for place in 0..round * 4 {
            let mut genes = if alive.is_empty() {
                begin(ground, &mut draws, place, ROUND)
            } else {
                child(ground, &mut draws, &alive)
            };
            mend(ground, &mut draws, &mut genes);
            if new.len() < round && !tried.contains_key(&genes) && !new.contains(&genes) {
                new.push(genes);
            }
        }
        in_vain = if new.is_empty() { in_vain + 1 } else { 0 };
        let scores: Vec<Score> = pool.install(|| new.par_iter().map(|genes| ground.score(genes)).collect());
        tried.extend(new.into_iter().zip(scores));
        alive = survivors(&tried);
    }
    let mut plans: Vec<(Genes, Score)> =
        front(&tried).into_iter().map(|(genes, score)| (genes.clone(), score.clone())).collect();
    let reached = plans.first().is_some_and(|(_, score)| score.misses.is_empty());
    plans.sort_by_key(|(genes, score)| (score.objectives(), genes.clone()));
    plans.truncate(if reached { FRONT_MAX } else { 1 });
    Ok(Front { plans, reached, tried: tried.len(), whole })
}

/// Plans that none beats.
fn front(tried: &BTreeMap<Genes, Score>) -> Vec<(&Genes, &Score)> {
    let least = tried.values().map(Score::misses_ppm).min().unwrap_or(0);
    let best: Vec<(&Genes, &Score)> = tried.iter().filter(|(_, score)| score.misses_ppm() == least).collect();
    let unbeaten = |(_, score): &&(&Genes, &Score)| !best.iter().any(|(_, other)| other.beats(score));
    let mut front: Vec<(&Genes, &Score)> = best.iter().filter(unbeaten).copied().collect();
    // Of plans that come to the same, one is enough.
    front.dedup_by_key(|(_, score)| score.objectives());
    front
}

/// Who has children: the front, and the best of the rest.
fn survivors(tried: &BTreeMap<Genes, Score>) -> Vec<Genes> {
    let mut alive: Vec<Genes> = front(tried).into_iter().map(|(genes, _)| genes.clone()).take(ROUND * 2).collect();
    let mut rest: Vec<(&Genes, &Score)> = tried.iter().collect();
    rest.sort_by_key(|(_, score)| (score.misses_ppm(), score.objectives()));
    for (genes, _) in rest {
        if alive.len() >= ROUND {
            break;
        }
        if !alive.contains(genes) {
            alive.push(genes.clone());
        }
    }
    alive
}

/// A first plan: from nothing to everything, at chance.
fn begin(ground: &Ground<'_>, draws: &mut Draws, place: usize, of: usize) -> Genes {
    let density = (place as u64 * 100) / (of as u64 - 1).max(1);
    let gene = |option: &crate::engine::plan::GrowthOption| {
        let most = u64::from(option.most);
        let count = if draws.below(100) < density { (most * density).div_ceil(100) } else { 0 };
        (u8::try_from(count.min(most)).unwrap_or(0), slot(ground, option, draws))
    };
    ground.growth.options.iter().map(gene).collect()
}

fn slot(ground: &Ground<'_>, option: &crate::engine::plan::GrowthOption, draws: &mut Draws) -> u8 {
    // Early more often than late.
    let slots = u64::from(ground.slots(option)) + 1;
    u8::try_from(draws.below(slots).min(draws.below(slots))).unwrap_or(0)
}

fn child(ground: &Ground<'_>, draws: &mut Draws, alive: &[Genes]) -> Genes {
    let parent = |draws: &mut Draws| {
        // The first ones are better.
        let count = alive.len() as u64;
        let place = draws.below(count).min(draws.below(count));
        alive.get(usize::try_from(place).unwrap_or(0)).cloned().unwrap_or_default()
    };
    let (mut genes, other) = (parent(draws), parent(draws));
    for (own, others) in genes.iter_mut().zip(&other) {
        if draws.below(2) == 0 {
            *own = *others;
        }
    }
    let count = genes.len() as u64;
    for _ in 0..1 + draws.below(count.div_ceil(8) + 1) {
        let place = usize::try_from(draws.below(count)).unwrap_or(0);
        let (Some(gene), Some(option)) = (genes.get_mut(place), ground.growth.options.get(place)) else { continue };
        match draws.below(4) {
            0 => gene.0 = gene.0.saturating_add(1).min(option.most),
            1 => gene.0 = gene.0.saturating_sub(1),
            2 => gene.0 = u8::try_from(draws.below(u64::from(option.most) + 1)).unwrap_or(0),
            _ => gene.1 = slot(ground, option, draws),
        }
    }
    genes
}

/// Takes orders out until budget and power hold.
fn mend(ground: &Ground<'_>, draws: &mut Draws, genes: &mut Genes) {
    let growth = ground.growth;
    let now_mw: u64 = ground.plan.sites.iter().filter_map(|site| site.grid.contracted_mw).sum();
    loop {
        let sum = |of: &dyn Fn(&crate::engine::plan::GrowthOption) -> u64| -> u64 {
            genes.iter().zip(&growth.options).map(|((count, _), option)| u64::from(*count) * of(option)).sum()
        };
        let cost = sum(&|option| option.hall.cost_keur);
        let more_mw = sum(&|option| option.hall.grid_mw);
        if cost <= growth.budget_keur && now_mw + more_mw <= growth.power_mw_max {
            return;
        }
        let ordered: Vec<usize> =
            genes.iter().enumerate().filter(|(_, (count, _))| *count > 0).map(|(place, _)| place).collect();
        let place = usize::try_from(draws.below(ordered.len() as u64)).unwrap_or(0);
        let Some(gene) = ordered.get(place).and_then(|place| genes.get_mut(*place)) else { return };
        gene.0 -= 1;
    }
}
