//! The node's log: one writer that appends leaves in batches, each under one signed checkpoint.
//!
//! What comes within [`BATCH_MS`] goes into one batch, or within [`HURRIED_MS`] once somebody waits for it; a batch is written to
//! the database and only then signed: what a checkpoint covers is on disk. Whoever appends need not wait. The halves of receipts that factories send go the same way, so that
//! neither costs a transaction of its own. Tiles and witnesses are absent.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use polder_core::canonical::{CanonicalError, Digest};
use polder_core::keys::NodeCard;
use polder_core::merkle::{self, Tree};
use polder_core::note::{Checkpoint, origin};
use polder_core::receipt::Half;
use polder_core::statement::commitment;
use polder_core::statement::v1::Statement;
use tokio::sync::{Notify, oneshot};

use crate::clock::{now_ms, random};
use crate::metrics;
use crate::store::{ForeignHalf, Leaf, Object, PolicyText, Store, StoreError, StoredLeaf, Used};

/// How long a batch stays open that nobody waits for: each costs a transaction and a signature, however many leaves it has.
pub const BATCH_MS: u64 = 25;
/// How long it stays open from when somebody waits for it.
pub const HURRIED_MS: u64 = 5;
/// Longest that a reader waits for what is on its way.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Most entries that wait for the writer; past that, appending waits.
const WAITING_MAX: usize = 8192;

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

/// One thing to write.
enum Entry {
    Leaf(Box<Leaf>, oneshot::Sender<u64>),
    Half(ForeignHalf),
    /// Nothing: it goes when what came before it is written.
    Mark(oneshot::Sender<()>),
}

/// What waits for the writer. A channel would wake it for every entry; it is woken once for each batch.
#[derive(Default)]
struct Queue {
    entries: Mutex<Vec<Entry>>,
    filled: Notify,
    room: Notify,
    /// Somebody waits for a leaf.
    hurried: Notify,
}

impl Queue {
    /// Adds an entry; gives it back where there is no room.
    fn offer(&self, entry: Entry) -> Result<(), Entry> {
        let first = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.len() >= WAITING_MAX {
                return Err(entry);
            }
            entries.push(entry);
            if entries.len() == WAITING_MAX / 2 {
                self.hurried.notify_one();
            }
            entries.len() == 1
        };
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    async fn push(&self, mut entry: Entry) {
        loop {
            let room = self.room.notified();
            match self.offer(entry) {
                Ok(()) => return,
                Err(back) => entry = back,
            }
            room.await;
        }
    }

    fn take(&self) -> Vec<Entry> {
        let taken = std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.room.notify_waiters();
        taken
    }
}

/// What the log has signed last.
struct State {
    tree: Tree,
    note: String,
}

/// A handle on the log.
#[derive(Clone)]
pub struct Log {
    queue: Arc<Queue>,
    state: Arc<RwLock<State>>,
    store: Store,
    card: Arc<NodeCard>,
}

/// A leaf on its way: await it to know its place in the log.
pub struct Pending {
    place: oneshot::Receiver<u64>,
    salt: [u8; 32],
    queue: Arc<Queue>,
}

impl Pending {
    /// Waits until a signed checkpoint covers the leaf; its index.
    pub async fn covered(self) -> Result<u64, LogError> {
        self.queue.hurried.notify_one();
        self.place.await.map_err(|_| LogError::Stopped)
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
        let queue = Arc::<Queue>::default();
        let writer = Writer { store: store.clone(), state: Arc::clone(&state), key, card: Arc::clone(&card) };
        tokio::spawn(writer.run(Arc::clone(&queue)));
        Ok(Self { queue, state, store, card })
    }

    /// Hands a statement to the writer. The leaf counts once [`Pending::covered`] returns; a crash before that loses it, and
    /// no checkpoint ever covered it.
    /// What an execution used is counted with its leaf or not at all.
    pub async fn append(&self, decision: &str, statement: &Statement, used: Option<Used>) -> Result<Pending, LogError> {
        let (entry, pending) = self.entry(decision, statement, None, used)?;
        self.queue.push(entry).await;
        Ok(pending)
    }

    /// Hands a decision to the writer that is already in its canonical bytes.
    /// `objects` are what its statement names by digest.
    pub async fn append_decision(
        &self,
        decision: &str,
        bytes: Vec<u8>,
        objects: Arc<[Object]>,
    ) -> Result<Pending, LogError> {
        let (mut entry, pending) = self.entry_of("decision", decision, bytes, None, None)?;
        if let Entry::Leaf(leaf, _) = &mut entry {
            leaf.objects = Some(objects);
        }
        self.queue.push(entry).await;
        Ok(pending)
    }

    /// Hands a statement to the writer from where nothing can wait; where the writer is behind, a task waits.
    pub fn append_detached(&self, decision: &str, statement: &Statement, used: Option<Used>) -> Result<(), LogError> {
        let (entry, _) = self.entry(decision, statement, None, used)?;
        if let Err(entry) = self.queue.offer(entry) {
            let queue = Arc::clone(&self.queue);
            // Without a runtime the process is ending, and what is not written was not covered.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { queue.push(entry).await });
            }
        }
        Ok(())
    }

    /// Hands an activation to the writer, with the text that it puts in force: both are written, or neither is.
    pub async fn append_policy(&self, policy: PolicyText) -> Result<Pending, LogError> {
        let statement = Statement::Activation(policy.activation.clone());
        let (entry, pending) = self.entry(&policy.activation.digest.to_hex(), &statement, Some(policy), None)?;
        self.queue.push(entry).await;
        Ok(pending)
    }

    /// Keeps the half of a receipt that a factory sent. One that is lost in a crash can be asked for again.
    pub async fn keep(&self, half: ForeignHalf) {
        self.queue.push(Entry::Half(half)).await;
    }

    /// Waits until what was handed over before is written: who looks for it finds it.
    pub async fn settled(&self) {
        let (mark, written) = oneshot::channel();
        self.queue.push(Entry::Mark(mark)).await;
        self.queue.hurried.notify_one();
        // The mark goes with its batch, whatever came of that; where the database hangs, what is there must do.
        drop(tokio::time::timeout(SETTLE_MAX, written).await);
    }

    /// The signed checkpoint as a note.
    pub fn checkpoint(&self) -> String {
        self.read(|state| state.note.clone())
    }

    /// Whether an object is known to lie beside the log; `false` says nothing.
    pub fn has_object(&self, digest: &Digest) -> bool {
        self.store.has_object(digest)
    }

    /// How many leaves the checkpoint covers.
    pub fn size(&self) -> u64 {
        self.read(|state| state.tree.size())
    }

    /// How many entries wait for the writer.
    pub fn waiting(&self) -> usize {
        self.queue.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// This node's half of a receipt: the newest statement of a kind for a decision, proved under the current checkpoint.
    pub async fn half(&self, kind: &str, decision: &str) -> Result<Option<Half>, LogError> {
        Ok(self.store.leaf(kind, decision).await?.and_then(|leaf| self.prove(leaf)))
    }

    /// The statement at a place of the log, proved under the current checkpoint.
    pub async fn half_at(&self, place: u64) -> Result<Option<Half>, LogError> {
        Ok(self.store.leaf_at(place).await?.and_then(|leaf| self.prove(leaf)))
    }

    /// The half of a statement that was just handed to the writer, once a checkpoint covers it: nothing is read back.
    pub async fn half_of(&self, pending: Pending, statement: Statement) -> Result<Option<Half>, LogError> {
        let salt = pending.salt;
        let index = pending.covered().await?;
        Ok(self.prove_at(index, salt, statement))
    }

    fn prove(&self, leaf: StoredLeaf) -> Option<Half> {
        let statement = serde_json::from_slice(&leaf.statement).ok()?;
        self.prove_at(leaf.index, leaf.salt, statement)
    }

    fn prove_at(&self, index: u64, salt: [u8; 32], statement: Statement) -> Option<Half> {
        let (path, checkpoint) = self.read(|state| {
            let path = state.tree.inclusion(index, state.tree.size())?;
            Some((path, state.note.clone()))
        })?;
        let card = NodeCard::clone(&self.card);
        Some(Half { statement, salt, index, path, checkpoint, card })
    }

    /// A statement on its way into the log.
    fn entry(
        &self,
        key: &str,
        statement: &Statement,
        policy: Option<PolicyText>,
        used: Option<Used>,
    ) -> Result<(Entry, Pending), LogError> {
        let kind = match statement {
            Statement::Decision(_) => "decision",
            Statement::Execution(_) => "execution",
            Statement::Activation(_) => "activation",
        };
        self.entry_of(kind, key, statement.to_bytes()?, policy, used)
    }

    fn entry_of(
        &self,
        kind: &'static str,
        key: &str,
        bytes: Vec<u8>,
        policy: Option<PolicyText>,
        used: Option<Used>,
    ) -> Result<(Entry, Pending), LogError> {
        let salt = random()?;
        let commitment = commitment(&salt, &bytes);
        let (decision, at_ms) = (key.to_owned(), now_ms());
        let (done, place) = oneshot::channel();
        let leaf = Leaf { kind, decision, at_ms, salt, statement: bytes, commitment, objects: None, policy, used };
        Ok((Entry::Leaf(Box::new(leaf), done), Pending { place, salt, queue: Arc::clone(&self.queue) }))
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        // A writer that panicked has left whole hashes behind: each push is complete or absent.
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn sign(tree: &Tree, card: &NodeCard, key: &SigningKey) -> String {
    Checkpoint::new(origin(&card.node), tree.size(), tree.root()).sign(key)
}

/// The one that writes.
struct Writer {
    store: Store,
    state: Arc<RwLock<State>>,
    key: SigningKey,
    card: Arc<NodeCard>,
}

impl Writer {
    async fn run(self, queue: Arc<Queue>) {
        // The queue's last other owner is the log: when it is gone, nothing more can come.
        while Arc::strong_count(&queue) > 1 {
            if tokio::time::timeout(Duration::from_secs(1), queue.filled.notified()).await.is_err() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(BATCH_MS)) => {}
                () = queue.hurried.notified() => tokio::time::sleep(Duration::from_millis(HURRIED_MS)).await,
            }
            self.write(queue.take()).await;
        }
        self.write(queue.take()).await;
    }

    async fn write(&self, batch: Vec<Entry>) {
        let (mut leaves, mut waiting) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let (mut halves, mut marks) = (Vec::new(), Vec::new());
        for entry in batch {
            match entry {
                Entry::Leaf(leaf, done) => {
                    leaves.push(*leaf);
                    waiting.push(done);
                }
                Entry::Half(half) => halves.push(half),
                Entry::Mark(mark) => marks.push(mark),
            }
        }
        if leaves.is_empty() && halves.is_empty() {
            return;
        }
        let begun = Instant::now();
        let first = self.state.read().unwrap_or_else(PoisonError::into_inner).tree.size();
        if let Err(error) = self.store.append(first, &leaves, &halves).await {
            // Nobody is told that the leaves are covered: dropping `waiting` says that they are not.
            tracing::error!(%error, leaves = leaves.len(), "the log could not be written; these leaves are lost");
            return;
        }
        if leaves.is_empty() {
            return;
        }
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            leaves.iter().for_each(|leaf| state.tree.push(merkle::leaf_hash(&leaf.commitment.0)));
            state.note = sign(&state.tree, &self.card, &self.key);
        }
        metrics::batch_written(leaves.len(), begun.elapsed());
        for (index, done) in (first..).zip(waiting) {
            // Whoever did not wait has dropped the other end, which is no error.
            let _ = done.send(index);
        }
    }
}
