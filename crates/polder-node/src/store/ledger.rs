//! The ledger's tables: limits, what was spent, what is lent to which gateway, and whose usage it was.
//!
//! A flush is one transaction: what was settled moves from a tranche to what is spent, new tranches are lent, and usage is
//! counted, all or nothing, so that nothing is counted twice. A tranche carries the boot that holds it; one of another boot
//! was lost with its process and counts as spent until it is reconciled.

use polder_core::ledger::{Flush, Limits, Standing};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::{Store, StoreError, signed};

/// The tables. `open_answer` holds the answers under way whose accounts have budgets, so that a crash leaves word of them.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS account_limits (
    account TEXT PRIMARY KEY,
    limits  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS spent (
    account  TEXT NOT NULL,
    period   INTEGER NOT NULL,
    microeur INTEGER NOT NULL,
    PRIMARY KEY (account, period)
) STRICT;
CREATE TABLE IF NOT EXISTS tranche (
    boot    TEXT NOT NULL,
    account TEXT NOT NULL,
    period  INTEGER NOT NULL,
    lent    INTEGER NOT NULL,
    PRIMARY KEY (boot, account, period)
) STRICT;
CREATE TABLE IF NOT EXISTS open_answer (
    decision TEXT PRIMARY KEY,
    boot     TEXT NOT NULL,
    factory  TEXT NOT NULL,
    project  TEXT NOT NULL,
    key      TEXT NOT NULL,
    price    INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    pays     TEXT NOT NULL,
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS key_usage (
    day               INTEGER NOT NULL,
    project           TEXT NOT NULL,
    key               TEXT NOT NULL,
    requests          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    microeur          INTEGER NOT NULL,
    PRIMARY KEY (day, project, key)
) STRICT;
";

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers.
    pub requests: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// What they cost, in micro-euro.
    pub microeur: u64,
}

/// Whose usage it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUsage {
    /// The day, counted from the Unix epoch in UTC.
    pub day: u64,
    /// The project.
    pub project: String,
    /// The key's id.
    pub key: String,
    /// What was used.
    pub counts: Counts,
}

/// An answer under way whose accounts have budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAnswer {
    /// The decision that placed it.
    pub decision: String,
    /// Where it runs.
    pub factory: String,
    /// The project.
    pub project: String,
    /// The key's id.
    pub key: String,
    /// Price of a million tokens, in micro-euro.
    pub price: u64,
    /// What is reserved for it, in micro-euro.
    pub reserved: u64,
    /// The accounts that pay, with the period.
    pub pays: Vec<(String, u64)>,
    /// When it was placed, in Unix milliseconds.
    pub at_ms: u64,
}

/// What one flush writes.
#[derive(Debug, Default)]
pub struct Books {
    /// What is to be settled and lent, by account.
    pub flushes: Vec<(String, Flush)>,
    /// Usage since the last flush.
    pub usage: Vec<KeyUsage>,
    /// Answers that have begun and not ended.
    pub opened: Vec<OpenAnswer>,
    /// Decisions whose answers have ended.
    pub closed: Vec<String>,
}

/// How an account stands in a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// Spent and lent, all gateways together.
    pub standing: Standing,
    /// The part of what is lent that was lost with a gateway.
    pub lost: u64,
}

fn number(row: &SqliteRow, place: usize) -> u64 {
    u64::try_from(row.get::<i64, _>(place)).unwrap_or_default()
}

impl Store {
    /// The limits of every account that has some.
    pub async fn limits(&self) -> Result<Vec<(String, Limits)>, StoreError> {
        let rows = sqlx::query("SELECT account, limits FROM account_limits").fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let odd = |_| StoreError(sqlx::Error::Decode("an account's limits cannot be read".into()));
            Ok((row.get(0), serde_json::from_str(row.get(1)).map_err(odd)?))
        };
        rows.iter().map(read).collect()
    }

    /// Keeps the limits of an account; none at all take its row away.
    pub async fn keep_limits(&self, account: &str, limits: &Limits) -> Result<(), StoreError> {
        if limits.is_none() {
            sqlx::query("DELETE FROM account_limits WHERE account = ?").bind(account).execute(&self.pool).await?;
            return Ok(());
        }
        let text = serde_json::to_string(limits).map_err(|e| StoreError(sqlx::Error::Encode(e.into())))?;
        let sql = "INSERT OR REPLACE INTO account_limits (account, limits) VALUES (?, ?)";
        sqlx::query(sql).bind(account).bind(text).execute(&self.pool).await?;
        Ok(())
    }

    /// Writes a flush of a boot; what was lent, in the order of its flushes.
    pub async fn flush(&self, boot: &str, books: &Books) -> Result<Vec<u64>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut granted = Vec::with_capacity(books.flushes.len());
        for (account, flush) in &books.flushes {
            granted.push(turn_over(&mut transaction, boot, account, flush).await?);
        }
        for usage in &books.usage {
            count(&mut transaction, usage).await?;
        }
        for answer in &books.opened {
            open(&mut transaction, boot, answer).await?;
        }
        for decision in &books.closed {
            let sql = "DELETE FROM open_answer WHERE decision = ?";
            sqlx::query(sql).bind(decision).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(granted)
    }

    /// How an account stands in a period, for a boot that is alive.
    pub async fn stand(&self, boot: &str, account: &str, period: u64) -> Result<Stand, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let spent = spent(&mut transaction, account, period).await?;
        let sql = "SELECT coalesce(sum(lent), 0), coalesce(sum(CASE WHEN boot != ? THEN lent ELSE 0 END), 0)
            FROM tranche WHERE account = ? AND period = ?";
        let query = sqlx::query(sql).bind(boot).bind(account).bind(signed(period));
        let row = query.fetch_one(&mut *transaction).await?;
        Ok(Stand { standing: Standing { spent, lent: number(&row, 0) }, lost: number(&row, 1) })
    }

    /// The answers that were under way when another boot ended.
    pub async fn lost_answers(&self, boot: &str) -> Result<Vec<OpenAnswer>, StoreError> {
        let sql =
            "SELECT decision, factory, project, key, price, reserved, pays, at_ms FROM open_answer WHERE boot != ?";
        let rows = sqlx::query(sql).bind(boot).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let odd = |_| StoreError(sqlx::Error::Decode("an open answer cannot be read".into()));
            Ok(OpenAnswer {
                decision: row.get(0),
                factory: row.get(1),
                project: row.get(2),
                key: row.get(3),
                price: number(row, 4),
                reserved: number(row, 5),
                pays: serde_json::from_str(row.get(6)).map_err(odd)?,
                at_ms: number(row, 7),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Settles an answer of a boot that has ended: out of its lost tranche, into what is spent. Done once, however often it is
    /// called.
    pub async fn settle_lost(&self, answer: &OpenAnswer, usage: &KeyUsage) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "DELETE FROM open_answer WHERE decision = ? RETURNING boot";
        let row = sqlx::query(sql).bind(&answer.decision).fetch_optional(&mut *transaction).await?;
        let Some(boot) = row.map(|row| row.get::<String, _>(0)) else { return Ok(()) };
        for (account, period) in &answer.pays {
            let lent = lent(&mut transaction, &boot, account, *period).await?;
            // An answer may have been extended after its row was written; the tranche that it was extended from is lost too.
            let paid = usage.counts.microeur.min(lent);
            let freed = lent.saturating_sub(answer.reserved.max(paid));
            put_lent(&mut transaction, &boot, account, *period, freed).await?;
            let spent = spent(&mut transaction, account, *period).await?;
            put_spent(&mut transaction, account, *period, spent.saturating_add(paid)).await?;
        }
        count(&mut transaction, usage).await?;
        Ok(transaction.commit().await?)
    }

    /// Gives back what is left of the tranches of boots that have ended and left no answer open; in micro-euro, by account.
    pub async fn release_lost(&self, boot: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "DELETE FROM tranche WHERE boot != ?1 AND boot NOT IN (SELECT boot FROM open_answer)
            RETURNING account, lent";
        let rows = sqlx::query(sql).bind(boot).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| (row.get(0), number(row, 1))).collect())
    }

    /// Usage since a day, by day, project and key.
    pub async fn key_usage_since(&self, day: u64) -> Result<Vec<KeyUsage>, StoreError> {
        let sql = "SELECT day, project, key, requests, prompt_tokens, completion_tokens, microeur FROM key_usage
            WHERE day >= ? ORDER BY day, project, key";
        let rows = sqlx::query(sql).bind(signed(day)).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| KeyUsage {
            day: number(row, 0),
            project: row.get(1),
            key: row.get(2),
            counts: Counts {
                requests: number(row, 3),
                prompt_tokens: number(row, 4),
                completion_tokens: number(row, 5),
                microeur: number(row, 6),
            },
        };
        Ok(rows.iter().map(read).collect())
    }
}

type Tx<'a> = Transaction<'a, Sqlite>;

async fn turn_over(tx: &mut Tx<'_>, boot: &str, account: &str, flush: &Flush) -> Result<u64, StoreError> {
    let period = flush.period;
    let (spent, own) = (spent(tx, account, period).await?, lent(tx, boot, account, period).await?);
    let sql = "SELECT coalesce(sum(lent), 0) FROM tranche WHERE account = ? AND period = ? AND boot != ?";
    let query = sqlx::query(sql).bind(account).bind(signed(period)).bind(boot);
    let others = number(&query.fetch_one(&mut **tx).await?, 0);
    let mut standing = Standing { spent, lent: own.saturating_add(others) };
    standing.settle(flush.spent);
    standing.take_back(flush.unused);
    let granted = standing.lend(flush.wanted, flush.budget);
    put_spent(tx, account, period, standing.spent).await?;
    put_lent(tx, boot, account, period, standing.lent.saturating_sub(others)).await?;
    Ok(granted)
}

async fn spent(tx: &mut Tx<'_>, account: &str, period: u64) -> Result<u64, StoreError> {
    let sql = "SELECT microeur FROM spent WHERE account = ? AND period = ?";
    let row = sqlx::query(sql).bind(account).bind(signed(period)).fetch_optional(&mut **tx).await?;
    Ok(row.map_or(0, |row| number(&row, 0)))
}

async fn put_spent(tx: &mut Tx<'_>, account: &str, period: u64, microeur: u64) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO spent (account, period, microeur) VALUES (?, ?, ?)";
    sqlx::query(sql).bind(account).bind(signed(period)).bind(signed(microeur)).execute(&mut **tx).await?;
    Ok(())
}

async fn lent(tx: &mut Tx<'_>, boot: &str, account: &str, period: u64) -> Result<u64, StoreError> {
    let sql = "SELECT lent FROM tranche WHERE boot = ? AND account = ? AND period = ?";
    let row = sqlx::query(sql).bind(boot).bind(account).bind(signed(period)).fetch_optional(&mut **tx).await?;
    Ok(row.map_or(0, |row| number(&row, 0)))
}

async fn put_lent(tx: &mut Tx<'_>, boot: &str, account: &str, period: u64, lent: u64) -> Result<(), StoreError> {
    if lent == 0 {
        let sql = "DELETE FROM tranche WHERE boot = ? AND account = ? AND period = ?";
        sqlx::query(sql).bind(boot).bind(account).bind(signed(period)).execute(&mut **tx).await?;
        return Ok(());
    }
    let sql = "INSERT OR REPLACE INTO tranche (boot, account, period, lent) VALUES (?, ?, ?, ?)";
    sqlx::query(sql).bind(boot).bind(account).bind(signed(period)).bind(signed(lent)).execute(&mut **tx).await?;
    Ok(())
}

async fn count(tx: &mut Tx<'_>, usage: &KeyUsage) -> Result<(), StoreError> {
    let sql = "INSERT INTO key_usage (day, project, key, requests, prompt_tokens, completion_tokens, microeur)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (day, project, key) DO UPDATE SET requests = requests + excluded.requests,
            prompt_tokens = min(prompt_tokens + excluded.prompt_tokens, 4611686018427387903),
            completion_tokens = min(completion_tokens + excluded.completion_tokens, 4611686018427387903),
            microeur = min(microeur + excluded.microeur, 4611686018427387903)";
    let counts = &usage.counts;
    let bounded = |number: u64| signed(number).min(i64::MAX / 2);
    sqlx::query(sql)
        .bind(signed(usage.day))
        .bind(&usage.project)
        .bind(&usage.key)
        .bind(bounded(counts.requests))
        .bind(bounded(counts.prompt_tokens))
        .bind(bounded(counts.completion_tokens))
        .bind(bounded(counts.microeur))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn open(tx: &mut Tx<'_>, boot: &str, answer: &OpenAnswer) -> Result<(), StoreError> {
    let pays = serde_json::to_string(&answer.pays).map_err(|e| StoreError(sqlx::Error::Encode(e.into())))?;
    let sql = "INSERT OR REPLACE INTO open_answer
        (decision, boot, factory, project, key, price, reserved, pays, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(&answer.decision)
        .bind(boot)
        .bind(&answer.factory)
        .bind(&answer.project)
        .bind(&answer.key)
        .bind(signed(answer.price))
        .bind(signed(answer.reserved))
        .bind(pays)
        .bind(signed(answer.at_ms))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
