//! What stands in the content store: names, sizes and dates in clear, everything that a user wrote sealed.
//!
//! The content itself lies in files beside the database. Sealing and quotas are absent: the content store's.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, signed};

/// The table of what is kept. `blob` names the file, `note` is sealed.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS content (
    kind       TEXT NOT NULL,
    project    TEXT NOT NULL,
    id         TEXT NOT NULL,
    blob       BLOB NOT NULL UNIQUE,
    bytes      INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    note       BLOB NOT NULL,
    PRIMARY KEY (project, kind, id)
) STRICT;
CREATE INDEX IF NOT EXISTS content_expires ON content (expires_ms);
CREATE INDEX IF NOT EXISTS content_created ON content (project, kind, created_ms, id);
";

const COLUMNS: &str = "kind, project, id, blob, bytes, created_ms, expires_ms, note";

/// One kept thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRow {
    /// What it is.
    pub kind: String,
    /// Whose it is.
    pub project: String,
    /// Its id within project and kind.
    pub id: String,
    /// The name of its file.
    pub blob: [u8; 16],
    /// Plain bytes.
    pub bytes: u64,
    /// Since when, in Unix milliseconds.
    pub created_ms: u64,
    /// Until when, in Unix milliseconds.
    pub expires_ms: u64,
    /// What is said of it, sealed.
    pub note: Vec<u8>,
}

impl Store {
    /// Every kept thing, of one kind or of all.
    pub async fn content_rows(&self, kind: Option<&str>) -> Result<Vec<ContentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM content WHERE ?1 IS NULL OR kind = ?1 ORDER BY created_ms, id");
        rows(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(kind).fetch_all(&self.pool).await?)
    }

    /// One kept thing.
    pub async fn content_row(&self, project: &str, kind: &str, id: &str) -> Result<Option<ContentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM content WHERE project = ? AND kind = ? AND id = ?");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(project).bind(kind).bind(id);
        query.fetch_optional(&self.pool).await?.as_ref().map(row).transpose()
    }

    /// Kept things of a project and kind that have not expired, by date and id; those behind `after` where it is given.
    pub async fn content_page(
        &self,
        project: &str,
        kind: &str,
        now_ms: u64,
        after: Option<&ContentRow>,
        newest_first: bool,
        count: u32,
    ) -> Result<Vec<ContentRow>, StoreError> {
        let (beyond, order) = if newest_first { ("<", "DESC") } else { (">", "ASC") };
        let sql = format!(
            "SELECT {COLUMNS} FROM content WHERE project = ?1 AND kind = ?2 AND expires_ms > ?3 \
             AND (?4 IS NULL OR (created_ms, id) {beyond} (?4, ?5)) ORDER BY created_ms {order}, id {order} LIMIT ?6"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(project).bind(kind).bind(signed(now_ms));
        let query = query.bind(after.map(|row| signed(row.created_ms))).bind(after.map(|row| row.id.as_str()));
        rows(query.bind(count).fetch_all(&self.pool).await?)
    }

    /// Keeps a thing, in the place of an older one with its id. Returns the older one.
    pub async fn keep_content(&self, new: &ContentRow) -> Result<Option<ContentRow>, StoreError> {
        // Immediate: a transaction that reads first and finds another writer in front of it could not go on.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sql = format!("SELECT {COLUMNS} FROM content WHERE project = ? AND kind = ? AND id = ?");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&new.project).bind(&new.kind).bind(&new.id);
        let old = query.fetch_optional(&mut *transaction).await?.as_ref().map(row).transpose()?;
        let sql = format!("INSERT OR REPLACE INTO content ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&new.kind).bind(&new.project).bind(&new.id);
        let query = query.bind(new.blob.as_slice()).bind(signed(new.bytes));
        let query = query.bind(signed(new.created_ms)).bind(signed(new.expires_ms)).bind(&new.note);
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(old)
    }

    /// Replaces what is said of a thing; whether it is there.
    pub async fn note_content(&self, project: &str, kind: &str, id: &str, note: &[u8]) -> Result<bool, StoreError> {
        let sql = "UPDATE content SET note = ? WHERE project = ? AND kind = ? AND id = ?";
        let done = sqlx::query(sql).bind(note).bind(project).bind(kind).bind(id).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets the thing whose file has this name; whether it was there.
    pub async fn forget_content(&self, blob: &[u8; 16]) -> Result<bool, StoreError> {
        let sql = "DELETE FROM content WHERE blob = ?";
        Ok(sqlx::query(sql).bind(blob.as_slice()).execute(&self.pool).await?.rows_affected() == 1)
    }

    /// What has expired at an instant, at most so many.
    pub async fn expired_content(&self, now_ms: u64, count: u32) -> Result<Vec<ContentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM content WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?");
        rows(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(signed(now_ms)).bind(count).fetch_all(&self.pool).await?)
    }
}

fn rows(found: Vec<SqliteRow>) -> Result<Vec<ContentRow>, StoreError> {
    found.iter().map(row).collect()
}

fn row(row: &SqliteRow) -> Result<ContentRow, StoreError> {
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    let odd = |_| StoreError(sqlx::Error::Decode("the name of a content file is not 16 bytes".into()));
    Ok(ContentRow {
        kind: row.get(0),
        project: row.get(1),
        id: row.get(2),
        blob: row.get::<&[u8], _>(3).try_into().map_err(odd)?,
        bytes: number(row.get(4)),
        created_ms: number(row.get(5)),
        expires_ms: number(row.get(6)),
        note: row.get(7),
    })
}
