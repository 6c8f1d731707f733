//! What came of a study, as figures: sums over months and factories, shares, and the dated bottlenecks.
//!
//! Everything is a whole number; what is shown is made of it elsewhere. The digest covers every figure, so that two runs
//! can be told to be the same.

use std::collections::BTreeMap;

use polder_core::canonical::{CanonicalError, Digest, digest};
use serde::Serialize;

use super::meter::Figures;
use super::pool::Blocked;
use super::site::Site;
use super::tally::{Asked, Tally};
use super::{Engine, Use};
use crate::calendar::{Date, month_text};

/// A cause that keeps the first in line waiting for this share of a month is a bottleneck, in thousandths.
pub const BOTTLENECK_PER_MILLE: u128 = 50;

/// What came of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The months, from 1970-01, that the study touches, up to where it came.
    pub months: Vec<u64>,
    /// How far it came, in microseconds.
    pub until_us: u64,
    /// The factories, in name order.
    pub sites: Vec<SiteOutcome>,
    /// The streams of work, in the study's order.
    pub demands: Vec<DemandOutcome>,
    /// What stood in the way first, at each factory and for each cause, in order of time.
    pub bottlenecks: Vec<Bottleneck>,
}

/// What came of a factory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteOutcome {
    /// Its name.
    pub id: String,
    /// Where it stands, for people.
    pub place: String,
    /// Where the study describes it.
    pub line: usize,
    /// Its halls.
    pub halls: Vec<HallOutcome>,
    /// Each month.
    pub months: Vec<Figures>,
    /// All of them.
    pub whole: Figures,
    /// Each stream's part.
    pub tallies: Vec<Tally>,
    /// What waits and what runs at the end.
    pub left: (u64, u64),
}

/// A hall, and when it was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HallOutcome {
    /// Its name.
    pub hall: String,
    /// Its accelerators.
    pub accelerators: u32,
    /// The day.
    pub there_from: String,
    /// What it costs to build, in thousands of euro.
    pub cost_keur: u64,
}

/// What came of a stream of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemandOutcome {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// How sensitive its data is.
    pub class: String,
    /// What it is for.
    pub used_for: Use,
    /// Where the study describes it.
    pub line: usize,
    /// Each month.
    pub months: Vec<Asked>,
    /// All of them.
    pub asked: Asked,
    /// All factories' parts.
    pub tally: Tally,
    /// How many wait or run at a factory, or are held by their home, at the end.
    pub left: u64,
    /// The SEALs of the factories that did the work.
    pub seals: Vec<SealShare>,
}

/// How much work was done under which SEAL of an objective, by evidence of a third party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealShare {
    /// The framework.
    pub framework: String,
    /// The objective.
    pub objective: String,
    /// For each SEAL, its share of the work, in millionths.
    pub work_ppm: BTreeMap<u8, u64>,
}

/// Something that stood in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bottleneck {
    /// The month, such as `2027-03`.
    pub month: String,
    /// The factory.
    pub factory: String,
    /// What was short: `power`, `accelerators`, `cooling` or `maintenance`.
    pub cause: &'static str,
    /// For which part of that month the first in line waited for it, in thousandths.
    pub blocked_per_mille: u64,
}

/// Adds everything up.
pub(super) fn of(engine: &Engine, sites: &[Site]) -> Outcome {
    let begin = engine.plan.begin;
    let last = Date(begin.0 + engine.now_us.saturating_sub(1) / crate::calendar::DAY_US);
    let sites: Vec<SiteOutcome> =
        engine.places.iter().zip(sites).map(|(plan, site)| of_site(begin, plan, site)).collect();
    let demand = |number: usize| of_demand(engine, number, &sites);
    Outcome {
        months: (begin.month()..=last.month()).collect(),
        until_us: engine.now_us,
        demands: (0..engine.plan.demands.len()).filter_map(demand).collect(),
        bottlenecks: bottlenecks(begin.month(), &sites),
        sites,
    }
}

fn of_site(begin: Date, plan: &super::plan::SitePlan, site: &Site) -> SiteOutcome {
    let hall = |hall: &super::plan::HallPlan| HallOutcome {
        hall: hall.id.clone(),
        accelerators: hall.accelerators,
        there_from: Date(begin.0 + hall.from_us / crate::calendar::DAY_US).to_string(),
        cost_keur: hall.cost_keur,
    };
    let mut whole = Figures::default();
    site.months.iter().for_each(|month| whole.add(month));
    SiteOutcome {
        id: plan.id.to_string(),
        place: plan.place.clone(),
        line: plan.line,
        halls: plan.halls.iter().map(hall).collect(),
        months: site.months.clone(),
        whole,
        tallies: site.tallies.clone(),
        left: site.counts(),
    }
}

fn of_demand(engine: &Engine, number: usize, sites: &[SiteOutcome]) -> Option<DemandOutcome> {
    use polder_core::labels::Closed as _;
    let plan = engine.plan.demands.get(number)?;
    let months = engine.asked.get(number)?.clone();
    let mut asked = Asked::default();
    months.iter().for_each(|month| asked.merge(month));
    let mut tally = Tally::default();
    sites.iter().filter_map(|site| site.tallies.get(number)).for_each(|part| tally.merge(part));
    let of_demand = u16::try_from(number).ok()?;
    let held = engine.held.iter().filter(|job| job.demand == of_demand).count() as u64;
    let here: u64 = engine.sites.iter().map(|site| site.here(of_demand)).sum();
    Some(DemandOutcome {
        id: plan.id.clone(),
        tenant: plan.request.tenant.to_string(),
        class: plan.request.labels.class.as_str().to_owned(),
        used_for: plan.used_for,
        line: plan.line,
        months,
        asked,
        tally,
        left: held + here,
        seals: seals(engine, number, sites),
    })
}

/// By the facts that the home went by at the end.
fn seals(engine: &Engine, number: usize, sites: &[SiteOutcome]) -> Vec<SealShare> {
    let Some(demand) = engine.plan.demands.get(number) else { return Vec::new() };
    let Some(basis) = engine.homes.get(demand.home).and_then(super::Home::basis) else { return Vec::new() };
    let request = &demand.request;
    let mut work: BTreeMap<(String, String), BTreeMap<u8, u128>> = BTreeMap::new();
    for (site, ground) in sites.iter().zip(&basis.grounds) {
        let done = site.tallies.get(number).map_or(0, |tally| tally.work_us);
        for of in ground.column.seals(request.action, request.model.is_some()).into_iter().flatten() {
            for (objective, seal) in &of.attested {
                *work.entry((of.framework.clone(), objective.clone())).or_default().entry(*seal).or_default() += done;
            }
        }
    }
    let share = |((framework, objective), seals): ((String, String), BTreeMap<u8, u128>)| {
        let all: u128 = seals.values().sum();
        let ppm = |done: u128| (done * 1_000_000).checked_div(all).and_then(|ppm| u64::try_from(ppm).ok());
        let work_ppm = seals.into_iter().filter(|(_, done)| *done > 0);
        let work_ppm = work_ppm.filter_map(|(seal, done)| Some((seal, ppm(done)?))).collect();
        SealShare { framework, objective, work_ppm }
    };
    work.into_iter().map(share).collect()
}

/// For each factory and cause, the first month in which it stood in the way; in order of time.
fn bottlenecks(first_month: u64, sites: &[SiteOutcome]) -> Vec<Bottleneck> {
    let mut found = Vec::new();
    for site in sites {
        for (place, cause) in Blocked::ALL.iter().enumerate() {
            let share = |figures: &Figures| {
                let of: u128 = figures.blocked_us.get(place).copied().unwrap_or(0);
                (of * 1_000).checked_div(figures.measured_us()).unwrap_or(0)
            };
            let mut months = (first_month..).zip(&site.months);
            if let Some((month, figures)) = months.find(|(_, figures)| share(figures) >= BOTTLENECK_PER_MILLE) {
                found.push(Bottleneck {
                    month: month_text(month),
                    factory: site.id.clone(),
                    cause: cause.as_str(),
                    blocked_per_mille: u64::try_from(share(figures)).unwrap_or(1_000),
                });
            }
        }
    }
    found.sort_by(|a, b| (&a.month, &a.factory, a.cause).cmp(&(&b.month, &b.factory, b.cause)));
    found
}

impl Outcome {
    /// The digest over every figure.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        digest("polder/twin-outcome/v1", &format!("{self:?}"))
    }

    /// All factories together.
    pub fn whole(&self) -> Figures {
        let mut whole = Figures::default();
        self.sites.iter().for_each(|site| whole.add(&site.whole));
        whole
    }
}
