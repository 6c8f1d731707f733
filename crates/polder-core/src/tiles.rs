//! The log as tiles (C2SP `tlog-tiles`): where each piece of the tree lies, what is in it, and proofs made from such pieces.
//!
//! A tile holds up to 256 neighbouring hashes of one level, and a level's hash stands for 256 of the level below; so a log of any
//! size is read in few pieces, and a full piece never changes. Beside them lie the entries, in bundles of as many. Files, HTTP
//! and caching are absent; compression too.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use crate::canonical::Digest;
use crate::merkle::{self, Tree};

/// Most hashes of a tile, and most entries of a bundle.
pub const WIDTH: u16 = 256;
/// The length of a full tile, in bytes.
pub const TILE_BYTES: usize = WIDTH as usize * 32;
/// The levels of trees that a `u64` can count.
const LEVELS: u8 = 8;

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes of a level; level 0 has those of the leaves.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// A tile or bundle: what, the how manieth, and how many of its 256 places are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What lies there.
    pub kind: Kind,
    /// The how manieth of its level, from 0.
    pub index: u64,
    /// How many hashes or entries, 1 to 256.
    pub width: u16,
}

/// Why a tile or a bundle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The bytes are not as many as the place's hashes have.
    #[error("`{path}` has {bytes} bytes, not {wanted}", path = _0.path(), bytes = _1, wanted = usize::from(_0.width) * 32)]
    Length(Place, usize),
    /// The entries do not fill the bundle.
    #[error("`{path}` does not hold {width} whole entries", path = _0.path(), width = _0.width)]
    Entries(Place),
    /// An entry is longer than a bundle can say.
    #[error("an entry has {0} bytes: a bundle holds entries of at most 65535")]
    TooLong(usize),
    /// A hash is not in the tile in which it should lie.
    #[error("`{path}` lacks a hash of the tree", path = _0.path())]
    Short(Place),
}

impl Place {
    /// The full tile of a level.
    pub fn tile(level: u8, index: u64) -> Self {
        Self { kind: Kind::Hashes(level), index, width: WIDTH }
    }

    /// The full bundle of entries.
    pub fn bundle(index: u64) -> Self {
        Self { kind: Kind::Entries, index, width: WIDTH }
    }

    /// The level of its hashes; entries lie beside level 0.
    pub fn level(&self) -> u8 {
        match self.kind {
            Kind::Hashes(level) => level,
            Kind::Entries => 0,
        }
    }

    /// Whether nothing can be added.
    pub fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// The same place with all its 256 filled.
    pub fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// How many of the place are filled in a tree of `size` leaves; `None` where none are.
    pub fn filled(self, size: u64) -> Option<Self> {
        let level = u32::from(self.level());
        let hashes = if level >= u32::from(LEVELS) { 0 } else { size >> (8 * level) };
        let before = self.index.checked_mul(u64::from(WIDTH))?;
        let width = u16::try_from(hashes.saturating_sub(before).min(u64::from(WIDTH))).ok()?;
        (width > 0).then_some(Self { width, ..self })
    }

    /// The path below the log's address, `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
    pub fn path(&self) -> String {
        let mut digits = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            digits = format!("x{:03}/{digits}", rest % 1000);
            rest /= 1000;
        }
        let kind = match self.kind {
            Kind::Hashes(level) => level.to_string(),
            Kind::Entries => "entries".to_owned(),
        };
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{kind}/{digits}{partial}")
    }

    /// Reads a path, in its one form.
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Hashes(level.parse().ok().filter(|level| *level < 64)?),
        };
        let (digits, width) = match rest.split_once(".p/") {
            Some((digits, width)) => (digits, width.parse().ok().filter(|width| (1..WIDTH).contains(width))?),
            None => (rest, WIDTH),
        };
        let mut index = 0u64;
        for part in digits.split('/') {
            let number = part.strip_prefix('x').unwrap_or(part).parse::<u64>().ok().filter(|number| *number < 1000)?;
            index = index.checked_mul(1000)?.checked_add(number)?;
        }
        let place = Self { kind, index, width };
        // Signs, missing or extra zeros and stray marks would give one place two paths.
        (place.path() == path).then_some(place)
    }
}

/// Where the hash of a complete subtree lies: its tile, and depth and index within.
fn seat(depth: u32, index: u64) -> (Place, u32, u64) {
    let (level, within) = (u8::try_from(depth / 8).unwrap_or(u8::MAX), depth % 8);
    let tile = index >> (8 - within);
    (Place::tile(level, tile), within, index & ((1 << (8 - within)) - 1))
}

/// The bytes of a tile.
pub fn tile_bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads the bytes of a tile.
pub fn parse_tile(place: Place, bytes: &[u8]) -> Result<Tree, TileError> {
    if bytes.len() != usize::from(place.width) * 32 {
        return Err(TileError::Length(place, bytes.len()));
    }
    let mut tile = Tree::default();
    for hash in bytes.as_chunks::<32>().0 {
        tile.push(Digest(*hash));
    }
    Ok(tile)
}

/// Appends an entry to a bundle: its length in two bytes, big-endian, and itself.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::TooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Reads a bundle: as many entries as its place says, and nothing after them.
pub fn parse_entries(place: Place, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let (mut entries, mut rest) = (Vec::with_capacity(usize::from(place.width)), bytes);
    while !rest.is_empty() {
        let (length, more) = rest.split_first_chunk::<2>().ok_or(TileError::Entries(place))?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, more) = more.split_at_checked(length).ok_or(TileError::Entries(place))?;
        entries.push(entry);
        rest = more;
    }
    if entries.len() == usize::from(place.width) { Ok(entries) } else { Err(TileError::Entries(place)) }
}

/// What a log writes when it grows from `old` to `new` leaves: every tile and bundle that became full, and those that are partly
/// filled at `new`, lower levels first.
pub fn written(old: u64, new: u64) -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |kind: Kind, level: u8| {
        let (before, after) = (old >> (8 * u32::from(level)), new >> (8 * u32::from(level)));
        if before == after {
            return;
        }
        let (first, last) = (before / u64::from(WIDTH), after.div_ceil(u64::from(WIDTH)));
        places.extend((first..last).filter_map(|index| Place { kind, index, width: WIDTH }.filled(new)));
    };
    add(Kind::Entries, 0);
    (0..LEVELS).for_each(|level| add(Kind::Hashes(level), level));
    places
}

/// The tiles and the bundle that are partly filled in a log of `size` leaves.
pub fn partial(size: u64) -> Vec<Place> {
    let level = |kind: Kind, level: u8| {
        let hashes = size >> (8 * u32::from(level));
        let place = Place { kind, index: hashes / u64::from(WIDTH), width: WIDTH };
        place.filled(size).filter(|place| !place.is_full())
    };
    let hashes = (0..LEVELS).filter_map(|depth| level(Kind::Hashes(depth), depth));
    level(Kind::Entries, 0).into_iter().chain(hashes).collect()
}

/// A hash of the tree of `size` leaves, from its tile.
fn from_tile<T: Borrow<Tree>, E: From<TileError>>(
    (depth, index, size): (u32, u64, u64),
    fetch: &mut impl FnMut(Place) -> Result<T, E>,
) -> Result<Digest, E> {
    let (tile, within, at) = seat(depth, index);
    let place = tile.filled(size).ok_or(TileError::Short(tile))?;
    let held = fetch(place)?;
    Ok(held.borrow().node(within, at).ok_or(TileError::Short(place))?)
}

/// The root over the first `size` leaves, from tiles. `fetch` gives a tile of the tree of that size, or a fuller one of the same
/// index.
pub fn root<T: Borrow<Tree>, E: From<TileError>>(
    size: u64,
    fetch: &mut impl FnMut(Place) -> Result<T, E>,
) -> Result<Digest, E> {
    merkle::root(size, &mut |depth, index| from_tile((depth, index, size), fetch))
}

/// The inclusion proof of a leaf in the tree of `size` leaves, from tiles; `None` where the leaf is not in it.
pub fn inclusion<T: Borrow<Tree>, E: From<TileError>>(
    leaf: u64,
    size: u64,
    fetch: &mut impl FnMut(Place) -> Result<T, E>,
) -> Result<Option<Vec<Digest>>, E> {
    merkle::inclusion(leaf, size, &mut |depth, index| from_tile((depth, index, size), fetch))
}

/// The consistency proof between two sizes, from tiles of the tree of `new` leaves; `None` where `old` is larger.
pub fn consistency<T: Borrow<Tree>, E: From<TileError>>(
    old: u64,
    new: u64,
    fetch: &mut impl FnMut(Place) -> Result<T, E>,
) -> Result<Option<Vec<Digest>>, E> {
    merkle::consistency(old, new, &mut |depth, index| from_tile((depth, index, new), fetch))
}

/// Notes which hashes a proof asks for.
struct Asked {
    size: u64,
    tiles: BTreeSet<Place>,
}

impl Asked {
    fn note(&mut self, depth: u32, index: u64) -> Result<Digest, std::convert::Infallible> {
        self.tiles.extend(seat(depth, index).0.filled(self.size));
        Ok(Digest::default())
    }
}

/// The tiles from which the root over `size` leaves is made, so that they can be fetched side by side.
pub fn tiles_of_root(size: u64) -> BTreeSet<Place> {
    let mut asked = Asked { size, tiles: BTreeSet::new() };
    let Ok(_) = merkle::root(size, &mut |depth, index| asked.note(depth, index));
    asked.tiles
}

/// The tiles from which an inclusion proof is made.
pub fn tiles_of_inclusion(leaf: u64, size: u64) -> BTreeSet<Place> {
    let mut asked = Asked { size, tiles: BTreeSet::new() };
    let Ok(_) = merkle::inclusion(leaf, size, &mut |depth, index| asked.note(depth, index));
    asked.tiles
}

/// The tiles from which a consistency proof is made.
pub fn tiles_of_consistency(old: u64, new: u64) -> BTreeSet<Place> {
    let mut asked = Asked { size: new, tiles: BTreeSet::new() };
    let Ok(_) = merkle::consistency(old, new, &mut |depth, index| asked.note(depth, index));
    asked.tiles
}

/// The growing end of a log: of each level the tile that is not full. It is all that appending needs: at most 255 hashes a level,
/// with their subtrees, whatever the log's size.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    size: u64,
    tiles: Vec<Tree>,
}

impl Edge {
    /// The end of a log of `size` leaves, from its partial tiles; `None` where they are not those of that size.
    pub fn open(size: u64, tiles: Vec<Tree>) -> Option<Self> {
        let edge = Self { size, tiles };
        let wanted = (0..LEVELS).map(|level| (size >> (8 * u32::from(level))) % u64::from(WIDTH));
        let held = edge.tiles.iter().map(Tree::size).chain(std::iter::repeat(0));
        (edge.tiles.len() <= usize::from(LEVELS) && wanted.zip(held).all(|(wanted, held)| wanted == held))
            .then_some(edge)
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of each level the tile that is not full, level 0 first. An empty one is not served.
    pub fn tiles(&self) -> &[Tree] {
        &self.tiles
    }

    /// Appends a leaf by its hash. Tiles that it fills are given to `full`, lower levels first.
    pub fn push(&mut self, leaf: Digest, full: &mut impl FnMut(Place, Tree)) {
        let mut hash = leaf;
        for level in 0..LEVELS {
            if self.tiles.len() <= usize::from(level) {
                self.tiles.push(Tree::default());
            }
            let Some(tile) = self.tiles.get_mut(usize::from(level)) else { break };
            tile.push(hash);
            if tile.size() < u64::from(WIDTH) {
                break;
            }
            let tile = std::mem::take(tile);
            hash = tile.root();
            full(Place::tile(level, self.size >> (8 * (u32::from(level) + 1))), tile);
        }
        self.size += 1;
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        merkle::root(self.size, &mut |depth, index| self.node(depth, index).ok_or(()))
            .unwrap_or_else(|()| merkle::nothing())
    }

    /// The hash of a complete subtree, where it lies in a tile that is not full.
    pub fn node(&self, depth: u32, index: u64) -> Option<Digest> {
        let (place, within, at) = seat(depth, index);
        self.tile(place)?.node(within, at)
    }

    /// The tile at a place, where it is the one of its level that is not full.
    pub fn tile(&self, place: Place) -> Option<&Tree> {
        let level = u32::from(place.level());
        let current = self.size.checked_shr(8 * (level + 1)).unwrap_or(0);
        let tile = self.tiles.get(usize::from(place.level()))?;
        (place.index == current && tile.size() > 0).then_some(tile)
    }
}

#[cfg(test)]
mod tests;
