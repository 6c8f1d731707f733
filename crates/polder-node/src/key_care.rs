//! The care of a node's keys: their history, rotation with an overlap, and revocation.
//!
//! A change is a statement in the log, signed by the identity and by a key of the role; it is written in one transaction with the new
//! history, which the identity signs too and everybody may read (`/log/keys`). Only the log's key is changed here. The witness's,
//! the transport's and the authority's are absent: others pin those by the members' file, and a change of them goes through it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};
use http::StatusCode;
use polder_core::ids::NodeId;
use polder_core::keys::history::{KeyAct, KeyChange, KeyHistory, KeyLife};
use polder_core::keys::{NodeCard, Role, Signed};
use polder_core::note::{Signs, VerifierKey};
use polder_core::statement::v1::{KeyStatement, Statement};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::clock::now_ms;
use crate::keys::{KeyError, NodeKeys, existing_key, new_key};
use crate::log::alarms::{Alarms, LearnError};
use crate::log::{Face, Log, LogError, Signing};
use crate::node::Node;
use crate::pkcs11::{Token, TokenError, TokenKey};
use crate::shutdown::Shutdown;
use crate::store::{Beside, Store, StoreError};

/// The files in which the log's key may lie: in use, before that, and on its way.
const CURRENT: &str = "log.key";
const BEFORE: &str = "log.old.key";
const NEXT: &str = "log.next.key";
/// Longest overlap, in milliseconds: 90 days.
const OVERLAP_MS_MAX: u64 = 90 * 86_400_000;

/// How long a member has to take in a history.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    /// A key's file.
    #[error(transparent)]
    File(#[from] KeyError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A key that the history names is nowhere.
    #[error("the log's key {0} is neither in `keys/` nor in the token: put it back; without it this log cannot go on")]
    Gone(String),
    /// A change that cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// A node's keys and their lives.
pub struct KeyCare {
    folder: PathBuf,
    identity: SigningKey,
    card: NodeCard,
    token: Option<Arc<Token>>,
    history: RwLock<Arc<Signed<KeyHistory>>>,
    store: Store,
    /// One change at a time.
    turn: Mutex<()>,
}

/// Where the keys that sign lie.
struct Places<'a> {
    folder: &'a Path,
    token: Option<&'a Arc<Token>>,
}

impl Places<'_> {
    /// The key with a public half, wherever it lies.
    fn find(&self, public: &[u8; 32]) -> Result<Arc<dyn Signs>, CareError> {
        for name in [CURRENT, NEXT, BEFORE] {
            if let Some(key) = existing_key(&self.folder.join(name))?
                && key.verifying_key().as_bytes() == public
            {
                return Ok(Arc::new(key));
            }
        }
        match self.token.map(|token| token.by_public(public)) {
            Some(Ok(key)) => Ok(Arc::new(key)),
            Some(Err(error)) if !matches!(error, TokenError::Key { .. }) => Err(error.into()),
            _ => Err(CareError::Gone(hex::encode(public))),
        }
    }
}

impl KeyCare {
    /// Opens a node's keys as its history has them; a node that has none begins one.
    pub async fn open(
        folder: &Path,
        keys: &NodeKeys,
        token: Option<Arc<Token>>,
        store: Store,
    ) -> Result<(Self, Signing), CareError> {
        let node = keys.card.node.as_str();
        let known =
            store.key_history(node).await?.and_then(|bytes| serde_json::from_slice::<Signed<KeyHistory>>(&bytes).ok());
        let own = |history: &Signed<KeyHistory>| history.check(&keys.card.node, &keys.card.identity).is_ok();
        let history = match known.filter(own) {
            Some(history) => history,
            None => {
                let first = KeyHistory::first(&keys.card, now_ms()).sign(&keys.identity);
                let first = first.map_err(|error| CareError::Invalid(error.to_string()))?;
                store.keep_key_history(node, &first).await?;
                first
            }
        };
        let care = Self {
            folder: folder.to_owned(),
            identity: keys.identity.clone(),
            card: keys.card.clone(),
            token,
            history: RwLock::new(Arc::new(history)),
            store,
            turn: Mutex::default(),
        };
        let signing = care.signing(&care.history().value, None)?;
        Ok((care, signing))
    }

    /// The history as it is now.
    pub fn history(&self) -> Arc<Signed<KeyHistory>> {
        Arc::clone(&self.history.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What signs the log by a history; `next` is a key that is not at rest under its name yet.
    fn signing(&self, history: &KeyHistory, next: Option<Arc<dyn Signs>>) -> Result<Signing, CareError> {
        let places = Places { folder: &self.folder, token: self.token.as_ref() };
        let now = now_ms();
        let face = |life: &KeyLife| {
            let given = next.clone().filter(|key| *key.public().as_bytes() == life.key);
            let key = given.map_or_else(|| places.find(&life.key), Ok)?;
            Ok::<_, CareError>(Face { key, card: Arc::new(self.card_with(&life.key)?) })
        };
        let missing = || CareError::Invalid("the node's key history has no log key in use".to_owned());
        let current = face(history.current(Role::Log).ok_or_else(missing)?)?;
        let before =
            history.trusted(Role::Log).find_map(|life| Some((life, life.until_ms.filter(|until| now < *until)?)));
        let before = before.map(|(life, until_ms)| face(life).map(|face| (face, until_ms))).transpose()?;
        let ever = history.keys.iter().filter(|life| life.role == Role::Log);
        let ever = ever.filter_map(|life| VerifyingKey::from_bytes(&life.key).ok()).collect();
        Ok(Signing { current, before, ever })
    }

    /// The node's card with another log key.
    fn card_with(&self, log: &[u8; 32]) -> Result<NodeCard, CareError> {
        let mut keys: BTreeMap<Role, [u8; 32]> = self.card.keys.iter().map(|(role, held)| (*role, held.key)).collect();
        keys.insert(Role::Log, *log);
        let card = NodeCard::sign(self.card.node.clone(), &self.identity, &keys);
        card.map_err(|error| CareError::Invalid(error.to_string()))
    }

    /// Gives the log a new key; both sign for a while.
    pub async fn rotate(&self, log: (&Log, &Alarms), overlap_ms: u64, label: Option<&str>) -> Result<Value, CareError> {
        if overlap_ms > OVERLAP_MS_MAX {
            return Err(CareError::Invalid("an overlap is at most 90 days".to_owned()));
        }
        let at_ms = now_ms();
        self.change(log, KeyAct::Rotated, at_ms, at_ms.saturating_add(overlap_ms), label).await
    }

    /// Takes the log's key out of use at once, for it is not to be trusted since an instant; so are those before it that still
    /// signed then.
    pub async fn revoke(&self, log: (&Log, &Alarms), since_ms: u64, label: Option<&str>) -> Result<Value, CareError> {
        let at_ms = now_ms();
        if since_ms > at_ms {
            let message = "`since_ms` lies in the future: a key is distrusted from now or from before";
            return Err(CareError::Invalid(message.to_owned()));
        }
        self.change(log, KeyAct::Revoked, at_ms, since_ms, label).await
    }

    async fn change(
        &self,
        (log, alarms): (&Log, &Alarms),
        act: KeyAct,
        at_ms: u64,
        bound_ms: u64,
        label: Option<&str>,
    ) -> Result<Value, CareError> {
        let _turn = self.turn.lock().await;
        let before = self.history();
        let invalid = |message: String| CareError::Invalid(message);
        let overlapping = |life: &KeyLife| life.until_ms.is_some_and(|until| at_ms < until);
        if act == KeyAct::Rotated && before.value.trusted(Role::Log).any(overlapping) {
            return Err(invalid("the overlap of the last rotation is not over: both keys still sign".to_owned()));
        }
        let current =
            before.value.current(Role::Log).ok_or_else(|| invalid("there is no log key in use".to_owned()))?;
        let next: Arc<dyn Signs> = self.next(label)?;
        let change = KeyChange {
            node: self.card.node.clone(),
            number: before.value.number.saturating_add(1),
            role: Role::Log,
            act,
            key: current.key,
            next: next.public().to_bytes(),
            at_ms,
            bound_ms,
        };
        let history = before.value.changed(&change).map_err(|error| invalid(error.to_string()))?;
        let old = log.signing().current.key.clone();
        let witness = if act == KeyAct::Rotated { &old } else { &next };
        let statement = KeyStatement {
            identity: change.sign(&self.identity).map_err(invalid)?,
            key: change.sign(witness.as_ref()).map_err(invalid)?,
            change,
        };
        let signing = self.signing(&history, Some(Arc::clone(&next)))?;
        let history = history.sign(&self.identity).map_err(|error| invalid(error.to_string()))?;
        let bytes = serde_json::to_vec(&history).map_err(|error| invalid(error.to_string()))?;
        // The keys change first, so that the checkpoint that covers the statement is signed as it says.
        let was = log.sign_with(signing)?;
        let beside = Beside::Keys(self.card.node.to_string(), bytes);
        let written = match log.append_beside(&Statement::Key(statement), beside).await {
            Ok(pending) => pending.covered().await,
            Err(error) => Err(error),
        };
        let leaf = match written {
            Ok(leaf) => leaf,
            Err(error) => {
                log.sign_with((*was).clone())?;
                return Err(error.into());
            }
        };
        let known = log.signing().ever.iter().map(|key| VerifierKey::of_log(&self.card.node, *key)).collect();
        alarms.own_keys(known);
        *self.history.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(history);
        self.settle(next.public().as_bytes())?;
        tracing::warn!(number = self.history().value.number, "the log's key was changed");
        Ok(json!({"leaf": leaf, "key": hex::encode(next.public().as_bytes()), "history": *self.history()}))
    }

    /// The key that comes: the token's of a label, or a new one in a file.
    fn next(&self, label: Option<&str>) -> Result<Arc<dyn Signs>, CareError> {
        match (label, &self.token) {
            (Some(label), Some(token)) => {
                let key: TokenKey = token.by_label(label)?;
                Ok(Arc::new(key))
            }
            (Some(_), None) => Err(CareError::Invalid("this node has no token: `[keys]` names none".to_owned())),
            (None, _) => Ok(Arc::new(new_key(&self.folder.join(NEXT))?)),
        }
    }

    /// Gives the new key's file its name. A crash before this does no harm: keys are found by what they are.
    fn settle(&self, current: &[u8; 32]) -> Result<(), CareError> {
        let next = self.folder.join(NEXT);
        if existing_key(&next)?.is_some_and(|key| key.verifying_key().as_bytes() == current) {
            let moved =
                |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|e| KeyError::of(from, e.to_string()));
            let (file, old) = (self.folder.join(CURRENT), self.folder.join(BEFORE));
            if file.exists() {
                moved(&file, &old)?;
            }
            moved(&next, &file)?;
        }
        Ok(())
    }

    /// The keys' lives for people and programs, and for each that was revoked what rests on it.
    pub async fn lives(&self, log: &Log) -> Result<Value, CareError> {
        let history = self.history();
        let mut lives = Vec::new();
        for life in &history.value.keys {
            let mut shown = json!({
                "use": life.role, "key": hex::encode(life.key), "from_ms": life.from_ms, "until_ms": life.until_ms,
                "revoked": life.revoked,
            });
            if let (Role::Log, Some(revoked)) = (life.role, life.revoked) {
                // What was written before the suspicion, and what until the revocation.
                let first = self.store.leaves_until(revoked.since_ms).await?;
                let last = self.store.leaves_until(revoked.at_ms).await?;
                let published = log.published();
                shown["window"] = json!({
                    "from_ms": revoked.since_ms, "until_ms": revoked.at_ms, "first_leaf": first,
                    "leaves": last.saturating_sub(first),
                    "covered_since_by": {"size": published.edge.size(), "cosignatures": log.cosignatures()},
                });
            }
            lives.push(shown);
        }
        Ok(json!({"node": history.value.node, "identity": hex::encode(self.card.identity), "keys": lives}))
    }
}

/// Takes in what a member says of its keys. Who brings it does not matter: its identity has signed it.
pub async fn learned(alarms: &Alarms, body: &[u8]) -> (StatusCode, String) {
    let Ok(history) = serde_json::from_slice::<Signed<KeyHistory>>(body) else {
        return (StatusCode::BAD_REQUEST, "not a key history\n".to_owned());
    };
    match alarms.learn(&history.value.node, &history).await {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(LearnError::History(error)) => (StatusCode::FORBIDDEN, format!("{error}\n")),
        Err(LearnError::Store(error)) => {
            tracing::error!(%error, "what a member says of its keys could not be kept");
            (StatusCode::SERVICE_UNAVAILABLE, String::new())
        }
    }
}

/// Brings the history to the members that this node reaches, each time that it has changed: not all of them reach this node.
pub async fn tell(node: Arc<Node>, mut shutdown: Shutdown) {
    let mut told: BTreeMap<NodeId, u64> = BTreeMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(node.config.log.every) => {}
            () = shutdown.wait() => return,
        }
        let history = node.key_care.history();
        let number = history.value.number;
        // A node that has never changed a key has nothing to say that the members' file does not.
        let Some(body) = serde_json::to_vec(&*history).ok().filter(|_| number > 1) else { continue };
        let missing = node.peers().iter().filter(|(peer, _)| told.get(*peer) != Some(&number));
        let bring = missing.map(|(peer, remote)| {
            let body = body.clone();
            async move {
                let sent = tokio::time::timeout(TELL_TIMEOUT, remote.post_text("/peer/v1/keys", body)).await;
                matches!(sent, Ok(Ok((StatusCode::OK, _)))).then(|| peer.clone())
            }
        });
        let heard = futures_util::future::join_all(bring).await;
        told.extend(heard.into_iter().flatten().map(|peer| (peer, number)));
    }
}
