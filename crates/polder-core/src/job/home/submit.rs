//! Submitting jobs, taking them back, and letting a held one run.
//!
//! A submission has a key of its tenant's choice: whoever sends it again because no answer came gets the same jobs, and whoever
//! uses the key for something else is told so. All jobs of a submission are kept, or none. Reading job files is absent.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Answer, Home, Job, Live, Outlook, new_row};
use crate::canonical::{self, Digest};
use crate::ids::TenantId;
use crate::job::row::v1::{End, Row, State, SubmissionRow};
use crate::job::{JobId, Now, Order};
use crate::placement::Outcome;

/// Jobs that are submitted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Whom to answer.
    pub call: u64,
    /// Whose jobs.
    pub tenant: TenantId,
    /// The tenant's name for this submission.
    pub key: String,
    /// Each job with a fresh id and the places, before its own, of the jobs that must have succeeded before it.
    pub jobs: Vec<(JobId, Arc<Order>, BTreeSet<usize>)>,
}

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

impl Home {
    /// Keeps jobs, or says why not.
    pub(super) fn submit(&mut self, now: Now, submission: Submission, outlook: &mut dyn Outlook) {
        let Submission { call, tenant, key, jobs } = submission;
        let digests: Option<Vec<Digest>> = jobs.iter().map(|(_, order, _)| order.digest().ok()).collect();
        let Some(digests) = digests.filter(|_| key.len() <= KEY_BYTES_MAX) else {
            return self.reply(call, Answer::Unknown);
        };
        let digest = digest_of(&jobs, &digests);
        if let Some(before) = self.submissions.get(&(tenant.clone(), key.clone())) {
            let same = before.digest == digest;
            let answer = if same { Answer::Accepted(before.jobs.clone()) } else { Answer::Conflict };
            return self.reply(call, answer);
        }
        let open = self.jobs.values().filter(|job| !matches!(job.row.state, State::Over(_))).count();
        if open.saturating_add(jobs.len()) > self.settings.jobs_max {
            return self.reply(call, Answer::Full);
        }
        let sound = |(place, (id, order, after)): (usize, &(JobId, Arc<Order>, BTreeSet<usize>))| {
            !self.jobs.contains_key(id) && order.request.tenant == tenant && after.iter().all(|before| *before < place)
        };
        let ids: Vec<JobId> = jobs.iter().map(|(id, _, _)| *id).collect();
        let different = ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
        if jobs.is_empty() || !different || !jobs.iter().enumerate().all(sound) {
            return self.reply(call, Answer::Unknown);
        }
        // A factory that is down or full now may be there later: only a no of the rules is one.
        let mut nowhere =
            |order: &Order| outlook.decide(&order.request, &Default::default()).outcome == Outcome::Refused;
        if let Some(refused) = jobs.iter().position(|(_, order, _)| nowhere(order)) {
            return self.reply(call, Answer::Refused(refused));
        }
        if let Some(short) = self.lacking(&jobs) {
            return self.reply(call, Answer::NoBudget(short));
        }
        for ((id, order, after), digest) in jobs.into_iter().zip(digests) {
            // Enough is there: it was added up before.
            drop(self.reserve(id, &order));
            let after: BTreeSet<JobId> = after.iter().filter_map(|place| ids.get(*place).copied()).collect();
            after.iter().for_each(|before| self.dependents.entry(*before).or_default().push(id));
            self.serial = self.serial.saturating_add(1);
            let row = new_row(order, digest, after, self.serial, now);
            self.jobs.insert(id, Job { row, live: Live::new(now.mono_ms) });
            self.dirty.insert(id);
        }
        let row = SubmissionRow { tenant: tenant.clone(), key: key.clone(), digest, jobs: ids.clone() };
        self.rows.push(Row::Submission(row.clone()));
        self.submissions.insert((tenant, key), row);
        self.pass_at = Some(now.mono_ms);
        self.reply(call, Answer::Accepted(ids));
    }

    /// What the projects lack for all of these jobs together, in micro-euro.
    fn lacking(&self, jobs: &[(JobId, Arc<Order>, BTreeSet<usize>)]) -> Option<i64> {
        let mut wanted = std::collections::BTreeMap::new();
        for (_, order, _) in jobs {
            let purse = (&order.award, &order.request.project);
            let sum: &mut u64 = wanted.entry(purse).or_default();
            *sum = sum.saturating_add(order.spec.cost_microeur_max);
        }
        wanted.into_iter().find_map(|((award, project), sum)| {
            let tenant = &jobs.first()?.1.request.tenant;
            let account = crate::ledger::books::Account::Project(tenant.clone(), project.clone());
            let sum = i64::try_from(sum).unwrap_or(i64::MAX);
            let short = sum.saturating_sub(self.books.balance(award, &account));
            (short > 0).then_some(short)
        })
    }

    /// Takes a job back.
    pub(super) fn cancel(&mut self, now: Now, call: u64, id: JobId) {
        let Some(state) = self.jobs.get(&id).map(|job| job.row.state.clone()) else {
            return self.reply(call, Answer::Unknown);
        };
        let answer = match state {
            State::Over(_) => Answer::Done,
            State::Waiting | State::Held => {
                self.over(now, id, End::Cancelled);
                Answer::Done
            }
            State::Offered { factory, .. } => {
                self.unoffer(now, id, &factory);
                self.over(now, id, End::Cancelled);
                Answer::Done
            }
            State::Leased | State::Stopping { cancelled: false } => {
                self.stop_run(now, id, true);
                Answer::Ending
            }
            State::Stopping { cancelled: true } => Answer::Ending,
        };
        self.reply(call, answer);
    }

    /// A person lets a held job run again.
    pub(super) fn rerun(&mut self, now: Now, call: u64, id: JobId) {
        if self.jobs.get(&id).is_none_or(|job| job.row.state != State::Held) {
            return self.reply(call, Answer::Unknown);
        }
        self.again(now, id);
        self.reply(call, Answer::Done);
    }
}

fn digest_of(jobs: &[(JobId, Arc<Order>, BTreeSet<usize>)], digests: &[Digest]) -> Digest {
    let mut bytes = Vec::new();
    for ((_, _, after), digest) in jobs.iter().zip(digests) {
        bytes.extend(digest.0);
        bytes.extend(after.len().to_be_bytes());
        bytes.extend(after.iter().flat_map(|place| place.to_be_bytes()));
    }
    canonical::hash("polder/job-submission/v1", &[&bytes])
}
