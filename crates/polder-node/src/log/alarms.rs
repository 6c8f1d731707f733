//! What was found wrong with a log: kept for good, shown to operators, told to peers.
//!
//! A fork is proved by two checkpoints that its log has signed, so whoever holds the log's key can check it, and only such alarms
//! are believed when a peer tells them. What a witness merely saw stays with it. Acting on an alarm is absent: that is a person's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ed25519_dalek::VerifyingKey;
use polder_core::ids::NodeId;
use polder_core::keys::history::{HistoryError, KeyHistory};
use polder_core::keys::{Role, Signed};
use polder_core::note::{Checkpoint, Note, VerifierKey, origin};
use polder_core::witness::Evidence;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::config::Member;
use crate::members::Held;
use crate::store::{AlarmRow, Store, StoreError};

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has signed two histories; the evidence proves it.
    Fork,
    /// It came with less than it had shown before.
    Shrunk,
    /// It did not show that it goes on from what it had shown before.
    Unproven,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Shrunk => "shrunk",
            Self::Unproven => "unproven",
        }
    }
}

/// What a node tells its peers: `GET /peer/v1/alarms`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Told {
    /// Evidence of forks.
    pub forks: Vec<Evidence>,
    /// Checkpoints of other logs that it has cosigned lately, so that what each was shown can be compared.
    pub seen: Vec<String>,
}

/// How many cosigned checkpoints of each log are told.
const SEEN_TOLD: u32 = 8;
/// Most entries that are read of what a peer tells.
const TOLD_MAX: usize = 4_096;

/// Why what a member says of its keys is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// It cannot be believed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys by which a log is believed: those of its history that were not revoked.
fn log_keys(node: &NodeId, history: &Signed<KeyHistory>) -> Vec<VerifierKey> {
    let trusted = history.value.trusted(Role::Log);
    let keys = trusted.filter_map(|life| VerifyingKey::from_bytes(&life.key).ok());
    keys.map(|key| VerifierKey::of_log(node, key)).collect()
}

/// The alarms of a node.
#[derive(Clone)]
pub struct Alarms {
    own: NodeId,
    store: Store,
    /// The keys of each log by which it is believed: that of its card, or those of its key history that were not revoked.
    keys: Arc<RwLock<BTreeMap<String, Vec<VerifierKey>>>>,
    identities: Arc<RwLock<BTreeMap<NodeId, [u8; 32]>>>,
    count: Arc<AtomicUsize>,
}

impl Alarms {
    /// Opens what was found so far. The logs are those of the members, which are told later, and the node's own.
    pub async fn open(store: Store, own: Vec<VerifierKey>, node: NodeId) -> Result<Self, StoreError> {
        let keys = BTreeMap::from([(origin(&node), own)]);
        let count = Arc::new(AtomicUsize::new(store.alarms().await?.len()));
        let (keys, identities) = (Arc::new(RwLock::new(keys)), Arc::default());
        Ok(Self { own: node, store, keys, identities, count })
    }

    /// Follows who is a member now; the logs of those who are gone are believed no more.
    pub async fn follow_members(&self, members: &[Held]) -> Result<(), StoreError> {
        let mut logs = BTreeMap::new();
        for Member { card, .. } in members.iter().map(|held| &held.member) {
            let kept = self.store.key_history(card.node.as_str()).await?;
            let history = kept.and_then(|bytes| serde_json::from_slice::<Signed<KeyHistory>>(&bytes).ok());
            let history = history.filter(|history| history.check(&card.node, &card.identity).is_ok());
            let of_card = || card.key(Role::Log).map(|key| VerifierKey::of_log(&card.node, key)).into_iter().collect();
            let keys = history.map_or_else(of_card, |history| log_keys(&card.node, &history));
            logs.insert(origin(&card.node), keys);
        }
        let identities = members.iter().map(|held| (held.member.card.node.clone(), held.member.card.identity));
        *self.identities.write().unwrap_or_else(PoisonError::into_inner) = identities.collect();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let own = origin(&self.own);
        keys.retain(|log, _| *log == own);
        keys.extend(logs);
        Ok(())
    }

    /// Takes in what a member says of its keys, where its identity signed it and it takes nothing back. Whether it is news.
    pub async fn learn(&self, node: &NodeId, history: &Signed<KeyHistory>) -> Result<bool, LearnError> {
        let identities = self.identities.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(identity) = identities.get(node) else { return Ok(false) };
        history.check(node, identity)?;
        let known: Option<Signed<KeyHistory>> =
            self.store.key_history(node.as_str()).await?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if known.as_ref() == Some(history) {
            return Ok(false);
        }
        if let Some(known) = &known {
            // Others pass on what they knew a while ago: that is no news, and no contradiction.
            if known.goes_on_from(&history.value).is_ok() {
                return Ok(false);
            }
            history.goes_on_from(&known.value)?;
        }
        self.store.keep_key_history(node.as_str(), history).await?;
        self.follow(node, history);
        tracing::info!(log = %node, number = history.value.number, "a member's keys have changed");
        Ok(true)
    }

    fn follow(&self, node: &NodeId, history: &Signed<KeyHistory>) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(origin(node), log_keys(node, history));
    }

    /// The node's own log has other keys.
    pub fn own_keys(&self, keys: Vec<VerifierKey>) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(origin(&self.own), keys);
    }

    fn keys_of(&self, origin: &str) -> Vec<VerifierKey> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(origin).cloned().unwrap_or_default()
    }

    /// The node that these are the alarms of.
    pub fn own(&self) -> &NodeId {
        &self.own
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The key of a log by its name: of several, one that says it has signed the note.
    pub fn key(&self, origin: &str, note: &Note) -> Option<VerifierKey> {
        let keys = self.keys_of(origin);
        let signed = keys.iter().find(|key| note.signatures.iter().any(|line| line.is_of(key)));
        signed.or(keys.first()).cloned()
    }

    /// Raises an alarm about a fork, unless its evidence proves nothing.
    pub async fn fork(&self, evidence: &Evidence, heard: &NodeId) -> Result<(), StoreError> {
        let Some(origin) = evidence.origin() else { return Ok(()) };
        let proved = self.keys_of(&origin).iter().any(|key| evidence.check(key).is_ok());
        let (true, Ok(id)) = (proved, evidence.id()) else { return Ok(()) };
        let bytes = serde_json::to_vec(evidence).unwrap_or_default();
        self.keep(Kind::Fork, id.to_hex(), origin, heard, bytes).await
    }

    /// Raises an alarm about something that this node saw and cannot prove to others: what it knew, and what came.
    pub async fn saw(&self, kind: Kind, origin: &str, first: &str, second: &str) -> Result<(), StoreError> {
        let evidence = json!({"first": first, "second": second});
        let Ok(id) = polder_core::canonical::digest("polder/alarm/v1", &evidence) else { return Ok(()) };
        let own = self.own.clone();
        self.keep(kind, id.to_hex(), origin.to_owned(), &own, evidence.to_string().into_bytes()).await
    }

    async fn keep(
        &self,
        kind: Kind,
        id: String,
        origin: String,
        heard: &NodeId,
        evidence: Vec<u8>,
    ) -> Result<(), StoreError> {
        let (log, heard) = (origin.clone(), heard.to_string());
        let row = AlarmRow { id, origin, kind: kind.name().to_owned(), at_ms: now_ms(), heard, evidence };
        if self.store.keep_alarm(&row).await? {
            self.count.fetch_add(1, Ordering::AcqRel);
            tracing::error!(log, kind = row.kind, from = row.heard, "a log is not what it was: see `polder status`");
        }
        Ok(())
    }

    /// What peers are told.
    pub async fn told(&self) -> Result<Told, StoreError> {
        let forks = self.store.alarms().await?.into_iter().filter(|row| row.kind == Kind::Fork.name());
        let forks = forks.filter_map(|row| serde_json::from_slice(&row.evidence).ok()).collect();
        Ok(Told { forks, seen: self.store.seen_lately(SEEN_TOLD).await? })
    }

    /// Takes in what a peer tells: evidence that proves itself, and checkpoints that disagree with those seen here.
    pub async fn hear(&self, told: &Told, from: &NodeId) -> Result<(), StoreError> {
        for evidence in told.forks.iter().take(TOLD_MAX) {
            self.fork(evidence, from).await?;
        }
        for text in told.seen.iter().take(TOLD_MAX) {
            let Ok(note) = Note::parse(text) else { continue };
            let Ok(checkpoint) = Checkpoint::parse(&note.text) else { continue };
            let Some(seen) = self.store.seen_at(&checkpoint.origin, checkpoint.size).await? else { continue };
            if seen.root != checkpoint.root {
                self.fork(&Evidence::of_one_size(&seen.note, &note, checkpoint.root), from).await?;
            }
        }
        Ok(())
    }

    /// The alarms for people and programs, the oldest first.
    pub async fn list(&self) -> Result<Vec<Value>, StoreError> {
        let row = |row: AlarmRow| {
            let evidence: Value = serde_json::from_slice(&row.evidence).unwrap_or_default();
            let log = row.origin.strip_prefix("polder/").unwrap_or(&row.origin).to_owned();
            json!({
                "id": row.id, "log": log, "kind": row.kind, "at_ms": row.at_ms, "heard_from": row.heard,
                "proved": row.kind == Kind::Fork.name(), "evidence": evidence,
            })
        };
        Ok(self.store.alarms().await?.into_iter().map(row).collect())
    }
}
