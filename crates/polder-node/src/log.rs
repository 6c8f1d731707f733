//! The node's log: one writer that appends leaves in batches, each under one signed checkpoint.
//!
//! What comes within [`BATCH_MS`] goes into one batch, or within [`HURRIED_MS`] once somebody waits for it; a batch is written to
//! the database and only then signed: what a checkpoint covers is on disk. Whoever appends need not wait. The halves of receipts
//! that factories send go the same way, so that neither costs a transaction of its own.
//!
//! The database is the log; tiles (`log/keeper.rs`) are made from it, before a checkpoint that needs them is published, and made
//! again where they are missing. Cosignatures come last (`log/rounds.rs`). Memory holds the tree's growing end only.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use polder_core::canonical::{CanonicalError, Digest};
use polder_core::chain::ChainName;
use polder_core::ids::{NodeId, TenantId};
use polder_core::keys::NodeCard;
use polder_core::merkle;
use polder_core::note::{Checkpoint, Note};
use polder_core::receipt::{Half, Sealed};
use polder_core::statement::commitment;
use polder_core::statement::v1::Statement;
use polder_core::tiles::{Edge, TileError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::{now_ms, random};
use crate::metrics;
use crate::store::{Beside, ForeignHalf, Leaf, Object, PolicyText, Run, Store, StoreError, StoredLeaf, Used};

pub mod alarms;
mod archive;
#[cfg(feature = "s3")]
mod bucket;
mod check;
mod counting;
mod growing;
mod keeper;
mod opening;
mod proofs;
mod queue;
pub mod rounds;
mod shelf;
mod signing;
mod surface;
pub mod witness;

pub use archive::{Archive, ArchiveError};
pub use check::Checked;
use counting::Counting;
pub use counting::Numbers;
use growing::Growing;
use keeper::Keeper;
pub use keeper::Published;
pub use queue::Pending;
use queue::{Entry, Queue};
use shelf::Shelf;
pub use signing::{Face, Signing};
pub use surface::router;

/// How long a batch stays open that nobody waits for: each costs a transaction and a signature, however many leaves it has.
pub const BATCH_MS: u64 = 10;
/// How long it stays open from when somebody waits for it.
pub const HURRIED_MS: u64 = 5;
/// Longest that a reader waits for what is on its way.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How long a decision may be on its way to the writer.
const CUT_SLACK_MS: u64 = 1_000;
/// How long the writer waits before it asks a token again that did not sign.
const SIGN_PAUSE: Duration = Duration::from_millis(500);

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
    /// The log's key is in a token, and that does not sign.
    #[error("the log's key does not sign: {0}")]
    Unsigned(String),
    /// The tiles cannot be read or written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A tile is not what it should be.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The database has fewer leaves than a tile needs.
    #[error("the database lacks leaves of `{0}`: restore `node.db` from a copy that has them")]
    Missing(String),
    /// The log has published more than the database holds.
    #[error(
        "the database holds {held} leaves, and this log has published {published}: going on would be a second history. \
         Restore the newest `node.db`; nothing is signed until then"
    )]
    Shrunk {
        /// Leaves in the database.
        held: u64,
        /// Leaves under the published checkpoint.
        published: u64,
    },
    /// The leaves do not lead to a root that was signed.
    #[error(
        "the first {0} leaves in the database do not lead to the root that this log has signed: some of them were changed. \
         Restore `node.db` from a copy; `polder log check` names the leaf"
    )]
    Changed(u64),
    /// A leaf does not lead to the signed root.
    #[error("leaf {0} does not lead to the signed root: it was changed in the database; `polder log check` says more")]
    Damaged(u64),
    /// The counters cannot be read.
    #[error("what the log has counted cannot be read: restore `node.db` from a copy")]
    Counters,
}

/// A handle on the log.
#[derive(Clone)]
pub struct Log {
    queue: Arc<Queue>,
    state: Arc<RwLock<Growing>>,
    store: Store,
    /// The log's name.
    origin: Arc<str>,
    signing: Arc<ArcSwap<Signing>>,
    shelf: Shelf,
    candidates: watch::Receiver<Arc<Published>>,
    published: Arc<watch::Sender<Arc<Published>>>,
    cosigned: Arc<AtomicBool>,
    cut: Arc<[Run]>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    node: NodeId,
    /// Whose decisions these are, where the node is a home.
    own: Arc<OnceLock<ChainName>>,
    /// Whether leaves are counted.
    counts: Arc<AtomicBool>,
}

impl Log {
    /// Has every leaf counted from now on, those that are there too. Decisions are those of this tenant.
    pub fn count(&self, tenant: Option<&TenantId>) {
        let name = ChainName { tenant: tenant.cloned(), home: self.node.clone() };
        // A node is the home of one tenant; saying it again changes nothing.
        let _ = self.own.set(name);
        self.counts.store(true, Ordering::Release);
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
        let chain = self.own.get().cloned().unwrap_or_else(|| self.node_chain());
        let (mut entry, pending) = self.entry_of(("decision", Some(chain)), decision, bytes, None, None)?;
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

    /// Hands a statement to the writer with what the node's tables say of it: both are written, or neither is.
    pub async fn append_beside(&self, statement: &Statement, beside: Beside) -> Result<Pending, LogError> {
        let (mut entry, pending) = self.entry("", statement, None, None)?;
        if let Entry::Leaf(leaf, _) = &mut entry {
            leaf.beside = Some(beside);
        }
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

    /// States what was written since the last day's statement, though the day is not over; the place of that leaf.
    pub async fn state_day(&self) -> Result<u64, LogError> {
        let (done, place) = oneshot::channel();
        self.queue.push(Entry::Day(done)).await;
        self.queue.hurried.notify_one();
        place.await.map_err(|_| LogError::Stopped)
    }

    /// The published checkpoint as a note, with the cosignatures that it has.
    pub fn checkpoint(&self) -> String {
        self.published.borrow().note.to_string()
    }

    /// How many witnesses have cosigned the published checkpoint.
    pub fn cosignatures(&self) -> usize {
        let Ok(note) = Note::parse(&self.checkpoint()) else { return 0 };
        let names: BTreeSet<&str> = note.signatures.iter().map(|line| line.name.as_str()).collect();
        names.len().saturating_sub(1)
    }

    /// What is published.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }

    /// Checkpoints whose tiles are there, to be cosigned: only the newest counts.
    pub fn candidates(&self) -> watch::Receiver<Arc<Published>> {
        self.candidates.clone()
    }

    /// Has checkpoints wait until [`Log::publish`] is called with what was made of a candidate.
    pub fn wait_for_cosignatures(&self) {
        self.cosigned.store(true, Ordering::Release);
    }

    /// Publishes a candidate, cosigned or not, unless something newer is published.
    pub fn publish(&self, candidate: Published) {
        self.published.send_if_modified(|held| candidate.replace(held));
    }

    /// Whether an object is known to lie beside the log; `false` says nothing.
    pub fn has_object(&self, digest: &Digest) -> bool {
        self.store.has_object(digest)
    }

    /// How many leaves are signed.
    pub fn size(&self) -> u64 {
        self.read(|state| state.edge.size())
    }

    /// The run of this node in whose last moments an instant lies, where that run was cut short: what was decided then may have
    /// been lost before it had a leaf.
    pub fn cut_at(&self, at_ms: u64) -> Option<Run> {
        let within = |run: &&Run| at_ms.saturating_add(CUT_SLACK_MS) >= run.recorded_ms && at_ms <= run.next_ms;
        self.cut.iter().rev().find(within).copied()
    }

    /// How many entries wait for the writer.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// This node's half of a receipt: the newest statement of a kind for a decision, proved under a checkpoint.
    pub async fn half(&self, kind: &str, decision: &str) -> Result<Option<Half>, LogError> {
        match self.store.leaf(kind, decision).await? {
            Some(leaf) => self.prove(leaf).await,
            None => Ok(None),
        }
    }

    /// The statement at a place of the log, proved under a checkpoint.
    pub async fn half_at(&self, place: u64) -> Result<Option<Half>, LogError> {
        match self.store.leaf_at(place).await? {
            Some(leaf) => self.prove(leaf).await,
            None => Ok(None),
        }
    }

    /// The half of a statement that was just handed to the writer, once a checkpoint covers it: nothing is read back.
    pub async fn half_of(&self, pending: Pending, statement: Statement) -> Result<Option<Half>, LogError> {
        let salt = pending.salt;
        let index = pending.covered().await?;
        let known = self.read(|state| Some((state.inclusion(index)?, state.note.to_string())));
        let (path, checkpoint) = match known {
            Some(known) => known,
            None => self.signed_path(index).await?,
        };
        let card = NodeCard::clone(&self.signing.load().face(now_ms()).card);
        Ok(Some(Half { statement, salt, index, path, checkpoint, card }))
    }

    /// A half under signatures over its statement itself, for those who ask for it in another form. Nothing is signed so while a
    /// request runs. `None` where the half is not of this log.
    pub fn seal(&self, half: Half) -> Option<Sealed> {
        let signing = self.signing.load();
        let key = &signing.face(now_ms()).key;
        let export = half.export().ok().filter(|export| export.log.ed25519() == Some(&key.public()))?;
        let seals = export.seal(key.as_ref()).ok()?;
        Some(Sealed { half, seals, tables: None })
    }

    /// Proves a leaf that was read from the database, and that it is what was signed.
    async fn prove(&self, leaf: StoredLeaf) -> Result<Option<Half>, LogError> {
        let Ok(statement) = serde_json::from_slice(&leaf.statement) else { return Err(LogError::Damaged(leaf.index)) };
        let hash = merkle::leaf_hash(&commitment(&leaf.salt, &leaf.statement).0);
        let (path, checkpoint) = self.path(leaf.index, &hash).await?;
        let card = NodeCard::clone(&self.signing.load().face(now_ms()).card);
        Ok(Some(Half { statement, salt: leaf.salt, index: leaf.index, path, checkpoint, card }))
    }

    /// A statement on its way into the log.
    fn entry(
        &self,
        key: &str,
        statement: &Statement,
        policy: Option<PolicyText>,
        used: Option<Used>,
    ) -> Result<(Entry, Pending), LogError> {
        let kind = (statement.kind(), ChainName::of(statement, &self.node));
        self.entry_of(kind, key, statement.to_bytes()?, policy, used)
    }

    fn entry_of(
        &self,
        (kind, chain): (&'static str, Option<ChainName>),
        key: &str,
        bytes: Vec<u8>,
        policy: Option<PolicyText>,
        used: Option<Used>,
    ) -> Result<(Entry, Pending), LogError> {
        let salt = random()?;
        let commitment = commitment(&salt, &bytes);
        let (decision, at_ms) = (key.to_owned(), now_ms());
        let leaf = Leaf {
            kind,
            chain,
            decision,
            at_ms,
            salt,
            statement: bytes,
            commitment,
            objects: None,
            policy,
            used,
            beside: None,
        };
        Ok(self.queue.leaf(leaf))
    }

    fn node_chain(&self) -> ChainName {
        ChainName { tenant: None, home: self.node.clone() }
    }

    fn read<T>(&self, look: impl FnOnce(&Growing) -> T) -> T {
        // A writer that panicked has left whole hashes behind: each push is complete or absent.
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what waits, publishes it, and notes that this run has ended well. Appending is over.
    pub async fn close(&self) {
        self.queue.closed.store(true, Ordering::Release);
        self.queue.filled.notify_one();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            drop(task.await);
        }
        if let Err(error) = self.store.end_run(now_ms()).await {
            tracing::error!(%error, "the end of this run could not be noted");
        }
    }
}

/// A checkpoint over a tree, signed by the log's keys.
fn sign(edge: &Edge, root: Digest, origin: &str, signing: &Signing) -> Result<Arc<str>, LogError> {
    signing.sign(&Checkpoint::new(origin, edge.size(), root), now_ms()).map_err(LogError::Unsigned)
}

/// The one that writes.
struct Writer {
    store: Store,
    state: Arc<RwLock<Growing>>,
    origin: Arc<str>,
    signing: Arc<ArcSwap<Signing>>,
    closed: Arc<AtomicBool>,
    /// Tells the keeper how many leaves there are; its end tells it to end.
    grown: watch::Sender<u64>,
    counting: Counting,
}

impl Writer {
    async fn run(mut self, queue: Arc<Queue>) {
        // The queue's last other owner is the log: when it is gone, nothing more can come.
        while Arc::strong_count(&queue) > 1 && !queue.closed.load(Ordering::Acquire) {
            if tokio::time::timeout(Duration::from_secs(1), queue.filled.notified()).await.is_err() {
                self.write(Vec::new(), false).await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(BATCH_MS)) => {}
                () = queue.hurried.notified() => tokio::time::sleep(Duration::from_millis(HURRIED_MS)).await,
            }
            self.write(queue.take(), false).await;
        }
        self.write(queue.take(), true).await;
    }

    /// Writes a batch, with the links and the day's statement that are due, or all of the links where the log ends.
    async fn write(&mut self, batch: Vec<Entry>, last: bool) {
        let (mut leaves, mut waiting) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let (mut halves, mut marks, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for entry in batch {
            match entry {
                Entry::Leaf(leaf, done) => {
                    leaves.push(*leaf);
                    waiting.push(done);
                }
                Entry::Half(half) => halves.push(half),
                Entry::Mark(mark) => marks.push(mark),
                Entry::Day(done) => asked.push(done),
            }
        }
        let first = self.state.read().unwrap_or_else(PoisonError::into_inner).edge.size();
        let counted = match self.counting.count(&self.store, first, &mut leaves, (last, !asked.is_empty())).await {
            Ok(counted) => counted,
            Err(error) => {
                tracing::error!(%error, leaves = leaves.len(), "the log could not be counted; these leaves are lost");
                return;
            }
        };
        if leaves.is_empty() && halves.is_empty() {
            return;
        }
        let begun = Instant::now();
        if let Err(error) = self.store.append(first, &leaves, &halves, counted.state.as_deref()).await {
            self.counting.forget();
            // Nobody is told that the leaves are covered: dropping `waiting` says that they are not.
            tracing::error!(%error, leaves = leaves.len(), "the log could not be written; these leaves are lost");
            return;
        }
        if leaves.is_empty() {
            return;
        }
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            leaves.iter().for_each(|leaf| state.push(merkle::leaf_hash(&leaf.commitment.0)));
            state.root = state.edge.root();
        }
        // What is on disk and cannot be signed waits; after a restart it is signed then.
        let Some(size) = self.signed().await else { return };
        self.grown.send_replace(size);
        metrics::batch_written(leaves.len(), begun.elapsed());
        for (index, done) in (first.saturating_add(counted.before)..).zip(waiting) {
            // Whoever did not wait has dropped the other end, which is no error.
            let _ = done.send(index);
        }
        for done in asked {
            let _ = done.send(counted.day.unwrap_or(first));
        }
    }
}

#[cfg(test)]
mod tests;
