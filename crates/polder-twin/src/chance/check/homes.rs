//! What homes send and write: nothing before it is durable, nothing outside policy, nothing that takes back what was final.

use polder_core::job::receipt::{Fault, Verdict};
use polder_core::job::row::v1::{End, JobRow, State};
use polder_core::job::{Epoch, JobId, Message, RunOutcome};

use super::Watch;

impl<'a> Watch<'a> {
    pub(super) fn sent(&mut self, at_us: u64, from: usize, to: usize, message: &Message) {
        match message {
            Message::Offer { job, epoch, .. } => self.offered(at_us, to, *job, *epoch),
            Message::Grant { job, epoch, .. } if from < self.plan.homes => self.granted(at_us, to, *job, *epoch),
            Message::Receipted { job, epoch, verdict } if *verdict != Verdict::Unknown => {
                self.answered(to, *job, *epoch, *verdict);
            }
            Message::SliceGiven { ask, microeur, .. } if *microeur > 0 && !self.money.gave(from, *ask, *microeur) => {
                self.wrong("a slice was given before it was written".to_owned());
            }
            Message::Done { receipt, .. }
                if !self.is_liar(from) && !self.runs.contains(&(from, receipt.value.job, receipt.value.epoch)) =>
            {
                self.wrong("a receipt was sent before it was written".to_owned());
            }
            _ => {}
        }
    }

    fn offered(&mut self, at_us: u64, to: usize, id: JobId, epoch: Epoch) {
        let Some(job) = self.jobs.get(&id) else { return self.wrong(format!("{id} was offered and never submitted")) };
        let mut wrong = Vec::new();
        if !self.permitted(at_us, job, to) {
            wrong.push(format!("{id} was offered outside policy"));
        }
        if job.row.is_none_or(|row| row.epoch < epoch) {
            wrong.push(format!("epoch {epoch} of {id} was offered before it was written"));
        }
        if job.offers.get(&epoch).is_some_and(|other| *other != to) {
            wrong.push(format!("epoch {epoch} of {id} was offered to two factories"));
        }
        let new = !job.offers.contains_key(&epoch);
        if new && job.cancelled {
            wrong.push(format!("{id} was offered after its cancellation was acknowledged"));
        }
        self.counts.offers += u64::from(new);
        self.with(id, |job| _ = job.offers.insert(epoch, to));
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    fn granted(&mut self, at_us: u64, to: usize, id: JobId, epoch: Epoch) {
        let Some(job) = self.jobs.get(&id) else { return };
        let mut wrong = Vec::new();
        if !self.permitted(at_us, job, to) {
            wrong.push(format!("{id} was granted outside policy"));
        }
        let lease = job.row.and_then(|row| row.leased.as_ref());
        if lease.is_none_or(|lease| lease.epoch < epoch) {
            wrong.push(format!("epoch {epoch} of {id} was granted before it was written"));
        }
        if job.offers.get(&epoch) != Some(&to) {
            wrong.push(format!("epoch {epoch} of {id} was granted to another than it was offered to"));
        }
        if !job.grants.contains_key(&epoch) && job.cancelled {
            wrong.push(format!("{id} was granted after its cancellation was acknowledged"));
        }
        self.with(id, |job| _ = job.grants.insert(epoch, to));
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// A factory is told what became of its receipt: it must be written.
    fn answered(&mut self, to: usize, id: JobId, epoch: Epoch, verdict: Verdict) {
        let Some(job) = self.jobs.get(&id) else { return };
        let written = job.row.and_then(|row| row.receipts.get(&epoch)).map(|known| known.verdict);
        let foreign = verdict == Verdict::Disputed(Fault::NoLease);
        if foreign && !self.is_liar(to) {
            return self.wrong(format!("the receipt of epoch {epoch} of {id} was called nobody's"));
        }
        if !foreign && written != Some(verdict) {
            self.wrong(format!("the receipt of epoch {epoch} of {id} was answered before that was written"));
        }
    }

    pub(super) fn wrote_job(&mut self, at_us: u64, site: usize, id: JobId, row: &'a JobRow) {
        let Some(job) = self.jobs.get(&id) else { return self.wrong(format!("{id} was written and never submitted")) };
        let mut wrong = Vec::new();
        if let Some(before) = job.row {
            if matches!(before.state, State::Over(_)) && before.state != row.state {
                wrong.push(format!("{id} was over, and is not any more"));
            }
            if row.epoch < before.epoch {
                wrong.push(format!("{id} went back to an older epoch"));
            }
            if before.receipts.iter().any(|(epoch, known)| {
                row.receipts.get(epoch).is_none_or(|one| one.verdict != known.verdict || one.receipt != known.receipt)
            }) {
                wrong.push(format!("{id} has lost a receipt, or changed what became of it"));
            }
            if row.epoch > before.epoch {
                wrong.extend(self.next_epoch(at_us, id, before, row));
            }
        }
        if job.home != site {
            wrong.push(format!("{id} was written at another home"));
        }
        wrong.extend(self.ends_rightly(id, row));
        for (epoch, known) in &row.receipts {
            let old = job.row.is_some_and(|before| before.receipts.contains_key(epoch));
            if !old {
                wrong.extend(self.receipt(id, row, *epoch, known.verdict));
                self.counts.settled += u64::from(known.verdict == Verdict::Settled);
                self.counts.disputed += u64::from(known.verdict != Verdict::Settled);
            }
        }
        self.with(id, |job| job.row = Some(row));
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// What must be so before a job may be offered again.
    fn next_epoch(&self, _: u64, id: JobId, before: &JobRow, row: &JobRow) -> Option<String> {
        let job = self.jobs.get(&id)?;
        if row.failures > u32::from(job.planned.retries) {
            return Some(format!("{id} was offered again after its last failure"));
        }
        let lease = before.leased.as_ref()?;
        let began = job.ran.get(&lease.epoch).map(|(_, began_us, _)| *began_us)?;
        let known = row.receipts.get(&lease.epoch).filter(|known| known.verdict == Verdict::Settled);
        let certain = known.is_some_and(|known| {
            !matches!(known.receipt.value.outcome, RunOutcome::LeaseEnded | RunOutcome::Interrupted)
        });
        let asked = job.rerun_us.is_some_and(|at_us| at_us >= began);
        (job.planned.hold && !certain && !asked)
            .then(|| format!("{id} was to be held for a person and was offered again"))
    }

    /// An end must be true.
    fn ends_rightly(&self, id: JobId, row: &JobRow) -> Option<String> {
        let job = self.jobs.get(&id)?;
        let State::Over(end) = &row.state else { return None };
        if job.row.is_some_and(|before| before.state == row.state) {
            return None;
        }
        match end {
            End::Succeeded(epoch) => {
                let lease = row.leases.get(epoch).and_then(|factory| self.site_of(factory));
                if lease.is_some_and(|site| self.is_liar(site)) {
                    return None;
                }
                let code = job.ran.get(epoch).and_then(|(_, _, end)| *end).and_then(|(_, code)| code);
                (code != Some(0)).then(|| format!("{id} succeeded in epoch {epoch}, whose process did not"))
            }
            End::Cancelled if job.planned.cancel_at_us.is_none() => {
                Some(format!("{id} was cancelled, and nobody had asked for that"))
            }
            End::Failed(_) => {
                let failures = row.receipts.values().filter(|known| {
                    let own = matches!(known.receipt.value.outcome, RunOutcome::Failed(_) | RunOutcome::TimedOut);
                    own && known.verdict == Verdict::Settled
                });
                (failures.count() <= usize::from(job.planned.retries))
                    .then(|| format!("{id} was given up before its retries were used"))
            }
            End::Dependency(before) => {
                let over = self.jobs.get(before).and_then(|job| job.row).map(|row| &row.state);
                let ended = matches!(over, Some(State::Over(end)) if !matches!(end, End::Succeeded(_)));
                // Both are written together.
                (!job.after.contains(before) || (!ended && over.is_some_and(|state| matches!(state, State::Over(_)))))
                    .then(|| format!("{id} was given up for a job that it did not wait for"))
            }
            End::Cancelled | End::Unaffordable => None,
        }
    }

    /// What became of a receipt must be right.
    fn receipt(&self, id: JobId, row: &JobRow, epoch: Epoch, verdict: Verdict) -> Option<String> {
        let job = self.jobs.get(&id)?;
        let factory = row.leases.get(&epoch).and_then(|factory| self.site_of(factory));
        let Some(site) = factory else { return Some(format!("a receipt of {id} counts that nobody had a lease for")) };
        if row.receipts.get(&epoch).is_some_and(|known| self.site_of(&known.receipt.value.factory) != Some(site)) {
            return Some(format!("a receipt of {id} counts that is another factory's"));
        }
        let newer = row.leased.as_ref().is_some_and(|lease| lease.epoch > epoch);
        match verdict {
            Verdict::Settled if newer => Some(format!("epoch {epoch} of {id} was settled after a newer one began")),
            _ if self.is_liar(site) => None,
            Verdict::Settled => {
                let known = row.receipts.get(&epoch).map(|known| &known.receipt.value)?;
                let same = job.signed.get(&epoch) == Some(&(site, known.outcome, known.cost_microeur));
                (!same).then(|| format!("epoch {epoch} of {id} was settled by a receipt that its factory did not sign"))
            }
            Verdict::Disputed(Fault::Superseded) if newer => None,
            Verdict::Disputed(Fault::JobOver)
                if job.row.is_some_and(|before| matches!(before.state, State::Over(_))) =>
            {
                None
            }
            _ => Some(format!("an honest receipt of {id} is disputed: {verdict:?}")),
        }
    }
}
