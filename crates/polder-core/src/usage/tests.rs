//! Tests of the window: what counts, for how long, and for whom.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::tests::node;

fn vendors() -> BTreeMap<NodeId, BTreeSet<Vendor>> {
    [
        (node("paris"), BTreeSet::from([Vendor::Nvidia])),
        (node("munich"), BTreeSet::from([Vendor::Nvidia])),
        (node("kajaani"), BTreeSet::from([Vendor::Amd])),
        (node("mixed"), BTreeSet::from([Vendor::Amd, Vendor::Intel])),
    ]
    .into()
}

fn percent(window: &Window, today: u64, factory: &str) -> u8 {
    window.shares(today, &vendors())[&node(factory)].vendor_share_percent
}

#[test]
fn shares_are_by_vendor_and_rounded_up() {
    let mut window = Window::default();
    assert_eq!(percent(&window, 100, "paris"), 0, "nothing ran yet");
    window.add(100, &node("paris"), 1_000);
    assert_eq!((percent(&window, 100, "munich"), percent(&window, 100, "kajaani")), (100, 0));
    window.add(100, &node("kajaani"), 2_000);
    assert_eq!((percent(&window, 100, "munich"), percent(&window, 100, "mixed")), (34, 67));
    // What ran where no vendor is known belongs to the whole and to nobody.
    window.add(100, &node("somewhere"), 3_000);
    assert_eq!((percent(&window, 100, "munich"), percent(&window, 100, "kajaani")), (17, 34));
    window.add(100, &node("paris"), u64::MAX);
    window.add(100, &node("paris"), u64::MAX);
    assert_eq!((percent(&window, 100, "munich"), percent(&window, 100, "kajaani")), (100, 1));
}

#[test]
fn thirty_days_count_and_no_more() {
    let mut window = Window::default();
    window.add(100, &node("paris"), 1_000);
    window.add(110, &node("kajaani"), 1_000);
    assert_eq!(percent(&window, 129, "paris"), 50);
    assert_eq!(percent(&window, 130, "paris"), 0);
    assert_eq!(percent(&window, 99, "paris"), 0, "what is yet to come does not count");
    let before = window.clone();
    window.forget(129);
    assert_eq!(window, before);
    window.forget(130);
    assert_eq!(percent(&window, 129, "paris"), 0);
    assert_eq!(percent(&window, 129, "kajaani"), 100);
    assert_eq!(day_of(86_400_000 * 3 - 1), 2);
}
