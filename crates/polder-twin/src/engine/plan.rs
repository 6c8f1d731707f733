//! What the engine runs: a study after every check, with the policies read and the facts believed.
//!
//! Units stand last in names; power is in milliwatts and time in microseconds, so that energy is in nanojoules without rounding.
//! Reading files is absent: `study` makes a plan of a text.

use std::sync::Arc;

use polder_core::facts::Vendor;
use polder_core::ids::NodeId;
use polder_core::placement::{Basis, Weights};
use polder_core::request::Request;

use crate::calendar::Date;
use crate::traces::Traced;

/// Most factories of a study.
pub const SITES_MAX: usize = 1_000;

/// A study, ready to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The study's name for people.
    pub name: String,
    /// The first day.
    pub begin: Date,
    /// How many days it runs.
    pub days: u64,
    /// What all chance comes from.
    pub seed: u64,
    /// How often homes learn how full factories are, in microseconds. Within such a while every home decides by what it knows.
    pub status_every_us: u64,
    /// The factories, in name order.
    pub sites: Vec<SitePlan>,
    /// Who decides.
    pub homes: Vec<HomePlan>,
    /// What is asked for.
    pub demands: Vec<Demand>,
    /// What may be built, where plans are searched for.
    pub growth: Option<Growth>,
}

/// What plans of growth must reach, and what they may be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// In the last month so much more work must be done than in the first, in per cent: 1,000 is tenfold.
    pub times_percent: u64,
    /// And this part of what is asked for then, in per cent.
    pub served_percent: u64,
    /// Most that all halls may cost, in thousands of euro.
    pub budget_keur: u64,
    /// Most that may be contracted from the grids, all together.
    pub power_mw_max: u64,
    /// Most that may stand on one vendor's chips, in per cent of all accelerators at the end.
    pub vendor_share_percent_max: u64,
    /// Most that may stand in one country.
    pub country_share_percent_max: u64,
    /// What may be built.
    pub options: Vec<GrowthOption>,
}

/// A hall that may be built, some times over, at one factory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrowthOption {
    /// Its name in the study.
    pub id: String,
    /// The factory's number.
    pub site: usize,
    /// One such hall; it is there from `lead_us` after it is ordered.
    pub hall: HallPlan,
    /// Who makes its chips.
    pub vendor: Vendor,
    /// How long it takes from order to work.
    pub lead_us: u64,
    /// The first day on which it can be ordered, in microseconds of the study.
    pub from_us: u64,
    /// Most of them.
    pub most: u8,
}

/// A tenant's node.
#[derive(Debug, Clone)]
pub struct HomePlan {
    /// Its name.
    pub id: NodeId,
    /// From, until, and the number of a factory that it does not reach then.
    pub cut: Vec<(u64, u64, usize)>,
    /// What it decides by, each from an instant on, the first from 0; grounds stand in the order of the sites.
    pub epochs: Vec<(u64, Arc<Basis>)>,
    /// What its owner prefers.
    pub weights: Weights,
}

/// What a hall is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Jobs, which take whole accelerators.
    Batch,
    /// Sessions, which share them.
    Inference,
}

/// One factory.
#[derive(Debug, Clone)]
pub struct SitePlan {
    /// Its name.
    pub id: NodeId,
    /// Where it stands, for people.
    pub place: String,
    /// Where the study describes it, from 1.
    pub line: usize,
    /// Its halls.
    pub halls: Vec<HallPlan>,
    /// From the grid to the accelerator.
    pub chain: Chain,
    /// What keeps it cool.
    pub cooling: Cooling,
    /// What feeds it.
    pub grid: Grid,
    /// What bridges gaps of the grid.
    pub battery: Battery,
    /// How it orders what waits.
    pub scheduler: Scheduler,
    /// Most jobs that wait in it, for each use.
    pub queue_max: usize,
    /// Mean time between failures of one accelerator; `None` where none fails.
    pub failure_every_us: Option<u64>,
    /// How long a repair takes.
    pub repair_us: u64,
    /// What an accelerator costs its users, in micro-euro an hour.
    pub price_microeur_per_hour: u64,
    /// What homes weigh as its price, in micro-euro a million tokens.
    pub price_microeur_per_mtok: u64,
    /// What is planned, in order of time.
    pub changes: Vec<(u64, Change)>,
}

/// A hall of one kind of accelerators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HallPlan {
    /// Its name in the study.
    pub id: String,
    /// What it is for.
    pub used_for: Use,
    /// How many accelerators it has once it is there.
    pub accelerators: u32,
    /// When it is there.
    pub from_us: u64,
    /// What it costs to build, in thousands of euro.
    pub cost_keur: u64,
    /// How much more may be drawn once it is there.
    pub grid_mw: u64,
    /// What stands in it.
    pub kind: Accelerator,
}

/// A kind of accelerators, with its share of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerator {
    /// Power when nothing runs.
    pub idle_mw: u64,
    /// Power when something runs.
    pub active_mw: u64,
    /// Power under a cap; the same as active where it has none.
    pub capped_mw: u64,
    /// Speed under the cap, in per cent of its own.
    pub capped_speed_percent: u64,
    /// Speed of jobs, in per cent of what demands are stated for.
    pub speed_percent: u64,
    /// Sessions at once.
    pub seats: u32,
    /// Prompt tokens a second, of one session.
    pub prefill_tokens_per_s: u64,
    /// Generated tokens a second, of one session.
    pub decode_tokens_per_s: u64,
}

/// Losses between the grid and the accelerator, in millionths of what comes out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chain {
    /// Of power supplies.
    pub supply_loss_ppm: u64,
    /// Of rectifiers before them.
    pub rectifier_loss_ppm: u64,
}

/// Cooling, and the weather.
#[derive(Debug, Clone)]
pub struct Cooling {
    /// Wet-bulb temperature in hundredths of a degree, and what cooling then takes in thousandths of the accelerators' energy;
    /// rising, straight in between.
    pub curve: Vec<(i64, u64)>,
    /// Mean wet-bulb temperature, in hundredths of a degree.
    pub mean_centi_c: i64,
    /// Half of the difference between summer and winter.
    pub season_centi_c: i64,
    /// Half of the difference between day and night.
    pub day_centi_c: i64,
    /// Above this, accelerators may use only `limit_percent` of their power.
    pub limit_centi_c: i64,
    /// See `limit_centi_c`.
    pub limit_percent: u64,
    /// Water for a kilowatt-hour of the accelerators, in millilitres.
    pub water_ml_per_kwh: u64,
    /// Water is used above this.
    pub water_from_centi_c: i64,
}

/// The grid.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Most that may be drawn; `None` where nothing limits it.
    pub contracted_mw: Option<u64>,
    /// Mean price.
    pub price_microeur_per_kwh: u64,
    /// How far the price swings over a day and a year, in per cent.
    pub price_swing_percent: u64,
    /// Mean carbon.
    pub carbon_mg_per_kwh: u64,
    /// How far carbon swings, in per cent.
    pub carbon_swing_percent: u64,
    /// From which hour on how much more is contracted.
    pub raises: Vec<(u64, u64)>,
    /// From, until, and what is left of the contracted power, in per cent; whole hours.
    pub curtailments: Vec<(u64, u64, u64)>,
    /// From, until, and the price in per cent of the usual one; whole hours.
    pub prices: Vec<(u64, u64, u64)>,
}

/// A battery.
#[derive(Debug, Clone, Copy, Default)]
pub struct Battery {
    /// What it holds, in nanojoules.
    pub capacity_nj: u128,
    /// What it takes and gives at most.
    pub power_mw: u64,
    /// What comes out of what goes in, in per cent.
    pub efficiency_percent: u64,
}

/// How a factory orders what waits. EASY is Lifka's (1995): the first has a reservation, others may pass it as long as they do
/// not delay it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// First come, first served.
    Fcfs,
    /// The same with backfill.
    Easy,
}

/// Something planned at a factory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A hall of that number is there.
    Arrives(usize),
    /// So many accelerators of a hall take nothing new.
    Down(usize, u32),
    /// They are back.
    Up(usize, u32),
    /// The factory is gone with all that runs.
    Lost,
    /// It is back, empty.
    Back,
}

/// A stream of work.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Its name.
    pub id: String,
    /// Where the study describes it, from 1.
    pub line: usize,
    /// Who decides about it.
    pub home: usize,
    /// What is decided about.
    pub request: Request,
    /// Batch or inference.
    pub used_for: Use,
    /// Where it comes from.
    pub source: Source,
    /// How long a home holds what finds no room, before it is refused.
    pub patience_us: u64,
}

/// Where work comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Drawn, with exponential gaps.
    Drawn(Drawn),
    /// Read.
    Traced(Traced),
}

/// Drawn work.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// How many an hour in the beginning, in thousandths.
    pub per_hour_milli: u64,
    /// Growth, compound.
    pub growth_percent_per_year: u32,
    /// How far the rate swings over a day, in per cent.
    pub day_percent: u64,
    /// Accelerators of a job, each with its weight.
    pub sizes: Vec<(u32, u32)>,
    /// Mean of a job's running time, exponential.
    pub run_us: u64,
    /// Most of a job's running time.
    pub run_us_max: u64,
    /// What a job says that it will take, in per cent of what it takes.
    pub limit_percent: u64,
    /// Mean tokens of a prompt, exponential.
    pub prompt_tokens: u64,
    /// Mean tokens of an answer, exponential.
    pub generated_tokens: u64,
}

/// Something to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// When it is asked for.
    pub at_us: u64,
    /// The demand's number.
    pub demand: u16,
    /// How many times it was begun and lost.
    pub begun: u16,
    /// Accelerators, or seats for a session.
    pub units: u32,
    /// Running time of a job at the stated speed.
    pub run_us: u64,
    /// What its owner says that it will take, at least as much.
    pub limit_us: u64,
    /// Tokens of a session's prompt.
    pub prompt: u32,
    /// Tokens of its answer.
    pub generated: u32,
}

impl Plan {
    /// When it ends.
    pub fn end_us(&self) -> u64 {
        self.days * crate::calendar::DAY_US
    }
}
