//! Tests of receipts: who signed, what cannot be, and what a run costs, down to the micro-euro.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use ed25519_dalek::SigningKey;

use super::*;

fn receipt() -> JobReceipt {
    JobReceipt {
        home: NodeId::parse("bank").unwrap(),
        factory: NodeId::parse("paris").unwrap(),
        job: JobId([1; 16]),
        epoch: 3,
        order: Digest([7; 32]),
        outcome: RunOutcome::Succeeded,
        ran_ms: 7_200_000,
        ended_after_ms: 900,
        cost_microeur: 2_000,
        checkpoint: None,
    }
}

fn agreed() -> Agreed {
    Agreed {
        order: Digest([7; 32]),
        lease_ms: 1_000,
        price_microeur_per_hour: 1_000,
        wall_ms: 10_000_000,
        elapsed_ms_max: Some(7_200_000),
    }
}

#[test]
fn a_receipt_is_signed_by_its_factory() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let signed = receipt().sign(&key).unwrap();
    assert!(signed.is_signed(&key.verifying_key()));
    assert!(!signed.is_signed(&SigningKey::from_bytes(&[6; 32]).verifying_key()));
    let dearer = Signed { value: JobReceipt { cost_microeur: 2_001, ..receipt() }, signature: signed.signature };
    assert!(!dearer.is_signed(&key.verifying_key()));
}

#[test]
fn what_cannot_be_is_found() {
    assert_eq!(receipt().fault(&agreed()), None);
    let rows = [
        (JobReceipt { order: Digest([8; 32]), ..receipt() }, Fault::OtherOrder),
        (JobReceipt { ended_after_ms: 1_001, ..receipt() }, Fault::OutsideLease),
        (JobReceipt { ran_ms: 7_200_001, ..receipt() }, Fault::TooLong),
        (JobReceipt { cost_microeur: 2_001, ..receipt() }, Fault::TooDear),
    ];
    for (receipt, fault) in rows {
        assert_eq!(receipt.fault(&agreed()), Some(fault));
    }
    let short = Agreed { wall_ms: 3_600_000, ..agreed() };
    assert_eq!(receipt().fault(&short), Some(Fault::TooDear), "time beyond the wall time is not paid");
}

#[test]
fn a_started_microeuro_is_a_whole_one() {
    assert_eq!(cost_microeur(1, 1), 1);
    assert_eq!(cost_microeur(3_600_000, 5), 5);
    assert_eq!(cost_microeur(0, 5), 0);
    assert_eq!(cost_microeur(u64::MAX, u64::MAX), u64::MAX);
}
