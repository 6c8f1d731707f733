//! What a reservation and its settlement cost, alone and with other accounts around: `cargo bench --bench ledger`.
//!
//! Prints one line of JSON for each quantity. Every account has every limit, so that nothing is skipped. The lock that a node
//! puts around it is absent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark reads the clock; the core does not.

use std::hint::black_box;
use std::time::Instant;

use polder_core::ledger::{Budget, Limits, Path, Purses, Window};

const NOW: u64 = 1_795_359_600_000;
const ROUNDS: u32 = 2_000_000;

fn main() {
    for keys in [1, 10_000] {
        reserve_and_settle(keys);
    }
}

fn reserve_and_settle(keys: usize) {
    let limits = Limits {
        requests_per_minute: Some(1_000_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        streams: Some(u32::MAX),
        budget: Some(Budget { microeur: 1 << 40, window: Window::Day }),
    };
    let mut purses = Purses::default();
    let [project, tenant] = [(); 2].map(|()| purses.add(&limits, NOW));
    let paths: Vec<Path> = (0..keys).map(|_| [purses.add(&limits, NOW), project, tenant]).collect();
    let mut list = Vec::new();
    purses.flushes(NOW, false, &mut list);
    for flush in &list {
        purses.flushed(flush, 1 << 39);
    }
    let begun = Instant::now();
    for round in 0..ROUNDS {
        let path = paths[round as usize % keys];
        let hold = purses.reserve(black_box(path), 100, 40, NOW + u64::from(round / 1_000)).unwrap();
        black_box(purses.settle(hold, 60, 0));
    }
    let ns = begun.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS);
    let name = format!("reserve and settle at three levels, {keys} keys");
    println!("{}", serde_json::json!({"name": name, "value": ns, "unit": "ns"}));
}
