//! What the owner does with keys and budgets: make, rotate, revoke, limit, look.
//!
//! A change is written before it holds, and holds on this node as soon as it is written. Absent: who may ask for it; that is
//! the operators' surface.

use std::collections::BTreeMap;
use std::sync::Arc;

use polder_core::ids::ProjectId;
use polder_core::ledger::{Limits, PER_MINUTE_MAX};
use polder_core::usage::day_of;
use serde_json::{Value, json};

use super::keys::{PREFIX, Secrets};
use super::{Ledger, NewKey, TENANT, digest_of, key_account};
use crate::clock::now_ms;
use crate::secret;
use crate::store::{Counts, KeyUsage, StoreError, StoredKey};

/// Longest name of a key, in characters.
const NAME_MAX: usize = 64;
/// Largest budget: a billion euro, so that sums stay numbers that JSON can carry.
const MICROEUR_MAX: u64 = 1_000_000_000_000_000;
/// Most keys that hold at once.
const KEYS_MAX: usize = 100_000;

/// Why the owner's wish cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Something is named that is not there.
    #[error("{0}")]
    Unknown(String),
    /// Something cannot be as it was said.
    #[error("{0}")]
    Invalid(String),
    /// The tables cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] std::io::Error),
}

impl Ledger {
    /// Makes a key for a project.
    pub async fn create_key(
        &self,
        project: &str,
        name: &str,
        expires_ms: Option<u64>,
        limits: &Limits,
    ) -> Result<NewKey, OwnerError> {
        let project = self.project(project)?;
        if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(OwnerError::Invalid(format!("a key's name has at most {NAME_MAX} printable characters")));
        }
        let now = now_ms();
        if expires_ms.is_some_and(|expires| expires <= now) {
            return Err(OwnerError::Invalid("a new key cannot have expired already".to_owned()));
        }
        check(limits)?;
        let _writing = self.writing.lock().await;
        if self.all_keys().len() >= KEYS_MAX {
            return Err(OwnerError::Invalid(format!("there are {KEYS_MAX} keys: revoke some first")));
        }
        let id = secret::new_id()?;
        let key = secret::new(PREFIX, &id)?;
        let stored = StoredKey {
            id: id.clone(),
            name: name.to_owned(),
            project: project.to_string(),
            sha256: digest_of(&key),
            old: None,
            created_ms: now,
            expires_ms,
            revoked_ms: None,
        };
        self.keep_limits(&key_account(&id), limits).await?;
        self.store.keep_key(&stored).await?;
        self.admit(&stored);
        self.low.notify_one();
        Ok(NewKey { key, stored })
    }

    /// Gives a key a new secret; the old one holds for a while longer, so that applications can be changed one by one.
    pub async fn rotate_key(&self, id: &str, overlap_ms: u64) -> Result<NewKey, OwnerError> {
        let _writing = self.writing.lock().await;
        let mut stored = self.stored(id).await?;
        let held = self.key_of(id).ok_or_else(|| unknown_key(id))?;
        let key = secret::new(PREFIX, id)?;
        let until_ms = now_ms().saturating_add(overlap_ms);
        stored.old = (overlap_ms > 0).then_some((stored.sha256, until_ms));
        stored.sha256 = digest_of(&key);
        self.store.keep_key(&stored).await?;
        held.secrets.store(Arc::new(Secrets { sha256: stored.sha256, old: stored.old }));
        Ok(NewKey { key, stored })
    }

    /// Revokes a key: no request more, and its answers under way end.
    pub async fn revoke_key(&self, id: &str) -> Result<(), OwnerError> {
        let _writing = self.writing.lock().await;
        let mut stored = self.stored(id).await?;
        stored.revoked_ms = Some(now_ms());
        self.store.keep_key(&stored).await?;
        if let Some(key) = self.key_of(id) {
            key.revoke();
        }
        self.expel(id);
        Ok(())
    }

    async fn stored(&self, id: &str) -> Result<StoredKey, OwnerError> {
        let keys = self.store.keys().await?;
        let found = keys.into_iter().find(|key| key.id == id && key.revoked_ms.is_none());
        found.ok_or_else(|| match id.starts_with("config-") {
            true => OwnerError::Invalid(format!("`{id}` stands in the node's configuration: change it there")),
            false => unknown_key(id),
        })
    }

    /// Every key without its secret.
    pub async fn keys_shown(&self) -> Result<Vec<Value>, OwnerError> {
        let stored = self.store.keys().await?;
        let limits = self.state().limits.clone();
        let of = |id: &str| limits.get(&key_account(id)).copied().unwrap_or_default();
        let mut rows: Vec<Value> = stored.iter().map(|key| key_row(key, &of(&key.id))).collect();
        for key in self.all_keys().iter().filter(|key| key.id.starts_with("config-")) {
            let row = json!({
                "id": key.id, "name": "", "project": key.project, "configured": true, "limits": of(&key.id),
            });
            rows.push(row);
        }
        Ok(rows)
    }

    /// Sets what an account may do: `tenant`, `project/NAME` or `key/ID`.
    pub async fn set_limits(&self, account: &str, limits: &Limits) -> Result<(), OwnerError> {
        check(limits)?;
        let known = match account.split_once('/') {
            None => account == TENANT,
            Some(("project", project)) => self.project(project).map(|_| true)?,
            Some(("key", id)) => self.key_of(id).is_some(),
            Some(_) => false,
        };
        if !known {
            let message = format!("no account `{account}`: name `tenant`, `project/NAME` or `key/ID`");
            return Err(OwnerError::Unknown(message));
        }
        let _writing = self.writing.lock().await;
        self.keep_limits(account, limits).await?;
        self.low.notify_one();
        Ok(())
    }

    async fn keep_limits(&self, account: &str, limits: &Limits) -> Result<(), OwnerError> {
        self.store.keep_limits(account, limits).await?;
        let mut state = self.state();
        let state = &mut *state;
        state.limits.insert(account.to_owned(), *limits);
        let now = now_ms();
        for place in state.places_of(account) {
            state.purses.set(place, limits, now);
        }
        Ok(())
    }

    /// Every account that has limits, with what it spent and what gateways hold.
    pub async fn budgets_shown(&self) -> Result<Vec<Value>, OwnerError> {
        self.settle_now().await?;
        let limits: BTreeMap<_, _> = self.state().limits.clone();
        let mut rows = Vec::new();
        for (account, limits) in limits.iter().filter(|(_, limits)| !limits.is_none()) {
            let mut row = json!({"account": account, "limits": limits});
            if let Some(budget) = limits.budget {
                let stand = self.store.stand(&self.boot, account, budget.window.period(now_ms())).await?;
                row["spent_microeur"] = stand.standing.spent.into();
                row["held_microeur"] = stand.standing.lent.saturating_sub(stand.lost).into();
                row["lost_microeur"] = stand.lost.into();
                row["left_microeur"] = budget.microeur.saturating_sub(stand.standing.spent + stand.lost).into();
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Gives back what crashed gateways held and no record accounts for.
    pub async fn release_lost(&self) -> Result<Vec<(String, u64)>, OwnerError> {
        let released = {
            let _writing = self.writing.lock().await;
            self.store.release_lost(&self.boot).await?
        };
        self.low.notify_one();
        Ok(released)
    }

    /// What was used since a day, by day, project and key, up to now.
    pub async fn usage_since(&self, day: u64) -> Result<Vec<KeyUsage>, OwnerError> {
        self.settle_now().await?;
        Ok(self.store.key_usage_since(day).await?)
    }

    async fn settle_now(&self) -> Result<(), OwnerError> {
        self.flush(false).await.map_err(|error| match error {
            super::LedgerError::Store(error) => OwnerError::Store(error),
            super::LedgerError::Random(reason) => OwnerError::Invalid(reason),
        })
    }

    fn project(&self, name: &str) -> Result<ProjectId, OwnerError> {
        let known = self.projects.keys().find(|project| project.as_str() == name).cloned();
        known.ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            let names = self.projects.keys().map(ProjectId::as_str).collect::<Vec<_>>().join(", ");
            OwnerError::Unknown(format!("no project `{name}` here; there are: {names}"))
        })
    }
}

fn unknown_key(id: &str) -> OwnerError {
    let id: String = id.chars().take(64).collect();
    OwnerError::Unknown(format!("no key `{id}` that holds; `polder key list` shows them"))
}

fn check(limits: &Limits) -> Result<(), OwnerError> {
    let rates = [limits.requests_per_minute, limits.tokens_per_minute];
    if rates.into_iter().flatten().any(|rate| rate == 0 || rate > PER_MINUTE_MAX) {
        let message = format!("a rate is 1 to {PER_MINUTE_MAX} a minute; to let nothing through, revoke the key");
        return Err(OwnerError::Invalid(message));
    }
    if limits.streams == Some(0) {
        return Err(OwnerError::Invalid("at least one answer at once; to let nothing through, revoke the key".into()));
    }
    if limits.budget.is_some_and(|budget| budget.microeur > MICROEUR_MAX) {
        return Err(OwnerError::Invalid(format!("a budget is at most {MICROEUR_MAX} micro-euro")));
    }
    Ok(())
}

/// A key without its secret, as calls and commands show it.
pub fn key_row(key: &StoredKey, limits: &Limits) -> Value {
    json!({
        "id": key.id, "name": key.name, "project": key.project, "created_ms": key.created_ms,
        "expires_ms": key.expires_ms, "revoked_ms": key.revoked_ms,
        "old_until_ms": key.old.map(|(_, until_ms)| until_ms).filter(|until_ms| *until_ms > now_ms()),
        "configured": false, "limits": limits,
    })
}

/// What was used today and this month, as calls and commands show it.
pub fn usage_row(usage: &[&KeyUsage], now_ms: u64) -> Value {
    let today = day_of(now_ms);
    let sum = |usage: &mut dyn Iterator<Item = &&KeyUsage>| {
        let mut sum = Counts::default();
        for one in usage {
            sum.requests = sum.requests.saturating_add(one.counts.requests);
            sum.prompt_tokens = sum.prompt_tokens.saturating_add(one.counts.prompt_tokens);
            sum.completion_tokens = sum.completion_tokens.saturating_add(one.counts.completion_tokens);
            sum.microeur = sum.microeur.saturating_add(one.counts.microeur);
        }
        json!({
            "requests": sum.requests, "prompt_tokens": sum.prompt_tokens, "completion_tokens": sum.completion_tokens,
            "microeur": sum.microeur,
        })
    };
    let month = polder_core::ledger::Window::Month;
    let of_month = |one: &&&KeyUsage| month.period(one.day * 86_400_000) == month.period(now_ms);
    json!({
        "today": sum(&mut usage.iter().filter(|one| one.day == today)),
        "month": sum(&mut usage.iter().filter(of_month)),
    })
}
