//! Which token comes next, given the scores of all.
//!
//! The generator is PCG with a given seed, so the same seed gives the same tokens on the same
//! machine. Absent: `top_k` and beams; requests that ask for them are refused.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// Draws tokens for one request.
pub(crate) struct Sampler {
    random: Pcg64,
    temperature: f64,
    top_p: f64,
}

impl Sampler {
    /// A sampler; `temperature` 0 always takes the likeliest token.
    pub(crate) fn new(seed: u64, temperature: f64, top_p: f64) -> Self {
        Self { random: Pcg64::seed_from_u64(seed), temperature, top_p }
    }

    /// The next token, or `None` where the scores are no numbers.
    pub(crate) fn pick(&mut self, scores: &[f32]) -> Option<u32> {
        let (best, top) = scores.iter().enumerate().filter(|(_, score)| score.is_finite()).fold(
            None,
            |best: Option<(usize, f32)>, (id, &score)| match best {
                Some((_, top)) if top >= score => best,
                _ => Some((id, score)),
            },
        )?;
        // Below this a division would overflow, and the likeliest token is certain anyway.
        if self.temperature < 1e-4 {
            return u32::try_from(best).ok();
        }
        let mut candidates: Vec<(usize, f64)> = scores
            .iter()
            .enumerate()
            .filter(|(_, score)| score.is_finite())
            .map(|(id, &score)| (id, (f64::from(score - top) / self.temperature).exp()))
            .collect();
        if self.top_p < 1.0 {
            nucleus(&mut candidates, self.top_p);
        }
        let total: f64 = candidates.iter().map(|(_, mass)| mass).sum();
        let mut left = self.unit() * total;
        for (id, mass) in &candidates {
            left -= mass;
            if left < 0.0 {
                return u32::try_from(*id).ok();
            }
        }
        u32::try_from(best).ok()
    }

    /// A number from 0 up to, but without, 1.
    fn unit(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Keeps the likeliest tokens that together hold at least `top_p` of the mass.
fn nucleus(candidates: &mut Vec<(usize, f64)>, top_p: f64) {
    let total: f64 = candidates.iter().map(|(_, mass)| mass).sum();
    // What is rarer than this cannot be needed even if all such were added up. It saves
    // sorting a whole vocabulary for every token.
    let floor = (1.0 - top_p) * total / candidates.len().max(1) as f64;
    candidates.retain(|(_, mass)| *mass >= floor);
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut held = 0.0;
    let keep = candidates
        .iter()
        .position(|(_, mass)| {
            held += mass;
            held >= top_p * total
        })
        .map_or(candidates.len(), |last| last + 1);
    candidates.truncate(keep);
}
