//! The report of a study: JSON for programs, CSV for spreadsheets, and one page of HTML for people, which needs no network.
//!
//! Every figure comes with what made it: the study's line, the traces, the seed and the digest of the study's text. Where a site
//! was calibrated, its band stands beside its energy. Absent: any single score of how good a plan is.

use serde_json::{Value, json};

use crate::calendar::{HOUR_US, month_text};
use crate::engine::meter::{Figures, KWH_NJ};
use crate::engine::tally::{Durations, Tally};
use crate::engine::{DemandOutcome, Outcome, SiteOutcome, plan::Use};

mod html;
mod svg;

pub(crate) use html::{STYLE, duration, table};
pub(crate) use svg::escape;

/// What a report was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The study's name for people.
    pub name: String,
    /// The study's file, as the caller gave it.
    pub file: String,
    /// The digest of its text.
    pub study_digest: String,
    /// The seed.
    pub seed: u64,
    /// Whether the study came to its end.
    pub whole: bool,
    /// Half of the error band of every energy figure in thousandths, where a calibration gave one.
    pub band_per_mille: Option<u64>,
    /// Rows of traces that were not used: the demand, how many, and the first with their lines.
    pub wrong_rows: Vec<(String, u64, Vec<String>)>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    made: Made,
    outcome: Outcome,
    digest: String,
}

/// Nanojoules as whole kilowatt-hours.
fn kwh(nj: u128) -> u64 {
    u64::try_from(nj / KWH_NJ).unwrap_or(u64::MAX)
}

fn small(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A share in millionths.
fn ppm(part: u128, whole: u128) -> u64 {
    small((part * 1_000_000).checked_div(whole).unwrap_or(0))
}

/// The figures of some time, in the units that a report has.
fn figures(of: &Figures) -> Value {
    let [batch, sessions] = of.used_us;
    let [batch_there, sessions_there] = of.there_us;
    json!({
        "facility_kwh": kwh(of.facility_nj()), "it_kwh": kwh(of.it_nj), "idle_kwh": kwh(of.idle_nj),
        "chain_loss_kwh": kwh(of.chain_nj), "cooling_kwh": kwh(of.cooling_nj), "grid_kwh": kwh(of.grid_nj),
        "battery_in_kwh": kwh(of.stored_nj), "battery_out_kwh": kwh(of.bridged_nj),
        "over_contract_kwh": kwh(of.over_nj), "pue_milli": small((of.facility_nj() * 1_000).checked_div(of.it_nj).unwrap_or(0)),
        "peak_kw": small(of.peak_mw / 1_000_000), "cost_eur": small(of.cost_microeur / 1_000_000),
        "carbon_kg": small(of.carbon_ug / 1_000_000_000), "water_m3": small(of.water_ul / 1_000_000_000),
        "accelerator_hours": small(batch / u128::from(HOUR_US)), "seat_hours": small(sessions / u128::from(HOUR_US)),
        "utilisation_ppm": ppm(batch, batch_there), "seat_utilisation_ppm": ppm(sessions, sessions_there),
    })
}

fn durations(of: &Durations) -> Value {
    json!({
        "count": of.count(), "mean_ms": of.mean_us() / 1_000, "p50_ms": of.quantile_us(500) / 1_000,
        "p95_ms": of.quantile_us(950) / 1_000, "p99_ms": of.quantile_us(990) / 1_000, "longest_ms": of.longest_us() / 1_000,
    })
}

fn tally(of: &Tally) -> Value {
    json!({
        "finished": of.finished, "sent_back": of.returned, "lost_to_failures": of.lost, "wait": durations(&of.waits),
        "first_token": durations(&of.first_tokens), "accelerator_hours": small(of.work_us / u128::from(HOUR_US)),
        "undone_hours": small(of.undone_us / u128::from(HOUR_US)), "energy_above_idle_kwh": kwh(of.energy_nj),
        "charged_eur": small(of.charged_pico / 1_000_000_000_000),
    })
}

impl Report {
    /// A report of what came of a study.
    pub fn new(made: Made, outcome: Outcome) -> Self {
        let digest = outcome.digest().map(|digest| digest.to_string()).unwrap_or_default();
        Self { made, outcome, digest }
    }

    /// The digest over every figure: two runs with the same one came to the same, to the bit.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What came of the study.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What it was made from.
    pub fn made(&self) -> &Made {
        &self.made
    }

    fn from(&self, line: usize) -> String {
        format!("{}:{line}", self.made.file)
    }

    /// The whole report as one JSON document.
    pub fn json(&self) -> Value {
        let outcome = &self.outcome;
        let made = &self.made;
        let months: Vec<String> = outcome.months.iter().map(|month| month_text(*month)).collect();
        json!({
            "report": "polder/twin-report/v1", "name": made.name, "whole": made.whole, "digest": self.digest,
            "made_from": {
                "study": made.file, "study_digest": made.study_digest, "seed": made.seed,
                "wrong_rows": made.wrong_rows.iter().map(|(demand, count, first)| {
                    json!({"demand": demand, "count": count, "first": first})
                }).collect::<Vec<_>>(),
            },
            "band_per_mille": made.band_per_mille,
            "hours": outcome.until_us / HOUR_US, "months": months,
            "whole_federation": figures(&outcome.whole()),
            "factories": outcome.sites.iter().map(|site| self.site(site)).collect::<Vec<_>>(),
            "demands": outcome.demands.iter().map(|demand| self.demand(demand)).collect::<Vec<_>>(),
            "bottlenecks": outcome.bottlenecks,
        })
    }

    fn site(&self, site: &SiteOutcome) -> Value {
        json!({
            "factory": site.id, "place": site.place, "from": self.from(site.line), "halls": site.halls,
            "whole": figures(&site.whole),
            "waiting_at_the_end": site.left.0, "running_at_the_end": site.left.1,
            "months": site.months.iter().map(figures).collect::<Vec<_>>(),
        })
    }

    fn demand(&self, demand: &DemandOutcome) -> Value {
        let asked = &demand.asked;
        json!({
            "demand": demand.id, "tenant": demand.tenant, "class": demand.class,
            "used_for": if demand.used_for == Use::Batch { "batch" } else { "inference" },
            "from": [self.from(demand.line), format!("seed {}", self.made.seed)],
            "asked": asked.arrived, "finished": demand.tally.finished, "refused_by_policy": asked.refused_by_policy,
            "refused_for_capacity": asked.refused_for_capacity, "left_at_the_end": demand.left,
            "served_ppm": ppm(u128::from(asked.arrived - asked.refused_by_policy - asked.refused_for_capacity), u128::from(asked.arrived)),
            "work": tally(&demand.tally), "seals": demand.seals,
            "months": demand.months.iter().map(|month| json!({
                "asked": month.arrived, "placed": month.placed, "refused_by_policy": month.refused_by_policy,
                "refused_for_capacity": month.refused_for_capacity,
            })).collect::<Vec<_>>(),
        })
    }

    /// One row for each month and factory.
    pub fn csv(&self) -> String {
        let heads = [
            "facility_kwh",
            "it_kwh",
            "idle_kwh",
            "chain_loss_kwh",
            "cooling_kwh",
            "grid_kwh",
            "battery_in_kwh",
            "battery_out_kwh",
            "over_contract_kwh",
            "pue_milli",
            "peak_kw",
            "cost_eur",
            "carbon_kg",
            "water_m3",
            "accelerator_hours",
            "seat_hours",
            "utilisation_ppm",
            "seat_utilisation_ppm",
        ];
        let mut text = format!("month,factory,{}\n", heads.join(","));
        for site in &self.outcome.sites {
            for (month, of) in self.outcome.months.iter().zip(&site.months) {
                let row = figures(of);
                let cells: Vec<String> =
                    heads.iter().map(|head| row.get(*head).map(Value::to_string).unwrap_or_default()).collect();
                text += &format!("{},{},{}\n", month_text(*month), site.id, cells.join(","));
            }
        }
        text
    }

    /// One page that a browser opens from disk.
    pub fn html(&self) -> String {
        html::page(self)
    }
}

#[cfg(test)]
mod tests;
