//! Which keys sign the log's checkpoints: one, or two while a rotation's overlap lasts.
//!
//! While it lasts the old key is the one that a node shows (its card, the seals of exports), and both sign each checkpoint; so whoever
//! knows only the old one misses nothing, and whoever knows only the new one can read what is signed now. Then the new one is shown.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ed25519_dalek::VerifyingKey;
use polder_core::keys::NodeCard;
use polder_core::note::{Checkpoint, Signs};

use super::{Log, LogError, SIGN_PAUSE, Writer, sign};

/// A key that signs, and the card that names it.
#[derive(Clone)]
pub struct Face {
    /// The key.
    pub key: Arc<dyn Signs>,
    /// The card with this key as the log's.
    pub card: Arc<NodeCard>,
}

/// The keys that sign a log.
#[derive(Clone)]
pub struct Signing {
    /// The key without a successor.
    pub current: Face,
    /// The one before, and until when it signs too, in Unix milliseconds.
    pub before: Option<(Face, u64)>,
    /// Every key that ever signed this log, revoked ones too: what they signed at rest is still looked at.
    pub ever: Vec<VerifyingKey>,
}

impl Signing {
    /// One key that has always been the log's.
    pub fn of(key: impl Signs + 'static, card: Arc<NodeCard>) -> Self {
        let ever = vec![key.public()];
        Self { current: Face { key: Arc::new(key), card }, before: None, ever }
    }

    /// The key that is shown at an instant.
    pub fn face(&self, now_ms: u64) -> &Face {
        match &self.before {
            Some((before, until_ms)) if now_ms < *until_ms => before,
            _ => &self.current,
        }
    }

    /// A checkpoint under every key that signs at an instant, the one that is shown first.
    pub fn sign(&self, checkpoint: &Checkpoint, now_ms: u64) -> Result<Arc<str>, String> {
        let before = self.before.iter().filter(|(_, until_ms)| now_ms < *until_ms).map(|(face, _)| face);
        let keys: Vec<&dyn Signs> = before.chain([&self.current]).map(|face| face.key.as_ref() as &dyn Signs).collect();
        Ok(checkpoint.sign_by(&keys)?.into())
    }
}

impl Log {
    /// What signs this log.
    pub fn signing(&self) -> Arc<Signing> {
        self.signing.load_full()
    }

    /// Has other keys sign from now on; what signed before. What is signed last is signed again at once.
    pub fn sign_with(&self, signing: Signing) -> Result<Arc<Signing>, LogError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let note = sign(&state.edge, state.root, &self.origin, &signing)?;
        state.note = note;
        Ok(self.signing.swap(Arc::new(signing)))
    }
}

impl Writer {
    /// Signs the tree as it is; its size. Where a token fails it is asked again, until it signs or the node ends.
    pub(super) async fn signed(&self) -> Option<u64> {
        loop {
            let failed = {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                match sign(&state.edge, state.root, &self.origin, &self.signing.load()) {
                    Ok(note) => {
                        state.note = note;
                        return Some(state.edge.size());
                    }
                    Err(error) => error,
                }
            };
            tracing::error!(error = %failed, "the log cannot be signed: what is decided now waits, or is not covered yet");
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            tokio::time::sleep(SIGN_PAUSE).await;
        }
    }
}
