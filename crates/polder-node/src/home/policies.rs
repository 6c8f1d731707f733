//! The home's own layers: baseline, owner's policy, and the labels layer, which is Polder's own text.

use std::sync::Arc;

use polder_core::policy::{LABELS_POLICY, Layer, LayerKind, PolicySchema};

use crate::config::{ConfigError, HomeConfig};
use crate::policies::load;
use crate::store::Store;

/// The layers in force, and what is wrong with the files where older texts are in force.
#[derive(Debug, Clone)]
pub struct PolicyState {
    /// The federation's baseline.
    pub baseline: Arc<Layer>,
    /// The owner's policy.
    pub owner: Arc<Layer>,
    /// The labels layer.
    pub labels: Arc<Layer>,
    /// One message for each file that was refused.
    pub refused: Vec<String>,
}

impl PolicyState {
    /// Reads both files; see [`load`] for broken ones.
    pub async fn load(config: &HomeConfig, schema: &PolicySchema, store: &Store) -> Result<Self, ConfigError> {
        let baseline = load(LayerKind::Baseline, &config.baseline, schema, store).await?;
        let owner = load(LayerKind::Owner, &config.policy, schema, store).await?;
        let labels = Arc::new(Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, schema)?);
        let refused = baseline.refused.into_iter().chain(owner.refused).collect();
        Ok(Self { baseline: baseline.layer, owner: owner.layer, labels, refused })
    }
}
