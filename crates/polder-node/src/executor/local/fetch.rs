//! Inputs: taken from where the factory allows, checked against their digests, put into the work folder before the command starts.
//!
//! Only `file:` is read: a folder that the operator has named, followed to where it really is. Other schemes are refused by name;
//! nothing here opens a connection.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use polder_core::job::spec::Input;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::folder::{Folder, WORK};
use super::talk::Task;

const CHUNK_BYTES: usize = 1 << 20;

/// Where files may be taken from and put to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Folders that inputs may come from.
    pub inputs: Vec<PathBuf>,
    /// Folders that outputs may go to.
    pub outputs: Vec<PathBuf>,
}

/// Why an input is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Another scheme than `file:`.
    #[error("the input `{0}` is of a kind that this factory does not fetch: it reads `file:///…` only")]
    Scheme(String),
    /// Outside of every folder that the factory reads from.
    #[error("the input `{0}` is in no folder that this factory reads inputs from")]
    Outside(String),
    /// It cannot be read or written.
    #[error("the input `{0}` cannot be had: {1}")]
    Unreadable(String, std::io::Error),
    /// It is not what the job names.
    #[error("the input `{0}` has another SHA-256 than the job names: {1}")]
    Digest(String, String),
    /// The lease ended meanwhile.
    #[error("the lease ended while inputs were fetched")]
    Late,
}

/// Fetches every input, and makes the folder for checkpoints. `late` says that it is too late.
pub(super) fn all(task: &Task, folder: &Folder, late: &mut dyn FnMut() -> bool) -> Result<(), FetchError> {
    let work = folder.path.join(WORK);
    for input in &task.inputs {
        one(input, &task.allowed, &work, late)?;
    }
    if let Some(checkpoint) = &task.checkpoint {
        link_checkpoints(task, folder, &work.join(checkpoint))
            .map_err(|error| FetchError::Unreadable(checkpoint.clone(), error))?;
    }
    Ok(())
}

/// The folder for checkpoints is the job's, not the run's: the next run here finds what the last one left.
fn link_checkpoints(task: &Task, folder: &Folder, path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(&folder.checkpoint)?;
    if let Some((user, group)) = task.user {
        std::os::unix::fs::chown(&folder.checkpoint, Some(user), Some(group))?;
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    std::os::unix::fs::symlink(&folder.checkpoint, path)
}

fn one(input: &Input, allowed: &Allowed, work: &Path, late: &mut dyn FnMut() -> bool) -> Result<(), FetchError> {
    let shown = || input.uri.chars().take(256).collect::<String>();
    let path = path_of(&input.uri).ok_or_else(|| FetchError::Scheme(shown()))?;
    let failed = |error| FetchError::Unreadable(shown(), error);
    let real = fs::canonicalize(path).map_err(failed)?;
    let inside = |folder: &PathBuf| fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder));
    if !allowed.inputs.iter().any(inside) {
        return Err(FetchError::Outside(shown()));
    }
    let to = work.join(&input.path);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let (mut from, mut into) = (File::open(&real).map_err(failed)?, File::create_new(&to).map_err(failed)?);
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        if late() {
            return Err(FetchError::Late);
        }
        let count = from.read(&mut chunk).map_err(failed)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        into.write_all(bytes).map_err(failed)?;
    }
    let digest = hex::encode(hash.finalize());
    match &input.sha256 {
        Some(named) if *named != digest => Err(FetchError::Digest(shown(), digest)),
        _ => Ok(()),
    }
}

/// The path of a `file:` URI on this machine.
pub(super) fn path_of(uri: &str) -> Option<&Path> {
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:"))?;
    path.starts_with('/').then(|| Path::new(path))
}
