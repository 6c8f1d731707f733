//! Decisions about jobs: where one may run now, whether it may go on where it runs, and what the log says of either.
//!
//! The policies' answer is the same row that requests use. A factory whose places for requests are taken may still have room for
//! jobs; what it has for those is the job machine's to know, which keeps such factories out by itself. Money, leases and the queue
//! are absent.

use std::collections::BTreeMap;
use std::sync::Arc;

use polder_core::canonical::{self, Digest};
use polder_core::ids::{DecisionId, NodeId};
use polder_core::job::Order;
use polder_core::job::home::Choice;
use polder_core::keys::Signed;
use polder_core::placement::{self, Decision, Factory, NO_CAPACITY, Outcome, Snapshot};
use polder_core::policy::{Cause, LayerKind};
use polder_core::request::Request;
use polder_core::statement::v1::{DecisionRecord, Statement};
use polder_core::ticket::{Capability, Ticket, body_digest};
use serde::{Deserialize, Serialize};

use super::{Home, HomeError, named};
use crate::clock::{now_ms, random};
use crate::store::Object;

/// The right to run one job at one factory, as it travels with an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticketed {
    /// What was decided.
    pub ticket: Ticket,
    /// The salt of the ticket's body digest, which is over the order.
    #[serde(with = "canonical::bytes_as_hex")]
    pub salt: [u8; 32],
    /// The right to send it; absent where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Signed<Capability>>,
}

/// A decision as the log takes it.
pub struct Judged {
    /// Its id.
    pub id: DecisionId,
    /// Its statement's canonical bytes.
    pub bytes: Vec<u8>,
    /// What it names by digest.
    pub objects: Arc<[Object]>,
    /// What the statement says.
    pub record: DecisionRecord,
    /// Where something was placed, the right to run it.
    pub ticketed: Option<Ticketed>,
}

impl Home {
    /// What is known for jobs: what a factory's places for requests say does not count.
    fn snapshot_for_jobs(&self, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Snapshot {
        let snapshot = self.view.snapshot(now_ms());
        let of_requests = |cause: &&Cause| cause.layer != LayerKind::Availability || cause.rule != NO_CAPACITY;
        let known = |(ground, factory): (&placement::Ground, &Factory)| {
            let own = factory.unavailable.iter().filter(of_requests);
            let others = excluded.get(&ground.id).into_iter().flatten();
            Factory { unavailable: own.chain(others).cloned().collect(), inputs: factory.inputs }
        };
        let factories = snapshot.each().map(known).collect();
        Snapshot::new(snapshot.at_ms, Arc::clone(&snapshot.basis), snapshot.facts_root, snapshot.weights, factories)
    }

    /// Where a job may run now. What is said of where it may not is not written out: that is [`Home::judge`]'s.
    pub fn choose_for_job(&self, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> (Snapshot, Choice) {
        let snapshot = self.snapshot_for_jobs(excluded);
        let row = self.view.row(&snapshot, request);
        let place = snapshot.best(row.admitted());
        let ground = place.and_then(|place| snapshot.basis.grounds.get(place));
        let choice = match ground {
            Some(ground) => Choice { outcome: Outcome::Placed, factory: Some(ground.id.clone()) },
            None if row.admitted().words().iter().any(|word| *word != 0) => {
                Choice { outcome: Outcome::NoCapacity, factory: None }
            }
            None => Choice { outcome: Outcome::Refused, factory: None },
        };
        (snapshot, choice)
    }

    /// Whether every layer permits a job at a factory, whatever its load.
    pub fn permits_job(&self, request: &Request, factory: &NodeId) -> bool {
        let snapshot = self.view.snapshot(now_ms());
        let place = snapshot.basis.grounds.binary_search_by(|ground| ground.id.cmp(factory));
        place.is_ok_and(|place| self.view.row(&snapshot, request).admitted().contains(place))
    }

    /// The decision about a job with every verdict, as it would be made now, without running anything and without a leaf.
    pub fn decide_job(&self, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Decision {
        self.view.decide(&self.snapshot_for_jobs(excluded), request, &BTreeMap::new())
    }

    /// The decision about an order as the log takes it, on the snapshot by which it was made; with a ticket where something was
    /// placed.
    pub fn judge(&self, order: &Order, snapshot: &Snapshot, chosen: Option<&NodeId>) -> Result<Judged, HomeError> {
        let decision = self.view.decide(snapshot, &order.request, &BTreeMap::new());
        if decision.factory.as_ref() != chosen {
            return Err(HomeError::Internal("a job's decision came out otherwise than its placement".to_owned()));
        }
        let (id, salt) = (DecisionId::at(snapshot.at_ms, random()?), random()?);
        let body = body_of(&salt, order)?;
        let (node, request) = (self.node.clone(), order.request.clone());
        let mut record = DecisionRecord::of(id.clone(), node, snapshot, request, body, decision)?;
        let objects = named::objects(&self.view, &record, |digest| self.log.has_object(digest))?;
        let mut ticketed = None;
        if let Some(factory) = chosen {
            let ticket = Ticket {
                nonce: random()?,
                decision: id.clone(),
                home: self.node.clone(),
                factory: factory.clone(),
                body,
                request: order.request.clone(),
                tokens_max: 0,
            };
            record.statement.ticket = Some(ticket.digest()?);
            ticketed = Some(Ticketed { ticket, salt, capability: None });
        }
        let bytes = Statement::Decision(Box::new(record.statement.clone())).to_bytes()?;
        Ok(Judged { id, bytes, objects, record, ticketed })
    }
}

impl Ticketed {
    /// Whether it is about this order, from this home, for this factory.
    pub fn names(&self, order: &Order, home: &NodeId, factory: &NodeId) -> bool {
        let ticket = &self.ticket;
        ticket.home == *home
            && ticket.factory == *factory
            && ticket.request == order.request
            && body_of(&self.salt, order).is_ok_and(|body| body == ticket.body)
    }
}

fn body_of(salt: &[u8; 32], order: &Order) -> Result<Digest, canonical::CanonicalError> {
    Ok(body_digest(salt, &canonical::to_bytes(order)?))
}
