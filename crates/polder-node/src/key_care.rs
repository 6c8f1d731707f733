//! The care of a node's keys: their history, rotation with an overlap, and revocation.
//!
//! A change is a statement in the log, signed by the identity and by a key of the role; it is written in one transaction with the new
//! history, which the identity signs too and everybody may read (`/log/keys`). Members pin the identity and follow the history. During an
//! overlap both of the log's and the witness's keys sign; of the transport's and the authority's the one that goes stays in force until it
//! is over, so that whoever has not heard of the next misses nothing. Changing the identity is absent: that is another node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};
use http::StatusCode;
use polder_core::ids::NodeId;
use polder_core::keys::history::{KeyAct, KeyChange, KeyHistory, KeyLife};
use polder_core::keys::{NodeCard, ROLES, Role, Signed};
use polder_core::note::{Signs, VerifierKey};
use polder_core::statement::v1::{KeyStatement, Statement};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::clock::now_ms;
use crate::keys::{KeyError, NodeKeys, existing_key, new_key};
use crate::log::alarms::{Alarms, LearnError};
use crate::log::{Face, Log, LogError, Signing};
use crate::node::Node;
use crate::peers::Remote;
use crate::pkcs11::{Token, TokenError, TokenKey};
use crate::shutdown::Shutdown;
use crate::store::{Beside, Store, StoreError};

/// Longest overlap, in milliseconds: 90 days.
const OVERLAP_MS_MAX: u64 = 90 * 86_400_000;

mod ring;

use ring::Places;
pub use ring::Ring;

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
    #[error("the {0} key {1} is neither in `keys/` nor in the token: put it back; without it this node cannot go on")]
    Gone(String, String),
    /// A change that cannot be.
    #[error("{0}")]
    Invalid(String),
}

impl CareError {
    fn gone(role: Role, public: &[u8; 32]) -> Self {
        Self::Gone(format!("{role:?}").to_lowercase(), hex::encode(public))
    }
}

/// A node's keys and their lives.
pub struct KeyCare {
    folder: PathBuf,
    identity: SigningKey,
    node: NodeId,
    ring: RwLock<Arc<Ring>>,
    token: Option<Arc<Token>>,
    history: RwLock<Arc<Signed<KeyHistory>>>,
    store: Store,
    /// One change at a time.
    turn: Mutex<()>,
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
        let ring = Ring::at(&history.value, &Places { folder, token: token.as_ref() }, now_ms())?;
        let care = Self {
            folder: folder.to_owned(),
            identity: keys.identity.clone(),
            node: keys.card.node.clone(),
            ring: RwLock::new(Arc::new(ring)),
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
        let places = self.places();
        let now = now_ms();
        let face = |life: &KeyLife| {
            let given = next.clone().filter(|key| *key.public().as_bytes() == life.key);
            let key = given.map_or_else(|| places.find(Role::Log, &life.key), Ok)?;
            Ok::<_, CareError>(Face { key, card: Arc::new(self.card_with(history, &life.key, now)?) })
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

    fn places(&self) -> Places<'_> {
        Places { folder: &self.folder, token: self.token.as_ref() }
    }

    /// The keys that count now, apart from the log's.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that is shown in channels.
    pub fn channel_key(&self) -> Result<SigningKey, CareError> {
        self.ring().transport.first().cloned().ok_or_else(|| CareError::gone(Role::Transport, &[0; 32]))
    }

    /// The key that signs capabilities and declared facts.
    pub fn authority(&self) -> Result<SigningKey, CareError> {
        self.ring().authority.first().cloned().ok_or_else(|| CareError::gone(Role::Authority, &[0; 32]))
    }

    /// The card with the keys in force now.
    pub fn card(&self) -> Result<NodeCard, CareError> {
        let (history, now) = (self.history(), now_ms());
        let log = history.value.in_force(Role::Log, now).first().copied().unwrap_or_default();
        self.card_with(&history.value, &log, now)
    }

    /// The node's card with a log key, and the other keys that are in force by a history.
    fn card_with(&self, history: &KeyHistory, log: &[u8; 32], now_ms: u64) -> Result<NodeCard, CareError> {
        let key = |role: Role| Some((role, *history.in_force(role, now_ms).first()?));
        let mut keys: BTreeMap<Role, [u8; 32]> = ROLES.into_iter().filter_map(key).collect();
        keys.insert(Role::Log, *log);
        let card = NodeCard::sign(self.node.clone(), &self.identity, &keys);
        card.map_err(|error| CareError::Invalid(error.to_string()))
    }

    /// Brings the keys that count to what they are now; whether any has changed, by a change or by the end of an overlap.
    pub fn renew(&self, log: &Log) -> Result<bool, CareError> {
        let history = self.history();
        let ring = Ring::at(&history.value, &self.places(), now_ms())?;
        if ring.publics() == self.ring().publics() {
            return Ok(false);
        }
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        // The card in receipts names all keys.
        drop(log.sign_with(self.signing(&history.value, None)?)?);
        Ok(true)
    }

    /// Gives a role a new key; both count for a while.
    pub async fn rotate(
        &self,
        role: Role,
        log: (&Log, &Alarms),
        overlap_ms: u64,
        label: Option<&str>,
    ) -> Result<Value, CareError> {
        if overlap_ms > OVERLAP_MS_MAX {
            return Err(CareError::Invalid("an overlap is at most 90 days".to_owned()));
        }
        let at_ms = now_ms();
        self.change(role, log, KeyAct::Rotated, at_ms, at_ms.saturating_add(overlap_ms), label).await
    }

    /// Takes a role's key out of use at once, for it is not to be trusted since an instant; so are those before it that still
    /// counted then.
    pub async fn revoke(
        &self,
        role: Role,
        log: (&Log, &Alarms),
        since_ms: u64,
        label: Option<&str>,
    ) -> Result<Value, CareError> {
        let at_ms = now_ms();
        if since_ms > at_ms {
            let message = "`since_ms` lies in the future: a key is distrusted from now or from before";
            return Err(CareError::Invalid(message.to_owned()));
        }
        self.change(role, log, KeyAct::Revoked, at_ms, since_ms, label).await
    }

    async fn change(
        &self,
        role: Role,
        (log, alarms): (&Log, &Alarms),
        act: KeyAct,
        at_ms: u64,
        bound_ms: u64,
        label: Option<&str>,
    ) -> Result<Value, CareError> {
        let _turn = self.turn.lock().await;
        let before = self.history();
        let next = self.next(role, label)?;
        let (history, statement) = self.changed(&before.value, role, act, (at_ms, bound_ms), &next)?;
        // The log's key changes first, so that the checkpoint that covers the statement is signed as it says.
        let was = match role {
            Role::Log => Some(log.sign_with(self.signing(&history, Some(Arc::clone(&next)))?)?),
            _ => None,
        };
        let invalid = |error: String| CareError::Invalid(error);
        let history = history.sign(&self.identity).map_err(|error| invalid(error.to_string()))?;
        let bytes = serde_json::to_vec(&history).map_err(|error| invalid(error.to_string()))?;
        let beside = Beside::Keys(self.node.to_string(), bytes);
        let written = match log.append_beside(&Statement::Key(statement), beside).await {
            Ok(pending) => pending.covered().await,
            Err(error) => Err(error),
        };
        let leaf = match (written, was) {
            (Ok(leaf), _) => leaf,
            (Err(error), Some(was)) => {
                log.sign_with((*was).clone())?;
                return Err(error.into());
            }
            (Err(error), None) => return Err(error.into()),
        };
        let known = log.signing().ever.iter().map(|key| VerifierKey::of_log(&self.node, *key)).collect();
        alarms.own_keys(known);
        *self.history.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(history);
        self.settle(role, next.public().as_bytes())?;
        tracing::warn!(number = self.history().value.number, "a key of this node was changed");
        Ok(json!({
            "leaf": leaf, "use": role, "key": hex::encode(next.public().as_bytes()), "history": *self.history(),
        }))
    }

    /// The history after a change, and the statement about it.
    fn changed(
        &self,
        before: &KeyHistory,
        role: Role,
        act: KeyAct,
        (at_ms, bound_ms): (u64, u64),
        next: &Arc<dyn Signs>,
    ) -> Result<(KeyHistory, KeyStatement), CareError> {
        let invalid = |message: String| CareError::Invalid(message);
        let overlapping = |life: &KeyLife| life.until_ms.is_some_and(|until| at_ms < until);
        if act == KeyAct::Rotated && before.trusted(role).any(overlapping) {
            return Err(invalid("the overlap of the last rotation is not over: both keys still count".to_owned()));
        }
        let current = before.current(role).ok_or_else(|| invalid(format!("there is no {role:?} key in use")))?;
        let change = KeyChange {
            node: self.node.clone(),
            number: before.number.saturating_add(1),
            role,
            act,
            key: current.key,
            next: next.public().to_bytes(),
            at_ms,
            bound_ms,
        };
        let history = before.changed(&change).map_err(|error| invalid(error.to_string()))?;
        // A revoked key may be a thief's: the one that comes signs instead.
        let old = self.places().find(role, &current.key);
        let witness = if act == KeyAct::Rotated { old? } else { Arc::clone(next) };
        let statement = KeyStatement {
            identity: change.sign(&self.identity).map_err(invalid)?,
            key: change.sign(witness.as_ref()).map_err(invalid)?,
            change,
        };
        Ok((history, statement))
    }

    /// The key that comes: the token's of a label, or a new one in a file.
    fn next(&self, role: Role, label: Option<&str>) -> Result<Arc<dyn Signs>, CareError> {
        match (label, &self.token) {
            (Some(_), _) if !matches!(role, Role::Log | Role::Witness) => {
                let message = "only the keys of `log` and `witness` may lie in a token";
                Err(CareError::Invalid(message.to_owned()))
            }
            (Some(label), Some(token)) => {
                let key: TokenKey = token.by_label(label)?;
                Ok(Arc::new(key))
            }
            (Some(_), None) => Err(CareError::Invalid("this node has no token: `[keys]` names none".to_owned())),
            (None, _) => {
                let [_, next, _] = ring::names(role);
                Ok(Arc::new(new_key(&self.folder.join(next))?))
            }
        }
    }

    /// Gives the new key's file its name. A crash before this does no harm: keys are found by what they are.
    fn settle(&self, role: Role, current: &[u8; 32]) -> Result<(), CareError> {
        let [file, next, old] = ring::names(role).map(|name| self.folder.join(name));
        if existing_key(&next)?.is_some_and(|key| key.verifying_key().as_bytes() == current) {
            let moved =
                |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|e| KeyError::of(from, e.to_string()));
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
        Ok(
            json!({"node": history.value.node, "identity": hex::encode(self.identity.verifying_key().as_bytes()), "keys": lives}),
        )
    }
}

impl Node {
    /// Takes in what a member says of its keys. Who brings it does not matter: its identity has signed it.
    pub async fn learn_keys(&self, history: &Signed<KeyHistory>) -> Result<(), LearnError> {
        if self.alarms.learn(&history.value.node, history).await? {
            self.members.follow(&history.value.node, history.clone());
        }
        Ok(())
    }

    /// The same, as it arrives from peers.
    pub async fn learned(&self, body: &[u8]) -> (StatusCode, String) {
        let Ok(history) = serde_json::from_slice::<Signed<KeyHistory>>(body) else {
            return (StatusCode::BAD_REQUEST, "not a key history\n".to_owned());
        };
        match self.learn_keys(&history).await {
            Ok(()) => (StatusCode::OK, String::new()),
            Err(LearnError::History(error)) => (StatusCode::FORBIDDEN, format!("{error}\n")),
            Err(LearnError::Store(error)) => {
                tracing::error!(%error, "what a member says of its keys could not be kept");
                (StatusCode::SERVICE_UNAVAILABLE, String::new())
            }
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
        let peers = node.members.reached.all();
        let missing = peers.iter().filter(|(peer, _)| told.get(*peer) != Some(&number));
        let (directory, ring) = (node.members.directory(), node.key_care.ring());
        let bring = missing.map(|(peer, remote)| {
            let held = directory.members.iter().find(|held| held.member.card.node == *peer);
            // Whoever has missed an overlap knows this node by a key of before.
            let former = held.into_iter().flat_map(|held| {
                let (address, keys) = (held.member.address, held.keys(Role::Transport));
                ring.former.iter().filter_map(move |own| Remote::new(peer.clone(), address, keys, own).ok())
            });
            let remotes: Vec<Arc<Remote>> = std::iter::once(Arc::clone(remote)).chain(former.map(Arc::new)).collect();
            let body = body.clone();
            async move {
                for remote in remotes {
                    let sent = remote.post_text("/peer/v1/keys", body.clone());
                    let sent = tokio::time::timeout(TELL_TIMEOUT, sent).await;
                    if matches!(sent, Ok(Ok((StatusCode::OK, _)))) {
                        return Some(peer.clone());
                    }
                }
                None
            }
        });
        let heard = futures_util::future::join_all(bring).await;
        told.extend(heard.into_iter().flatten().map(|peer| (peer, number)));
    }
}
