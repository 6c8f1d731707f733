//! Chains: every leaf of a log has a number in one chain, so that a leaf that is missing leaves a gap that can be named.
//!
//! A chain is what one tenant has at one home; what belongs to no tenant is the node's own chain. Numbers are given in the
//! order of the log, by the one that writes it, so they have no holes by themselves. A *link*, a small leaf now and then, says
//! which places of the log have the numbers since the last link, and runs a hash over those entries; a *day* says how far every
//! chain came and that there was nothing else. Links and days are in no chain: they chain themselves. Writing them is absent;
//! so is checking, which is `monitor`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::{NodeId, TenantId};
use crate::statement::v1::Statement;
use crate::usage::day_of;

/// What is hashed into a chain's blinded name.
const CHAIN: &str = "polder/chain/v1";
/// What is hashed for each number.
const HEAD: &str = "polder/chain-head/v1";

/// How long a leaf waits for its link at most, in milliseconds; a node that is stopped writes its links before.
pub const LINK_MS: u64 = 10_000;
/// Most runs of neighbouring places in a link, so that it stays below 1 kB.
pub const RUNS_MAX: usize = 22;
/// Most leaves without a link: what a start has to count again.
pub const OPEN_MAX: u64 = 4_096;
/// Most days that are remembered with their places.
const DAYS_MAX: usize = 1_000;

/// Statements about chains.
pub mod v1 {
    use super::{BTreeMap, Deserialize, Digest, NodeId, Serialize};

    /// Which places of the log have the next numbers of a chain.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct LinkStatement {
        /// Whose log it is.
        pub node: NodeId,
        /// The chain, blinded ([`super::blinded`]).
        pub chain: Digest,
        /// When it was written, in Unix milliseconds.
        pub at_ms: u64,
        /// The first number, from 1; one more than the last of the link before.
        pub from: u64,
        /// The last number.
        pub to: u64,
        /// The places that have these numbers, in order, as runs from a place up to and with another.
        pub places: Vec<[u64; 2]>,
        /// The running hash after the link before; the chain's blinded name for the first.
        pub before: Digest,
        /// The running hash after this one ([`super::head`] for each number).
        pub head: Digest,
    }

    /// What was written since the day before, and that nothing else was.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DayStatement {
        /// Whose log it is.
        pub node: NodeId,
        /// The day, counted from the Unix epoch in UTC.
        pub day: u64,
        /// Whether the day was over. It is not in a statement that somebody asked for.
        pub whole: bool,
        /// When the statement before was written, or counting began, in Unix milliseconds.
        pub from_ms: u64,
        /// When this one was, in Unix milliseconds.
        pub until_ms: u64,
        /// The size of the log at the beginning.
        pub from_leaf: u64,
        /// The size of the log at the end, without this statement's own leaf.
        pub until_leaf: u64,
        /// How many leaves of each kind there are between; all of them together are as many as the log grew.
        pub kinds: BTreeMap<String, u64>,
        /// The chains that grew, in the order of their names.
        pub chains: Vec<DayChain>,
        /// The place of the statement before; absent in the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub previous: Option<u64>,
    }

    /// How far one chain came.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DayChain {
        /// The chain, blinded.
        pub chain: Digest,
        /// The first number of the period.
        pub from: u64,
        /// The last.
        pub to: u64,
        /// The running hash after the last.
        pub head: Digest,
        /// How many leaves of each kind.
        pub kinds: BTreeMap<String, u64>,
    }
}

use v1::{DayChain, DayStatement, LinkStatement};

/// Whose leaves are numbered together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainName {
    /// The tenant; absent for what the node says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The tenant's home; the node itself where there is no tenant.
    pub home: NodeId,
}

impl ChainName {
    /// The chain that a statement in a node's log belongs to; none for what is about chains.
    pub fn of(statement: &Statement, node: &NodeId) -> Option<Self> {
        Some(match statement {
            Statement::Link(_) | Statement::Day(_) => return None,
            Statement::Decision(one) => Self { tenant: Some(one.request.tenant.clone()), home: one.home.clone() },
            Statement::Execution(one) => Self { tenant: Some(one.tenant.clone()), home: one.home.clone() },
            _ => Self { tenant: None, home: node.clone() },
        })
    }
}

/// A chain's name as statements show it: without its salt nobody can tell whose it is.
pub fn blinded(salt: &[u8; 32], name: &ChainName) -> Result<Digest, CanonicalError> {
    Ok(canonical::hash(CHAIN, &[salt, &canonical::to_bytes(name)?]))
}

/// The running hash after one more number: over the hash before, the number, the place and the log entry.
pub fn head(before: &Digest, number: u64, place: u64, entry: &Digest) -> Digest {
    canonical::hash(HEAD, &[&before.0, &number.to_be_bytes(), &place.to_be_bytes(), &entry.0])
}

/// One chain as its node counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Chain {
    name: ChainName,
    #[serde(with = "bytes_as_hex")]
    salt: [u8; 32],
    /// The blinded name.
    chain: Digest,
    /// The last number that was given.
    last: u64,
    head: Digest,
    /// The last number that a link names, and the hash after it.
    linked: u64,
    linked_head: Digest,
    /// What fills links by itself.
    sealed: Vec<Sealed>,
    /// The places since.
    places: Vec<[u64; 2]>,
    /// When the first of them came, in Unix milliseconds.
    since_ms: u64,
    /// The last number of the period before.
    day_before: u64,
    kinds: BTreeMap<String, u64>,
}

/// A full link's numbers: the last of them, the hash after it, and all their places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    to: u64,
    head: Digest,
    places: Vec<[u64; 2]>,
}

/// What opens a chain's blinded name, for whoever may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The blinded name.
    pub chain: Digest,
    /// The salt.
    #[serde(with = "bytes_as_hex")]
    pub salt: [u8; 32],
    /// Whose it is.
    pub name: ChainName,
    /// The last number that was given.
    pub last: u64,
}

/// What a node has counted, and where. It is kept with every link, and counted on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    node: NodeId,
    /// How many leaves of the log are counted, or came before counting began.
    counted: u64,
    chains: Vec<Chain>,
    kinds: BTreeMap<String, u64>,
    day: u64,
    from_ms: u64,
    from_leaf: u64,
    /// How many leaves wait for a link.
    open: u64,
    /// The days that were stated, each with its place.
    days: Vec<(u64, u64)>,
}

/// A leaf as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// Its kind, as `kinds` names it.
    pub kind: &'a str,
    /// Its chain; none for links and days.
    pub chain: Option<&'a ChainName>,
    /// Its place.
    pub place: u64,
    /// The log entry.
    pub entry: &'a Digest,
}

impl Counters {
    /// Counting that begins at a size of a node's log.
    pub fn new(node: NodeId, size: u64, now_ms: u64) -> Self {
        let (chains, kinds, days) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (day, from_ms, from_leaf, open) = (day_of(now_ms), now_ms, size, 0);
        Self { node, counted: size, chains, kinds, day, from_ms, from_leaf, open, days }
    }

    /// How many leaves are counted, or came before.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// The days that were stated, each with the place of its leaf, oldest first.
    pub fn days(&self) -> &[(u64, u64)] {
        &self.days
    }

    /// What opens the chains' names.
    pub fn openings(&self) -> Vec<Opening> {
        let opening =
            |one: &Chain| Opening { chain: one.chain, salt: one.salt, name: one.name.clone(), last: one.last };
        self.chains.iter().map(opening).collect()
    }

    /// Gives the next leaf its number. `salt` blinds a chain that is new.
    pub fn take(&mut self, leaf: Counted<'_>, now_ms: u64, salt: [u8; 32]) -> Result<(), CanonicalError> {
        self.counted = leaf.place.saturating_add(1);
        add(&mut self.kinds, leaf.kind);
        let Some(name) = leaf.chain else { return Ok(()) };
        let place = match self.chains.binary_search_by(|one| one.name.cmp(name)) {
            Ok(place) => place,
            Err(place) => {
                self.chains.insert(place, Chain::new(name.clone(), salt)?);
                place
            }
        };
        let Some(chain) = self.chains.get_mut(place) else { return Ok(()) };
        chain.take(leaf, now_ms);
        self.open = self.open.saturating_add(1);
        Ok(())
    }

    /// Whether a link is due.
    pub fn due(&self, now_ms: u64) -> bool {
        self.open > 0 && (self.open >= OPEN_MAX || self.chains.iter().any(|chain| chain.due(now_ms)))
    }

    /// The links that are due, or all that there can be. Each is then a leaf, to be taken like any other.
    pub fn links(&mut self, now_ms: u64, all: bool) -> Vec<LinkStatement> {
        let all = all || self.open >= OPEN_MAX;
        let mut links = Vec::new();
        for chain in self.chains.iter_mut().filter(|chain| chain.last > chain.linked && (all || chain.due(now_ms))) {
            self.open = self.open.saturating_sub(chain.last.saturating_sub(chain.linked));
            links.extend(chain.links(&self.node, now_ms));
        }
        links
    }

    /// Whether a day is over that has not been stated.
    pub fn day_over(&self, now_ms: u64) -> bool {
        day_of(now_ms) > self.day
    }

    /// The statement about the time since the last one; everything must be linked. It is then a leaf at `counted()`, the first of
    /// what the next statement is about.
    pub fn state_day(&mut self, now_ms: u64) -> DayStatement {
        let chains = self.chains.iter_mut().filter(|chain| chain.last > chain.day_before).map(Chain::day);
        let statement = DayStatement {
            node: self.node.clone(),
            day: self.day,
            whole: day_of(now_ms) > self.day,
            from_ms: self.from_ms,
            until_ms: now_ms,
            from_leaf: self.from_leaf,
            until_leaf: self.counted,
            kinds: std::mem::take(&mut self.kinds),
            chains: chains.collect(),
            previous: self.days.last().map(|(_, place)| *place),
        };
        self.days.push((self.day, self.counted));
        let surplus = self.days.len().saturating_sub(DAYS_MAX);
        self.days.drain(..surplus);
        (self.day, self.from_ms, self.from_leaf) = (day_of(now_ms), now_ms, self.counted);
        statement
    }
}

fn add(kinds: &mut BTreeMap<String, u64>, kind: &str) {
    match kinds.get_mut(kind) {
        Some(count) => *count = count.saturating_add(1),
        None => drop(kinds.insert(kind.to_owned(), 1)),
    }
}

impl Chain {
    fn new(name: ChainName, salt: [u8; 32]) -> Result<Self, CanonicalError> {
        let chain = blinded(&salt, &name)?;
        Ok(Self {
            name,
            salt,
            chain,
            last: 0,
            head: chain,
            linked: 0,
            linked_head: chain,
            sealed: Vec::new(),
            places: Vec::new(),
            since_ms: 0,
            day_before: 0,
            kinds: BTreeMap::new(),
        })
    }

    fn take(&mut self, leaf: Counted<'_>, now_ms: u64) {
        if self.last == self.linked {
            self.since_ms = now_ms;
        }
        let next = matches!(self.places.last(), Some([_, last]) if last.saturating_add(1) == leaf.place);
        if !next && self.places.len() >= RUNS_MAX {
            self.seal();
        }
        self.last = self.last.saturating_add(1);
        self.head = head(&self.head, self.last, leaf.place, leaf.entry);
        add(&mut self.kinds, leaf.kind);
        match self.places.last_mut() {
            Some([_, last]) if next => *last = leaf.place,
            _ => self.places.push([leaf.place, leaf.place]),
        }
    }

    fn seal(&mut self) {
        let places = std::mem::take(&mut self.places);
        self.sealed.push(Sealed { to: self.last, head: self.head, places });
    }

    /// A clock that was set back makes a link due, not late.
    fn due(&self, now_ms: u64) -> bool {
        let late = now_ms < self.since_ms || now_ms.saturating_sub(self.since_ms) >= LINK_MS;
        self.last > self.linked && (late || !self.sealed.is_empty())
    }

    fn links(&mut self, node: &NodeId, at_ms: u64) -> Vec<LinkStatement> {
        if !self.places.is_empty() {
            self.seal();
        }
        let link = |Sealed { to, head, places }| {
            let (from, before) = (self.linked.saturating_add(1), self.linked_head);
            (self.linked, self.linked_head) = (to, head);
            LinkStatement { node: node.clone(), chain: self.chain, at_ms, from, to, places, before, head }
        };
        std::mem::take(&mut self.sealed).into_iter().map(link).collect()
    }

    fn day(&mut self) -> DayChain {
        let from = self.day_before.saturating_add(1);
        self.day_before = self.last;
        DayChain { chain: self.chain, from, to: self.last, head: self.head, kinds: std::mem::take(&mut self.kinds) }
    }
}

#[cfg(test)]
mod tests;
