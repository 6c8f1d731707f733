//! Where the log's tiles lie at rest: a folder, or a bucket of anything that speaks S3.
//!
//! What lies there is a whole tiled log by itself: whoever serves the folder or the bucket over HTTP serves the log. Nothing of
//! it is the only copy: every tile can be made again from the leaves in the database. So a write is not synced.

use std::fmt::Display;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};

use crate::config::Tiles;

/// How long one request to a bucket may take, with what is tried again.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(10);
const BUCKET_RETRIES: usize = 3;

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
    store: Arc<dyn ObjectStore>,
    place: Arc<str>,
    prefix: Arc<str>,
}

impl Archive {
    /// Opens a folder, making it where it is missing, or a bucket, which must be there once something is written.
    pub fn open(tiles: &Tiles) -> Result<Self, ArchiveError> {
        match tiles {
            Tiles::Disk(folder) => Self::folder(folder),
            Tiles::S3(s3, secret) => {
                let place = format!("{}/{}", s3.endpoint, s3.bucket);
                let failed = |e: Error| ArchiveError { place: place.clone(), reason: e.to_string() };
                let retry = RetryConfig {
                    max_retries: BUCKET_RETRIES,
                    retry_timeout: BUCKET_TIMEOUT,
                    backoff: BackoffConfig::default(),
                };
                let client = ClientOptions::new().with_timeout(BUCKET_TIMEOUT);
                let bucket = AmazonS3Builder::new()
                    .with_client_options(client)
                    .with_endpoint(&s3.endpoint)
                    .with_allow_http(s3.endpoint.starts_with("http://"))
                    .with_bucket_name(&s3.bucket)
                    .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
                    .with_access_key_id(&s3.key_id)
                    .with_secret_access_key(secret)
                    .with_retry(retry)
                    .build()
                    .map_err(failed)?;
                let prefix =
                    s3.prefix.as_deref().map_or_else(String::new, |text| format!("{}/", text.trim_matches('/')));
                Ok(Self { store: Arc::new(bucket), place: place.into(), prefix: prefix.into() })
            }
        }
    }

    /// A folder, which is made where it is missing.
    pub fn folder(folder: &FilePath) -> Result<Self, ArchiveError> {
        let place = folder.display().to_string();
        let failed = |e: &dyn Display| ArchiveError { place: place.clone(), reason: e.to_string() };
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| failed(&e))?;
        Ok(Self { store: Arc::new(store), place: place.into(), prefix: "".into() })
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}{name}", self.prefix))
    }

    fn failed(&self, error: impl Display) -> ArchiveError {
        ArchiveError { place: self.place.to_string(), reason: error.to_string() }
    }

    /// What lies under a name; `None` where nothing does.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let got = match self.store.get(&self.path(name)).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        Ok(Some(got.bytes().await.map_err(|e| self.failed(e))?.to_vec()))
    }

    /// Puts something under a name, whole or not at all.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        self.store.put(&self.path(name), PutPayload::from(bytes)).await.map(drop).map_err(|e| self.failed(e))
    }

    /// Removes what lies under a name; nothing may lie there.
    pub async fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}
