//! What a plan of growth comes to, and by how much it misses what it must keep to.

use std::collections::BTreeMap;

use polder_core::labels::Closed as _;
use serde::Serialize;

use super::Ground;
use crate::calendar::{Date, month_text};
use crate::engine::coarse::{Coarse, Served};
use crate::engine::meter::Figures;
use crate::engine::plan::Plan;
use crate::engine::pool::Blocked;

/// A limit or target that a plan misses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name in the study.
    pub name: &'static str,
    /// What the plan comes to, in the limit's own unit; `times` in per cent.
    pub is: u64,
    /// What it must keep to.
    pub must: u64,
    /// By what part it misses, in millionths.
    pub misses_ppm: u64,
}

/// What a plan comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Work done in the last month, in per cent of the first month's, each a day.
    pub times_percent: u64,
    /// What part of the work that may run was done in the last month, in per cent.
    pub served_percent: u64,
    /// The first month in which the target was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// What halls cost, in thousands of euro.
    pub build_keur: u64,
    /// What energy cost over the study, in thousands of euro.
    pub energy_keur: u64,
    /// Carbon over the study, in tonnes.
    pub carbon_t: u64,
    /// Energy over the study, in megawatt-hours.
    pub energy_mwh: u64,
    /// Contracted with all grids at the end, in kilowatts.
    pub power_kw: u64,
    /// The largest vendor's share of accelerators at the end, in per cent, and who that is.
    pub vendor_percent: u64,
    /// See `vendor_percent`.
    pub vendor: String,
    /// The largest country's share.
    pub country_percent: u64,
    /// See `country_percent`.
    pub country: String,
    /// Herfindahl and Hirschman's index over vendors and over countries, by accelerators at the end, added up.
    pub concentration: u64,
    /// What stands in the way last: at which factory, and what, for most hours of the last month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<String>,
    /// What it misses; empty where it keeps to everything.
    pub misses: Vec<Limit>,
}

impl Score {
    pub(super) fn of(ground: &Ground<'_>, built: &Plan, outcome: &Coarse) -> Self {
        let growth = ground.growth;
        let mut whole = Figures::default();
        outcome.sites.iter().for_each(|site| whole.add(site));
        let (times, reached) = times(ground, built, outcome);
        let last = outcome.months.last().copied().unwrap_or_default();
        let may_run = last.asked_us.saturating_sub(last.refused_us);
        let served_percent = small((last.done_us * 100).checked_div(may_run).unwrap_or(100)).min(100);
        let before: u64 = ground.plan.sites.iter().flat_map(|site| &site.halls).map(|hall| hall.cost_keur).sum();
        let all: u64 = built.sites.iter().flat_map(|site| &site.halls).map(|hall| hall.cost_keur).sum();
        let power_mw: u64 = built.sites.iter().filter_map(|site| Some(site.grid.contracted_mw? + raised(site))).sum();
        let (vendors, countries) = shares(ground, built);
        let ((vendor, vendor_percent), (country, country_percent)) = (largest(&vendors), largest(&countries));
        let mut score = Self {
            times_percent: times,
            served_percent,
            reached,
            build_keur: all - before,
            energy_keur: small(whole.cost_microeur / 1_000_000_000),
            carbon_t: small(whole.carbon_ug / 1_000_000_000_000),
            energy_mwh: small(whole.grid_nj / crate::engine::meter::KWH_NJ / 1_000),
            power_kw: power_mw / 1_000_000,
            vendor_percent,
            vendor,
            country_percent,
            country,
            concentration: index(&vendors) + index(&countries),
            bottleneck: bottleneck(built, outcome),
            misses: Vec::new(),
        };
        let at_least = |name, is: u64, must: u64| (is < must).then(|| limit(name, is, must, must - is));
        let at_most = |name, is: u64, must: u64| (is > must).then(|| limit(name, is, must, is - must));
        score.misses = [
            at_least("times", score.times_percent, growth.times_percent),
            at_least("served_percent", score.served_percent, growth.served_percent),
            at_most("budget_keur", score.build_keur, growth.budget_keur),
            at_most("power_kw_max", score.power_kw, growth.power_mw_max / 1_000_000),
            at_most("vendor_share_percent_max", score.vendor_percent, growth.vendor_share_percent_max),
            at_most("country_share_percent_max", score.country_percent, growth.country_share_percent_max),
        ]
        .into_iter()
        .flatten()
        .collect();
        score
    }

    /// By how much it misses altogether, in millionths.
    pub fn misses_ppm(&self) -> u64 {
        self.misses.iter().map(|limit| limit.misses_ppm).sum()
    }

    /// What is to be small: cost, carbon, concentration.
    pub fn objectives(&self) -> [u64; 3] {
        [self.build_keur + self.energy_keur, self.carbon_t, self.concentration]
    }

    /// Whether it is better than another: it misses less, or it misses nothing and is nowhere worse and somewhere better.
    pub fn beats(&self, other: &Self) -> bool {
        let (own, others) = (self.misses_ppm(), other.misses_ppm());
        if own != others {
            return own < others;
        }
        let pairs = self.objectives().into_iter().zip(other.objectives());
        let (mut worse, mut better) = (false, false);
        for (own, others) in pairs {
            worse |= own > others;
            better |= own < others;
        }
        better && !worse
    }
}

fn small(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn limit(name: &'static str, is: u64, must: u64, by: u64) -> Limit {
    let ppm = small(u128::from(by) * 1_000_000 / u128::from(must.max(1)));
    Limit { name, is, must, misses_ppm: ppm.max(1) }
}

fn raised(site: &crate::engine::plan::SitePlan) -> u64 {
    site.grid.raises.iter().map(|(_, more_mw)| more_mw).sum()
}

/// Work of the last month against the first, a day, in per cent; and the first month that reaches what is asked.
fn times(ground: &Ground<'_>, plan: &Plan, outcome: &Coarse) -> (u64, Option<String>) {
    let first = plan.begin.month();
    let mut days = vec![0_u128; outcome.months.len()];
    for day in 0..plan.days {
        let month = usize::try_from(Date(plan.begin.0 + day).month() - first).unwrap_or(0);
        if let Some(days) = days.get_mut(month) {
            *days += 1;
        }
    }
    let a_day = |(served, days): (&Served, &u128)| served.done_us.checked_div(*days).unwrap_or(0);
    let months: Vec<u128> = outcome.months.iter().zip(&days).map(a_day).collect();
    let Some(begin) = months.first().copied().filter(|begin| *begin > 0) else { return (0, None) };
    let percent = |done: &u128| small(done * 100 / begin);
    let reached = months.iter().position(|done| percent(done) >= ground.growth.times_percent);
    let reached = reached.map(|month| month_text(first + month as u64));
    (months.last().map_or(0, percent), reached)
}

/// Accelerators at the end by vendor and by country.
fn shares(ground: &Ground<'_>, built: &Plan) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let (mut vendors, mut countries): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
    let places = ground.plan.sites.iter().zip(&built.sites).zip(&ground.behind);
    for (number, ((before, after), (made_by, country))) in places.enumerate() {
        for (place, hall) in after.halls.iter().enumerate() {
            let units = u64::from(hall.accelerators);
            *countries.entry(country.clone()).or_default() += units;
            if place < before.halls.len() {
                for (vendor, ppm) in made_by {
                    *vendors.entry(vendor.clone()).or_default() += units * ppm / 1_000_000;
                }
                continue;
            }
            // New halls have their option's name in front.
            let named = |option: &&crate::engine::plan::GrowthOption| {
                option.site == number
                    && hall.id.strip_prefix(option.id.as_str()).is_some_and(|rest| rest.starts_with('-'))
            };
            let vendor = ground.growth.options.iter().find(named).map_or("unknown", |option| option.vendor.as_str());
            *vendors.entry(vendor.to_owned()).or_default() += units;
        }
    }
    (vendors, countries)
}

fn largest(shares: &BTreeMap<String, u64>) -> (String, u64) {
    let all: u64 = shares.values().sum();
    let most = shares.iter().max_by_key(|(name, units)| (**units, std::cmp::Reverse(*name)));
    most.map_or((String::new(), 0), |(name, units)| (name.clone(), (units * 100).div_ceil(all.max(1))))
}

fn index(shares: &BTreeMap<String, u64>) -> u64 {
    let all: u128 = shares.values().map(|units| u128::from(*units)).sum();
    let squares: u128 = shares.values().map(|units| u128::from(*units) * u128::from(*units)).sum();
    small((squares * 10_000).checked_div(all * all).unwrap_or(0))
}

fn bottleneck(built: &Plan, outcome: &Coarse) -> Option<String> {
    let last = outcome.blocked.last()?;
    let each = last
        .iter()
        .enumerate()
        .flat_map(|(site, hours)| hours.iter().enumerate().map(move |(cause, hours)| (*hours, site, cause)));
    let (_, site, cause) = each
        .filter(|(hours, ..)| *hours > 0)
        .max_by_key(|(hours, site, cause)| (*hours, std::cmp::Reverse((*site, *cause))))?;
    Some(format!("{} at {}", Blocked::ALL.get(cause)?.as_str(), built.sites.get(site)?.id))
}
