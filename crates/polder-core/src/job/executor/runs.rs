//! The end of a run: its receipt, and what is done about it until the home has answered; and runs that are found again
//! after a crash.

use super::{EndWhy, Executor, Exit, Outlook, Phase, Probed};
use crate::canonical::Digest;
use crate::job::message::Message;
use crate::job::receipt::{JobReceipt, RunOutcome, Verdict, cost_microeur};
use crate::job::row::v1::Row;
use crate::job::{Effect, Now, RunId};
use crate::keys::Signed;

impl Executor {
    /// Asks for the end of a run. What it comes to is told when it has ended.
    pub(super) fn end(&mut self, id: &RunId, why: EndWhy) {
        let Some(run) = self.runs.get_mut(id) else { return };
        if run.phase != Phase::Running {
            return;
        }
        run.phase = Phase::Ending(why);
        if let Some(at) = run.wake_ms.take() {
            self.timers.remove(&(at, id.clone()));
        }
        self.effects.push(Effect::Stop(id.clone()));
    }

    pub(super) fn checkpoint(&mut self, id: &RunId, digest: Digest) {
        let Some(run) = self.runs.get_mut(id) else { return };
        if let (Phase::Running | Phase::Ending(_), Some(row)) = (run.phase, &mut run.row) {
            row.checkpoint = Some(digest);
            self.save(id);
        }
    }

    /// A run has ended.
    pub(super) fn exited(&mut self, now: Now, id: &RunId, exit: &Exit, outlook: &mut dyn Outlook) {
        let Some(run) = self.runs.get(id) else { return };
        let outcome = match (exit.code, run.phase) {
            (_, Phase::Wanting { .. } | Phase::Done { .. }) => return,
            _ if !exit.started => RunOutcome::NotStarted,
            (Some(0), _) => RunOutcome::Succeeded,
            (_, Phase::Ending(EndWhy::Stopped)) => RunOutcome::Stopped,
            (_, Phase::Ending(EndWhy::TimedOut)) => RunOutcome::TimedOut,
            (_, Phase::Ending(EndWhy::Evicted)) => RunOutcome::Evicted,
            (_, Phase::Ending(EndWhy::LeaseEnded)) => RunOutcome::LeaseEnded,
            (Some(code), _) => RunOutcome::Failed(code),
            // Killed, and not by this process: nothing but the end of its lease does that.
            (None, _) => RunOutcome::LeaseEnded,
        };
        self.conclude(now, id, outcome, Some(exit), outlook);
    }

    /// What became of a run of an earlier process.
    pub(super) fn probed(&mut self, now: Now, id: &RunId, probed: Probed, outlook: &mut dyn Outlook) {
        let Some(run) = self.runs.get_mut(id).filter(|run| run.phase == Phase::Lost) else { return };
        // The clock of another start of the machine says nothing about this lease.
        let ours = run.row.as_ref().filter(|row| row.machine == self.machine);
        let lasts = ours.is_some_and(|row| now.mono_ms < row.until_ms);
        match (probed, ours.is_some()) {
            (Probed::Alive, _) => {
                run.phase = Phase::Running;
                // The terms may have changed while nobody was there to hear of it.
                let permitted = outlook.permits(&run.order.request);
                match (lasts, permitted) {
                    (true, true) => self.ask(now, id),
                    (true, false) => self.end(id, EndWhy::Evicted),
                    (false, _) => self.end(id, EndWhy::LeaseEnded),
                }
            }
            (Probed::Exited(exit), true) => self.exited(now, id, &exit, outlook),
            (Probed::Exited(_) | Probed::Gone, _) => {
                self.conclude(now, id, RunOutcome::Interrupted, None, outlook);
            }
        }
    }

    /// Signs what became of a run, writes it down, and sends it.
    fn conclude(&mut self, now: Now, id: &RunId, outcome: RunOutcome, exit: Option<&Exit>, outlook: &mut dyn Outlook) {
        let me = self.me.clone();
        let Some(run) = self.runs.get_mut(id) else { return };
        let Some(row) = &mut run.row else { return };
        let wall_ms = run.order.spec.wall_s.saturating_mul(1_000);
        let paid = outcome != RunOutcome::NotStarted;
        let ran_ms = exit.map_or(0, |exit| exit.ran_ms).min(wall_ms);
        let ended_after_ms = exit.map_or(0, |exit| exit.ended_ms.saturating_sub(row.asked_ms));
        let Ok(order) = run.order.digest() else { return };
        let receipt = JobReceipt {
            home: id.home.clone(),
            factory: me,
            job: id.job,
            epoch: id.epoch,
            order,
            outcome,
            ran_ms,
            ended_after_ms: ended_after_ms.min(row.until_ms.saturating_sub(row.asked_ms)),
            cost_microeur: if paid { cost_microeur(ran_ms, run.price_microeur_per_hour) } else { 0 },
            checkpoint: row.checkpoint,
        };
        let signature = outlook.sign(&receipt);
        row.receipt = Some(Box::new(Signed { value: receipt, signature }));
        run.phase = Phase::Done { sent: 0 };
        self.save(id);
        self.send_receipt(now, id);
    }

    /// Sends a receipt, and sets when it is sent again: ever more seldom.
    pub(super) fn send_receipt(&mut self, now: Now, id: &RunId) {
        let room = self.room();
        let Some(run) = self.runs.get_mut(id).filter(|run| run.is_open()) else { return };
        let Phase::Done { sent } = &mut run.phase else { return };
        let Some(receipt) = run.row.as_ref().and_then(|row| row.receipt.clone()) else { return };
        let pause_ms = self.settings.resend_ms.saturating_mul(1 << (*sent).min(16)).min(self.settings.resend_ms_max);
        *sent = sent.saturating_add(1);
        self.send(&id.home, Message::Done { receipt, room });
        self.wake(id, now.mono_ms.saturating_add(pause_ms.max(1)));
    }

    /// The home has answered a receipt. One that is not believed is kept, for whoever looks into it.
    pub(super) fn receipted(&mut self, id: &RunId, verdict: Verdict) {
        let Some(run) = self.runs.get_mut(id).filter(|run| matches!(run.phase, Phase::Done { .. })) else { return };
        if !run.is_open() {
            return;
        }
        if verdict == Verdict::Settled {
            self.forget(id);
            self.rows.push(Row::RunOver(id.clone()));
            return;
        }
        if let Some(row) = &mut run.row {
            row.verdict = Some(verdict);
        }
        if let Some(at) = run.wake_ms.take() {
            self.timers.remove(&(at, id.clone()));
        }
        self.save(id);
    }
}
