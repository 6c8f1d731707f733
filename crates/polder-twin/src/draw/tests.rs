//! Tests of chance: the curves are what they are called, and the streams do not resemble each other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

#[test]
fn logarithms_and_powers_are_right() {
    for number in [1_u64, 2, 3, 10, 1_000_003, u64::MAX / 3, u64::MAX] {
        let expected = (number as f64).log2() * f64::from(1 << 30) * 4.0;
        assert!((log2(number) as f64 - expected).abs() < 200.0, "{number}");
    }
    assert_eq!(growth_ppm(0, 500), 1_000_000);
    assert_eq!(growth_ppm(100, 730) / 100, 40_000);
    let half = growth_ppm(216, 365) as f64;
    assert!((half / 3_160_000.0 - 1.0).abs() < 1e-5, "{half}");
}

#[test]
fn the_wave_is_a_cosine() {
    for part in 0..3_600_u64 {
        let expected = (part as f64 / 3_600.0 * std::f64::consts::TAU).cos() * 1_000.0;
        assert!((wave(part, 3_600) as f64 - expected).abs() < 3.0, "{part}: {} {expected}", wave(part, 3_600));
    }
}

#[test]
fn an_exponential_has_its_mean_and_its_spread() {
    let mut draws = Draws::new(7, 3);
    let (mut sum, mut squares, count) = (0.0, 0.0, 1_000_000);
    for _ in 0..count {
        let value = draws.exponential(1_000_000) as f64;
        sum += value;
        squares += value * value;
    }
    let mean = sum / f64::from(count);
    let deviation = (squares / f64::from(count) - mean * mean).sqrt();
    assert!((mean / 1e6 - 1.0).abs() < 0.004, "{mean}");
    assert!((deviation / 1e6 - 1.0).abs() < 0.004, "{deviation}");
}

#[test]
fn streams_differ_and_copies_do_not() {
    let words = |mut draws: Draws| (0..100).map(|_| draws.word()).collect::<Vec<_>>();
    assert_ne!(words(Draws::new(1, 1)), words(Draws::new(1, 2)));
    assert_ne!(words(Draws::new(1, 1)), words(Draws::new(2, 1)));
    let mut draws = Draws::new(1, 1);
    draws.word();
    assert_eq!(words(draws.clone()), words(draws));
    let mut draws = Draws::new(5, 5);
    assert!((0..1_000).all(|_| draws.below(10) < 10));
    assert_eq!(draws.below(0), 0);
}
