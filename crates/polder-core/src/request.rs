//! A request as `decide` sees it: whose work, what is to be done, with which model, under which labels.
//!
//! Prompts are absent: nothing is ever decided by what a prompt says.

use serde::{Deserialize, Serialize};

use crate::ids::{ModelId, ProjectId, TenantId};
use crate::labels::{Action, Labels};

/// What is to be decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is to be done.
    pub action: Action,
    /// Whose work it is.
    pub tenant: TenantId,
    /// The part of the tenant's work.
    pub project: ProjectId,
    /// The model, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// What the request says of itself, already narrowed from the project's labels.
    pub labels: Labels,
}
