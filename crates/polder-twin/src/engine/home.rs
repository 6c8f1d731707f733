//! A tenant's node in virtual time: it decides with the product's own memo and snapshot, by what it last knew.
//!
//! Nothing here says where something may run: rows come from `polder_core`'s policies, the choice from its snapshot. What is
//! made here is only what a node makes of the statuses that it receives. Absent: capabilities, tickets and receipts.

use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::placement::{
    ACTION_NOT_OFFERED, Basis, Factory, Inputs, Memo, NO_CAPACITY, Row, Snapshot, UNREACHABLE, weigh_carbon,
};
use polder_core::policy::{Cause, LayerKind};
use polder_core::request::Request;

use super::plan::{HomePlan, SitePlan, Use};
use super::site::Status;

/// Where something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// To the factory of that number.
    At(usize),
    /// The policies let it nowhere.
    Refused,
    /// It may run somewhere, and nowhere is room now.
    NoRoom,
}

/// A home.
#[derive(Debug)]
pub struct Home {
    plan: Arc<HomePlan>,
    epoch: usize,
    memo: Memo,
    /// One for each use, until statuses change.
    snapshots: [Option<Snapshot>; 2],
    causes: Causes,
}

#[derive(Debug, Clone)]
struct Causes {
    full: Cause,
    gone: Cause,
    not_offered: Cause,
}

/// What is known of all factories now.
pub struct Known<'a> {
    /// The factories.
    pub sites: &'a [Arc<SitePlan>],
    /// What each said last.
    pub statuses: &'a [Status],
    /// The uses that each ever serves.
    pub serves: &'a [[bool; 2]],
    /// Now, in microseconds of the study.
    pub at_us: u64,
    /// Now, in Unix milliseconds.
    pub at_ms: u64,
}

impl Home {
    /// A home at the beginning.
    pub fn new(plan: &Arc<HomePlan>) -> Self {
        let cause = |rule, reason: &str| Cause::built_in(LayerKind::Availability, rule, reason);
        let causes = Causes {
            full: cause(NO_CAPACITY, "the factory has no place free"),
            gone: cause(UNREACHABLE, "the factory does not answer"),
            not_offered: cause(ACTION_NOT_OFFERED, "the factory has no hall for it"),
        };
        Self { plan: Arc::clone(plan), epoch: 0, memo: Memo::default(), snapshots: [None, None], causes }
    }

    /// The same home from here on. Its memo begins empty: it holds nothing that cannot be made again.
    pub fn fork(&self) -> Self {
        Self { epoch: self.epoch, snapshots: self.snapshots.clone(), ..Self::new(&self.plan) }
    }

    /// New statuses have come: what was known is out of date.
    pub fn forget(&mut self) {
        self.snapshots = [None, None];
    }

    /// What it decides by now.
    pub fn basis(&self) -> Option<&Arc<Basis>> {
        self.plan.epochs.get(self.epoch).map(|(_, basis)| basis)
    }

    /// Decides. The first question after [`Self::forget`] makes the snapshot.
    #[inline]
    pub fn place(&mut self, request: &Request, used_for: Use, known: &Known<'_>) -> Placed {
        let slot = used_for as usize;
        if self.snapshots.get(slot).is_none_or(Option::is_none) {
            let snapshot = self.snapshot(used_for, known);
            if let Some(place) = self.snapshots.get_mut(slot) {
                *place = snapshot;
            }
        }
        let Some(Some(snapshot)) = self.snapshots.get(slot) else { return Placed::Refused };
        if self.memo.row(snapshot, request).is_none() {
            let row = match self.memo.stale(request) {
                Some(stale) => stale.renew(&snapshot.basis),
                None => Row::new(&snapshot.basis, request),
            };
            self.memo.keep(Arc::new(row));
        }
        match self.memo.choose(snapshot, request) {
            Some(choice) => match choice.factory {
                Some(place) => Placed::At(place),
                None if choice.admitted.count() == 0 => Placed::Refused,
                None => Placed::NoRoom,
            },
            // What cannot be known is refused.
            None => Placed::Refused,
        }
    }

    fn snapshot(&mut self, used_for: Use, known: &Known<'_>) -> Option<Snapshot> {
        while self.plan.epochs.get(self.epoch + 1).is_some_and(|(from_us, _)| *from_us <= known.at_us) {
            self.epoch += 1;
        }
        let (_, basis) = self.plan.epochs.get(self.epoch)?;
        let mut factories = Vec::with_capacity(known.sites.len());
        let plan = &self.plan;
        let cut = |place: usize| {
            let now = |(from, until, cut): &(u64, u64, usize)| *cut == place && (*from..*until).contains(&known.at_us);
            plan.cut.iter().any(now)
        };
        let places = known.sites.iter().zip(known.statuses).zip(known.serves).enumerate();
        for (place, ((site, status), serves)) in places {
            let is = |list: &[bool; 2]| list.get(used_for as usize).copied().unwrap_or(false);
            let cause = match (status.there && !cut(place), is(serves), is(&status.open)) {
                (false, ..) => Some(&self.causes.gone),
                (_, false, _) => Some(&self.causes.not_offered),
                (.., false) => Some(&self.causes.full),
                _ => None,
            };
            let inputs = Inputs {
                price_microeur_per_mtok: site.price_microeur_per_mtok,
                load_ppm: status.load_ppm,
                queue_ppm: status.queue_ppm,
                ..Inputs::default()
            };
            factories.push(Factory { unavailable: cause.cloned().into_iter().collect(), inputs });
        }
        if self.plan.weights.carbon > 0 {
            weigh_carbon(&basis.grounds, &mut factories);
        }
        // The root stands in statements, and none is made here.
        Some(Snapshot::new(known.at_ms, Arc::clone(basis), Digest::default(), self.plan.weights, factories))
    }
}
