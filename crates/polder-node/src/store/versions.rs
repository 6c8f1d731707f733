//! Every text of the owner's policy that was ever in force; the newest one is.
//!
//! A version is written in one transaction with its leaf, so that the log knows of it or it never was. Taking one back is
//! absent: a rollback is a new version with an old text.

use polder_core::canonical::Digest;
use polder_core::statement::v1::{ActivationStatement, How, ProofResult};
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError, bytes32, signed};

/// The layer that has versions.
const OWNER: &str = "owner";

/// A policy on its way into force.
#[derive(Debug, Clone)]
pub struct PolicyText {
    /// Its number: one more than the version's before.
    pub number: u64,
    /// What the log says of it.
    pub activation: ActivationStatement,
    /// Its text.
    pub text: String,
}

/// A policy that is or was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyVersion {
    /// Its number, from 1; higher is later.
    pub number: u64,
    /// The file's name, without its folder.
    pub file: String,
    /// Its text.
    #[serde(skip)]
    pub text: String,
    /// The digest of the text.
    pub digest: Digest,
    /// Since when, in Unix milliseconds.
    pub at_ms: u64,
    /// What put it in force.
    pub how: How,
    /// Whether it could only forbid more than the one before.
    pub narrower: bool,
    /// What was proved before it came into force.
    pub proofs: Vec<ProofResult>,
    /// The place of its leaf in the log, from 0.
    pub leaf: u64,
}

const COLUMNS: &str = "number, file, text, digest, at_ms, how, narrower, proofs, place";

impl Store {
    /// The version in force; none before the first activation.
    pub async fn newest_policy(&self) -> Result<Option<PolicyVersion>, StoreError> {
        Ok(self.policies(1).await?.pop())
    }

    /// The latest versions, newest first.
    pub async fn policies(&self, count: u32) -> Result<Vec<PolicyVersion>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM policy_version WHERE layer = ? ORDER BY number DESC LIMIT ?");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(OWNER).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(version).collect()
    }

    /// The version of a number.
    pub async fn policy_of_number(&self, number: u64) -> Result<Option<PolicyVersion>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM policy_version WHERE layer = ? AND number = ?");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(OWNER).bind(signed(number));
        query.fetch_optional(&self.pool).await?.as_ref().map(version).transpose()
    }

    /// The newest version before a number whose text is another.
    pub async fn policy_before(&self, number: u64, digest: &Digest) -> Result<Option<PolicyVersion>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM policy_version WHERE layer = ? AND number < ? AND digest != ? ORDER BY number DESC LIMIT 1"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(OWNER).bind(signed(number)).bind(digest.0.as_slice());
        query.fetch_optional(&self.pool).await?.as_ref().map(version).transpose()
    }

    /// The newest version of each text whose digest begins so, in lower-case hexadecimal.
    pub async fn policies_of_prefix(&self, prefix: &str) -> Result<Vec<PolicyVersion>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM policy_version WHERE number IN (SELECT max(number) FROM policy_version WHERE layer = ? \
             AND substr(lower(hex(digest)), 1, ?) = ? GROUP BY digest) ORDER BY number DESC"
        );
        let length = i64::try_from(prefix.len()).unwrap_or(i64::MAX);
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(OWNER).bind(length).bind(prefix);
        query.fetch_all(&self.pool).await?.iter().map(version).collect()
    }

    /// The text that was last taken from the configuration's file.
    pub async fn policy_from_file(&self) -> Result<Option<String>, StoreError> {
        let sql = "SELECT text FROM policy_version WHERE layer = ? AND how IN ('start', 'reload') ORDER BY number DESC LIMIT 1";
        let row = sqlx::query(sql).bind(OWNER).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.get(0)))
    }
}

fn odd(what: &str) -> StoreError {
    StoreError(sqlx::Error::Decode(format!("a policy version's {what} cannot be read").into()))
}

fn version(row: &SqliteRow) -> Result<PolicyVersion, StoreError> {
    let number = |place: usize| u64::try_from(row.get::<i64, _>(place)).map_err(|_| odd("number"));
    Ok(PolicyVersion {
        number: number(0)?,
        file: row.get(1),
        text: row.get(2),
        digest: Digest(bytes32(row.get::<&[u8], _>(3))?),
        at_ms: number(4)?,
        how: serde_json::from_value(row.get::<String, _>(5).into()).map_err(|_| odd("origin"))?,
        narrower: row.get::<i64, _>(6) != 0,
        proofs: serde_json::from_str(row.get(7)).map_err(|_| odd("proofs"))?,
        leaf: number(8)?,
    })
}

/// Writes a version beside its leaf.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    place: u64,
    policy: &PolicyText,
) -> Result<(), StoreError> {
    let PolicyText { number, activation, text } = policy;
    let how = serde_json::to_value(activation.how).map_err(|_| odd("origin"))?;
    let proofs = serde_json::to_string(&activation.proofs).map_err(|_| odd("proofs"))?;
    sqlx::query(
        "INSERT INTO policy_version (number, layer, file, text, digest, at_ms, how, narrower, proofs, place)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(signed(*number))
    .bind(OWNER)
    .bind(&activation.file)
    .bind(text)
    .bind(activation.digest.0.as_slice())
    .bind(signed(activation.at_ms))
    .bind(how.as_str().unwrap_or_default())
    .bind(i64::from(activation.narrower))
    .bind(proofs)
    .bind(signed(place))
    .execute(connection)
    .await?;
    Ok(())
}
