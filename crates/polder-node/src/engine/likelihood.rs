//! How likely the tokens of an answer were, in OpenAI's shape.
//!
//! Told are the model's own probabilities, before temperature, penalties, bias and form change what is drawn. Absent: the
//! token that ends an answer, which is no part of it.

use serde_json::{Value, json};

use super::vocabulary::Vocabulary;

/// Natural logarithm that stands for "never": JSON has no infinity.
const NEVER: f64 = -9999.0;

/// What is told of one token: `scores` are those of all tokens before it was taken.
pub(crate) fn told(vocabulary: &Vocabulary, scores: &[f32], id: u32, top: usize) -> Value {
    let best = scores.iter().copied().filter(|score| score.is_finite()).fold(f32::NEG_INFINITY, f32::max);
    let mass: f64 = scores.iter().map(|score| f64::from(score - best).exp()).filter(|mass| mass.is_finite()).sum();
    let logprob = |score: f32| (f64::from(score - best) - mass.ln()).max(NEVER);
    let mut likeliest: Vec<(u32, f32)> = (0u32..).zip(scores.iter().copied()).filter(|one| one.1.is_finite()).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if likeliest.len() > top && top > 0 {
        likeliest.select_nth_unstable_by(top - 1, order);
    }
    likeliest.truncate(top);
    likeliest.sort_by(order);
    let score = scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let mut whole = entry(vocabulary, id, logprob(score));
    whole["top_logprobs"] =
        likeliest.into_iter().map(|(id, score)| entry(vocabulary, id, logprob(score))).collect::<Vec<_>>().into();
    whole
}

fn entry(vocabulary: &Vocabulary, id: u32, logprob: f64) -> Value {
    let bytes = vocabulary.bytes(id);
    json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
}
