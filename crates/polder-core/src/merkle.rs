//! The Merkle tree of RFC 9162 §2.1: roots, inclusion and consistency proofs, and their verification.
//!
//! Every root and proof is made of hashes of complete subtrees, so whoever has those can make it: the [`Tree`] here, which keeps
//! all of them at 64 bytes a leaf, or the tiles of a log (`tiles.rs`). Storage is absent.

use sha2::{Digest as _, Sha256};

use crate::canonical::Digest;

/// The hash of one leaf: SHA-256 over a zero byte and the entry.
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// The hash of an inner node: SHA-256 over a one byte and both children.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root over a list of entries; SHA-256 of nothing where there are none.
pub fn root_of<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut tree = Tree::default();
    for entry in entries {
        tree.push(leaf_hash(entry));
    }
    tree.root()
}

/// A growing tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// `levels[k][i]` is the hash of the complete subtree over leaves `i * 2^k .. (i + 1) * 2^k`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for depth in 0.. {
            if depth == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let Some(level) = self.levels.get_mut(depth) else { return };
            level.push(hash);
            match level.as_slice() {
                [.., left, right] if level.len().is_multiple_of(2) => hash = node_hash(left, right),
                _ => return,
            }
        }
    }

    /// The hash of the complete subtree over leaves `index * 2^depth .. (index + 1) * 2^depth`.
    pub fn node(&self, depth: u32, index: u64) -> Option<Digest> {
        self.levels.get(usize::try_from(depth).ok()?)?.get(usize::try_from(index).ok()?).copied()
    }

    /// The hashes of the leaves, in order.
    pub fn leaves(&self) -> &[Digest] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        self.root_at(self.size()).unwrap_or_else(nothing)
    }

    /// The root over the first `size` leaves; `None` where there are fewer.
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        root(size, &mut |depth, index| self.node(depth, index).ok_or(())).ok()
    }

    /// The hashes that lead from leaf `index` to the root over the first `size` leaves, leaf's sibling first.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        inclusion(index, size, &mut |depth, index| self.node(depth, index).ok_or(())).ok()?
    }

    /// The hashes that show the tree of `old` leaves to be a prefix of that of `new` leaves (RFC 9162 §2.1.4).
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        if new > self.size() {
            return None;
        }
        consistency(old, new, &mut |depth, index| self.node(depth, index).ok_or(())).ok()?
    }
}

/// The root over no leaves: SHA-256 of nothing.
pub fn nothing() -> Digest {
    Digest(Sha256::digest([]).into())
}

/// The root over the first `size` leaves. `node` gives the hash of the complete subtree at a depth and an index, as
/// [`Tree::node`] does; what it cannot give is its error.
pub fn root<E>(size: u64, node: &mut impl FnMut(u32, u64) -> Result<Digest, E>) -> Result<Digest, E> {
    if size == 0 { Ok(nothing()) } else { range(0, size, node) }
}

/// The hashes that lead from leaf `index` to the root over the first `size` leaves, leaf's sibling first; `None` where the
/// leaf is not among them.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    node: &mut impl FnMut(u32, u64) -> Result<Digest, E>,
) -> Result<Option<Vec<Digest>>, E> {
    if index >= size {
        return Ok(None);
    }
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range(middle, to, node)?);
            to = middle;
        } else {
            path.push(range(from, middle, node)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The hashes that show the tree of `old` leaves to be a prefix of that of `new` leaves (RFC 9162 §2.1.4); `None` where it
/// has more.
pub fn consistency<E>(
    old: u64,
    new: u64,
    node: &mut impl FnMut(u32, u64) -> Result<Digest, E>,
) -> Result<Option<Vec<Digest>>, E> {
    if old > new {
        return Ok(None);
    }
    if old == 0 || old == new {
        return Ok(Some(Vec::new()));
    }
    let (mut from, mut to, mut whole, mut path) = (0, new, true, Vec::new());
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(middle, to, node)?);
            to = middle;
        } else {
            path.push(range(from, middle, node)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range(from, to, node)?);
    }
    path.reverse();
    Ok(Some(path))
}

/// The hash over leaves `from .. to`, of which there are some; `from` is a multiple of the largest power of two below the length.
fn range<E>(from: u64, to: u64, node: &mut impl FnMut(u32, u64) -> Result<Digest, E>) -> Result<Digest, E> {
    let length = to - from;
    if length.is_power_of_two() {
        let depth = length.trailing_zeros();
        return node(depth, from >> depth);
    }
    let middle = from + split(length);
    Ok(node_hash(&range(from, middle, node)?, &range(middle, to, node)?))
}

/// The largest power of two below `length`, which is at least two.
fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// The root that an inclusion proof leads to (RFC 9162 §2.1.3.2); `None` where the proof has the wrong length.
pub fn root_from_inclusion(leaf: &Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    let (mut node, mut last) = (index, size.checked_sub(1)?);
    if index > last {
        return None;
    }
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Whether `path` shows the tree `(old, old_root)` to be a prefix of `(new, new_root)` (RFC 9162 §2.1.4.2).
pub fn is_consistent(old: u64, old_root: &Digest, new: u64, new_root: &Digest, path: &[Digest]) -> bool {
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == Digest(Sha256::digest([]).into());
    }
    if old > new {
        return false;
    }
    let (first, rest) = match path.split_first() {
        _ if old.is_power_of_two() => (old_root, path),
        Some((first, rest)) => (first, rest),
        None => return false,
    };
    roots_from_consistency(old, new, first, rest).is_some_and(|(a, b)| a == *old_root && b == *new_root)
}

/// The root over the first `old` leaves that the tree `(new, new_root)` commits to by this proof. `None` where the proof does
/// not lead to `new_root`, and where `old` is a power of two: such a proof does not hold that root.
pub fn prefix_root(old: u64, new: u64, new_root: &Digest, path: &[Digest]) -> Option<Digest> {
    if old == 0 || old >= new || old.is_power_of_two() {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let (prefix, root) = roots_from_consistency(old, new, first, rest)?;
    (root == *new_root).then_some(prefix)
}

/// Both roots that a proof leads to, from the hash that it begins with (RFC 9162 §2.1.4.2); `None` where it has the wrong length.
fn roots_from_consistency(old: u64, new: u64, first: &Digest, rest: &[Digest]) -> Option<(Digest, Digest)> {
    let (mut node, mut last) = (old.checked_sub(1)?, new.checked_sub(1)?);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut a, mut b) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            a = node_hash(sibling, &a);
            b = node_hash(sibling, &b);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            b = node_hash(&b, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((a, b))
}

#[cfg(test)]
mod tests;
