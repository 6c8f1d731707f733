//! The keys of a tenant: who asks, by what they send.
//!
//! A key is `sk-polder-`, 16 hexadecimal digits that are its id, `-`, and 43 characters that are 256 random bits. It is looked
//! up by its id and compared by its SHA-256 in constant time; an id that is not known is compared too, with a digest that
//! nothing has. Keys of the configuration have no id and are compared with each. Absent: what a key may do; its project says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use polder_core::ids::ProjectId;
use polder_core::labels::Labels;
use polder_core::ledger::Path;
use tokio::sync::Notify;

use super::{Ledger, LedgerError, configured_id, digest_of, key_account};
use crate::config::ApiKey;
use crate::secret::{id_of, same};
use crate::store::StoredKey;

/// What every issued key begins with.
pub const PREFIX: &str = "sk-polder-";

/// A key that was just made: the only time that it is seen whole.
pub struct NewKey {
    /// The key.
    pub key: String,
    /// What is kept of it.
    pub stored: StoredKey,
}

/// Which secrets hold.
#[derive(Debug)]
pub(super) struct Secrets {
    pub sha256: [u8; 32],
    pub old: Option<([u8; 32], u64)>,
}

/// A key that holds, or held when its answers began.
#[derive(Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// What the project says of its requests.
    pub labels: Labels,
    pub(super) path: Path,
    /// Its place among what was used.
    pub(super) place: usize,
    pub(super) secrets: ArcSwap<Secrets>,
    pub(super) expires_ms: u64,
    revoked: AtomicBool,
    /// Wakes the answers under way when the key is revoked.
    pub(super) end: Arc<Notify>,
    /// The address that last used it well, as a keyed digest: who guesses there does not lock it out.
    seen_from: AtomicU64,
}

/// Why a key is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Unknown, wrong, expired or revoked: nobody is told which.
    Unknown,
    /// Too many failed keys came from this address; again in so many milliseconds.
    Guessing(u64),
}

/// The keys that hold.
#[derive(Default)]
pub(super) struct Table {
    issued: HashMap<String, Arc<Key>>,
    configured: Vec<Arc<Key>>,
}

impl Key {
    /// Whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.end.notify_waiters();
    }

    fn holds(&self, digest: &[u8; 32], now_ms: u64) -> bool {
        let secrets = self.secrets.load();
        let current = same(digest, &secrets.sha256);
        let (old, until_ms) = secrets.old.unwrap_or(([0; 32], 0));
        let old = same(digest, &old) & (now_ms < until_ms);
        (current | old) & (now_ms < self.expires_ms) & !self.is_revoked()
    }
}

impl Ledger {
    /// Whose key it is. `from` is where it came from, as far as that is known; failures there are counted.
    pub fn identify(&self, text: &str, from: Option<IpAddr>, now_ms: u64) -> Result<Arc<Key>, Denied> {
        let found = self.find(text, now_ms);
        let address = from.map(|from| self.guesses.tag(from));
        let Some(key) = found else {
            let failed = address.map_or(Ok(()), |address| self.guesses.failed(address, now_ms));
            return Err(failed.err().map_or(Denied::Unknown, Denied::Guessing));
        };
        let Some(address) = address else { return Ok(key) };
        if key.seen_from.load(Ordering::Relaxed) != address {
            // A key that is right may be one that was guessed: it waits with the others, unless it was used from here before.
            self.guesses.look(address, now_ms).map_err(Denied::Guessing)?;
            key.seen_from.store(address, Ordering::Relaxed);
        }
        Ok(key)
    }

    /// A key that holds, without counting failures: for callers who have other means to ask.
    pub fn find(&self, text: &str, now_ms: u64) -> Option<Arc<Key>> {
        let digest = digest_of(text);
        let table = self.keys.load();
        let Some(id) = id_of(PREFIX, text) else {
            let all = table.configured.iter();
            return all
                .filter(|key| key.holds(&digest, now_ms))
                .fold(None, |found, key| found.or(Some(Arc::clone(key))));
        };
        match table.issued.get(id) {
            Some(key) => key.holds(&digest, now_ms).then(|| Arc::clone(key)),
            None => {
                std::hint::black_box(same(&digest, &[0; 32]) | same(&digest, &[1; 32]));
                None
            }
        }
    }

    /// The key of an id, where it holds: for work that goes on when whoever asked for it has gone.
    pub fn holding(&self, id: &str, now_ms: u64) -> Option<Arc<Key>> {
        self.key_of(id).filter(|key| now_ms < key.expires_ms && !key.is_revoked())
    }

    /// The key of an id, where it holds or may hold again.
    pub(super) fn key_of(&self, id: &str) -> Option<Arc<Key>> {
        let table = self.keys.load();
        let configured = || table.configured.iter().find(|key| key.id == id).cloned();
        table.issued.get(id).cloned().or_else(configured)
    }

    /// Every key, those of the configuration too.
    pub(super) fn all_keys(&self) -> Vec<Arc<Key>> {
        let table = self.keys.load();
        table.issued.values().chain(&table.configured).cloned().collect()
    }

    pub(super) async fn load_keys(&self, configured: &[ApiKey]) -> Result<(), LedgerError> {
        let mut table = Table::default();
        for stored in self.store.keys().await? {
            if let Some(key) = self.key(&stored).filter(|_| stored.revoked_ms.is_none()) {
                table.issued.insert(stored.id, Arc::new(key));
            }
        }
        for key in configured {
            let stored = StoredKey {
                id: configured_id(&key.sha256),
                name: String::new(),
                project: key.project.to_string(),
                sha256: key.sha256.0,
                old: None,
                created_ms: 0,
                expires_ms: None,
                revoked_ms: None,
            };
            table.configured.extend(self.key(&stored).map(Arc::new));
        }
        self.keys.store(Arc::new(table));
        Ok(())
    }

    /// A key with its accounts; none where its project is no longer there.
    fn key(&self, stored: &StoredKey) -> Option<Key> {
        let project = ProjectId::parse(&stored.project).ok()?;
        let (labels, _) = self.projects.get(&project)?;
        let mut state = self.state();
        let account = state.account(&key_account(&stored.id));
        state.used.push(Default::default());
        state.owners.push((stored.project.clone(), stored.id.clone()));
        Some(Key {
            id: stored.id.clone(),
            labels: labels.clone(),
            path: self.path(&project, account)?,
            project,
            place: state.used.len().saturating_sub(1),
            secrets: ArcSwap::from_pointee(Secrets { sha256: stored.sha256, old: stored.old }),
            expires_ms: stored.expires_ms.unwrap_or(u64::MAX),
            revoked: AtomicBool::new(false),
            end: Arc::default(),
            seen_from: AtomicU64::new(0),
        })
    }

    pub(super) fn admit(&self, stored: &StoredKey) {
        let Some(key) = self.key(stored).map(Arc::new) else { return };
        self.keys.rcu(|table| {
            let mut issued = table.issued.clone();
            issued.insert(key.id.clone(), Arc::clone(&key));
            Table { issued, configured: table.configured.clone() }
        });
    }

    pub(super) fn expel(&self, id: &str) {
        self.keys.rcu(|table| {
            let mut issued = table.issued.clone();
            issued.remove(id);
            Table { issued, configured: table.configured.clone() }
        });
    }
}
