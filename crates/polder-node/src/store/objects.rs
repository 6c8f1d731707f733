//! What statements name by digest: tables of verdicts and scores, policy texts, passports, trust, frameworks.
//!
//! An object is written with the first leaf that names it, or not at all, and lies there once however many name it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use polder_core::canonical::Digest;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::{Leaf, StoreError};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS object (
    digest BLOB PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;
";

/// Most digests that are remembered as written; past that, all are forgotten, which costs writes and nothing else.
const REMEMBERED_MAX: usize = 100_000;
/// Largest object that is read back, in bytes.
const OBJECT_BYTES_MAX: usize = 64 << 20;

/// Bytes under the digest by which statements name them.
#[derive(Debug, Clone)]
pub struct Object {
    /// The digest.
    pub digest: Digest,
    /// What it is of.
    pub bytes: Vec<u8>,
}

/// The objects that are known to be on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Remembered(Arc<Mutex<BTreeSet<Digest>>>);

impl Remembered {
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Takes note of what was written and committed.
    pub(super) fn add(&self, written: Vec<Digest>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len().saturating_add(written.len()) > REMEMBERED_MAX {
            known.clear();
        }
        known.extend(written);
    }
}

/// Writes the objects of a batch that are not there yet; their digests.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    remembered: &Remembered,
    leaves: &[Leaf],
) -> Result<Vec<Digest>, StoreError> {
    let (mut written, mut before): (Vec<Digest>, Option<&Arc<[Object]>>) = (Vec::new(), None);
    for objects in leaves.iter().filter_map(|leaf| leaf.objects.as_ref()) {
        // Leaves of one kind of request share theirs.
        if before.is_some_and(|before| Arc::ptr_eq(before, objects)) {
            continue;
        }
        before = Some(objects);
        for object in objects.iter() {
            if remembered.has(&object.digest) || written.contains(&object.digest) {
                continue;
            }
            sqlx::query("INSERT OR IGNORE INTO object (digest, bytes) VALUES (?, ?)")
                .bind(object.digest.0.as_slice())
                .bind(lz4_flex::compress_prepend_size(&object.bytes))
                .execute(&mut *connection)
                .await?;
            written.push(object.digest);
        }
    }
    Ok(written)
}

/// The object of a digest.
pub(super) async fn get(pool: &SqlitePool, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let broken = || StoreError(sqlx::Error::Decode("an object cannot be read".into()));
    let query = sqlx::query("SELECT bytes FROM object WHERE digest = ?").bind(digest.0.as_slice());
    let Some(row) = query.fetch_optional(pool).await? else { return Ok(None) };
    let (size, packed) = lz4_flex::block::uncompressed_size(row.get::<&[u8], _>(0)).map_err(|_| broken())?;
    if size > OBJECT_BYTES_MAX {
        return Err(broken());
    }
    lz4_flex::block::decompress(packed, size).map(Some).map_err(|_| broken())
}
