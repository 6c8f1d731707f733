//! The checkers: what must hold of every schedule, read from its trace alone.
//!
//! They share no code with the machines. What they hold against each other is what was sent, what was written, what processes
//! really did and what callers were told. A liar's own word counts for nothing, and what only hurts the liar is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use polder_core::ids::NodeId;
use polder_core::job::row::v1::JobRow;
use polder_core::job::{Epoch, JobId, Row, RunOutcome};
use polder_core::request::Request;

use super::Counts;
use super::plan::{Plan, PlannedJob};
use super::realm::Realm;
use super::trace::{Trace, What};

mod finale;
mod homes;
mod money;
mod runs;

/// How long after a change of policy what was decided before may still leave a node, in microseconds: its writes take time.
const UNDER_WAY_US: u64 = 1_000_000;
/// How long after a change a run may go on: a lease, drift, and the time to end.
const LEASE_US: u64 = 8_700_000;

/// What was seen so far.
pub(super) struct Watch<'a> {
    realm: &'a Realm,
    plan: &'a Plan,
    jobs: BTreeMap<JobId, Job<'a>>,
    /// Each site's version of policy or terms, since when, and which before.
    versions: Vec<(usize, u64, usize)>,
    /// Names of factories by their site.
    names: Vec<Option<NodeId>>,
    /// Durable runs at each site.
    runs: BTreeSet<(usize, JobId, Epoch)>,
    money: money::Money,
    violations: BTreeSet<String>,
    counts: Counts,
    rest_us: u64,
}

/// When a process ended, and with which code; neither while it runs, no code where it was killed.
type Ended = Option<(u64, Option<i32>)>;

/// What was seen of a job.
struct Job<'a> {
    home: usize,
    kind: usize,
    planned: &'a PlannedJob,
    after: Vec<JobId>,
    acked: bool,
    /// As it is written at its home.
    row: Option<&'a JobRow>,
    /// To whom each epoch was offered.
    offers: BTreeMap<Epoch, usize>,
    /// To whom each epoch was granted, and when first.
    grants: BTreeMap<Epoch, usize>,
    /// Where it runs now, since when, and since when it should not.
    live: BTreeMap<(usize, Epoch), (u64, Option<u64>)>,
    /// What became of each process: from, until, code.
    ran: BTreeMap<Epoch, (usize, u64, Ended)>,
    signed: BTreeMap<Epoch, (usize, RunOutcome, u64)>,
    /// When a person let it run again.
    rerun_us: Option<u64>,
    cancelled: bool,
}

/// Every violation, and what was counted.
pub fn all(realm: &Realm, plan: &Plan, trace: &Trace) -> (Vec<String>, Counts) {
    let sites = plan.homes + plan.factories;
    let names = (0..sites).map(|site| {
        let factory = site.checked_sub(plan.homes)?;
        NodeId::parse(Plan::factory_name(factory)).ok()
    });
    let mut watch = Watch {
        realm,
        plan,
        jobs: BTreeMap::new(),
        versions: vec![(0, 0, 0); sites],
        names: names.collect(),
        runs: BTreeSet::new(),
        money: money::Money::new(plan.homes),
        violations: BTreeSet::new(),
        counts: Counts::default(),
        rest_us: 0,
    };
    for seen in &trace.seen {
        watch.rest_us = seen.at_us;
        watch.look(seen.at_us, seen.site, &seen.what);
        if watch.violations.len() > 20 {
            break;
        }
    }
    watch.finale();
    (watch.violations.into_iter().collect(), watch.counts)
}

impl<'a> Watch<'a> {
    fn look(&mut self, at_us: u64, site: usize, what: &'a What) {
        match what {
            What::Submitted { kind, jobs, submission, .. } => {
                let planned = self.plan.submissions.get(*submission);
                for (place, (id, job)) in jobs.iter().enumerate() {
                    let after = planned.and_then(|one| one.jobs.get(place)).map(|one| one.after.as_slice());
                    let after = after.unwrap_or_default().iter().filter_map(|at| jobs.get(*at)).map(|(id, _)| *id);
                    self.jobs.insert(*id, Job::new(site, *kind, job, after.collect()));
                }
            }
            What::Acked { jobs, .. } => self.acked(jobs),
            What::Refused { .. } => {}
            What::Cancelled { job } => self.with(*job, |job| job.cancelled = true),
            What::Rerun { job } => self.with(*job, |job| job.rerun_us = Some(at_us)),
            What::Sent { to, message } => {
                self.counts.messages += 1;
                self.sent(at_us, site, *to, message);
            }
            What::Wrote(rows) => self.wrote(at_us, site, rows),
            What::Began { job, epoch, .. } => self.began(at_us, site, *job, *epoch),
            What::Ended { job, epoch, code } => self.ended(at_us, site, *job, *epoch, *code),
            What::Signed { job, epoch, outcome, cost_microeur, .. } => {
                self.signed(site, *job, *epoch, *outcome, *cost_microeur);
            }
            What::Policy(version) | What::Terms(version) => self.changed(at_us, site, *version),
            What::Booted => self.counts.crashes += u64::from(at_us > 0),
            What::Broken(what) => self.wrong(what.clone()),
        }
    }

    fn wrong(&mut self, what: String) {
        self.violations.insert(what);
    }

    fn with(&mut self, id: JobId, change: impl FnOnce(&mut Job<'a>)) {
        if let Some(job) = self.jobs.get_mut(&id) {
            change(job);
        }
    }

    fn is_liar(&self, site: usize) -> bool {
        self.plan.liar.is_some_and(|liar| liar + self.plan.homes == site)
    }

    fn request(&self, job: &Job<'_>) -> Option<&'a Request> {
        self.realm.request(job.kind)
    }

    fn site_of(&self, name: &NodeId) -> Option<usize> {
        self.names.iter().position(|known| known.as_ref() == Some(name))
    }

    /// Whether the owner's policy permits a job at a site: as it is, or as it was until just now.
    fn permitted(&self, at_us: u64, job: &Job<'_>, site: usize) -> bool {
        let (Some(request), Some(Some(name))) = (self.request(job), self.names.get(site)) else { return false };
        let Some((version, since_us, before)) = self.versions.get(job.home).copied() else { return false };
        let lately = at_us < since_us + UNDER_WAY_US && self.realm.permits(before, request, name);
        self.realm.permits(version, request, name) || lately
    }

    /// Whether a factory's terms permit a job: as they are, or as they were until just now.
    fn terms_permit(&self, at_us: u64, job: &Job<'_>, site: usize) -> bool {
        let (Some(request), Some(Some(name))) = (self.request(job), self.names.get(site)) else { return false };
        let Some((version, since_us, before)) = self.versions.get(site).copied() else { return false };
        let lately = at_us < since_us + UNDER_WAY_US && self.realm.terms_permit(before, request, name);
        self.realm.terms_permit(version, request, name) || lately
    }

    /// A policy or terms change: what runs against them has a lease's time to end.
    fn changed(&mut self, at_us: u64, site: usize, version: usize) {
        if let Some(known) = self.versions.get_mut(site) {
            *known = (version, at_us, known.0);
        }
        let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| !job.live.is_empty()).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(job) = self.jobs.get(&id) else { continue };
            let far_us = at_us + 2 * UNDER_WAY_US;
            let may = |place: usize| self.permitted(far_us, job, place) && self.terms_permit(far_us, job, place);
            let against: Vec<((usize, Epoch), bool)> = job.live.keys().map(|key| (*key, !may(key.0))).collect();
            let mut late = Vec::new();
            self.with(id, |job| {
                for (key, against) in against {
                    let Some((_, since)) = job.live.get_mut(&key) else { continue };
                    match (against, *since) {
                        (true, None) => *since = Some(at_us),
                        (false, Some(from)) => {
                            late.push((key.0, at_us.saturating_sub(from)));
                            *since = None;
                        }
                        _ => {}
                    }
                }
            });
            late.into_iter().for_each(|(site, for_us)| self.too_long(id, site, for_us));
        }
    }

    fn too_long(&mut self, id: JobId, site: usize, for_us: u64) {
        if for_us > LEASE_US && !self.is_liar(site) {
            self.wrong(format!("{id} ran {} ms longer than policies or terms permit", for_us / 1_000));
        }
    }

    fn acked(&mut self, jobs: &[JobId]) {
        for id in jobs {
            match self.jobs.get_mut(id) {
                Some(job) => {
                    job.acked = true;
                    if job.row.is_none() {
                        self.wrong(format!("{id} was acknowledged before it was written"));
                    }
                }
                None => self.wrong(format!("{id} was acknowledged and never submitted")),
            }
        }
    }

    fn wrote(&mut self, at_us: u64, site: usize, rows: &'a [Row]) {
        for row in rows {
            match row {
                Row::Job(id, row) => self.wrote_job(at_us, site, *id, row),
                Row::Entry(entry) => {
                    let found = self.money.post(site, entry);
                    found.into_iter().for_each(|what| self.wrong(what));
                }
                Row::Run(run, _) => drop(self.runs.insert((site, run.job, run.epoch))),
                Row::RunOver(run) => drop(self.runs.remove(&(site, run.job, run.epoch))),
                Row::Submission(_) | Row::Slice(..) => {}
            }
        }
    }
}

impl<'a> Job<'a> {
    fn new(home: usize, kind: usize, planned: &'a PlannedJob, after: Vec<JobId>) -> Self {
        Self {
            home,
            kind,
            planned,
            after,
            acked: false,
            row: None,
            offers: BTreeMap::new(),
            grants: BTreeMap::new(),
            live: BTreeMap::new(),
            ran: BTreeMap::new(),
            signed: BTreeMap::new(),
            rerun_us: None,
            cancelled: false,
        }
    }
}
