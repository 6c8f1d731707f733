//! What a node takes in, written into its log before anything is decided by it: facts and terms of factories, and the texts by which
//! a home reads them.
//!
//! A leaf is handed to the log's writer first, and only then is what it names believed; the log keeps the order, so that every
//! decision has a higher leaf than the import of what it rests on. Whether a fact counts is absent: that is `polder_core::facts`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use polder_core::canonical::Digest;
use polder_core::facts::SignedFact;
use polder_core::ids::NodeId;
use polder_core::policy::policy_digest;
use polder_core::statement::v1::{Before, Grounds, ImportStatement, Source, Statement, ViewStatement};

use crate::clock::now_ms;
use crate::log::{Log, LogError};
use crate::store::{Beside, Store, StoreError, Taken};

/// Under which source the texts of a home are kept.
const TEXTS: &str = "texts";

/// What a node has taken in.
pub struct Imports {
    node: NodeId,
    log: Log,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    facts: BTreeMap<(NodeId, Source), Before>,
    grounds: Option<Grounds>,
}

impl Imports {
    /// What was taken in before this start.
    pub async fn open(node: NodeId, log: Log, store: &Store) -> Result<Self, StoreError> {
        let mut held = Held::default();
        for taken in store.taken().await? {
            match (taken.source.as_str(), taken.digests.as_slice()) {
                (TEXTS, [baseline, schema, trust]) => {
                    held.grounds = Some(Grounds { baseline: *baseline, schema: *schema, trust: *trust });
                }
                (source, [root, terms, ..]) => {
                    let source = [Source::File, Source::Peer].into_iter().find(|one| name(*one) == source);
                    let about = NodeId::parse(&taken.about).ok();
                    if let (Some(source), Some(about)) = (source, about) {
                        let before = Before { root: *root, terms: *terms, facts: taken.after(2) };
                        held.facts.insert((about, source), before);
                    }
                }
                _ => {}
            }
        }
        Ok(Self { node, log, held: Mutex::new(held) })
    }

    /// Writes down a factory's facts and terms where they are others than before. Where this fails nothing of them may be believed.
    pub async fn facts(
        &self,
        about: &NodeId,
        from: Source,
        passport: &[SignedFact],
        terms: &str,
    ) -> Result<(), LogError> {
        let key = (about.clone(), from);
        let made = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let names = (&self.node, about, from);
            ImportStatement::of(names, now_ms(), held.facts.get(&key), passport, policy_digest(terms))?
        };
        let Some((statement, now)) = made else { return Ok(()) };
        let number = statement.taken.len();
        let digests = [now.root, now.terms].into_iter().chain(now.facts.iter().copied()).collect();
        let beside = Taken { about: about.to_string(), source: name(from).to_owned(), digests };
        let statement = Statement::Import(statement);
        drop(self.log.append_beside(&statement, Beside::Taken(beside)).await?);
        tracing::info!(factory = %about, number, "facts were taken in");
        self.held.lock().unwrap_or_else(PoisonError::into_inner).facts.insert(key, now);
        Ok(())
    }

    /// Writes down the texts that a home goes by where they are others than before.
    pub async fn grounds(&self, now: Grounds) -> Result<(), LogError> {
        let previous = self.held.lock().unwrap_or_else(PoisonError::into_inner).grounds;
        if previous == Some(now) {
            return Ok(());
        }
        let statement = ViewStatement { home: self.node.clone(), at_ms: now_ms(), now, previous };
        let digests: Vec<Digest> = vec![now.baseline, now.schema, now.trust];
        let beside = Taken { about: self.node.to_string(), source: TEXTS.to_owned(), digests };
        drop(self.log.append_beside(&Statement::View(statement), Beside::Taken(beside)).await?);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).grounds = Some(now);
        Ok(())
    }
}

fn name(source: Source) -> &'static str {
    match source {
        Source::File => "file",
        Source::Peer => "peer",
    }
}
