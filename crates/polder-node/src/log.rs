//! The node's log: one writer that appends leaves in batches, each under one signed checkpoint.
//!
//! A batch closes after [`BATCH_MS_MAX`] or [`BATCH_LEAVES_MAX`], is written to the database, and only then signed: what a
//! checkpoint covers is on disk. Whoever appends need not wait. Tiles and witnesses are absent.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use polder_core::canonical::CanonicalError;
use polder_core::keys::NodeCard;
use polder_core::merkle::{self, Tree};
use polder_core::note::{Checkpoint, origin};
use polder_core::receipt::Half;
use polder_core::statement::commitment;
use polder_core::statement::v1::Statement;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{now_ms, random};
use crate::store::{Leaf, PolicyText, Store, StoreError, StoredLeaf};

/// Longest time that a batch stays open.
pub const BATCH_MS_MAX: u64 = 5;
/// Most leaves under one checkpoint's signature.
pub const BATCH_LEAVES_MAX: usize = 512;
/// Most leaves that wait for the writer; past that, appending waits.
const WAITING_MAX: usize = 4096;

/// Why the log cannot take or show a leaf.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The statement has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no randomness for a salt.
    #[error("no randomness: {0}")]
    Random(#[from] std::io::Error),
    /// The writer has ended.
    #[error("the log's writer has stopped, so nothing can be recorded; restart the node")]
    Stopped,
}

struct Append {
    leaf: Leaf,
    done: oneshot::Sender<u64>,
}

/// What the log has signed last.
struct State {
    tree: Tree,
    note: String,
}

/// A handle on the log.
#[derive(Clone)]
pub struct Log {
    writer: mpsc::Sender<Append>,
    state: Arc<RwLock<State>>,
    store: Store,
    card: Arc<NodeCard>,
}

/// A leaf on its way: await it to know its place in the log.
pub struct Pending(oneshot::Receiver<u64>);

impl Pending {
    /// Waits until a signed checkpoint covers the leaf; its index.
    pub async fn covered(self) -> Result<u64, LogError> {
        self.0.await.map_err(|_| LogError::Stopped)
    }
}

impl Log {
    /// Opens the log on what the database holds and starts its writer.
    pub async fn open(store: Store, key: SigningKey, card: Arc<NodeCard>) -> Result<Self, LogError> {
        let mut tree = Tree::default();
        for commitment in store.commitments().await? {
            tree.push(merkle::leaf_hash(&commitment.0));
        }
        let note = sign(&tree, &card, &key);
        let state = Arc::new(RwLock::new(State { tree, note }));
        let (writer, queue) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(queue, store.clone(), Arc::clone(&state), key, Arc::clone(&card)));
        Ok(Self { writer, state, store, card })
    }

    /// Hands a statement to the writer. The leaf counts once [`Pending::covered`] returns; a crash before that loses it, and
    /// no checkpoint ever covered it.
    pub async fn append(&self, decision: &str, statement: &Statement) -> Result<Pending, LogError> {
        self.send(decision, statement, None).await
    }

    /// Hands an activation to the writer, with the text that it puts in force: both are written, or neither is.
    pub async fn append_policy(&self, policy: PolicyText) -> Result<Pending, LogError> {
        let statement = Statement::Activation(policy.activation.clone());
        self.send(&policy.activation.digest.to_hex(), &statement, Some(policy)).await
    }

    async fn send(&self, key: &str, statement: &Statement, policy: Option<PolicyText>) -> Result<Pending, LogError> {
        let bytes = statement.to_bytes()?;
        let salt = random()?;
        let kind = match statement {
            Statement::Decision(_) => "decision",
            Statement::Execution(_) => "execution",
            Statement::Activation(_) => "activation",
        };
        let commitment = commitment(&salt, &bytes);
        let (decision, at_ms) = (key.to_owned(), now_ms());
        let leaf = Leaf { kind, decision, at_ms, salt, statement: bytes, commitment, policy };
        let (done, pending) = oneshot::channel();
        self.writer.send(Append { leaf, done }).await.map_err(|_| LogError::Stopped)?;
        Ok(Pending(pending))
    }

    /// The signed checkpoint as a note.
    pub fn checkpoint(&self) -> String {
        self.read(|state| state.note.clone())
    }

    /// How many leaves the checkpoint covers.
    pub fn size(&self) -> u64 {
        self.read(|state| state.tree.size())
    }

    /// This node's half of a receipt: the newest statement of a kind for a decision, proved under the current checkpoint.
    pub async fn half(&self, kind: &str, decision: &str) -> Result<Option<Half>, LogError> {
        Ok(self.store.leaf(kind, decision).await?.and_then(|leaf| self.prove(leaf)))
    }

    /// The statement at a place of the log, proved under the current checkpoint.
    pub async fn half_at(&self, place: u64) -> Result<Option<Half>, LogError> {
        Ok(self.store.leaf_at(place).await?.and_then(|leaf| self.prove(leaf)))
    }

    fn prove(&self, leaf: StoredLeaf) -> Option<Half> {
        let StoredLeaf { index, salt, statement } = leaf;
        let statement = serde_json::from_slice(&statement).ok()?;
        let (path, checkpoint) = self.read(|state| {
            let path = state.tree.inclusion(index, state.tree.size())?;
            Some((path, state.note.clone()))
        })?;
        let card = NodeCard::clone(&self.card);
        Some(Half { statement, salt, index, path, checkpoint, card })
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        // A writer that panicked has left whole hashes behind: each push is complete or absent.
        look(&self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn sign(tree: &Tree, card: &NodeCard, key: &SigningKey) -> String {
    Checkpoint { origin: origin(&card.node), size: tree.size(), root: tree.root() }.sign(key)
}

async fn write(
    mut queue: mpsc::Receiver<Append>,
    store: Store,
    state: Arc<RwLock<State>>,
    key: SigningKey,
    card: Arc<NodeCard>,
) {
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        let close = tokio::time::sleep(Duration::from_millis(BATCH_MS_MAX));
        tokio::pin!(close);
        while batch.len() < BATCH_LEAVES_MAX {
            tokio::select! {
                () = &mut close => break,
                next = queue.recv() => match next {
                    Some(append) => batch.push(append),
                    None => break,
                },
            }
        }
        let (leaves, done): (Vec<Leaf>, Vec<_>) = batch.into_iter().map(|append| (append.leaf, append.done)).unzip();
        let first = state.read().unwrap_or_else(std::sync::PoisonError::into_inner).tree.size();
        if let Err(error) = store.append(first, &leaves).await {
            // Nobody is told that the leaves are covered: dropping `done` says that they are not.
            tracing::error!(%error, leaves = leaves.len(), "the log could not be written; these leaves are lost");
            continue;
        }
        {
            let mut state = state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            leaves.iter().for_each(|leaf| state.tree.push(merkle::leaf_hash(&leaf.commitment.0)));
            state.note = sign(&state.tree, &card, &key);
        }
        for (index, done) in (first..).zip(done) {
            // Whoever did not wait has dropped the other end, which is no error.
            let _ = done.send(index);
        }
    }
}
