//! The part of a study that says what may grow: a target, limits, and halls that may be built.
//!
//! Whether a target can be reached is for the search to say; here is refused what could not even be tried. Absent: the search.

use std::collections::{BTreeMap, BTreeSet};

use polder_core::facts::Vendor;
use polder_core::labels::Closed as _;

use super::check::{Checked, Source};
use super::raw;
use crate::calendar::{DAY_US, Date};
use crate::engine::plan::{Accelerator, Growth, GrowthOption, HallPlan, SitePlan};

/// Most kinds of halls times factories.
const OPTIONS_MAX: usize = 10_000;

pub(super) fn growth(
    source: &Source<'_>,
    raw: &raw::Study,
    (sites, kinds): (&[SitePlan], &BTreeMap<String, Accelerator>),
    begin: Date,
) -> Checked<Option<Growth>> {
    let Some(given) = &raw.growth else { return Ok(None) };
    let growth = given.get_ref();
    let mut options = Vec::new();
    let mut seen = BTreeSet::new();
    for option in growth.options.get_ref() {
        source.unique("id", &option.id, &mut seen)?;
        options.extend(one(source, option, (sites, kinds), (begin, *raw.days.get_ref()))?);
    }
    if options.is_empty() || options.len() > OPTIONS_MAX {
        let message = format!("`options` come to {} halls at factories: allowed are 1 to {OPTIONS_MAX}", options.len());
        return Err(source.at(&growth.options.span(), &message));
    }
    let power_kw = source.within("power_kw_max", &growth.power_kw_max, 1, 1_000_000_000)?;
    let now_mw: u64 = sites.iter().filter_map(|site| site.grid.contracted_mw).sum();
    if power_kw * 1_000_000 < now_mw {
        let message = format!("`power_kw_max` is {power_kw}: the factories have {} now", now_mw / 1_000_000);
        return Err(source.at(&growth.power_kw_max.span(), &message));
    }
    Ok(Some(Growth {
        times_percent: source.within("times", &growth.times, 1, 1_000)? * 100,
        served_percent: source.within("served_percent", &growth.served_percent, 1, 100)?,
        budget_keur: source.within("budget_keur", &growth.budget_keur, 1, 1_000_000_000_000)?,
        power_mw_max: power_kw * 1_000_000,
        vendor_share_percent_max: source.within(
            "vendor_share_percent_max",
            &growth.vendor_share_percent_max,
            1,
            100,
        )?,
        country_share_percent_max: source.within(
            "country_share_percent_max",
            &growth.country_share_percent_max,
            1,
            100,
        )?,
        options,
    }))
}

/// A kind of hall at each of its factories.
fn one(
    source: &Source<'_>,
    raw: &raw::GrowthOption,
    (sites, kinds): (&[SitePlan], &BTreeMap<String, Accelerator>),
    (begin, days): (Date, u64),
) -> Checked<Vec<GrowthOption>> {
    let kind = kinds.get(raw.accelerator.get_ref());
    let kind = kind.ok_or_else(|| source.unknown("accelerator", &raw.accelerator, kinds.keys().map(String::as_str)))?;
    let vendors: Vec<(&str, Vendor)> = Vendor::all().into_iter().map(|one| (one.as_str(), one)).collect();
    let vendor = source.one_of("vendor", &raw.vendor, &vendors)?;
    let racks = source.within("racks", &raw.racks, 1, 10_000)?;
    let per_rack = source.within("per_rack", &raw.per_rack, 1, 100)?;
    let lead_days = source.within("lead_days", &raw.lead_days, 0, 3_650)?;
    let most = source.within("most", &raw.most, 1, 50)?;
    let from = match &raw.from {
        Some(text) => source.date("from", text)?,
        None => begin,
    };
    if from < begin || from.0 + lead_days >= begin.0 + days {
        let span = raw.from.as_ref().map_or_else(|| raw.lead_days.span(), toml::Spanned::span);
        let message = format!(
            "`{}` could be ordered on {from} and be there {lead_days} days later: allowed is what is there before the study ends, and ordered after it begins",
            raw.id.get_ref()
        );
        return Err(source.at(&span, &message));
    }
    let named: Vec<usize> = match &raw.factories {
        None => (0..sites.len()).collect(),
        Some(names) => {
            let place = |name: &raw::At<String>| {
                let found = sites.iter().position(|site| site.id.as_str() == name.get_ref());
                found.ok_or_else(|| source.unknown("factories", name, sites.iter().map(|site| site.id.as_str())))
            };
            names.get_ref().iter().map(place).collect::<Checked<_>>()?
        }
    };
    let used_for = source.use_of(&raw.used_for)?;
    let option = |site: usize| GrowthOption {
        id: raw.id.get_ref().clone(),
        site,
        hall: HallPlan {
            id: raw.id.get_ref().clone(),
            used_for,
            accelerators: racks * per_rack,
            from_us: 0,
            cost_keur: raw.cost_keur,
            grid_mw: raw.grid_kw.min(100_000_000) * 1_000_000,
            kind: kind.clone(),
        },
        vendor,
        lead_us: lead_days * DAY_US,
        from_us: (from.0 - begin.0) * DAY_US,
        most,
    };
    Ok(named.into_iter().map(option).collect())
}
