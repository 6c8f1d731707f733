//! Tests of chains: numbers without holes, links that stay small, days that account for every leaf.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::tests::node;
use proptest::prelude::*;

fn name(tenant: &str) -> ChainName {
    ChainName { tenant: TenantId::parse(tenant).ok(), home: node("home") }
}

fn entry(place: u64) -> Digest {
    canonical::hash("entry", &[&place.to_be_bytes()])
}

/// Counts leaves of these tenants, one after another, with links as they fall due; the links, each with its place.
fn count(counters: &mut Counters, tenants: &[u8], every_ms: u64) -> Vec<(u64, LinkStatement)> {
    let (mut links, mut now_ms) = (Vec::new(), 1_000);
    for tenant in tenants {
        let (place, chain) = (counters.counted(), name(&format!("tenant-{tenant}")));
        let leaf = Counted { kind: "decision", chain: Some(&chain), place, entry: &entry(place) };
        counters.take(leaf, now_ms, [*tenant; 32]).unwrap();
        now_ms += every_ms;
        if counters.due(now_ms) {
            state(counters, now_ms, false, &mut links);
        }
    }
    state(counters, now_ms, true, &mut links);
    links
}

fn state(counters: &mut Counters, now_ms: u64, all: bool, links: &mut Vec<(u64, LinkStatement)>) {
    for link in counters.links(now_ms, all) {
        let place = counters.counted();
        counters.take(Counted { kind: "link", chain: None, place, entry: &entry(place) }, now_ms, [0; 32]).unwrap();
        links.push((place, link));
    }
}

proptest! {
    #[test]
    fn every_leaf_has_one_number(tenants in proptest::collection::vec(0u8..5, 1..400), every_ms in 0u64..3_000) {
        let mut counters = Counters::new(node("home"), 7, 1_000);
        let links = count(&mut counters, &tenants, every_ms);
        prop_assert!(!counters.due(u64::MAX), "nothing is open");
        let mut seen: BTreeMap<Digest, (u64, Digest)> = BTreeMap::new();
        let mut places = Vec::new();
        for (place, link) in &links {
            let (last, hash) = seen.get(&link.chain).copied().unwrap_or((0, link.chain));
            prop_assert_eq!((link.from, link.before), (last + 1, hash));
            let (mut number, mut hash) = (last, hash);
            for at in link.places.iter().flat_map(|[first, last]| *first..=*last) {
                prop_assert!(at < *place);
                number += 1;
                hash = head(&hash, number, at, &entry(at));
                places.push(at);
            }
            prop_assert_eq!((link.to, link.head), (number, hash));
            seen.insert(link.chain, (number, hash));
            let bytes = Statement::Link(link.clone()).to_bytes().unwrap();
            prop_assert!(bytes.len() <= 1_000, "{} bytes", bytes.len());
        }
        places.extend(links.iter().map(|(place, _)| *place));
        places.sort_unstable();
        prop_assert_eq!(places, (7..counters.counted()).collect::<Vec<_>>());
        // The day says the same, and what was kept in between goes on as if it had never been put away.
        let kept: Counters = serde_json::from_slice(&serde_json::to_vec(&counters).unwrap()).unwrap();
        prop_assert_eq!(&kept, &counters);
        let day = counters.state_day(90_000_000);
        prop_assert_eq!(day.kinds.values().sum::<u64>(), day.until_leaf - day.from_leaf);
        let heads: BTreeMap<Digest, (u64, Digest)> = day.chains.iter().map(|one| (one.chain, (one.to, one.head))).collect();
        prop_assert_eq!(heads, seen);
        prop_assert_eq!(day.chains.iter().flat_map(|one| one.kinds.values()).sum::<u64>(), tenants.len() as u64);
        prop_assert_eq!((day.whole, day.day, counters.days()), (true, 0, &[(0, day.until_leaf)][..]));
        prop_assert_eq!(counters.state_day(90_000_000).chains, Vec::new());
    }
}

#[test]
fn a_chain_is_known_by_its_opening_only() {
    let (one, other) = (name("bank"), name("lab"));
    assert_eq!(blinded(&[1; 32], &one), blinded(&[1; 32], &one));
    assert_ne!(blinded(&[1; 32], &one), blinded(&[2; 32], &one));
    assert_ne!(blinded(&[1; 32], &one), blinded(&[1; 32], &other));
}

#[test]
fn a_link_at_the_largest_places_is_below_a_kilobyte() {
    let chain = blinded(&[1; 32], &name("bank")).unwrap();
    let far = 999_999_999_u64;
    let places = (0..RUNS_MAX as u64).map(|run| [far - 2 * run - 1, far - 2 * run]).collect();
    let node = node(&"n".repeat(63));
    let link = LinkStatement { node, chain, at_ms: u64::MAX, from: far, to: far, places, before: chain, head: chain };
    assert!(Statement::Link(link).to_bytes().unwrap().len() <= 1_024);
}
