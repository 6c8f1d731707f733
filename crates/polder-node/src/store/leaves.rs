//! How leaves lie in the database: one row for each batch, its statements compressed together.
//!
//! A node that answers thousands of requests a second writes two leaves for each, and their statements differ in little. A row for
//! each leaf would cost more than the answer; a row for each batch costs next to nothing, and a tenth of the disk. A decision's id
//! begins with its time, so a leaf is found by looking at the batches from then on. A statement and its salt can be wiped; changing them is absent.

use polder_core::canonical::Digest;
use polder_core::ids::DecisionId;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteConnection};

use super::{Leaf, StoreError, StoredLeaf, bytes32, signed};

/// The table. `first` is the place in the log of a batch's first leaf; gaps cannot occur, because one writer fills it in order.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS leaves (
    first       INTEGER PRIMARY KEY,
    count       INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL,
    keys        BLOB NOT NULL,
    commitments BLOB NOT NULL,
    statements  BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS leaves_until ON leaves (until_ms);
";

/// A kind and 16 bytes of the decision's id, or of the policy's digest.
const KEY_BYTES: usize = 17;
/// How much earlier by another node's clock a decision may have been made than its id says, in milliseconds.
const SKEW_MS: u64 = 10_000;
/// Most bytes of one batch's statements, so that a broken row cannot ask for all memory.
const BATCH_BYTES_MAX: usize = 1 << 30;

const KINDS: [&str; 11] =
    ["decision", "execution", "activation", "import", "view", "deletion", "hold", "key", "link", "day", "member"];
/// The key of a leaf that is looked for by no id, or whose statement was wiped.
const NO_KEY: [u8; KEY_BYTES] = [u8::MAX; KEY_BYTES];

fn key(kind: &str, id: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    let (first, rest) = key.split_first_mut()?;
    *first = u8::try_from(KINDS.iter().position(|known| *known == kind)?).ok()?;
    let digits = id.rsplit_once('-').map_or(id, |(_, digits)| digits);
    hex::decode_to_slice(digits.get(..32)?, rest).ok()?;
    Some(key)
}

/// The statements of a batch, each with its salt: 32 bytes of salt, four bytes of length (little-endian), the statement.
mod v1 {
    use super::{BATCH_BYTES_MAX, Leaf, StoreError};

    /// A salt, and the statement that it belongs to.
    pub type Salted = ([u8; 32], Vec<u8>);

    pub fn pack(leaves: &[Leaf]) -> Vec<u8> {
        pack_all(leaves.iter().map(|leaf| (&leaf.salt, leaf.statement.as_slice())))
    }

    pub fn pack_all<'a>(leaves: impl Iterator<Item = (&'a [u8; 32], &'a [u8])> + Clone) -> Vec<u8> {
        let size = leaves.clone().map(|(_, statement)| statement.len() + 36).sum();
        let mut plain = Vec::with_capacity(size);
        for (salt, statement) in leaves {
            plain.extend_from_slice(salt);
            plain.extend_from_slice(&u32::try_from(statement.len()).unwrap_or(u32::MAX).to_le_bytes());
            plain.extend_from_slice(statement);
        }
        lz4_flex::compress_prepend_size(&plain)
    }

    /// Salt and statement of the leaves of a batch, in order.
    pub fn unpack(packed: &[u8]) -> Result<Vec<Salted>, StoreError> {
        let broken = || StoreError(sqlx::Error::Decode("a batch of leaves cannot be read".into()));
        let (size, rest) = lz4_flex::block::uncompressed_size(packed).map_err(|_| broken())?;
        if size > BATCH_BYTES_MAX {
            return Err(broken());
        }
        let plain = lz4_flex::block::decompress(rest, size).map_err(|_| broken())?;
        if plain.len() != size {
            return Err(broken());
        }
        let (mut leaves, mut rest) = (Vec::new(), plain.as_slice());
        while !rest.is_empty() {
            let (salt, more) = rest.split_first_chunk::<32>().ok_or_else(broken)?;
            let (length, more) = more.split_first_chunk::<4>().ok_or_else(broken)?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| broken())?;
            let (statement, more) = more.split_at_checked(length).ok_or_else(broken)?;
            leaves.push((*salt, statement.to_vec()));
            rest = more;
        }
        Ok(leaves)
    }
}

/// Writes a batch.
pub(super) async fn insert(connection: &mut SqliteConnection, first: u64, leaves: &[Leaf]) -> Result<(), StoreError> {
    let mut keys = Vec::with_capacity(leaves.len() * KEY_BYTES);
    let mut commitments = Vec::with_capacity(leaves.len() * 32);
    for leaf in leaves {
        keys.extend_from_slice(&key(leaf.kind, &leaf.decision).unwrap_or(NO_KEY));
        commitments.extend_from_slice(&leaf.commitment.0);
    }
    let until_ms = leaves.iter().map(|leaf| leaf.at_ms).max().unwrap_or(0);
    sqlx::query("INSERT INTO leaves (first, count, until_ms, keys, commitments, statements) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(signed(first))
        .bind(signed(leaves.len() as u64))
        .bind(signed(until_ms))
        .bind(keys)
        .bind(commitments)
        .bind(v1::pack(leaves))
        .execute(&mut *connection)
        .await?;
    Ok(())
}

/// The commitments of the leaves from a place to another, in log order; fewer where there are not as many.
pub(super) async fn commitments(pool: &SqlitePool, from: u64, to: u64) -> Result<Vec<Digest>, StoreError> {
    let sql = "SELECT first, commitments FROM leaves WHERE first < ?
        AND first >= (SELECT coalesce(max(first), 0) FROM leaves WHERE first <= ?) ORDER BY first";
    let rows = sqlx::query(sql).bind(signed(to)).bind(signed(from)).fetch_all(pool).await?;
    let mut all = Vec::new();
    for row in &rows {
        for (place, commitment) in (place_of(row)..to).zip(row.get::<&[u8], _>(1).chunks(32)) {
            if place >= from {
                all.push(Digest(bytes32(commitment)?));
            }
        }
    }
    Ok(all)
}

/// How many leaves there are.
pub(super) async fn size(pool: &SqlitePool) -> Result<u64, StoreError> {
    let sql = "SELECT first + count FROM leaves ORDER BY first DESC LIMIT 1";
    let row = sqlx::query(sql).fetch_optional(pool).await?;
    Ok(row.map_or(0, |row| place_of(&row)))
}

/// The leaves of the batch that holds a place: the first one's place, their commitments, and salt and statement of each. `None`
/// where there is no such leaf.
pub(super) async fn batch(pool: &SqlitePool, place: u64) -> Result<Option<Batch>, StoreError> {
    let sql = "SELECT first, commitments, statements FROM leaves WHERE first <= ? ORDER BY first DESC LIMIT 1";
    let Some(row) = sqlx::query(sql).bind(signed(place)).fetch_optional(pool).await? else { return Ok(None) };
    let commitments = row.get::<&[u8], _>(1).chunks(32).map(|one| Ok(Digest(bytes32(one)?)));
    let commitments = commitments.collect::<Result<Vec<_>, StoreError>>()?;
    let batch = Batch { first: place_of(&row), commitments, leaves: v1::unpack(row.get::<&[u8], _>(2))? };
    let last = batch.first.saturating_add(batch.commitments.len() as u64);
    Ok((place < last).then_some(batch))
}

/// Leaves that were written together.
pub struct Batch {
    /// The place of the first.
    pub first: u64,
    /// The commitment of each.
    pub commitments: Vec<Digest>,
    /// Salt and statement of each.
    pub leaves: Vec<([u8; 32], Vec<u8>)>,
}

/// The leaf of a kind for a decision: of several, the one in the earliest batch and there the last.
pub(super) async fn find(pool: &SqlitePool, kind: &str, decision: &str) -> Result<Option<StoredLeaf>, StoreError> {
    let Some(key) = key(kind, decision) else { return Ok(None) };
    let from_ms = DecisionId::parse(decision).map_or(0, |id| id.at_ms()).saturating_sub(SKEW_MS);
    let mut after = -1;
    loop {
        // A few at a time: nearly always the leaf is in one of the first.
        let sql = "SELECT first, keys FROM leaves WHERE until_ms >= ? AND first > ? ORDER BY first LIMIT 256";
        let rows = sqlx::query(sql).bind(signed(from_ms)).bind(after).fetch_all(pool).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        after = last.get::<i64, _>(0);
        for row in &rows {
            let place = row.get::<&[u8], _>(1).chunks(KEY_BYTES).rposition(|held| held == key);
            if let Some(place) = place {
                return at(pool, place_of(row).saturating_add(place as u64)).await;
            }
        }
    }
}

fn place_of(row: &SqliteRow) -> u64 {
    u64::try_from(row.get::<i64, _>(0)).unwrap_or_default()
}

/// The leaf at a place.
pub(super) async fn at(pool: &SqlitePool, place: u64) -> Result<Option<StoredLeaf>, StoreError> {
    let sql = "SELECT first, statements FROM leaves WHERE first <= ? ORDER BY first DESC LIMIT 1";
    let Some(row) = sqlx::query(sql).bind(signed(place)).fetch_optional(pool).await? else { return Ok(None) };
    let within = usize::try_from(place.saturating_sub(place_of(&row))).unwrap_or(usize::MAX);
    let leaf = v1::unpack(row.get::<&[u8], _>(1))?.into_iter().nth(within);
    // One that was wiped has an empty statement.
    Ok(leaf.filter(|(_, statement)| !statement.is_empty()).map(|(salt, statement)| StoredLeaf {
        index: place,
        salt,
        statement,
    }))
}

/// Wipes the statements and salts at some places, and the ids by which they are found. The commitments stay.
pub(super) async fn wipe(connection: &mut SqliteConnection, places: &[u64]) -> Result<(), StoreError> {
    let mut places = places.to_vec();
    places.sort_unstable();
    let mut rest = places.as_slice();
    while let Some(place) = rest.first().copied() {
        let sql = "SELECT first, keys, statements FROM leaves WHERE first <= ? ORDER BY first DESC LIMIT 1";
        let Some(row) = sqlx::query(sql).bind(signed(place)).fetch_optional(&mut *connection).await? else { break };
        let (first, mut keys) = (place_of(&row), row.get::<Vec<u8>, _>(1));
        let mut leaves = v1::unpack(row.get::<&[u8], _>(2))?;
        let end = first.saturating_add(leaves.len() as u64);
        // A place that no leaf has is passed over.
        let here = rest.iter().take_while(|place| **place < end).count().max(1);
        for place in rest.iter().take(here) {
            let within = usize::try_from(place.saturating_sub(first)).unwrap_or(usize::MAX);
            if let Some(leaf) = leaves.get_mut(within) {
                *leaf = ([0; 32], Vec::new());
            }
            if let Some(key) = keys.chunks_mut(KEY_BYTES).nth(within) {
                key.copy_from_slice(&NO_KEY);
            }
        }
        let packed = v1::pack_all(leaves.iter().map(|(salt, statement)| (salt, statement.as_slice())));
        let query = sqlx::query("UPDATE leaves SET keys = ?, statements = ? WHERE first = ?").bind(keys).bind(packed);
        query.bind(signed(first)).execute(&mut *connection).await?;
        rest = rest.get(here..).unwrap_or_default();
    }
    Ok(())
}

/// The latest decisions, newest first: id and statement.
pub(super) async fn latest_decisions(pool: &SqlitePool, count: u32) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let (count, mut found) = (usize::try_from(count).unwrap_or(usize::MAX), Vec::new());
    let mut before = i64::MAX;
    while found.len() < count {
        let sql = "SELECT first, keys, statements FROM leaves WHERE first < ? ORDER BY first DESC LIMIT 1";
        let Some(row) = sqlx::query(sql).bind(before).fetch_optional(pool).await? else { break };
        before = row.get::<i64, _>(0);
        let statements = v1::unpack(row.get::<&[u8], _>(2))?;
        for (key, (_, statement)) in row.get::<&[u8], _>(1).chunks(KEY_BYTES).zip(statements).rev() {
            if let Some((0, id)) = key.split_first().filter(|_| found.len() < count) {
                found.push((format!("decision-{}", hex::encode(id)), statement));
            }
        }
    }
    Ok(found)
}

/// How many leaves were written by an instant, in Unix milliseconds.
pub(super) async fn written_until(pool: &SqlitePool, at_ms: u64) -> Result<u64, StoreError> {
    let sql = "SELECT first + count FROM leaves WHERE until_ms <= ? ORDER BY first DESC LIMIT 1";
    let row = sqlx::query(sql).bind(signed(at_ms)).fetch_optional(pool).await?;
    Ok(row.map_or(0, |row| place_of(&row)))
}

/// The latest instant that any leaf names, in Unix milliseconds; 0 where there is none.
pub(super) async fn latest_ms(pool: &SqlitePool) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT coalesce(max(until_ms), 0) FROM leaves").fetch_one(pool).await?;
    Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or_default())
}

#[cfg(test)]
mod tests;
