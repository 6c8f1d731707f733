//! Outputs: kept where the factory allows once the command has succeeded, and how much a run has written.
//!
//! A command may leave anything in its folder: links are not followed, and a file is copied by its own bytes up to its limit.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use polder_core::job::spec::Output;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::fetch::path_of;
use super::folder::{Folder, WORK};
use super::talk::Task;

/// The deepest folder that is looked into.
const DEPTH_MAX: u32 = 64;

/// Why an output is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("the output cannot go to `{0}`: this factory writes to `file:///…` only")]
    Scheme(String),
    #[error("the output cannot go to `{0}`: it is in no folder that this factory writes outputs to")]
    Outside(String),
    #[error("the output `{0}` is larger than its quota of {1} bytes")]
    Large(String, u64),
    #[error("the output `{0}` cannot be kept: {1}")]
    Failed(String, std::io::Error),
}

/// Keeps every output.
pub(super) fn all(task: &Task, folder: &Folder) -> Result<(), OutputError> {
    task.outputs.iter().try_for_each(|output| one(output, task, &folder.path.join(WORK)))
}

fn one(output: &Output, task: &Task, work: &Path) -> Result<(), OutputError> {
    let shown = || output.uri.chars().take(256).collect::<String>();
    let failed = |error: std::io::Error| OutputError::Failed(output.path.clone(), error);
    let to = path_of(&output.uri).ok_or_else(|| OutputError::Scheme(shown()))?;
    let outside = || OutputError::Outside(shown());
    let name = to.file_name().ok_or_else(outside)?;
    let parent = to.parent().and_then(|parent| fs::canonicalize(parent).ok()).ok_or_else(outside)?;
    let inside = |folder: &PathBuf| fs::canonicalize(folder).is_ok_and(|folder| parent.starts_with(folder));
    if !task.allowed.outputs.iter().any(inside) {
        return Err(outside());
    }
    let work = fs::File::open(work).map_err(failed)?;
    // The kernel itself refuses to leave the folder or to follow a link.
    let (flags, resolve) = (OFlags::RDONLY | OFlags::CLOEXEC, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS);
    let from = rustix::fs::openat2(&work, output.path.as_str(), flags, Mode::empty(), resolve);
    let from = fs::File::from(from.map_err(|error| failed(error.into()))?);
    if !from.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is no plain file")));
    }
    // Whole or not at all: a reader of the place never sees a part.
    let beside = parent.join(format!(".{}.polder", name.to_string_lossy()));
    let mut into =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
    let mut limited = from.take(output.bytes_max.saturating_add(1));
    let copied = std::io::copy(&mut limited, &mut into).and_then(|copied| into.sync_all().map(|()| copied));
    let kept = match copied {
        Ok(copied) if copied > output.bytes_max => Err(OutputError::Large(output.path.clone(), output.bytes_max)),
        Ok(_) => fs::rename(&beside, parent.join(name)).map_err(failed),
        Err(error) => Err(failed(error)),
    };
    if kept.is_err() {
        drop(fs::remove_file(&beside));
    }
    kept
}

/// How many bytes lie under a folder, links not followed.
pub(super) fn bytes_under(path: &Path) -> u64 {
    under(path, 0)
}

fn under(path: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(held) if held.is_dir() && depth < DEPTH_MAX => under(&entry.path(), depth + 1),
        Ok(held) => held.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).fold(0, u64::saturating_add)
}
