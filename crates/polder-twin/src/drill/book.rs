//! What happened: decisions and executions as logs show them, with what decisions name by digest.
//!
//! Nothing is believed here that a digest does not vouch for: tables, policies and passports count only under the digest that the
//! statement names. Absent: whether a statement stands in a log; `polder audit monitor` checks that.

use std::collections::BTreeMap;

use polder_core::ids::{DecisionId, NodeId};
use polder_core::monitor::{Missing, Objects};
use polder_core::statement::v1::{DecisionStatement, Statement};
use polder_core::tables::{Ruling, TableDigests, Tables, Weighed};

/// Statements, in order of time once [`Book::close`] was called.
#[derive(Debug, Default)]
pub struct Book {
    /// The decisions.
    pub decisions: Vec<DecisionStatement>,
    /// What ran, by its decision.
    pub runs: BTreeMap<DecisionId, Run>,
    /// What decisions name, by digest.
    pub objects: Objects,
    /// Places of a factory, where its node told them; see [`Book::places_of`].
    pub places: BTreeMap<NodeId, u64>,
}

/// What an execution took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Why a decision cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Something that it names is not there.
    #[error("the {0} that it names is missing")]
    Missing(&'static str),
    /// Something that it names is not what it names.
    #[error("the {0} that was given is not what it names")]
    Broken(&'static str),
    /// It cannot be put together.
    #[error("{0}")]
    Replay(String),
}

impl Book {
    /// Takes in a statement; all but decisions and executions are left aside.
    pub fn take(&mut self, statement: Statement) {
        match statement {
            Statement::Decision(decision) => self.decisions.push(*decision),
            Statement::Execution(run) => {
                let ms = run.ended_ms.saturating_sub(run.started_ms);
                let run_of = Run { prompt_tokens: run.prompt_tokens, completion_tokens: run.completion_tokens, ms };
                self.runs.insert(run.decision, run_of);
            }
            _ => {}
        }
    }

    /// Puts decisions in order of time, each once, and drops those before an instant.
    pub fn close(&mut self, from_ms: u64) {
        self.decisions.retain(|decision| decision.at_ms >= from_ms);
        self.decisions.sort_by(|one, other| (one.at_ms, &one.id).cmp(&(other.at_ms, &other.id)));
        self.decisions.dedup_by(|one, other| one.id == other.id);
    }

    /// The tables of a decision, where they are the ones that it names.
    pub fn tables(&self, decision: &DecisionStatement) -> Result<(Tables, TableDigests), Unread> {
        let digests: TableDigests = self.read("list of tables", decision.tables)?;
        let verdicts: Vec<Ruling> = self.read("table of verdicts", digests.verdicts)?;
        let scores: Vec<Weighed> = self.read("table of scores", digests.scores)?;
        Ok((Tables { verdicts, scores, seals: self.read("table of SEALs", digests.seals)? }, digests))
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
        digest: polder_core::canonical::Digest,
    ) -> Result<T, Unread> {
        let bytes = self.objects.get(&digest).ok_or(Unread::Missing(what))?;
        serde_json::from_slice(bytes).map_err(|_| Unread::Broken(what))
    }

    /// How many places each factory has: what its node told, else the steps in which its load was seen to move, of which the
    /// smallest is one place. A factory whose load was never seen has no entry, and is taken to have room.
    pub fn places_of(&self) -> BTreeMap<NodeId, u64> {
        let mut least: BTreeMap<NodeId, u64> = BTreeMap::new();
        let mut looked = std::collections::BTreeSet::new();
        for decision in &self.decisions {
            if !looked.insert(decision.tables) {
                continue;
            }
            let Ok((tables, _)) = self.tables(decision) else { continue };
            for (ruling, [_, load_ppm, ..]) in tables.verdicts.iter().zip(&tables.scores) {
                if (1..=1_000_000).contains(load_ppm) {
                    let entry = least.entry(ruling.factory.clone()).or_insert(*load_ppm);
                    *entry = (*entry).min(*load_ppm);
                }
            }
        }
        let mut places: BTreeMap<NodeId, u64> =
            least.into_iter().map(|(factory, ppm)| (factory, (1_000_000 + ppm / 2) / ppm)).collect();
        places.extend(self.places.iter().map(|(factory, places)| (factory.clone(), *places)));
        places
    }
}

impl From<Missing> for Unread {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Wanted(wanted) => Self::Missing(wanted.first().map_or("object", |one| one.what)),
            Missing::Broken(wanted) => Self::Broken(wanted.what),
        }
    }
}
