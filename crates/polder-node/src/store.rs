//! The node's database: leaves with their statements and salts, and the halves that factories sent back.
//!
//! SQLite in write-ahead mode, every commit synced: what the log's checkpoint covers is on disk. Prompts and answers in clear are
//! absent.

use std::path::Path;
use std::time::Duration;

use polder_core::canonical::Digest;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqliteConnection};

mod content;
mod versions;

pub use content::ContentRow;
pub use versions::{PolicyText, PolicyVersion};

/// Why the database cannot answer.
#[derive(Debug, thiserror::Error)]
#[error("the database under `state` failed: {0}")]
pub struct StoreError(#[from] sqlx::Error);

/// The node's database.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// One log entry with what stands behind it.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// `decision`, `execution` or `activation`.
    pub kind: &'static str,
    /// The decision's id; for an activation the policy's digest.
    pub decision: String,
    /// When it was made, in Unix milliseconds.
    pub at_ms: u64,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// The statement's canonical bytes.
    pub statement: Vec<u8>,
    /// The commitment, which is the log entry.
    pub commitment: Digest,
    /// The policy that an activation puts in force. It is written with its leaf or not at all.
    pub policy: Option<PolicyText>,
}

/// A leaf as it was found again.
#[derive(Debug, Clone)]
pub struct StoredLeaf {
    /// Its place in the log, from 0.
    pub index: u64,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// The statement's canonical bytes.
    pub statement: Vec<u8>,
}

/// What an execution used.
#[derive(Debug, Clone, Copy)]
pub struct Used<'a> {
    /// The day it ended, counted from the Unix epoch in UTC.
    pub day: u64,
    /// Where it ran.
    pub factory: &'a str,
    /// Tokens read and generated.
    pub tokens: u64,
}

/// The tables. `leaf.place` is the index in the log; gaps cannot occur, because one writer fills it in order. `policy` holds
/// the last good texts of baseline and terms, `policy_version` every text of the owner's that was ever in force.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS leaf (
    place      INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    decision   TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    salt       BLOB NOT NULL,
    statement  BLOB NOT NULL,
    commitment BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS leaf_decision ON leaf (decision, kind);
CREATE TABLE IF NOT EXISTS execution_half (
    decision TEXT PRIMARY KEY,
    half     BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS usage (
    day     INTEGER NOT NULL,
    factory TEXT NOT NULL,
    tokens  INTEGER NOT NULL,
    PRIMARY KEY (day, factory)
) STRICT;
CREATE TABLE IF NOT EXISTS policy (
    layer TEXT PRIMARY KEY,
    file  TEXT NOT NULL,
    text  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS policy_version (
    number   INTEGER PRIMARY KEY,
    layer    TEXT NOT NULL,
    file     TEXT NOT NULL,
    text     TEXT NOT NULL,
    digest   BLOB NOT NULL,
    at_ms    INTEGER NOT NULL,
    how      TEXT NOT NULL,
    narrower INTEGER NOT NULL,
    proofs   TEXT NOT NULL,
    place    INTEGER NOT NULL REFERENCES leaf (place)
) STRICT;
";

fn bytes32(blob: &[u8]) -> Result<[u8; 32], StoreError> {
    blob.try_into().map_err(|_| StoreError(sqlx::Error::Decode("a digest or salt is not 32 bytes".into())))
}

impl Store {
    /// Opens the database file, making it and its tables where they are missing.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        for schema in [SCHEMA, content::SCHEMA] {
            sqlx::raw_sql(schema).execute(&pool).await?;
        }
        Ok(Self { pool })
    }

    /// The commitments of all leaves, in log order.
    pub async fn commitments(&self) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query("SELECT commitment FROM leaf ORDER BY place").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(Digest(bytes32(row.get::<&[u8], _>(0))?))).collect()
    }

    /// Appends leaves from place `first` on, all or none.
    pub async fn append(&self, first: u64, leaves: &[Leaf]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (place, leaf) in (first..).zip(leaves) {
            insert(&mut transaction, place, leaf).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The leaf of a kind for a decision.
    pub async fn leaf(&self, kind: &str, decision: &str) -> Result<Option<StoredLeaf>, StoreError> {
        let sql = "SELECT place, salt, statement FROM leaf WHERE decision = ? AND kind = ? ORDER BY place DESC LIMIT 1";
        let row = sqlx::query(sql).bind(decision).bind(kind).fetch_optional(&self.pool).await?;
        row.as_ref().map(stored_leaf).transpose()
    }

    /// The leaf at a place.
    pub async fn leaf_at(&self, place: u64) -> Result<Option<StoredLeaf>, StoreError> {
        let sql = "SELECT place, salt, statement FROM leaf WHERE place = ?";
        let row = sqlx::query(sql).bind(signed(place)).fetch_optional(&self.pool).await?;
        row.as_ref().map(stored_leaf).transpose()
    }

    /// The statements of the latest decisions, newest first.
    pub async fn latest_decision_statements(&self, count: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = "SELECT statement FROM leaf WHERE kind = 'decision' ORDER BY place DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(count).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The ids of the latest decisions, newest first.
    pub async fn latest_decisions(&self, count: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT decision FROM leaf WHERE kind = 'decision' ORDER BY place DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(count).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Keeps the half of a receipt that a factory sent back, and with it counts its tokens at that factory on that day. Says
    /// whether the half is new: one that was kept before is not counted again.
    pub async fn keep_execution_half(&self, decision: &str, half: &[u8], used: &Used<'_>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let sql = "INSERT OR IGNORE INTO execution_half (decision, half) VALUES (?, ?)";
        let new = sqlx::query(sql).bind(decision).bind(half).execute(&mut *transaction).await?.rows_affected() == 1;
        if new {
            let sql = "INSERT INTO usage (day, factory, tokens) VALUES (?, ?, ?)
                ON CONFLICT (day, factory) DO UPDATE SET tokens = min(tokens + excluded.tokens, 4611686018427387903)";
            let query = sqlx::query(sql).bind(signed(used.day)).bind(used.factory);
            query.bind(signed(used.tokens).min(i64::MAX / 2)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(new)
    }

    /// The tokens of each day and factory since a day.
    pub async fn usage_since(&self, day: u64) -> Result<Vec<(u64, String, u64)>, StoreError> {
        let sql = "SELECT day, factory, tokens FROM usage WHERE day >= ?";
        let rows = sqlx::query(sql).bind(signed(day)).fetch_all(&self.pool).await?;
        let number = |value: i64| u64::try_from(value).unwrap_or_default();
        Ok(rows.iter().map(|row| (number(row.get(0)), row.get(1), number(row.get(2)))).collect())
    }

    /// The latest instant that any leaf names, in Unix milliseconds; 0 where there is none.
    pub async fn latest_ms(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT coalesce(max(at_ms), 0) FROM leaf").fetch_one(&self.pool).await?;
        Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or_default())
    }

    /// The half of a receipt that a factory sent back.
    pub async fn execution_half(&self, decision: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT half FROM execution_half WHERE decision = ?";
        let row = sqlx::query(sql).bind(decision).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Remembers the last text of a layer that could be used.
    pub async fn keep_policy(&self, layer: &str, file: &str, text: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO policy (layer, file, text) VALUES (?, ?, ?)";
        sqlx::query(sql).bind(layer).bind(file).bind(text).execute(&self.pool).await?;
        Ok(())
    }

    /// The last file name and text of a layer that could be used.
    pub async fn kept_policy(&self, layer: &str) -> Result<Option<(String, String)>, StoreError> {
        let row =
            sqlx::query("SELECT file, text FROM policy WHERE layer = ?").bind(layer).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Closes the database after what is under way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn stored_leaf(row: &SqliteRow) -> Result<StoredLeaf, StoreError> {
    let index = u64::try_from(row.get::<i64, _>(0)).unwrap_or_default();
    Ok(StoredLeaf { index, salt: bytes32(row.get::<&[u8], _>(1))?, statement: row.get(2) })
}

/// SQLite's integers are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn insert(connection: &mut SqliteConnection, place: u64, leaf: &Leaf) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO leaf (place, kind, decision, at_ms, salt, statement, commitment) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(signed(place))
    .bind(leaf.kind)
    .bind(&leaf.decision)
    .bind(signed(leaf.at_ms))
    .bind(leaf.salt.as_slice())
    .bind(&leaf.statement)
    .bind(leaf.commitment.0.as_slice())
    .execute(&mut *connection)
    .await?;
    match &leaf.policy {
        Some(policy) => versions::insert(connection, place, policy).await,
        None => Ok(()),
    }
}
