//! Verdicts: a decision checked again by `audit`, from what its statement names by digest.
//!
//! Objects come from whoever has them, and count only under the digest that the statement gives. What only a factory can have
//! said is taken as the home's word: it forbids and permits nothing.

use serde::de::DeserializeOwned;

use super::Objects;
use crate::audit;
use crate::canonical::Digest;
use crate::policy::policy_digest;
use crate::replay::Sources;
use crate::statement::v1::{DecisionRecord, DecisionStatement};
use crate::tables::{TableDigests, Tables};

/// Something that a statement names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// What it is.
    pub what: &'static str,
    /// Its digest.
    pub digest: Digest,
}

/// Why what a statement names cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// These are to be fetched; there may be more behind them.
    Wanted(Vec<Wanted>),
    /// This was given and cannot be read.
    Broken(Wanted),
}

/// Everything that a decision names, from the objects at hand.
pub fn named(statement: &DecisionStatement, objects: &Objects) -> Result<(Tables, Sources), Missing> {
    let policies = &statement.policies;
    let digests: TableDigests = read(objects, "list of tables", statement.tables)?;
    let tables = Tables {
        verdicts: read(objects, "table of verdicts", digests.verdicts)?,
        scores: read(objects, "table of scores", digests.scores)?,
        seals: read(objects, "table of SEALs", digests.seals)?,
    };
    let mut sources = Sources {
        trust: read(objects, "trust", policies.trust)?,
        frameworks: read(objects, "set of frameworks", policies.schema)?,
        ..Sources::default()
    };
    let mut wanted = Vec::new();
    let terms = tables.verdicts.iter().map(|ruling| ("terms", ruling.terms));
    for (what, digest) in [("baseline", policies.baseline), ("owner's policy", policies.owner)].into_iter().chain(terms)
    {
        // Who was never heard of has the empty text.
        if digest == policy_digest("") || sources.policies.contains_key(&digest) {
            continue;
        }
        match objects.get(&digest).map(|bytes| std::str::from_utf8(bytes)) {
            Some(Ok(text)) => drop(sources.policies.insert(digest, text.to_owned())),
            Some(Err(_)) => return Err(Missing::Broken(Wanted { what, digest })),
            None => wanted.push(Wanted { what, digest }),
        }
    }
    for digest in tables.verdicts.iter().map(|ruling| ruling.passport).filter(|root| *root != Digest::default()) {
        if sources.passports.contains_key(&digest) {
            continue;
        }
        match read(objects, "passport", digest) {
            Ok(passport) => drop(sources.passports.insert(digest, passport)),
            Err(Missing::Wanted(more)) => wanted.extend(more),
            Err(broken) => return Err(broken),
        }
    }
    if wanted.is_empty() { Ok((tables, sources)) } else { Err(Missing::Wanted(wanted)) }
}

fn read<T: DeserializeOwned>(objects: &Objects, what: &'static str, digest: Digest) -> Result<T, Missing> {
    let bytes = objects.get(&digest).ok_or_else(|| Missing::Wanted(vec![Wanted { what, digest }]))?;
    serde_json::from_slice(bytes).map_err(|_| Missing::Broken(Wanted { what, digest }))
}

/// In what a decision does not follow from its policies and facts; empty where it does.
pub fn check_verdict(statement: &DecisionStatement, tables: &Tables, sources: &Sources) -> Vec<String> {
    let records = match sources.records(statement, tables) {
        Ok(records) => records,
        Err(error) => return vec![error.to_string()],
    };
    match DecisionRecord::joined(statement.clone(), tables) {
        Some(record) => audit::examine(&record, &records).disagreements,
        None => vec!["the tables are not the ones that the statement names".to_owned()],
    }
}
