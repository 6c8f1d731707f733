//! The node's database: leaves with their statements and salts, and the halves that factories sent back.
//!
//! SQLite in write-ahead mode, every commit synced: what the log's checkpoint covers is on disk. Prompts and answers in clear are
//! absent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use polder_core::canonical::Digest;
use polder_core::chain::ChainName;
use polder_core::ids::NodeId;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, SqliteConnection};

mod changes;
mod content;
mod counters;
mod jobs;
mod keys;
mod leaves;
mod ledger;
mod objects;
mod retention;
mod tokens;
mod tree;
mod versions;
mod witness;

pub use changes::{Beside, Change, Taken};
pub use content::ContentRow;
pub use jobs::{JobWrite, TicketRow, ticket_name};
pub use keys::StoredKey;
pub use leaves::Batch;
pub use ledger::{Books, Counts, KeyUsage, OpenAnswer, Stand};
pub use objects::Object;
pub use retention::{Deletion, Forgotten, StoredHold};
pub use tokens::StoredToken;
pub use tree::{Grown, Run};
pub use versions::{PolicyText, PolicyVersion};
pub use witness::{AlarmRow, Seen};

/// Most halves that are kept with one statement.
const HALVES_AT_ONCE: usize = 32;

/// Why the database cannot answer.
#[derive(Debug, thiserror::Error)]
#[error("the database under `state` failed: {0}")]
pub struct StoreError(#[from] sqlx::Error);

impl StoreError {
    /// That rows of jobs do not make what they are rows of, or cannot be begun from.
    pub(crate) fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(sqlx::Error::Decode(Box::new(error)))
    }

    /// That a token did not sign what is on disk.
    pub(crate) fn unsigned(reason: &str) -> Self {
        Self(sqlx::Error::Protocol(format!("a token did not sign what was written: {reason}")))
    }
}

/// The node's database.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
    remembered: objects::Remembered,
}

/// One log entry with what stands behind it.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// What the statement is: [`polder_core::statement::v1::Statement::kind`].
    pub kind: &'static str,
    /// Whose numbers it is counted in; none for what is about numbers.
    pub chain: Option<ChainName>,
    /// The decision's id; for an activation the policy's digest, for a link the chain's.
    pub decision: String,
    /// When it was made, in Unix milliseconds.
    pub at_ms: u64,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// The statement's canonical bytes.
    pub statement: Vec<u8>,
    /// The commitment, which is the log entry.
    pub commitment: Digest,
    /// What the statement names by digest.
    pub objects: Option<Arc<[Object]>>,
    /// The policy that an activation puts in force. It is written with its leaf or not at all.
    pub policy: Option<PolicyText>,
    /// What an execution at this very node used for its own tenant; counted with its leaf or not at all.
    pub used: Option<Used>,
    /// What else is written with the leaf or not at all.
    pub beside: Option<Beside>,
}

/// The half of a receipt that a factory sent back.
#[derive(Debug, Clone)]
pub struct ForeignHalf {
    /// The decision.
    pub decision: String,
    /// The half as JSON.
    pub half: Vec<u8>,
    /// What the execution used; counted the first time that the half is kept.
    pub used: Used,
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
#[derive(Debug, Clone)]
pub struct Used {
    /// The day it ended, counted from the Unix epoch in UTC.
    pub day: u64,
    /// Where it ran.
    pub factory: NodeId,
    /// Tokens read and generated.
    pub tokens: u64,
}

/// The tables beside those of `leaves`. `policy` holds the last good texts of baseline and terms, `policy_version` every text of the owner's that was ever in force.
const SCHEMA: &str = "
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
    place    INTEGER NOT NULL
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
            // Leaves are appended in batches: larger pages mean fewer writes.
            .page_size(16_384)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        let own = [
            SCHEMA,
            leaves::SCHEMA,
            objects::SCHEMA,
            tree::SCHEMA,
            counters::SCHEMA,
            witness::SCHEMA,
            keys::SCHEMA,
            ledger::SCHEMA,
            content::SCHEMA,
            tokens::SCHEMA,
            changes::SCHEMA,
            retention::SCHEMA,
            jobs::SCHEMA,
        ];
        for schema in own {
            sqlx::raw_sql(schema).execute(&pool).await?;
        }
        Ok(Self { pool, remembered: objects::Remembered::default() })
    }

    /// The commitments of the leaves from a place to another, in log order; fewer where there are not as many.
    pub async fn commitments(&self, from: u64, to: u64) -> Result<Vec<Digest>, StoreError> {
        leaves::commitments(&self.pool, from, to).await
    }

    /// How many leaves there are.
    pub async fn leaves(&self) -> Result<u64, StoreError> {
        leaves::size(&self.pool).await
    }

    /// The leaves that were written together with the one at a place.
    pub async fn batch_at(&self, place: u64) -> Result<Option<Batch>, StoreError> {
        leaves::batch(&self.pool, place).await
    }

    /// Appends leaves from place `first` on, keeps halves and, where there is something new to keep, the counters; all or none.
    pub async fn append(
        &self,
        first: u64,
        leaves: &[Leaf],
        halves: &[ForeignHalf],
        counters: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let mut used: BTreeMap<(u64, &NodeId), u64> = BTreeMap::new();
        let mut transaction = self.pool.begin().await?;
        if !leaves.is_empty() {
            leaves::insert(&mut transaction, first, leaves).await?;
        }
        let objects = objects::insert(&mut transaction, &self.remembered, leaves).await?;
        for (place, leaf) in (first..).zip(leaves) {
            if let Some(policy) = &leaf.policy {
                versions::insert(&mut transaction, place, policy).await?;
            }
            changes::insert(&mut transaction, place, leaf).await?;
            if let Some(one) = &leaf.used {
                let sum = used.entry((one.day, &one.factory)).or_default();
                *sum = sum.saturating_add(one.tokens);
            }
        }
        for some in halves.chunks(HALVES_AT_ONCE) {
            for half in keep_halves(&mut transaction, some).await? {
                let sum = used.entry((half.used.day, &half.used.factory)).or_default();
                *sum = sum.saturating_add(half.used.tokens);
            }
        }
        for ((day, factory), tokens) in used {
            let sql = "INSERT INTO usage (day, factory, tokens) VALUES (?, ?, ?)
                ON CONFLICT (day, factory) DO UPDATE SET tokens = min(tokens + excluded.tokens, 4611686018427387903)";
            let query = sqlx::query(sql).bind(signed(day)).bind(factory.as_str());
            query.bind(signed(tokens).min(i64::MAX / 2)).execute(&mut *transaction).await?;
        }
        if let Some(counters) = counters {
            counters::keep(&mut transaction, counters).await?;
        }
        transaction.commit().await?;
        self.remembered.add(objects);
        Ok(())
    }

    /// Whether an object is known to be on disk; `false` says nothing.
    pub fn has_object(&self, digest: &Digest) -> bool {
        self.remembered.has(digest)
    }

    /// What statements name by this digest.
    pub async fn object(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        objects::get(&self.pool, digest).await
    }

    /// The leaf of a kind for a decision.
    pub async fn leaf(&self, kind: &str, decision: &str) -> Result<Option<StoredLeaf>, StoreError> {
        leaves::find(&self.pool, kind, decision).await
    }

    /// The leaf at a place.
    pub async fn leaf_at(&self, place: u64) -> Result<Option<StoredLeaf>, StoreError> {
        leaves::at(&self.pool, place).await
    }

    /// The statements of the latest decisions, newest first.
    pub async fn latest_decision_statements(&self, count: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        let latest = leaves::latest_decisions(&self.pool, count).await?;
        Ok(latest.into_iter().map(|(_, statement)| statement).collect())
    }

    /// The ids of the latest decisions, newest first.
    pub async fn latest_decisions(&self, count: u32) -> Result<Vec<String>, StoreError> {
        let latest = leaves::latest_decisions(&self.pool, count).await?;
        Ok(latest.into_iter().map(|(id, _)| id).collect())
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
        leaves::latest_ms(&self.pool).await
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

/// Keeps halves, and says which of them were not there yet. One statement for many: each costs a way to the database's thread.
async fn keep_halves<'a>(
    connection: &mut SqliteConnection,
    halves: &'a [ForeignHalf],
) -> Result<Vec<&'a ForeignHalf>, StoreError> {
    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("INSERT OR IGNORE INTO execution_half (decision, half) ");
    query.push_values(halves, |mut row, half| {
        row.push_bind(half.decision.as_str()).push_bind(half.half.as_slice());
    });
    let rows = query.push(" RETURNING decision").build().fetch_all(connection).await?;
    let mut new: BTreeSet<&str> = rows.iter().map(|row| row.get(0)).collect();
    Ok(halves.iter().filter(|half| new.remove(half.decision.as_str())).collect())
}

/// SQLite's integers are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
