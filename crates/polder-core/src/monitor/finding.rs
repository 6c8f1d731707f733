//! Findings: a stable word for what is wrong, where, what was claimed, what follows from it, and what to do next.
//!
//! Judging whose fault it is is absent: a finding says what cannot be so, not why.

use serde::{Deserialize, Serialize};

use crate::witness::Evidence;

/// What is wrong. The words are a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nobody answers, or too slowly, or too much.
    Unreachable,
    /// The checkpoint is not the log's.
    Checkpoint,
    /// Too few witnesses have signed the checkpoint.
    Unwitnessed,
    /// Two histories were signed.
    Fork,
    /// There are fewer leaves than before.
    Shrunk,
    /// What is served does not make what was signed.
    Tiles,
    /// A statement is not what its entry commits to.
    Commitment,
    /// A statement is not shown.
    Withheld,
    /// Numbers of a chain are missing, or lead elsewhere.
    Gap,
    /// A number was given twice, or a leaf has two.
    DoubleNumber,
    /// A leaf has no number.
    LeftOut,
    /// A daily statement is missing, or is not what was.
    Day,
    /// A leaf claims to be older than what stands before it.
    Backdated,
    /// A leaf claims an instant that had not come.
    Postdated,
    /// A statement speaks for another node.
    Foreign,
    /// A decision was made by a policy that was not in force.
    Policy,
    /// A decision goes by facts, terms or texts that no earlier leaf took in.
    Import,
    /// A decision does not follow from its policies and facts.
    Verdict,
    /// What a decision names is not shown, so that it cannot be checked.
    Sources,
    /// Something ran that its home has no decision for.
    UnpairedExecution,
    /// A decision and its execution speak of different things.
    Mismatch,
}

impl Kind {
    /// Every kind, in the order of the list.
    pub const ALL: [Self; 21] = [
        Self::Unreachable,
        Self::Checkpoint,
        Self::Unwitnessed,
        Self::Fork,
        Self::Shrunk,
        Self::Tiles,
        Self::Commitment,
        Self::Withheld,
        Self::Gap,
        Self::DoubleNumber,
        Self::LeftOut,
        Self::Day,
        Self::Backdated,
        Self::Postdated,
        Self::Foreign,
        Self::Policy,
        Self::Import,
        Self::Verdict,
        Self::Sources,
        Self::UnpairedExecution,
        Self::Mismatch,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Checkpoint => "checkpoint",
            Self::Unwitnessed => "unwitnessed",
            Self::Fork => "fork",
            Self::Shrunk => "shrunk",
            Self::Tiles => "tiles",
            Self::Commitment => "commitment",
            Self::Withheld => "withheld",
            Self::Gap => "gap",
            Self::DoubleNumber => "double-number",
            Self::LeftOut => "left-out",
            Self::Day => "day",
            Self::Backdated => "backdated",
            Self::Postdated => "postdated",
            Self::Foreign => "foreign",
            Self::Policy => "policy",
            Self::Import => "import",
            Self::Verdict => "verdict",
            Self::Sources => "sources",
            Self::UnpairedExecution => "unpaired-execution",
            Self::Mismatch => "mismatch",
        }
    }

    /// What follows from it.
    fn follows(self) -> &'static str {
        match self {
            Self::Unreachable => "nothing new is known of this log",
            Self::Checkpoint => "nobody vouches for what is served",
            Self::Unwitnessed => "the log could show others another tree",
            Self::Fork => "the log has two histories; its signature proves it",
            Self::Shrunk => "leaves that were shown are gone, or an old copy is served",
            Self::Tiles => "nothing behind this checkpoint can be checked",
            Self::Commitment => "the statement was changed since it was logged",
            Self::Withheld => "nobody but the node knows what this leaf says",
            Self::Gap => "leaves of this chain are missing from the log, or their order was changed",
            Self::DoubleNumber => "two histories of one chain were kept",
            Self::LeftOut => "a leaf is not counted, so that it could be missing unseen",
            Self::Day => "what was written on that day is not accounted for",
            Self::Backdated => "it was written later than it says",
            Self::Postdated => "it was written earlier than it says",
            Self::Foreign => "no node speaks for another",
            Self::Policy => "the decision was not made by the owner's policy of its time",
            Self::Import => "what it was decided by may have been put there, or taken away, for this decision",
            Self::Verdict => "the decision does not follow from its policies and facts",
            Self::Sources => "this decision cannot be checked",
            Self::UnpairedExecution => {
                "work ran without a decision in its home's log: the home left it out, or the factory made it up"
            }
            Self::Mismatch => "the home and the factory do not tell of the same work",
        }
    }

    /// What to do next.
    fn next(self) -> &'static str {
        match self {
            Self::Unreachable => "ask its operator; look again with `--once`",
            Self::Checkpoint => "compare the key with the one that the operator publishes; keep the answer",
            Self::Unwitnessed => "look again; where it stays so, ask the witnesses why they do not sign",
            Self::Fork => "keep the evidence, tell its users, trust none of its receipts from the smaller size on",
            Self::Shrunk => "keep the state file, and ask the operator for the checkpoint that was seen before",
            Self::Tiles => "have the operator run `polder log check`; look again",
            Self::Commitment => "ask the operator for the one that was logged",
            Self::Withheld => "ask for the statement, or why it is gone",
            Self::Gap => "ask the operator for the numbers that are missing",
            Self::DoubleNumber => "compare both leaves with the tenant's receipts",
            Self::LeftOut => "ask the operator why no link names it",
            Self::Day => "ask the operator for the statement",
            Self::Backdated => "do not rely on its instant; ask what the clock did",
            Self::Postdated => "do not rely on its instant; ask what the clock did",
            Self::Foreign => "ask the operator where the statement comes from",
            Self::Policy => "show it to the owner: `polder policy history` lists what was in force",
            Self::Import => "compare `polder log changes` of that time with what the decision names",
            Self::Verdict => "replay its receipt (`polder replay`), and show it to the owner",
            Self::Sources => "ask the node for what the decision names by digest",
            Self::UnpairedExecution => "ask the tenant for a receipt of this decision",
            Self::Mismatch => "compare both statements with the receipt",
        }
    }
}

/// One thing that cannot be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// The log's name.
    pub log: String,
    /// The place in the log, or the size, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// What was claimed, or seen.
    pub claimed: String,
    /// What follows from it.
    pub follows: String,
    /// What to do next.
    pub next: String,
    /// Two checkpoints that prove a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

impl Finding {
    /// A finding about a log.
    pub fn new(kind: Kind, log: &str, index: Option<u64>, claimed: impl Into<String>) -> Self {
        let (follows, next) = (kind.follows().to_owned(), kind.next().to_owned());
        Self { kind, log: log.to_owned(), index, claimed: claimed.into(), follows, next, evidence: None }
    }
}
