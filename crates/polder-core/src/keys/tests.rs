//! Tests of node cards: four keys, each under the identity's signature, for this node and this role only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::tests::{Log, key, node};

fn card() -> NodeCard {
    Log::new("paris", 20).card
}

#[test]
fn a_signed_card_holds() {
    assert_eq!(card().check(), Ok(()));
    let text = serde_json::to_string(&card()).unwrap();
    assert_eq!(serde_json::from_str::<NodeCard>(&text).unwrap(), card());
}

#[test]
fn every_change_of_a_card_is_noticed() {
    for role in ROLES {
        let mut missing = card();
        missing.keys.remove(&role);
        assert_eq!(missing.check(), Err(CardError::Missing(node("paris"), role)));
        let mut other = card();
        other.keys.get_mut(&role).unwrap().key = key(99).verifying_key().to_bytes();
        assert_eq!(other.check(), Err(CardError::Signature(node("paris"), role)));
        let mut forged = card();
        forged.keys.get_mut(&role).unwrap().signature[0] ^= 1;
        assert_eq!(forged.check(), Err(CardError::Signature(node("paris"), role)));
    }
    let renamed = NodeCard { node: node("munich"), ..card() };
    assert!(matches!(renamed.check(), Err(CardError::Signature(..))));
    let stolen = NodeCard { identity: key(99).verifying_key().to_bytes(), ..card() };
    assert!(matches!(stolen.check(), Err(CardError::Signature(..))));
}

#[test]
fn a_key_of_one_role_cannot_take_another() {
    let mut swapped = card();
    let transport = swapped.keys[&Role::Transport].clone();
    let log = swapped.keys.insert(Role::Log, transport).unwrap();
    swapped.keys.insert(Role::Transport, log);
    assert!(matches!(swapped.check(), Err(CardError::Signature(..))));
}

#[test]
fn signatures_are_bound_to_their_domain() {
    let signature = sign("a", &"value", &key(1)).unwrap();
    let public = key(1).verifying_key();
    assert!(is_signed("a", &"value", &public, &signature));
    assert!(!is_signed("b", &"value", &public, &signature));
    assert!(!is_signed("a", &"other", &public, &signature));
    assert!(!is_signed("a", &"value", &key(2).verifying_key(), &signature));
}
