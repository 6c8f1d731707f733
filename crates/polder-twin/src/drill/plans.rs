//! A drill over a study: it is run twice with one seed, whole and with something dropped out for a while, and held side by side.
//!
//! What a study knows and receipts do not is how factories queue, draw power and fail, so waits here are the engine's own. Jobs are
//! counted and not followed one by one: what moved is how much more each factory was sent. Absent: tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::ids::NodeId;
use polder_core::labels::Closed as _;
use polder_core::placement::{Change, Decision, Factory, NO_CAPACITY, Row, Snapshot, decide_by};
use polder_core::policy::LayerKind;

use super::book::Book;
use super::concentration::{Spread, behind};
use super::loss::{Loss, Touch};
use super::report::{Drill, Hit, Landing, Saving, Share, Work};
use super::situation::{less, single_changes};
use crate::engine::plan::{Change as Planned, Demand, Plan};
use crate::engine::{Engine, EngineError, Outcome};

/// A study with something dropped out from one instant to another, in microseconds, and what each factory suffers.
pub fn without(plan: &Plan, losses: &[Loss], from_us: u64, until_us: u64) -> Result<(Plan, Vec<Touch>), String> {
    let mut plan = plan.clone();
    let mut worst = vec![Touch::Stays; plan.sites.len()];
    for home in &mut plan.homes {
        let Some((_, basis)) = home.epochs.first() else { continue };
        // Links are a home's own; whatever else drops out does so for all.
        let (links, others): (Vec<Loss>, Vec<Loss>) =
            losses.iter().cloned().partition(|loss| matches!(loss, Loss::Link(..)));
        let cut = less(basis, &links, &home.id)?.0;
        let cut = cut.iter().enumerate().filter(|(_, touch)| **touch != Touch::Stays);
        home.cut.extend(cut.map(|(place, _)| (from_us, until_us, place)));
        for (worst, touch) in worst.iter_mut().zip(less(basis, &others, &home.id)?.0) {
            let rank = |touch: &Touch| match touch {
                Touch::Stays => 0,
                Touch::Shrinks(_) => 1,
                Touch::Assumed => 2,
                Touch::Goes => 3,
            };
            if rank(&touch) > rank(worst) {
                *worst = touch;
            }
        }
    }
    for (site, touch) in plan.sites.iter_mut().zip(&worst) {
        match touch {
            Touch::Stays => {}
            Touch::Goes | Touch::Assumed => {
                site.changes.extend([(from_us, Planned::Lost), (until_us, Planned::Back)]);
            }
            Touch::Shrinks(left_ppm) => {
                for (number, hall) in site.halls.iter().enumerate() {
                    let left = u64::from(hall.accelerators) * left_ppm / 1_000_000;
                    let gone = hall.accelerators - u32::try_from(left).unwrap_or(hall.accelerators);
                    site.changes
                        .extend([(from_us, Planned::Down(number, gone)), (until_us, Planned::Up(number, gone))]);
                }
            }
        }
        site.changes.sort_by_key(|(at_us, _)| *at_us);
    }
    Ok((plan, worst))
}

/// Why a drill over a study cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlansError {
    /// The study cannot run on.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its federation cannot be asked.
    #[error("{0}")]
    Ground(String),
}

/// Runs the study as it is and without, and says what that makes of the difference. `look` is told the part that is done, in
/// thousandths, and ends the drill early by saying no; both runs then hold up to the same instant.
pub fn rehearse(
    plan: &Arc<Plan>,
    losses: &[Loss],
    (from_us, until_us): (u64, u64),
    threads: usize,
    look: &mut dyn FnMut(u64) -> bool,
) -> Result<Drill, PlansError> {
    let (changed, touches) = without(plan, losses, from_us, until_us).map_err(PlansError::Ground)?;
    let changed = Arc::new(changed);
    let (mut whole, mut less) = (Engine::new(Arc::clone(plan), threads)?, Engine::new(Arc::clone(&changed), threads)?);
    let (end_us, mut complete) = (plan.end_us(), true);
    let mut at_us = 0;
    while at_us < end_us {
        if !look(at_us * 1_000 / end_us.max(1)) {
            complete = false;
            break;
        }
        at_us = (at_us + crate::calendar::DAY_US).min(end_us);
        whole.run_until(at_us)?;
        less.run_until(at_us)?;
    }
    let (one, other) = (whole.outcome(), less.outcome());
    let mut found = Drill::new(losses, &Book::default());
    let begin_ms = plan.begin.0 * crate::calendar::DAY_US / 1_000;
    found.span_ms = (begin_ms + from_us / 1_000, begin_ms + until_us.min(at_us) / 1_000);
    found.whole = complete;
    let hit = |(site, touch): (&crate::engine::plan::SitePlan, &Touch)| {
        (*touch != Touch::Stays).then(|| Hit { factory: site.id.to_string(), touch: *touch })
    };
    found.drops = plan.sites.iter().zip(&touches).filter_map(hit).collect();
    let left = plan.demands.iter().map(|demand| with_what_is_left(plan, losses, demand));
    let left: Vec<Option<Decision>> = left.collect::<Result<_, _>>().map_err(PlansError::Ground)?;
    shares(&mut found, plan, &left, (&one, &other));
    found.landings = landings(&one, &other);
    found.savings = savings(plan, &left, &one, &other);
    found.concentration = [spread(plan, &one), spread(plan, &other)];
    Ok(found)
}

fn requests(requests: u64) -> Work {
    Work { requests, tokens: 0 }
}

/// What is decided about a stream of work with what is left, everything being empty.
fn with_what_is_left(plan: &Plan, losses: &[Loss], demand: &Demand) -> Result<Option<Decision>, String> {
    let Some(home) = plan.homes.get(demand.home) else { return Ok(None) };
    let Some((_, basis)) = home.epochs.first() else { return Ok(None) };
    let (_, _, basis) = less(basis, losses, &home.id)?;
    let row = Row::new(&basis, &demand.request);
    let open = basis.grounds.iter().map(|_| Factory::default()).collect();
    let snapshot = Snapshot::new(0, Arc::clone(&basis), Digest::default(), home.weights, open);
    Ok(Some(decide_by(&row, &snapshot, &demand.request, &BTreeMap::new())))
}

fn shares(found: &mut Drill, plan: &Plan, left: &[Option<Decision>], (one, other): (&Outcome, &Outcome)) {
    let demands = plan.demands.iter().zip(left).zip(one.demands.iter().zip(&other.demands));
    for (number, ((demand, left), (before, after))) in demands.enumerate() {
        let served = |of: &crate::engine::DemandOutcome| {
            of.asked.arrived - of.asked.refused_by_policy - of.asked.refused_for_capacity
        };
        let sent = |outcome: &Outcome, site: usize| {
            outcome
                .sites
                .get(site)
                .and_then(|site| site.tallies.get(number))
                .map_or(0, |tally| tally.sent - tally.returned)
        };
        let moved: u64 = (0..one.sites.len()).map(|site| sent(other, site).saturating_sub(sent(one, site))).sum();
        let elsewhere = moved.min(served(after));
        let refused = after.asked.refused_by_policy.saturating_sub(before.asked.refused_by_policy);
        let full = after.asked.refused_for_capacity.saturating_sub(before.asked.refused_for_capacity);
        // Where nobody is left who may, waiting does not help: that is no lack of room.
        let nobody = left.as_ref().is_some_and(|decision| decision.factory.is_none());
        let (stopped, stopped_full) = if nobody { (refused + full, 0) } else { (refused, full) };
        let share = Share {
            before: requests(served(before)),
            refused_before: before.asked.arrived - served(before),
            same: requests(served(after) - elsewhere),
            elsewhere: requests(elsewhere),
            // Jobs are not followed: all that began is counted here, with its wait.
            waited: requests(after.tally.waits.count()),
            waits: after.tally.waits.clone(),
            stopped: requests(stopped),
            stopped_full: requests(stopped_full),
            cost_before_pico: before.tally.charged_pico,
            cost_before_of_rest_pico: before.tally.charged_pico * u128::from(served(after))
                / u128::from(served(before).max(1)),
            cost_after_pico: after.tally.charged_pico,
            without_execution: 0,
        };
        let class = demand.request.labels.class.as_str();
        found.shares.entry((demand.request.tenant.to_string(), class)).or_default().merge(&share);
    }
}

fn landings(one: &Outcome, other: &Outcome) -> Vec<Landing> {
    let landing = |(before, after): (&crate::engine::SiteOutcome, &crate::engine::SiteOutcome)| {
        let came: u64 = before
            .tallies
            .iter()
            .zip(&after.tallies)
            .map(|(before, after)| (after.sent - after.returned).saturating_sub(before.sent - before.returned))
            .sum();
        let ppm = |month: &crate::engine::meter::Figures| {
            let (used, there): (u128, u128) = (month.used_us.iter().sum(), month.there_us.iter().sum());
            u64::try_from((used * 1_000_000).checked_div(there).unwrap_or(0)).unwrap_or(0)
        };
        let peak_load_ppm = after.months.iter().map(ppm).max().unwrap_or(0);
        let places = after.halls.iter().map(|hall| u64::from(hall.accelerators)).sum();
        (came > 0).then(|| Landing { factory: after.id.clone(), came, peak_load_ppm, places: Some(places) })
    };
    one.sites.iter().zip(&other.sites).filter_map(landing).collect()
}

fn spread(plan: &Plan, outcome: &Outcome) -> Vec<super::concentration::Index> {
    let mut spread = Spread::default();
    let Some((_, basis)) = plan.homes.first().and_then(|home| home.epochs.first()) else { return Vec::new() };
    for (ground, site) in basis.grounds.iter().zip(&outcome.sites) {
        let work: u128 = site.tallies.iter().map(|tally| tally.work_us).sum();
        // Hours, so that shares in millionths of them do not overflow.
        spread.add(&behind(&ground.id, ground.column.profile()), work / u128::from(crate::calendar::HOUR_US));
    }
    spread.indices()
}

/// For each stream of work that stops: what would let it run at one of the factories that are left.
fn savings(plan: &Plan, left: &[Option<Decision>], one: &Outcome, other: &Outcome) -> Vec<Saving> {
    let mut saved: BTreeMap<(Option<NodeId>, Change), (Work, BTreeSet<String>)> = BTreeMap::new();
    let demands = plan.demands.iter().zip(left).zip(one.demands.iter().zip(&other.demands));
    for ((demand, decision), (before, after)) in demands {
        let stops = |of: &crate::engine::DemandOutcome| of.asked.refused_by_policy + of.asked.refused_for_capacity;
        let count = stops(after).saturating_sub(stops(before));
        let Some(decision) = decision.as_ref().filter(|_| count > 0) else { continue };
        let mut changes = single_changes(decision);
        if decision.factory.is_some() {
            let room = || Change::Rule { layer: LayerKind::Availability, rule: NO_CAPACITY.to_owned() };
            let admitted = decision.verdicts.iter().filter(|verdict| verdict.causes.is_empty());
            changes.extend(admitted.map(|verdict| (Some(verdict.factory.clone()), room())));
        }
        for change in changes {
            let (work, tenants) = saved.entry(change).or_default();
            work.requests += count;
            tenants.insert(demand.request.tenant.to_string());
        }
    }
    let saving = |((factory, change), (saves, tenants)): ((Option<NodeId>, Change), (Work, BTreeSet<String>))| Saving {
        factory: factory.map(|factory| factory.to_string()),
        change,
        saves,
        tenants: tenants.into_iter().collect(),
    };
    let mut savings: Vec<Saving> = saved.into_iter().map(saving).collect();
    savings.sort_by_key(|one| std::cmp::Reverse(one.saves.requests));
    savings.truncate(super::SAVINGS_MAX);
    savings
}
