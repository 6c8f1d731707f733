//! Statements about what is kept: that statements were deleted, and that something must not be.
//!
//! A deletion names places in the log and nothing of what stood behind them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, ProjectId, TenantId};

/// Statements and their salts were deleted. The leaves stay, and say nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionStatement {
    /// The node whose log it is.
    pub node: NodeId,
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// The places, as ranges with their first and their last, ascending.
    pub leaves: Vec<(u64, u64)>,
    /// The retention class.
    pub class: String,
    /// For how many days the class kept them.
    pub days: u32,
    /// Why they went.
    pub ground: Ground,
    /// On whose word: `node` for what went by its age, `owner` for a token's, `socket` for whoever may open the node's own socket.
    pub by: String,
}

/// Why statements went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    /// The time of their class was over.
    Age,
    /// It was over, and somebody said so.
    Word,
    /// Somebody asked for their erasure under data protection law, before it was over.
    Erasure,
}

/// A legal hold was put or lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldStatement {
    /// The node.
    pub node: NodeId,
    /// The hold's id: `hold-` and 16 hexadecimal digits.
    pub hold: String,
    /// Whether it begins or ends.
    pub act: HoldAct,
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// What is held.
    pub scope: HoldScope,
    /// Why, in the words of whoever put or lifted it.
    pub reason: String,
    /// On whose word, as in a [`DeletionStatement`].
    pub by: String,
}

/// Whether a hold begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldAct {
    /// It begins.
    Put,
    /// It ends.
    Lifted,
}

/// What a hold holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldScope {
    /// Everything of a tenant.
    Tenant(TenantId),
    /// Every decision of a project, and what came of it at this node.
    Project(ProjectId),
    /// The leaves at these places.
    Leaves(BTreeSet<u64>),
}
