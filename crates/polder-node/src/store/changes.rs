//! The leaves that say what this node goes by, listed by themselves; and what it held before the next of them.
//!
//! Decisions, executions and links are absent: there are too many of them for a row each.

use std::collections::BTreeSet;

use polder_core::canonical::Digest;
use polder_core::keys::Signed;
use polder_core::keys::history::KeyHistory;
use polder_core::statement::v1::HoldStatement;
use sqlx::{Row as _, SqliteConnection};

use super::retention::{self, Deletion};
use super::{Leaf, MemberRow, Store, StoreError, bytes32, leaves, members, signed};

/// `change` has a row for each leaf that is no decision, no execution and no link. `taken` holds what was last taken in: of a factory's facts
/// from each source, and of the texts that a home goes by. `key_history` holds the lives of the keys of each member, as its identity
/// has signed them.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS change (
    place INTEGER PRIMARY KEY,
    kind  TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS key_history (
    node    TEXT PRIMARY KEY,
    history BLOB NOT NULL
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
    /// A hold that was put or lifted.
    Hold(HoldStatement),
    /// What is deleted.
    Deletion(Deletion),
    /// How a peer stands.
    Member(MemberRow),
    /// The history of the node's own keys: its name, and the signed history as JSON.
    Keys(String, Vec<u8>),
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
    if matches!(leaf.kind, "decision" | "execution" | "link") {
        return Ok(());
    }
    let query = sqlx::query("INSERT INTO change (place, kind, at_ms) VALUES (?, ?, ?)").bind(signed(place));
    query.bind(leaf.kind).bind(signed(leaf.at_ms)).execute(&mut *connection).await?;
    match &leaf.beside {
        Some(Beside::Taken(taken)) => keep(connection, taken).await,
        Some(Beside::Hold(hold)) => retention::keep(connection, place, hold).await,
        Some(Beside::Keys(node, history)) => keep_history(&mut *connection, node, history).await,
        Some(Beside::Member(row)) => members::keep(connection, row).await,
        Some(Beside::Deletion(deletion)) => retention::delete(connection, place, deletion).await,
        None => Ok(()),
    }
}

async fn keep_history(connection: &mut SqliteConnection, node: &str, history: &[u8]) -> Result<(), StoreError> {
    let query = sqlx::query("INSERT OR REPLACE INTO key_history (node, history) VALUES (?, ?)");
    query.bind(node).bind(history).execute(connection).await?;
    Ok(())
}

async fn keep(connection: &mut SqliteConnection, taken: &Taken) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO taken (about, source, digests) VALUES (?, ?, ?)";
    let digests: Vec<u8> = taken.digests.iter().flat_map(|digest| digest.0).collect();
    let query = sqlx::query(sql).bind(&taken.about).bind(&taken.source).bind(digests);
    query.execute(connection).await?;
    Ok(())
}

impl Store {
    /// The history of a node's keys as it was kept: JSON, signed by the node's identity.
    pub async fn key_history(&self, node: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT history FROM key_history WHERE node = ?").bind(node);
        Ok(query.fetch_optional(&self.pool).await?.map(|row| row.get(0)))
    }

    /// Keeps the history of a node's keys.
    pub async fn keep_key_history(&self, node: &str, history: &Signed<KeyHistory>) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(history).map_err(|error| StoreError(sqlx::Error::Encode(error.into())))?;
        keep_history(&mut *self.pool.acquire().await?, node, &bytes).await
    }

    /// How many leaves were written by an instant, in Unix milliseconds.
    pub async fn leaves_until(&self, at_ms: u64) -> Result<u64, StoreError> {
        leaves::written_until(&self.pool, at_ms).await
    }

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
