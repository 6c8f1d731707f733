//! Growth: which halls to build where and when, so that a target is reached within budget, power, lead times and dependence.
//!
//! Many plans are tried with [`crate::engine::coarse`] and the best of each kind kept: a front of what is cheap, clean and spread, none of
//! which beats another in everything. The search is evolutionary (after NSGA-II, Deb et al. 2002), seeded, and comes to the same on
//! any number of threads. Absent: a promise that nothing better exists, and any say in which plan of the front is the right one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::calendar::{DAY_US, Date};
use crate::engine::coarse;
use crate::engine::plan::{Change, Growth, Plan};

mod page;
mod score;
mod search;

pub use page::page;
pub use score::{Limit, Score};
pub use search::{Front, search};

/// Days between two instants at which a hall can be ordered.
const SLOT_DAYS: u64 = 30;
/// The stream of chance of searches.
const STREAM_OF_SEARCH: u64 = 2 << 32;

/// For each option: how many halls, and how many slots after its first day they are ordered.
pub type Genes = Vec<(u8, u8)>;

/// Halls of one kind that are ordered together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// The factory.
    pub factory: String,
    /// The option's name.
    pub hall: String,
    /// How many.
    pub count: u8,
    /// Accelerators of all of them.
    pub accelerators: u64,
    /// The day of the order.
    pub ordered: String,
    /// The day on which they are there.
    pub there: String,
    /// What they cost, in thousands of euro.
    pub cost_keur: u64,
    /// How much more is contracted, in kilowatts.
    pub grid_kw: u64,
}

/// Gives racks, accelerators in each, and their kind, of an option.
pub type RacksOf<'a> = dyn Fn(&str) -> Option<(u32, u32, String)> + 'a;

/// What a search is asked.
pub struct Ground<'p> {
    plan: &'p Plan,
    growth: &'p Growth,
    /// For each factory, who makes its chips, with their parts in millionths, and its country.
    behind: Vec<(Vec<(String, u64)>, String)>,
    step_h: u64,
}

impl<'p> Ground<'p> {
    /// The ground of a study that says what may grow; `None` where it does not.
    pub fn new(plan: &'p Plan, step_h: u64) -> Option<Self> {
        let growth = plan.growth.as_ref()?;
        let (_, basis) = plan.homes.first()?.epochs.first()?;
        let behind = basis.grounds.iter().map(|ground| {
            let profile = ground.column.profile();
            let [.., country, vendors] = crate::drill::concentration::behind(&ground.id, profile);
            let country = country.into_iter().next().map(|(name, _)| name).unwrap_or_default();
            (vendors, country)
        });
        Some(Self { plan, growth, behind: behind.collect(), step_h })
    }

    /// The study with what a plan builds.
    pub fn built(&self, genes: &Genes) -> Plan {
        let mut plan = self.plan.clone();
        for ((count, slot), option) in genes.iter().zip(&self.growth.options).filter(|((count, _), _)| *count > 0) {
            let Some(site) = plan.sites.get_mut(option.site) else { continue };
            let there_us = self.there_us(option, *slot);
            for _ in 0..*count {
                let mut hall = option.hall.clone();
                hall.from_us = there_us;
                hall.id = format!("{}-{}", option.id, site.halls.len());
                site.changes.push((there_us, Change::Arrives(site.halls.len())));
                site.grid.raises.push((there_us / crate::calendar::HOUR_US, hall.grid_mw));
                site.halls.push(hall);
            }
            site.changes.sort_by_key(|(at_us, _)| *at_us);
        }
        plan
    }

    fn there_us(&self, option: &crate::engine::plan::GrowthOption, slot: u8) -> u64 {
        option.from_us + u64::from(slot) * SLOT_DAYS * DAY_US + option.lead_us
    }

    /// The last slot in which an option's halls still come before the end.
    fn slots(&self, option: &crate::engine::plan::GrowthOption) -> u8 {
        let left_us = self.plan.end_us().saturating_sub(option.from_us + option.lead_us + DAY_US);
        u8::try_from(left_us / (SLOT_DAYS * DAY_US)).unwrap_or(u8::MAX)
    }

    /// What a plan orders.
    pub fn orders(&self, genes: &Genes) -> Vec<Order> {
        let order = |((count, slot), option): (&(u8, u8), &crate::engine::plan::GrowthOption)| {
            let site = self.plan.sites.get(option.site)?;
            let day = |us: u64| Date(self.plan.begin.0 + us / DAY_US).to_string();
            let there_us = self.there_us(option, *slot);
            let (times, hall) = (u64::from(*count), &option.hall);
            (*count > 0).then(|| Order {
                factory: site.id.to_string(),
                hall: option.id.clone(),
                count: *count,
                accelerators: times * u64::from(hall.accelerators),
                ordered: day(there_us - option.lead_us),
                there: day(there_us),
                cost_keur: times * hall.cost_keur,
                grid_kw: times * hall.grid_mw / 1_000_000,
            })
        };
        let mut orders: Vec<Order> = genes.iter().zip(&self.growth.options).filter_map(order).collect();
        orders.sort_by(|one, other| {
            (&one.ordered, &one.factory, &one.hall).cmp(&(&other.ordered, &other.factory, &other.hall))
        });
        orders
    }

    /// Lines that a study's factory has for these halls, by factory: `polder twin run` then runs the plan with the engine.
    pub fn lines(&self, genes: &Genes, racks: &RacksOf<'_>) -> BTreeMap<String, Vec<String>> {
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for order in self.orders(genes) {
            let Some((racks, per_rack, accelerator)) = racks(&order.hall) else { continue };
            let option = self.growth.options.iter().find(|option| option.id == order.hall);
            let Some(option) = option else { continue };
            let used_for = match option.hall.used_for {
                crate::engine::plan::Use::Batch => "batch",
                crate::engine::plan::Use::Inference => "inference",
            };
            for number in 0..order.count {
                let line = format!(
                    "  {{ id = \"{}-{}-{number}\", racks = {racks}, per_rack = {per_rack}, accelerator = \"{accelerator}\", used_for = \"{used_for}\", ordered = \"{}\", lead_days = {}, cost_keur = {}, grid_kw = {} }},\n",
                    order.hall,
                    order.ordered,
                    order.ordered,
                    option.lead_us / DAY_US,
                    option.hall.cost_keur,
                    option.hall.grid_mw / 1_000_000,
                );
                lines.entry(order.factory.clone()).or_default().push(line);
            }
        }
        lines
    }

    /// Tries a plan.
    pub fn score(&self, genes: &Genes) -> Score {
        let built = self.built(genes);
        let outcome = coarse::run(&built, self.step_h);
        Score::of(self, &built, &outcome)
    }
}

#[cfg(test)]
mod tests;
