//! Tests of the database across versions: one that an earlier build wrote is opened, read and written by this one.
#![allow(clippy::unwrap_used)]

use polder_core::statement::v1::Statement;

use super::*;

/// A home's database after one run of the demo, as the build before memberships wrote it (`.dump` of SQLite).
const BEFORE: &str = include_str!("fixtures/0.1.0.sql");

#[tokio::test]
async fn a_state_of_the_version_before_is_opened_and_gone_on_with() {
    let folder = std::env::temp_dir().join(format!("polder-upgrade-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("node.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let old = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    sqlx::raw_sql(BEFORE).execute(&old).await.unwrap();
    old.close().await;

    let store = Store::open(&path).await.unwrap();
    let leaves = store.leaves().await.unwrap();
    assert!(leaves > 10, "{leaves}");
    let mut kinds = BTreeSet::new();
    for place in 0..leaves {
        let leaf = store.leaf_at(place).await.unwrap().unwrap();
        let statement: Statement = serde_json::from_slice(&leaf.statement).unwrap();
        assert_eq!(statement.to_bytes().unwrap(), leaf.statement, "leaf {place} is read as it was written");
        kinds.insert(statement.kind());
    }
    assert!(["decision", "activation", "import", "view"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let latest = store.latest_decisions(1).await.unwrap();
    assert!(store.leaf("decision", &latest[0]).await.unwrap().is_some() && store.latest_ms().await.unwrap() > 0);
    // What is new is there, and empty.
    assert!(store.members().await.unwrap().is_empty() && store.revoked().await.unwrap().is_empty());
    store.keep_revoked(&[([7; 16], 10)], 5).await.unwrap();
    assert_eq!(store.revoked().await.unwrap(), [([7; 16], 10)]);
    // And a copy of it is whole.
    let copy = folder.join("copy.db");
    assert_eq!(store.copy_into(&copy).await.unwrap(), leaves);
    store.close().await;
    let again = Store::open(&copy).await.unwrap();
    assert_eq!(again.leaves().await.unwrap(), leaves);
    assert_eq!(again.revoked().await.unwrap(), [([7; 16], 10)]);
    again.close().await;
    drop(std::fs::remove_dir_all(&folder));
}
