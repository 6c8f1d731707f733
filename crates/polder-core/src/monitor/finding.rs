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
    pub const ALL: [Self; 20] = [
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
        Self::Verdict,
        Self::Sources,
        Self::UnpairedExecution,
        Self::Mismatch,
    ];

    /// The stable word, what follows, and what to do next.
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::Unreachable => {
                ["unreachable", "nothing new is known of this log", "ask its operator; look again with `--once`"]
            }
            Self::Checkpoint => [
                "checkpoint",
                "nobody vouches for what is served",
                "compare the key with the one that the operator publishes; keep the answer",
            ],
            Self::Unwitnessed => [
                "unwitnessed",
                "the log could show others another tree",
                "look again; where it stays so, ask the witnesses why they do not sign",
            ],
            Self::Fork => [
                "fork",
                "the log has two histories; its signature proves it",
                "keep the evidence, tell its users, trust none of its receipts from the smaller size on",
            ],
            Self::Shrunk => [
                "shrunk",
                "leaves that were shown are gone, or an old copy is served",
                "keep the state file, and ask the operator for the checkpoint that was seen before",
            ],
            Self::Tiles => [
                "tiles",
                "nothing behind this checkpoint can be checked",
                "have the operator run `polder log check`; look again",
            ],
            Self::Commitment => [
                "commitment",
                "the statement was changed since it was logged",
                "ask the operator for the one that was logged",
            ],
            Self::Withheld => [
                "withheld",
                "nobody but the node knows what this leaf says",
                "ask for the statement, or why it is gone",
            ],
            Self::Gap => [
                "gap",
                "leaves of this chain are missing from the log, or their order was changed",
                "ask the operator for the numbers that are missing",
            ],
            Self::DoubleNumber => [
                "double-number",
                "two histories of one chain were kept",
                "compare both leaves with the tenant's receipts",
            ],
            Self::LeftOut => [
                "left-out",
                "a leaf is not counted, so that it could be missing unseen",
                "ask the operator why no link names it",
            ],
            Self::Day => {
                ["day", "what was written on that day is not accounted for", "ask the operator for the statement"]
            }
            Self::Backdated => {
                ["backdated", "it was written later than it says", "do not rely on its instant; ask what the clock did"]
            }
            Self::Postdated => [
                "postdated",
                "it was written earlier than it says",
                "do not rely on its instant; ask what the clock did",
            ],
            Self::Foreign => {
                ["foreign", "no node speaks for another", "ask the operator where the statement comes from"]
            }
            Self::Policy => [
                "policy",
                "the decision was not made by the owner's policy of its time",
                "show it to the owner: `polder policy history` lists what was in force",
            ],
            Self::Verdict => [
                "verdict",
                "the decision does not follow from its policies and facts",
                "replay its receipt (`polder replay`), and show it to the owner",
            ],
            Self::Sources => {
                ["sources", "this decision cannot be checked", "ask the node for what the decision names by digest"]
            }
            Self::UnpairedExecution => [
                "unpaired-execution",
                "work ran without a decision in its home's log: the home left it out, or the factory made it up",
                "ask the tenant for a receipt of this decision",
            ],
            Self::Mismatch => [
                "mismatch",
                "the home and the factory do not tell of the same work",
                "compare both statements with the receipt",
            ],
        }
    }

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        let [word, ..] = self.words();
        word
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
        let [_, follows, next] = kind.words();
        let (follows, next) = (follows.to_owned(), next.to_owned());
        Self { kind, log: log.to_owned(), index, claimed: claimed.into(), follows, next, evidence: None }
    }
}
