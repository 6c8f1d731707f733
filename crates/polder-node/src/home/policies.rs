//! The home's own layers, and their last texts that could be used.
//!
//! A broken file never opens a door and never shuts a working one: the node keeps the text it last accepted, says where the new
//! one is broken, and goes on refusing what that text refuses.

use std::path::Path;
use std::sync::Arc;

use polder_core::policy::{LABELS_POLICY, Layer, LayerKind, PolicyError, PolicySchema};

use crate::config::{ConfigError, HomeConfig, read_layer};
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
        let baseline = one(LayerKind::Baseline, &config.baseline, schema, store, &mut refused).await?;
        let owner = one(LayerKind::Owner, &config.policy, schema, store, &mut refused).await?;
        let labels = labels_layer(schema)?;
        Ok(Self { loaded: LoadedPolicies { baseline, owner, labels }, refused })
    }
}

/// The labels layer, which is Polder's own text.
fn labels_layer(schema: &PolicySchema) -> Result<Arc<Layer>, PolicyError> {
    Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, schema).map(Arc::new)
}

async fn one(
    kind: LayerKind,
    path: &Path,
    schema: &PolicySchema,
    store: &Store,
    refused: &mut Vec<String>,
) -> Result<Arc<Layer>, ConfigError> {
    let name = format!("{kind:?}").to_lowercase();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let broken = |message: String| ConfigError::Content { path: path.to_owned(), message };
    match read_layer(kind, path, schema) {
        Ok((layer, text)) => {
            store.keep_policy(&name, &file, &text).await.map_err(|e| broken(e.to_string()))?;
            Ok(Arc::new(layer))
        }
        Err(error) => {
            let Ok(Some((file, text))) = store.kept_policy(&name).await else { return Err(error) };
            let layer = Layer::parse(kind, &file, &text, schema)?;
            let message = format!("{error}; the text of before stays in force");
            tracing::error!(message, "a policy file was refused");
            refused.push(message);
            Ok(Arc::new(layer))
        }
    }
}
