//! Tests of counting over a real database: links come, a start goes on, and an older log is counted from its first leaf.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use polder_core::canonical::Digest;
use polder_core::ids::{DecisionId, TenantId};
use polder_core::keys::Role;
use polder_core::monitor;
use polder_core::statement::v1::{ActivationStatement, How};

use super::*;
use crate::keys::NodeKeys;
use crate::log::Log;

async fn open(folder: &std::path::Path, counts: bool) -> (Log, Store) {
    let node = NodeId::parse("bank-home").unwrap();
    let keys = NodeKeys::open_or_create(&folder.join("keys"), &node).unwrap();
    let store = Store::open(&folder.join("node.db")).await.unwrap();
    let (key, card) = (keys.key(Role::Log).unwrap().clone(), std::sync::Arc::new(keys.card.clone()));
    let log = Log::open(store.clone(), key, card).await.unwrap();
    if counts {
        log.count(TenantId::parse("bank").ok().as_ref());
    }
    (log, store)
}

async fn append(log: &Log, count: u64) {
    for number in 0..count {
        let policy = ActivationStatement {
            home: NodeId::parse("bank-home").unwrap(),
            file: format!("{number}.cedar"),
            digest: Digest([1; 32]),
            previous: None,
            baseline: Digest([2; 32]),
            at_ms: now_ms(),
            how: How::Start,
            narrower: false,
            proofs: Vec::new(),
        };
        let id = DecisionId::at(now_ms(), [7; 10]);
        let pending = log.append(id.as_str(), &Statement::Activation(policy), None).await.unwrap();
        if number + 1 == count {
            pending.covered().await.unwrap();
        }
    }
}

/// Every statement as a reader checks it; the kinds, in order.
async fn read(store: &Store) -> Vec<&'static str> {
    let (mut log, mut kinds, mut findings) = (monitor::Log::new("polder/bank-home"), Vec::new(), Vec::new());
    let entries = store.commitments(0, u64::MAX).await.unwrap();
    for (index, entry) in (0..).zip(entries) {
        let leaf = store.leaf_at(index).await.unwrap().unwrap();
        let shown = Some((&leaf.salt, leaf.statement.as_slice()));
        let (statement, found) = log.read(monitor::Leaf { index, entry, shown }, now_ms());
        findings.extend(found);
        kinds.push(statement.unwrap().kind());
    }
    findings.extend(log.overdue(now_ms()));
    assert_eq!(findings, Vec::new());
    kinds
}

#[tokio::test]
async fn a_log_counts_itself_through_stops_crashes_and_days() {
    let folder = std::env::temp_dir().join(format!("polder-counting-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    // An older node's log, without numbers.
    let (log, store) = open(&folder, false).await;
    append(&log, 300).await;
    log.close().await;
    assert_eq!(read(&store).await.len(), 300);
    store.close().await;
    // It is counted from the first leaf; what is stated is stated at once.
    let (log, store) = open(&folder, true).await;
    append(&log, 3).await;
    let place = log.state_day().await.unwrap();
    assert_eq!(read(&store).await[303..], ["link", "day"]);
    assert_eq!(log.numbers().await.unwrap().days.last().unwrap().1, place);
    append(&log, 5).await;
    // As a crash would: no link for the last ones.
    std::mem::forget(log);
    store.close().await;
    let (log, store) = open(&folder, true).await;
    append(&log, 2).await;
    log.close().await;
    let kinds = read(&store).await;
    assert_eq!((kinds.len(), kinds.last()), (313, Some(&"link")));
    assert_eq!(log.numbers().await.unwrap().chains[0].last, 310);
    drop(std::fs::remove_dir_all(&folder));
}
