//! Tests of who gives way to whom when places run out, and of how long each state may last.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::Ipv4Addr;

use super::*;
use crate::config::raw::Serve;

fn gate(per_address: usize, total: usize) -> Arc<Gate> {
    let serve = Serve { connections_per_address_max: Some(per_address), ..Serve::default() };
    Gate::open(&serve.check(&|message| panic!("{message}")).unwrap(), total)
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn refused(entered: Result<Place, Refusal>) -> bool {
    matches!(entered, Err(Refusal::Full))
}

#[tokio::test]
async fn the_oldest_that_says_nothing_gives_way() {
    let gate = gate(100, 4);
    let places: Vec<Place> = (1..=4).map(|last| gate.enter(address(last)).ok().unwrap()).collect();
    places[0].line.enter(Phase::Busy);
    places[1].line.enter(Phase::Idle);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let one = gate.enter(address(9)).ok().unwrap();
    let ordered: Vec<bool> = places.iter().map(|place| place.line.ordered().is_some()).collect();
    assert_eq!(ordered, [false, false, true, false], "the first silent one, before the idle one, never the busy one");
    let mut more = vec![one];
    for (last, expected) in [(10, 3), (11, 1)] {
        more.iter().for_each(|place| place.line.enter(Phase::Busy));
        more.push(gate.enter(address(last)).ok().unwrap());
        assert_eq!(places[expected].line.ordered(), Some(Order::End));
    }
    assert_eq!(gate.count(), 4);
    drop((places, more));
    assert_eq!(gate.count(), 0, "whatever gave way counts no second time");
}

#[tokio::test]
async fn no_address_takes_every_place_and_busy_ones_stay() {
    let gate = gate(2, 100);
    let mine: Vec<Place> = (0..2).map(|_| gate.enter(address(1)).ok().unwrap()).collect();
    mine.iter().for_each(|place| place.line.enter(Phase::Busy));
    assert!(refused(gate.enter(address(1))), "both work");
    let other = gate.enter(address(2)).ok().unwrap();
    mine[1].line.enter(Phase::Idle);
    let next = gate.enter(address(1)).ok().unwrap();
    assert_eq!(mine[1].line.ordered(), Some(Order::End));
    assert!(other.line.ordered().is_none() && mine[0].line.ordered().is_none());
    drop((mine, next));
    assert_eq!(gate.count(), 1);
    assert!(gate.inner().addresses.len() == 1, "nothing is kept of addresses that are gone");
}

#[tokio::test]
async fn a_network_counts_as_one_client() {
    let one = of_one("2001:db8:1:2:3:4:5:6".parse().unwrap());
    assert_eq!(one, of_one("2001:db8:1:2::9".parse().unwrap()));
    assert_ne!(one, of_one("2001:db8:1:3::9".parse().unwrap()));
    assert_eq!(of_one("::ffff:127.0.0.1".parse().unwrap()), address(1));
}

#[tokio::test]
async fn time_limits_hold_for_each_state() {
    let gate = gate(10, 10);
    let line = Arc::clone(&gate.enter(address(1)).ok().unwrap().line);
    let now = |seconds: u64| line.since_ms() + seconds * 1000 + 1;
    let due = |phase, seconds| {
        line.enter(phase);
        gate.overdue(&line, now(seconds))
    };
    assert_eq!((due(Phase::Silent, 29), due(Phase::Silent, 30)), (None, Some(Order::End)));
    assert_eq!(due(Phase::Head, 10), Some(Order::Refuse(Refusal::HeadSlow)));
    assert_eq!((due(Phase::Idle, 119), due(Phase::Idle, 120)), (None, Some(Order::End)));
    assert_eq!(due(Phase::Busy, 100_000), None, "an engine may take its time");
    assert_eq!(due(Phase::Body, 10), None, "nothing more was asked of the client");
    line.set_hungry(true);
    assert_eq!((due(Phase::Body, 9), due(Phase::Body, 10)), (None, Some(Order::Refuse(Refusal::BodySlow))));
    line.add_body(512 * 11);
    assert_eq!((due(Phase::Body, 10), due(Phase::Body, 12)), (None, Some(Order::Refuse(Refusal::BodySlow))));
    line.set_stalled(true);
    assert_eq!(gate.overdue(&line, line.stalled_ms().unwrap() + 60_001), Some(Order::End));
}
