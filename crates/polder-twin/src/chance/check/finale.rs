//! When everything has healed: every acknowledged job has come to its end, no receipt was lost, no money is left lying.

use polder_core::job::receipt::Verdict;
use polder_core::job::row::v1::{End, State};
use polder_core::job::{JobId, RunOutcome};

use super::{Job, Watch};
use crate::chance::plan::END_US;
use crate::chance::site::sheet;

impl Watch<'_> {
    pub(super) fn finale(&mut self) {
        let mut wrong = Vec::new();
        for (id, job) in &self.jobs {
            self.counts.jobs += u64::from(job.acked);
            let taken_back = job.planned.cancel_at_us.is_some() || !job.after.is_empty();
            if job.acked && !taken_back && self.can_run(job) {
                self.counts.placeable += 1;
                let by_liar = job.grants.values().any(|site| self.is_liar(*site));
                self.counts.placed += u64::from(!job.ran.is_empty() || by_liar);
            }
            wrong.extend(self.came_to_an_end(*id, job));
            wrong.extend(self.receipts_arrived(*id, job));
            wrong.extend(self.was_paid(*id, job));
            if self.plan.calm {
                wrong.extend(calmly(*id, job));
            }
        }
        if self.money.sum() != 0 {
            wrong.push("all accounts do not come to zero".to_owned());
        }
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    fn came_to_an_end(&self, id: JobId, job: &Job<'_>) -> Option<String> {
        let Some(row) = job.row else { return job.acked.then(|| format!("{id} was acknowledged and is lost")) };
        if matches!(row.state, State::Over(_)) {
            return (self.money.held(job.home, id) != 0)
                .then(|| format!("{id} is over and money is still held for it"));
        }
        // A job may wait for ever where nobody who is honest can take it.
        let possible = self.can_run(job);
        let waits = job.after.iter().any(|before| {
            let row = self.jobs.get(before).and_then(|job| job.row);
            row.is_some_and(|row| !matches!(row.state, State::Over(_)))
        });
        (possible && !waits).then(|| format!("{id} never came to an end: {:?}, epoch {}", row.state, row.epoch))
    }

    /// Whether somebody honest can and may run a job, when everything is quiet.
    fn can_run(&self, job: &Job<'_>) -> bool {
        let able = |site: usize| {
            let whole = sheet(site - self.plan.homes).whole;
            !self.is_liar(site)
                && whole.cores >= job.planned.cores
                && whole.accelerators >= job.planned.accelerators
                && self.permitted(END_US * 2, job, site)
                && self.terms_permit(END_US * 2, job, site)
        };
        (self.plan.homes..self.plan.homes + self.plan.factories).any(able)
    }

    /// What an honest factory signed and wrote has been answered: no work is lost in silence.
    fn receipts_arrived(&self, id: JobId, job: &Job<'_>) -> Option<String> {
        let lost = job.signed.iter().find(|(epoch, _)| {
            let known = job.row.and_then(|row| row.receipts.get(epoch));
            known.is_none()
        });
        lost.map(|(epoch, _)| format!("the receipt of epoch {epoch} of {id} was lost"))
    }

    fn was_paid(&self, id: JobId, job: &Job<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(row) = job.row else { return wrong };
        let mut succeeded = 0;
        for (epoch, known) in &row.receipts {
            let said = &known.receipt.value;
            let paid = self.money.paid.get(&(id, *epoch));
            let settled = known.verdict == Verdict::Settled;
            succeeded += u32::from(settled && said.outcome == RunOutcome::Succeeded);
            match paid {
                Some((factory, sum))
                    if !settled || *factory != said.factory || i64::try_from(said.cost_microeur) != Ok(*sum) =>
                {
                    wrong.push(format!("epoch {epoch} of {id} was paid otherwise than its receipt says"));
                }
                None if settled && said.cost_microeur > 0 => {
                    wrong.push(format!("epoch {epoch} of {id} was settled and not paid"));
                }
                _ => {}
            }
        }
        if self.money.paid.keys().any(|(job, epoch)| *job == id && !row.receipts.contains_key(epoch)) {
            wrong.push(format!("{id} was paid without a receipt"));
        }
        let over = matches!(row.state, State::Over(End::Succeeded(_)));
        if succeeded > 1 || (succeeded == 1) != over {
            wrong.push(format!("{id} has {succeeded} settled successes and ended as {:?}", row.state));
        }
        wrong
    }
}

/// Where nothing goes wrong, everything goes as it was meant: each attempt once, no lease ends, nothing is disputed.
fn calmly(id: JobId, job: &Job<'_>) -> Option<String> {
    let row = job.row?;
    let State::Over(end) = &row.state else { return None };
    if row.lapses > 0 || row.receipts.values().any(|known| known.verdict != Verdict::Settled) {
        return Some(format!("{id} lost a lease or a receipt though nothing went wrong"));
    }
    let planned = job.planned;
    if planned.cancel_at_us.is_some() {
        return None;
    }
    let starts = row.receipts.values().filter(|known| known.receipt.value.outcome != RunOutcome::NotStarted).count();
    let tight = planned.work_ms + 100 > planned.wall_s * 1_000;
    let expected = match end {
        End::Succeeded(_) => planned.failures + 1,
        End::Failed(_) => u32::from(planned.retries) + 1,
        _ => return None,
    };
    if !tight && u32::try_from(starts) != Ok(expected) {
        return Some(format!("{id} took {starts} runs though nothing went wrong; {expected} were needed"));
    }
    let fails = planned.failures > u32::from(planned.retries);
    (!tight && fails != matches!(end, End::Failed(_)))
        .then(|| format!("{id} ended as {end:?} though nothing went wrong"))
}
