//! The meter of one factory: energy, losses, cooling, battery, grid, money and carbon, hour by hour.
//!
//! Energy is counted in nanojoules (milliwatts times microseconds), where nothing is rounded. Losses, cooling and the battery are
//! reckoned once an hour from what the accelerators took, rounded down, and every sum is made of its parts: what the factory
//! takes is accelerators + losses + cooling, what the grid gives is that, less what the battery gave, plus what it took. Absent:
//! anything that jobs say of themselves; a test adds those up and comes to the same.

use super::plan::{Battery, Chain, Cooling, SitePlan};
use super::pool::{Blocked, Power};
use crate::calendar::HOUR_US;
use crate::draw::wave;

/// Nanojoules of a kilowatt-hour.
pub const KWH_NJ: u128 = 3_600_000_000_000_000;
/// Hour of the day at which it is hottest and power is dearest, from midnight UTC.
const HOTTEST_HOUR: u64 = 15;
/// Day of the year at which it is hottest.
const HOTTEST_DAY: u64 = 200;

/// What was measured in some time; everything adds up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Energy of the accelerators, idle power included.
    pub it_nj: u128,
    /// What of it they would have taken idle.
    pub idle_nj: u128,
    /// Lost on the way to them.
    pub chain_nj: u128,
    /// Taken by cooling.
    pub cooling_nj: u128,
    /// Drawn from the grid.
    pub grid_nj: u128,
    /// Put into the battery.
    pub stored_nj: u128,
    /// Taken from the battery.
    pub bridged_nj: u128,
    /// Drawn above what is contracted, because neither battery nor waiting could avoid it.
    pub over_nj: u128,
    /// Cost of the grid's energy.
    pub cost_microeur: u128,
    /// Carbon of the grid's energy.
    pub carbon_ug: u128,
    /// Water of cooling.
    pub water_ul: u128,
    /// Accelerators or seats at work, times microseconds; for jobs and for sessions.
    pub used_us: [u128; 2],
    /// Accelerators or seats that were there, times microseconds.
    pub there_us: [u128; 2],
    /// How long the first job that waited was kept by each cause.
    pub blocked_us: [u128; Blocked::ALL.len()],
    /// The highest draw of an hour, in milliwatts.
    pub peak_mw: u128,
    /// How long was measured.
    pub time_us: u128,
}

impl Figures {
    /// Everything that the factory took.
    pub fn facility_nj(&self) -> u128 {
        self.it_nj + self.chain_nj + self.cooling_nj
    }

    /// How long was measured, in microseconds.
    pub fn measured_us(&self) -> u128 {
        self.time_us
    }

    /// Adds what was measured at another time or place. Peaks do not add up: the higher one stays.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.it_nj, other.it_nj),
            (&mut self.idle_nj, other.idle_nj),
            (&mut self.chain_nj, other.chain_nj),
            (&mut self.cooling_nj, other.cooling_nj),
            (&mut self.grid_nj, other.grid_nj),
            (&mut self.stored_nj, other.stored_nj),
            (&mut self.bridged_nj, other.bridged_nj),
            (&mut self.over_nj, other.over_nj),
            (&mut self.cost_microeur, other.cost_microeur),
            (&mut self.carbon_ug, other.carbon_ug),
            (&mut self.water_ul, other.water_ul),
            (&mut self.time_us, other.time_us),
        ];
        for (own, added) in pairs {
            *own += added;
        }
        let lists = self.used_us.iter_mut().chain(&mut self.there_us).chain(&mut self.blocked_us);
        let added = other.used_us.iter().chain(&other.there_us).chain(&other.blocked_us);
        for (own, added) in lists.zip(added) {
            *own += added;
        }
        self.peak_mw = self.peak_mw.max(other.peak_mw);
    }
}

/// What flows now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flow {
    /// What the accelerators draw.
    pub it_mw: u64,
    /// What they would draw idle.
    pub idle_mw: u64,
    /// Units at work, for jobs and for sessions.
    pub used: [u64; 2],
    /// Units that are there.
    pub there: [u64; 2],
    /// What keeps the first that waits, as the place in [`Blocked::ALL`].
    pub blocked: Option<Blocked>,
}

/// The meter.
#[derive(Debug, Clone)]
pub struct Meter {
    at_us: u64,
    /// Of the hour that runs.
    hour: Figures,
    charge_nj: u128,
}

/// What an hour is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Wet-bulb temperature, in hundredths of a degree.
    pub wet_bulb_centi_c: i64,
    /// What cooling takes, in thousandths of the accelerators' energy.
    pub cooling_milli: u64,
    /// Price.
    pub microeur_per_kwh: u64,
    /// Carbon.
    pub carbon_mg_per_kwh: u64,
    /// Most that may be drawn from the grid.
    pub contracted_mw: Option<u64>,
}

impl Conditions {
    /// The conditions of an hour of the study. `first_day` is the day of the year on which it begins, from 0.
    pub fn of(plan: &SitePlan, hour: u64, first_day: u64) -> Self {
        let wet_bulb_centi_c = wet_bulb(&plan.cooling, hour, first_day);
        let grid = &plan.grid;
        let swung = |mean: u64, percent: u64| {
            // Dear and dirty together: in the evening, and in winter.
            let day = wave(hour + 24 - HOTTEST_HOUR - 4, 24);
            let year = -wave(first_day + hour / 24 + 365 - HOTTEST_DAY, 365);
            let swing = i128::from(mean) * i128::from(percent) * i128::from(day + year) / 200_000;
            u64::try_from(i128::from(mean) + swing).unwrap_or(0)
        };
        let now = |spans: &[(u64, u64, u64)]| {
            let of = |(from, until, percent): &(u64, u64, u64)| (*from <= hour && hour < *until).then_some(*percent);
            spans.iter().filter_map(of).min()
        };
        let price = swung(grid.price_microeur_per_kwh, grid.price_swing_percent);
        Self {
            wet_bulb_centi_c,
            cooling_milli: on_curve(&plan.cooling.curve, wet_bulb_centi_c),
            microeur_per_kwh: now(&grid.prices).map_or(price, |percent| price * percent / 100),
            carbon_mg_per_kwh: swung(grid.carbon_mg_per_kwh, grid.carbon_swing_percent),
            contracted_mw: grid.contracted_mw.map(|mw| {
                let raised =
                    grid.raises.iter().filter(|(from, _)| *from <= hour).map(|(_, more_mw)| more_mw).sum::<u64>();
                now(&grid.curtailments).map_or(mw + raised, |left| (mw + raised) * left / 100)
            }),
        }
    }
}

fn wet_bulb(cooling: &Cooling, hour: u64, first_day: u64) -> i64 {
    let year = wave(first_day + hour / 24 + 365 - HOTTEST_DAY, 365);
    let day = wave(hour + 24 - HOTTEST_HOUR, 24);
    cooling.mean_centi_c + (cooling.season_centi_c * year + cooling.day_centi_c * day) / 1_000
}

/// The value of a curve at a place; beyond its ends, that of the end.
fn on_curve(curve: &[(i64, u64)], at: i64) -> u64 {
    let mut before: Option<(i64, u64)> = None;
    for (place, value) in curve {
        if at <= *place {
            let Some((from, low)) = before else { return *value };
            let part =
                (i128::from(*value) - i128::from(low)) * i128::from(at - from) / i128::from((place - from).max(1));
            return u64::try_from(i128::from(low) + part).unwrap_or(0);
        }
        before = Some((*place, *value));
    }
    before.map_or(0, |(_, value)| value)
}

/// Losses on the way to what is taken, in the order from the accelerator to the grid.
fn lost(chain: &Chain, it_nj: u128) -> u128 {
    let supply = it_nj * u128::from(chain.supply_loss_ppm) / 1_000_000;
    supply + (it_nj + supply) * u128::from(chain.rectifier_loss_ppm) / 1_000_000
}

impl Meter {
    /// A meter at the beginning, with a full battery.
    pub fn new(battery: &Battery) -> Self {
        Self { at_us: 0, hour: Figures::default(), charge_nj: battery.capacity_nj }
    }

    /// Counts what flowed until now.
    #[inline]
    pub fn advance(&mut self, to_us: u64, flow: &Flow) {
        let for_us = u128::from(to_us - self.at_us);
        if for_us == 0 {
            return;
        }
        self.at_us = to_us;
        let hour = &mut self.hour;
        hour.time_us += for_us;
        hour.it_nj += u128::from(flow.it_mw) * for_us;
        hour.idle_nj += u128::from(flow.idle_mw) * for_us;
        for (sum, units) in hour.used_us.iter_mut().zip(flow.used) {
            *sum += u128::from(units) * for_us;
        }
        for (sum, units) in hour.there_us.iter_mut().zip(flow.there) {
            *sum += u128::from(units) * for_us;
        }
        if let Some(sum) = flow.blocked.and_then(|cause| hour.blocked_us.get_mut(cause as usize)) {
            *sum += for_us;
        }
    }

    /// Counts what flowed for so long.
    pub fn pass(&mut self, for_us: u64, flow: &Flow) {
        self.advance(self.at_us + for_us, flow);
    }

    /// Closes an hour and returns what it came to.
    pub fn close(&mut self, plan: &SitePlan, conditions: &Conditions) -> Figures {
        let mut hour = std::mem::take(&mut self.hour);
        hour.chain_nj = lost(&plan.chain, hour.it_nj);
        hour.cooling_nj = hour.it_nj * u128::from(conditions.cooling_milli) / 1_000;
        let taken = hour.facility_nj();
        hour.peak_mw = taken / u128::from(HOUR_US);
        let most = conditions.contracted_mw.map(|mw| u128::from(mw) * u128::from(HOUR_US));
        let flow_max = u128::from(plan.battery.power_mw) * u128::from(HOUR_US);
        match most {
            Some(most) if taken > most => {
                hour.bridged_nj = (taken - most).min(self.charge_nj).min(flow_max);
                self.charge_nj -= hour.bridged_nj;
                hour.over_nj = taken - most - hour.bridged_nj;
            }
            _ => {
                let spare = most.map_or(u128::MAX, |most| most - taken);
                let efficiency = u128::from(plan.battery.efficiency_percent.clamp(1, 100));
                let room = (plan.battery.capacity_nj.saturating_sub(self.charge_nj)) * 100 / efficiency;
                hour.stored_nj = room.min(spare).min(flow_max);
                self.charge_nj += hour.stored_nj * efficiency / 100;
            }
        }
        hour.grid_nj = taken - hour.bridged_nj + hour.stored_nj;
        hour.cost_microeur = hour.grid_nj * u128::from(conditions.microeur_per_kwh) / KWH_NJ;
        // Milligrams times nanojoules: a thousand micrograms each.
        hour.carbon_ug = hour.grid_nj * u128::from(conditions.carbon_mg_per_kwh) * 1_000 / KWH_NJ;
        if conditions.wet_bulb_centi_c >= plan.cooling.water_from_centi_c {
            hour.water_ul = hour.it_nj * u128::from(plan.cooling.water_ml_per_kwh) * 1_000 / KWH_NJ;
        }
        hour
    }

    /// What the accelerators may draw in the hour that begins, and what says so. `installed_mw` is what they could.
    pub fn ceiling(&self, plan: &SitePlan, conditions: &Conditions, installed_mw: u64) -> (u64, Blocked) {
        let hot = conditions.wet_bulb_centi_c > plan.cooling.limit_centi_c;
        let by_heat = if hot { installed_mw / 100 * plan.cooling.limit_percent } else { u64::MAX };
        let Some(contracted_mw) = conditions.contracted_mw else { return (by_heat, Blocked::Heat) };
        let bridge = (self.charge_nj / u128::from(HOUR_US)).min(u128::from(plan.battery.power_mw));
        let most = u128::from(contracted_mw) + bridge;
        // Millionths that a unit of the accelerators costs at the grid; rounded up, so that the ceiling holds.
        let part = 1_000_000 + lost(&plan.chain, 1_000_000) + 2 + u128::from(conditions.cooling_milli) * 1_000;
        let by_power = u64::try_from(most * 1_000_000 / part).unwrap_or(u64::MAX);
        if by_heat < by_power { (by_heat, Blocked::Heat) } else { (by_power, Blocked::Power) }
    }
}

impl Power {
    /// Nothing runs and nothing limits.
    pub fn new() -> Self {
        Self { it_mw: 0, ceiling_mw: u64::MAX, limit: Blocked::Power }
    }
}

impl Default for Power {
    fn default() -> Self {
        Self::new()
    }
}
