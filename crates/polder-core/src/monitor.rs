//! The monitor: what is wrong with a log, given what it shows, and with two nodes' logs, given what both show.
//!
//! Anyone can follow a log: what is signed, whether it grows, whether it has one history. Who is shown the statements as well can
//! check everything that they say: numbers, days, instants, policies, each verdict (by `audit`, which shares nothing with what
//! decided), and that what a home placed and what a factory ran are the same. Every disagreement is a finding with a stable word.
//! Fetching is absent, and so is any word on whether a fact was true.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::canonical::{self, Digest};
use crate::chain::ChainName;
use crate::ids::NodeId;
use crate::merkle::{self, Tree};
use crate::note::{Checkpoint, Note, VerifierKey};
use crate::statement::commitment;
use crate::statement::v1::{DecisionStatement, Statement};
use crate::tables::Tables;
use crate::tiles::Edge;
use crate::tlog_policy::Policy;
use crate::witness::Evidence;

mod chains;
mod finding;
mod imports;
mod pairs;
mod policies;
mod times;
mod verdicts;

use chains::Chains;
pub use finding::{Finding, Kind};
use imports::Imports;
pub use pairs::{Cut, Pairs, Side, Unmatched, Why};
use policies::Policies;
pub use times::TOLERANCE_MS;
use times::Times;
pub use verdicts::{Missing, Wanted, check_verdict, named};

/// A leaf as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// Its place.
    pub index: u64,
    /// The log entry, from the public log.
    pub entry: Digest,
    /// The salt and the statement's bytes, where the node shows them.
    pub shown: Option<(&'a [u8; 32], &'a [u8])>,
}

/// A checkpoint as it was shown to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// How many leaves.
    pub size: u64,
    /// The root.
    pub root: Digest,
    /// The note.
    pub note: String,
}

/// What is known of one log, from the first leaf to the last that was read. It is all that following on needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Kept", into = "Kept")]
pub struct Log {
    origin: String,
    edge: Edge,
    last: Option<Shown>,
    statements: Statements,
}

/// What the statements said so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statements {
    /// How many leaves' statements were read.
    read: u64,
    /// Places whose statements were not shown, unless a leaf has said since that they were deleted.
    withheld: BTreeSet<u64>,
    chains: Chains,
    times: Times,
    policies: Policies,
    imports: Imports,
}

/// A log's state as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    origin: String,
    size: u64,
    /// Of each level the hashes of the tile that is not full.
    tiles: Vec<Vec<Digest>>,
    last: Option<Shown>,
    statements: Statements,
}

impl From<Log> for Kept {
    fn from(log: Log) -> Self {
        let Log { origin, edge, last, statements } = log;
        let tiles = edge.tiles().iter().map(|tile| tile.leaves().to_vec()).collect();
        Self { origin, size: edge.size(), tiles, last, statements }
    }
}

impl TryFrom<Kept> for Log {
    type Error = &'static str;

    fn try_from(kept: Kept) -> Result<Self, Self::Error> {
        let Kept { origin, size, tiles, last, statements } = kept;
        let tile = |hashes: Vec<Digest>| {
            let mut tile = Tree::default();
            hashes.into_iter().for_each(|hash| tile.push(hash));
            tile
        };
        let edge = Edge::open(size, tiles.into_iter().map(tile).collect()).ok_or("the tree's end is not whole")?;
        Ok(Self { origin, edge, last, statements })
    }
}

impl Log {
    /// A log that nothing is known of.
    pub fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), edge: Edge::default(), last: None, statements: Statements::default() }
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The node whose log it is.
    pub fn node(&self) -> Option<NodeId> {
        NodeId::parse(self.origin.strip_prefix("polder/")?).ok()
    }

    /// How many leaves are known.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// How many leaves' statements were read.
    pub fn statements_read(&self) -> u64 {
        self.statements.read
    }

    /// The checkpoint that was seen last.
    pub fn last(&self) -> Option<&Shown> {
        self.last.as_ref()
    }

    /// Looks at a checkpoint: whether it is the log's, and witnessed as the policy wants. Nothing is known by it until
    /// [`Log::grow`] has seen the leaves.
    pub fn look(&mut self, note: &str, key: &VerifierKey, policy: Option<&Policy>) -> (Option<Shown>, Vec<Finding>) {
        let wrong = |claimed: String| Finding::new(Kind::Checkpoint, &self.origin, None, claimed);
        let (parsed, checkpoint) = match Note::parse(note).and_then(|note| {
            let checkpoint = Checkpoint::of_note(&note, key)?;
            Ok((note, checkpoint))
        }) {
            Ok(read) => read,
            Err(error) => return (None, vec![wrong(format!("its checkpoint does not hold: {error}"))]),
        };
        let mut findings = Vec::new();
        match policy.map(|policy| policy.accept(&parsed, Some(key))) {
            Some(Ok(accepted)) => {
                let earliest = accepted.witnesses.iter().map(|(_, at_s)| at_s.saturating_mul(1_000)).min();
                earliest.into_iter().for_each(|at_ms| self.statements.times.mark(checkpoint.size, at_ms));
            }
            Some(Err(error)) => {
                let claimed = format!("its checkpoint of {} leaves: {error}", checkpoint.size);
                findings.push(Finding::new(Kind::Unwitnessed, &self.origin, None, claimed));
            }
            None => {}
        }
        let shown = Shown { size: checkpoint.size, root: checkpoint.root, note: note.to_owned() };
        if let Some(last) = &self.last {
            if shown.size < last.size {
                let claimed = format!("it shows {} leaves, and has shown {} before", shown.size, last.size);
                findings.push(Finding::new(Kind::Shrunk, &self.origin, Some(shown.size), claimed));
                return (None, findings);
            }
            if shown.size == last.size && shown.root != last.root {
                findings.push(self.fork(&Evidence::of_one_size(&last.note, &parsed, shown.root)));
                return (None, findings);
            }
        }
        (Some(shown), findings)
    }

    /// A finding about two histories.
    pub fn fork(&self, evidence: &Evidence) -> Finding {
        let size =
            |note: &str| Note::parse(note).and_then(|note| Checkpoint::parse(&note.text)).map_or(0, |one| one.size);
        let (first, second) = (size(&evidence.first), size(&evidence.second));
        let claimed =
            format!("it has signed two trees: one of {first} leaves, and one of {second} that does not go on from it");
        Finding { evidence: Some(evidence.clone()), ..Finding::new(Kind::Fork, &self.origin, Some(first), claimed) }
    }

    /// Takes the entries that follow, up to a checkpoint's size, and says whether they make its root. Where they do not, nothing
    /// was taken. `others` are checkpoints that others were shown: of each whose size is passed, the root must be the same.
    pub fn grow(&mut self, entries: &[Digest], shown: &Shown, others: &[Shown]) -> Result<Vec<Finding>, Box<Finding>> {
        let (mut edge, mut findings) = (self.edge.clone(), Vec::new());
        let mut compare = |edge: &Edge| {
            for other in others.iter().filter(|other| other.size == edge.size() && edge.size() > 0) {
                let root = edge.root();
                if other.root != root {
                    findings.push((other.clone(), root));
                }
            }
        };
        compare(&edge);
        for entry in entries {
            edge.push(merkle::leaf_hash(&entry.0), &mut |_, _| ());
            compare(&edge);
        }
        if edge.size() != shown.size || edge.root() != shown.root {
            let claimed = format!("the {} entries that it serves do not make the root that it signed", shown.size);
            return Err(Box::new(Finding::new(Kind::Tiles, &self.origin, Some(self.edge.size()), claimed)));
        }
        let forked = |(other, prefix): (Shown, Digest)| {
            let claimed = format!("somebody was shown another tree of {} leaves under its signature", other.size);
            let evidence = match Note::parse(&shown.note) {
                // The proof from the smaller to the larger is for whoever has tiles; of one size none is needed.
                Ok(note) if other.size == shown.size => Some(Evidence::of_one_size(&other.note, &note, prefix)),
                _ => None,
            };
            Finding { evidence, ..Finding::new(Kind::Fork, &self.origin, Some(other.size), claimed) }
        };
        let findings = findings.into_iter().map(forked).collect();
        (self.edge, self.last) = (edge, Some(shown.clone()));
        Ok(findings)
    }

    /// The fork that a proof shows: a checkpoint that somebody was shown, and one whose tree has another root over as many leaves.
    /// That root and the proof from it are made from the tiles behind the checkpoint.
    pub fn forked(&self, first: &Shown, second: &Shown, prefix: Digest, proof: &[Digest]) -> Option<Finding> {
        let proved = merkle::is_consistent(first.size, &prefix, second.size, &second.root, proof);
        let note = Note::parse(&second.note).ok().filter(|_| proved && prefix != first.root && first.size > 0)?;
        Some(self.fork(&Evidence::new(&first.note, &note, prefix, proof.to_vec())))
    }

    /// Notes when a size was seen: what comes after it is later.
    pub fn seen(&mut self, size: u64, at_ms: u64) {
        self.statements.times.mark(size, at_ms);
    }

    /// Reads the next leaf's statement. What it says, where it is what the entry commits to.
    pub fn read(&mut self, leaf: Leaf<'_>, now_ms: u64) -> (Option<Statement>, Vec<Finding>) {
        let finding = |kind, claimed: String| Finding::new(kind, &self.origin, Some(leaf.index), claimed);
        self.statements.read = leaf.index.saturating_add(1);
        let (statement, found) = match leaf.shown {
            None => {
                self.statements.withheld.insert(leaf.index);
                (None, None)
            }
            Some((salt, bytes)) if commitment(salt, bytes) != leaf.entry => {
                (None, Some(finding(Kind::Commitment, "the statement that is shown is not what was logged".to_owned())))
            }
            Some((_, bytes)) => match serde_json::from_slice::<Statement>(bytes) {
                Ok(statement) => (Some(statement), None),
                // A newer node may say what is not known here: it is a leaf all the same.
                Err(_) => (None, None),
            },
        };
        let mut findings: Vec<Finding> = found.into_iter().collect();
        let Some(node) = self.node() else { return (statement, findings) };
        let name = statement.as_ref().and_then(|statement| ChainName::of(statement, &node));
        if let Some(Statement::Deletion(deletion)) = &statement {
            // A deletion is a leaf, and names what it took.
            let deleted = |place: &u64| deletion.leaves.iter().any(|(first, last)| (first..=last).contains(&place));
            self.statements.withheld.retain(|place| !deleted(place));
        }
        if let Some(statement) = &statement {
            let claimed = self.statements.times.check(leaf.index, statement, now_ms);
            findings.extend(claimed.map(|(kind, claimed)| finding(kind, claimed)));
            let claimed = self.statements.policies.check(leaf.index, statement, &node);
            findings.extend(claimed.map(|claimed| finding(Kind::Policy, claimed)));
            self.statements.imports.take(leaf.index, statement, &node);
            if says(statement) != &node {
                let claimed = format!("it speaks for `{}`", says(statement));
                findings.push(finding(Kind::Foreign, claimed));
            }
        }
        let chained = self.statements.chains.check(leaf.index, leaf.entry, statement.as_ref(), name);
        findings
            .extend(chained.into_iter().map(|(kind, index, claimed)| Finding::new(kind, &self.origin, index, claimed)));
        (statement, findings)
    }

    /// Whether a decision that was read goes by facts, terms and texts that leaves before it took in. `tables` are those that it
    /// names.
    pub fn check_imports(&self, index: u64, decision: &DecisionStatement, tables: &Tables) -> Vec<Finding> {
        let wrong = self.statements.imports.check(index, decision, tables);
        wrong.into_iter().map(|says| Finding::new(Kind::Import, &self.origin, Some(index), says)).collect()
    }

    /// What is overdue now that everything up to the newest leaf was read: leaves without a number, days without a statement, and
    /// statements that are not shown and were not deleted.
    pub fn overdue(&self, now_ms: u64) -> Vec<Finding> {
        let mut found = self.statements.chains.overdue(self.statements.times.latest_ms(), now_ms);
        let withheld = self.statements.withheld.iter();
        found.extend(withheld.map(|place| {
            (
                Kind::Withheld,
                Some(*place),
                "no statement is shown for this entry, and no leaf says that it was deleted".to_owned(),
            )
        }));
        found.into_iter().map(|(kind, index, claimed)| Finding::new(kind, &self.origin, index, claimed)).collect()
    }
}

/// Who speaks.
fn says(statement: &Statement) -> &NodeId {
    match statement {
        Statement::Decision(one) => &one.home,
        Statement::Execution(one) => &one.factory,
        Statement::Activation(one) => &one.home,
        Statement::Import(one) => &one.node,
        Statement::View(one) => &one.home,
        Statement::Deletion(one) => &one.node,
        Statement::Hold(one) => &one.node,
        Statement::Key(one) => &one.change.node,
        Statement::Link(one) => &one.node,
        Statement::Day(one) => &one.node,
    }
}

/// Objects by the digests by which statements name them.
pub type Objects = BTreeMap<Digest, Vec<u8>>;

/// The digest by which findings are known again.
impl Finding {
    /// The digest of everything but the evidence.
    pub fn id(&self) -> Digest {
        let parts = (self.kind.as_str(), &self.log, self.index, &self.claimed);
        canonical::digest("polder/finding/v1", &parts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
