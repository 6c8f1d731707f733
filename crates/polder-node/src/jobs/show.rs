//! Jobs as people and programs see them: one JSON value for each, and one for each charge.
//!
//! What a job's command says is absent: that is its output, which stays at its factory until somebody who may asks for it.

use std::collections::BTreeMap;

use polder_core::ids::{NodeId, ProjectId};
use polder_core::job::home::Home;
use polder_core::job::queue::Why;
use polder_core::job::row::v1::{End, JobRow, Receipted, State};
use polder_core::job::{Epoch, JobId, RunId, Verdict};
use polder_core::ledger::books::Account;
use polder_core::placement::Decision;
use polder_core::policy::Cause;
use serde_json::{Value, json};

use super::Machines;
use crate::refusal;

/// Where a job stands, in a word.
fn word(state: &State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Offered { .. } => "offered",
        State::Leased => "running",
        State::Stopping { .. } => "stopping",
        State::Held => "held",
        State::Over(End::Succeeded(_)) => "succeeded",
        State::Over(End::Failed(_)) => "failed",
        State::Over(End::Dependency(_)) => "dependency-failed",
        State::Over(End::Cancelled) => "cancelled",
        State::Over(End::Unaffordable) => "unaffordable",
    }
}

/// Why a job waits, in a sentence.
fn sentence(why: &Why) -> String {
    let list = |ids: &[JobId]| ids.iter().take(4).map(JobId::to_string).collect::<Vec<_>>().join(", ");
    match why {
        Why::After(left) => format!("it waits for {} jobs that must succeed before: {}", left.len(), list(left)),
        Why::Refused => "no policy, or no factory's terms, permit it anywhere now".to_owned(),
        Why::NoRoom => "where it may run there is no room now, or nobody answers".to_owned(),
        Why::Price => "where it may run its time costs more than `cost_microeur_max` allows".to_owned(),
        Why::Unfit => "no factory that may run it has what it needs".to_owned(),
        Why::Next => "it is looked at next".to_owned(),
        Why::Asked => "a factory is being asked".to_owned(),
        Why::Held => {
            "nobody knows how far its last run came, and it says that a person decides: `polder rerun` or `polder cancel`".to_owned()
        }
        Why::Kept(other) => format!("room is kept for {other}, which has waited longer"),
    }
}

fn factory_of(row: &JobRow) -> Option<&NodeId> {
    match &row.state {
        State::Waiting | State::Held => None,
        State::Offered { factory, .. } => Some(factory),
        _ => row.leased.as_ref().map(|lease| &lease.factory),
    }
}

/// One job in a line.
fn summary(machines: &Machines<'_>, home: &Home, id: JobId, row: &JobRow) -> Value {
    let (spec, request) = (&row.order.spec, &row.order.request);
    let settled = row.receipts.values().filter(|one| one.verdict == Verdict::Settled);
    let mut said = settled.map(|one| &one.receipt.value);
    let why = home.why(id);
    json!({
        "id": id,
        "name": spec.name,
        "index": row.order.index,
        "tasks": spec.array,
        "project": request.project,
        "state": word(&row.state),
        "why": why,
        "why_sentence": why.as_ref().map(sentence),
        "factory": factory_of(row),
        "epoch": row.epoch,
        "decision": decision(machines, id, row.leased.as_ref().map_or(row.epoch, |lease| lease.epoch)),
        "submitted_ms": row.submitted_ms,
        "serial": row.serial,
        "ran_ms": said.clone().map(|one| one.ran_ms).sum::<u64>(),
        "cost_microeur": said.clone().map(|one| one.cost_microeur).sum::<u64>(),
        "outcome": said.next_back().map(|one| one.outcome),
        "disputes": row.receipts.values().filter(|one| is_open(one)).count(),
    })
}

fn is_open(one: &Receipted) -> bool {
    matches!(one.verdict, Verdict::Disputed(_)) && one.resolved_microeur.is_none()
}

fn decision(machines: &Machines<'_>, job: JobId, epoch: Epoch) -> Option<Value> {
    let mut of_job = machines.tickets.iter().filter(|(run, _)| run.job == job && run.epoch == epoch);
    of_job.next().map(|(_, ticketed)| json!(ticketed.ticket.decision))
}

/// The jobs of a project, or of all, newest first: at most `limit`, those that came before `before`.
pub fn listed(machines: &Machines<'_>, project: Option<&ProjectId>, before: u64, limit: usize) -> Value {
    let Some(home) = machines.home else { return json!({"jobs": []}) };
    let seen = |row: &JobRow| project.is_none_or(|project| row.order.request.project == *project);
    let mut rows: Vec<(JobId, &JobRow)> = home.jobs().filter(|(_, row)| row.serial < before && seen(row)).collect();
    rows.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(row.serial));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(_, row)| row.serial.to_string());
    let jobs: Vec<Value> = rows.into_iter().map(|(id, row)| summary(machines, home, id, row)).collect();
    json!({"jobs": jobs, "next": next})
}

/// One job with everything that is known of it.
pub fn shown(machines: &Machines<'_>, project: Option<&ProjectId>, id: JobId) -> Option<Value> {
    let home = machines.home?;
    let row = home.job(id).filter(|row| project.is_none_or(|project| row.order.request.project == *project))?;
    let mut shown = summary(machines, home, id, row);
    let receipts = row.receipts.iter().map(|(epoch, one)| {
        let said = &one.receipt.value;
        json!({
            "epoch": epoch, "factory": said.factory, "outcome": said.outcome, "ran_ms": said.ran_ms,
            "cost_microeur": said.cost_microeur, "verdict": one.verdict, "resolved_microeur": one.resolved_microeur,
            "decision": decision(machines, id, *epoch),
        })
    });
    shown["receipts"] = receipts.collect();
    shown["after"] = json!(row.after);
    shown["order"] = json!(row.order);
    shown["failures"] = row.failures.into();
    shown["lapses"] = row.lapses.into();
    Some(shown)
}

/// Why a job stands where it stands, and what each factory says to it now.
pub fn explained(mut shown: Value, decision: &Decision, hindrances: &BTreeMap<NodeId, Vec<Cause>>) -> Value {
    let mut verdicts = decision.verdicts.clone();
    for verdict in &mut verdicts {
        let more = hindrances.get(&verdict.factory).into_iter().flatten().cloned();
        verdict.causes.extend(more.collect::<Vec<_>>());
    }
    shown["verdicts"] = json!(verdicts);
    shown["refusals"] = refusal::refusals(&verdicts);
    shown["nearest"] = refusal::nearest(&decision.nearest);
    shown["outcome_now"] = json!(decision.outcome);
    shown
}

/// What was charged for jobs, and what every account holds.
pub fn usage(machines: &Machines<'_>) -> Value {
    let Some(home) = machines.home else { return json!({"charges": [], "accounts": []}) };
    let mut charges = Vec::new();
    for (id, row) in home.jobs() {
        for (epoch, one) in &row.receipts {
            charges.push(charge(machines, id, row, (*epoch, one)));
        }
    }
    charges.sort_by_key(|charge| (charge["started_ms"].as_u64(), charge["job"].to_string()));
    let accounts = home.books().accounts().map(
        |(award, account, microeur)| json!({"award": award, "account": account_text(account), "microeur": microeur}),
    );
    json!({"charges": charges, "accounts": accounts.collect::<Vec<_>>()})
}

fn charge(machines: &Machines<'_>, id: JobId, row: &JobRow, (epoch, one): (Epoch, &Receipted)) -> Value {
    let (said, request, spec) = (&one.receipt.value, &row.order.request, &row.order.spec);
    let run = machines.tickets.iter().find(|(run, _): &(&RunId, _)| run.job == id && run.epoch == epoch);
    let decision = run.map(|(_, ticketed)| &ticketed.ticket.decision);
    // A decision's id holds its instant; the run began at once after it.
    let started_ms = decision.map_or(row.submitted_ms, |decision| decision.at_ms());
    json!({
        "job": id, "epoch": epoch, "name": spec.name, "index": row.order.index,
        "tenant": request.tenant, "project": request.project, "award": row.order.award, "factory": said.factory,
        "outcome": said.outcome, "verdict": one.verdict, "decision": decision,
        "started_ms": started_ms, "ended_ms": started_ms.saturating_add(said.ran_ms), "ran_ms": said.ran_ms,
        "cores": spec.resources.cores, "accelerators": spec.resources.accelerators, "memory_mib": spec.resources.memory_mib,
        "microeur": match one.verdict {
            Verdict::Settled => said.cost_microeur,
            _ => one.resolved_microeur.unwrap_or(0),
        },
    })
}

fn account_text(account: &Account) -> String {
    match account {
        Account::Outside => "outside".to_owned(),
        Account::Award => "award".to_owned(),
        Account::Slice(node) => format!("slice/{node}"),
        Account::Tenant(tenant) => format!("tenant/{tenant}"),
        Account::Project(_, project) => format!("project/{project}"),
        Account::Held(job) => format!("held/{job}"),
        Account::Factory(node) => format!("factory/{node}"),
    }
}
