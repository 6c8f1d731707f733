//! Tests of keys' lives: what a history may say, what it may not take back, and what rests on a revoked key.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::canonical::Digest;
use crate::note::{Checkpoint, SignatureLine, origin, witness_name};

const DAY: u64 = 86_400_000;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

fn public(byte: u8) -> [u8; 32] {
    key(byte).verifying_key().to_bytes()
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn first() -> KeyHistory {
    let keys: BTreeMap<Role, [u8; 32]> = ROLES.into_iter().zip([2, 3, 4, 5].map(public)).collect();
    KeyHistory::first(&NodeCard::sign(node("paris"), &key(1), &keys).unwrap(), DAY)
}

fn change(history: &KeyHistory, act: KeyAct, next: u8, bound_ms: u64) -> KeyChange {
    let life = history.current(Role::Log).unwrap();
    let (node, number, key) = (history.node.clone(), history.number + 1, life.key);
    KeyChange { node, number, role: Role::Log, act, key, next: public(next), at_ms: 10 * DAY, bound_ms }
}

#[test]
fn a_history_grows_and_takes_nothing_back() {
    let first = first();
    let rotated = first.changed(&change(&first, KeyAct::Rotated, 9, 11 * DAY)).unwrap();
    assert_eq!(rotated.current(Role::Log).unwrap().key, public(9));
    assert_eq!(rotated.life(Role::Log, &public(3)).unwrap().until_ms, Some(11 * DAY));
    let revoked = rotated.changed(&change(&rotated, KeyAct::Revoked, 10, 9 * DAY)).unwrap();
    let life = revoked.life(Role::Log, &public(9)).unwrap();
    assert_eq!(life.revoked, Some(Revocation { at_ms: 10 * DAY, since_ms: 9 * DAY }));
    let trusted: Vec<_> = revoked.trusted(Role::Log).map(|life| life.key).collect();
    // The key before it signed until after that instant, so it goes too.
    assert_eq!(trusted, [public(10)]);
    let later =
        rotated.changed(&KeyChange { at_ms: 20 * DAY, ..change(&rotated, KeyAct::Revoked, 10, 19 * DAY) }).unwrap();
    assert_eq!(later.trusted(Role::Log).map(|life| life.key).collect::<Vec<_>>(), [public(10), public(3)]);

    let signed = revoked.clone().sign(&key(1)).unwrap();
    signed.check(&node("paris"), &public(1)).unwrap();
    assert!(signed.check(&node("paris"), &public(2)).is_err() && signed.check(&node("berlin"), &public(1)).is_err());
    for before in [&first, &rotated, &revoked] {
        signed.goes_on_from(before).unwrap();
    }
    assert!(rotated.clone().sign(&key(1)).unwrap().goes_on_from(&revoked).is_err(), "an older one");
    for spoil in [
        |history: &mut KeyHistory| history.keys.retain(|life| life.key != public(9)),
        |history: &mut KeyHistory| history.keys.iter_mut().for_each(|life| life.revoked = None),
        |history: &mut KeyHistory| history.keys.iter_mut().for_each(|life| life.until_ms = None),
        |history: &mut KeyHistory| history.keys.iter_mut().for_each(|life| life.from_ms += 1),
    ] {
        let mut other = revoked.clone();
        other.number += 1;
        spoil(&mut other);
        assert!(other.sign(&key(1)).unwrap().goes_on_from(&revoked).is_err());
    }
}

#[test]
fn a_change_that_cannot_be_is_none() {
    let first = first();
    let good = change(&first, KeyAct::Rotated, 9, 11 * DAY);
    for bad in [
        KeyChange { key: public(9), ..good.clone() },
        KeyChange { number: 1, ..good.clone() },
        KeyChange { next: public(4), ..good.clone() },
        KeyChange { node: node("berlin"), ..good.clone() },
        KeyChange { bound_ms: 9 * DAY, ..good.clone() },
        KeyChange { act: KeyAct::Revoked, ..good.clone() },
    ] {
        assert!(first.changed(&bad).is_err(), "{bad:?}");
    }
    let signature = good.sign(&key(1)).unwrap();
    assert!(good.is_signed(&key(1).verifying_key(), &signature));
    assert!(!KeyChange { bound_ms: 12 * DAY, ..good }.is_signed(&key(1).verifying_key(), &signature));
}

#[test]
fn what_rests_on_a_revoked_key_counts_only_where_a_witness_signed_before() {
    let first = first();
    let revoked = first.changed(&change(&first, KeyAct::Revoked, 9, 9 * DAY)).unwrap();
    let log = |byte| VerifierKey::of_log(&node("paris"), key(byte).verifying_key());
    let witness = VerifierKey::of_witness(&node("munich"), key(7).verifying_key());
    let note = |byte: u8, cosigned_ms: Option<u64>| {
        let text = Checkpoint::new(origin(&node("paris")), 5, Digest([1; 32])).sign(&key(byte));
        let mut note = Note::parse(&text).unwrap();
        let name = witness_name(&node("munich"));
        let line = cosigned_ms.map(|at| SignatureLine::cosign(&note.text, &name, &key(7), at / 1_000));
        note.signatures.extend(line);
        note
    };
    let witnesses = [witness.clone()];
    let text = format!("log {}\nwitness munich {witness}\nquorum munich\n", log(3));
    let policy = Policy::parse(text.as_bytes()).unwrap();
    for vouching in [Vouching::Any(&witnesses), Vouching::Policy(&policy)] {
        let holds = |byte, cosigned| judge(&revoked, &log(byte), &note(byte, cosigned), vouching);
        holds(9, None).unwrap();
        holds(3, Some(9 * DAY - 1_000)).unwrap();
        for cosigned in [None, Some(9 * DAY), Some(10 * DAY)] {
            assert_eq!(holds(3, cosigned).unwrap_err().check, Check::Revocation, "{cosigned:?}");
        }
        assert_eq!(holds(8, None).unwrap_err().check, Check::Revocation, "a key that the history does not know");
        judge(&first, &log(3), &note(3, None), vouching).unwrap();
    }
    assert!(judge(&revoked, &log(3), &note(3, Some(8 * DAY)), Vouching::Any(&[])).is_err(), "an unknown witness");
}
