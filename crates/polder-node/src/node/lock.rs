//! One node for one state folder.
//!
//! The lock is the system's: it ends with its process, however that ends. Taking over from a node that runs is absent.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::NodeError;

/// How long a start waits for the lock of a node that has just ended.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// One node for one state folder. The lock ends with its process, however that ends; the system may take a moment for it.
pub(super) async fn lock(state: &Path) -> Result<File, NodeError> {
    let path = state.join("lock");
    let failed = |reason: String| NodeError::System(format!("`{}`: {reason}", path.display()));
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(e.to_string()))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
        }
    }
    Err(failed("another node runs in this folder: stop it, or use another `state`".to_owned()))
}
