//! The operators' tokens: who may call `/api/v1`, and in which role.
//!
//! A token is `op-polder-`, 16 hexadecimal digits that are its id, `-`, and 43 characters that are 256 random bits; the node
//! keeps its digest. Tokens of the configuration have no id and are compared with each. Wrong tokens count as wrong keys do, by
//! address. Absent: what a role may do; the operators' surface says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::config::{OperatorRole, Token};
use crate::ledger::{Denied, Guesses};
use crate::secret::{self, digest_of, id_of, same};
use crate::store::{Store, StoreError, StoredToken};

/// What every issued token begins with.
pub const PREFIX: &str = "op-polder-";
/// Longest name of a token, in characters.
const NAME_MAX: usize = 64;
/// Most tokens that hold at once.
const TOKENS_MAX: usize = 10_000;

/// Why a token cannot be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No token of this id holds.
    #[error("no token `{0}` that holds; `polder token list` shows them")]
    Unknown(String),
    /// It cannot be as it was said.
    #[error("{0}")]
    Invalid(String),
    /// The tables cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] std::io::Error),
}

/// A token that holds.
#[derive(Debug)]
struct Held {
    role: OperatorRole,
    sha256: [u8; 32],
    expires_ms: u64,
    /// The address that last used it well, as a keyed digest: who guesses there does not lock it out.
    seen_from: AtomicU64,
}

/// A token that was just made: the only time that it is seen whole.
pub struct NewToken {
    /// The token.
    pub token: String,
    /// What is kept of it.
    pub stored: StoredToken,
}

/// The tokens of one node.
pub struct Tokens {
    store: Store,
    configured: Vec<Held>,
    issued: ArcSwap<HashMap<String, Arc<Held>>>,
    guesses: Arc<Guesses>,
    /// One change at a time.
    writing: tokio::sync::Mutex<()>,
}

impl Held {
    fn of(role: OperatorRole, sha256: [u8; 32], expires_ms: Option<u64>) -> Self {
        Self { role, sha256, expires_ms: expires_ms.unwrap_or(u64::MAX), seen_from: AtomicU64::new(0) }
    }

    fn holds(&self, digest: &[u8; 32], now_ms: u64) -> bool {
        same(&self.sha256, digest) & (now_ms < self.expires_ms)
    }
}

impl Tokens {
    /// Opens the tokens of the configuration and those that the database holds. `guesses` counts what fails.
    pub async fn open(configured: &[Token], store: Store, guesses: Arc<Guesses>) -> Result<Self, StoreError> {
        let holds = store.tokens().await?.into_iter().filter(|stored| stored.revoked_ms.is_none());
        // A role that this version does not know opens nothing.
        let issued = holds.filter_map(|stored| {
            let role = OperatorRole::of(&stored.role)?;
            Some((stored.id, Arc::new(Held::of(role, stored.sha256, stored.expires_ms))))
        });
        Ok(Self {
            issued: ArcSwap::from_pointee(issued.collect()),
            configured: configured.iter().map(|token| Held::of(token.role, token.sha256.0, None)).collect(),
            store,
            guesses,
            writing: tokio::sync::Mutex::default(),
        })
    }

    /// The role of a token; nothing where it is none that holds. Who guesses waits, with a right token too, unless it was used well
    /// from there before.
    pub fn role(&self, text: &str, from: Option<IpAddr>, now_ms: u64) -> Option<Result<OperatorRole, Denied>> {
        let digest = digest_of(text);
        let issued = self.issued.load();
        let held = match id_of(PREFIX, text) {
            Some(id) => match issued.get(id) {
                Some(held) => held.holds(&digest, now_ms).then_some(&**held),
                None => {
                    std::hint::black_box(same(&digest, &[0; 32]));
                    None
                }
            },
            None => {
                let all = self.configured.iter().filter(|held| held.holds(&digest, now_ms));
                all.fold(None, |found, held| found.or(Some(held)))
            }
        }?;
        let Some(address) = from.map(|from| self.guesses.tag(from)) else { return Some(Ok(held.role)) };
        if held.seen_from.load(Ordering::Relaxed) != address {
            if let Err(wait_ms) = self.guesses.look(address, now_ms) {
                return Some(Err(Denied::Guessing(wait_ms)));
            }
            held.seen_from.store(address, Ordering::Relaxed);
        }
        Some(Ok(held.role))
    }

    /// Counts a token that is none; how the caller is denied.
    pub fn failed(&self, from: Option<IpAddr>, now_ms: u64) -> Denied {
        let address = from.map(|from| self.guesses.tag(from));
        let failed = address.map_or(Ok(()), |address| self.guesses.failed(address, now_ms));
        failed.err().map_or(Denied::Unknown, Denied::Guessing)
    }

    /// Makes a token.
    pub async fn create(
        &self,
        role: OperatorRole,
        name: &str,
        expires_ms: Option<u64>,
    ) -> Result<NewToken, TokenError> {
        if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(TokenError::Invalid(format!("a token's name has at most {NAME_MAX} printable characters")));
        }
        let now = now_ms();
        if expires_ms.is_some_and(|expires| expires <= now) {
            return Err(TokenError::Invalid("a new token cannot have expired already".to_owned()));
        }
        let _writing = self.writing.lock().await;
        if self.issued.load().len() >= TOKENS_MAX {
            return Err(TokenError::Invalid(format!("there are {TOKENS_MAX} tokens: revoke some first")));
        }
        let id = secret::new_id()?;
        let token = secret::new(PREFIX, &id)?;
        let stored = StoredToken {
            id: id.clone(),
            name: name.to_owned(),
            role: role.as_str().to_owned(),
            sha256: digest_of(&token),
            created_ms: now,
            expires_ms,
            revoked_ms: None,
        };
        self.store.keep_token(&stored).await?;
        let mut issued = HashMap::clone(&self.issued.load());
        issued.insert(id, Arc::new(Held::of(role, stored.sha256, expires_ms)));
        self.issued.store(Arc::new(issued));
        Ok(NewToken { token, stored })
    }

    /// Revokes a token: it opens nothing from the next call on.
    pub async fn revoke(&self, id: &str) -> Result<(), TokenError> {
        let _writing = self.writing.lock().await;
        let found = self.store.tokens().await?.into_iter().find(|token| token.id == id && token.revoked_ms.is_none());
        let mut stored = found.ok_or_else(|| TokenError::Unknown(id.chars().take(64).collect()))?;
        stored.revoked_ms = Some(now_ms());
        self.store.keep_token(&stored).await?;
        let mut issued = HashMap::clone(&self.issued.load());
        issued.remove(id);
        self.issued.store(Arc::new(issued));
        Ok(())
    }

    /// Every token without its secret; those of the configuration by role alone.
    pub async fn shown(&self) -> Result<Vec<Value>, StoreError> {
        let mut rows: Vec<Value> = self.store.tokens().await?.iter().map(row).collect();
        rows.extend(self.configured.iter().map(|held| {
            let digits: String = hex::encode(held.sha256).chars().take(12).collect();
            json!({"id": format!("config-{digits}"), "name": "", "role": held.role, "configured": true})
        }));
        Ok(rows)
    }
}

/// A token without its secret, as calls and commands show it.
pub fn row(stored: &StoredToken) -> Value {
    json!({
        "id": stored.id, "name": stored.name, "role": stored.role, "created_ms": stored.created_ms,
        "expires_ms": stored.expires_ms, "revoked_ms": stored.revoked_ms, "configured": false,
    })
}
