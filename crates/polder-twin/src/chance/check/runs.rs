//! What really runs: one process of a job at a time, under a lease, within the room there is, after what it waits for.

use polder_core::job::row::v1::{End, State};
use polder_core::job::{Epoch, JobId, RunOutcome};

use super::Watch;
use crate::chance::site::sheet;

impl Watch<'_> {
    pub(super) fn began(&mut self, at_us: u64, site: usize, id: JobId, epoch: Epoch) {
        self.counts.runs += 1;
        let Some(job) = self.jobs.get(&id) else { return self.wrong(format!("{id} runs and was never submitted")) };
        let mut wrong = Vec::new();
        if let Some((other, other_epoch)) = job.live.keys().next() {
            wrong.push(format!("{id} runs in epoch {epoch} while it runs in {other_epoch} at site {other}"));
        }
        if job.grants.get(&epoch) != Some(&site) {
            wrong.push(format!("{id} runs in epoch {epoch} without a lease"));
        }
        if job.ran.contains_key(&epoch) {
            wrong.push(format!("{id} was started twice in epoch {epoch}"));
        }
        if !self.runs.contains(&(site, id, epoch)) {
            wrong.push(format!("{id} was started before that was written"));
        }
        if !self.terms_permit(at_us, job, site) {
            wrong.push(format!("{id} was started against the factory's terms"));
        }
        let unmet = |before: &&JobId| {
            let row = self.jobs.get(before).and_then(|job| job.row);
            !row.is_some_and(|row| matches!(row.state, State::Over(End::Succeeded(_))))
        };
        if job.after.iter().any(|before| unmet(&before)) {
            wrong.push(format!("{id} was started before what it waits for had succeeded"));
        }
        self.counts.reruns += u64::from(job.ran.len() == 1);
        self.with(id, |job| {
            job.live.insert((site, epoch), (at_us, None));
            job.ran.insert(epoch, (site, at_us, None));
        });
        wrong.into_iter().for_each(|what| self.wrong(what));
        self.room(site);
    }

    /// What runs at a site must fit.
    fn room(&mut self, site: usize) {
        let whole = sheet(site.saturating_sub(self.plan.homes)).whole;
        let here = self.jobs.values().filter(|job| job.live.keys().any(|(at, _)| *at == site));
        let (mut cores, mut accelerators) = (0, 0);
        for job in here {
            cores += job.planned.cores;
            accelerators += job.planned.accelerators;
        }
        if cores > whole.cores || accelerators > whole.accelerators {
            self.wrong(format!("site {site} runs more than it has room for"));
        }
    }

    pub(super) fn ended(&mut self, at_us: u64, site: usize, id: JobId, epoch: Epoch, code: Option<i32>) {
        let mut against = None;
        let mut over = None;
        self.with(id, |job| {
            let began = job.live.remove(&(site, epoch));
            against = began.and_then(|(_, since)| since);
            over = began.map(|(from, _)| (at_us.saturating_sub(from) / 1_000, job.planned.wall_s * 1_000));
            if let Some(ran) = job.ran.get_mut(&epoch) {
                ran.2 = Some((at_us, code));
            }
        });
        if let Some(since_us) = against {
            self.too_long(id, site, at_us.saturating_sub(since_us));
        }
        // A daemon that is gone may let a run go on to the end of its lease.
        if over.is_some_and(|(ran_ms, wall_ms)| ran_ms > wall_ms + LEASE_MS) {
            self.wrong(format!("{id} ran far longer than its wall time"));
        }
    }

    pub(super) fn signed(&mut self, site: usize, id: JobId, epoch: Epoch, outcome: RunOutcome, cost: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let mut wrong = Vec::new();
        let ran = job.ran.get(&epoch);
        let code = ran.and_then(|(_, _, end)| *end).and_then(|(_, code)| code);
        if (outcome == RunOutcome::Succeeded) != (code == Some(0)) && outcome != RunOutcome::Interrupted {
            wrong.push(format!("the receipt of epoch {epoch} of {id} says {outcome:?}, the code was {code:?}"));
        }
        if let Some((_, from_us, Some((until_us, _)))) = ran {
            // The dearest hour there is, a millionth more than was run for every thousandth of drift, and rounding.
            let ran_ms = (until_us - from_us) / 1_000;
            let most = (ran_ms + ran_ms / 400 + 2) * 14_000 / 1_000 + 1;
            if cost > most {
                wrong.push(format!("the receipt of epoch {epoch} of {id} costs {cost}, at most {most} were used"));
            }
        } else if cost > 0 {
            wrong.push(format!("the receipt of epoch {epoch} of {id} costs {cost} and nothing had ended"));
        }
        if job.live.keys().any(|key| *key == (site, epoch)) {
            wrong.push(format!("the receipt of epoch {epoch} of {id} was signed while it ran"));
        }
        // Where one was signed before, that was lost with a crash before it was written, and does not count.
        self.with(id, |job| _ = job.signed.insert(epoch, (site, outcome, cost)));
        wrong.into_iter().for_each(|what| self.wrong(what));
    }
}

/// A lease with its drift, and the time to end a process.
const LEASE_MS: u64 = 8_700;
