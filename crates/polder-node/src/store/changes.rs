//! The leaves that say what this node goes by, listed by themselves; and what it held before the next of them.
//!
//! Decisions and executions are absent: there are too many of them for a row each.

use std::collections::BTreeSet;

use polder_core::canonical::Digest;
use sqlx::{Row as _, SqliteConnection};

use super::{Leaf, Store, StoreError, bytes32, signed};

/// `change` has a row for each leaf that is no decision and no execution. `taken` holds what was last taken in: of a factory's facts
/// from each source, and of the texts that a home goes by.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS change (
    place INTEGER PRIMARY KEY,
    kind  TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS taken (
    about   TEXT NOT NULL,
    source  TEXT NOT NULL,
    digests BLOB NOT NULL,
    PRIMARY KEY (about, source)
) STRICT;
";

/// What is written with a leaf or not at all.
#[derive(Debug, Clone)]
pub enum Beside {
    /// What was taken in.
    Taken(Taken),
}

/// What was last taken in from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The factory, or the home itself.
    pub about: String,
    /// Which of them.
    pub source: String,
    /// What is held, in an order of the source's own.
    pub digests: Vec<Digest>,
}

/// A leaf that says what this node goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the log, from 0.
    pub place: u64,
    /// Its kind.
    pub kind: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// Lists a leaf, and keeps what stands beside it.
pub(super) async fn insert(connection: &mut SqliteConnection, place: u64, leaf: &Leaf) -> Result<(), StoreError> {
    if matches!(leaf.kind, "decision" | "execution") {
        return Ok(());
    }
    let query = sqlx::query("INSERT INTO change (place, kind, at_ms) VALUES (?, ?, ?)").bind(signed(place));
    query.bind(leaf.kind).bind(signed(leaf.at_ms)).execute(&mut *connection).await?;
    match &leaf.beside {
        Some(Beside::Taken(taken)) => keep(connection, taken).await,
        None => Ok(()),
    }
}

async fn keep(connection: &mut SqliteConnection, taken: &Taken) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO taken (about, source, digests) VALUES (?, ?, ?)";
    let digests: Vec<u8> = taken.digests.iter().flat_map(|digest| digest.0).collect();
    let query = sqlx::query(sql).bind(&taken.about).bind(&taken.source).bind(digests);
    query.execute(connection).await?;
    Ok(())
}

impl Store {
    /// What was last taken in from every source.
    pub async fn taken(&self) -> Result<Vec<Taken>, StoreError> {
        let rows = sqlx::query("SELECT about, source, digests FROM taken").fetch_all(&self.pool).await?;
        let taken = |row: &sqlx::sqlite::SqliteRow| {
            let digests = row.get::<&[u8], _>(2).chunks(32).map(|one| Ok(Digest(bytes32(one)?)));
            let digests = digests.collect::<Result<_, StoreError>>()?;
            Ok(Taken { about: row.get(0), source: row.get(1), digests })
        };
        rows.iter().map(taken).collect()
    }

    /// The latest changes before a place, newest first; of one kind where it is named.
    pub async fn changes(&self, kind: Option<&str>, before: u64, count: u32) -> Result<Vec<Change>, StoreError> {
        let sql = "SELECT place, kind, at_ms FROM change WHERE place < ? AND (? IS NULL OR kind = ?)
            ORDER BY place DESC LIMIT ?";
        let query = sqlx::query(sql).bind(signed(before)).bind(kind).bind(kind).bind(count);
        let number = |value: i64| u64::try_from(value).unwrap_or_default();
        let rows = query.fetch_all(&self.pool).await?;
        let change = |row: &sqlx::sqlite::SqliteRow| Change {
            place: number(row.get(0)),
            kind: row.get(1),
            at_ms: number(row.get(2)),
        };
        Ok(rows.iter().map(change).collect())
    }
}

impl Taken {
    /// The digests after the first so many, as a set.
    pub fn after(&self, count: usize) -> BTreeSet<Digest> {
        self.digests.iter().skip(count).copied().collect()
    }
}
