//! The rows of jobs and runs, and the tickets that go with them. Rows are the machines' own (`polder_core::job::row`): each replaces the
//! one of its key, and many steps go into one transaction.

use std::collections::BTreeMap;

use polder_core::job::RunId;
use polder_core::job::row::v1::Row;
use sqlx::Row as _;

use super::{Store, StoreError};

/// The tables. `kind` is one of the constants below. A ticket's `run` begins with the side that holds it.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS job_row (
    kind INTEGER NOT NULL,
    key  TEXT NOT NULL,
    row  BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_ticket (
    run       TEXT PRIMARY KEY,
    ticket    BLOB NOT NULL,
    statement BLOB
) STRICT;
";

const JOB: i64 = 1;
const SUBMISSION: i64 = 2;
const ENTRY: i64 = 3;
const SLICE: i64 = 4;
const RUN: i64 = 5;
/// Most rows in one statement.
const ROWS_AT_ONCE: usize = 256;

/// A ticket with what is signed about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketRow {
    /// Which side's, and of which run.
    pub run: String,
    /// The ticket in JSON.
    pub ticket: Vec<u8>,
    /// The execution's statement in canonical bytes, until it is known to be in the log.
    pub statement: Option<Vec<u8>>,
}

/// The name of a ticket that a home gave out, or that a factory was given.
pub fn ticket_name(home: bool, run: &RunId) -> String {
    let side = if home { "home" } else { "factory" };
    format!("{side}/{}/{}/{}", run.home, run.job, run.epoch)
}

/// What is written of jobs in one transaction.
#[derive(Debug, Default)]
pub struct JobWrite {
    /// Rows, the later ones of a key in the place of earlier ones.
    pub rows: Vec<Row>,
    /// Tickets, in the same way.
    pub tickets: Vec<TicketRow>,
    /// Tickets that are not needed any more.
    pub done: Vec<String>,
}

impl JobWrite {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tickets.is_empty() && self.done.is_empty()
    }
}

fn bad(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError(sqlx::Error::Decode(Box::new(error)))
}

/// A row's kind and key.
type Key = (i64, String);

/// A row's key, and its bytes; none where it goes.
fn stored(row: &Row) -> Result<(Key, Option<Vec<u8>>), StoreError> {
    let key = match row {
        Row::Job(id, _) => (JOB, id.to_string()),
        Row::Submission(one) => (SUBMISSION, format!("{}/{}", one.tenant, one.key)),
        Row::Entry(one) => (ENTRY, serde_json::to_string(&one.id).map_err(bad)?),
        Row::Slice(ask, _) => (SLICE, hex::encode(ask.0)),
        Row::Run(id, _) | Row::RunOver(id) => (RUN, format!("{}/{}/{}", id.home, id.job, id.epoch)),
    };
    let over = matches!(row, Row::RunOver(_));
    let bytes = if over { None } else { Some(serde_json::to_vec(row).map_err(bad)?) };
    Ok((key, bytes))
}

impl Store {
    /// Every row of jobs and runs.
    pub async fn job_rows(&self) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query("SELECT row FROM job_row ORDER BY kind, key").fetch_all(&self.pool).await?;
        rows.iter().map(|row| serde_json::from_slice(row.get::<&[u8], _>(0)).map_err(bad)).collect()
    }

    /// Every ticket that is held.
    pub async fn job_tickets(&self) -> Result<Vec<TicketRow>, StoreError> {
        let rows =
            sqlx::query("SELECT run, ticket, statement FROM job_ticket ORDER BY run").fetch_all(&self.pool).await?;
        let row =
            |row: &sqlx::sqlite::SqliteRow| TicketRow { run: row.get(0), ticket: row.get(1), statement: row.get(2) };
        Ok(rows.iter().map(row).collect())
    }

    /// Writes all of this durably, or none of it.
    pub async fn keep_jobs(&self, write: &JobWrite) -> Result<(), StoreError> {
        let mut last: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
        for row in &write.rows {
            let (key, bytes) = stored(row)?;
            last.insert(key, bytes);
        }
        let mut transaction = self.pool.begin().await?;
        let kept: Vec<_> = last.iter().filter_map(|(key, bytes)| Some((key, bytes.as_ref()?))).collect();
        for some in kept.chunks(ROWS_AT_ONCE) {
            let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("INSERT OR REPLACE INTO job_row (kind, key, row) ");
            query.push_values(some, |mut row, ((kind, key), bytes)| {
                row.push_bind(*kind).push_bind(key.as_str()).push_bind(bytes.as_slice());
            });
            query.build().execute(&mut *transaction).await?;
        }
        for ((kind, key), _) in last.iter().filter(|(_, bytes)| bytes.is_none()) {
            let query = sqlx::query("DELETE FROM job_row WHERE kind = ? AND key = ?").bind(kind).bind(key.as_str());
            query.execute(&mut *transaction).await?;
        }
        for one in &write.tickets {
            let query = sqlx::query("INSERT OR REPLACE INTO job_ticket (run, ticket, statement) VALUES (?, ?, ?)");
            let query = query.bind(one.run.as_str()).bind(one.ticket.as_slice()).bind(one.statement.as_deref());
            query.execute(&mut *transaction).await?;
        }
        for run in &write.done {
            sqlx::query("DELETE FROM job_ticket WHERE run = ?").bind(run.as_str()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}
