//! What this node has seen of other nodes' logs as their witness, and what it found wrong with them.
//!
//! Of each log the latest checkpoint that was cosigned is kept, and some before it, so that witnesses can compare what they were
//! shown. Alarms are never removed.

use polder_core::canonical::Digest;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, bytes32, signed};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS seen (
    origin TEXT NOT NULL,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL,
    at_ms  INTEGER NOT NULL,
    note   TEXT NOT NULL,
    PRIMARY KEY (origin, size)
) STRICT;
CREATE TABLE IF NOT EXISTS alarm (
    id     TEXT PRIMARY KEY,
    origin TEXT NOT NULL,
    kind   TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    heard  TEXT NOT NULL,
    evidence BLOB NOT NULL
) STRICT;
";

/// How many checkpoints of each log are kept.
const SEEN_MAX: i64 = 1_000;
/// Most alarms about one log: what follows the first ones says no more.
const ALARMS_MAX: i64 = 100;

/// A checkpoint of another log that this node has cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How many leaves it covers.
    pub size: u64,
    /// Their root.
    pub root: Digest,
    /// When it was cosigned, in Unix milliseconds.
    pub at_ms: u64,
    /// The note as the log sent it.
    pub note: String,
}

/// Something that was found wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmRow {
    /// The digest of what proves or supports it.
    pub id: String,
    /// The log's name.
    pub origin: String,
    /// What is wrong.
    pub kind: String,
    /// When this node learned of it, in Unix milliseconds.
    pub at_ms: u64,
    /// From whom; this node's own name where it found it itself.
    pub heard: String,
    /// The evidence as JSON.
    pub evidence: Vec<u8>,
}

fn seen(row: &SqliteRow) -> Result<Seen, StoreError> {
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    let root = Digest(bytes32(row.get::<&[u8], _>(1))?);
    Ok(Seen { size: number(row.get(0)), root, at_ms: number(row.get(2)), note: row.get(3) })
}

impl Store {
    /// The latest checkpoint of a log that this node has cosigned.
    pub async fn seen_last(&self, origin: &str) -> Result<Option<Seen>, StoreError> {
        let sql = "SELECT size, root, at_ms, note FROM seen WHERE origin = ? ORDER BY size DESC LIMIT 1";
        sqlx::query(sql).bind(origin).fetch_optional(&self.pool).await?.as_ref().map(seen).transpose()
    }

    /// The checkpoint of a size that this node has cosigned.
    pub async fn seen_at(&self, origin: &str, size: u64) -> Result<Option<Seen>, StoreError> {
        let sql = "SELECT size, root, at_ms, note FROM seen WHERE origin = ? AND size = ?";
        let row = sqlx::query(sql).bind(origin).bind(signed(size)).fetch_optional(&self.pool).await?;
        row.as_ref().map(seen).transpose()
    }

    /// The notes that were cosigned last, of every log a few.
    pub async fn seen_lately(&self, of_each: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT note FROM (SELECT note, row_number() OVER (PARTITION BY origin ORDER BY size DESC) AS place
            FROM seen) WHERE place <= ?";
        let rows = sqlx::query(sql).bind(of_each).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Puts a checkpoint in the place of the latest of its log, if that is still the one of size `old` (0: none). Whether it was;
    /// only then may the checkpoint be cosigned.
    pub async fn see(&self, origin: &str, old: u64, new: &Seen) -> Result<bool, StoreError> {
        // One statement: no other submission can come between the look and the write.
        let sql = "INSERT INTO seen (origin, size, root, at_ms, note)
            SELECT ?1, ?3, ?4, ?5, ?6 WHERE (SELECT coalesce(max(size), 0) FROM seen WHERE origin = ?1) = ?2
            ON CONFLICT (origin, size) DO UPDATE SET at_ms = excluded.at_ms WHERE root = excluded.root";
        let query = sqlx::query(sql).bind(origin).bind(signed(old)).bind(signed(new.size)).bind(new.root.0.to_vec());
        let put = query.bind(signed(new.at_ms)).bind(&new.note).execute(&self.pool).await?;
        if put.rows_affected() == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM seen WHERE origin = ?1 AND size NOT IN
            (SELECT size FROM seen WHERE origin = ?1 ORDER BY size DESC LIMIT ?2)";
        sqlx::query(sql).bind(origin).bind(SEEN_MAX).execute(&self.pool).await?;
        Ok(true)
    }

    /// Keeps an alarm; whether it is new.
    pub async fn keep_alarm(&self, alarm: &AlarmRow) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO alarm (id, origin, kind, at_ms, heard, evidence)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM alarm WHERE origin = ?2 AND kind = ?3) < ?7";
        let query = sqlx::query(sql).bind(&alarm.id).bind(&alarm.origin).bind(&alarm.kind).bind(signed(alarm.at_ms));
        let kept = query.bind(&alarm.heard).bind(&alarm.evidence).bind(ALARMS_MAX).execute(&self.pool).await?;
        Ok(kept.rows_affected() == 1)
    }

    /// Every alarm, the oldest first.
    pub async fn alarms(&self) -> Result<Vec<AlarmRow>, StoreError> {
        let sql = "SELECT id, origin, kind, at_ms, heard, evidence FROM alarm ORDER BY at_ms, id";
        let row = |row: &SqliteRow| AlarmRow {
            id: row.get(0),
            origin: row.get(1),
            kind: row.get(2),
            at_ms: u64::try_from(row.get::<i64, _>(3)).unwrap_or_default(),
            heard: row.get(4),
            evidence: row.get(5),
        };
        Ok(sqlx::query(sql).fetch_all(&self.pool).await?.iter().map(row).collect())
    }
}
