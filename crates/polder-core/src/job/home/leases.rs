//! From offered to leased, and to the end of a lease: granted, renewed, ended, taken back.
//!
//! A grant answers one request of the factory and lasts from the moment of that request, by the factory's clock. This side
//! counts from the grant, by its own, and a margin longer. So the two never need to agree what time it is.

use super::{Home, Outlook};
use crate::canonical::Digest;
use crate::ids::NodeId;
use crate::job::message::{Message, StopWhy};
use crate::job::row::v1::{End, Lease, State};
use crate::job::spec::OnUncertain;
use crate::job::{Epoch, JobId, Nonce, Now};

impl Home {
    /// A factory has kept room and asks for the lease.
    pub(super) fn want(
        &mut self,
        now: Now,
        from: &NodeId,
        (id, epoch, nonce): (JobId, Epoch, Nonce),
        outlook: &mut dyn Outlook,
    ) {
        let current = self.jobs.get(&id).filter(|job| job.row.epoch == epoch).map(|job| job.row.state.clone());
        match current {
            Some(State::Offered { factory, price_microeur_per_hour }) if factory == *from => {
                // The policy may have changed since the offer.
                if !self.permitted(id, from, outlook) {
                    self.send(from, Message::Void { job: id, epoch, nonce });
                    self.unoffer(now, id, from);
                    self.put(now, id, State::Waiting);
                    return;
                }
                let lease_ms = self.settings.lease_ms;
                self.put(now, id, State::Leased);
                if let Some(job) = self.jobs.get_mut(&id) {
                    let factory = from.clone();
                    job.row.leases.insert(epoch, factory.clone());
                    job.row.leased = Some(Lease { epoch, factory, lease_ms, price_microeur_per_hour });
                    (job.live.granted_ms, job.live.used_ms) = (Some(now.mono_ms), Some(now.mono_ms));
                }
                self.grant(now, from, (id, epoch, nonce));
            }
            // Asked once more before the first grant arrived.
            Some(State::Leased | State::Stopping { .. }) if self.leases(id, from, epoch) => {
                self.renew(now, from, (id, epoch, nonce), None, outlook);
            }
            _ => self.send(from, Message::Void { job: id, epoch, nonce }),
        }
    }

    /// A factory asks for the lease again.
    pub(super) fn renew(
        &mut self,
        now: Now,
        from: &NodeId,
        (id, epoch, nonce): (JobId, Epoch, Nonce),
        checkpoint: Option<Digest>,
        outlook: &mut dyn Outlook,
    ) {
        let current = self.jobs.get(&id).filter(|job| job.row.epoch == epoch).map(|job| job.row.state.clone());
        match current {
            Some(State::Leased) if self.leases(id, from, epoch) => {
                // A run that was receipted has ended, whatever its factory says now.
                if self.jobs.get(&id).is_some_and(|job| job.row.receipts.contains_key(&epoch)) {
                    self.send(from, Message::Void { job: id, epoch, nonce });
                    return;
                }
                if !self.permitted(id, from, outlook) || self.overstays(now, id) {
                    self.stop_run(now, id, false);
                    return;
                }
                if let Some(job) = self.jobs.get_mut(&id)
                    && checkpoint.is_some()
                    && job.row.checkpoint != checkpoint
                {
                    job.row.checkpoint = checkpoint;
                    self.dirty.insert(id);
                }
                self.grant(now, from, (id, epoch, nonce));
            }
            Some(State::Stopping { cancelled }) if self.leases(id, from, epoch) => {
                let why = if cancelled { StopWhy::Cancelled } else { StopWhy::Policy };
                self.send(from, Message::Stop { job: id, epoch, why });
            }
            _ => self.send(from, Message::Void { job: id, epoch, nonce }),
        }
    }

    /// Whether the job's newest lease is this factory's, in this epoch.
    fn leases(&self, id: JobId, factory: &NodeId, epoch: Epoch) -> bool {
        let lease = self.jobs.get(&id).and_then(|job| job.row.leased.as_ref());
        lease.is_some_and(|lease| lease.factory == *factory && lease.epoch == epoch)
    }

    /// Whether a run goes on for longer than it may, by all that this process has seen of it.
    fn overstays(&mut self, now: Now, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let used_ms = now.mono_ms.saturating_sub(*job.live.used_ms.get_or_insert(now.mono_ms));
        let wall_ms = job.row.order.spec.wall_s.saturating_mul(1_000);
        used_ms > self.settings.until_certain_ms(wall_ms.saturating_add(self.settings.lease_ms))
    }

    fn permitted(&self, id: JobId, factory: &NodeId, outlook: &mut dyn Outlook) -> bool {
        self.jobs.get(&id).is_some_and(|job| outlook.permits(&job.row.order.request, factory))
    }

    /// Grants from the moment of the request. The row names the lease already, and a process that starts anew waits all of
    /// it, so that a renewal writes nothing.
    fn grant(&mut self, now: Now, to: &NodeId, (id, epoch, nonce): (JobId, Epoch, Nonce)) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let lease_ms = job.row.leased.as_ref().map_or(0, |lease| lease.lease_ms);
        let until_ms = now.mono_ms.saturating_add(self.settings.until_certain_ms(lease_ms));
        job.live.until_ms = job.live.until_ms.max(until_ms);
        job.live.nonce = Some(nonce);
        let until_ms = job.live.until_ms;
        self.send(to, Message::Grant { job: id, epoch, nonce, lease_ms });
        self.wake(id, until_ms);
    }

    /// A lease may have ended without a word.
    pub(super) fn lease_due(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if now.mono_ms < job.live.until_ms {
            let until_ms = job.live.until_ms;
            self.wake(id, until_ms);
            return;
        }
        job.row.lapses = job.row.lapses.saturating_add(1);
        let factory = job.row.leased.as_ref().map(|lease| lease.factory.clone());
        if let Some(factory) = factory {
            self.failed(now, id, &factory);
            self.room_back(id, &factory);
        }
        self.uncertain(now, id);
    }

    /// A run has ended, or its lease has, and nobody knows how far it came.
    pub(super) fn uncertain(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        match job.row.order.spec.on_uncertain {
            OnUncertain::Rerun => self.again(now, id),
            OnUncertain::HoldForHuman => self.put(now, id, State::Held),
        }
    }

    /// The job waits for its next run.
    pub(super) fn again(&mut self, now: Now, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.live.waits_ms = now.mono_ms;
        }
        self.put(now, id, State::Waiting);
    }

    /// Asks for the end of a run. Renewals are refused from now on, so that it ends even if nobody hears.
    pub(super) fn stop_run(&mut self, now: Now, id: JobId, cancelled: bool) {
        self.put(now, id, State::Stopping { cancelled });
        self.stop_due(now, id);
    }

    /// Asks again for the end of a run, until it is told or its lease has ended.
    pub(super) fn stop_due(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (State::Stopping { cancelled }, Some(lease)) = (job.row.state.clone(), job.row.leased.clone()) else {
            return;
        };
        if now.mono_ms < job.live.until_ms {
            let next_ms = now.mono_ms.saturating_add(self.settings.resend_ms.max(1)).min(job.live.until_ms);
            let why = if cancelled { StopWhy::Cancelled } else { StopWhy::Policy };
            self.send(&lease.factory, Message::Stop { job: id, epoch: lease.epoch, why });
            self.wake(id, next_ms);
            return;
        }
        self.room_back(id, &lease.factory);
        if cancelled {
            self.over(now, id, End::Cancelled);
        } else {
            self.uncertain(now, id);
        }
    }

    /// The newest lease was never used and cannot be any more.
    pub(super) fn ended_unstarted(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.row.state == (State::Stopping { cancelled: true }) {
            self.over(now, id, End::Cancelled);
        } else {
            self.again(now, id);
        }
    }

    fn room_back(&mut self, id: JobId, factory: &NodeId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let amounts = job.row.order.spec.resources.amounts();
        let Some(site) = self.sites.get_mut(factory) else { return };
        let back = site.free.and(&amounts);
        if site.sheet.as_ref().is_some_and(|sheet| sheet.whole.holds(&back)) {
            site.free = back;
        }
    }

    /// Something that is permitted may be so no longer, or something else may be.
    pub(super) fn reconsider(&mut self, now: Now, outlook: &mut dyn Outlook) {
        let leased = |state: &State| matches!(state, State::Leased | State::Offered { .. });
        let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| leased(&job.row.state)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(job) = self.jobs.get(&id) else { continue };
            let (offered, factory) = match (&job.row.state, &job.row.leased) {
                (State::Offered { factory, .. }, _) => (true, factory.clone()),
                (_, Some(lease)) => (false, lease.factory.clone()),
                (_, None) => continue,
            };
            if self.permitted(id, &factory, outlook) {
                continue;
            }
            if offered {
                self.unoffer(now, id, &factory);
                self.put(now, id, State::Waiting);
            } else {
                self.stop_run(now, id, false);
            }
        }
        self.pass_at = Some(now.mono_ms);
    }
}
