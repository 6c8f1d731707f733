//! How a log is opened: on what the database holds, and only where that goes on from what was published.
//!
//! A database that was restored from an old copy would make this log sign a second history. It is refused here, where what was
//! published is known; where it is not, the witnesses find it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use polder_core::keys::NodeCard;
use polder_core::merkle;
use polder_core::note::{Checkpoint, origin};
use polder_core::tiles::Edge;
use tokio::sync::watch;

use super::{Archive, Counting, Growing, Keeper, Log, LogError, Published, Queue, Shelf, Signing, Writer, sign};
use crate::clock::now_ms;
use crate::store::{Grown, Store};

/// How many leaves are read at once.
const LEAVES_AT_ONCE: u64 = 65_536;
/// The name of the checkpoint at rest.
pub(super) const CHECKPOINT: &str = "checkpoint";

impl Log {
    /// Opens the log on what the database holds and starts its writer. Its tiles lie nowhere at rest; they are made when they
    /// are asked for.
    pub async fn open(store: Store, key: SigningKey, card: Arc<NodeCard>) -> Result<Self, LogError> {
        Self::open_in(None, store, Signing::of(key, card), &[]).await
    }

    /// The same, with its tiles at rest where the archive says. `told` are checkpoints that others have of this log: it goes on from
    /// all of them, or is not opened.
    pub async fn open_in(
        archive: Option<Archive>,
        store: Store,
        signing: Signing,
        told: &[String],
    ) -> Result<Self, LogError> {
        let leaves = store.leaves().await?;
        let origin: Arc<str> = origin(&signing.current.card.node).into();
        let own = |note: &str| signing.ever.iter().find_map(|key| Checkpoint::open(note, &origin, key).ok());
        let kept = store.kept_tree().await?;
        let mut signed: Vec<Checkpoint> = kept.iter().filter_map(|kept| own(&kept.note)).collect();
        signed.extend(told.iter().filter_map(|note| own(note)));
        if let Some(archive) = &archive {
            let note = archive.get(CHECKPOINT).await?.and_then(|bytes| String::from_utf8(bytes).ok());
            signed.extend(note.as_deref().and_then(own));
        }
        if let Some(published) = signed.iter().map(|one| one.size).max().filter(|size| *size > leaves) {
            return Err(LogError::Shrunk { held: leaves, published });
        }
        let kept = kept.filter(|kept| own(&kept.note).is_some_and(|one| one.root == kept.edge.root()));
        let from = kept.map_or_else(Edge::default, |Grown { edge, .. }| edge);
        let state = grow(&store, from.clone(), leaves, &signed).await?;
        let root = state.root();
        let note = sign(&state, root, &origin, &signing)?;
        let recorded_ms = store.latest_ms().await?;
        store.begin_run(now_ms(), leaves, recorded_ms).await?;
        let cut = store.cut_runs().await?.into();
        let first = Arc::new(Published { edge: state.clone(), root, note: Arc::clone(&note) });
        let state = Arc::new(RwLock::new(Growing::new(state, note, root)));
        let queue = Arc::<Queue>::default();
        let (grown, size) = watch::channel(leaves);
        let (candidate, candidates) = watch::channel(Arc::clone(&first));
        let published = Arc::new(watch::channel(first).0);
        let shelf = Shelf::new(store.clone(), archive);
        let node = signing.current.card.node.clone();
        let counts = Arc::<AtomicBool>::default();
        let counting = Counting::new(node.clone(), Arc::clone(&counts));
        let signing = Arc::new(ArcSwap::from_pointee(signing));
        let writer = Writer {
            store: store.clone(),
            state: Arc::clone(&state),
            origin: Arc::clone(&origin),
            signing: Arc::clone(&signing),
            closed: Arc::clone(&queue.closed),
            grown,
            counting,
        };
        let cosigned = Arc::<AtomicBool>::default();
        let shown = (Arc::clone(&published), Arc::clone(&cosigned));
        let keeper = Keeper::new(shelf.clone(), store.clone(), from, Arc::clone(&state), candidate, shown);
        let tasks = vec![tokio::spawn(writer.run(Arc::clone(&queue))), tokio::spawn(keeper.run(size))];
        let tasks = Arc::new(Mutex::new(tasks));
        Ok(Self {
            queue,
            state,
            store,
            origin,
            signing,
            shelf,
            candidates,
            published,
            cosigned,
            cut,
            tasks,
            node,
            own: Arc::default(),
            counts,
        })
    }
}

/// Grows an end to all the leaves that there are. Where a size passes by that was signed, the root must be the one that was.
async fn grow(store: &Store, mut edge: Edge, leaves: u64, signed: &[Checkpoint]) -> Result<Edge, LogError> {
    let holds = |edge: &Edge| match signed.iter().find(|one| one.size == edge.size() && one.root != edge.root()) {
        Some(one) => Err(LogError::Changed(one.size)),
        None => Ok(()),
    };
    holds(&edge)?;
    while edge.size() < leaves {
        let from = edge.size();
        let stop = signed.iter().map(|one| one.size).filter(|size| *size > from).min().unwrap_or(leaves);
        let to = (from + LEAVES_AT_ONCE).min(stop).min(leaves);
        let commitments = store.commitments(from, to).await?;
        if commitments.len() as u64 != to - from {
            return Err(LogError::Missing(format!("leaf {}", from + commitments.len() as u64)));
        }
        commitments.iter().for_each(|one| edge.push(merkle::leaf_hash(&one.0), &mut |_, _| ()));
        holds(&edge)?;
    }
    Ok(edge)
}
