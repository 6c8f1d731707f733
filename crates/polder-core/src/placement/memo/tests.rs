//! Tests of the memo: it answers only for the very basis, stays within its bounds, and never loses what is asked often.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::*;
use crate::ids::ProjectId;
use crate::labels::{DataClass, Purpose};
use crate::placement::{decide, decide_by};
use crate::tests::{BANK, Site, World, request};

fn world() -> World {
    let sites = (0..70).map(|n| Site::new(&format!("f{n:02}"), if n % 3 == 0 { "US" } else { "FR" }, "FR", 70 - n));
    World::new(BANK, sites.collect())
}

fn customer(project: &str) -> Request {
    Request { project: ProjectId::parse(project).unwrap(), ..request(DataClass::Customer, &[Purpose::Finance]) }
}

#[test]
fn it_chooses_what_decide_chooses() {
    let mut world = world();
    for n in (0..70).step_by(5) {
        let site = world.sites[n].clone();
        world.sites[n] = site.unavailable(crate::placement::NO_CAPACITY);
    }
    let snapshot = world.snapshot();
    let mut memo = Memo::default();
    for request in [customer("a"), request(DataClass::Public, &[Purpose::Health]), request(DataClass::Public, &[])] {
        memo.keep(Arc::new(Row::new(&snapshot.basis, &request)));
        let choice = memo.choose(&snapshot, &request).unwrap();
        let decision = decide(&snapshot, &request, &BTreeMap::new());
        let chosen = choice.factory.map(|place| snapshot.basis.grounds[place].id.clone());
        assert_eq!(chosen, decision.factory);
        let open = decision.verdicts.iter().enumerate().filter(|(_, verdict)| verdict.causes.is_empty());
        assert!(open.clone().all(|(place, _)| choice.admitted.contains(place)));
        assert!(choice.admitted.count() >= u32::try_from(open.count()).unwrap());
        let by = decide_by(memo.row(&snapshot, &request).unwrap(), &snapshot, &request, &BTreeMap::new());
        assert_eq!(by, decision);
    }
}

#[test]
fn a_row_answers_only_for_its_own_basis_and_request() {
    let (one, other) = (world().snapshot(), world().snapshot());
    let (a, b) = (customer("a"), customer("b"));
    let mut memo = Memo::default();
    memo.keep(Arc::new(Row::new(&one.basis, &a)));
    assert!(memo.row(&one, &a).is_some() && memo.row(&one, &b).is_none());
    assert!(memo.row(&other, &a).is_none(), "equal, and not the same: it is asked again");
    // Handed a row of something else, `decide` makes its own.
    let row = memo.row(&one, &a).unwrap();
    assert_eq!(decide_by(row, &other, &b, &BTreeMap::new()), decide(&other, &b, &BTreeMap::new()));
}

#[test]
fn it_stays_within_its_bounds_and_keeps_what_is_used() {
    let snapshot = World::new(BANK, vec![Site::new("a", "FR", "FR", 1)]).snapshot();
    let mut memo = Memo::default();
    let often = customer("often");
    memo.keep(Arc::new(Row::new(&snapshot.basis, &often)));
    let row = memo.row(&snapshot, &often).unwrap().clone();
    for n in 0..ROWS_MAX * 3 {
        let other = customer(&format!("p{n}"));
        memo.keep(Arc::new(Row::of_request(&row, other.clone())));
        assert!(memo.row(&snapshot, &other).is_some(), "{n}");
        if memo.row(&snapshot, &often).is_none() {
            memo.keep(row.clone());
        }
        assert!(memo.len() <= ROWS_MAX && memo.bytes() <= BYTES_MAX);
    }
    assert!(memo.row(&snapshot, &often).is_some());
    let bytes = memo.bytes();
    memo.keep(row.clone());
    assert_eq!(memo.bytes(), bytes, "the same row in its own place");
}
