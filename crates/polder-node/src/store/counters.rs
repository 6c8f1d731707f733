//! What the log has counted, kept with the links that say so.
//!
//! What came after is counted again from the leaves. Counting is absent.

use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError};

/// The table: one row, or none before the first link.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS counters (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    state  BLOB NOT NULL
) STRICT;
";

/// Keeps the counters in the place of those of before.
pub(super) async fn keep(connection: &mut SqliteConnection, state: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO counters (number, state) VALUES (1, ?)";
    sqlx::query(sql).bind(state).execute(connection).await?;
    Ok(())
}

impl Store {
    /// The counters as they were kept last.
    pub async fn counters(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT state FROM counters WHERE number = 1").fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.get(0)))
    }
}
