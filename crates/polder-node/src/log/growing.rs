//! The tree that is being grown: its end and the tiles that were filled last, which is where nearly all proofs come from.
//!
//! Memory does not grow with the log. What is older is read from the shelf.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::merkle::Tree;
use polder_core::tiles::{self, Edge, Place, TileError};

/// How many filled tiles stay in memory, of 16 kB each. A leaf is proved within moments of its writing.
const RECENT_MAX: usize = 32;

/// The growing tree, and the checkpoint over it.
pub struct Growing {
    /// Its end.
    pub edge: Edge,
    recent: BTreeMap<Place, Arc<Tree>>,
    order: VecDeque<Place>,
    /// The signed checkpoint over all of it.
    pub note: Arc<str>,
    /// Its root.
    pub root: Digest,
}

impl Growing {
    /// From an end, under a checkpoint.
    pub fn new(edge: Edge, note: Arc<str>, root: Digest) -> Self {
        Self { edge, recent: BTreeMap::new(), order: VecDeque::new(), note, root }
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Digest) {
        let Self { edge, recent, order, .. } = self;
        edge.push(leaf, &mut |place, tile| {
            recent.insert(place, Arc::new(tile));
            order.push_back(place);
        });
        while order.len() > RECENT_MAX {
            if let Some(place) = order.pop_front() {
                recent.remove(&place);
            }
        }
    }

    /// A tile, where it is here.
    pub fn tile(&self, place: Place) -> Option<&Tree> {
        self.edge.tile(place).or_else(|| self.recent.get(&place.full()).map(Arc::as_ref))
    }

    /// The proof of a leaf under the checkpoint, where everything that it needs is here.
    pub fn inclusion(&self, leaf: u64) -> Option<Vec<Digest>> {
        let fetch = &mut |place| self.tile(place).ok_or(TileError::Short(place));
        tiles::inclusion(leaf, self.edge.size(), fetch).ok()?
    }

    /// What is here of some tiles.
    pub fn some_of(&self, places: &BTreeSet<Place>) -> BTreeMap<Place, Arc<Tree>> {
        let here = |place: &Place| Some((*place, Arc::new(self.tile(*place)?.clone())));
        places.iter().filter_map(here).collect()
    }
}
