//! Tests of calibration: what was made up is found again, and the development data, where it is there, is predicted within what is asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "parquet")]
use std::path::Path;

use super::*;
use crate::draw::Draws;

/// A site of 200 hosts that draws 9 kW idle and 140 W for a busy host, with noise that stays for an hour.
fn made_up(seed: u64, days: u64, noise_percent: f64) -> Vec<Sample> {
    let mut draws = Draws::new(seed, 0);
    let mut even = move || draws.below(2_000_001) as f64 / 1e6 - 1.0;
    let (mut level, mut samples, mut hosts) = (0.0, Vec::new(), 80.0_f64);
    for slot in 0..days * 2_880 {
        if slot % 120 == 0 {
            // Three together have tails, as real levels do.
            level = (even() + even() + even()) * noise_percent / 100.0;
            hosts = (hosts + even() * 25.0).clamp(10.0, 200.0);
        }
        let utilisation = 0.5 + 0.4 * even();
        let busy: Vec<f64> = SHAPES.iter().map(|shape| hosts * (1.0 - (-utilisation / shape).exp())).collect();
        let watts = (9_000.0 + 140.0 * busy[3]) * (1.0 + level + 0.002 * even());
        samples.push(Sample { at_ms: slot * 30_000, busy, watts });
    }
    samples
}

#[test]
fn what_was_made_up_is_found_again() {
    let samples = made_up(11, 4, 0.0);
    let model = fit(&samples[..5_760], &SHAPES).unwrap();
    let held = score(&model, &samples[5_760..]);
    assert_eq!(model.shape, SHAPES[3]);
    assert!((model.idle_watts - 9_000.0).abs() < 90.0 && (model.busy_watts - 140.0).abs() < 1.5, "{model:?}");
    assert!(held.mape_percent < 0.2, "{held:?}");
}

#[test]
fn the_band_holds_what_it_says() {
    // One stretch of time may be unlike the one before; many together are as the band says.
    let scores: Vec<Score> = (1..=12)
        .map(|seed| {
            let samples = made_up(seed, 8, 1.5);
            let (train, test) = samples.split_at(3 * 2_880);
            score(&fit(train, &SHAPES).unwrap(), test)
        })
        .collect();
    let covered = scores.iter().map(|one| one.band_coverage_percent).sum::<f64>() / scores.len() as f64;
    assert!((90.0..=99.5).contains(&covered), "{covered}: {scores:?}");
    assert!(scores.iter().all(|one| one.mape_percent < 4.3), "{scores:?}");
}

#[test]
fn a_load_that_never_changes_teaches_nothing() {
    let sample = |at_ms| Sample { at_ms, busy: vec![5.0; SHAPES.len()], watts: 100.0 };
    assert_eq!(fit(&(0..500).map(sample).collect::<Vec<_>>(), &SHAPES), None);
}

#[test]
fn spans_are_read() {
    let ms = |from: u64, until: u64| Some(Span { from_ms: from * 3_600_000, until_ms: until * 3_600_000 });
    assert_eq!(Span::parse("0d..2d"), ms(0, 48));
    assert_eq!(Span::parse("12h..2d"), ms(12, 48));
    for text in ["", "0d", "2d..1d", "1d..1d", "a..b", "0..2", "-1d..2d", "0d..99999999999999999999d"] {
        assert_eq!(Span::parse(text), None, "{text}");
    }
}

/// Two days of a real data centre; not part of the project. `POLDER_TWIN_DATA` names the folder.
#[cfg(feature = "parquet")]
#[test]
fn the_development_data_is_predicted() {
    let Some(folder) = std::env::var_os("POLDER_TWIN_DATA") else {
        eprintln!("skipped: POLDER_TWIN_DATA names no folder");
        return;
    };
    let files = Files::of(Path::new(&folder));
    let span = |text| Span::parse(text).unwrap();
    for (train, test) in [("0d..1d", "1d..2d"), ("1d..2d", "0d..1d")] {
        let found = calibrate(&files, span(train), span(test)).unwrap();
        eprintln!("{train} {test}: {found:?}");
        assert!(found.score.mape_percent <= 4.3, "{train}: {found:?}");
    }
}
