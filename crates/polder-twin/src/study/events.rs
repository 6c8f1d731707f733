//! What happens in a study: maintenance, losses, curtailments, prices and policies, each at the factories that it names.
//!
//! A country, a vendor or a factory is looked up among the facts of the federation, as policies would. Chance failures are
//! the factories' own, in `check`.

use std::sync::Arc;

use polder_core::facts::Claim;
use polder_core::labels::Closed as _;
use polder_core::placement::Basis;
use polder_core::policy::LayerKind;

use super::Files;
use super::check::{Checked, Source};
use super::ground::Grounds;
use super::raw::{self, At};
use crate::calendar::DAY_US;
use crate::engine::plan::{Change, Plan};
use crate::federation::{Factory, Federation, PolicyText};

pub(super) struct Events<'a, 'f> {
    pub source: &'a Source<'a>,
    pub federation: &'f Federation,
    pub grounds: &'a Grounds<'f>,
    pub files: &'a Files<'a>,
    pub plan: &'a mut Plan,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Maintenance,
    Loss,
    Curtailment,
    Price,
    Policy,
}

const KINDS: [(&str, Kind); 5] = [
    ("maintenance", Kind::Maintenance),
    ("loss", Kind::Loss),
    ("curtailment", Kind::Curtailment),
    ("price", Kind::Price),
    ("policy", Kind::Policy),
];

impl Events<'_, '_> {
    pub fn add(&mut self, event: &At<raw::Event>) -> Checked<()> {
        let (raw, span) = (event.get_ref(), event.span());
        let kind = self.source.one_of("kind", &raw.kind, &KINDS)?;
        let from_us = self.instant("from", &raw.from)?;
        let until_us = match &raw.until {
            Some(until) => {
                let until_us = self.instant("until", until)?;
                if until_us <= from_us {
                    let message = format!(
                        "`until` is `{}`, not after `from`: allowed are dates after `{}`",
                        until.get_ref(),
                        raw.from.get_ref()
                    );
                    return Err(self.source.at(&until.span(), &message));
                }
                until_us
            }
            None => self.plan.end_us(),
        };
        if kind == Kind::Policy {
            return self.policy(raw, from_us, &span);
        }
        let percent = |most: u64| match &raw.percent {
            Some(percent) => self.source.within("percent", percent, 0, most),
            None => Err(self.source.at(&span, &format!("`percent` is missing: allowed are 0 to {most}"))),
        };
        let percent = match kind {
            Kind::Curtailment => percent(100)?,
            Kind::Price => percent(10_000)?,
            _ => 0,
        };
        let (from_h, until_h) = (from_us / crate::calendar::HOUR_US, until_us / crate::calendar::HOUR_US);
        for place in self.places(raw, &span)? {
            let hall = if kind == Kind::Maintenance { Some(self.hall(raw, place, &span)?) } else { None };
            let Some(site) = self.plan.sites.get_mut(place) else { continue };
            match (kind, hall) {
                (Kind::Maintenance, Some((hall, accelerators))) => site
                    .changes
                    .extend([(from_us, Change::Down(hall, accelerators)), (until_us, Change::Up(hall, accelerators))]),
                (Kind::Loss, _) => site.changes.extend([(from_us, Change::Lost), (until_us, Change::Back)]),
                (Kind::Curtailment, _) => site.grid.curtailments.push((from_h, until_h, percent)),
                (Kind::Price, _) => site.grid.prices.push((from_h, until_h, percent)),
                _ => {}
            }
        }
        Ok(())
    }

    fn instant(&self, field: &str, value: &At<String>) -> Checked<u64> {
        let date = self.source.date(field, value)?;
        let (begin, end) = (self.plan.begin, crate::calendar::Date(self.plan.begin.0 + self.plan.days));
        if date < begin || date > end {
            let message = format!("`{field}` is `{date}`, outside the study: allowed are {begin} to {end}");
            return Err(self.source.at(&value.span(), &message));
        }
        Ok((date.0 - begin.0) * DAY_US)
    }

    /// The factories that an event speaks of, by number.
    fn places(&self, raw: &raw::Event, span: &std::ops::Range<usize>) -> Checked<Vec<usize>> {
        let said = |factory: &Factory, is: &dyn Fn(&Claim) -> bool| factory.facts.iter().any(|fact| is(&fact.claim));
        let (field, named): (&str, &At<String>) = match (&raw.factory, &raw.country, &raw.vendor) {
            (Some(name), None, None) => ("factory", name),
            (None, Some(name), None) => ("country", name),
            (None, None, Some(name)) => ("vendor", name),
            _ => {
                let message = "an event names exactly one of `factory`, `country` and `vendor`";
                return Err(self.source.at(span, message));
            }
        };
        let name = named.get_ref().as_str();
        let meant = |factory: &&Factory| match field {
            "factory" => factory.id.as_str() == name,
            "country" => {
                said(factory, &|claim| matches!(claim, Claim::Site { country, .. } if country.as_str() == name))
            }
            _ => said(factory, &|claim| matches!(claim, Claim::Chip { vendor, .. } if vendor.as_str() == name)),
        };
        let meant: Vec<&Factory> = self.federation.factories.iter().filter(meant).collect();
        let places = self.plan.sites.iter().enumerate();
        let places: Vec<usize> =
            places.filter(|(_, site)| meant.iter().any(|one| one.id == site.id)).map(|(place, _)| place).collect();
        if places.is_empty() {
            let known: std::collections::BTreeSet<String> =
                self.federation.factories.iter().flat_map(|factory| names(field, factory)).collect();
            return Err(self.source.unknown(field, named, known.iter().map(String::as_str)));
        }
        Ok(places)
    }

    /// The hall that is maintained, and how many of its accelerators.
    fn hall(&self, raw: &raw::Event, place: usize, span: &std::ops::Range<usize>) -> Checked<(usize, u32)> {
        let missing = |field: &str| self.source.at(span, &format!("`{field}` is missing: maintenance names it"));
        let named = raw.hall.as_ref().ok_or_else(|| missing("hall"))?;
        let halls = self.plan.sites.get(place).map(|site| site.halls.as_slice()).unwrap_or_default();
        let number = halls.iter().position(|hall| hall.id == *named.get_ref());
        let number =
            number.ok_or_else(|| self.source.unknown("hall", named, halls.iter().map(|hall| hall.id.as_str())))?;
        let there = halls.get(number).map_or(0, |hall| hall.accelerators);
        let accelerators = match &raw.accelerators {
            Some(accelerators) => self.source.within("accelerators", accelerators, 1, there)?,
            None => there,
        };
        Ok((number, accelerators))
    }

    /// A tenant's policy, or a factory's terms, have another text from a day on.
    fn policy(&mut self, raw: &raw::Event, from_us: u64, span: &std::ops::Range<usize>) -> Checked<()> {
        let source = self.source;
        let named = raw.policy.as_ref().ok_or_else(|| source.at(span, "`policy` is missing: name a file"))?;
        let path = named.get_ref();
        let text = (self.files.read)(path).ok_or_else(|| {
            source.at(&named.span(), &format!("`policy` names `{path}`, which is not there: correct the path"))
        })?;
        let policy = PolicyText { path: path.clone(), text };
        let wrong = |e: String| source.at(&named.span(), &e);
        let owner_of = match (&raw.tenant, &raw.factory) {
            (Some(tenant), None) => Some(tenant),
            (None, Some(_)) => None,
            _ => return Err(source.at(span, "a policy belongs to exactly one: name `tenant` or `factory`")),
        };
        let kind = if owner_of.is_some() { LayerKind::Owner } else { LayerKind::Terms };
        let layer = self.grounds.layer(kind, &policy).map_err(wrong)?;
        let place = match owner_of {
            Some(tenant) => {
                let known = self.federation.tenants.iter();
                let home = known.clone().position(|one| one.id.as_str() == tenant.get_ref());
                Some(home.ok_or_else(|| source.unknown("tenant", tenant, known.map(|one| one.id.as_str())))?)
            }
            None => None,
        };
        let site = if owner_of.is_none() { self.places(raw, span)?.first().copied() } else { None };
        for (number, home) in self.plan.homes.iter_mut().enumerate() {
            if place.is_some_and(|place| place != number) {
                continue;
            }
            let Some((last_us, last)) = home.epochs.last() else { continue };
            if *last_us > from_us {
                let message = "policies must stand in order of time: put this event before the later one";
                return Err(source.at(span, message));
            }
            let mut next = Basis::clone(last);
            match site.and_then(|site| next.grounds.get_mut(site)) {
                Some(ground) => ground.terms = Arc::clone(&layer),
                None => next.owner = Arc::clone(&layer),
            }
            home.epochs.push((from_us, Arc::new(next)));
        }
        Ok(())
    }
}

/// What a factory is called in a field of an event.
fn names(field: &str, factory: &Factory) -> Vec<String> {
    let of = |claim: &Claim| match (field, claim) {
        ("country", Claim::Site { country, .. }) => Some(country.as_str().to_owned()),
        ("vendor", Claim::Chip { vendor, .. }) => Some(vendor.as_str().to_owned()),
        _ => None,
    };
    if field == "factory" {
        return vec![factory.id.to_string()];
    }
    factory.facts.iter().filter_map(|fact| of(&fact.claim)).collect()
}
