//! What a decision's statement names by digest: put beside the log when the decision is made, and found again later.
//!
//! Whoever has these can derive the decision again (`polder_core::replay`) or check it another way (`polder_core::audit`).
//! Prompts are absent, here as in the statement.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::canonical::{self, CanonicalError, Digest};
use polder_core::policy::policy_digest;
use polder_core::replay::Sources;
use polder_core::statement::v1::{DecisionRecord, DecisionStatement};
use polder_core::tables::{TableDigests, Tables};

use super::view::View;
use crate::store::{Object, Store, StoreError};

/// Why what a statement names cannot be brought.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something is not kept here, or is not what its digest says.
    #[error("the {what} with the digest {digest} is not kept at this node, or not whole")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
}

/// Everything that a decision names, without what `kept` says is on disk.
pub fn objects(
    view: &View,
    decision: &DecisionRecord,
    kept: impl Fn(&Digest) -> bool,
) -> Result<Arc<[Object]>, CanonicalError> {
    let statement = &decision.statement;
    let (policies, state) = (&statement.policies, view.policies());
    let mut found = Vec::new();
    // The list of tables is written with the tables, so where it is kept they are.
    if !kept(&statement.tables) {
        let tables = decision.tables();
        let digests = tables.digests()?;
        found.push(Object { digest: statement.tables, bytes: canonical::to_bytes(&digests)? });
        found.push(Object { digest: digests.verdicts, bytes: canonical::to_bytes(&tables.verdicts)? });
        found.push(Object { digest: digests.scores, bytes: canonical::to_bytes(&tables.scores)? });
        found.push(Object { digest: digests.seals, bytes: canonical::to_bytes(&tables.seals)? });
    }
    if let Some(trust) = view.trust_of_all(&policies.trust).filter(|_| !kept(&policies.trust)) {
        found.push(Object { digest: policies.trust, bytes: canonical::to_bytes(&*trust)? });
    }
    if !kept(&policies.schema) {
        found.push(Object { digest: policies.schema, bytes: canonical::to_bytes(&view.schema().frameworks())? });
    }
    for text in [state.baseline_text.as_ref(), state.version.text.as_str()] {
        let digest = policy_digest(text);
        if !kept(&digest) {
            found.push(Object { digest, bytes: text.as_bytes().to_vec() });
        }
    }
    let mut wanted: BTreeSet<Digest> =
        decision.verdicts.iter().flat_map(|verdict| [verdict.terms, verdict.passport]).collect();
    wanted.retain(|digest| !kept(digest));
    found.extend(view.published(&wanted)?);
    Ok(found.into())
}

/// The tables that a statement names, as they were kept.
pub async fn tables(store: &Store, statement: &DecisionStatement) -> Result<Tables, NamedError> {
    let digests: TableDigests = read(store, "list of tables", statement.tables).await?;
    Ok(Tables {
        verdicts: read(store, "table of verdicts", digests.verdicts).await?,
        scores: read(store, "table of scores", digests.scores).await?,
        seals: read(store, "table of SEALs", digests.seals).await?,
    })
}

/// A statement with its verdicts.
pub async fn joined(store: &Store, statement: DecisionStatement) -> Result<DecisionRecord, NamedError> {
    let tables = tables(store, &statement).await?;
    let digest = statement.tables;
    DecisionRecord::joined(statement, &tables).ok_or(NamedError::Missing { what: "set of tables", digest })
}

/// Everything else that a decision names.
pub async fn sources(store: &Store, statement: &DecisionStatement, tables: &Tables) -> Result<Sources, NamedError> {
    let named = &statement.policies;
    let mut policies = BTreeMap::new();
    let nothing = policy_digest("");
    let terms = tables.verdicts.iter().map(|ruling| ("terms", ruling.terms));
    for (what, digest) in [("baseline", named.baseline), ("owner's policy", named.owner)].into_iter().chain(terms) {
        if digest == nothing || policies.contains_key(&digest) {
            continue;
        }
        let bytes = bytes(store, what, digest).await?;
        let text = String::from_utf8(bytes).map_err(|_| NamedError::Missing { what, digest })?;
        policies.insert(digest, text);
    }
    let mut passports = BTreeMap::new();
    for root in tables.verdicts.iter().map(|ruling| ruling.passport).filter(|root| *root != Digest::default()) {
        if let Entry::Vacant(place) = passports.entry(root) {
            place.insert(read(store, "passport", root).await?);
        }
    }
    Ok(Sources {
        policies,
        passports,
        trust: read(store, "trust", named.trust).await?,
        frameworks: read(store, "set of frameworks", named.schema).await?,
    })
}

async fn bytes(store: &Store, what: &'static str, digest: Digest) -> Result<Vec<u8>, NamedError> {
    store.object(&digest).await?.ok_or(NamedError::Missing { what, digest })
}

async fn read<T: serde::de::DeserializeOwned>(
    store: &Store,
    what: &'static str,
    digest: Digest,
) -> Result<T, NamedError> {
    let bytes = bytes(store, what, digest).await?;
    serde_json::from_slice(&bytes).map_err(|_| NamedError::Missing { what, digest })
}
