//! The node's ledger: who asks, what they may still spend, and what they used.
//!
//! Reserving and settling are integer work under one short lock; nothing waits for the database but a request that finds its
//! tranche used up. A task in the background settles with the tables and takes new tranches before the old ones end. Absent:
//! deciding what runs where, and OpenAI's words for a refusal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use polder_core::canonical::Digest;
use polder_core::ids::{ProjectId, TenantId};
use polder_core::labels::Labels;
use polder_core::ledger::{Account, Bucket, Hold, Limits, Path, Purses, Refused, Short};
use tokio::sync::Notify;

use crate::clock::{now_ms, random};
use crate::config::HomeConfig;
use crate::secret::digest_of;
use crate::store::{Counts, OpenAnswer, Store, StoreError};

mod background;
mod guesses;
mod keys;
mod meter;
mod owner;

pub use guesses::{Guesses, client, client_of};
pub use keys::{Denied, Key, NewKey};
pub use meter::{Asked, Meter};
pub use owner::{OwnerError, key_row, usage_row};

/// The account of the tenant.
const TENANT: &str = "tenant";
/// Longest wait for a new tranche. The database takes milliseconds; one that takes longer is out of order.
const TRANCHE_WAIT_MAX: Duration = Duration::from_secs(3);

/// What a request ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Whose limit it is, and which.
    Limit(Level, Short),
    /// The ledger's tables do not answer.
    Broken,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The key's own.
    Key,
    /// Its project's.
    Project,
    /// The tenant's.
    Tenant,
}

impl Level {
    fn of(place: usize) -> Self {
        match place {
            0 => Self::Key,
            1 => Self::Project,
            _ => Self::Tenant,
        }
    }

    /// As messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Project => "project",
            Self::Tenant => "tenant",
        }
    }
}

/// What changes with every request, under one lock.
#[derive(Default)]
struct State {
    purses: Purses,
    /// The accounts' names, by place.
    names: Vec<String>,
    limits: BTreeMap<String, Limits>,
    /// What was used since the last flush, by the keys' places, and whose it is: the project and the key's id.
    used: Vec<Counts>,
    owners: Vec<(String, String)>,
    opened: Vec<OpenAnswer>,
    closed: Vec<String>,
    uncertain: Vec<meter::Uncertain>,
}

/// The keys, budgets and usage of one tenant.
pub struct Ledger {
    store: Store,
    tenant: TenantId,
    projects: BTreeMap<ProjectId, (Labels, Account)>,
    tenant_account: Account,
    keys: ArcSwap<keys::Table>,
    state: Mutex<State>,
    /// Which process holds the tranches.
    boot: String,
    /// One change of keys, limits or tables at a time.
    writing: tokio::sync::Mutex<()>,
    /// A tranche is used up: flush now.
    low: Notify,
    /// A flush has ended.
    flushed: Notify,
    /// Failed keys, by address.
    pub guesses: Arc<Guesses>,
}

impl Ledger {
    /// Opens the ledger on what the database holds.
    pub async fn open(config: &HomeConfig, store: Store) -> Result<Self, LedgerError> {
        let boot: [u8; 16] = random().map_err(|e| LedgerError::Random(e.to_string()))?;
        let mut state = State { limits: store.limits().await?.into_iter().collect(), ..State::default() };
        let tenant_account = state.account(TENANT);
        let mut projects = BTreeMap::new();
        for (project, labels) in &config.projects {
            let account = state.account(&project_account(project.as_str()));
            projects.insert(project.clone(), (labels.clone(), account));
        }
        let ledger = Self {
            tenant: config.tenant.clone(),
            projects,
            tenant_account,
            keys: ArcSwap::default(),
            state: Mutex::new(state),
            boot: hex::encode(boot),
            writing: tokio::sync::Mutex::default(),
            low: Notify::new(),
            flushed: Notify::new(),
            guesses: Arc::new(Guesses::new(config.admission.failed_keys_per_minute)),
            store,
        };
        ledger.load_keys(&config.keys).await?;
        ledger.flush(false).await?;
        Ok(ledger)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, project: &ProjectId, key: Account) -> Option<Path> {
        let (_, account) = self.projects.get(project)?;
        Some([key, *account, self.tenant_account])
    }

    /// Whether anything that a key's requests use is paid from a budget.
    pub fn pays(&self, key: &Key) -> bool {
        self.state().purses.pays(&key.path)
    }

    /// Reserves for a request, waiting for a new tranche where the old one is used up and the ledger still has something.
    async fn reserve(&self, key: &Key, tokens: u64, microeur: u64) -> Result<Hold, Stop> {
        let reserve = || self.state().purses.reserve(key.path, tokens, microeur, now_ms());
        let first = reserve();
        if !matches!(first, Err(Refused { short: Short::Money { last: false }, .. })) {
            return first.map_err(stop);
        }
        self.with_tranche(|| reserve().map_err(stop)).await
    }

    /// Tries again after each flush until the ledger has nothing more.
    async fn with_tranche<T>(&self, mut again: impl FnMut() -> Result<T, Stop>) -> Result<T, Stop> {
        let deadline = tokio::time::Instant::now() + TRANCHE_WAIT_MAX;
        loop {
            let flushed = self.flushed.notified();
            match again() {
                Err(Stop::Limit(_, Short::Money { last: false })) => {}
                other => return other,
            }
            self.low.notify_one();
            if tokio::time::timeout_at(deadline, flushed).await.is_err() {
                return Err(Stop::Broken);
            }
        }
    }

    /// The rates that leave a key the least: requests, then tokens.
    pub fn rates(&self, key: &Key) -> [Option<Bucket>; 2] {
        self.state().purses.rates(&key.path, now_ms())
    }

    /// The name of the tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

fn stop(refused: Refused) -> Stop {
    Stop::Limit(Level::of(refused.level), refused.short)
}

impl State {
    /// The account of a name; added where it is new.
    fn account(&mut self, name: &str) -> Account {
        let limits = self.limits.get(name).copied().unwrap_or_default();
        self.names.push(name.to_owned());
        self.purses.add(&limits, now_ms())
    }

    /// The accounts of a name.
    fn places_of(&self, name: &str) -> Vec<Account> {
        self.purses
            .accounts()
            .filter(|account| self.names.get(account.place()).is_some_and(|one| one == name))
            .collect()
    }
}

fn project_account(project: &str) -> String {
    format!("project/{project}")
}

fn key_account(key: &str) -> String {
    format!("key/{key}")
}

/// The id under which a key of the configuration is counted: a part of its digest.
pub fn configured_id(sha256: &Digest) -> String {
    let digits: String = sha256.to_hex().chars().take(12).collect();
    format!("config-{digits}")
}

/// Why the ledger cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Its tables.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

#[cfg(test)]
mod tests;
