//! Proofs of leaves and of growth, from tiles: those that are not full from a tree's end, the others from the shelf.
//!
//! What is given out was checked against the signed root, so a tile that was damaged shows here and is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::merkle::{self, Tree};
use polder_core::tiles::{self, Edge, Place, TileError, WIDTH};

use super::{Log, LogError, Published};

impl Log {
    /// The proof of a leaf, under the published checkpoint where that covers it. A tile that spoils it is mended.
    pub(super) async fn path(&self, index: u64, hash: &Digest) -> Result<(Vec<Digest>, String), LogError> {
        let published = self.published();
        let size = published.edge.size();
        if index >= size {
            return self.signed_path(index).await;
        }
        for mended in [false, true] {
            let path = self.path_in(index, &published).await?;
            if merkle::root_from_inclusion(hash, index, size, &path) == Some(published.root) {
                return Ok((path, published.note.to_string()));
            }
            if !mended {
                self.mend(&published, tiles::tiles_of_inclusion(index, size)).await?;
            }
        }
        Err(LogError::Damaged(index))
    }

    /// The proof of a leaf in a published tree.
    pub async fn path_in(&self, index: u64, published: &Published) -> Result<Vec<Digest>, LogError> {
        let size = published.edge.size();
        let held = self.gather(&published.edge, tiles::tiles_of_inclusion(index, size)).await?;
        tiles::inclusion(index, size, &mut |place| tile_of(&held, place))?.ok_or(LogError::Damaged(index))
    }

    /// The proof that a published tree goes on from an earlier size; `None` where that is larger.
    pub async fn consistency(&self, old: u64, published: &Published) -> Result<Option<Vec<Digest>>, LogError> {
        let size = published.edge.size();
        let held = self.gather(&published.edge, tiles::tiles_of_consistency(old, size)).await?;
        tiles::consistency(old, size, &mut |place| tile_of(&held, place))
    }

    /// The proof of a leaf under what was signed last.
    pub(super) async fn signed_path(&self, index: u64) -> Result<(Vec<Digest>, String), LogError> {
        let (edge, note) = self.read(|state| (state.edge.clone(), state.note.to_string()));
        let size = edge.size();
        let places = tiles::tiles_of_inclusion(index, size);
        let mut held = self.read(|state| state.some_of(&places));
        let rest = places.into_iter().filter(|place| !held.contains_key(place)).collect();
        held.extend(self.gather(&edge, rest).await?);
        let path = tiles::inclusion(index, size, &mut |place| tile_of(&held, place))?;
        let path = path.ok_or(LogError::Damaged(index))?;
        Ok((path, note))
    }

    /// Tiles of a tree: those that are not full from its end, the others from the shelf.
    async fn gather(&self, edge: &Edge, places: BTreeSet<Place>) -> Result<BTreeMap<Place, Arc<Tree>>, LogError> {
        let mut held = BTreeMap::new();
        for place in places {
            let tile = match edge.tile(place) {
                Some(tile) => Arc::new(tile.clone()),
                None => self.shelf.tile(place).await?,
            };
            held.insert(place, tile);
        }
        Ok(held)
    }

    /// Looks at the full tiles that a proof was made of: one that is not what its level above says, and that the leaves make right,
    /// is put right.
    async fn mend(&self, published: &Published, places: BTreeSet<Place>) -> Result<(), LogError> {
        let full = |place: &Place| place.full().filled(published.edge.size()) == Some(place.full());
        for place in places.into_iter().filter(full).map(Place::full) {
            let (level, depth) = (place.level(), 8 * (u32::from(place.level()) + 1));
            let said = match published.edge.node(depth, place.index) {
                Some(said) => Some(said),
                None => {
                    let above = Place::tile(level + 1, place.index / u64::from(WIDTH));
                    self.shelf.tile(above).await?.node(0, place.index % u64::from(WIDTH))
                }
            };
            if Some(self.shelf.tile(place).await?.root()) == said {
                continue;
            }
            tracing::error!(tile = place.path(), "a tile is not what was signed");
            self.shelf.forget(place);
            if Some(self.shelf.make(place).await?.root()) == said {
                self.shelf.mend(place).await?;
            }
        }
        Ok(())
    }
}

fn tile_of(held: &BTreeMap<Place, Arc<Tree>>, place: Place) -> Result<&Tree, LogError> {
    held.get(&place).map(Arc::as_ref).ok_or(LogError::Tile(TileError::Short(place)))
}
