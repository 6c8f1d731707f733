//! The operators' tokens: digests and roles, never a token. A revoked token's row stays, so that the list says what became of it.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, bytes32, signed};

/// The table.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS operator_token (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    sha256     BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT;
";

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its id, which stands in the token itself.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// What its bearer may do, by name.
    pub role: String,
    /// SHA-256 of the whole token.
    pub sha256: [u8; 32],
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// First instant at which it no longer holds, in Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_ms: Option<u64>,
}

impl Store {
    /// Every token, the oldest first, revoked ones too.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let sql = "SELECT id, name, role, sha256, created_ms, expires_ms, revoked_ms
            FROM operator_token ORDER BY created_ms, id";
        sqlx::query(sql).fetch_all(&self.pool).await?.iter().map(token).collect()
    }

    /// Writes a token, new or changed.
    pub async fn keep_token(&self, token: &StoredToken) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO operator_token
            (id, name, role, sha256, created_ms, expires_ms, revoked_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&token.id)
            .bind(&token.name)
            .bind(&token.role)
            .bind(token.sha256.as_slice())
            .bind(signed(token.created_ms))
            .bind(token.expires_ms.map(signed))
            .bind(token.revoked_ms.map(signed))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn token(row: &SqliteRow) -> Result<StoredToken, StoreError> {
    let number = |place: usize| row.get::<Option<i64>, _>(place).map(|value| u64::try_from(value).unwrap_or_default());
    Ok(StoredToken {
        id: row.get(0),
        name: row.get(1),
        role: row.get(2),
        sha256: bytes32(row.get::<&[u8], _>(3))?,
        created_ms: number(4).unwrap_or_default(),
        expires_ms: number(5),
        revoked_ms: number(6),
    })
}
