//! The files of baseline and terms, and their last texts that could be used. The owner's policy is absent: it has versions,
//! see `home::lifecycle`.
//!
//! A broken file never opens a door and never shuts a working one: the node keeps the text it last accepted, says where the new
//! one is broken, and goes on refusing what the kept text refuses. Without such a text a broken file is an error.

use std::path::Path;
use std::sync::Arc;

use polder_core::policy::{Layer, LayerKind, PolicySchema};

use crate::config::{ConfigError, file_name, read_layer};
use crate::store::Store;

/// A layer in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The layer.
    pub layer: Arc<Layer>,
    /// The name of its file, without the folder.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What is wrong with the file, where an older text is in force.
    pub refused: Option<String>,
}

/// Reads a policy file, or takes its last text that could be used.
pub async fn load(kind: LayerKind, path: &Path, schema: &PolicySchema, store: &Store) -> Result<InForce, ConfigError> {
    let name = format!("{kind:?}").to_lowercase();
    let file = file_name(path);
    let failed = |message: String| ConfigError::Content { path: path.to_owned(), message };
    match read_layer(kind, path, schema) {
        Ok((layer, text)) => {
            store.keep_policy(&name, &file, &text).await.map_err(|e| failed(e.to_string()))?;
            Ok(InForce { layer: Arc::new(layer), file, text, refused: None })
        }
        Err(error) => {
            let Ok(Some((file, text))) = store.kept_policy(&name).await else { return Err(error) };
            let layer = Arc::new(Layer::parse(kind, &file, &text, schema)?);
            let refused = format!("{error}; the text of before stays in force");
            Ok(InForce { layer, file, text, refused: Some(refused) })
        }
    }
}
