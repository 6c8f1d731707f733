//! Tests of the messages: good ones changed at random are understood or not, and never more than that.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use super::*;

const CHANGED: usize = 20_000;

fn seed(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/peer");
    std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()
}

/// Envelopes and frames as they travel.
fn good() -> Vec<String> {
    let (capability, ticket, half) = (seed("capability"), seed("ticket"), seed("half"));
    let works = [
        r#"{"work":"chat","request":{"model":"m","messages":[{"role":"user","content":"x"}],"seed":7,"tools":[{}]}}"#,
        r#"{"work":"embed","request":{"model":"m","inputs":["a","b"],"input":["a"]}}"#,
        r#"{"work":"rerank","request":{"model":"m","query":"q","documents":["a"],"top_n":1}}"#,
    ];
    let salt = "00".repeat(32);
    let envelope =
        |work| format!(r#"{{"version":1,"capability":{capability},"ticket":{ticket},"salt":"{salt}","work":{work}}}"#);
    let frames = [format!(r#"{{"frame":"receipt","value":{half}}}"#), r#"{"frame":"refused","value":[]}"#.to_owned()];
    works.map(envelope).into_iter().chain(frames).collect()
}

/// Reads bytes as whatever a peer may send; whether they were understood as something.
fn understood(bytes: &[u8]) -> bool {
    let envelope = serde_json::from_slice::<Envelope>(bytes).ok().map(|envelope| {
        let digest = envelope.body_digest();
        assert_eq!(digest, polder_core::ticket::body_digest(&envelope.salt, envelope.work.bytes()));
        if let Ok(work) = envelope.work.open() {
            let (_, model) = work.asks();
            assert!(model.len() <= bytes.len());
        }
    });
    let frame = serde_json::from_slice::<Frame>(bytes).ok().map(|frame| {
        if let Frame::Receipt(half) = frame {
            let told = half.told();
            assert!(told.is_none_or(|told| told.factory.as_str().len() <= bytes.len()));
            drop(half.into_bytes());
        }
    });
    drop(serde_json::from_slice::<Status>(bytes));
    envelope.is_some() || frame.is_some()
}

#[test]
fn no_bytes_of_a_peer_break_the_reader() {
    let (good, mut chance) = (good(), Pcg64::seed_from_u64(1));
    for one in &good {
        assert!(understood(one.as_bytes()), "{one}");
    }
    let mut below = |bound: usize| usize::try_from(chance.next_u64() % bound as u64).unwrap();
    let (mut yes, mut no) = (0, 0);
    for _ in 0..CHANGED {
        let mut bytes = good[below(good.len())].clone().into_bytes();
        for _ in 0..=below(3) {
            let at = below(bytes.len().max(1));
            let end = (at + below(40)).min(bytes.len());
            match below(5) {
                0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
                1 if at < bytes.len() => bytes[at] = b"0919eE.-{}[]\"\\,:"[below(16)],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at.min(end)..end)),
                _ => {
                    let again = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at.min(end)..at.min(end), again);
                }
            }
        }
        *if understood(&bytes) { &mut yes } else { &mut no } += 1;
    }
    assert!(yes > 100 && no > 10_000, "{yes} understood, {no} not");
}
