//! What is kept and what goes: retention classes applied by age and by hand, and legal holds.
//!
//! A statement goes with its salt, and its leaf stays: the log is as verifiable as before, and nothing leads from the leaf to what
//! it stood for. The deletion is a leaf itself, written in one transaction with it. A decision goes together with its execution at
//! this very node, or neither goes. What may go is said by `polder_core::retention`; nothing goes by age while the clock is not
//! to be believed. What applications store is absent: it has a time of its own.

use std::sync::Arc;
use std::time::Duration;

use polder_core::ids::{NodeId, ProjectId};
use polder_core::retention::{Class, Hold, Item, Rules, Stays, due, ranges};
use polder_core::statement::v1::{DeletionStatement, Ground, HoldAct, HoldScope, HoldStatement, Statement};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::clock::{now_ms, random};
use crate::log::{Log, LogError};
use crate::node::Node;
use crate::shutdown::Shutdown;
use crate::store::{Beside, Deletion, Store, StoreError, StoredHold};

/// How often what is old is looked for.
const EVERY: Duration = Duration::from_secs(3_600);
/// Most leaves of one deletion.
const LEAVES_MAX: usize = 4_096;
/// Longest reason for a hold, in characters.
const REASON_MAX: usize = 200;
/// When something that is held is looked at again, in milliseconds.
const HELD_MS: u64 = 86_400_000;

/// Why something is not kept, not held or not deleted as asked.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// It stays, and why.
    #[error("`{id}` is not deleted: {stays}")]
    Stays {
        /// Which decision.
        id: String,
        /// Why.
        stays: Stays,
    },
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be as it was said.
    #[error("{0}")]
    Invalid(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] std::io::Error),
}

/// What came of a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// How many leaves say nothing any more.
    pub leaves: u64,
    /// How many decisions and executions a legal hold kept.
    pub held: u64,
    /// How many are too young.
    pub young: u64,
    /// The leaves that say so.
    pub deletions: Vec<u64>,
}

/// A decision with its execution at this very node, or an execution for another home: what goes together.
struct Unit {
    id: String,
    items: Vec<Item>,
}

/// What a node keeps, and for how long.
pub struct Retention {
    node: NodeId,
    rules: Rules,
    log: Log,
    store: Store,
    /// One change at a time: nothing is held while it is deleted.
    turn: Mutex<()>,
}

impl Retention {
    /// The keeping of a node's statements under these rules.
    pub async fn open(node: NodeId, rules: Rules, log: Log, store: Store) -> Result<Self, StoreError> {
        store.look_at_all_again().await?;
        Ok(Self { node, rules, log, store, turn: Mutex::default() })
    }

    /// Every hold, the newest first.
    pub async fn holds(&self) -> Result<Vec<StoredHold>, StoreError> {
        self.store.holds().await
    }

    async fn in_force(&self) -> Result<Vec<Hold>, StoreError> {
        let holds = self.store.holds().await?.into_iter().filter(|hold| hold.lifted_ms.is_none());
        Ok(holds.map(|hold| Hold { id: hold.id, scope: hold.scope }).collect())
    }

    /// Puts a hold on a tenant's or a project's statements.
    pub async fn put(&self, scope: HoldScope, reason: &str, by: &str) -> Result<StoredHold, RetentionError> {
        let digits: [u8; 8] = random()?;
        let id = format!("hold-{}", hex::encode(digits));
        let _turn = self.turn.lock().await;
        self.record(&id, HoldAct::Put, scope, reason, by).await?;
        self.hold(&id).await
    }

    /// Puts a hold on a decision, and on what it came to at this node.
    pub async fn put_on(&self, id: &str, reason: &str, by: &str) -> Result<StoredHold, RetentionError> {
        let unit = self.unit(id).await?.ok_or_else(|| unknown(id))?;
        self.put(HoldScope::Leaves(unit.items.iter().map(|item| item.place).collect()), reason, by).await
    }

    /// Lifts a hold.
    pub async fn lift(&self, id: &str, reason: &str, by: &str) -> Result<StoredHold, RetentionError> {
        let _turn = self.turn.lock().await;
        let hold = self.hold(id).await?;
        if hold.lifted_ms.is_some() {
            return Err(RetentionError::Unknown(format!("the hold `{id}` is lifted already")));
        }
        self.record(id, HoldAct::Lifted, hold.scope, reason, by).await?;
        self.hold(id).await
    }

    async fn hold(&self, id: &str) -> Result<StoredHold, RetentionError> {
        let found = self.store.holds().await?.into_iter().find(|hold| hold.id == id);
        let id: String = id.chars().take(64).collect();
        found
            .ok_or_else(|| RetentionError::Unknown(format!("no hold `{id}`: `polder hold list` shows those there are")))
    }

    async fn record(
        &self,
        id: &str,
        act: HoldAct,
        scope: HoldScope,
        reason: &str,
        by: &str,
    ) -> Result<(), RetentionError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control) {
            let message = format!("a hold has a reason: 1 to {REASON_MAX} characters, such as the case's number");
            return Err(RetentionError::Invalid(message));
        }
        let (node, hold, reason, by) = (self.node.clone(), id.to_owned(), reason.to_owned(), by.to_owned());
        let said = HoldStatement { node, hold, act, at_ms: now_ms(), scope, reason, by };
        let pending = self.log.append_beside(&Statement::Hold(said.clone()), Beside::Hold(said)).await?;
        pending.covered().await?;
        Ok(())
    }

    /// Deletes a decision's statements on somebody's word.
    pub async fn forget(&self, id: &str, ground: Ground, by: &str, now_ms: u64) -> Result<Deleted, RetentionError> {
        let _turn = self.turn.lock().await;
        let unit = self.unit(id).await?.ok_or_else(|| unknown(id))?;
        let holds = self.in_force().await?;
        let class = self.due(&holds, &unit, ground, now_ms);
        let class = class.map_err(|stays| RetentionError::Stays { id: id.to_owned(), stays })?.clone();
        let mut deleted = Deleted::default();
        self.delete(&class, ground, by, vec![unit], &mut deleted).await?;
        Ok(deleted)
    }

    /// Deletes what is older than an instant of a project, as far as it may go.
    pub async fn forget_project(
        &self,
        project: &ProjectId,
        before_ms: u64,
        ground: Ground,
        by: &str,
        now_ms: u64,
    ) -> Result<Deleted, RetentionError> {
        let of_it = |unit: &Unit| {
            let of_project = |item: &Item| item.project.as_ref() == Some(project) && item.at_ms < before_ms;
            unit.items.iter().all(of_project)
        };
        let _turn = self.turn.lock().await;
        self.store.look_at_all_again().await?;
        self.go_through((u64::MAX, ground, by, now_ms), &of_it).await
    }

    /// Deletes what has reached the age of its class.
    pub async fn sweep(&self, now_ms: u64) -> Result<Deleted, RetentionError> {
        let _turn = self.turn.lock().await;
        let youngest = u64::from(self.rules.days_min()).saturating_mul(86_400_000);
        self.go_through((now_ms.saturating_sub(youngest), Ground::Age, "node", now_ms), &|_| true).await
    }

    /// Goes through the batches that were written by an instant, and deletes of what is wanted what may go.
    async fn go_through(
        &self,
        (written_ms, ground, by, now_ms): (u64, Ground, &str, u64),
        wanted: &(dyn Fn(&Unit) -> bool + Sync),
    ) -> Result<Deleted, RetentionError> {
        let (holds, mut deleted, mut after) = (self.in_force().await?, Deleted::default(), None);
        loop {
            let firsts = self.store.aged(after, written_ms, now_ms).await?;
            let Some(last) = firsts.last().copied() else { break };
            for first in firsts {
                let (mut going, mut next_ms) = (Vec::<(Class, Unit)>::new(), u64::MAX);
                for unit in self.units(first).await? {
                    if !wanted(&unit) {
                        continue;
                    }
                    match self.due(&holds, &unit, ground, now_ms) {
                        Ok(class) => going.push((class.clone(), unit)),
                        Err(Stays::Held(_)) => {
                            deleted.held += 1;
                            next_ms = next_ms.min(now_ms.saturating_add(HELD_MS));
                        }
                        Err(Stays::Young { until_ms, .. }) => {
                            deleted.young += 1;
                            next_ms = next_ms.min(until_ms);
                        }
                    }
                }
                going.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
                for group in going.chunk_by(|(one, _), (other, _)| one == other) {
                    let Some((class, _)) = group.first() else { continue };
                    let units = group.iter().map(|(_, unit)| Unit { id: unit.id.clone(), items: unit.items.clone() });
                    self.delete(class, ground, by, units.collect(), &mut deleted).await?;
                }
                if ground == Ground::Age {
                    self.store.look_again(first, next_ms).await?;
                }
            }
            after = Some(last);
        }
        Ok(deleted)
    }

    /// The class of a unit, where all of it may go.
    fn due(&self, holds: &[Hold], unit: &Unit, ground: Ground, now_ms: u64) -> Result<&Class, Stays> {
        let mut class = &self.rules.default;
        for item in unit.items.iter().rev() {
            class = due(&self.rules, holds, item, ground, now_ms)?;
        }
        Ok(class)
    }

    /// Writes the deletion's leaf and wipes what it names, both or neither.
    async fn delete(
        &self,
        class: &Class,
        ground: Ground,
        by: &str,
        units: Vec<Unit>,
        deleted: &mut Deleted,
    ) -> Result<(), RetentionError> {
        let leaves: Vec<(u64, String)> =
            units.iter().flat_map(|unit| unit.items.iter().map(|item| (item.place, unit.id.clone()))).collect();
        for some in leaves.chunks(LEAVES_MAX) {
            let statement = DeletionStatement {
                node: self.node.clone(),
                at_ms: now_ms(),
                leaves: ranges(some.iter().map(|(place, _)| *place).collect()),
                class: class.name.clone(),
                days: class.days,
                ground,
                by: by.to_owned(),
            };
            let said = Statement::Deletion(statement.clone());
            let deletion = Deletion { statement, leaves: some.to_vec() };
            let pending = self.log.append_beside(&said, Beside::Deletion(deletion)).await?;
            deleted.deletions.push(pending.covered().await?);
            deleted.leaves += some.len() as u64;
        }
        if !leaves.is_empty() && !self.store.cut_wal().await? {
            let reason = "readers keep the write-ahead log open: it holds pages of before until it is cut off";
            tracing::warn!(reason, "a deletion is not out of every file yet");
        }
        Ok(())
    }

    /// What goes together under a decision's id.
    async fn unit(&self, id: &str) -> Result<Option<Unit>, RetentionError> {
        self.log.settled().await;
        for kind in ["decision", "execution"] {
            let Some(leaf) = self.store.leaf(kind, id).await? else { continue };
            let said = serde_json::from_slice(&leaf.statement).map_err(|_| LogError::Damaged(leaf.index))?;
            return self.unit_of(leaf.index, &said).await;
        }
        Ok(None)
    }

    /// What goes together, of the batch that begins at a place.
    async fn units(&self, first: u64) -> Result<Vec<Unit>, RetentionError> {
        let Some(batch) = self.store.batch_at(first).await? else { return Ok(Vec::new()) };
        let mut units = Vec::new();
        for (place, (_, statement)) in (first..).zip(&batch.leaves) {
            // One that was wiped before, or that cannot be read, is not deleted.
            let Ok(said) = serde_json::from_slice(statement) else { continue };
            units.extend(self.unit_of(place, &said).await?);
        }
        Ok(units)
    }

    /// The unit that begins with a leaf; `None` for what is never deleted, and for an execution that goes with its decision.
    async fn unit_of(&self, place: u64, said: &Statement) -> Result<Option<Unit>, RetentionError> {
        match said {
            Statement::Decision(decision) => {
                let (tenant, project) = (decision.request.tenant.clone(), Some(decision.request.project.clone()));
                let id = decision.id.to_string();
                let mut items =
                    vec![Item { place, at_ms: decision.at_ms, tenant: tenant.clone(), project: project.clone() }];
                if decision.factory.as_ref() == Some(&self.node)
                    && let Some(own) = self.store.leaf("execution", &id).await?
                    && let Ok(Statement::Execution(own_said)) = serde_json::from_slice(&own.statement)
                {
                    items.push(Item { place: own.index, at_ms: own_said.ended_ms, tenant, project });
                }
                Ok(Some(Unit { id, items }))
            }
            Statement::Execution(execution) if execution.home != self.node => {
                let (at_ms, tenant) = (execution.ended_ms, execution.tenant.clone());
                let items = vec![Item { place, at_ms, tenant, project: None }];
                Ok(Some(Unit { id: execution.decision.to_string(), items }))
            }
            _ => Ok(None),
        }
    }
}

fn unknown(id: &str) -> RetentionError {
    let id: String = id.chars().take(64).collect();
    RetentionError::Unknown(format!("no decision or execution `{id}` is kept at this node"))
}

/// Deletes what is old enough, now and again, as long as the clock is to be believed.
pub async fn sweeps(node: Arc<Node>, mut shutdown: Shutdown) {
    loop {
        let now = now_ms();
        match node.clock_fault(now).await {
            Some(fault) => tracing::warn!(reason = %fault, "nothing is deleted by its age"),
            None => match node.retention.sweep(now).await {
                Ok(swept) if swept.leaves > 0 => {
                    tracing::info!(
                        leaves = swept.leaves,
                        held = swept.held,
                        "statements were deleted: their time was over"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "what is old could not be deleted"),
            },
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests;
