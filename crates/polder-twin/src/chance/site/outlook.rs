//! What the machines ask of their node, answered by the simulation: real policies, and signatures that are real in some
//! schedules and a deterministic stand-in in the others.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use polder_core::ids::NodeId;
use polder_core::job::home::Choice;
use polder_core::job::{JobReceipt, executor, home};
use polder_core::keys::Signed;
use polder_core::placement::Outcome;
use polder_core::policy::Cause;
use polder_core::request::Request;

use crate::chance::realm::Realm;

/// A home's node.
pub struct HomeView<'a> {
    pub realm: &'a Realm,
    pub version: usize,
    pub real: bool,
    /// Whether the full `decide` is asked beside the memo.
    pub fully: bool,
    pub broken: &'a mut Option<String>,
}

/// A factory's node.
pub struct FactoryView<'a> {
    pub realm: &'a Realm,
    pub me: &'a NodeId,
    pub version: usize,
    pub real: bool,
    pub signed: &'a mut Vec<JobReceipt>,
}

impl home::Outlook for HomeView<'_> {
    fn decide(&mut self, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Choice {
        match self.realm.decide(self.version, request, excluded, self.fully) {
            Ok(choice) => choice,
            Err(error) => {
                *self.broken = Some(error);
                Choice { outcome: Outcome::Refused, factory: None }
            }
        }
    }

    fn permits(&mut self, request: &Request, factory: &NodeId) -> bool {
        self.realm.permits(self.version, request, factory)
    }

    fn is_signed(&mut self, receipt: &Signed<JobReceipt>) -> bool {
        if self.real {
            return receipt.is_signed(&key_of(&receipt.value.factory).verifying_key());
        }
        receipt.signature == stand_in(&receipt.value, &receipt.value.factory)
    }
}

impl executor::Outlook for FactoryView<'_> {
    fn permits(&mut self, request: &Request) -> bool {
        self.realm.terms_permit(self.version, request, self.me)
    }

    fn sign(&mut self, receipt: &JobReceipt) -> [u8; 64] {
        self.signed.push(receipt.clone());
        signature(receipt, self.me, self.real)
    }
}

/// A signature over a receipt by the key of `signer`.
pub fn signature(receipt: &JobReceipt, signer: &NodeId, real: bool) -> [u8; 64] {
    if real {
        receipt.clone().sign(&key_of(signer)).map_or([0; 64], |signed| signed.signature)
    } else {
        stand_in(receipt, signer)
    }
}

fn key_of(node: &NodeId) -> SigningKey {
    let mut seed = [0; 32];
    seed.iter_mut().zip(node.as_str().bytes()).for_each(|(to, from)| *to = from);
    SigningKey::from_bytes(&seed)
}

/// Takes a signature's place: it covers every field and the signer's name, and nobody here makes another's.
fn stand_in(receipt: &JobReceipt, signer: &NodeId) -> [u8; 64] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(signer.as_str().as_bytes());
    add(receipt.home.as_str().as_bytes());
    add(receipt.factory.as_str().as_bytes());
    add(&receipt.job.0);
    add(&receipt.order.0);
    add(format!("{:?}", receipt.outcome).as_bytes());
    for number in [receipt.epoch, receipt.ran_ms, receipt.ended_after_ms, receipt.cost_microeur] {
        add(&number.to_be_bytes());
    }
    add(&receipt.checkpoint.map_or([0; 32], |digest| digest.0));
    let mut signature = [0; 64];
    signature.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&hash.to_be_bytes()));
    signature
}
