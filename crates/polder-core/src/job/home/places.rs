//! From waiting to offered: who is next, where it may run, and what becomes of an offer.
//!
//! Where it may run is `decide`'s word alone. What is known of room, price and fitness only keeps factories out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Home, Outlook, Site};
use crate::ids::{NodeId, TenantId};
use crate::job::message::{DeclineWhy, Message};
use crate::job::queue::{Queue, Waiting, Why};
use crate::job::receipt::cost_microeur;
use crate::job::row::v1::State;
use crate::job::spec::Resources;
use crate::job::{Epoch, JobId, Nonce, Now, Order};
use crate::placement::{CIRCUIT_OPEN, NO_CAPACITY, Outcome};
use crate::policy::{Cause, LayerKind};

/// The rule of a factory that has not what a job needs, however empty it is.
pub const JOB_UNFIT: &str = "job-unfit";
/// The rule of a factory whose price is above what a job may cost.
pub const JOB_TOO_DEAR: &str = "job-too-dear";

type Excluded = BTreeMap<NodeId, Vec<Cause>>;

impl Home {
    /// Tries to place every waiting job, in the order of the queue.
    pub(super) fn pass(&mut self, now: Now, outlook: &mut dyn Outlook) {
        self.pass_at = None;
        self.refresh(now);
        let orders: Vec<(JobId, Arc<Order>)> = self.ready();
        if orders.is_empty() {
            return;
        }
        let holders: Vec<(Arc<Order>, Resources)> = self.holders();
        let mut in_use: BTreeMap<&TenantId, Resources> = BTreeMap::new();
        for (order, amounts) in &holders {
            let used = in_use.entry(&order.request.tenant).or_default();
            *used = used.and(amounts);
        }
        let whole = self.sites.values().filter_map(|site| site.sheet.as_ref());
        let whole = whole.fold(Resources::default(), |sum, sheet| sum.and(&sheet.whole));
        let waiting = orders.iter().filter_map(|(id, order)| self.waiting(*id, order));
        let mut queue = Queue::new(waiting, in_use, whole, now.mono_ms, &self.settings.queue);
        let mut kept: BTreeMap<NodeId, JobId> = BTreeMap::new();
        let mut left = false;
        while let Some((next, starving)) = queue.pop() {
            match self.place(now, next.job, &kept, outlook) {
                None => queue.took(next.tenant, &next.needs),
                Some(why) => {
                    left = true;
                    // Room comes free for whoever has waited too long, and for nobody behind them.
                    if starving && why == Why::NoRoom {
                        kept.extend(self.keep_for(next.job, &kept, outlook).map(|factory| (factory, next.job)));
                    }
                    if let Some(job) = self.jobs.get_mut(&next.job) {
                        job.live.why = why;
                    }
                }
            }
        }
        if left {
            self.pass_at = Some(now.mono_ms.saturating_add(self.settings.retry_ms.max(1)));
        }
    }

    /// Jobs that wait for nothing but a place.
    fn ready(&self) -> Vec<(JobId, Arc<Order>)> {
        let waits = self.jobs.iter().filter(|(_, job)| job.row.state == State::Waiting);
        let free = waits.filter(|(_, job)| job.row.after.is_empty() || self.unmet(&job.row).is_empty());
        free.map(|(id, job)| (*id, Arc::clone(&job.row.order))).collect()
    }

    /// What is offered or leased.
    fn holders(&self) -> Vec<(Arc<Order>, Resources)> {
        let holds = |state: &State| matches!(state, State::Offered { .. } | State::Leased | State::Stopping { .. });
        let all = self.jobs.values().filter(|job| holds(&job.row.state));
        all.map(|job| (Arc::clone(&job.row.order), job.row.order.spec.resources.amounts())).collect()
    }

    fn waiting<'a>(&self, id: JobId, order: &'a Order) -> Option<Waiting<'a>> {
        let job = self.jobs.get(&id)?;
        Some(Waiting {
            job: id,
            tenant: &order.request.tenant,
            priority: order.spec.priority,
            needs: order.spec.resources.amounts(),
            since_ms: job.live.waits_ms,
            serial: job.row.serial,
            wall_ms: order.spec.wall_s.saturating_mul(1_000),
        })
    }

    /// News of a full factory ages: then only what this home itself has there counts.
    fn refresh(&mut self, now: Now) {
        let old = |site: &Site| now.mono_ms.saturating_sub(site.news_ms) >= self.settings.news_ms;
        let aged: Vec<NodeId> = self.sites.iter().filter(|(_, site)| old(site)).map(|(id, _)| id.clone()).collect();
        for id in aged {
            let own = self.jobs.values().filter(|job| match &job.row.state {
                State::Offered { factory, .. } => *factory == id,
                State::Leased | State::Stopping { .. } => {
                    job.row.leased.as_ref().is_some_and(|lease| lease.factory == id)
                }
                _ => false,
            });
            let own = own.fold(Resources::default(), |sum, job| sum.and(&job.row.order.spec.resources.amounts()));
            if let Some(site) = self.sites.get_mut(&id) {
                let whole = site.sheet.as_ref().map(|sheet| sheet.whole).unwrap_or_default();
                (site.free, site.news_ms) = (whole.less(&own).unwrap_or_default(), now.mono_ms);
            }
        }
    }

    /// Offers a job to the factory that is chosen for it, or says why there is none.
    fn place(&mut self, now: Now, id: JobId, kept: &BTreeMap<NodeId, JobId>, outlook: &mut dyn Outlook) -> Option<Why> {
        let order = Arc::clone(&self.jobs.get(&id)?.row.order);
        let mut excluded = self.excluded(now, id, &order, kept);
        for _ in 0..=self.sites.len() {
            let choice = outlook.decide(&order.request, &excluded);
            let Some(factory) = choice.factory else {
                return Some(self.why_not(id, &order, choice.outcome, kept, outlook));
            };
            let pass = self.sites.get_mut(&factory).filter(|site| site.sheet.is_some());
            match pass.map(|site| site.breaker.enter(now.mono_ms, &self.settings.breaker)) {
                Some(Ok(pass)) => {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.live.pass = Some(pass);
                    }
                    self.offer(now, id, &factory, &order);
                    return None;
                }
                Some(Err(_)) => drop(excluded.insert(factory, vec![shunned()])),
                None => drop(excluded.insert(factory, vec![unfit("its terms for jobs are not known")])),
            }
        }
        Some(Why::NoRoom)
    }

    /// Who cannot take a job now, and why. It keeps factories out and lets none in.
    fn excluded(&self, now: Now, id: JobId, order: &Order, kept: &BTreeMap<NodeId, JobId>) -> Excluded {
        let amounts = order.spec.resources.amounts();
        let shuns = self.jobs.get(&id).map(|job| &job.live.shunned);
        let mut excluded = Excluded::new();
        for (factory, site) in &self.sites {
            let mut causes = Vec::new();
            match site.fit(order) {
                Fit::Fits => {}
                Fit::Unfit => causes.push(unfit("the factory has not what the job needs")),
                Fit::Dear => causes.push(Cause::built_in(
                    LayerKind::Availability,
                    JOB_TOO_DEAR,
                    "its price times the wall time is above what the job may cost",
                )),
            }
            let others = kept.get(factory).is_some_and(|other| *other != id);
            if !site.free.holds(&amounts) || others {
                causes.push(Cause::built_in(LayerKind::Availability, NO_CAPACITY, "there is no room for the job"));
            }
            if shuns.and_then(|shuns| shuns.get(factory)).is_some_and(|until| *until > now.mono_ms) {
                causes.push(shunned());
            }
            if !causes.is_empty() {
                excluded.insert(factory.clone(), causes);
            }
        }
        excluded
    }

    /// Why factories cannot take a job now, besides what the policies say; a factory that could is not named.
    pub fn hindrances(&self, now: Now, id: JobId) -> BTreeMap<NodeId, Vec<Cause>> {
        let order = self.jobs.get(&id).map(|job| Arc::clone(&job.row.order));
        order.map_or_else(Excluded::new, |order| self.excluded(now, id, &order, &BTreeMap::new()))
    }

    /// What keeps a job from being placed, the most lasting reason first.
    fn why_not(
        &mut self,
        id: JobId,
        order: &Order,
        outcome: Outcome,
        kept: &BTreeMap<NodeId, JobId>,
        outlook: &mut dyn Outlook,
    ) -> Why {
        if outcome == Outcome::Refused && outlook.decide(&order.request, &Excluded::new()).factory.is_none() {
            return Why::Refused;
        }
        let fits: Vec<(&NodeId, Fit)> = self.sites.iter().map(|(factory, site)| (factory, site.fit(order))).collect();
        let permitted = |fit: Fit, outlook: &mut dyn Outlook| {
            let found = fits.iter().find(|(factory, one)| *one == fit && outlook.permits(&order.request, factory));
            found.map(|(factory, _)| (*factory).clone())
        };
        match permitted(Fit::Fits, outlook) {
            Some(factory) => match kept.get(&factory) {
                Some(other) if *other != id => Why::Kept(*other),
                _ => Why::NoRoom,
            },
            None if permitted(Fit::Dear, outlook).is_some() => Why::Price,
            None => Why::Unfit,
        }
    }

    /// A factory whose room is kept for a job that has waited too long.
    fn keep_for(&self, id: JobId, kept: &BTreeMap<NodeId, JobId>, outlook: &mut dyn Outlook) -> Option<NodeId> {
        let order = &self.jobs.get(&id)?.row.order;
        let fits =
            self.sites.iter().filter(|(factory, site)| site.fit(order) == Fit::Fits && !kept.contains_key(*factory));
        let mut permitted = fits.filter(|(factory, _)| outlook.permits(&order.request, factory));
        permitted.next().map(|(factory, _)| factory.clone())
    }

    /// Writes down the next epoch and offers it.
    fn offer(&mut self, now: Now, id: JobId, factory: &NodeId, order: &Arc<Order>) {
        let amounts = order.spec.resources.amounts();
        let Some(site) = self.sites.get_mut(factory) else { return };
        site.free = site.free.less(&amounts).unwrap_or_default();
        let price = site.sheet.as_ref().map_or(0, |sheet| sheet.price_microeur_per_hour(&amounts));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.row.epoch = job.row.epoch.saturating_add(1);
        self.put(now, id, State::Offered { factory: factory.clone(), price_microeur_per_hour: price });
        self.send_offer(id);
        self.wake(id, now.mono_ms.saturating_add(self.settings.resend_ms));
    }

    fn send_offer(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let State::Offered { factory, price_microeur_per_hour } = job.row.state.clone() else { return };
        let offer = Message::Offer {
            job: id,
            epoch: job.row.epoch,
            order: Arc::clone(&job.row.order),
            price_microeur_per_hour,
            resume: job.row.checkpoint,
        };
        self.send(&factory, offer);
    }

    /// An offer is unanswered: it is sent again, or given up.
    pub(super) fn offer_due(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let State::Offered { factory, .. } = job.row.state.clone() else { return };
        if now.mono_ms < job.live.since_ms.saturating_add(self.settings.offer_ms) {
            self.send_offer(id);
            self.wake(id, now.mono_ms.saturating_add(self.settings.resend_ms));
            return;
        }
        self.failed(now, id, &factory);
        self.unoffer(now, id, &factory);
        self.put(now, id, State::Waiting);
    }

    /// Takes an offer back that may still be on its way.
    pub(super) fn unoffer(&mut self, now: Now, id: JobId, factory: &NodeId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.live.shunned.insert(factory.clone(), now.mono_ms.saturating_add(self.settings.shun_ms));
        let (epoch, amounts) = (job.row.epoch, job.row.order.spec.resources.amounts());
        if let Some(site) = self.sites.get_mut(factory) {
            let whole = site.sheet.as_ref().map(|sheet| sheet.whole).unwrap_or_default();
            let back = site.free.and(&amounts);
            site.free = if whole.holds(&back) { back } else { site.free };
        }
        self.send(factory, Message::Withdraw { job: id, epoch });
    }

    /// A factory did not do what it was there for.
    pub(super) fn failed(&mut self, now: Now, id: JobId, factory: &NodeId) {
        let pass = self.jobs.get_mut(&id).and_then(|job| job.live.pass.take());
        let Some(site) = self.sites.get_mut(factory) else { return };
        match pass {
            Some(pass) => site.breaker.failed(pass, now.mono_ms, &self.settings.breaker),
            None => site.breaker.broke(now.mono_ms, &self.settings.breaker),
        }
    }

    /// A factory says no.
    pub(super) fn declined(
        &mut self,
        now: Now,
        from: &NodeId,
        (id, epoch, nonce): (JobId, Epoch, Option<Nonce>),
        why: DeclineWhy,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.row.epoch == epoch) else { return };
        match &job.row.state {
            State::Offered { factory, .. } if factory == from => {
                let undecided = job.live.pass.take();
                // Room comes back soon; terms, prices and sizes do not.
                let soon = matches!(why, DeclineWhy::NoRoom | DeclineWhy::Busy | DeclineWhy::Forgotten);
                let shun_ms = if soon { self.settings.shun_ms / 8 } else { self.settings.shun_ms };
                job.live.shunned.insert(from.clone(), now.mono_ms.saturating_add(shun_ms));
                if let Some((site, pass)) = self.sites.get_mut(from).zip(undecided) {
                    site.breaker.undecided(pass, now.mono_ms);
                }
                self.put(now, id, State::Waiting);
            }
            // The factory has forgotten the request that the last grant answered, so it can never start by it.
            State::Leased | State::Stopping { .. }
                if nonce.is_some()
                    && nonce == job.live.nonce
                    && job.row.leased.as_ref().is_some_and(|lease| lease.factory == *from && lease.epoch == epoch) =>
            {
                self.ended_unstarted(now, id);
            }
            _ => {}
        }
    }
}

/// Whether a factory could ever run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Fits,
    Unfit,
    Dear,
}

impl Site {
    fn fit(&self, order: &Order) -> Fit {
        let amounts = order.spec.resources.amounts();
        let Some(sheet) = &self.sheet else { return Fit::Unfit };
        if !sheet.whole.holds(&amounts) || !order.spec.resources.met_by(&sheet.abilities) {
            return Fit::Unfit;
        }
        let wall_ms = order.spec.wall_s.saturating_mul(1_000);
        let dear = cost_microeur(wall_ms, sheet.price_microeur_per_hour(&amounts)) > order.spec.cost_microeur_max;
        if dear { Fit::Dear } else { Fit::Fits }
    }
}

fn shunned() -> Cause {
    Cause::built_in(LayerKind::Availability, CIRCUIT_OPEN, "the factory failed or declined of late")
}

fn unfit(reason: &str) -> Cause {
    Cause::built_in(LayerKind::Availability, JOB_UNFIT, reason)
}
