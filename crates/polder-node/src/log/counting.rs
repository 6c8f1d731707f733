//! The log's numbers: each leaf is counted by the writer as it is written, so that no number is ever given for what is not on disk.
//!
//! The counters are kept with the links; a start goes on from there over the leaves that came after. Counting itself is
//! `polder_core::chain`. A node that has an older log counts it from its first leaf.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use polder_core::chain::{ChainName, Counted as CountedLeaf, Counters, Opening};
use polder_core::ids::NodeId;
use polder_core::statement::commitment;
use polder_core::statement::v1::Statement;

use super::LogError;
use crate::clock::{now_ms, random};
use crate::store::{Batch, Leaf, Run, Store};

/// How many leaves are counted at once where their statements cannot be read.
const LEAVES_AT_ONCE: u64 = 65_536;

/// What the writer counts with; nothing until the first batch, and again after a batch that failed.
pub(super) struct Counting {
    node: NodeId,
    /// Whether this log counts at all.
    wanted: Arc<AtomicBool>,
    counters: Option<Counters>,
}

/// What came of counting a batch.
#[derive(Default)]
pub(super) struct Counted {
    /// The counters, where they are to be kept.
    pub state: Option<Vec<u8>>,
    /// The place of a day's statement, where there is one.
    pub day: Option<u64>,
    /// How many leaves were put before those of the batch.
    pub before: u64,
}

/// What the log has counted, for those who may know.
#[derive(Debug, Clone)]
pub struct Numbers {
    /// What opens the chains' names.
    pub chains: Vec<Opening>,
    /// The days that were stated, each with the place of its leaf.
    pub days: Vec<(u64, u64)>,
    /// When this node was cut short.
    pub cut: Vec<Run>,
}

impl Counting {
    pub(super) fn new(node: NodeId, wanted: Arc<AtomicBool>) -> Self {
        Self { node, wanted, counters: None }
    }

    /// What was counted last may not be on disk.
    pub(super) fn forget(&mut self) {
        self.counters = None;
    }

    /// Counts the leaves of a batch that begins at `first`, and adds those that are due: links, and the day's statement.
    pub(super) async fn count(
        &mut self,
        store: &Store,
        first: u64,
        leaves: &mut Vec<Leaf>,
        (all, day): (bool, bool),
    ) -> Result<Counted, LogError> {
        if !self.wanted.load(Ordering::Acquire) {
            return Ok(Counted::default());
        }
        let mut counters = match self.counters.take() {
            Some(counters) => counters,
            None => recover(store, &self.node, first).await?,
        };
        let now = now_ms();
        let mut counted = Counted::default();
        // A day that is over is stated before what comes after it.
        let over = counters.day_over(now) && counters.counted() > 0;
        let (mut added, behind) = (Vec::new(), std::mem::take(leaves));
        if over {
            close_day(&mut counters, now, &mut added, &mut counted)?;
        }
        // Whoever waits for a leaf knows its place by its order: what was added before is written before.
        let before = added.len();
        for leaf in behind {
            take(&mut counters, &leaf, now)?;
            leaves.push(leaf);
        }
        if day {
            close_day(&mut counters, now, &mut added, &mut counted)?;
        } else if all || counters.due(now) {
            link(&mut counters, now, all, &mut added)?;
        }
        if !added.is_empty() {
            counted.state = Some(serde_json::to_vec(&counters).map_err(|_| LogError::Counters)?);
        }
        let after = added.split_off(before);
        counted.before = added.len() as u64;
        leaves.splice(0..0, added);
        leaves.extend(after);
        self.counters = Some(counters);
        Ok(counted)
    }
}

/// Links everything and states the day.
fn close_day(counters: &mut Counters, now: u64, added: &mut Vec<Leaf>, counted: &mut Counted) -> Result<(), LogError> {
    link(counters, now, true, added)?;
    counted.day = Some(counters.counted());
    let statement = counters.state_day(now);
    let key = format!("{:032x}", statement.day);
    add(counters, key, Statement::Day(statement), now, added)
}

fn link(counters: &mut Counters, now: u64, all: bool, added: &mut Vec<Leaf>) -> Result<(), LogError> {
    for link in counters.links(now, all) {
        add(counters, link.chain.to_hex(), Statement::Link(link), now, added)?;
    }
    Ok(())
}

fn add(
    counters: &mut Counters,
    decision: String,
    statement: Statement,
    now: u64,
    added: &mut Vec<Leaf>,
) -> Result<(), LogError> {
    let (salt, bytes) = (random()?, statement.to_bytes()?);
    let leaf = Leaf {
        kind: statement.kind(),
        chain: None,
        decision,
        at_ms: now,
        salt,
        commitment: commitment(&salt, &bytes),
        statement: bytes,
        objects: None,
        policy: None,
        used: None,
        beside: None,
    };
    take(counters, &leaf, now)?;
    added.push(leaf);
    Ok(())
}

fn take(counters: &mut Counters, leaf: &Leaf, now: u64) -> Result<(), LogError> {
    let place = counters.counted();
    let counted = CountedLeaf { kind: leaf.kind, chain: leaf.chain.as_ref(), place, entry: &leaf.commitment };
    Ok(counters.take(counted, now, random()?)?)
}

/// The counters as they were kept, and counted on over the leaves that came after.
async fn recover(store: &Store, node: &NodeId, size: u64) -> Result<Counters, LogError> {
    let now = now_ms();
    let mut counters = match store.counters().await? {
        Some(state) => serde_json::from_slice(&state).map_err(|_| LogError::Counters)?,
        None => Counters::new(node.clone(), 0, now),
    };
    while counters.counted() < size {
        let from = counters.counted();
        let batch = match store.batch_at(from).await {
            Ok(Some(batch)) => batch,
            // What cannot be read is still a leaf, and the node's own to answer for.
            _ => {
                let commitments = store.commitments(from, size.min(from.saturating_add(LEAVES_AT_ONCE))).await?;
                Batch { first: from, commitments, leaves: Vec::new() }
            }
        };
        for (place, (number, entry)) in (batch.first..size).zip(batch.commitments.iter().enumerate()) {
            if place < from {
                continue;
            }
            let bytes = batch.leaves.get(number).map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
            let statement = serde_json::from_slice::<Statement>(bytes).ok();
            let own = || Some(ChainName { tenant: None, home: node.clone() });
            let chain = statement.as_ref().map_or_else(own, |statement| ChainName::of(statement, node));
            let kind = statement.as_ref().map_or("unknown", Statement::kind);
            counters.take(CountedLeaf { kind, chain: chain.as_ref(), place, entry }, now, random()?)?;
        }
        if counters.counted() <= from {
            return Err(LogError::Missing(format!("leaf {from}")));
        }
    }
    Ok(counters)
}

impl super::Log {
    /// What was counted up to the last link.
    pub async fn numbers(&self) -> Result<Numbers, LogError> {
        let cut = self.cut.to_vec();
        let Some(state) = self.store.counters().await? else {
            return Ok(Numbers { chains: Vec::new(), days: Vec::new(), cut });
        };
        let counters: Counters = serde_json::from_slice(&state).map_err(|_| LogError::Counters)?;
        Ok(Numbers { chains: counters.openings(), days: counters.days().to_vec(), cut })
    }
}

#[cfg(test)]
mod tests;
