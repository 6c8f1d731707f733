//! Tests of tables: nothing of a verdict is lost, and a statement does not grow with the factories.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::labels::{DataClass, Purpose};
use crate::statement::v1::{DecisionStatement, Statement};
use crate::tests::{BANK, Site, World, request};

#[test]
fn tables_give_the_verdicts_back() {
    let sites = vec![Site::new("berlin", "DE", "US", 1), Site::new("paris", "FR", "FR", 2).unavailable("no-capacity")];
    let record = World::new(BANK, sites).statement(&request(DataClass::Customer, &[Purpose::Finance]));
    let tables = record.tables();
    assert_eq!(tables.join().unwrap(), record.verdicts);
    assert_eq!(tables.digests().unwrap().digest(), Ok(record.statement.tables));
    assert!(tables.is_ordered());
    let mut shorter = tables.clone();
    shorter.scores.pop();
    assert_eq!(shorter.join(), None);
    let mut turned = tables;
    turned.verdicts.reverse();
    assert!(!turned.is_ordered());
}

#[test]
fn a_statement_stays_below_a_kilobyte_at_a_thousand_factories() {
    let sites = |count: usize| (0..count).map(|n| Site::new(&format!("site-{n}"), "FR", "FR", n as u64)).collect();
    let size = |count, class| {
        let record = World::new(BANK, sites(count)).statement(&request(class, &[Purpose::Finance]));
        let ticket = record.statement.factory.as_ref().map(|_| Digest([7; 32]));
        let statement = DecisionStatement { ticket, ..record.statement };
        Statement::Decision(Box::new(statement)).to_bytes().unwrap().len()
    };
    let few = size(10, DataClass::Public);
    let many = size(1_000, DataClass::Public);
    assert!(many <= 1_024 && many <= few + 16, "{few} bytes with 10 factories, {many} with 1,000");
    let refused = size(1_000, DataClass::Restricted);
    assert!(refused <= 1_024, "{refused} bytes for a refusal");
}
