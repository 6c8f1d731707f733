//! What becomes of a receipt: it is settled, or it is a dispute that a person sees. None is lost in silence.
//!
//! Only the newest lease is settled. A receipt that comes late, after its lease has ended here, still is, as long as no newer
//! lease was granted: the factory did the work in its time. Each epoch has one receipt, and the same receipt gets the same
//! answer however often it comes.

use super::{Home, Outlook};
use crate::ids::NodeId;
use crate::job::message::Message;
use crate::job::receipt::{Agreed, Fault, JobReceipt, RunOutcome, Verdict};
use crate::job::row::v1::{End, Receipted, State};
use crate::job::{JobId, Now};
use crate::keys::Signed;

impl Home {
    /// A receipt arrives.
    pub(super) fn receive(
        &mut self,
        now: Now,
        from: &NodeId,
        receipt: Box<Signed<JobReceipt>>,
        outlook: &mut dyn Outlook,
    ) {
        let said = &receipt.value;
        // A receipt that its factory did not sign is nobody's, and is not answered.
        if said.factory != *from || said.home != self.me || !outlook.is_signed(&receipt) {
            return;
        }
        let (id, epoch) = (said.job, said.epoch);
        let Some(job) = self.jobs.get(&id) else {
            self.send(from, Message::Receipted { job: id, epoch, verdict: Verdict::Unknown });
            return;
        };
        // An epoch is one factory's; another that speaks of it is answered and not kept.
        let theirs = job.row.leases.get(&epoch) == Some(from);
        let verdict = match job.row.receipts.get(&epoch).filter(|_| theirs) {
            Some(known) => {
                let verdict = known.verdict;
                self.send(from, Message::Receipted { job: id, epoch, verdict });
                return;
            }
            None => self.weigh(now, id, from, &receipt.value),
        };
        if verdict == Verdict::Disputed(Fault::NoLease) {
            self.send(from, Message::Receipted { job: id, epoch, verdict });
            return;
        }
        self.keep(now, id, receipt, verdict);
        self.send(from, Message::Receipted { job: id, epoch, verdict });
    }

    /// Whether a receipt counts.
    fn weigh(&self, now: Now, id: JobId, from: &NodeId, said: &JobReceipt) -> Verdict {
        let Some(job) = self.jobs.get(&id) else { return Verdict::Unknown };
        let theirs = job.row.leases.get(&said.epoch) == Some(from);
        let Some(lease) = job.row.leased.as_ref().filter(|_| theirs) else { return Verdict::Disputed(Fault::NoLease) };
        if matches!(job.row.state, State::Over(_)) {
            return Verdict::Disputed(Fault::JobOver);
        }
        if said.epoch < lease.epoch {
            return Verdict::Disputed(Fault::Superseded);
        }
        let elapsed = |granted: u64| {
            let seen_ms = now.mono_ms.saturating_sub(granted);
            self.settings.until_certain_ms(seen_ms)
        };
        let agreed = Agreed {
            order: job.row.digest,
            lease_ms: lease.lease_ms,
            price_microeur_per_hour: lease.price_microeur_per_hour,
            wall_ms: job.row.order.spec.wall_s.saturating_mul(1_000),
            elapsed_ms_max: job.live.granted_ms.map(elapsed),
        };
        said.fault(&agreed).map_or(Verdict::Settled, Verdict::Disputed)
    }

    /// Keeps a receipt and does what follows from it.
    fn keep(&mut self, now: Now, id: JobId, receipt: Box<Signed<JobReceipt>>, verdict: Verdict) {
        let said = receipt.value.clone();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if verdict == Verdict::Settled && said.checkpoint.is_some() {
            job.row.checkpoint = said.checkpoint;
        }
        job.row.receipts.insert(said.epoch, Receipted { receipt, verdict, resolved_microeur: None });
        self.dirty.insert(id);
        match verdict {
            Verdict::Settled => self.ended(now, id, &said),
            // The run has ended, by its factory's own word, and the word is not believed.
            Verdict::Disputed(fault) if !matches!(fault, Fault::Superseded | Fault::JobOver) => {
                self.failed(now, id, &said.factory);
            }
            Verdict::Disputed(_) | Verdict::Unknown => {}
        }
    }

    /// A run has ended, and its receipt is believed.
    fn ended(&mut self, now: Now, id: JobId, said: &JobReceipt) {
        self.pay(id, said);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let stopping = job.row.state == State::Stopping { cancelled: true };
        let offered_since = match &job.row.state {
            State::Offered { factory, .. } => Some(factory.clone()),
            _ => None,
        };
        let pass = job.live.pass.take_if(|_| offered_since.is_none());
        if let Some(site) = self.sites.get_mut(&said.factory) {
            match said.outcome {
                RunOutcome::NotStarted | RunOutcome::Interrupted => match pass {
                    Some(pass) => site.breaker.failed(pass, now.mono_ms, &self.settings.breaker),
                    None => site.breaker.broke(now.mono_ms, &self.settings.breaker),
                },
                _ => {
                    pass.into_iter().for_each(|pass| site.breaker.answered(pass));
                    site.breaker.completed();
                }
            }
        }
        if let Some(factory) = offered_since {
            self.unoffer(now, id, &factory);
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match said.outcome {
            RunOutcome::Succeeded => self.over(now, id, End::Succeeded(said.epoch)),
            _ if stopping => self.over(now, id, End::Cancelled),
            RunOutcome::Failed(_) | RunOutcome::TimedOut => {
                job.row.failures = job.row.failures.saturating_add(1);
                let more = job.row.failures <= u32::from(job.row.order.spec.retries);
                if !more {
                    self.over(now, id, End::Failed(said.epoch));
                } else if self.top_up(id) {
                    self.again(now, id);
                } else {
                    self.over(now, id, End::Unaffordable);
                }
            }
            // These say for certain how far it came: to the checkpoint, or nowhere.
            RunOutcome::Stopped | RunOutcome::Evicted | RunOutcome::NotStarted => {
                let shun_ms = now.mono_ms.saturating_add(self.settings.shun_ms);
                job.live.shunned.insert(said.factory.clone(), shun_ms);
                self.again_if_affordable(now, id);
            }
            RunOutcome::LeaseEnded | RunOutcome::Interrupted => {
                if self.top_up(id) {
                    self.uncertain(now, id);
                } else {
                    self.over(now, id, End::Unaffordable);
                }
            }
        }
    }

    fn again_if_affordable(&mut self, now: Now, id: JobId) {
        if self.top_up(id) {
            self.again(now, id);
        } else {
            self.over(now, id, End::Unaffordable);
        }
    }

    /// Ends a job for good: what is held for it goes back, and those that wait for it hear of it.
    pub(super) fn over(&mut self, now: Now, id: JobId, end: End) {
        let mut ends = vec![(id, end)];
        while let Some((id, end)) = ends.pop() {
            let succeeded = matches!(end, End::Succeeded(_));
            self.release(id);
            self.put(now, id, State::Over(end));
            for waiting in self.dependents.remove(&id).unwrap_or_default() {
                let waits = self.jobs.get(&waiting).is_some_and(|job| job.row.state == State::Waiting);
                if waits && !succeeded {
                    ends.push((waiting, End::Dependency(id)));
                }
            }
            self.pass_at = Some(now.mono_ms);
        }
    }
}
