//! What the machines ask of their node while they step: the policies' word, the factory's own terms, and signatures.
//!
//! Each placement that a step makes is remembered with the snapshot by which it was made, so that its decision can be written out for the
//! log. Waiting is absent: everything here is answered from memory.

use std::collections::BTreeMap;

use ed25519_dalek::{SigningKey, VerifyingKey};
use polder_core::ids::NodeId;
use polder_core::job::home::Choice;
use polder_core::job::{JobReceipt, executor, home};
use polder_core::keys::Signed;
use polder_core::placement::Snapshot;
use polder_core::policy::Cause;
use polder_core::request::Request;

use crate::factory::Factory;
use crate::home::Home;

/// What was decided in a step.
pub(super) struct Chosen {
    pub request: Request,
    pub factory: Option<NodeId>,
    pub snapshot: Snapshot,
}

/// A home's node.
pub(super) struct HomeOutlook<'a> {
    pub home: &'a Home,
    pub chosen: &'a mut Vec<Chosen>,
}

/// A factory's node.
pub(super) struct FactoryOutlook<'a> {
    pub factory: &'a Factory,
    pub authority: &'a SigningKey,
}

impl home::Outlook for HomeOutlook<'_> {
    fn decide(&mut self, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Choice {
        let (snapshot, choice) = self.home.choose_for_job(request, excluded);
        // A job that waits is asked about again and again: only what is written out is kept.
        if choice.factory.is_some() || excluded.is_empty() {
            self.chosen.push(Chosen { request: request.clone(), factory: choice.factory.clone(), snapshot });
        }
        choice
    }

    fn permits(&mut self, request: &Request, factory: &NodeId) -> bool {
        self.home.permits_job(request, factory)
    }

    fn is_signed(&mut self, receipt: &Signed<JobReceipt>) -> bool {
        let known = self.home.view.authority_of(&receipt.value.factory);
        let key = known.and_then(|key| VerifyingKey::from_bytes(&key).ok());
        key.is_some_and(|key| receipt.is_signed(&key))
    }
}

impl executor::Outlook for FactoryOutlook<'_> {
    fn permits(&mut self, request: &Request) -> bool {
        self.factory.permits(request).is_ok()
    }

    fn sign(&mut self, receipt: &JobReceipt) -> [u8; 64] {
        // A receipt always has a canonical form; one without would be refused by its home.
        receipt.clone().sign(self.authority).map_or([0; 64], |signed| signed.signature)
    }
}
