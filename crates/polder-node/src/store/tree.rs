//! What a log needs to go on where it ended: its growing end, and when this node ran.
//!
//! The end is written now and then, not with every batch: what came after it is made again from the leaves. A run that has no
//! end was cut short, and what was decided in its last moments may have no leaf.

use polder_core::canonical::Digest;
use polder_core::merkle::Tree;
use polder_core::tiles::Edge;
use sqlx::Row as _;

use super::{Store, StoreError, signed};

/// The tables. `hashes` of `tree_end` are the hashes of one level's tile that is not full.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS tree_end (
    level  INTEGER PRIMARY KEY,
    size   INTEGER NOT NULL,
    hashes BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS checkpoint (
    name TEXT PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS run (
    number     INTEGER PRIMARY KEY,
    begun_ms   INTEGER NOT NULL,
    leaves     INTEGER NOT NULL,
    recorded_ms INTEGER NOT NULL,
    ended_ms   INTEGER
) STRICT;
";

/// Most runs that are remembered.
const RUNS_MAX: i64 = 1_000;

/// The growing end of the log, and the checkpoint that was published with it.
pub struct Grown {
    /// The end.
    pub edge: Edge,
    /// The note.
    pub note: String,
}

/// A run of this node that was cut short, and what the log held when the next one began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When it began, in Unix milliseconds.
    pub begun_ms: u64,
    /// When the next one began.
    pub next_ms: u64,
    /// The last instant that a leaf names.
    pub recorded_ms: u64,
    /// How many leaves there were.
    pub leaves: u64,
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

impl Store {
    /// Keeps the growing end, and the checkpoint that is published with it.
    pub async fn keep_tree(&self, edge: &Edge, note: &str) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("DELETE FROM tree_end").execute(&mut *transaction).await?;
        for (level, tile) in (0_i64..).zip(edge.tiles()) {
            let hashes = polder_core::tiles::tile_bytes(tile.leaves());
            let query = sqlx::query("INSERT INTO tree_end (level, size, hashes) VALUES (?, ?, ?)");
            query.bind(level).bind(signed(edge.size())).bind(hashes).execute(&mut *transaction).await?;
        }
        let sql = "INSERT OR REPLACE INTO checkpoint (name, note) VALUES ('published', ?)";
        sqlx::query(sql).bind(note).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// The growing end that was kept last, where it is whole.
    pub async fn kept_tree(&self) -> Result<Option<Grown>, StoreError> {
        let rows = sqlx::query("SELECT size, hashes FROM tree_end ORDER BY level").fetch_all(&self.pool).await?;
        let note =
            sqlx::query("SELECT note FROM checkpoint WHERE name = 'published'").fetch_optional(&self.pool).await?;
        let (Some(first), Some(note)) = (rows.first(), note) else { return Ok(None) };
        let tiles = rows.iter().map(|row| {
            let mut tile = Tree::default();
            row.get::<&[u8], _>(1).as_chunks::<32>().0.iter().for_each(|hash| tile.push(Digest(*hash)));
            tile
        });
        let edge = Edge::open(unsigned(first.get(0)), tiles.collect());
        Ok(edge.map(|edge| Grown { edge, note: note.get(0) }))
    }

    /// Notes that a run begins, over this many leaves.
    pub async fn begin_run(&self, now_ms: u64, leaves: u64, recorded_ms: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO run (begun_ms, leaves, recorded_ms) VALUES (?, ?, ?)";
        let query = sqlx::query(sql).bind(signed(now_ms)).bind(signed(leaves)).bind(signed(recorded_ms));
        query.execute(&self.pool).await?;
        let sql = "DELETE FROM run WHERE number <= (SELECT max(number) FROM run) - ?";
        sqlx::query(sql).bind(RUNS_MAX).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that the run that began last has ended well: everything that it said is in the log.
    pub async fn end_run(&self, now_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE run SET ended_ms = ? WHERE number = (SELECT max(number) FROM run)";
        sqlx::query(sql).bind(signed(now_ms)).execute(&self.pool).await?;
        Ok(())
    }

    /// The runs that were cut short, oldest first.
    pub async fn cut_runs(&self) -> Result<Vec<Run>, StoreError> {
        let sql = "SELECT run.begun_ms, next.begun_ms, next.recorded_ms, next.leaves FROM run
            JOIN run AS next ON next.number = run.number + 1 WHERE run.ended_ms IS NULL ORDER BY run.number";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let run = |row: &sqlx::sqlite::SqliteRow| Run {
            begun_ms: unsigned(row.get(0)),
            next_ms: unsigned(row.get(1)),
            recorded_ms: unsigned(row.get(2)),
            leaves: unsigned(row.get(3)),
        };
        Ok(rows.iter().map(run).collect())
    }
}
