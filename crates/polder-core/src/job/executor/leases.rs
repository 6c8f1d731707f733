//! Offers, and the lease of a run: asked for, granted, asked for again, ended.
//!
//! The lease is timed from this side's own request. Several requests may be on their way; the answer to any of them counts from
//! the moment of that one.

use std::sync::Arc;

use super::{ASKS_MAX, EndWhy, Executor, Outlook, Phase, Run};
use crate::canonical::Digest;
use crate::job::message::{DeclineWhy, Message};
use crate::job::row::v1::RunRow;
use crate::job::{Effect, Nonce, Now, Order, RunId};

impl Executor {
    /// A home offers a run.
    pub(super) fn offered(
        &mut self,
        now: Now,
        id: RunId,
        (order, price, resume): (Arc<Order>, u64, Option<Digest>),
        outlook: &mut dyn Outlook,
    ) {
        match self.runs.get(&id).map(|run| run.phase) {
            // The request was lost, or its answer.
            Some(Phase::Wanting { .. }) => return self.ask(now, &id),
            Some(Phase::Done { .. }) => return self.send_receipt(now, &id),
            Some(Phase::Running | Phase::Ending(_) | Phase::Lost) => return,
            None => {}
        }
        let same_job = |other: &RunId| other.home == id.home && other.job == id.job;
        let live = |run: &Run| !matches!(run.phase, Phase::Done { .. } | Phase::Wanting { .. });
        if self.runs.iter().any(|(other, run)| same_job(other) && live(run)) {
            return self.decline(&id, None, DeclineWhy::Busy);
        }
        // Of two offers of one job only the newer can still be granted.
        let older: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(other, run)| same_job(other) && matches!(run.phase, Phase::Wanting { .. }))
            .map(|(other, _)| other.clone())
            .collect();
        older.iter().filter(|other| other.epoch < id.epoch).for_each(|other| self.forget(other));
        if older.iter().any(|other| other.epoch > id.epoch) {
            return;
        }
        let amounts = order.spec.resources.amounts();
        let sheet = &self.settings.sheet;
        let no = if order.spec.check().is_err()
            || !sheet.whole.holds(&amounts)
            || !order.spec.resources.met_by(&sheet.abilities)
        {
            Some(DeclineWhy::Unfit)
        } else if !outlook.permits(&order.request) {
            Some(DeclineWhy::Terms)
        } else if price < sheet.price_microeur_per_hour(&amounts) {
            Some(DeclineWhy::Price)
        } else if !self.free().holds(&amounts) || self.runs.len() >= self.settings.runs_max {
            Some(DeclineWhy::NoRoom)
        } else {
            None
        };
        if let Some(why) = no {
            return self.decline(&id, None, why);
        }
        let run = Run {
            order,
            price_microeur_per_hour: price,
            resume,
            phase: Phase::Wanting { give_up_ms: now.mono_ms.saturating_add(self.settings.want_ms) },
            asks: Vec::new(),
            wake_ms: None,
            row: None,
        };
        self.runs.insert(id.clone(), run);
        self.ask(now, &id);
    }

    /// Asks for the lease, from now.
    pub(super) fn ask(&mut self, now: Now, id: &RunId) {
        let nonce = self.nonces.draw();
        let room = self.room();
        let Some(run) = self.runs.get_mut(id) else { return };
        run.asks.push((nonce, now.mono_ms));
        let extra = run.asks.len().saturating_sub(ASKS_MAX);
        run.asks.drain(..extra);
        let (job, epoch) = (id.job, id.epoch);
        let (message, again_ms) = match (run.phase, &run.row) {
            (Phase::Running, Some(row)) => {
                let left_ms = row.until_ms.saturating_sub(now.mono_ms);
                let again_ms = now.mono_ms.saturating_add((left_ms / 4).max(1)).min(row.until_ms);
                (Message::Renew { job, epoch, nonce, checkpoint: row.checkpoint }, again_ms)
            }
            _ => (Message::Want { job, epoch, nonce, room }, now.mono_ms.saturating_add(self.settings.resend_ms)),
        };
        let home = id.home.clone();
        self.send(&home, message);
        let again_ms = self.runs.get(id).map_or(again_ms, |run| again_ms.min(run.wall_ends_ms()));
        self.wake(id, again_ms);
    }

    /// A home grants what was asked.
    pub(super) fn granted(&mut self, now: Now, id: &RunId, nonce: Nonce, lease_ms: u64, outlook: &mut dyn Outlook) {
        let Some(run) = self.runs.get_mut(id) else {
            // Asked before a crash, or given up: it can never start by this grant.
            return self.decline(id, Some(nonce), DeclineWhy::Forgotten);
        };
        let Some(place) = run.asks.iter().position(|(asked, _)| *asked == nonce) else { return };
        let asked_ms = run.asks.remove(place).1;
        let until_ms = asked_ms.saturating_add(lease_ms);
        if until_ms <= now.mono_ms {
            return;
        }
        match run.phase {
            Phase::Wanting { .. } => {
                // Time has passed since the offer, and the terms may have changed.
                if !outlook.permits(&run.order.request) {
                    self.forget(id);
                    return self.decline(id, Some(nonce), DeclineWhy::Terms);
                }
                self.start(now, id, (asked_ms, until_ms));
            }
            Phase::Running => {
                let Some(row) = &mut run.row else { return };
                if until_ms > row.until_ms {
                    (row.asked_ms, row.until_ms) = (asked_ms, until_ms);
                    self.save(id);
                    self.effects.push(Effect::Extend(id.clone(), until_ms));
                }
                self.plan_renewal(now, id);
            }
            Phase::Ending(_) | Phase::Lost | Phase::Done { .. } => {}
        }
    }

    /// Writes the run down and starts it.
    fn start(&mut self, now: Now, id: &RunId, (asked_ms, until_ms): (u64, u64)) {
        let Some(run) = self.runs.get_mut(id) else { return };
        run.phase = Phase::Running;
        run.row = Some(RunRow {
            order: Arc::clone(&run.order),
            price_microeur_per_hour: run.price_microeur_per_hour,
            machine: self.machine,
            started_ms: now.mono_ms,
            asked_ms,
            until_ms,
            checkpoint: None,
            receipt: None,
            verdict: None,
        });
        let (order, resume) = (Arc::clone(&run.order), run.resume);
        self.save(id);
        self.effects.push(Effect::Start { run: id.clone(), order, until_ms, resume });
        self.plan_renewal(now, id);
    }

    /// Renews when half of what is left has passed.
    pub(super) fn plan_renewal(&mut self, now: Now, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        let Some(row) = &run.row else { return };
        let half_ms = row.until_ms.saturating_sub(row.asked_ms) / 2;
        let at_ms = row.asked_ms.saturating_add(half_ms).max(now.mono_ms).min(run.wall_ends_ms());
        self.wake(id, at_ms);
    }

    /// A home says that there is no lease for what was asked.
    pub(super) fn voided(&mut self, id: &RunId, nonce: Nonce) {
        let Some(run) = self.runs.get(id) else { return };
        if run.asks.last().is_none_or(|(asked, _)| *asked != nonce) {
            return;
        }
        match run.phase {
            Phase::Wanting { .. } => self.forget(id),
            Phase::Running => self.end(id, EndWhy::LeaseEnded),
            Phase::Ending(_) | Phase::Lost | Phase::Done { .. } => {}
        }
    }

    pub(super) fn withdrawn(&mut self, id: &RunId) {
        if self.runs.get(id).is_some_and(|run| matches!(run.phase, Phase::Wanting { .. })) {
            self.forget(id);
        }
    }

    pub(super) fn told_to_stop(&mut self, id: &RunId) {
        match self.runs.get(id).map(|run| run.phase) {
            Some(Phase::Wanting { .. }) => self.forget(id),
            Some(Phase::Running) => self.end(id, EndWhy::Stopped),
            Some(Phase::Ending(_) | Phase::Lost | Phase::Done { .. }) | None => {}
        }
    }

    /// A run's timer: ask again, give up, or end it.
    pub(super) fn due(&mut self, now: Now, id: &RunId, outlook: &mut dyn Outlook) {
        let Some(run) = self.runs.get(id) else { return };
        let until_ms = run.row.as_ref().map_or(0, |row| row.until_ms);
        match run.phase {
            Phase::Wanting { give_up_ms } if now.mono_ms >= give_up_ms => self.forget(id),
            Phase::Wanting { .. } => self.ask(now, id),
            Phase::Running if now.mono_ms >= until_ms => self.end(id, EndWhy::LeaseEnded),
            Phase::Running if now.mono_ms >= run.wall_ends_ms() => self.end(id, EndWhy::TimedOut),
            // The factory has the last word, at every renewal too.
            Phase::Running if !outlook.permits(&run.order.request) => self.end(id, EndWhy::Evicted),
            Phase::Running => self.ask(now, id),
            Phase::Done { .. } => self.send_receipt(now, id),
            Phase::Ending(_) | Phase::Lost => {}
        }
    }

    /// The terms have changed: what they no longer permit ends.
    pub(super) fn reconsider(&mut self, outlook: &mut dyn Outlook) {
        let ids: Vec<RunId> = self.runs.keys().cloned().collect();
        for id in ids {
            let Some(run) = self.runs.get(&id) else { continue };
            if outlook.permits(&run.order.request) {
                continue;
            }
            match run.phase {
                Phase::Wanting { .. } => self.forget(&id),
                Phase::Running => self.end(&id, EndWhy::Evicted),
                Phase::Ending(_) | Phase::Lost | Phase::Done { .. } => {}
            }
        }
    }
}

impl Run {
    /// When it has used up its wall time; never, where it has not started.
    pub(super) fn wall_ends_ms(&self) -> u64 {
        let wall_ms = self.order.spec.wall_s.saturating_mul(1_000);
        self.row.as_ref().map_or(u64::MAX, |row| row.started_ms.saturating_add(wall_ms))
    }
}
