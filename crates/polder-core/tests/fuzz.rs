//! Every parser of what strangers send, over good files that are changed at random: no panic, and what `fuzz/src/lib.rs` says.
//!
//! The same bodies as libFuzzer's, on any toolchain, in seconds; `cargo xtask soak fuzz` looks longer and follows coverage.
//! `POLDER_FUZZ_SEED` and `POLDER_FUZZ_INPUTS` (for each target) look elsewhere and longer here. An input that fails is named by
//! both, and printed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The core has no files; these tests do.

use std::path::{Path, PathBuf};

mod corpus;
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use corpus::mutants::Chance;
use corpus::{Good, good};
use polder_core::tiles::Place;
use polder_core::tlog_proof::TlogProof;
use polder_core::witness::Submission;

/// How many inputs each target sees.
const INPUTS: usize = 100_000;
/// Longest input, in bytes.
const BYTES_MAX: usize = 1 << 16;
/// What parsers look for: ends, marks, names and numbers, of text, JSON, base64 and CBOR.
const WORDS: [&[u8]; 28] = [
    b"\n",
    b"\n\n",
    b" ",
    b"\r\n",
    "\u{2014} ".as_bytes(),
    b"old ",
    b"index ",
    b"extra ",
    b"c2sp.org/tlog-proof@v1\n",
    b"polder/bank-home\n",
    b"log ",
    b"witness ",
    b"group ",
    b"quorum ",
    b"any",
    b"all",
    b"none",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"999999999999999999999999",
    b"null",
    b"{",
    b"]",
    b"\\u0000",
    b"\xd2\x84\x43",
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
];

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Files of a folder whose names end so.
fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(ending));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// What a target begins with: good files of its kind.
fn seeds(target: &str, goods: &[Good]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let of_each = |make: &dyn Fn(&Good) -> Vec<u8>| goods.iter().map(make).collect::<Vec<_>>();
    match target {
        "cose" => of_each(&|good| good.cose.clone()),
        "dsse" => of_each(&|good| good.dsse.clone()),
        "note" => of_each(&|good| good.export.checkpoint.clone().into_bytes())
            .into_iter()
            .chain(of_each(&|good| good.vkey().into_bytes()))
            .collect(),
        "proof" => of_each(&|good| {
            let size = polder_core::note::Checkpoint::parse(&TlogProof::parse(&good.proof).unwrap().checkpoint.text);
            let numbers = [good.export.index.to_be_bytes(), size.unwrap().size.to_be_bytes()].concat();
            numbers.into_iter().chain(good.export.path.iter().flat_map(|hash| hash.0)).collect()
        }),
        "submission" => of_each(&|good| {
            let proof = TlogProof::parse(&good.proof).unwrap();
            Submission { old: good.export.index, proof: proof.path, note: proof.checkpoint }.to_string().into_bytes()
        }),
        "tile" => tiles(),
        "tlog_policy" => vec![corpus::policy().into_bytes(), std::fs::read(root.join("vectors/policy")).unwrap()],
        "tlog_proof" => {
            [of_each(&|good| good.proof.clone().into_bytes()), files(&root.join("vectors/bad"), "-proof")].concat()
        }
        _ => files(&root.join("fuzz/seeds").join(target), ".json"),
    }
}

/// Tiles and bundles with their paths before them, as the target reads them.
fn tiles() -> Vec<Vec<u8>> {
    let places = ["tile/0/000", "tile/0/000.p/3", "tile/1/x001/234.p/255", "tile/entries/000.p/2", "tile/entries/067"];
    let filled = |path: &str| {
        let place = Place::parse(path).unwrap();
        let width = usize::from(place.width);
        let body = if path.contains("entries") {
            [&[0, 32][..], &[7; 32]].concat().repeat(width)
        } else {
            vec![9; 32 * width]
        };
        [path.as_bytes(), b"\n", &body].concat()
    };
    places.map(filled).into()
}

/// One input: a good file, changed at a few places; some are two files, some begin with nothing.
fn changed(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = if chance.below(50) == 0 { Vec::new() } else { seeds[chance.below(seeds.len())].clone() };
    for _ in 0..=chance.below(5) {
        let at = chance.below(bytes.len() + 1);
        let until = at + chance.below(bytes.len() - at + 1).min(1 + chance.below(64));
        match chance.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'=', b'9'][chance.below(8)],
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..until)),
            5 => {
                let again = bytes[at..until].to_vec();
                bytes.splice(at..at, again);
            }
            6 => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => drop(
                bytes.splice(at..until.min(at + chance.below(8)).max(at), WORDS[chance.below(WORDS.len())].to_vec()),
            ),
        }
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn holds(target: &str) {
    let (_, body) = targets::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let (goods, seed) = (good(), number("POLDER_FUZZ_SEED", 1));
    let (seeds, mut chance) = (seeds(target, &goods), Chance::new(seed as u64));
    assert!(!seeds.is_empty());
    let made = (0..number("POLDER_FUZZ_INPUTS", INPUTS)).map(|_| changed(&mut chance, &seeds));
    for (place, input) in seeds.iter().cloned().chain(made).enumerate() {
        if std::panic::catch_unwind(|| body(&input)).is_err() {
            let shown = hex::encode(&input[..input.len().min(2_000)]);
            panic!("`{target}` fails on input {place} of seed {seed}, {} bytes, in hex:\n{shown}", input.len());
        }
    }
}

#[test]
fn cose() {
    holds("cose");
}

#[test]
fn dsse() {
    holds("dsse");
}

#[test]
fn note() {
    holds("note");
}

#[test]
fn peer() {
    holds("peer");
}

#[test]
fn proof() {
    holds("proof");
}

#[test]
fn receipt() {
    holds("receipt");
}

#[test]
fn submission() {
    holds("submission");
}

#[test]
fn tile() {
    holds("tile");
}

#[test]
fn tlog_policy() {
    holds("tlog_policy");
}

#[test]
fn tlog_proof() {
    holds("tlog_proof");
}

/// A seed that is not read any more would only try how parsers say no.
#[test]
fn seeds_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let read = |name: &str| std::fs::read(folder.join("peer").join(format!("{name}.json"))).unwrap();
    fn fits<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
        serde_json::from_slice::<T>(bytes).is_ok()
    }
    let peers = [
        ("capability", fits::<polder_core::keys::Signed<polder_core::ticket::Capability>> as fn(&[u8]) -> bool),
        ("card", fits::<polder_core::keys::NodeCard>),
        ("evidence", fits::<polder_core::witness::Evidence>),
        ("half", fits::<polder_core::receipt::Half>),
        ("passport", fits::<polder_core::facts::Passport>),
        ("sealed", fits::<polder_core::receipt::Sealed>),
        ("sources", fits::<polder_core::replay::SourcesFile>),
        ("statement", fits::<polder_core::statement::v1::Statement>),
        ("ticket", fits::<polder_core::ticket::Ticket>),
    ];
    assert_eq!(files(&folder.join("peer"), ".json").len(), peers.len());
    for (name, fits) in peers {
        assert!(fits(&read(name)), "{name}");
    }
    for receipt in files(&folder.join("receipt"), ".json") {
        polder_core::receipt::verify(&receipt, None).unwrap();
    }
}

#[test]
fn every_target_has_its_test_here_and_its_program() {
    let own = include_str!("fuzz.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    assert_eq!(files(&folder, ".rs").len(), targets::TARGETS.len());
    for (name, _) in targets::TARGETS {
        assert!(own.contains(&format!("fn {name}() {{\n    holds(\"{name}\");")), "{name}");
        assert!(folder.join(format!("{name}.rs")).is_file(), "{name}");
    }
}
