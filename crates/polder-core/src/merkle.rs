//! The Merkle tree of RFC 9162 §2.1: roots, inclusion and consistency proofs, and their verification.
//!
//! The tree keeps every complete subtree's hash, 64 bytes a leaf. Storage is absent: whoever owns the leaves
//! rebuilds the tree from them.

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

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        self.range(0, self.size()).unwrap_or_else(|| Digest(Sha256::digest([]).into()))
    }

    /// The root over the first `size` leaves; `None` where there are fewer.
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        match size {
            0 => Some(Digest(Sha256::digest([]).into())),
            _ => self.range(0, size),
        }
    }

    /// The hashes that lead from leaf `index` to the root over the first `size` leaves, leaf's sibling first.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut from, mut to, mut path) = (0, size, Vec::new());
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                path.push(self.range(middle, to)?);
                to = middle;
            } else {
                path.push(self.range(from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The hashes that show the tree of `old` leaves to be a prefix of that of `new` leaves (RFC 9162 §2.1.4).
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        if old > new || new > self.size() {
            return None;
        }
        if old == 0 || old == new {
            return Some(Vec::new());
        }
        let (mut from, mut to, mut whole, mut path) = (0, new, true, Vec::new());
        while to != old {
            let middle = from + split(to - from);
            if old <= middle {
                path.push(self.range(middle, to)?);
                to = middle;
            } else {
                path.push(self.range(from, middle)?);
                from = middle;
                whole = false;
            }
        }
        if !whole {
            path.push(self.range(from, to)?);
        }
        path.reverse();
        Some(path)
    }

    /// The hash over leaves `from .. to`, where `from` is a multiple of the largest power of two below the length.
    fn range(&self, from: u64, to: u64) -> Option<Digest> {
        let length = to.checked_sub(from).filter(|length| *length > 0)?;
        if length.is_power_of_two() {
            let depth = length.trailing_zeros() as usize;
            let index = usize::try_from(from >> depth).ok()?;
            return self.levels.get(depth)?.get(index).copied();
        }
        let middle = from + split(length);
        Some(node_hash(&self.range(from, middle)?, &self.range(middle, to)?))
    }
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
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut rest = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut a, mut b) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
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
    last == 0 && a == *old_root && b == *new_root
}

#[cfg(test)]
mod tests;
