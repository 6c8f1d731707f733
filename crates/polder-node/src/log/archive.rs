//! Where the log's tiles lie at rest: a folder, or a bucket of anything that speaks S3.
//!
//! What lies there is a whole tiled log by itself: whoever serves the folder or the bucket over HTTP serves the log. Nothing of
//! it is the only copy: every tile can be made again from the leaves in the database. So a write is not synced.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "s3")]
use super::bucket::Bucket;
use crate::config::Tiles;

/// Why tiles cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the tiles at `{place}` cannot be used: {reason}")]
pub struct ArchiveError {
    place: String,
    reason: String,
}

/// Where tiles lie.
#[derive(Clone)]
pub struct Archive {
    place: Arc<str>,
    kept: Kept,
}

#[derive(Clone)]
enum Kept {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    Bucket(Arc<Bucket>),
}

impl Archive {
    /// Opens a folder, making it where it is missing, or a bucket.
    pub fn open(tiles: &Tiles) -> Result<Self, ArchiveError> {
        match tiles {
            Tiles::Disk(folder) => Self::folder(folder),
            #[cfg(feature = "s3")]
            Tiles::S3(s3, secret) => {
                let place = format!("{}/{}", s3.endpoint, s3.bucket);
                match Bucket::open(s3, secret) {
                    Ok(bucket) => Ok(Self { place: place.into(), kept: Kept::Bucket(Arc::new(bucket)) }),
                    Err(reason) => Err(ArchiveError { place, reason }),
                }
            }
            #[cfg(not(feature = "s3"))]
            Tiles::S3(s3, _) => Err(ArchiveError {
                place: format!("{}/{}", s3.endpoint, s3.bucket),
                reason:
                    "this `polder` was built without buckets: build it with `--features s3`, or set `store = \"disk\"`"
                        .to_owned(),
            }),
        }
    }

    /// A folder, which is made where it is missing.
    pub fn folder(folder: &Path) -> Result<Self, ArchiveError> {
        let place = folder.display().to_string();
        match std::fs::create_dir_all(folder) {
            Ok(()) => Ok(Self { place: place.into(), kept: Kept::Folder(folder.to_owned()) }),
            Err(error) => Err(ArchiveError { place, reason: error.to_string() }),
        }
    }

    fn failed(&self, error: impl ToString) -> ArchiveError {
        ArchiveError { place: self.place.to_string(), reason: error.to_string() }
    }

    /// What lies under a name; `None` where nothing does.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        match &self.kept {
            Kept::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || absent(std::fs::read(&path).map(Some), None)).await.map_err(|e| self.failed(e))
            }
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.get(name).await.map_err(|e| self.failed(e)),
        }
    }

    /// Puts something under a name, whole or not at all.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        match &self.kept {
            Kept::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || put(&path, &bytes)).await.map_err(|e| self.failed(e))
            }
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.put(name, bytes).await.map_err(|e| self.failed(e)),
        }
    }

    /// Puts several things under their names, each whole or not at all.
    pub async fn put_all(&self, files: Vec<(String, Vec<u8>)>) -> Result<(), ArchiveError> {
        match &self.kept {
            Kept::Folder(folder) => {
                let folder = folder.clone();
                // One after another: side by side they would only wait for the same folder, and burn a core with it.
                let work = move || files.iter().try_for_each(|(name, bytes)| put(&folder.join(name), bytes));
                blocking(work).await.map_err(|e| self.failed(e))
            }
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.put_all(files).await.map_err(|e| self.failed(e)),
        }
    }

    /// Removes what lies under a name; nothing may lie there.
    pub async fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        match &self.kept {
            Kept::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || absent(std::fs::remove_file(&path), ())).await.map_err(|e| self.failed(e))
            }
            #[cfg(feature = "s3")]
            Kept::Bucket(bucket) => bucket.remove(name).await.map_err(|e| self.failed(e)),
        }
    }
}

/// Work on files, away from the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// What is not there is no error.
fn absent<T>(done: io::Result<T>, otherwise: T) -> io::Result<T> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(otherwise),
        done => done,
    }
}

/// Writes beside the place and moves there: a file is whole or absent. Its folder is made where it is missing.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    if let Err(error) = std::fs::write(&beside, bytes) {
        match path.parent() {
            Some(folder) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                std::fs::write(&beside, bytes)?;
            }
            _ => return Err(error),
        }
    }
    std::fs::rename(&beside, path)
}
