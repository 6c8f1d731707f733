//! Full tiles and bundles as they are asked for: from memory, from where they lie at rest, or made again from the leaves in the
//! database.
//!
//! A tile that is missing or torn is made again and put back; one that is whole but wrong shows when a proof made from it does
//! not hold, and is then mended the same way. Tiles that are not full are absent: the log's end has those.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use polder_core::merkle::{self, Tree};
use polder_core::tiles::{Kind, Place, WIDTH, parse_entries, parse_tile, push_entry, tile_bytes};

use super::{Archive, LogError};
use crate::store::Store;

/// How many tiles are kept in memory, of 16 kB each.
const KEPT_MAX: usize = 96;

type Kept = VecDeque<(Place, Arc<Tree>)>;
type Making<'a> = Pin<Box<dyn Future<Output = Result<Arc<Tree>, LogError>> + Send + 'a>>;

/// Where full tiles and bundles come from.
#[derive(Clone)]
pub struct Shelf {
    store: Store,
    archive: Option<Archive>,
    kept: Arc<Mutex<Kept>>,
}

impl Shelf {
    /// Over a database, and where tiles lie at rest, if they do.
    pub fn new(store: Store, archive: Option<Archive>) -> Self {
        Self { store, archive, kept: Arc::default() }
    }

    /// Where tiles lie at rest.
    pub fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// A full tile of hashes that the database's leaves fill.
    pub async fn tile(&self, place: Place) -> Result<Arc<Tree>, LogError> {
        let place = place.full();
        if let Some(tile) = self.remembered(place) {
            return Ok(tile);
        }
        let held = match &self.archive {
            Some(archive) => match archive.get(&place.path()).await {
                Ok(held) => held,
                Err(error) => {
                    tracing::warn!(%error, "a tile is made from the database instead");
                    None
                }
            },
            None => None,
        };
        let held = held.and_then(|bytes| match parse_tile(place, &bytes) {
            Ok(tile) => Some(Arc::new(tile)),
            Err(error) => {
                tracing::error!(%error, "a tile is torn; it is made again from the database");
                None
            }
        });
        let tile = match held {
            Some(tile) => tile,
            None => self.mend(place).await?,
        };
        self.remember(place, &tile);
        Ok(tile)
    }

    /// A full tile as the database has it, put back to rest.
    pub async fn mend(&self, place: Place) -> Result<Arc<Tree>, LogError> {
        let tile = self.make(place).await?;
        if let Some(archive) = &self.archive
            && let Err(error) = archive.put(&place.path(), tile_bytes(tile.leaves())).await
        {
            tracing::warn!(%error, "a tile could not be put back");
        }
        Ok(tile)
    }

    /// A full tile from the leaves in the database.
    pub fn make(&self, place: Place) -> Making<'_> {
        Box::pin(async move {
            let mut tile = Tree::default();
            let first = place.index * u64::from(WIDTH);
            match place.level() {
                0 => {
                    let commitments = self.store.commitments(first, first + u64::from(WIDTH)).await?;
                    commitments.iter().for_each(|one| tile.push(merkle::leaf_hash(&one.0)));
                }
                level => {
                    for below in first..first + u64::from(WIDTH) {
                        tile.push(self.tile(Place::tile(level - 1, below)).await?.root());
                    }
                }
            }
            if tile.size() < u64::from(WIDTH) {
                return Err(LogError::Missing(place.path()));
            }
            Ok(Arc::new(tile))
        })
    }

    /// A full or partial bundle of entries, as bytes.
    pub async fn entries(&self, place: Place) -> Result<Vec<u8>, LogError> {
        if place.is_full()
            && let Some(archive) = &self.archive
            && let Ok(Some(bytes)) = archive.get(&place.path()).await
            && parse_entries(place, &bytes).is_ok()
        {
            return Ok(bytes);
        }
        let first = place.index * u64::from(WIDTH);
        let commitments = self.store.commitments(first, first + u64::from(place.width)).await?;
        if commitments.len() < usize::from(place.width) {
            return Err(LogError::Missing(place.path()));
        }
        let mut bundle = Vec::with_capacity(commitments.len() * 34);
        for commitment in commitments {
            push_entry(&mut bundle, &commitment.0)?;
        }
        Ok(bundle)
    }

    /// Forgets a tile, so that it is read again.
    pub fn forget(&self, place: Place) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(held, _)| *held != place.full());
    }

    /// Keeps a tile in memory for a while.
    pub fn remember(&self, place: Place, tile: &Arc<Tree>) {
        if place.kind == Kind::Entries {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((place, Arc::clone(tile)));
    }

    fn remembered(&self, place: Place) -> Option<Arc<Tree>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(held, _)| *held == place).map(|(_, tile)| Arc::clone(tile))
    }
}
