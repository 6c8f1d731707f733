//! Tests of the ids of jobs and of nonces, which must never meet across two starts of a process.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

#[test]
fn ids_are_read_back() {
    let id = JobId([0xab; 16]);
    assert_eq!(JobId::parse(&id.to_string()), Some(id));
    assert_eq!(serde_json::from_str::<JobId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    for bad in ["", "job-", "job-AB", &id.to_string().to_uppercase(), &format!("{id}0")] {
        assert_eq!(JobId::parse(bad), None, "{bad}");
    }
}

#[test]
fn nonces_of_two_starts_never_meet() {
    let drawn = |boot: u8| {
        let mut nonces = Nonces::new([boot; 8]);
        (0..100).map(|_| nonces.draw()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(drawn(1).len(), 100);
    assert!(drawn(1).is_disjoint(&drawn(2)));
}
