//! Memberships as they are kept: peers, invitations and departures, each as the JSON that was signed or follows from it; and the rights
//! that homes have taken back, as long as they could hold.

use polder_core::keys::Signed;
use polder_core::membership::{Departure, Open, Peer};
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError, signed};

/// `kind` is `peer`, `invitation` or `departure`; `id` is an identity, or an invitation's id.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS member (
    kind   TEXT NOT NULL,
    id     BLOB NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE TABLE IF NOT EXISTS revoked (
    id       BLOB PRIMARY KEY,
    until_ms INTEGER NOT NULL
) STRICT;
";

/// One row.
#[derive(Debug, Clone)]
pub enum MemberRow {
    /// How a peer stands.
    Peer(Box<Peer>),
    /// An invitation of this node.
    Invitation(Box<Open>),
    /// Somebody's word that it leaves.
    Departure(Signed<Departure>),
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError(sqlx::Error::Encode(error.into())))
}

/// Writes a row, new or changed.
pub(super) async fn keep(connection: &mut SqliteConnection, row: &MemberRow) -> Result<(), StoreError> {
    let (kind, id, record) = match row {
        MemberRow::Peer(peer) => ("peer", peer.said.card.identity.to_vec(), json(peer)?),
        MemberRow::Invitation(open) => ("invitation", open.invitation.value.id.to_vec(), json(open)?),
        MemberRow::Departure(departure) => ("departure", departure.value.identity.to_vec(), json(departure)?),
    };
    let query = sqlx::query("INSERT OR REPLACE INTO member (kind, id, record) VALUES (?, ?, ?)");
    query.bind(kind).bind(id).bind(record).execute(connection).await?;
    Ok(())
}

impl Store {
    /// Every row that this version understands.
    pub async fn members(&self) -> Result<Vec<MemberRow>, StoreError> {
        let rows = sqlx::query("SELECT kind, record FROM member ORDER BY kind, id").fetch_all(&self.pool).await?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            let record: &[u8] = row.get(1);
            let broken = |error: serde_json::Error| StoreError(sqlx::Error::Decode(error.into()));
            Ok(match row.get::<&str, _>(0) {
                "peer" => Some(MemberRow::Peer(serde_json::from_slice(record).map_err(broken)?)),
                "invitation" => Some(MemberRow::Invitation(serde_json::from_slice(record).map_err(broken)?)),
                "departure" => Some(MemberRow::Departure(serde_json::from_slice(record).map_err(broken)?)),
                _ => None,
            })
        };
        rows.iter().filter_map(|one| row(one).transpose()).collect()
    }

    /// Writes a row, new or changed.
    pub async fn keep_member(&self, row: &MemberRow) -> Result<(), StoreError> {
        keep(&mut *self.pool.acquire().await?, row).await
    }

    /// Keeps the ids of rights that were taken back, each until an instant in Unix milliseconds; those that had their time are forgotten.
    pub async fn keep_revoked(&self, rows: &[([u8; 16], u64)], now_ms: u64) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("DELETE FROM revoked WHERE until_ms <= ?").bind(signed(now_ms)).execute(&mut *transaction).await?;
        for (id, until_ms) in rows {
            let query = sqlx::query("INSERT OR REPLACE INTO revoked (id, until_ms) VALUES (?, ?)");
            query.bind(id.as_slice()).bind(signed(*until_ms)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The ids of rights that were taken back.
    pub async fn revoked(&self) -> Result<Vec<([u8; 16], u64)>, StoreError> {
        let rows = sqlx::query("SELECT id, until_ms FROM revoked").fetch_all(&self.pool).await?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            let id = row.get::<&[u8], _>(0).try_into().ok()?;
            Some((id, u64::try_from(row.get::<i64, _>(1)).unwrap_or_default()))
        };
        Ok(rows.iter().filter_map(row).collect())
    }

    /// Forgets a row.
    pub async fn drop_member(&self, kind: &str, id: &[u8]) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM member WHERE kind = ? AND id = ?").bind(kind).bind(id);
        query.execute(&self.pool).await?;
        Ok(())
    }
}
