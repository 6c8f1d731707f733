//! What a seed makes of a schedule: who takes part, what is to be run, and everything that goes wrong.
//!
//! Kinds of trouble are drawn for each schedule on its own, so that quiet schedules exist beside brutal ones: a fault that
//! hides behind another is seen where the other is absent.

use super::dice::Dice;
use super::realm::{FACTORIES, KIND_COUNT, VERSION_COUNT};

/// Until when things go wrong, in microseconds of true time.
pub const TROUBLE_US: u64 = 60_000_000;
/// By when everything must have come to its end.
pub const END_US: u64 = 360_000_000;

/// One schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Whether nothing goes wrong at all.
    pub calm: bool,
    /// How many homes there are.
    pub homes: usize,
    /// How many factories there are.
    pub factories: usize,
    /// The place of the factory that lies, if one does.
    pub liar: Option<usize>,
    /// Real signatures, and every message and record as bytes.
    pub real: bool,
    pub loss_ppm: u64,
    pub twice_ppm: u64,
    /// Copies that arrive many seconds later.
    pub late_ppm: u64,
    pub delay_us: (u64, u64),
    /// A crash before an effect.
    pub crash_ppm: u64,
    /// How long a write takes at most.
    pub write_us_max: u64,
    pub drift_ppm_max: u64,
    pub offset_ms_max: u64,
    /// Each with the sites from which, the sites to which nothing arrives, and when.
    pub cuts: Vec<Cut>,
    pub crashes: Vec<Crash>,
    /// Site, from, until.
    pub full_disks: Vec<(usize, u64, u64)>,
    /// When a home's policy becomes which version.
    pub policies: Vec<(u64, usize, usize)>,
    /// When a factory's terms become which version.
    pub terms: Vec<(u64, usize, usize)>,
    pub evictions: Vec<(u64, usize)>,
    pub submissions: Vec<Planned>,
    /// What each project of each home has, in micro-euro.
    pub purse_microeur: u64,
    /// Each site's version.
    pub speaks: Vec<u8>,
}

/// A partition, one-way.
#[derive(Debug, Clone)]
pub struct Cut {
    pub from_sites: u64,
    pub to_sites: u64,
    pub from_us: u64,
    pub until_us: u64,
}

/// A crash that is planned for an instant.
#[derive(Debug, Clone)]
pub struct Crash {
    pub site: usize,
    pub at_us: u64,
    pub down_us: u64,
    /// Whether the machine goes, or its daemon alone.
    pub machine: bool,
}

/// Jobs that are submitted together.
#[derive(Debug, Clone)]
pub struct Planned {
    pub at_us: u64,
    pub home: usize,
    pub kind: usize,
    pub jobs: Vec<PlannedJob>,
    /// How often a client that hears nothing asks again.
    pub tries: u32,
}

/// One job.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    pub work_ms: u64,
    pub wall_s: u64,
    pub cores: u32,
    pub accelerators: u32,
    pub priority: u8,
    pub retries: u8,
    /// How many of its runs fail by themselves.
    pub failures: u32,
    pub hold: bool,
    /// Places before it in its submission.
    pub after: Vec<usize>,
    pub cancel_at_us: Option<u64>,
}

impl Plan {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x9e37_79b9_7f4a_7c15);
        let (homes, factories) = (1 + dice.place(2), 5 + dice.place(2));
        let sites = homes + factories;
        let quick = dice.percent(30);
        let least = dice.within(20, 3_000);
        let most = if quick { least + dice.within(0, 2_000) } else { dice.within(least, 2_000_000) };
        let pick =
            |dice: &mut Dice, chance: u64, most: u64| if dice.percent(chance) { dice.within(0, most) } else { 0 };
        let mut plan = Self {
            seed,
            calm: false,
            homes,
            factories,
            liar: dice.percent(35).then(|| dice.place(factories)),
            real: dice.percent(1),
            loss_ppm: pick(&mut dice, 60, 300_000),
            twice_ppm: pick(&mut dice, 60, 200_000),
            late_ppm: pick(&mut dice, 60, 30_000),
            delay_us: (least, most),
            crash_ppm: pick(&mut dice, 50, 8_000),
            write_us_max: pick(&mut dice, 50, 60_000),
            drift_ppm_max: pick(&mut dice, 70, 1_000),
            offset_ms_max: pick(&mut dice, 70, 3_600_000),
            cuts: Vec::new(),
            crashes: Vec::new(),
            full_disks: Vec::new(),
            policies: Vec::new(),
            terms: Vec::new(),
            evictions: Vec::new(),
            submissions: Vec::new(),
            purse_microeur: if dice.percent(80) { 1_000_000_000 } else { dice.within(100_000, 900_000) },
            speaks: (0..sites).map(|_| if dice.percent(30) { 1 } else { 2 }).collect(),
        };
        plan.trouble(&mut dice, sites);
        plan.work(&mut dice);
        if dice.percent(4) {
            plan.soothe();
        }
        plan
    }

    /// Takes everything that goes wrong away.
    fn soothe(&mut self) {
        (self.calm, self.liar) = (true, None);
        (self.loss_ppm, self.twice_ppm, self.late_ppm, self.crash_ppm) = (0, 0, 0, 0);
        self.delay_us = (self.delay_us.0, self.delay_us.1.min(100_000).max(self.delay_us.0));
        self.purse_microeur = 1_000_000_000;
        (self.cuts, self.crashes, self.full_disks) = (Vec::new(), Vec::new(), Vec::new());
        (self.policies, self.terms, self.evictions) = (Vec::new(), Vec::new(), Vec::new());
    }

    fn trouble(&mut self, dice: &mut Dice, sites: usize) {
        let all = (1_u64 << sites) - 1;
        let moment = |dice: &mut Dice| dice.within(0, TROUBLE_US);
        for _ in 0..dice.place(5) {
            let from_us = moment(dice);
            let until_us = (from_us + dice.within(100_000, 20_000_000)).min(TROUBLE_US);
            let side = dice.any() & all;
            self.cuts.push(Cut { from_sites: side, to_sites: all & !side, from_us, until_us });
            if dice.percent(60) {
                self.cuts.push(Cut { from_sites: all & !side, to_sites: side, from_us, until_us });
            }
        }
        let often = dice.percent(50);
        for site in 0..sites {
            for _ in 0..dice.place(if often { 4 } else { 2 }) {
                let down_us = if dice.percent(70) { dice.within(1_000, 2_000_000) } else { dice.within(0, 15_000_000) };
                self.crashes.push(Crash { site, at_us: moment(dice), down_us, machine: dice.percent(50) });
            }
            if dice.percent(8) {
                let from = moment(dice);
                self.full_disks.push((site, from, (from + dice.within(100_000, 8_000_000)).min(TROUBLE_US)));
            }
        }
        for home in 0..self.homes {
            for _ in 0..dice.place(3) {
                self.policies.push((moment(dice), home, dice.place(VERSION_COUNT)));
            }
        }
        for factory in 0..self.factories {
            if dice.percent(25) {
                self.terms.push((moment(dice), factory, dice.place(VERSION_COUNT)));
                self.terms.push((TROUBLE_US, factory, 0));
            }
            if dice.percent(15) {
                self.evictions.push((moment(dice), factory));
            }
        }
    }

    fn work(&mut self, dice: &mut Dice) {
        let (mut left, heavy) = (20 + dice.place(8), dice.percent(30));
        while left > 0 {
            let count = (1 + dice.place(3)).min(left);
            left -= count;
            let jobs = (0..count).map(|place| planned(dice, place, heavy)).collect();
            self.submissions.push(Planned {
                at_us: dice.within(0, 40_000_000),
                home: dice.place(self.homes),
                kind: dice.place(KIND_COUNT),
                jobs,
                tries: if dice.percent(60) { 60 } else { 1 },
            });
        }
        self.submissions.sort_by_key(|one| one.at_us);
    }

    /// The name of a factory.
    pub fn factory_name(place: usize) -> &'static str {
        FACTORIES.get(place).map_or("nowhere", |(name, _)| name)
    }
}

fn planned(dice: &mut Dice, place: usize, heavy: bool) -> PlannedJob {
    let work_ms = if dice.percent(85) { dice.within(50, 4_000) } else { dice.within(4_000, 12_000) };
    let tight = dice.percent(10);
    PlannedJob {
        work_ms,
        wall_s: if tight { 1 + work_ms / 2_000 } else { 2 + work_ms / 1_000 + dice.within(0, 10) },
        cores: if heavy {
            u32::try_from(dice.within(2, 8)).unwrap_or(2)
        } else {
            u32::try_from(dice.within(1, 4)).unwrap_or(1)
        },
        accelerators: if dice.percent(30) { 1 } else { 0 },
        priority: u8::try_from(dice.within(0, 100)).unwrap_or(0),
        retries: u8::try_from(dice.within(0, 2)).unwrap_or(0),
        failures: if dice.percent(20) { u32::try_from(dice.within(1, 3)).unwrap_or(1) } else { 0 },
        hold: dice.percent(25),
        after: if place > 0 && dice.percent(40) { vec![dice.place(place)] } else { Vec::new() },
        cancel_at_us: dice.percent(12).then(|| dice.within(0, TROUBLE_US)),
    }
}
