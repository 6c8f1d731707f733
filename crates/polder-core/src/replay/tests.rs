//! Tests of replay: every decision comes out again byte for byte, and none that was changed does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::labels::{DataClass, Purpose};
use crate::placement::Outcome;
use crate::tests::{BANK, Site, World, request};

fn world() -> World {
    let sites = vec![
        Site::new("berlin", "DE", "US", 1),
        Site::new("lyon", "FR", "FR", 3).unavailable("no-capacity"),
        Site::new("paris", "FR", "FR", 2).without("control"),
        Site::new("turin", "IT", "IT", 4),
    ];
    World::new(BANK, sites)
}

fn bytes(record: &DecisionRecord) -> Vec<u8> {
    Statement::Decision(Box::new(record.statement.clone())).to_bytes().unwrap()
}

#[test]
fn decisions_come_out_again_byte_for_byte() {
    let world = world();
    for class in [DataClass::Public, DataClass::Internal, DataClass::Customer, DataClass::Restricted] {
        for purposes in [&[Purpose::Finance][..], &[Purpose::Finance, Purpose::Defence], &[]] {
            let mut record = world.statement(&request(class, purposes));
            record.statement.ticket = Some(Digest([7; 32]));
            let tables = record.tables();
            let again = replay(&record.statement, &tables, &world.sources()).unwrap();
            assert_eq!(again.differs, Vec::<String>::new());
            assert_eq!(again.bytes, bytes(&record));
            assert_eq!(again.given, ["lyon: no-capacity"]);
            let file = serde_json::to_string(&SourcesFile::from(world.sources())).unwrap();
            let read = Sources::try_from(serde_json::from_str::<SourcesFile>(&file).unwrap()).unwrap();
            assert_eq!(replay(&record.statement, &tables, &read), Ok(again));
        }
    }
}

#[test]
fn what_was_changed_does_not_come_out() {
    let world = world();
    let record = world.statement(&request(DataClass::Customer, &[Purpose::Finance]));
    assert_eq!(record.statement.outcome, Outcome::Placed);
    let replayed = |record: &DecisionRecord| {
        let tables = record.tables();
        let mut record = record.clone();
        record.statement.tables = tables.digests().unwrap().digest().unwrap();
        replay(&record.statement, &tables, &world.sources()).unwrap().differs
    };
    assert_eq!(replayed(&record), Vec::<String>::new());
    let mut open = record.clone();
    open.verdicts[0].causes.clear();
    assert!(replayed(&open).contains(&"the verdict of `berlin`".to_owned()));
    let mut score = record.clone();
    score.verdicts[3].score += 1;
    assert!(replayed(&score).contains(&"the verdict of `turin`".to_owned()));
    let mut choice = record.clone();
    choice.statement.factory = Some(crate::tests::node("berlin"));
    assert_eq!(replayed(&choice), ["the chosen factory"]);
    let mut made_up = record;
    made_up.verdicts[3].causes = vec![Cause::built_in(LayerKind::Owner, "made-up", "test")];
    assert!(!replayed(&made_up).is_empty());
}

#[test]
fn what_is_missing_or_another_is_named() {
    let world = world();
    let record = world.statement(&request(DataClass::Customer, &[Purpose::Finance]));
    let tables = record.tables();
    let fails = |change: &dyn Fn(&mut Sources)| {
        let mut sources = world.sources();
        change(&mut sources);
        replay(&record.statement, &tables, &sources).unwrap_err()
    };
    let owner = record.statement.policies.owner;
    let missing = fails(&|sources| drop(sources.policies.remove(&owner)));
    assert_eq!(missing, ReplayError::Missing { what: "owner's policy", digest: owner });
    let other =
        fails(&|sources| drop(sources.policies.insert(owner, "permit (principal, action, resource);".to_owned())));
    assert_eq!(other, ReplayError::Other("owner's policy"));
    assert_eq!(fails(&|sources| sources.trust = Trust::default()), ReplayError::Other("trust"));
    assert_eq!(fails(&|sources| sources.frameworks.clear()), ReplayError::Other("set of frameworks"));
    let root = record.verdicts[0].passport;
    assert!(matches!(fails(&|sources| drop(sources.passports.remove(&root))), ReplayError::Missing { .. }));
    assert_eq!(fails(&|sources| drop(sources.passports.get_mut(&root).unwrap().pop())), ReplayError::Other("passport"));
    let mut shorter = tables.clone();
    shorter.verdicts.pop();
    assert_eq!(replay(&record.statement, &shorter, &world.sources()), Err(ReplayError::Other("set of tables")));
}
