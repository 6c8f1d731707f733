//! Tests of capabilities and tickets: the wrong channel, time or signature is refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::labels::{DataClass, Purpose};
use crate::tests::{key, node, request};

const FROM: u64 = 1_000_000;
const UNTIL: u64 = FROM + CAPABILITY_MS_MAX;

fn capability() -> Capability {
    let tenant = TenantId::parse("bank").unwrap();
    Capability { home: node("home"), factory: node("paris"), tenant, from_ms: FROM, until_ms: UNTIL, bound: None }
}

/// A factory that knows one home.
struct Known;

impl right::Issuers for Known {
    fn authorities(&self, node: &NodeId) -> Vec<VerifyingKey> {
        if node.as_str() == "home" { vec![key(1).verifying_key()] } else { Vec::new() }
    }

    fn is_revoked(&self, _: &[u8; 16]) -> bool {
        false
    }
}

fn check(signed: &Signed<Capability>, home: &str, factory: &str, now_ms: u64) -> Result<(), TicketError> {
    let (speaker, factory) = (&node(home), &node(factory));
    let presented = Presented { speaker, key: None, factory, now_ms, version: 1 };
    right::check_right(signed, &[], &presented, &Known).map(drop)
}

#[test]
fn a_capability_is_for_one_home_and_one_factory() {
    let signed = capability().sign(&key(1)).unwrap();
    assert_eq!(check(&signed, "home", "paris", FROM), Ok(()));
    assert_eq!(check(&signed, "other", "paris", FROM), Err(TicketError::Wrong("home")));
    assert_eq!(check(&signed, "home", "munich", FROM), Err(TicketError::Wrong("factory")));
}

#[test]
fn a_capability_holds_for_its_time_and_the_clocks_difference() {
    let signed = capability().sign(&key(1)).unwrap();
    let (first, last) = (FROM - CLOCK_SKEW_MS_MAX, UNTIL + CLOCK_SKEW_MS_MAX - 1);
    for (now, holds) in [(first - 1, false), (first, true), (last, true), (last + 1, false), (u64::MAX, false)] {
        assert_eq!(check(&signed, "home", "paris", now).is_ok(), holds, "at {now}");
    }
}

#[test]
fn a_capability_is_short() {
    let long = Capability { until_ms: UNTIL + 1, ..capability() }.sign(&key(1)).unwrap();
    assert_eq!(check(&long, "home", "paris", FROM), Err(TicketError::Time));
    let endless = Capability { from_ms: 0, until_ms: u64::MAX, ..capability() }.sign(&key(1)).unwrap();
    assert_eq!(check(&endless, "home", "paris", FROM), Err(TicketError::Time));
    let never = Capability { from_ms: UNTIL, until_ms: FROM, ..capability() }.sign(&key(1)).unwrap();
    assert_eq!(check(&never, "home", "paris", FROM + 30_000), Err(TicketError::Time));
}

#[test]
fn a_capability_is_signed_by_its_home() {
    let other = capability().sign(&key(2)).unwrap();
    assert_eq!(check(&other, "home", "paris", FROM), Err(TicketError::Signature));
    let mut widened = capability().sign(&key(1)).unwrap();
    widened.value.tenant = TenantId::parse("defence").unwrap();
    assert_eq!(check(&widened, "home", "paris", FROM), Err(TicketError::Signature));
}

#[test]
fn a_tickets_digest_changes_with_everything_in_it() {
    let ticket = Ticket {
        nonce: [1; 16],
        decision: DecisionId::at(2, [2; 10]),
        home: node("home"),
        factory: node("paris"),
        body: body_digest(&[3; 32], b"a question"),
        request: request(DataClass::Public, &[Purpose::Finance]),
        tokens_max: 16,
    };
    let digest = ticket.digest().unwrap();
    assert_eq!(
        digest,
        crate::canonical::digest(TICKET_DOMAIN, &ticket).unwrap(),
        "written in order as in any other way"
    );
    let changed = [
        Ticket { nonce: [9; 16], ..ticket.clone() },
        Ticket { decision: DecisionId::at(9, [9; 10]), ..ticket.clone() },
        Ticket { home: node("other"), ..ticket.clone() },
        Ticket { factory: node("munich"), ..ticket.clone() },
        Ticket { body: body_digest(&[4; 32], b"a question"), ..ticket.clone() },
        Ticket { body: body_digest(&[3; 32], b"another"), ..ticket.clone() },
        Ticket { request: request(DataClass::Customer, &[Purpose::Finance]), ..ticket.clone() },
        Ticket { tokens_max: 17, ..ticket.clone() },
    ];
    for one in changed {
        assert_ne!(one.digest().unwrap(), digest, "{one:?}");
    }
}
