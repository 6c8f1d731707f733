//! The keeper follows the database: it makes tiles of what was written, lays them to rest, and only then offers a checkpoint to be
//! published.
//!
//! It reads what the writer has committed, so starting again after a crash is the same work as going on. Full tiles are written
//! once. What is not full is laid to rest with the checkpoint, at most once a second: in between it is served from memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use polder_core::canonical::Digest;
use polder_core::merkle;
use polder_core::tiles::{self, Edge, Kind, Place, WIDTH, push_entry, tile_bytes};
use tokio::sync::watch;
use tokio::time::Instant;

use super::opening::CHECKPOINT;
use super::{Growing, LogError, Shelf};
use crate::store::Store;

/// How often the keeper looks at most: what came meanwhile is read at once.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often a checkpoint is laid to rest at most.
const REST_EVERY: Duration = Duration::from_secs(1);
/// How long the keeper waits after a failure.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// How many leaves are read at once.
const LEAVES_AT_ONCE: u64 = 16_384;

/// A checkpoint whose tiles are there.
#[derive(Debug, Clone)]
pub struct Published {
    /// The growing end of its tree.
    pub edge: Edge,
    /// Its root.
    pub root: Digest,
    /// The note.
    pub note: Arc<str>,
}

impl Published {
    /// Puts this in the place of what is published, unless that is newer; whether it did.
    pub(super) fn replace(self, held: &mut Arc<Self>) -> bool {
        let newer = self.edge.size() >= held.edge.size() && self.note != held.note;
        if newer {
            *held = Arc::new(self);
        }
        newer
    }
}

/// What makes tiles.
pub(super) struct Keeper {
    shelf: Shelf,
    store: Store,
    edge: Edge,
    /// The commitments of the leaves in the tile of level 0 that is not full.
    begun: Vec<Digest>,
    state: Arc<RwLock<Growing>>,
    candidate: watch::Sender<Arc<Published>>,
    published: Arc<watch::Sender<Arc<Published>>>,
    /// Whether checkpoints wait for cosignatures before they are published.
    cosigned: Arc<AtomicBool>,
    rested: u64,
    rested_note: Option<Arc<str>>,
    rested_at: Option<Instant>,
}

impl Keeper {
    /// A keeper that goes on from an end whose tiles are at rest.
    pub fn new(
        shelf: Shelf,
        store: Store,
        edge: Edge,
        state: Arc<RwLock<Growing>>,
        candidate: watch::Sender<Arc<Published>>,
        (published, cosigned): (Arc<watch::Sender<Arc<Published>>>, Arc<AtomicBool>),
    ) -> Self {
        let (rested, begun, rested_note, rested_at) = (edge.size(), Vec::new(), None, None);
        Self { shelf, store, edge, begun, state, candidate, published, cosigned, rested, rested_note, rested_at }
    }

    /// Follows until the writer has ended.
    pub async fn run(mut self, mut size: watch::Receiver<u64>) {
        let (mut open, mut shown) = (true, self.published.subscribe());
        while open {
            let (grown, rested) = (self.follow().await, self.rest(false).await);
            if let Err(error) = grown.and(rested) {
                tracing::error!(%error, "tiles cannot be laid to rest; what they cover is not published until they are");
                tokio::time::sleep(FAILED_PAUSE).await;
                // A writer that has ended is not waited for any longer: the next start makes the tiles.
                open = size.has_changed().is_ok();
                continue;
            }
            let due = self.rested_at.map_or_else(Instant::now, |at| at + REST_EVERY);
            let waiting = self.rested_note.as_ref() != Some(&shown.borrow_and_update().note);
            tokio::select! {
                changed = size.changed() => open = changed.is_ok(),
                changed = shown.changed(), if !waiting => open = changed.is_ok(),
                () = tokio::time::sleep_until(due), if waiting => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Err(error) = self.follow().await {
            tracing::error!(%error, "the last tiles could not be made; the next start makes them");
        }
        if let Err(error) = self.rest(true).await {
            tracing::error!(%error, "the last tiles could not be laid to rest; the next start does it");
        }
    }

    /// Makes the tiles of what was written since, and offers the checkpoint over them.
    async fn follow(&mut self) -> Result<(), LogError> {
        let (size, root, note) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.edge.size(), state.root, Arc::clone(&state.note))
        };
        if self.begun.is_empty() {
            let first = self.edge.size() / u64::from(WIDTH) * u64::from(WIDTH);
            self.begun = self.store.commitments(first, self.edge.size()).await?;
        }
        while self.edge.size() < size {
            let from = self.edge.size();
            let to = (from + LEAVES_AT_ONCE).min(size);
            let commitments = self.store.commitments(from, to).await?;
            if commitments.len() as u64 != to - from {
                return Err(LogError::Missing(format!("leaf {}", from + commitments.len() as u64)));
            }
            self.grow(&commitments).await?;
        }
        if self.edge.root() != root {
            return Err(LogError::Changed(size));
        }
        if self.candidate.borrow().note != note {
            let candidate = Published { edge: self.edge.clone(), root, note };
            self.candidate.send_replace(Arc::new(candidate.clone()));
            if !self.cosigned.load(Ordering::Acquire) {
                self.published.send_if_modified(|held| candidate.replace(held));
            }
        }
        Ok(())
    }

    /// Appends leaves; what they fill is at rest before they count.
    async fn grow(&mut self, commitments: &[Digest]) -> Result<(), LogError> {
        let (mut edge, mut begun, mut full) = (self.edge.clone(), self.begun.clone(), Vec::new());
        for commitment in commitments {
            begun.push(*commitment);
            edge.push(merkle::leaf_hash(&commitment.0), &mut |place, tile| {
                full.push((place.path(), tile_bytes(tile.leaves())));
            });
            if begun.len() == usize::from(WIDTH) {
                let place = Place::bundle(edge.size() / u64::from(WIDTH) - 1);
                full.push((place.path(), bundle(&begun)?));
                begun.clear();
            }
        }
        if let Some(archive) = self.shelf.archive() {
            archive.put_all(full).await?;
        }
        (self.edge, self.begun) = (edge, begun);
        Ok(())
    }

    /// Lays what is published to rest: what is not full, then the checkpoint; what the last one needed is then removed.
    async fn rest(&mut self, now: bool) -> Result<(), LogError> {
        let published = Arc::clone(&self.published.borrow());
        let early = self.rested_at.is_some_and(|at| at.elapsed() < REST_EVERY);
        if (early && !now) || self.rested_note.as_ref() == Some(&published.note) {
            return Ok(());
        }
        let size = published.edge.size();
        if let Some(archive) = self.shelf.archive() {
            for place in tiles::partial(size) {
                let bytes = match (place.kind, published.edge.tiles().get(usize::from(place.level()))) {
                    (Kind::Entries, _) => self.shelf.entries(place).await?,
                    (Kind::Hashes(_), tile) => tile.map_or_else(Vec::new, |tile| tile_bytes(tile.leaves())),
                };
                archive.put(&place.path(), bytes).await?;
            }
            archive.put(CHECKPOINT, published.note.as_bytes().to_vec()).await?;
            let needed = tiles::partial(size);
            for place in tiles::partial(self.rested).into_iter().filter(|place| !needed.contains(place)) {
                archive.remove(&place.path()).await?;
            }
        }
        self.store.keep_tree(&published.edge, &published.note).await?;
        (self.rested, self.rested_at) = (size, Some(Instant::now()));
        self.rested_note = Some(Arc::clone(&published.note));
        Ok(())
    }
}

fn bundle(commitments: &[Digest]) -> Result<Vec<u8>, LogError> {
    let mut bytes = Vec::with_capacity(commitments.len() * 34);
    for commitment in commitments {
        push_entry(&mut bytes, &commitment.0)?;
    }
    Ok(bytes)
}
