//! Tests of the tree against the definition in RFC 9162 §2.1.1, written recursively.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

fn leaves(n: u64) -> Vec<Digest> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn by_definition(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest(Sha256::digest([]).into()),
        [one] => *one,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            node_hash(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
        }
    }
}

fn tree(n: u64) -> Tree {
    let mut tree = Tree::default();
    leaves(n).into_iter().for_each(|leaf| tree.push(leaf));
    tree
}

#[test]
fn roots_follow_the_definition() {
    let tree = tree(70);
    for n in 0..=70 {
        assert_eq!(tree.root_at(n).unwrap(), by_definition(&leaves(n)), "{n}");
    }
    assert_eq!(tree.root_at(71), None);
}

proptest! {
    #[test]
    fn inclusion_proofs_lead_to_the_root_and_changed_ones_do_not(n in 1u64..200, i in 0u64..200, bit in 0usize..256) {
        prop_assume!(i < n);
        let tree = tree(n);
        let leaf = leaves(n)[i as usize];
        let mut path = tree.inclusion(i, n).unwrap();
        prop_assert_eq!(root_from_inclusion(&leaf, i, n, &path), Some(tree.root()));
        prop_assert!(root_from_inclusion(&leaf, i + n, n, &path).is_none());
        path.push(leaf);
        prop_assert!(root_from_inclusion(&leaf, i, n, &path).is_none());
        path.pop();
        if let Some(first) = path.first_mut() {
            first.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(root_from_inclusion(&leaf, i, n, &path), Some(tree.root()));
        }
    }

    #[test]
    fn consistency_proofs_hold_and_changed_ones_do_not(old in 0u64..130, more in 0u64..130) {
        let new = old + more;
        let tree = tree(new);
        let (a, b) = (tree.root_at(old).unwrap(), tree.root_at(new).unwrap());
        let path = tree.consistency(old, new).unwrap();
        prop_assert!(is_consistent(old, &a, new, &b, &path));
        if old > 0 && more > 0 {
            prop_assert!(!is_consistent(old, &b, new, &b, &path));
            prop_assert!(!is_consistent(old, &a, new, &a, &path));
            let mut longer = path.clone();
            longer.push(a);
            prop_assert!(!is_consistent(old, &a, new, &b, &longer));
        }
    }
}
