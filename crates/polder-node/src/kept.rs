//! A policy layer from its file, or the last text of it that could be used.
//!
//! A broken file never opens a door and never shuts a working one: the node keeps the text it last accepted, says where the new
//! one is broken, and goes on refusing what that text refuses. Without such a text, a broken file is an error.

use std::path::Path;
use std::sync::Arc;

use polder_core::policy::{Layer, LayerKind, PolicySchema};

use crate::config::{ConfigError, read_layer};
use crate::store::Store;

/// A layer in force.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The layer.
    pub layer: Arc<Layer>,
    /// Its text.
    pub text: String,
    /// Why the file's own text is not in force, where it is not.
    pub refused: Option<String>,
}

impl Kept {
    /// Reads the file and keeps its text, or falls back on what was kept before.
    pub async fn load(kind: LayerKind, path: &Path, schema: &PolicySchema, store: &Store) -> Result<Self, ConfigError> {
        let name = format!("{kind:?}").to_lowercase();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let broken = |message: String| ConfigError::Content { path: path.to_owned(), message };
        match read_layer(kind, path, schema) {
            Ok((layer, text)) => {
                store.keep_policy(&name, &file, &text).await.map_err(|e| broken(e.to_string()))?;
                Ok(Self { layer: Arc::new(layer), text, refused: None })
            }
            Err(error) => {
                let Ok(Some((file, text))) = store.kept_policy(&name).await else { return Err(error) };
                let layer = Arc::new(Layer::parse(kind, &file, &text, schema)?);
                let message = format!("{error}; the text of before stays in force");
                tracing::error!(message, "a policy file was refused");
                Ok(Self { layer, text, refused: Some(message) })
            }
        }
    }
}
