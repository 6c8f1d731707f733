//! Tests of retention over a real database and log: what a factory ran goes when its class says so, and batches are looked at again.
#![allow(clippy::unwrap_used)]

use polder_core::canonical::Digest;
use polder_core::ids::{DecisionId, TenantId};
use polder_core::keys::Role;
use polder_core::statement::v1::{ExecutionOutcome, ExecutionStatement};

use super::*;
use crate::keys::NodeKeys;

const DAY: u64 = 86_400_000;

fn ran(id: &DecisionId, tenant: &str, ended_ms: u64) -> Statement {
    Statement::Execution(ExecutionStatement {
        factory: NodeId::parse("paris").unwrap(),
        home: NodeId::parse("bank-home").unwrap(),
        tenant: TenantId::parse(tenant).unwrap(),
        decision: id.clone(),
        ticket: Digest([1; 32]),
        body: Digest([2; 32]),
        terms: Digest([3; 32]),
        model: None,
        model_digest: None,
        backend: "cpu".to_owned(),
        prompt_tokens: 1,
        completion_tokens: 1,
        started_ms: ended_ms,
        ended_ms,
        outcome: ExecutionOutcome::Completed,
    })
}

#[tokio::test]
async fn what_ran_goes_by_its_class_and_what_is_held_when_the_hold_is_lifted() {
    let folder = std::env::temp_dir().join(format!("polder-retention-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let node = NodeId::parse("paris").unwrap();
    let keys = NodeKeys::open_or_create(&folder.join("keys"), &node).unwrap();
    let store = Store::open(&folder.join("node.db")).await.unwrap();
    let (key, card) = (keys.key(Role::Log).unwrap().clone(), Arc::new(keys.card.clone()));
    let log = Log::open(store.clone(), key, card).await.unwrap();
    let now = now_ms();
    let ids: Vec<DecisionId> = (0..6).map(|number| DecisionId::at(now, [number; 10])).collect();
    for (number, id) in ids.iter().enumerate() {
        let tenant = if number < 4 { "bank" } else { "lab" };
        let pending = log.append(id.as_str(), &ran(id, tenant, now), None).await.unwrap();
        pending.covered().await.unwrap();
    }
    let class = Class { name: "short".to_owned(), days: 190 };
    let rules = Rules { by_age: true, executions: Some(class), ..Rules::default() };
    let retention = Retention::open(node, rules, log.clone(), store.clone()).await.unwrap();
    let lab = HoldScope::Tenant(TenantId::parse("lab").unwrap());
    let hold = retention.put(lab, "case 7", "socket").await.unwrap();

    let early = retention.sweep(now + 189 * DAY).await.unwrap();
    assert_eq!((early.leaves, early.deletions.len()), (0, 0));
    let later = now + 190 * DAY + 1;
    let swept = retention.sweep(later).await.unwrap();
    assert_eq!((swept.leaves, swept.held), (4, 2));
    for id in &ids[..4] {
        assert!(store.leaf("execution", id.as_str()).await.unwrap().is_none());
        let gone = store.forgotten(id.as_str()).await.unwrap().unwrap();
        assert_eq!((gone.class.as_str(), gone.ground.as_str()), ("short", "age"));
        assert_eq!(store.leaf_at(gone.leaf).await.unwrap().map(|leaf| leaf.index), None);
    }
    assert_eq!(retention.sweep(later).await.unwrap().leaves, 0, "once");
    let no = retention.forget(ids[4].as_str(), Ground::Erasure, "socket", later).await.unwrap_err();
    assert!(no.to_string().contains(&hold.id), "{no}");
    retention.lift(&hold.id, "closed", "socket").await.unwrap();
    assert_eq!(retention.sweep(later).await.unwrap().leaves, 2, "at once");
    let checked = log.check().await.unwrap();
    assert_eq!((checked.deleted, checked.wrong), (6, Vec::<String>::new()));

    // A statement that is gone without a leaf that says so is a finding, not a deletion.
    let place = store.changes(Some("hold"), u64::MAX, 1).await.unwrap()[0].place;
    store.wipe(place).await.unwrap();
    assert_eq!(log.check().await.unwrap().wrong, [format!("leaf {place}: its statement is not what was logged")]);
    drop(std::fs::remove_dir_all(&folder));
}
