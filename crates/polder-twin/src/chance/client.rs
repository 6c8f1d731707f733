//! Those who submit jobs, take some back, and look after held ones; and what the jobs really do.
//!
//! Some ask again until they are answered, some ask once: a client that always asks again would hide every acknowledgement
//! that was given too early.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::ids::{AwardId, ProjectId, TenantId};
use polder_core::job::home::{Answer, Event, Submission};
use polder_core::job::row::v1::State;
use polder_core::job::{JobId, JobSpec, Needs, Nonce, OnUncertain, Order};
use polder_core::ledger::books::{Account, Entry, EntryId};

use super::dice::Dice;
use super::plan::{Plan, Planned, PlannedJob, TROUBLE_US};
use super::realm::{KIND_COUNT, Realm};
use super::site::Kind;
use super::stage::{Due, Stage};
use super::trace::What;

/// What a run of a job does.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub work_ms: u64,
    pub code: i32,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    handed_in: Vec<HandedIn>,
    /// How often a job has failed by itself, and how often it will.
    failures: BTreeMap<JobId, (u32, u32, u64)>,
    funded: BTreeSet<usize>,
    cancels: BTreeMap<u64, JobId>,
    pub award: AwardId,
    pub project: ProjectId,
    tenants: Vec<TenantId>,
}

#[derive(Debug)]
struct HandedIn {
    submission: Submission,
    jobs: Vec<(JobId, PlannedJob)>,
    heard: bool,
    /// Asks no more.
    gone: bool,
}

/// Calls that are no submission.
const CALL_CANCEL: u64 = 1 << 32;
const CALL_PERSON: u64 = 2 << 32;
const CALL_MONEY: u64 = 3 << 32;

impl Clients {
    pub fn new(plan: &Plan, realm: &Realm, dice: &mut Dice) -> Result<Self, String> {
        let mut clients = Self {
            handed_in: Vec::new(),
            failures: BTreeMap::new(),
            funded: BTreeSet::new(),
            cancels: BTreeMap::new(),
            award: AwardId::parse("award-1").map_err(|e| e.to_string())?,
            project: ProjectId::parse("runs").map_err(|e| e.to_string())?,
            tenants: (0..KIND_COUNT).filter_map(|kind| Some(realm.request(kind)?.tenant.clone())).collect(),
        };
        for (place, planned) in plan.submissions.iter().enumerate() {
            let one = clients.hand(place, planned, realm, dice)?;
            clients.handed_in.push(one);
        }
        Ok(clients)
    }

    fn hand(&mut self, place: usize, planned: &Planned, realm: &Realm, dice: &mut Dice) -> Result<HandedIn, String> {
        let request = realm.request(planned.kind).ok_or("there is no such kind of work")?;
        let mut jobs = Vec::new();
        let mut orders = Vec::new();
        for (index, one) in planned.jobs.iter().enumerate() {
            let id = JobId(dice.bytes_16());
            let spec = spec(one, &format!("job-{place}-{index}"));
            let order = Order { request: request.clone(), award: self.award.clone(), spec, index: 0 };
            orders.push((id, Arc::new(order), one.after.iter().copied().collect()));
            self.failures.insert(id, (0, one.failures, one.work_ms));
            jobs.push((id, one.clone()));
        }
        let call = u64::try_from(place).unwrap_or(0);
        let submission = Submission { call, tenant: request.tenant.clone(), key: format!("key-{place}"), jobs: orders };
        Ok(HandedIn { submission, jobs, heard: false, gone: false })
    }

    /// What the next run of a job does.
    pub fn work(&mut self, job: JobId) -> Work {
        let Some((failed, failures, work_ms)) = self.failures.get_mut(&job) else {
            return Work { work_ms: 1, code: 0 };
        };
        let code = if failed < failures { 1 } else { 0 };
        *failed += 1;
        Work { work_ms: *work_ms, code }
    }

    /// Whether nobody waits for an answer any more.
    pub fn all_heard(&self) -> bool {
        self.handed_in.iter().all(|one| one.heard || one.gone)
    }
}

fn spec(one: &PlannedJob, name: &str) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        priority: one.priority,
        resources: Needs { cores: one.cores, accelerators: one.accelerators, ..Needs::default() },
        run: polder_core::job::spec::Program::Command(vec!["work".to_owned()]),
        inputs: Vec::new(),
        outputs: Vec::new(),
        wall_s: one.wall_s,
        checkpoint: one.work_ms.is_multiple_of(2).then(|| "ckpt".to_owned()),
        retries: one.retries,
        on_uncertain: if one.hold { OnUncertain::HoldForHuman } else { OnUncertain::Rerun },
        array: 1,
        after: BTreeSet::new(),
        // An hour of eight dear cores and an accelerator, for so long.
        cost_microeur_max: one.wall_s * 14_000 + 10,
    }
}

impl Stage<'_> {
    /// A client hands jobs in, or asks again.
    pub fn hand_in(&mut self, place: usize, tries: u32) {
        let Some(planned) = self.plan.submissions.get(place) else { return };
        if !self.clients.funded.contains(&planned.home) {
            self.fund(planned.home);
        }
        let Some(one) = self.clients.handed_in.get_mut(place) else { return };
        if one.heard || one.gone {
            return;
        }
        if tries >= planned.tries && self.now_us > planned.at_us {
            one.gone = true;
            return;
        }
        let (submission, jobs) = (one.submission.clone(), one.jobs.clone());
        if tries == 0 {
            for (id, job) in &jobs {
                if let Some(at_us) = job.cancel_at_us {
                    self.set(at_us, Due::Cancel(place, *id));
                }
            }
            let kind = planned.kind;
            self.see(planned.home, What::Submitted { submission: place, kind, jobs });
        }
        self.set(self.now_us + 900_000, Due::Submit(place, tries + 1));
        // The way to the home is a network, too.
        if self.now_us < TROUBLE_US && self.dice.chance_ppm(self.plan.loss_ppm) {
            return;
        }
        self.step_home(planned.home, Event::Submit(Box::new(submission)));
    }

    /// Before the first job an operator gives each project its money; again, where nobody answered.
    pub fn fund(&mut self, home: usize) {
        let each = self.plan.purse_microeur;
        let award = self.clients.award.clone();
        let mut number = 0_u8;
        let mut id = |home: usize| {
            number += 1;
            let mut bytes = [number; 16];
            bytes.iter_mut().take(1).for_each(|byte| *byte = u8::try_from(home).unwrap_or(0));
            EntryId::Moved(Nonce(bytes))
        };
        let mut entries = Vec::new();
        // The second home is no accountant: it lives on slices of the first one's award.
        let tenants = self.clients.tenants.clone();
        let all = each.saturating_mul(u64::try_from(tenants.len()).unwrap_or(1));
        if home == 0 {
            entries.push(Entry::transfer(id(home), award.clone(), Account::Outside, Account::Award, all * 2));
        }
        for tenant in tenants {
            let project = Account::Project(tenant.clone(), self.clients.project.clone());
            let through = Account::Tenant(tenant);
            entries.push(Entry::transfer(id(home), award.clone(), Account::Award, through.clone(), each));
            entries.push(Entry::transfer(id(home), award.clone(), through, project, each));
        }
        if home > 0 {
            let Some(accountant) = self.sites.first().map(|site| site.id.clone()) else { return };
            let open = self.home(home).is_some_and(|home| {
                home.books().accounts().next().is_some()
                    || home.durable().iter().any(|row| matches!(row, polder_core::job::Row::Slice(..)))
            });
            if !open {
                let call = CALL_MONEY;
                self.step_home(home, Event::AskSlice { call, award: award.clone(), accountant, microeur: all });
            }
        }
        for entry in entries.into_iter().flatten() {
            self.step_home(home, Event::Move { call: CALL_MONEY + 1, entry });
        }
        let project =
            self.clients.tenants.last().map(|tenant| Account::Project(tenant.clone(), self.clients.project.clone()));
        let paid =
            project.zip(self.home(home)).is_some_and(|(account, home)| home.books().balance(&award, &account) > 0);
        let written = self.sites.get(home).is_some_and(|site| site.outbox.is_empty());
        if paid && written {
            self.clients.funded.insert(home);
        }
    }

    fn home(&self, place: usize) -> Option<&polder_core::job::Home> {
        match self.sites.get(place).map(|site| &site.kind) {
            Some(Kind::Home(Some(home))) => Some(home),
            _ => None,
        }
    }

    /// A client takes a job back; it asks until it is told that the job has ended or will.
    pub fn take_back(&mut self, place: usize, job: JobId) {
        let (home, heard) = match (self.plan.submissions.get(place), self.clients.handed_in.get(place)) {
            (Some(planned), Some(one)) => (planned.home, one.heard),
            _ => return,
        };
        if heard {
            let call = CALL_CANCEL + u64::try_from(self.clients.cancels.len()).unwrap_or(0);
            self.clients.cancels.insert(call, job);
            self.step_home(home, Event::Cancel { call, job });
        }
    }

    /// A person looks after what is held: sometimes late.
    pub fn look_after(&mut self, place: usize) {
        let held: Vec<JobId> = match self.home(place) {
            Some(home) => home.jobs().filter(|(_, row)| row.state == State::Held).map(|(id, _)| id).collect(),
            None => Vec::new(),
        };
        for (number, job) in held.into_iter().enumerate() {
            let number = u64::try_from(number).unwrap_or(0);
            // Said before it is heard: from now on it may run.
            self.see(place, What::Rerun { job });
            self.step_home(place, Event::Rerun { call: CALL_PERSON + number, job });
        }
        let next_us = self.now_us + self.dice.within(3_000_000, 12_000_000);
        self.set(next_us, Due::Person(place));
    }

    /// A caller hears an answer, or the line is dead.
    pub fn answer(&mut self, home: usize, call: u64, answer: Answer) {
        if let Some(job) = self.clients.cancels.get(&call).copied() {
            if matches!(answer, Answer::Done | Answer::Ending) {
                self.see(home, What::Cancelled { job });
            }
            return;
        }
        if call >= CALL_CANCEL {
            return;
        }
        if self.now_us < TROUBLE_US && self.dice.chance_ppm(self.plan.loss_ppm) {
            return;
        }
        let submission = usize::try_from(call).unwrap_or(usize::MAX);
        let Some(one) = self.clients.handed_in.get_mut(submission).filter(|one| !one.gone) else { return };
        match answer {
            Answer::Accepted(jobs) => {
                one.heard = true;
                self.see(home, What::Acked { submission, jobs });
            }
            // Money may be on its way.
            Answer::Full | Answer::NoBudget(_) => {}
            _ => {
                one.heard = true;
                self.see(home, What::Refused { submission });
            }
        }
    }
}
