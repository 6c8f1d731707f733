//! What the log says of runs, and what is kept until it does.
//!
//! A run's execution is stated by its factory when it has ended, like a request's; the ticket ties it to the decision that placed it. Signing receipts about
//! money is the machine's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use polder_core::job::row::v1::{JobRow, RunRow, State};
use polder_core::job::{JobId, RunId, RunOutcome, home};
use polder_core::statement::v1::{ExecutionOutcome, ExecutionStatement, Statement};

use super::Parts;
use crate::clock::now_ms;
use crate::home::{Home, Ticketed};
use crate::store::{JobWrite, StoreError, TicketRow};

/// Between two looks at which factories have answered.
const STEP: Duration = Duration::from_millis(20);

/// The tickets of one side, by their runs. One that cannot be read is as good as none.
pub(super) fn tickets(rows: &[TicketRow], home: bool) -> BTreeMap<RunId, Ticketed> {
    let side = if home { "home/" } else { "factory/" };
    let one = |row: &TicketRow| Some((run_of(row.run.strip_prefix(side)?)?, serde_json::from_slice(&row.ticket).ok()?));
    rows.iter().filter_map(one).collect()
}

fn run_of(text: &str) -> Option<RunId> {
    let mut parts = text.split('/');
    let home = polder_core::ids::NodeId::parse(parts.next()?).ok()?;
    Some(RunId { home, job: JobId::parse(parts.next()?)?, epoch: parts.next()?.parse().ok()? })
}

/// What this factory says of a run that has ended.
pub(super) fn executed(parts: &Parts, run: &RunId, row: &RunRow, ticketed: &Ticketed) -> Option<ExecutionStatement> {
    let receipt = &row.receipt.as_ref()?.value;
    let (ticket, factory) = (&ticketed.ticket, parts.factory.as_ref()?);
    let ended_ms = now_ms();
    let outcome = match receipt.outcome {
        RunOutcome::Succeeded => ExecutionOutcome::Completed,
        RunOutcome::Failed(_) | RunOutcome::TimedOut | RunOutcome::NotStarted | RunOutcome::Interrupted => {
            ExecutionOutcome::Failed
        }
        RunOutcome::Stopped | RunOutcome::Evicted | RunOutcome::LeaseEnded => ExecutionOutcome::Cancelled,
    };
    Some(ExecutionStatement {
        factory: parts.me.clone(),
        home: run.home.clone(),
        tenant: row.order.request.tenant.clone(),
        decision: ticket.decision.clone(),
        ticket: ticket.digest().ok()?,
        body: ticket.body,
        terms: factory.terms().digest(),
        model: None,
        model_digest: None,
        backend: parts.executor.as_ref().map_or("none", |executor| executor.name()).to_owned(),
        prompt_tokens: 0,
        completion_tokens: 0,
        started_ms: ended_ms.saturating_sub(receipt.ran_ms),
        ended_ms,
        outcome,
    })
}

/// Writes what a crash kept from the log, and lets go of what the log has.
pub(super) async fn look_through(parts: &Arc<Parts>) -> Result<(), StoreError> {
    let mut write = JobWrite::default();
    for row in parts.store.job_tickets().await? {
        let Some(bytes) = &row.statement else { continue };
        let Ok(Statement::Execution(statement)) = serde_json::from_slice(bytes) else { continue };
        let id = statement.decision.to_string();
        if parts.store.leaf("execution", &id).await?.is_some() {
            write.done.push(row.run);
        } else if let Err(error) = parts.log.append(&id, &Statement::Execution(statement), None).await {
            tracing::error!(%error, decision = %id, "an execution could not be recorded");
        }
    }
    if write.is_empty() { Ok(()) } else { parts.store.keep_jobs(&write).await }
}

/// Waits until every factory where a job of this home runs has been heard of, or for so long.
pub(super) async fn wait_to_hear(home: &Home, machine: &home::Home, most: Duration) {
    let over = tokio::time::Instant::now() + most;
    let runs = |row: &JobRow| matches!(row.state, State::Leased | State::Offered { .. });
    let of = |row: &JobRow| match (&row.state, &row.leased) {
        (State::Offered { factory, .. }, _) => Some(factory.clone()),
        (_, lease) => lease.as_ref().map(|lease| lease.factory.clone()),
    };
    let asked: std::collections::BTreeSet<_> =
        machine.jobs().map(|(_, row)| row).filter(|row| runs(row)).filter_map(of).collect();
    while !asked.iter().all(|factory| home.view.has_heard_of(factory)) && tokio::time::Instant::now() < over {
        tokio::time::sleep(STEP).await;
    }
}

/// Counts a job that is over, by how it ended.
pub(super) fn count(_: JobId, row: &JobRow) {
    use polder_core::job::row::v1::End;
    let State::Over(end) = &row.state else { return };
    crate::metrics::job_over(match end {
        End::Succeeded(_) => "succeeded",
        End::Failed(_) => "failed",
        End::Dependency(_) => "dependency",
        End::Cancelled => "cancelled",
        End::Unaffordable => "unaffordable",
    });
}
