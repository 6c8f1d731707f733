//! Tests of the watch over the clock: set back, off the peers', and confirmed by them again.
#![allow(clippy::unwrap_used)]

use super::*;

const NOON: u64 = 1_000_000_000_000;

#[test]
fn without_peers_a_clock_that_steps_back_is_not_believed() {
    let mut watch = Watch::since(NOON);
    assert_eq!(watch.fault(NOON), None);
    assert_eq!(watch.fault(NOON - 2_000), None, "a time server's correction");
    assert_eq!(watch.fault(NOON - 60_000), Some(ClockFault::SetBack(60)));
    watch.look(NOON - 60_000, Vec::new());
    assert_eq!(watch.fault(NOON - 50_000), Some(ClockFault::SetBack(50)), "looking does not make it right");
    assert_eq!(watch.fault(NOON + 1), None, "until it is right");
    watch.look(NOON + 90_000, Vec::new());
    assert_eq!(watch.fault(NOON + 1), Some(ClockFault::SetBack(89)));
}

#[test]
fn more_than_five_minutes_off_the_peers_is_not_believed() {
    let mut watch = Watch::since(0);
    watch.look(NOON, vec![NOON + OFF_MS_MAX, NOON]);
    assert_eq!(watch.fault(NOON), None);
    watch.look(NOON, vec![NOON + OFF_MS_MAX + 1]);
    assert_eq!(watch.fault(NOON), Some(ClockFault::OffPeers(300)));
    watch.look(NOON, vec![NOON - OFF_MS_MAX - 1]);
    assert_eq!(watch.fault(NOON), Some(ClockFault::OffPeers(300)));
    // One wrong clock among three does no harm.
    watch.look(NOON, vec![NOON, 0, NOON + 5]);
    assert_eq!(watch.fault(NOON), None);
}

#[test]
fn peers_settle_who_was_wrong() {
    // The clock ran ahead by an hour, was recorded, and was set right.
    let mut watch = Watch::since(NOON + 3_600_000);
    assert_eq!(watch.fault(NOON), Some(ClockFault::SetBack(3_600)));
    watch.look(NOON, vec![NOON + 10]);
    assert_eq!(watch.fault(NOON), None);
    // Set back again before they are asked again.
    assert_eq!(watch.fault(NOON - 60_000), Some(ClockFault::SetBack(60)));
    watch.look(NOON - 60_000, Vec::new());
    assert_eq!(watch.fault(NOON - 60_000), Some(ClockFault::SetBack(60)), "nobody confirms it");
}
