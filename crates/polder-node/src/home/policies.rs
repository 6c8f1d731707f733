//! The home's own layers: baseline, owner's policy, and the labels layer, which is Polder's own text.
//!
//! How the owner's policy comes into force is absent: see `lifecycle`.

use std::sync::Arc;

use polder_core::policy::Layer;

use crate::store::PolicyVersion;

/// The layers in force, and what is wrong with the files where other texts are in force.
#[derive(Debug, Clone)]
pub struct PolicyState {
    /// The federation's baseline.
    pub baseline: Arc<Layer>,
    /// The baseline's text.
    pub baseline_text: Arc<str>,
    /// The owner's policy.
    pub owner: Arc<Layer>,
    /// The labels layer.
    pub labels: Arc<Layer>,
    /// Which version of the owner's policy it is.
    pub version: Arc<PolicyVersion>,
    /// Why the baseline's file is not in force.
    pub baseline_problem: Option<String>,
    /// Why the file of the owner's policy is not in force.
    pub file_problem: Option<String>,
}

impl PolicyState {
    /// One message for each file that was refused.
    pub fn refused(&self) -> Vec<String> {
        self.baseline_problem.iter().chain(&self.file_problem).cloned().collect()
    }
}
