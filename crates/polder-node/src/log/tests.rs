//! Tests of the log over a real database and real files: what it serves, what it survives, and what it refuses to sign.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use polder_core::ids::{DecisionId, NodeId};
use polder_core::keys::Role;
use polder_core::note::VerifierKey;
use polder_core::tiles::{self, Place};

use super::*;
use crate::keys::NodeKeys;

/// A folder with a node's keys, database and tiles.
struct Bench(PathBuf);

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("polder-log-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn keys(&self) -> NodeKeys {
        NodeKeys::open_or_create(&self.0.join("keys"), &NodeId::parse("bank-home").unwrap()).unwrap()
    }

    async fn open(&self) -> Result<(Log, Store), LogError> {
        let keys = self.keys();
        let store = Store::open(&self.0.join("node.db")).await.unwrap();
        let archive = Archive::folder(&self.0.join("log")).unwrap();
        let signing = Signing::of(keys.key(Role::Log).unwrap().clone(), Arc::new(keys.card.clone()));
        Ok((Log::open_in(Some(archive), store.clone(), signing, &[]).await?, store))
    }

    /// The root over the leaves as someone else reads them: from the files alone.
    fn root_of_files(&self, size: u64) -> Digest {
        let read = |place: Place| {
            let bytes = std::fs::read(self.0.join("log").join(place.path()))
                .or_else(|_| std::fs::read(self.0.join("log").join(place.full().path())));
            tiles::parse_tile(place, &bytes.unwrap())
        };
        tiles::root(size, &mut |place| read(place)).unwrap()
    }

    fn tile(&self, path: &str) -> PathBuf {
        self.0.join("log").join(path)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn id(number: u64) -> DecisionId {
    let mut digits = [0; 10];
    digits[2..].copy_from_slice(&number.to_be_bytes());
    DecisionId::at(now_ms(), digits)
}

/// Appends so many statements and waits until the last is covered.
async fn append(log: &Log, count: u64) -> Vec<DecisionId> {
    let ids: Vec<_> = (0..count).map(|number| id(log.size() * 1_000_000 + number)).collect();
    let mut last = None;
    for id in &ids {
        let policy = polder_core::statement::v1::ActivationStatement {
            home: NodeId::parse("bank-home").unwrap(),
            file: format!("{id}.cedar"),
            digest: Digest([1; 32]),
            previous: None,
            baseline: Digest([2; 32]),
            at_ms: 1,
            how: polder_core::statement::v1::How::Start,
            narrower: false,
            proofs: Vec::new(),
        };
        let bytes = Statement::Activation(policy).to_bytes().unwrap();
        last = Some(log.append_decision(id.as_str(), bytes, Arc::default()).await.unwrap());
    }
    last.unwrap().covered().await.unwrap();
    ids
}

/// Waits until so many leaves are published.
async fn published(log: &Log, size: u64) -> Arc<Published> {
    let mut shown = log.published.subscribe();
    let wait = shown.wait_for(|published| published.edge.size() >= size);
    let shown = tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
    Arc::clone(&shown)
}

fn holds(half: &Half, log: &VerifierKey) {
    let checkpoint = Checkpoint::of_note(&Note::parse(&half.checkpoint).unwrap(), log).unwrap();
    let leaf = merkle::leaf_hash(&commitment(&half.salt, &half.statement.to_bytes().unwrap()).0);
    let root = merkle::root_from_inclusion(&leaf, half.index, checkpoint.size, &half.path);
    assert_eq!(root, Some(checkpoint.root), "leaf {}", half.index);
}

#[tokio::test]
async fn a_log_grows_over_tiles_and_starts_again_where_it_ended() {
    let bench = Bench::new("grows");
    let key = VerifierKey::of_log(&NodeId::parse("bank-home").unwrap(), bench.keys().card.key(Role::Log).unwrap());
    let mut ids = Vec::new();
    for (round, count) in [1, 254, 1, 700, 70, 2000].into_iter().enumerate() {
        let (log, store) = bench.open().await.unwrap();
        assert_eq!(log.size(), ids.len() as u64);
        ids.extend(append(&log, count).await);
        let shown = published(&log, ids.len() as u64).await;
        for place in [0, ids.len() / 2, ids.len() - 1] {
            holds(&log.half("decision", ids[place].as_str()).await.unwrap().unwrap(), &key);
        }
        let path = log.consistency(1, &shown).await.unwrap().unwrap();
        let first = merkle::leaf_hash(&store.commitments(0, 1).await.unwrap()[0].0);
        assert!(merkle::is_consistent(1, &first, shown.edge.size(), &shown.root, &path));
        if round % 2 == 0 {
            log.close().await;
            store.close().await;
        } else {
            // As a crash would: nothing is told.
            std::mem::forget(log);
        }
    }
    let (log, _) = bench.open().await.unwrap();
    let shown = published(&log, ids.len() as u64).await;
    log.close().await;
    assert_eq!(bench.root_of_files(ids.len() as u64), shown.root);
    let rested = std::fs::read_to_string(bench.tile("checkpoint")).unwrap();
    assert_eq!(Checkpoint::of_note(&Note::parse(&rested).unwrap(), &key).unwrap().root, shown.root);
    // The database is enough: with every file gone, all of it comes back.
    std::fs::remove_dir_all(bench.tile("tile")).unwrap();
    let (log, _) = bench.open().await.unwrap();
    holds(&log.half("decision", ids[300].as_str()).await.unwrap().unwrap(), &key);
    assert!(bench.tile("tile/0/001").is_file(), "put back by the reading");
    assert_eq!(log.check().await.unwrap().wrong.iter().filter(|one| !one.contains("missing")).count(), 0);
}

#[tokio::test]
async fn torn_and_changed_tiles_are_named_and_mended() {
    let bench = Bench::new("torn");
    let key = VerifierKey::of_log(&NodeId::parse("bank-home").unwrap(), bench.keys().card.key(Role::Log).unwrap());
    let (log, store) = bench.open().await.unwrap();
    let ids = append(&log, 1100).await;
    published(&log, 1100).await;
    log.close().await;
    store.close().await;
    let whole = std::fs::read(bench.tile("tile/0/002")).unwrap();
    let mut changed = whole.clone();
    changed[70] ^= 1;
    for (damage, says) in
        [(whole[..100].to_vec(), "leaves make"), (Vec::new(), "leaves make"), (changed, "leaves make")]
    {
        std::fs::write(bench.tile("tile/0/002"), damage).unwrap();
        let (log, _) = bench.open().await.unwrap();
        let checked = log.check().await.unwrap();
        assert!(checked.wrong.len() == 1 && checked.wrong[0].starts_with("tile/0/002: "), "{checked:?}");
        assert!(checked.wrong[0].contains(says));
        holds(&log.half("decision", ids[515].as_str()).await.unwrap().unwrap(), &key);
        assert_eq!(std::fs::read(bench.tile("tile/0/002")).unwrap(), whole, "mended");
        assert!(log.check().await.unwrap().wrong.is_empty());
    }
    // Bundles are for readers only: without them every proof holds.
    std::fs::remove_dir_all(bench.tile("tile/entries")).unwrap();
    let (log, _) = bench.open().await.unwrap();
    holds(&log.half("decision", ids[0].as_str()).await.unwrap().unwrap(), &key);
    assert!(log.check().await.unwrap().wrong.is_empty());
}

#[tokio::test]
async fn a_changed_leaf_is_named_and_never_proved() {
    let bench = Bench::new("changed");
    let (log, store) = bench.open().await.unwrap();
    let first = append(&log, 1).await;
    append(&log, 300).await;
    published(&log, 301).await;
    log.close().await;
    // Salt and statement of the first leaf, and with them its commitment, by someone who can write the database.
    let batch = store.batch_at(0).await.unwrap().unwrap();
    let statement = String::from_utf8(batch.leaves[0].1.clone()).unwrap().replace("\"at_ms\":1", "\"at_ms\":2");
    let forged = commitment(&batch.leaves[0].0, statement.as_bytes());
    store.forge_first(&batch.leaves[0].0, statement.as_bytes(), None).await;
    store.close().await;
    let (log, store) = bench.open().await.unwrap();
    let checked = log.check().await.unwrap();
    assert_eq!(checked.wrong, ["leaf 0: its statement is not what was logged"]);
    let refused = log.half("decision", first[0].as_str()).await.unwrap_err();
    assert!(matches!(refused, LogError::Damaged(0)), "{refused}");
    log.close().await;
    store.forge_first(&batch.leaves[0].0, statement.as_bytes(), Some(forged)).await;
    store.close().await;
    let (log, store) = bench.open().await.unwrap();
    assert!(log.half("decision", first[0].as_str()).await.is_err());
    let wrong = log.check().await.unwrap().wrong;
    assert!(wrong.iter().any(|one| one.contains("tile/0/000")) && wrong.iter().any(|one| one.contains("the root")));
    log.close().await;
    // Where the log's end is lost as well, the start itself finds it.
    store.forget_tree().await;
    store.close().await;
    let refused = bench.open().await.map(drop).unwrap_err();
    assert!(matches!(refused, LogError::Changed(301)), "{refused}");
}

#[tokio::test]
async fn an_old_database_is_not_signed_on() {
    let bench = Bench::new("old");
    let (log, store) = bench.open().await.unwrap();
    append(&log, 10).await;
    published(&log, 10).await;
    log.close().await;
    store.close().await;
    std::fs::copy(bench.path().join("node.db"), bench.path().join("old.db")).unwrap();
    let (log, store) = bench.open().await.unwrap();
    append(&log, 5).await;
    published(&log, 15).await;
    log.close().await;
    store.close().await;
    for beside in ["node.db-wal", "node.db-shm"] {
        drop(std::fs::remove_file(bench.path().join(beside)));
    }
    std::fs::copy(bench.path().join("old.db"), bench.path().join("node.db")).unwrap();
    let refused = bench.open().await.map(drop).unwrap_err();
    assert!(matches!(refused, LogError::Shrunk { held: 10, published: 15 }), "{refused}");
}

#[tokio::test]
async fn a_run_that_was_cut_short_is_named_and_one_that_ended_is_not() {
    let bench = Bench::new("cut");
    let (log, store) = bench.open().await.unwrap();
    append(&log, 3).await;
    log.close().await;
    store.close().await;
    let (log, _) = bench.open().await.unwrap();
    assert_eq!(log.cut_at(now_ms()), None, "the first run ended well");
    append(&log, 4).await;
    std::mem::forget(log);
    let lost = id(1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (log, _) = bench.open().await.unwrap();
    let run = log.cut_at(lost.at_ms()).unwrap();
    assert_eq!(run.leaves, 7);
    assert_eq!(log.cut_at(now_ms() + 10_000), None);
    assert_eq!(log.cut_at(run.recorded_ms - 5_000), None);
}
