//! The carrier: it writes what the machines write, many steps in one transaction, and then does what stood behind it, in order.
//!
//! A write that fails ends it, and with it the machines: what stood behind the write is not done. Deciding what is done is absent.

use std::sync::Arc;

use polder_core::ids::NodeId;
use polder_core::job::RunId;
use polder_core::job::home::Answer;
use polder_core::statement::v1::{ExecutionStatement, Statement};
use tokio::sync::{mpsc, oneshot};

use super::channel::Parcel;
use super::{Answered, Parts};
use crate::executor::Start;
use crate::home::Judged;
use crate::store::{JobWrite, StoreError};

/// Acts past which no more are taken into one transaction.
const ACTS_AT_ONCE: usize = 4_096;

/// Which machine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Home,
    Factory,
}

/// One thing to do.
pub(super) enum Act {
    Write(JobWrite),
    /// A placement, for the log.
    Decided(Box<Judged>),
    /// What a run came to, for the log.
    Executed(Box<ExecutionStatement>),
    Send(Side, NodeId, Box<Parcel>),
    Reply(oneshot::Sender<Answered>, Answer),
    /// A refusal is an answer once the log covers it.
    Refuse(oneshot::Sender<Answered>, Answer, Option<Box<Judged>>),
    Start(Box<Start>),
    Extend(RunId, u64),
    Stop(RunId),
    Probe(RunId),
    Forget(RunId),
    /// Hands over what somebody saw.
    Tell(Box<dyn FnOnce() + Send>),
}

/// Carries out what comes, until nothing more comes or a write fails.
pub(super) async fn carry(parts: Arc<Parts>, mut waiting: mpsc::Receiver<Vec<Act>>) -> Result<(), StoreError> {
    while let Some(mut acts) = waiting.recv().await {
        while acts.len() < ACTS_AT_ONCE
            && let Ok(more) = waiting.try_recv()
        {
            acts.extend(more);
        }
        let (mut write, mut rest) = (JobWrite::default(), Vec::with_capacity(acts.len()));
        for act in acts {
            match act {
                Act::Write(mut one) => {
                    write.rows.append(&mut one.rows);
                    write.tickets.append(&mut one.tickets);
                    write.done.append(&mut one.done);
                }
                act => rest.push(act),
            }
        }
        if !write.is_empty() {
            parts
                .store
                .keep_jobs(&write)
                .await
                .inspect_err(|error| tracing::error!(%error, "jobs cannot be written down"))?;
        }
        for act in rest {
            carry_out(&parts, act).await;
        }
    }
    Ok(())
}

async fn carry_out(parts: &Arc<Parts>, act: Act) {
    match act {
        Act::Write(_) => {}
        Act::Decided(judged) => decided(parts, *judged).await,
        Act::Executed(statement) => {
            let id = statement.decision.clone();
            // What is not written here is found by the next look through the tickets.
            if let Err(error) = parts.log.append(id.as_str(), &Statement::Execution(*statement), None).await {
                tracing::error!(%error, decision = %id, "an execution could not be recorded");
            }
        }
        Act::Send(Side::Home, to, parcel) => parts.posts.put(&to, &parcel),
        Act::Send(Side::Factory, to, parcel) => parts.mailboxes.put(&to, &parcel),
        // Whoever asked may have gone.
        Act::Reply(sender, answer) => drop(sender.send(Answered { answer, refused: None })),
        Act::Refuse(sender, answer, judged) => {
            let parts = Arc::clone(parts);
            tokio::spawn(async move {
                let refused = match judged {
                    Some(judged) => refused(&parts, *judged).await,
                    None => None,
                };
                drop(sender.send(Answered { answer, refused }));
            });
        }
        Act::Tell(tell) => tell(),
        Act::Start(_) | Act::Extend(..) | Act::Stop(_) | Act::Probe(_) | Act::Forget(_) => run(parts, act),
    }
}

fn run(parts: &Parts, act: Act) {
    let Some(executor) = &parts.executor else { return };
    match act {
        Act::Start(start) => executor.start(*start),
        Act::Extend(run, until_ms) => executor.extend(&run, until_ms),
        Act::Stop(run) => executor.stop(&run),
        Act::Probe(run) => executor.probe(&run),
        Act::Forget(run) => executor.forget(&run),
        _ => {}
    }
}

/// A placement's leaf. Where its project asks for it, nothing is sent before the log covers it.
async fn decided(parts: &Parts, judged: Judged) {
    let Judged { id, bytes, objects, record, .. } = judged;
    let strict = parts.home.as_ref().is_some_and(|home| home.is_strict(&record.statement.request.project));
    let appended = parts.log.append_decision(id.as_str(), bytes, objects).await;
    let covered = match appended {
        Ok(pending) if strict => pending.covered().await.map(drop),
        appended => appended.map(drop),
    };
    if let Err(error) = covered {
        tracing::error!(%error, decision = %id, "a job's placement could not be recorded");
    }
}

async fn refused(parts: &Parts, judged: Judged) -> Option<Box<polder_core::statement::v1::DecisionRecord>> {
    let Judged { id, bytes, objects, record, .. } = judged;
    let pending = parts.log.append_decision(id.as_str(), bytes, objects).await.ok()?;
    pending.covered().await.ok()?;
    Some(Box::new(record))
}
