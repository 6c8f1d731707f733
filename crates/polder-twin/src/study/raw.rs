//! A study's raw shape: what TOML and the types of single values can say, nothing about how parts fit together.
//!
//! Unknown fields are errors. Units stand last in names; what may be left out has a default that `docs/plan.md` names.

use serde::Deserialize;
use toml::Spanned;

pub(super) type At<T> = Spanned<T>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Study {
    pub name: String,
    /// The federation's description, relative to the study.
    pub federation: At<String>,
    pub begin: At<String>,
    pub days: At<u64>,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "minute")]
    pub status_every_s: At<u64>,
    pub accelerators: At<Vec<Accelerator>>,
    pub factories: At<Vec<Factory>>,
    pub demands: At<Vec<Demand>>,
    #[serde(default)]
    pub events: Vec<At<Event>>,
    pub growth: Option<At<Growth>>,
}

/// What `polder twin grow` searches for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Growth {
    pub times: At<u64>,
    #[serde(default = "ninety_five")]
    pub served_percent: At<u64>,
    pub budget_keur: At<u64>,
    pub power_kw_max: At<u64>,
    #[serde(default = "hundred")]
    pub vendor_share_percent_max: At<u64>,
    #[serde(default = "hundred")]
    pub country_share_percent_max: At<u64>,
    pub options: At<Vec<GrowthOption>>,
}

fn ninety_five() -> At<u64> {
    Spanned::new(0..0, 95)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrowthOption {
    pub id: At<String>,
    /// The factories at which it may be built; all where absent.
    pub factories: Option<At<Vec<At<String>>>>,
    pub racks: At<u32>,
    pub per_rack: At<u32>,
    pub accelerator: At<String>,
    pub vendor: At<String>,
    #[serde(default = "batch")]
    pub used_for: At<String>,
    pub lead_days: At<u64>,
    pub from: Option<At<String>>,
    pub most: At<u8>,
    pub cost_keur: u64,
    /// How much more is contracted with it.
    #[serde(default)]
    pub grid_kw: u64,
}

fn nought() -> At<u64> {
    Spanned::new(0..0, 0)
}

fn nought_small() -> At<u32> {
    Spanned::new(0..0, 0)
}

fn one() -> u64 {
    1
}

fn minute() -> At<u64> {
    Spanned::new(0..0, 60)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accelerator {
    pub id: At<String>,
    pub idle_w: u64,
    pub active_w: At<u64>,
    pub capped_w: Option<At<u64>>,
    #[serde(default = "hundred")]
    pub capped_speed_percent: At<u64>,
    #[serde(default = "hundred")]
    pub speed_percent: At<u64>,
    #[serde(default = "seats")]
    pub seats: At<u32>,
    #[serde(default = "prefill")]
    pub prefill_tokens_per_s: At<u64>,
    #[serde(default = "decode")]
    pub decode_tokens_per_s: At<u64>,
}

fn hundred() -> At<u64> {
    Spanned::new(0..0, 100)
}

fn seats() -> At<u32> {
    Spanned::new(0..0, 16)
}

fn prefill() -> At<u64> {
    Spanned::new(0..0, 8_000)
}

fn decode() -> At<u64> {
    Spanned::new(0..0, 40)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Factory {
    pub id: At<String>,
    pub halls: At<Vec<Hall>>,
    #[serde(default)]
    pub supply_loss_percent_hundredths: u64,
    #[serde(default)]
    pub rectifier_loss_percent_hundredths: u64,
    pub cooling: Option<Cooling>,
    pub grid: Grid,
    pub battery: Option<Battery>,
    #[serde(default = "easy")]
    pub scheduler: At<String>,
    #[serde(default = "queue")]
    pub queue_max: usize,
    pub failure_every_h: Option<At<u64>>,
    #[serde(default = "repair")]
    pub repair_h: u64,
    #[serde(default = "price")]
    pub price_cent_per_accelerator_h: u64,
}

fn easy() -> At<String> {
    Spanned::new(0..0, "easy".to_owned())
}

fn queue() -> usize {
    1_000
}

fn repair() -> u64 {
    48
}

fn price() -> u64 {
    200
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hall {
    pub id: At<String>,
    pub racks: At<u32>,
    pub per_rack: At<u32>,
    /// What one rack may draw.
    pub rack_kw: Option<At<u64>>,
    pub accelerator: At<String>,
    #[serde(default = "batch")]
    pub used_for: At<String>,
    /// When it is ordered; it is there `lead_days` later. There from the beginning where absent.
    pub ordered: Option<At<String>>,
    #[serde(default = "nought")]
    pub lead_days: At<u64>,
    /// The hall of the same factory that must be there before this one is ordered.
    pub after: Option<At<String>>,
    #[serde(default)]
    pub cost_keur: u64,
    /// How much more is contracted once it is there.
    #[serde(default)]
    pub grid_kw: u64,
}

fn batch() -> At<String> {
    Spanned::new(0..0, "batch".to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cooling {
    /// Wet-bulb temperature in degrees, and what cooling takes, in per cent of the accelerators' energy.
    pub curve: At<Vec<(i64, u64)>>,
    pub mean_c: i64,
    #[serde(default)]
    pub season_c: i64,
    #[serde(default)]
    pub day_c: i64,
    pub limit_c: Option<i64>,
    #[serde(default = "plain_hundred")]
    pub limit_percent: u64,
    #[serde(default)]
    pub water_ml_per_kwh: u64,
    #[serde(default)]
    pub water_from_c: i64,
}

fn plain_hundred() -> u64 {
    100
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grid {
    pub contracted_kw: Option<At<u64>>,
    pub price_eur_per_mwh: u64,
    #[serde(default = "nought")]
    pub price_swing_percent: At<u64>,
    pub carbon_g_per_kwh: u64,
    #[serde(default = "nought")]
    pub carbon_swing_percent: At<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Battery {
    pub kwh: u64,
    pub kw: u64,
    pub efficiency_percent: At<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Demand {
    pub id: At<String>,
    pub tenant: At<String>,
    pub project: At<String>,
    #[serde(default = "batch")]
    pub used_for: At<String>,
    #[serde(default = "patience")]
    pub patience_min: u64,
    /// Either `per_hour` and what follows it, or `trace`.
    pub per_hour: Option<At<u64>>,
    #[serde(default = "nought_small")]
    pub growth_percent_per_year: At<u32>,
    #[serde(default = "nought")]
    pub day_percent: At<u64>,
    pub sizes: Option<At<Vec<(u32, u32)>>>,
    pub run_min: Option<At<u64>>,
    pub run_min_max: Option<At<u64>>,
    #[serde(default = "limit")]
    pub limit_percent: u64,
    pub prompt_tokens: Option<At<u64>>,
    pub generated_tokens: Option<At<u64>>,
    pub trace: Option<Trace>,
}

fn patience() -> u64 {
    60
}

fn limit() -> u64 {
    150
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    pub format: At<String>,
    pub file: At<String>,
    #[serde(default = "one_processor")]
    pub processors_per_accelerator: u32,
}

fn one_processor() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    pub kind: At<String>,
    pub from: At<String>,
    pub until: Option<At<String>>,
    pub factory: Option<At<String>>,
    pub country: Option<At<String>>,
    pub vendor: Option<At<String>>,
    pub tenant: Option<At<String>>,
    pub hall: Option<At<String>>,
    pub accelerators: Option<At<u32>>,
    pub percent: Option<At<u64>>,
    pub policy: Option<At<String>>,
}
