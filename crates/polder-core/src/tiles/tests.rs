//! Tests of tiles: paths as C2SP `tlog-tiles` writes them, and proofs from tiles against the tree that keeps everything.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::merkle::{is_consistent, leaf_hash, prefix_root, root_from_inclusion};

/// A log of `size` leaves as files: what a log writes, growing in steps.
fn written_log(steps: &[u64]) -> (Tree, Edge, BTreeMap<Place, Vec<u8>>) {
    let (mut tree, mut edge, mut files) = (Tree::default(), Edge::default(), BTreeMap::new());
    let mut bundle = Vec::new();
    for step in steps {
        let old = edge.size();
        for i in old..old + step {
            let leaf = leaf_hash(&i.to_be_bytes());
            tree.push(leaf);
            edge.push(leaf, &mut |place, tile| drop(files.insert(place, tile_bytes(tile.leaves()))));
            push_entry(&mut bundle, &i.to_be_bytes()).unwrap();
            if (i + 1) % 256 == 0 {
                files.insert(Place::bundle(i / 256), std::mem::take(&mut bundle));
            }
        }
        for place in written(old, edge.size()).into_iter().filter(|place| !place.is_full()) {
            let bytes = match place.kind {
                Kind::Entries => bundle.clone(),
                Kind::Hashes(level) => tile_bytes(edge.tiles()[usize::from(level)].leaves()),
            };
            files.insert(place, bytes);
        }
        for place in written(old, edge.size()) {
            assert!(files.contains_key(&place), "{place:?}");
        }
    }
    (tree, edge, files)
}

fn fetch(files: &BTreeMap<Place, Vec<u8>>) -> impl FnMut(Place) -> Result<Tree, TileError> {
    |place| parse_tile(place, files.get(&place).ok_or(TileError::Short(place))?)
}

#[test]
fn paths_are_those_of_the_specification() {
    for (place, path) in [
        (Place::tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Place::tile(63, 0), "tile/63/000"),
        (Place { width: 112, ..Place::tile(1, 273) }, "tile/1/273.p/112"),
        (Place { width: 1, ..Place::bundle(1000) }, "tile/entries/x001/000.p/1"),
    ] {
        assert_eq!(place.path(), path);
        assert_eq!(Place::parse(path), Some(place));
    }
    for wrong in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/+1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/",
        "tile/0/001.p/1/2",
        "tile/0/x001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/entry/001",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/-01",
        "tile/0/0 1",
        "tile/-0/001",
    ] {
        assert_eq!(Place::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_tree_of_70_000_is_laid_out_as_the_specification_says() {
    let all = written(0, 70_000);
    let count = |kind, full| all.iter().filter(|place| place.kind == kind && place.is_full() == full).count();
    assert_eq!((count(Kind::Hashes(0), true), count(Kind::Entries, true), count(Kind::Hashes(1), true)), (273, 273, 1));
    let partial: Vec<_> = all.iter().filter(|place| !place.is_full()).map(|place| (place.kind, place.width)).collect();
    assert_eq!(partial, [(Kind::Entries, 112), (Kind::Hashes(0), 112), (Kind::Hashes(1), 17), (Kind::Hashes(2), 1)]);
    let of_256: Vec<_> = written(0, 256).iter().map(Place::path).collect();
    assert_eq!(of_256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    assert!(written(70_000, 70_000).is_empty());
    let of_all: Vec<_> = super::partial(70_000).iter().map(|place| (place.kind, place.width)).collect();
    assert_eq!(of_all, partial);
    assert!(super::partial(0).is_empty());
    assert_eq!(super::partial(65_536), [Place { width: 1, ..Place::tile(2, 0) }]);
}

#[test]
fn roots_and_proofs_from_tiles_are_those_of_the_tree() {
    let (tree, edge, files) = written_log(&[1, 254, 1, 1, 511, 65_000, 400, 1700]);
    let size = edge.size();
    assert_eq!(edge.root(), tree.root());
    for at in [1, 255, 256, 257, 768, 65_768, 66_168, size] {
        assert_eq!(root(at, &mut fetch(&files)).unwrap(), tree.root_at(at).unwrap(), "{at}");
        for leaf in [0, at / 3, at / 2, at - 1] {
            let path = inclusion(leaf, at, &mut fetch(&files)).unwrap().unwrap();
            assert_eq!(Some(&path), tree.inclusion(leaf, at).as_ref());
            let hash = leaf_hash(&leaf.to_be_bytes());
            assert_eq!(root_from_inclusion(&hash, leaf, at, &path), tree.root_at(at));
            // The tiles that were named beforehand are enough.
            let named: BTreeMap<_, _> =
                tiles_of_inclusion(leaf, at).into_iter().map(|place| (place, files[&place].clone())).collect();
            assert!(inclusion(leaf, at, &mut fetch(&named)).is_ok());
            assert!(named.len() <= 6, "{named:?}");
        }
        let path = consistency(at, size, &mut fetch(&files)).unwrap().unwrap();
        assert!(is_consistent(at, &tree.root_at(at).unwrap(), size, &tree.root(), &path));
        let named: BTreeMap<_, _> =
            tiles_of_consistency(at, size).into_iter().map(|place| (place, files[&place].clone())).collect();
        assert_eq!(consistency(at, size, &mut fetch(&named)).unwrap().unwrap(), path);
    }
    assert_eq!(inclusion(size, size, &mut fetch(&files)).unwrap(), None);
    assert_eq!(consistency(size + 1, size, &mut fetch(&files)).unwrap(), None);
    assert!(matches!(inclusion(0, size + 1, &mut fetch(&BTreeMap::new())), Err(TileError::Short(_))));
}

#[test]
fn a_changed_tile_changes_the_root_and_a_torn_one_is_named() {
    let (tree, edge, files) = written_log(&[700]);
    let size = edge.size();
    for place in tiles_of_inclusion(300, size) {
        for byte in [0, 31, 32] {
            let mut damaged = files.clone();
            let bytes = damaged.get_mut(&place).unwrap();
            let Some(byte) = bytes.get_mut(byte) else { continue };
            *byte ^= 1;
            let path = inclusion(300, size, &mut fetch(&damaged)).unwrap().unwrap();
            let changed = path != tree.inclusion(300, size).unwrap();
            // What is changed may be what the proof passes by: the leaf itself.
            assert!(changed || place.level() == 0 || root(size, &mut fetch(&damaged)).unwrap() != tree.root());
        }
        let mut torn = files.clone();
        torn.get_mut(&place).unwrap().pop();
        let error = inclusion(300, size, &mut fetch(&torn)).unwrap_err();
        assert!(error.to_string().contains(&place.path()), "{error}");
    }
}

#[test]
fn an_edge_opens_on_its_partial_tiles_only() {
    let (tree, edge, _) = written_log(&[66_000]);
    let mut again = Edge::open(66_000, edge.tiles().to_vec()).unwrap();
    assert_eq!(again.root(), tree.root());
    assert!(Edge::open(66_001, edge.tiles().to_vec()).is_none());
    assert!(Edge::open(66_000, edge.tiles()[..1].to_vec()).is_none());
    let (mut edge, mut full) = (edge, 0);
    for i in 0..300u64 {
        let leaf = leaf_hash(&i.to_le_bytes());
        edge.push(leaf, &mut |_, _| full += 1);
        again.push(leaf, &mut |_, _| ());
        assert_eq!(edge.root(), again.root());
    }
    assert_eq!(full, 1);
}

#[test]
fn bundles_hold_whole_entries_and_nothing_else() {
    let mut bundle = Vec::new();
    for entry in [&b"first"[..], b"", &[7; 32]] {
        push_entry(&mut bundle, entry).unwrap();
    }
    let place = Place { width: 3, ..Place::bundle(0) };
    assert_eq!(parse_entries(place, &bundle).unwrap(), [&b"first"[..], b"", &[7; 32]]);
    assert!(parse_entries(Place { width: 2, ..place }, &bundle).is_err());
    for end in 0..bundle.len() {
        assert!(parse_entries(place, &bundle[..end]).is_err(), "{end}");
    }
    assert_eq!(push_entry(&mut bundle, &[0; 65_536]), Err(TileError::TooLong(65_536)));
}

#[test]
fn a_forged_history_betrays_the_root_it_began_with() {
    // Two histories that part at leaf 5, one of them shown at size 6 and the other at size 11.
    let leaves = |other: bool| (0..11u64).map(move |i| leaf_hash(&[i as u8, u8::from(other && i >= 5)]));
    let (mut honest, mut forged) = (Tree::default(), Tree::default());
    leaves(false).take(6).for_each(|leaf| honest.push(leaf));
    leaves(true).for_each(|leaf| forged.push(leaf));
    let path = forged.consistency(6, 11).unwrap();
    assert!(!is_consistent(6, &honest.root(), 11, &forged.root(), &path));
    let claimed = prefix_root(6, 11, &forged.root(), &path).unwrap();
    assert_eq!(Some(claimed), forged.root_at(6));
    assert_ne!(claimed, honest.root());
    assert_eq!(prefix_root(6, 11, &honest.root(), &path), None, "a proof of another tree says nothing");
    assert_eq!(prefix_root(8, 11, &forged.root(), &forged.consistency(8, 11).unwrap()), None);
}

proptest! {
    #[test]
    fn every_place_has_one_path(level in 0u8..64, index in 0u64..u64::MAX / 1000, width in 1u16..=256, entries: bool) {
        let kind = if entries { Kind::Entries } else { Kind::Hashes(level) };
        let place = Place { kind, index, width };
        prop_assert_eq!(Place::parse(&place.path()), Some(place));
    }

    #[test]
    fn parsers_take_any_text(text in ".{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 1u16..=256) {
        if let Some(place) = Place::parse(&text) {
            prop_assert_eq!(place.path(), text);
        }
        let place = Place { width, ..Place::bundle(0) };
        if let Ok(entries) = parse_entries(place, &bytes) {
            let mut again = Vec::new();
            entries.iter().for_each(|entry| push_entry(&mut again, entry).unwrap());
            prop_assert_eq!(&again, &bytes);
        }
        drop(parse_tile(place, &bytes));
    }

    #[test]
    fn any_growth_gives_the_same_files(steps in proptest::collection::vec(1u64..600, 1..5)) {
        let (tree, edge, files) = written_log(&steps);
        let (_, _, at_once) = written_log(&[edge.size()]);
        for (place, bytes) in &at_once {
            prop_assert_eq!(files.get(place), Some(bytes));
        }
        prop_assert_eq!(root(edge.size(), &mut fetch(&files)).unwrap(), tree.root());
    }
}
