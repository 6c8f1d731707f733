//! Tests of the leaves: every one is found again by its place and by its decision, over many batches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::store::Store;

fn leaf(kind: &'static str, id: &DecisionId, at_ms: u64, text: &str) -> Leaf {
    let statement = text.as_bytes().to_vec();
    let commitment = polder_core::statement::commitment(&[7; 32], &statement);
    let decision = id.as_str().to_owned();
    Leaf {
        kind,
        decision,
        at_ms,
        salt: [7; 32],
        statement,
        commitment,
        objects: None,
        policy: None,
        used: None,
        beside: None,
    }
}

#[tokio::test]
async fn every_leaf_is_found_again() {
    let folder = std::env::temp_dir().join(format!("polder-leaves-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = Store::open(&folder.join("node.db")).await.unwrap();
    assert!(store.leaf("decision", "decision-00").await.unwrap().is_none());
    assert!(store.leaf_at(0).await.unwrap().is_none());
    let (mut place, mut all) = (0, Vec::new());
    for batch in 0..600_u64 {
        let now = 1_795_000_000_000 + batch * 1_000;
        let number = u8::try_from(batch % 250).unwrap();
        let ids = [DecisionId::at(now, [number; 10]), DecisionId::at(now + 1, [number; 10])];
        // The second decision's execution comes long after it.
        let mut leaves: Vec<Leaf> = ids.iter().map(|id| leaf("decision", id, now, &format!("decided {id}"))).collect();
        leaves.push(leaf("execution", &ids[0], now + 2, &format!("ran {}", ids[0])));
        all.extend(leaves.iter().cloned());
        store.append(place, &leaves, &[]).await.unwrap();
        place += 3;
    }
    let late = leaf("execution", &DecisionId::at(1_795_000_000_001, [0; 10]), 1_795_009_000_000, "ran late");
    store.append(place, std::slice::from_ref(&late), &[]).await.unwrap();
    for (place, leaf) in (0..).zip(&all) {
        let found = store.leaf(leaf.kind, &leaf.decision).await.unwrap().unwrap();
        assert_eq!((found.index, found.salt, &found.statement), (place, [7; 32], &leaf.statement));
    }
    assert_eq!(store.leaf(late.kind, &late.decision).await.unwrap().unwrap().statement, late.statement);
    assert_eq!(store.leaf_at(4).await.unwrap().unwrap().statement, all[4].statement);
    assert!(store.leaf_at(place + 1).await.unwrap().is_none());
    assert!(store.leaf("decision", &DecisionId::at(1_795_000_000_000, [251; 10]).to_string()).await.unwrap().is_none());
    let commitments = store.commitments(0, u64::MAX).await.unwrap();
    assert_eq!(store.leaves().await.unwrap(), commitments.len() as u64);
    for (from, to) in [(0, 1), (1, 2), (2, 4), (5, 1801), (1799, 3000), (1801, 1801), (4000, 5000)] {
        let (first, last) = (from.min(commitments.len()), to.min(commitments.len()));
        assert_eq!(store.commitments(from as u64, to as u64).await.unwrap(), commitments[first..last], "{from}..{to}");
    }
    assert_eq!(commitments.len(), all.len() + 1);
    assert!(commitments.iter().zip(&all).all(|(one, leaf)| *one == leaf.commitment));
    let latest = store.latest_decisions(3).await.unwrap();
    assert_eq!(latest, [1798, 1797, 1795].map(|place: usize| all[place].decision.clone()));
    assert_eq!(store.latest_ms().await.unwrap(), late.at_ms);
    store.close().await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_broken_batch_is_an_error() {
    let id = DecisionId::at(1, [1; 10]);
    let packed = v1::pack(&[leaf("decision", &id, 1, "a statement"), leaf("execution", &id, 1, "another")]);
    assert_eq!(v1::unpack(&packed).unwrap().len(), 2);
    for place in 0..packed.len() {
        let mut broken = packed.clone();
        broken[place] ^= 0xff;
        // Whatever it reads as, it does not panic and takes no memory that is not there.
        drop(v1::unpack(&broken));
        assert!(v1::unpack(&packed[..place]).is_err());
    }
}

/// What someone does who can write the database: other tests look whether the log notices.
impl Store {
    /// Puts another statement, and another commitment where one is given, in the place of the first leaf, alone in its batch.
    pub async fn forge_first(&self, salt: &[u8; 32], statement: &[u8], commitment: Option<Digest>) {
        let id = DecisionId::at(0, [0; 10]);
        let forged = Leaf { salt: *salt, statement: statement.to_vec(), ..leaf("decision", &id, 0, "") };
        let sql = "UPDATE leaves SET statements = ? WHERE first = 0";
        sqlx::query(sql).bind(v1::pack(&[forged])).execute(&self.pool).await.unwrap();
        if let Some(commitment) = commitment {
            let sql = "UPDATE leaves SET commitments = ? WHERE first = 0";
            sqlx::query(sql).bind(commitment.0.to_vec()).execute(&self.pool).await.unwrap();
        }
    }

    /// Removes the log's kept end.
    pub async fn forget_tree(&self) {
        sqlx::query("DELETE FROM tree_end").execute(&self.pool).await.unwrap();
    }
}
