//! Tiles in a bucket of anything that speaks S3. Built only with the feature `s3`.
//!
//! What the bucket's server does to keep things is its own affair: a put that it has answered counts as kept.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStoreExt as _, PutPayload, RetryConfig};

use crate::config::S3;

/// How long one request may take, with what is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;
/// How much of a server's reason is passed on, in characters.
const REASON_CHARS_MAX: usize = 400;
/// How many things are written side by side.
const WRITES_AT_ONCE: usize = 8;

/// A bucket, and what stands before every name in it.
pub struct Bucket {
    store: AmazonS3,
    prefix: String,
}

impl Bucket {
    /// The bucket of a configuration; it must be there once something is written.
    pub fn open(s3: &S3, secret: &str) -> Result<Self, String> {
        let backoff = BackoffConfig::default();
        let store = AmazonS3Builder::new()
            .with_client_options(ClientOptions::new().with_timeout(TIMEOUT))
            .with_retry(RetryConfig { max_retries: RETRIES, retry_timeout: TIMEOUT, backoff })
            .with_endpoint(&s3.endpoint)
            .with_allow_http(s3.endpoint.starts_with("http://"))
            .with_bucket_name(&s3.bucket)
            .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
            .with_access_key_id(&s3.key_id)
            .with_secret_access_key(secret)
            .build()
            .map_err(|e| e.to_string())?;
        let prefix = s3.prefix.as_deref().map_or_else(String::new, |text| format!("{}/", text.trim_matches('/')));
        Ok(Self { store, prefix })
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}{name}", self.prefix))
    }

    /// What lies under a name; `None` where nothing does.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let got = match self.store.get(&self.path(name)).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(said(&error)),
        };
        got.bytes().await.map(|bytes| Some(bytes.to_vec())).map_err(|e| said(&e))
    }

    /// Puts something under a name, whole or not at all.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        self.store.put(&self.path(name), PutPayload::from(bytes)).await.map(drop).map_err(|e| said(&e))
    }

    /// Puts several things under their names, some side by side.
    pub async fn put_all(&self, files: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        let writes = files.into_iter().map(|(name, bytes)| async move { self.put(&name, bytes).await });
        futures_util::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await
    }

    /// Removes what lies under a name; nothing may lie there.
    pub async fn remove(&self, name: &str) -> Result<(), String> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(said(&error)),
        }
    }
}

/// What went wrong, in one line: servers send pages of XML.
fn said(error: &Error) -> String {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "the server refuses the key (401 or 403): look at `key_id` and `secret_file` in `[log.s3]`".to_owned()
        }
        Error::NotFound { .. } => "there is no such bucket: make it, or name another in `[log.s3]`".to_owned(),
        error => error.to_string().lines().next().unwrap_or_default().chars().take(REASON_CHARS_MAX).collect(),
    }
}
