//! Legal holds, and what was deleted from the log's statements: the leaf stays, its statement and salt are overwritten.
//!
//! What is deleted is gone from the database's file too: its pages are wiped, and what the write-ahead log still held of it is
//! cut off. Copies elsewhere are absent: backups and receipts that were handed out are other people's affair.

use polder_core::canonical::{self, Digest};
use polder_core::statement::v1::{DeletionStatement, HoldAct, HoldScope, HoldStatement};
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError, leaves, signed};

/// `hold` has a row for each hold, `forgotten` one for each leaf whose statement was deleted: by the digest of its id, so that only
/// whoever has the id finds it. `swept` says when a batch must be looked at again.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS hold (
    id           TEXT PRIMARY KEY,
    scope        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    word         TEXT NOT NULL,
    put_ms       INTEGER NOT NULL,
    put_place    INTEGER NOT NULL,
    lifted_ms    INTEGER,
    lifted_place INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS forgotten (
    place    INTEGER PRIMARY KEY,
    name     BLOB NOT NULL,
    at_ms    INTEGER NOT NULL,
    class    TEXT NOT NULL,
    ground   TEXT NOT NULL,
    deletion INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS forgotten_name ON forgotten (name);
CREATE TABLE IF NOT EXISTS swept (
    first   INTEGER PRIMARY KEY,
    next_ms INTEGER NOT NULL
) STRICT;
";

/// How often the write-ahead log is tried to be cut off.
const CUT_TRIES: u32 = 50;
const CUT_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// A deletion on its way: what the log says of it, and the leaves with their decisions' ids.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// What the log says.
    pub statement: DeletionStatement,
    /// Each leaf, and the id of its decision.
    pub leaves: Vec<(u64, String)>,
}

/// A hold, in force or lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredHold {
    /// Its id.
    pub id: String,
    /// What it holds.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// On whose word.
    pub by: String,
    /// Since when, in Unix milliseconds.
    pub put_ms: u64,
    /// The leaf that says so.
    pub put_leaf: u64,
    /// Until when; absent while it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted_ms: Option<u64>,
    /// The leaf that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted_leaf: Option<u64>,
}

/// What is known of a statement that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Its leaf, which stays.
    pub leaf: u64,
    /// When it was deleted, in Unix milliseconds.
    pub at_ms: u64,
    /// Under which retention class.
    pub class: String,
    /// `age`, `word` or `erasure`.
    pub ground: String,
    /// The leaf that says so.
    pub deletion: u64,
}

/// The digest under which a decision is found after its deletion.
fn blinded(id: &str) -> Digest {
    canonical::hash("polder/forgotten/v1", &[id.as_bytes()])
}

/// Keeps what a leaf at a place says of a hold.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    place: u64,
    hold: &HoldStatement,
) -> Result<(), StoreError> {
    let at_ms = signed(hold.at_ms);
    if hold.act == HoldAct::Lifted {
        let query = sqlx::query("UPDATE hold SET lifted_ms = ?, lifted_place = ? WHERE id = ?").bind(at_ms);
        query.bind(signed(place)).bind(&hold.hold).execute(&mut *connection).await?;
        // What it held may be due at once.
        sqlx::query("DELETE FROM swept").execute(connection).await?;
        return Ok(());
    }
    let scope = serde_json::to_string(&hold.scope).map_err(|e| StoreError(sqlx::Error::Encode(e.into())))?;
    let sql = "INSERT INTO hold (id, scope, reason, word, put_ms, put_place) VALUES (?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(sql).bind(&hold.hold).bind(scope).bind(&hold.reason).bind(&hold.by);
    query.bind(at_ms).bind(signed(place)).execute(connection).await?;
    Ok(())
}

/// Deletes what a leaf at a place says that it deletes.
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    place: u64,
    deletion: &Deletion,
) -> Result<(), StoreError> {
    sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await?;
    let said = &deletion.statement;
    let ground = serde_json::to_value(said.ground).ok().and_then(|value| value.as_str().map(str::to_owned));
    for (leaf, id) in &deletion.leaves {
        let sql =
            "INSERT OR IGNORE INTO forgotten (place, name, at_ms, class, ground, deletion) VALUES (?, ?, ?, ?, ?, ?)";
        let query = sqlx::query(sql).bind(signed(*leaf)).bind(blinded(id).0.to_vec()).bind(signed(said.at_ms));
        let query = query.bind(&said.class).bind(ground.as_deref().unwrap_or_default()).bind(signed(place));
        query.execute(&mut *connection).await?;
        sqlx::query("DELETE FROM execution_half WHERE decision = ?").bind(id).execute(&mut *connection).await?;
    }
    let places: Vec<u64> = deletion.leaves.iter().map(|(leaf, _)| *leaf).collect();
    leaves::wipe(connection, &places).await?;
    sqlx::query("PRAGMA secure_delete = OFF").execute(connection).await?;
    Ok(())
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

impl Store {
    /// Every hold, the newest first.
    pub async fn holds(&self) -> Result<Vec<StoredHold>, StoreError> {
        let sql = "SELECT id, scope, reason, word, put_ms, put_place, lifted_ms, lifted_place FROM hold ORDER BY put_place DESC";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let hold = |row: &SqliteRow| {
            let scope = serde_json::from_str(row.get::<&str, _>(1));
            Ok(StoredHold {
                id: row.get(0),
                scope: scope.map_err(|e| StoreError(sqlx::Error::Decode(e.into())))?,
                reason: row.get(2),
                by: row.get(3),
                put_ms: number(row.get(4)),
                put_leaf: number(row.get(5)),
                lifted_ms: row.get::<Option<i64>, _>(6).map(number),
                lifted_leaf: row.get::<Option<i64>, _>(7).map(number),
            })
        };
        rows.iter().map(hold).collect()
    }

    /// What is known of a decision's statements that were deleted: of several the one with the lowest place.
    pub async fn forgotten(&self, id: &str) -> Result<Option<Forgotten>, StoreError> {
        let sql = "SELECT place, at_ms, class, ground, deletion FROM forgotten WHERE name = ? ORDER BY place LIMIT 1";
        let row = sqlx::query(sql).bind(blinded(id).0.to_vec()).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| Forgotten {
            leaf: number(row.get(0)),
            at_ms: number(row.get(1)),
            class: row.get(2),
            ground: row.get(3),
            deletion: number(row.get(4)),
        }))
    }

    /// The first leaves of batches after a place that were written by an instant, and whose time to be looked at has come.
    pub async fn aged(&self, after: Option<u64>, written_ms: u64, now_ms: u64) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT leaves.first FROM leaves LEFT JOIN swept ON swept.first = leaves.first
            WHERE leaves.until_ms <= ? AND coalesce(swept.next_ms, 0) <= ? AND leaves.first > ?
            ORDER BY leaves.first LIMIT 64";
        let after = after.map_or(-1, signed);
        let query = sqlx::query(sql).bind(signed(written_ms)).bind(signed(now_ms)).bind(after);
        Ok(query.fetch_all(&self.pool).await?.iter().map(|row| number(row.get(0))).collect())
    }

    /// Notes when a batch must be looked at again.
    pub async fn look_again(&self, first: u64, next_ms: u64) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO swept (first, next_ms) VALUES (?, ?)";
        sqlx::query(sql).bind(signed(first)).bind(signed(next_ms)).execute(&self.pool).await?;
        Ok(())
    }

    /// Has every batch looked at again: the rules may be others.
    pub async fn look_at_all_again(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM swept").execute(&self.pool).await?;
        Ok(())
    }

    /// Cuts off the write-ahead log, so that nothing deleted is left in it; `false` where readers keep it open all the while.
    pub async fn cut_wal(&self) -> Result<bool, StoreError> {
        for _ in 0..CUT_TRIES {
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool).await?;
            if row.get::<i64, _>(0) == 0 {
                return Ok(true);
            }
            tokio::time::sleep(CUT_PAUSE).await;
        }
        Ok(false)
    }

    /// Wipes a statement without a word.
    #[cfg(test)]
    pub(crate) async fn wipe(&self, place: u64) -> Result<(), StoreError> {
        leaves::wipe(&mut *self.pool.acquire().await?, &[place]).await
    }
}
