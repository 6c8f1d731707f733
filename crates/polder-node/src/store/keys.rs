//! The applications' keys: digests and what stands around them, never a key.
//!
//! A key is 256 random bits, so SHA-256 of it is enough: nobody can try that many, and a slow digest would only make every
//! request slower. A revoked key's row stays, so that its usage keeps a name.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, bytes32, signed};

/// The table.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS api_key (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    project      TEXT NOT NULL,
    sha256       BLOB NOT NULL,
    old_sha256   BLOB,
    old_until_ms INTEGER,
    created_ms   INTEGER NOT NULL,
    expires_ms   INTEGER,
    revoked_ms   INTEGER
) STRICT;
";

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id, which stands in the key itself.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The project it belongs to.
    pub project: String,
    /// SHA-256 of the whole key.
    pub sha256: [u8; 32],
    /// SHA-256 of the key before the last rotation, and until when it holds.
    pub old: Option<([u8; 32], u64)>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// First instant at which it no longer holds, in Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_ms: Option<u64>,
}

impl Store {
    /// Every key, the oldest first, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let sql = "SELECT id, name, project, sha256, old_sha256, old_until_ms, created_ms, expires_ms, revoked_ms
            FROM api_key ORDER BY created_ms, id";
        sqlx::query(sql).fetch_all(&self.pool).await?.iter().map(key).collect()
    }

    /// Writes a key, new or changed.
    pub async fn keep_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO api_key
            (id, name, project, sha256, old_sha256, old_until_ms, created_ms, expires_ms, revoked_ms)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&key.id)
            .bind(&key.name)
            .bind(&key.project)
            .bind(key.sha256.as_slice())
            .bind(key.old.as_ref().map(|(sha256, _)| sha256.as_slice()))
            .bind(key.old.map(|(_, until_ms)| signed(until_ms)))
            .bind(signed(key.created_ms))
            .bind(key.expires_ms.map(signed))
            .bind(key.revoked_ms.map(signed))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn key(row: &SqliteRow) -> Result<StoredKey, StoreError> {
    let number = |place: usize| row.get::<Option<i64>, _>(place).map(|value| u64::try_from(value).unwrap_or_default());
    let old = row.get::<Option<&[u8]>, _>(4).map(bytes32).transpose()?;
    Ok(StoredKey {
        id: row.get(0),
        name: row.get(1),
        project: row.get(2),
        sha256: bytes32(row.get::<&[u8], _>(3))?,
        old: old.zip(number(5)),
        created_ms: number(6).unwrap_or_default(),
        expires_ms: number(7),
        revoked_ms: number(8),
    })
}
