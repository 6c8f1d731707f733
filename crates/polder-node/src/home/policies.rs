//! The home's own layers, each from its file or from the last text of it that could be used.
//!
//! Falling back is `kept`'s; reading terms is absent, they come from each factory.

use std::sync::Arc;

use polder_core::policy::{LABELS_POLICY, Layer, LayerKind, PolicyError, PolicySchema};

use crate::config::{ConfigError, HomeConfig};
use crate::kept::Kept;
use crate::store::Store;

/// The layers that a home asks, apart from terms.
#[derive(Debug, Clone)]
pub struct LoadedPolicies {
    /// The federation's baseline.
    pub baseline: Arc<Layer>,
    /// The owner's policy.
    pub owner: Arc<Layer>,
    /// The labels layer.
    pub labels: Arc<Layer>,
}

/// Layers, and what is wrong with the files where older texts are in force.
#[derive(Debug, Clone)]
pub struct PolicyState {
    /// The layers in force.
    pub loaded: LoadedPolicies,
    /// One message for each file that was refused.
    pub refused: Vec<String>,
}

impl PolicyState {
    /// Reads both files. One that is broken is replaced by its last text that could be used; without one, that is an error.
    pub async fn load(config: &HomeConfig, schema: &PolicySchema, store: &Store) -> Result<Self, ConfigError> {
        let mut refused = Vec::new();
        let baseline = Kept::load(LayerKind::Baseline, &config.baseline, schema, store).await?;
        let owner = Kept::load(LayerKind::Owner, &config.policy, schema, store).await?;
        let labels = labels_layer(schema)?;
        refused.extend([baseline.refused, owner.refused].into_iter().flatten());
        Ok(Self { loaded: LoadedPolicies { baseline: baseline.layer, owner: owner.layer, labels }, refused })
    }
}

/// The labels layer, which is Polder's own text.
fn labels_layer(schema: &PolicySchema) -> Result<Arc<Layer>, PolicyError> {
    Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, schema).map(Arc::new)
}
