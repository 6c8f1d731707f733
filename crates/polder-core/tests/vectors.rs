//! The published test vectors in `vectors/`: made from the corpus, byte for byte the same each time, and judged as they say.
//!
//! `POLDER_VECTORS=write` writes them anew. Others can test a verifier with the folder alone; `vectors/README.md` says how.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The core has no files; these tests do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod corpus;

use corpus::mutants::{Chance, cose_mutant, forged_root, proof_mutant};
use corpus::{Good, anchors, good, policy};
use polder_core::canonical;
use polder_core::export::{Beside, verify_cose, verify_tlog_proof};
use serde_json::{Value, json};

/// The good receipts that are published: a log of one entry, an odd tree, a large one, and a factory's.
const PUBLISHED: [&str; 5] = ["bank-home-1-0", "bank-home-7-3", "bank-home-70001-69999", "paris-3-1", "paris-1000-999"];

/// Files by their names under `vectors/`.
type Files = BTreeMap<String, Vec<u8>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}

fn beside(files: &mut Files, name: &str, good: &Good, statement: &[u8]) {
    files.insert(format!("{name}.statement"), statement.to_vec());
    files.insert(format!("{name}.leaf"), good.export.entry().0.to_vec());
    files.insert(format!("{name}.vkey"), format!("{}\n", good.vkey()).into_bytes());
}

/// What our own verifier says of a file of the folder: the failed check, or `ok`.
fn judged(files: &Files, name: &str) -> String {
    let read = |ending: &str| files.get(&format!("{name}{ending}")).map(Vec::as_slice);
    let checked = if name.ends_with(".cose") {
        verify_cose(&files[name], &anchors())
    } else {
        let beside = Beside { statement: read(".statement"), leaf: read(".leaf"), dsse: read(".dsse") };
        verify_tlog_proof(&files[name], beside, &anchors())
    };
    checked.map_or_else(|failure| failure.check.as_str().to_owned(), |_| "ok".to_owned())
}

fn vectors() -> Files {
    let goods: Vec<Good> = good();
    let (mut files, mut expected) = (Files::new(), Vec::new());
    for good in goods.iter().filter(|good| PUBLISHED.contains(&good.name.as_str())) {
        let name = format!("good/{}.tlog-proof", good.name);
        beside(&mut files, &name, good, &good.export.statement);
        files.insert(format!("{name}.dsse"), good.dsse.clone());
        files.insert(name.clone(), good.proof.clone().into_bytes());
        let cose = format!("good/{}.cose", good.name);
        files.insert(cose.clone(), good.cose.clone());
        files.insert(format!("{cose}.vkey"), format!("{}\n", good.vkey()).into_bytes());
        expected.extend([(name, "unchanged"), (cose, "unchanged")]);
    }
    let good = goods.iter().find(|good| good.name == "bank-home-7-3").unwrap();
    let mut chance = Chance::new(7);
    let mut seen = Vec::new();
    for _ in 0..2_000 {
        let mutant = proof_mutant(&mut chance, good, &goods);
        if !seen.contains(&mutant.how) {
            seen.push(mutant.how);
            let name = format!("bad/{}.tlog-proof", mutant.how.replace([' ', '\''], "-"));
            beside(&mut files, &name, good, &mutant.statement);
            files.insert(name.clone(), mutant.proof);
            expected.push((name, mutant.how));
        }
    }
    let mut add = |how: &'static str, bytes: Vec<u8>| {
        let name = format!("bad/{}.cose", how.replace([' ', '\''], "-"));
        files.insert(name.clone(), bytes);
        expected.push((name, how));
    };
    add("root under another key", forged_root(good));
    let mut seen = Vec::new();
    for _ in 0..2_000 {
        let mutant = cose_mutant(&mut chance, good, &goods);
        if !seen.contains(&mutant.how) {
            seen.push(mutant.how);
            add(mutant.how, mutant.cose);
        }
    }
    files.insert("policy".to_owned(), policy().into_bytes());
    expected.sort();
    let list: Vec<Value> = expected
        .iter()
        .map(|(name, how)| json!({"file": name, "changed": how, "result": judged(&files, name)}))
        .collect();
    let text = list.iter().map(|one| String::from_utf8(canonical::to_bytes(one).unwrap()).unwrap()).collect::<Vec<_>>();
    files.insert("expected.json".to_owned(), format!("[\n{}\n]\n", text.join(",\n")).into_bytes());
    files
}

#[test]
fn the_published_vectors_are_these_and_judged_so() {
    let files = vectors();
    if std::env::var_os("POLDER_VECTORS").is_some_and(|what| what == "write") {
        for (name, bytes) in &files {
            let path = folder().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    for (name, bytes) in &files {
        let there = std::fs::read(folder().join(name)).unwrap_or_default();
        assert_eq!(there, *bytes, "`vectors/{name}` is another; POLDER_VECTORS=write writes it anew");
    }
    let expected: Vec<Value> = serde_json::from_slice(&files["expected.json"]).unwrap();
    for one in &expected {
        let good = one["file"].as_str().unwrap().starts_with("good/");
        assert_eq!(one["result"] == "ok", good, "{one}");
    }
    assert!(expected.len() >= 2 * PUBLISHED.len() + 24, "{}", expected.len());
}
