//! From the raw shape to a plan: names are known and unique, numbers in range, dates in order, halls possible.
//!
//! Each error points at the value at fault and says what would be allowed. Events are in `events`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use polder_core::ids::NodeId;
use polder_core::labels::Action;
use polder_core::request::Request;

use super::ground::Grounds;
use super::raw::{self, At};
use super::{Files, StudyError};
use crate::calendar::{DAY_US, Date, HOUR_US, SECOND_US};
use crate::engine::plan::{
    Accelerator, Battery, Chain, Change, Cooling, Demand, Drawn, Grid, HallPlan, HomePlan, Plan, SITES_MAX, Scheduler,
    SitePlan, Source as From, Use,
};
use crate::federation::Federation;
use crate::traces::{Format, Traced};

/// Longest study.
const DAYS_MAX: u64 = 20 * 366;
/// Most accelerators of a hall.
const ACCELERATORS_MAX: u64 = 1_000_000;
/// Highest growth of a demand.
const GROWTH_MAX: u32 = 10_000;

pub(super) struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

pub(super) type Checked<T> = Result<T, StudyError>;

impl Source<'_> {
    pub fn raw(&self) -> Checked<raw::Study> {
        toml::from_str(self.text).map_err(|e: toml::de::Error| {
            let span = e.span().unwrap_or(0..0);
            let field = self.field(span.start);
            let message = e.message().trim().replace("unknown field", "unknown key");
            let expected = if message.contains("u64") || message.contains("u32") || message.contains("usize") {
                "; allowed are whole numbers from 0"
            } else {
                ""
            };
            self.at(&span, &format!("{field}{message}{expected}"))
        })
    }

    /// The key that stands before a value on its line.
    fn field(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let key = line.trim_end().strip_suffix('=').map(str::trim_end).unwrap_or_default();
        let key = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
        if key.is_empty() { String::new() } else { format!("`{key}`: ") }
    }

    pub fn line(&self, span: &Range<usize>) -> usize {
        self.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
    }

    pub fn at(&self, span: &Range<usize>, message: &str) -> StudyError {
        StudyError::Line { file: self.file.to_owned(), line: self.line(span), message: message.to_owned() }
    }

    /// A number within its bounds.
    pub fn within<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        field: &str,
        value: &At<T>,
        low: T,
        high: T,
    ) -> Checked<T> {
        let number = *value.get_ref();
        if low <= number && number <= high {
            return Ok(number);
        }
        Err(self.at(&value.span(), &format!("`{field}` is {number}: allowed are {low} to {high}")))
    }

    /// One of a list.
    pub fn one_of<T: Copy>(&self, field: &str, value: &At<String>, list: &[(&str, T)]) -> Checked<T> {
        let found = list.iter().find(|(name, _)| name == value.get_ref()).map(|(_, one)| *one);
        found.ok_or_else(|| self.unknown(field, value, list.iter().map(|(name, _)| *name)))
    }

    pub fn unknown<'n>(&self, field: &str, value: &At<String>, known: impl Iterator<Item = &'n str>) -> StudyError {
        let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        self.at(&value.span(), &format!("`{field}` is `{}`: allowed are {known}", value.get_ref()))
    }

    pub fn date(&self, field: &str, value: &At<String>) -> Checked<Date> {
        Date::parse(value.get_ref()).ok_or_else(|| {
            let message = format!("`{field}` is `{}`: allowed are dates such as `2027-03-01`", value.get_ref());
            self.at(&value.span(), &message)
        })
    }

    pub fn plan(&self, raw: &raw::Study, federation: &Federation, files: &Files<'_>) -> Checked<Arc<Plan>> {
        let begin = self.date("begin", &raw.begin)?;
        let days = self.within("days", &raw.days, 1, DAYS_MAX)?;
        let status_every_us = self.within("status_every_s", &raw.status_every_s, 1, 3_600)? * SECOND_US;
        let kinds = self.kinds(raw)?;
        let mut sites = Vec::new();
        self.same_factories(raw, federation)?;
        for factory in raw.factories.get_ref() {
            sites.push(self.site(factory, federation, &kinds, begin)?);
        }
        sites.sort_by(|one, other| one.id.cmp(&other.id));
        let ms = |day: u64| day * DAY_US / 1_000;
        let grounds = Grounds::new(federation, (ms(begin.0), ms(begin.0 + days + 1))).map_err(StudyError::Ground)?;
        let mut homes = Vec::new();
        for tenant in &federation.tenants {
            let basis = Arc::new(grounds.basis(tenant).map_err(StudyError::Ground)?);
            let epochs = vec![(0, basis)];
            homes.push(HomePlan { id: tenant.home.clone(), cut: Vec::new(), epochs, weights: tenant.weights });
        }
        let mut demands = Vec::new();
        let mut names = BTreeSet::new();
        for demand in raw.demands.get_ref() {
            self.unique("id", &demand.id, &mut names)?;
            demands.push(self.demand(demand, federation, files)?);
        }
        if demands.is_empty() {
            return Err(self.at(&raw.demands.span(), "`demands` is empty: name at least one"));
        }
        let (name, seed) = (raw.name.clone(), raw.seed);
        let growth = super::growth::growth(self, raw, (&sites, &kinds), begin)?;
        let mut plan = Plan { name, begin, days, seed, status_every_us, sites, homes, demands, growth };
        let mut events = super::events::Events { source: self, federation, grounds: &grounds, files, plan: &mut plan };
        raw.events.iter().try_for_each(|event| events.add(event))?;
        plan.sites.iter_mut().for_each(|site| site.changes.sort_by_key(|(at_us, _)| *at_us));
        Ok(Arc::new(plan))
    }

    pub fn unique(&self, field: &str, value: &At<String>, seen: &mut BTreeSet<String>) -> Checked<()> {
        if seen.insert(value.get_ref().clone()) {
            return Ok(());
        }
        let message = format!("`{field}` is `{}`, a name that is taken: choose another", value.get_ref());
        Err(self.at(&value.span(), &message))
    }

    fn same_factories(&self, raw: &raw::Study, federation: &Federation) -> Checked<()> {
        let mut seen = BTreeSet::new();
        for factory in raw.factories.get_ref() {
            self.unique("id", &factory.id, &mut seen)?;
            if federation.factory(factory.id.get_ref()).is_none() {
                return Err(self.unknown("id", &factory.id, federation.factories.iter().map(|one| one.id.as_str())));
            }
        }
        if let Some(missing) = federation.factories.iter().find(|one| !seen.contains(one.id.as_str())) {
            let message = format!("`factories` leaves out `{}` of the federation: describe it too", missing.id);
            return Err(self.at(&raw.factories.span(), &message));
        }
        if seen.len() > SITES_MAX {
            return Err(self.at(&raw.factories.span(), &format!("`factories` has more than {SITES_MAX}")));
        }
        Ok(())
    }

    fn kinds(&self, raw: &raw::Study) -> Checked<BTreeMap<String, Accelerator>> {
        let (mut kinds, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for kind in raw.accelerators.get_ref() {
            self.unique("id", &kind.id, &mut seen)?;
            let active_w = self.within("active_w", &kind.active_w, kind.idle_w, 100_000)?;
            let capped_w = match &kind.capped_w {
                Some(capped) => self.within("capped_w", capped, kind.idle_w, active_w)?,
                None => active_w,
            };
            let accelerator = Accelerator {
                idle_mw: kind.idle_w * 1_000,
                active_mw: active_w * 1_000,
                capped_mw: capped_w * 1_000,
                capped_speed_percent: self.within("capped_speed_percent", &kind.capped_speed_percent, 1, 100)?,
                speed_percent: self.within("speed_percent", &kind.speed_percent, 1, 10_000)?,
                seats: self.within("seats", &kind.seats, 1, 1_000)?,
                prefill_tokens_per_s: self.within("prefill_tokens_per_s", &kind.prefill_tokens_per_s, 1, 10_000_000)?,
                decode_tokens_per_s: self.within("decode_tokens_per_s", &kind.decode_tokens_per_s, 1, 1_000_000)?,
            };
            kinds.insert(kind.id.get_ref().clone(), accelerator);
        }
        Ok(kinds)
    }

    fn site(
        &self,
        raw: &raw::Factory,
        federation: &Federation,
        kinds: &BTreeMap<String, Accelerator>,
        begin: Date,
    ) -> Checked<SitePlan> {
        let known = federation.factory(raw.id.get_ref());
        let known = known.ok_or_else(|| self.unknown("id", &raw.id, std::iter::empty()))?;
        let halls = self.halls(raw, kinds, begin)?;
        let later = halls.iter().enumerate().filter(|(_, hall)| hall.from_us > 0);
        let scheduler = [("fcfs", Scheduler::Fcfs), ("easy", Scheduler::Easy)];
        let failure = raw.failure_every_h.as_ref().map(|hours| self.within("failure_every_h", hours, 1, 100_000_000));
        Ok(SitePlan {
            id: NodeId::clone(&known.id),
            place: known.place.clone(),
            line: self.line(&raw.id.span()),
            chain: Chain {
                supply_loss_ppm: raw.supply_loss_percent_hundredths * 100,
                rectifier_loss_ppm: raw.rectifier_loss_percent_hundredths * 100,
            },
            cooling: self.cooling(raw)?,
            grid: self.grid(raw, &halls)?,
            battery: match &raw.battery {
                Some(battery) => Battery {
                    capacity_nj: u128::from(battery.kwh) * crate::engine::meter::KWH_NJ,
                    power_mw: battery.kw * 1_000_000,
                    efficiency_percent: self.within("efficiency_percent", &battery.efficiency_percent, 1, 100)?,
                },
                None => Battery::default(),
            },
            scheduler: self.one_of("scheduler", &raw.scheduler, &scheduler)?,
            queue_max: raw.queue_max,
            failure_every_us: failure.transpose()?.map(|hours| hours * HOUR_US),
            repair_us: raw.repair_h.min(100_000) * HOUR_US,
            price_microeur_per_hour: raw.price_cent_per_accelerator_h * 10_000,
            price_microeur_per_mtok: known.price_microeur_per_mtok,
            changes: later.map(|(place, hall)| (hall.from_us, Change::Arrives(place))).collect(),
            halls,
        })
    }

    fn halls(&self, raw: &raw::Factory, kinds: &BTreeMap<String, Accelerator>, begin: Date) -> Checked<Vec<HallPlan>> {
        let mut seen = BTreeSet::new();
        let mut halls = Vec::new();
        if raw.halls.get_ref().is_empty() {
            return Err(self.at(&raw.halls.span(), "`halls` is empty: name at least one"));
        }
        for hall in raw.halls.get_ref() {
            self.unique("id", &hall.id, &mut seen)?;
            let kind = kinds.get(hall.accelerator.get_ref());
            let kind =
                kind.ok_or_else(|| self.unknown("accelerator", &hall.accelerator, kinds.keys().map(String::as_str)))?;
            let racks = self.within("racks", &hall.racks, 1, 100_000)?;
            let per_rack = self.within("per_rack", &hall.per_rack, 1, 1_000)?;
            let accelerators = u64::from(racks) * u64::from(per_rack);
            if accelerators > ACCELERATORS_MAX {
                let message =
                    format!("`racks` times `per_rack` is {accelerators}: allowed are up to {ACCELERATORS_MAX}");
                return Err(self.at(&hall.racks.span(), &message));
            }
            let rack_w = u64::from(per_rack) * kind.active_mw / 1_000;
            if let Some(rack_kw) = hall.rack_kw.as_ref().filter(|kw| *kw.get_ref() * 1_000 < rack_w) {
                let message = format!(
                    "`rack_kw` is {}: a rack of {per_rack} draws {rack_w} W; allowed are {} or more, or fewer `per_rack`",
                    rack_kw.get_ref(),
                    rack_w.div_ceil(1_000)
                );
                return Err(self.at(&rack_kw.span(), &message));
            }
            let there = self.arrival(hall, raw, &mut Vec::new())?;
            halls.push(HallPlan {
                id: hall.id.get_ref().clone(),
                used_for: self.use_of(&hall.used_for)?,
                accelerators: u32::try_from(accelerators).unwrap_or(u32::MAX),
                from_us: there.map_or(0, |date| date.0.saturating_sub(begin.0) * DAY_US),
                cost_keur: hall.cost_keur,
                grid_mw: hall.grid_kw.min(100_000_000) * 1_000_000,
                kind: kind.clone(),
            });
        }
        Ok(halls)
    }

    pub fn use_of(&self, value: &At<String>) -> Checked<Use> {
        self.one_of("used_for", value, &[("batch", Use::Batch), ("inference", Use::Inference)])
    }

    /// When a hall is there; `None` where it always is. `above` holds the halls that wait for this one.
    fn arrival(&self, hall: &raw::Hall, factory: &raw::Factory, above: &mut Vec<String>) -> Checked<Option<Date>> {
        let lead_days = self.within("lead_days", &hall.lead_days, 0, 3_650)?;
        let ordered = hall.ordered.as_ref().map(|text| self.date("ordered", text)).transpose()?;
        let Some(after) = &hall.after else { return Ok(ordered.map(|date| Date(date.0 + lead_days))) };
        above.push(hall.id.get_ref().clone());
        if above.contains(after.get_ref()) {
            let round = above.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" waits for ");
            let message =
                format!("`after` makes a circle: {round} waits for `{}`; let one of them go first", after.get_ref());
            return Err(self.at(&after.span(), &message));
        }
        let halls = factory.halls.get_ref();
        let before = halls.iter().find(|one| one.id.get_ref() == after.get_ref());
        let before =
            before.ok_or_else(|| self.unknown("after", after, halls.iter().map(|one| one.id.get_ref().as_str())))?;
        let there = self.arrival(before, factory, above)?;
        match (ordered, there) {
            (Some(ordered), Some(there)) if ordered < there => {
                let message = format!(
                    "`ordered` is `{ordered}`, before `{}` is there on {there}: allowed are that day and later",
                    after.get_ref()
                );
                Err(self.at(&hall.ordered.as_ref().map_or(0..0, toml::Spanned::span), &message))
            }
            (ordered, there) => Ok(ordered.or(there).map(|date| Date(date.0 + lead_days))),
        }
    }

    fn cooling(&self, raw: &raw::Factory) -> Checked<Cooling> {
        let Some(cooling) = &raw.cooling else {
            return Ok(Cooling {
                curve: vec![(0, 0)],
                mean_centi_c: 1_000,
                season_centi_c: 0,
                day_centi_c: 0,
                limit_centi_c: i64::MAX,
                limit_percent: 100,
                water_ml_per_kwh: 0,
                water_from_centi_c: 0,
            });
        };
        let curve = cooling.curve.get_ref();
        let rises = curve.windows(2).all(|pair| matches!(pair, [(one, _), (other, _)] if one < other));
        let sane = |(at, percent): &(i64, u64)| (-60..=60).contains(at) && *percent <= 400;
        if curve.is_empty() || !rises || !curve.iter().all(sane) {
            let message = "`curve` must rise: pairs of wet-bulb degrees (-60 to 60) and per cent (0 to 400), such as [[0, 8], [20, 25]]";
            return Err(self.at(&cooling.curve.span(), message));
        }
        Ok(Cooling {
            curve: curve.iter().map(|(at, percent)| (at * 100, percent * 10)).collect(),
            mean_centi_c: cooling.mean_c * 100,
            season_centi_c: cooling.season_c * 100,
            day_centi_c: cooling.day_c * 100,
            limit_centi_c: cooling.limit_c.map_or(i64::MAX, |limit| limit * 100),
            limit_percent: cooling.limit_percent.min(100),
            water_ml_per_kwh: cooling.water_ml_per_kwh,
            water_from_centi_c: cooling.water_from_c * 100,
        })
    }

    fn grid(&self, raw: &raw::Factory, halls: &[HallPlan]) -> Checked<Grid> {
        let grid = &raw.grid;
        if let Some(contracted) = &grid.contracted_kw {
            let idle_kw: u64 =
                halls.iter().map(|hall| hall.kind.idle_mw * u64::from(hall.accelerators)).sum::<u64>() / 1_000_000;
            let raised_kw = halls.iter().map(|hall| hall.grid_mw / 1_000_000).sum();
            self.within("contracted_kw", contracted, idle_kw.saturating_sub(raised_kw) + 1, 100_000_000)?;
        }
        Ok(Grid {
            contracted_mw: grid.contracted_kw.as_ref().map(|kw| kw.get_ref() * 1_000_000),
            price_microeur_per_kwh: grid.price_eur_per_mwh * 1_000,
            price_swing_percent: self.within("price_swing_percent", &grid.price_swing_percent, 0, 100)?,
            carbon_mg_per_kwh: grid.carbon_g_per_kwh * 1_000,
            carbon_swing_percent: self.within("carbon_swing_percent", &grid.carbon_swing_percent, 0, 100)?,
            raises: halls
                .iter()
                .filter(|hall| hall.grid_mw > 0)
                .map(|hall| (hall.from_us / HOUR_US, hall.grid_mw))
                .collect(),
            curtailments: Vec::new(),
            prices: Vec::new(),
        })
    }

    fn demand(&self, raw: &raw::Demand, federation: &Federation, files: &Files<'_>) -> Checked<Demand> {
        let place = federation.tenants.iter().position(|one| one.id.as_str() == raw.tenant.get_ref());
        let tenant = place.and_then(|place| Some((place, federation.tenants.get(place)?)));
        let (home, tenant) = tenant
            .ok_or_else(|| self.unknown("tenant", &raw.tenant, federation.tenants.iter().map(|one| one.id.as_str())))?;
        let project = tenant.project(raw.project.get_ref());
        let project = project
            .ok_or_else(|| self.unknown("project", &raw.project, tenant.projects.iter().map(|one| one.id.as_str())))?;
        let used_for = self.use_of(&raw.used_for)?;
        let (action, model) = match used_for {
            Use::Batch => (Action::RunJob, None),
            Use::Inference => (Action::Infer, Some(project.model.clone())),
        };
        let (tenant, labels) = (tenant.id.clone(), project.labels.clone());
        let source = match (&raw.trace, &raw.per_hour) {
            (Some(trace), None) => From::Traced(self.trace(trace, used_for, files)?),
            (None, Some(per_hour)) => From::Drawn(self.drawn(raw, per_hour, used_for)?),
            _ => {
                let message = "a demand has either `per_hour` or `trace`: name one of the two";
                return Err(self.at(&raw.id.span(), message));
            }
        };
        Ok(Demand {
            id: raw.id.get_ref().clone(),
            line: self.line(&raw.id.span()),
            home,
            request: Request { action, tenant, project: project.id.clone(), model, labels },
            used_for,
            source,
            patience_us: raw.patience_min.min(1_000_000) * 60 * SECOND_US,
        })
    }

    fn trace(&self, raw: &raw::Trace, used_for: Use, files: &Files<'_>) -> Checked<Traced> {
        let format = self.one_of("format", &raw.format, &Format::ALL)?;
        if format.has_sessions() != (used_for == Use::Inference) {
            let message = format!("`format` is `{}`, which does not go with `used_for`", raw.format.get_ref());
            return Err(self.at(&raw.format.span(), &message));
        }
        let path = files.folder.join(raw.file.get_ref());
        let traced = Traced { format, path, processors_per_accelerator: raw.processors_per_accelerator };
        let opened = traced.open();
        opened.map_err(|e| self.at(&raw.file.span(), &format!("{e}; correct `file`, or fetch the trace")))?;
        Ok(traced)
    }

    fn drawn(&self, raw: &raw::Demand, per_hour: &At<u64>, used_for: Use) -> Checked<Drawn> {
        let sizes = raw.sizes.as_ref().map_or_else(|| vec![(1, 1)], |sizes| sizes.get_ref().clone());
        if sizes.iter().any(|(units, weight)| *units == 0 || *weight == 0) || sizes.is_empty() {
            let span = raw.sizes.as_ref().map_or(0..0, toml::Spanned::span);
            return Err(self
                .at(&span, "`sizes` holds pairs of accelerators and weight, each from 1, such as [[8, 3], [64, 1]]"));
        }
        let given = |field: &str, value: &Option<At<u64>>, high: u64, needed: bool| match value {
            Some(value) => self.within(field, value, 1, high),
            None if needed => Err(self.at(&raw.id.span(), &format!("`{field}` is missing: allowed are 1 to {high}"))),
            None => Ok(1),
        };
        let run_min = given("run_min", &raw.run_min, 1_000_000, used_for == Use::Batch)?;
        let run_min_max = match &raw.run_min_max {
            Some(most) => self.within("run_min_max", most, run_min, 10_000_000)?,
            None => run_min * 20,
        };
        Ok(Drawn {
            per_hour_milli: self.within("per_hour", per_hour, 0, 100_000_000)? * 1_000,
            growth_percent_per_year: self.within(
                "growth_percent_per_year",
                &raw.growth_percent_per_year,
                0,
                GROWTH_MAX,
            )?,
            day_percent: self.within("day_percent", &raw.day_percent, 0, 100)?,
            sizes,
            run_us: run_min * 60 * SECOND_US,
            run_us_max: run_min_max * 60 * SECOND_US,
            limit_percent: raw.limit_percent.clamp(100, 10_000),
            prompt_tokens: given("prompt_tokens", &raw.prompt_tokens, 10_000_000, used_for == Use::Inference)?,
            generated_tokens: given("generated_tokens", &raw.generated_tokens, 10_000_000, used_for == Use::Inference)?,
        })
    }
}
