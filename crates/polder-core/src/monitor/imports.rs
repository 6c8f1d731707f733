//! What a home had taken in before it decided: facts and terms of each factory, and the texts by which it read them.
//!
//! A decision goes by nothing that no earlier leaf of its home names, and not by what a leaf had replaced. Two things may be taken
//! in while a request is under way, so what was replaced a moment ago still counts. Whether a fact is true is not asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical::Digest;
use crate::ids::NodeId;
use crate::statement::v1::{DecisionStatement, Grounds, Statement};
use crate::tables::Tables;

/// How long a decision may still go by what was there before, in milliseconds.
const SLACK_MS: u64 = 5_000;
/// Most imports that are remembered of each factory, and most sets of texts.
const HELD_MAX: usize = 1_000;

/// What a node has said that it took in, in the order of its log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Imports {
    /// Of each factory the roots of its facts and the digests of its terms.
    held: BTreeMap<NodeId, Row<(Digest, Digest)>>,
    texts: Row<Grounds>,
}

/// Things that replace one another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<T> {
    /// Each with its place and its instant.
    rows: Vec<(u64, u64, T)>,
    /// Whether some were forgotten.
    forgotten: bool,
}

impl<T> Default for Row<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), forgotten: false }
    }
}

/// What is wrong with going by something.
enum Wrong {
    Never,
    /// Replaced since an instant.
    Since(u64),
}

impl<T: PartialEq> Row<T> {
    fn push(&mut self, index: u64, at_ms: u64, what: T) {
        self.rows.push((index, at_ms, what));
        if self.rows.len() > HELD_MAX {
            self.rows.remove(0);
            self.forgotten = true;
        }
    }

    /// What is wrong with a leaf that goes by something at an instant.
    fn check(&self, index: u64, at_ms: u64, what: &T) -> Option<Wrong> {
        let earlier = self.rows.get(..self.rows.partition_point(|(place, ..)| *place < index))?;
        let Some(newest) = earlier.iter().rposition(|(.., one)| one == what) else {
            return (!self.forgotten).then_some(Wrong::Never);
        };
        let (_, replaced_ms, _) = earlier.get(newest.saturating_add(1))?;
        (replaced_ms.saturating_add(SLACK_MS) < at_ms).then_some(Wrong::Since(*replaced_ms))
    }
}

impl Imports {
    /// Takes a statement of the node's own log.
    pub(super) fn take(&mut self, index: u64, statement: &Statement, node: &NodeId) {
        match statement {
            Statement::Import(one) if one.node == *node => {
                self.held.entry(one.about.clone()).or_default().push(index, one.at_ms, (one.root, one.terms));
            }
            Statement::View(one) if one.home == *node => self.texts.push(index, one.at_ms, one.now),
            _ => {}
        }
    }

    /// By what a decision at a place goes that no earlier leaf took in, in words.
    pub(super) fn check(&self, index: u64, decision: &DecisionStatement, tables: &Tables) -> Vec<String> {
        let (at_ms, policies) = (decision.at_ms, &decision.policies);
        let texts = Grounds { baseline: policies.baseline, schema: policies.schema, trust: policies.trust };
        let mut wrong = Vec::new();
        match self.texts.check(index, at_ms, &texts) {
            Some(Wrong::Never) => wrong.push("no earlier leaf names its baseline, schema and trust".to_owned()),
            Some(Wrong::Since(ms)) => wrong.push(format!("its baseline, schema and trust were replaced at {ms} ms")),
            None => {}
        }
        let none = Row::default();
        // Of whom the home has never heard it holds nothing.
        for ruling in tables.verdicts.iter().filter(|ruling| ruling.passport != Digest::default()) {
            let held = self.held.get(&ruling.factory).unwrap_or(&none);
            let factory = &ruling.factory;
            match held.check(index, at_ms, &(ruling.passport, ruling.terms)) {
                Some(Wrong::Never) => {
                    wrong.push(format!("no earlier leaf took in the facts and terms of `{factory}` that it goes by"));
                }
                Some(Wrong::Since(ms)) => {
                    wrong.push(format!("the facts or terms of `{factory}` that it goes by were replaced at {ms} ms"));
                }
                None => {}
            }
        }
        wrong
    }
}
