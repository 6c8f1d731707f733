//! What really runs at a factory: processes that end by themselves, at the end of their lease, when they are told, or with
//! their machine.
//!
//! The end of a lease is kept here as the product's runner must keep it: by the machine's own clock, whether or not the daemon
//! lives. A process outlives its daemon and not its machine.

use std::collections::BTreeMap;

use polder_core::canonical::Digest;
use polder_core::job::executor::{Event, Exit, Probed};
use polder_core::job::{Order, RunId};

use super::site::Kind;
use super::stage::{Due, Stage};
use super::trace::What;

/// The processes of a factory, and what is known of those that have ended in this start of the machine.
#[derive(Debug, Default)]
pub struct Processes {
    live: BTreeMap<RunId, Process>,
    ended: BTreeMap<RunId, Exit>,
    changes: u64,
}

#[derive(Debug)]
struct Process {
    started_us: u64,
    started_ms: u64,
    /// When it ends by itself, and with which code.
    done_us: u64,
    code: i32,
    /// When it is killed.
    killed_us: u64,
    change: u64,
    from_ms: u64,
}

/// A checkpoint says how far a job is.
fn checkpoint_of(worked_ms: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(worked_ms.to_be_bytes()).for_each(|(to, from)| *to = from);
    Digest(bytes)
}

fn worked_of(checkpoint: Option<Digest>) -> u64 {
    checkpoint.and_then(|digest| digest.0.first_chunk::<8>().copied()).map_or(0, u64::from_be_bytes)
}

impl Stage<'_> {
    /// A machine starts a process.
    pub fn start_process(&mut self, place: usize, run: RunId, order: &Order, until_ms: u64, resume: Option<Digest>) {
        let work = self.clients.work(run.job);
        let fails_to_start = self.dice.chance_ppm(10_000);
        let now_us = self.now_us;
        let Some(site) = self.sites.get_mut(place) else { return };
        let now_ms = site.clock.now(now_us).mono_ms;
        let killed_us = site.clock.when(until_ms);
        let Kind::Factory(_, processes) = &mut site.kind else { return };
        if fails_to_start || killed_us <= now_us {
            let exit = Exit { code: None, started: false, ran_ms: 0, ended_ms: now_ms };
            processes.ended.insert(run.clone(), exit);
            return self.step_factory(place, Event::Exited(run, exit));
        }
        let from_ms = if order.spec.checkpoint.is_some() { worked_of(resume) } else { 0 };
        let left_ms = work.work_ms.saturating_sub(from_ms).max(1);
        processes.changes += 1;
        let change = processes.changes;
        let process = Process {
            started_us: now_us,
            started_ms: now_ms,
            done_us: now_us + left_ms * 1_000,
            code: work.code,
            killed_us,
            change,
            from_ms,
        };
        let ends_us = process.done_us.min(process.killed_us);
        processes.ended.remove(&run);
        let twice = processes.live.insert(run.clone(), process).is_some();
        self.see(place, What::Began { job: run.job, epoch: run.epoch });
        if twice {
            self.see(place, What::Broken(format!("{} runs twice in epoch {}", run.job, run.epoch)));
        }
        self.set(ends_us, Due::Exit(place, run, change));
    }

    pub fn extend_process(&mut self, place: usize, run: &RunId, until_ms: u64) {
        let Some(site) = self.sites.get_mut(place) else { return };
        let killed_us = site.clock.when(until_ms);
        let Kind::Factory(_, processes) = &mut site.kind else { return };
        let Some(process) = processes.live.get_mut(run) else { return };
        processes.changes += 1;
        (process.killed_us, process.change) = (killed_us, processes.changes);
        let (ends_us, change) = (process.done_us.min(killed_us), process.change);
        self.set(ends_us, Due::Exit(place, run.clone(), change));
    }

    /// A process is told to end; some take their time.
    pub fn stop_process(&mut self, place: usize, run: &RunId) {
        let grace_us = self.dice.within(0, 150_000);
        let now_us = self.now_us;
        let Some(Kind::Factory(_, processes)) = self.sites.get_mut(place).map(|site| &mut site.kind) else { return };
        let Some(process) = processes.live.get_mut(run) else { return };
        processes.changes += 1;
        process.killed_us = process.killed_us.min(now_us + grace_us);
        process.change = processes.changes;
        let (ends_us, change) = (process.done_us.min(process.killed_us), process.change);
        self.set(ends_us, Due::Exit(place, run.clone(), change));
    }

    /// A process ends, unless something has changed since that was set.
    pub fn process_ends(&mut self, place: usize, run: &RunId, change: u64) {
        let now_us = self.now_us;
        let Some(site) = self.sites.get_mut(place) else { return };
        let now_ms = site.clock.now(now_us).mono_ms;
        let Kind::Factory(_, processes) = &mut site.kind else { return };
        if processes.live.get(run).is_none_or(|process| process.change != change) {
            return;
        }
        let Some(process) = processes.live.remove(run) else { return };
        let code = (process.done_us <= now_us).then_some(process.code);
        let ran_ms = now_ms.saturating_sub(process.started_ms);
        let exit = Exit { code, started: true, ran_ms, ended_ms: now_ms };
        processes.ended.insert(run.clone(), exit);
        let worked_ms = process.from_ms + (now_us - process.started_us) / 1_000;
        self.see(place, What::Ended { job: run.job, epoch: run.epoch, code });
        if code.is_none() {
            self.step_factory(place, Event::Checkpoint(run.clone(), checkpoint_of(worked_ms / 1_000 * 1_000)));
        }
        self.step_factory(place, Event::Exited(run.clone(), exit));
    }

    pub fn probe_process(&mut self, place: usize, run: RunId) {
        let Some(Kind::Factory(_, processes)) = self.sites.get(place).map(|site| &site.kind) else { return };
        let found = match (processes.live.contains_key(&run), processes.ended.get(&run)) {
            (true, _) => Probed::Alive,
            (false, Some(exit)) => Probed::Exited(*exit),
            (false, None) => Probed::Gone,
        };
        self.step_factory(place, Event::Probed(run, found));
    }

    /// A machine is gone, and with it all that ran on it.
    pub fn kill_processes(&mut self, place: usize) {
        let Some(Kind::Factory(_, processes)) = self.sites.get_mut(place).map(|site| &mut site.kind) else { return };
        processes.ended.clear();
        for run in std::mem::take(&mut processes.live).into_keys() {
            self.see(place, What::Ended { job: run.job, epoch: run.epoch, code: None });
        }
    }
}
