//! Several choices in one answer, likelihoods of their tokens, penalties and bias, with the demo model.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{answer, ask, demo, engine, refused};
use crate::engine::embedded::Embedded;
use crate::engine::parameters::Penalties;
use crate::engine::vocabulary::Vocabulary;
use crate::inference::{ChatRequest, Engine as _, EngineError, Event, Usage};

/// One choice put together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Whole {
    pub text: String,
    pub reason: String,
    pub roles: Vec<String>,
    pub logprobs: Vec<Value>,
    pub calls: Vec<Value>,
}

/// All choices of an answer, each of which must end once, before the usage.
pub(super) async fn whole(engine: &Embedded, request: ChatRequest) -> Result<(Vec<Whole>, Usage), EngineError> {
    let mut stream = engine.chat(request).await?;
    let mut choices: Vec<Whole> = Vec::new();
    let mut usage = None;
    while let Some(step) = stream.next().await {
        assert_eq!(usage, None, "nothing after the usage");
        match step? {
            Event::Delta(delta) => {
                let index = delta.choice as usize;
                assert!(index <= choices.len(), "choices begin in order");
                if index == choices.len() {
                    choices.push(Whole::default());
                }
                let choice = &mut choices[index];
                assert_eq!(choice.reason, "", "nothing after a choice's end");
                choice.text += delta.content.as_deref().unwrap_or_default();
                if let Some(told) = delta.logprobs {
                    choice.logprobs.extend(told["content"].as_array().unwrap().clone());
                }
                choice.roles.extend(delta.rest.get("role").map(|role| role.as_str().unwrap().to_owned()));
                choice
                    .calls
                    .extend(delta.rest.get("tool_calls").into_iter().flat_map(|one| one.as_array().unwrap().clone()));
            }
            Event::Finish { choice, reason } => {
                if choices.len() == choice as usize {
                    choices.push(Whole::default());
                }
                assert_eq!(std::mem::replace(&mut choices[choice as usize].reason, reason), "", "one end");
            }
            Event::Usage(counts) => usage = Some(counts),
        }
    }
    Ok((choices, usage.expect("usage comes last")))
}

pub(super) fn with(request: ChatRequest, name: &str, value: Value) -> ChatRequest {
    let mut request = request;
    request.rest.insert(name.into(), value);
    request
}

#[tokio::test]
async fn each_choice_is_what_it_would_be_alone() {
    let engine = engine();
    // A prompt near a border of the cache, which grows in the middle of each choice.
    let long = "receipt log ".repeat(120);
    for (prompt, n) in [("Tell me a story.", 16u32), (long.as_str(), 3)] {
        let hot = |seed| ChatRequest { temperature: Some(1.5), seed: Some(seed), ..ask(prompt) };
        let (choices, usage) = whole(&engine, with(hot(7), "n", json!(n))).await.unwrap();
        assert_eq!(choices.len(), n as usize);
        let mut tokens = 0;
        for (i, choice) in choices.iter().enumerate() {
            let alone = answer(&engine, hot(7 + i as u64)).await.unwrap();
            assert_eq!((&choice.text, &choice.reason), (&alone.text, &alone.reason), "choice {i}");
            assert!(choice.roles.is_empty(), "the gateway writes the roles");
            assert_eq!(usage.prompt_tokens, alone.usage.prompt_tokens);
            tokens += alone.usage.completion_tokens;
        }
        assert_eq!(usage.completion_tokens, tokens);
        assert_ne!(choices[0].text, choices[1].text);
    }
}

#[tokio::test]
async fn likelihoods_are_told_for_every_token_of_the_text() {
    let engine = engine();
    let asked = with(with(ask("What is the capital of France?"), "logprobs", json!(true)), "top_logprobs", json!(3));
    let (choices, usage) = whole(&engine, asked.clone()).await.unwrap();
    let told = &choices[0].logprobs;
    // All but the token that ends the answer.
    assert_eq!(told.len() as u64, usage.completion_tokens - 1);
    let text: String = told.iter().map(|one| one["token"].as_str().unwrap()).collect();
    assert_eq!(text, choices[0].text);
    for one in told {
        assert_eq!(one["bytes"], json!(one["token"].as_str().unwrap().as_bytes()));
        let top = one["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&one["token"], &one["logprob"]), "greedy takes the first");
        let mass: f64 = top.iter().map(|one| one["logprob"].as_f64().unwrap().exp()).sum();
        assert!(mass > 0.3 && mass < 1.0 + 1e-9, "{mass}");
        assert!(top.is_sorted_by(|a, b| a["logprob"].as_f64() >= b["logprob"].as_f64()));
    }
    let bare = with(ask("What is the capital of France?"), "logprobs", json!(true));
    let (bare, _) = whole(&engine, bare).await.unwrap();
    assert!(bare[0].logprobs.iter().all(|one| one["top_logprobs"] == json!([])));
    assert_eq!(bare[0].logprobs.len(), told.len());
    // What a stop text takes away is not told; the text before it is.
    let stopped = ChatRequest { stop: vec!["of France".into()], ..asked };
    let (stopped, _) = whole(&engine, stopped).await.unwrap();
    let text: String = stopped[0].logprobs.iter().map(|one| one["token"].as_str().unwrap()).collect();
    assert!(text.starts_with("The capital") && !text.contains("France"), "{text:?}");
}

#[tokio::test]
async fn likelihoods_are_the_models_own() {
    let engine = engine();
    let asked = with(ask("What is the capital of France?"), "logprobs", json!(true));
    let (plain, _) = whole(&engine, asked.clone()).await.unwrap();
    let hot = ChatRequest { temperature: Some(1e-3), top_p: Some(0.5), ..asked };
    let (hot, _) = whole(&engine, hot).await.unwrap();
    assert_eq!(plain[0].logprobs, hot[0].logprobs);
}

#[tokio::test]
async fn half_a_character_is_told_by_its_bytes() {
    let vocabulary = Vocabulary::read(&demo().join("tokenizer.json")).unwrap();
    let half = vocabulary.encode("漢", false).unwrap()[0];
    let request = with(ask("Hello"), "logit_bias", json!({half.to_string(): 100}));
    let request = ChatRequest { max_tokens: Some(3), ..with(request, "logprobs", json!(true)) };
    let (choices, _) = whole(&engine(), request).await.unwrap();
    assert_eq!(choices[0].logprobs.len(), 3);
    assert_eq!(choices[0].logprobs[0]["bytes"], json!(vocabulary.bytes(half)));
    assert!(std::str::from_utf8(&vocabulary.bytes(half)).is_err(), "half a character");
}

#[tokio::test]
async fn bias_forces_and_bans_tokens() {
    let engine = engine();
    let vocabulary = Vocabulary::read(&demo().join("tokenizer.json")).unwrap();
    let ids = vocabulary.encode("The capital", false).unwrap();
    let banned = with(ask("What is the capital of France?"), "logit_bias", json!({ids[0].to_string(): -100}));
    let text = answer(&engine, banned).await.unwrap().text;
    assert!(!text.starts_with("The "), "{text}");
    let forced = with(ask("What is the capital of France?"), "logit_bias", json!({ids[0].to_string(): 100}));
    let forced = ChatRequest { max_tokens: Some(4), ..forced };
    assert_eq!(answer(&engine, forced).await.unwrap().text, "TheTheTheThe");
}

#[test]
fn penalties_grow_with_use() {
    let penalties = Penalties { frequency: 0.5, presence: 1.0, bias: BTreeMap::from([(2, 3.0), (9, 1.0)]) };
    let mut scores = [0.0f32, 0.0, 0.0, 0.0];
    penalties.apply(&mut scores, &BTreeMap::from([(0, 1), (2, 4)]));
    assert_eq!(scores, [-1.5, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn a_penalty_makes_repetition_rarer() {
    let engine = engine();
    let hot = ChatRequest { max_tokens: Some(200), seed: Some(3), ..ask("Tell me a story about Polder.") };
    let distinct = async |name: &str, value: f64| {
        let request = ChatRequest { stop: vec!["\u{0}".into()], ..with(hot.clone(), name, json!(value)) };
        let request = with(request, "logit_bias", json!({"1": -100}));
        let (choices, usage) = whole(&engine, with(request, "logprobs", json!(true))).await.unwrap();
        let seen: std::collections::BTreeSet<String> =
            choices[0].logprobs.iter().map(|one| one["token"].to_string()).collect();
        seen.len() as f64 / usage.completion_tokens as f64
    };
    for name in ["frequency_penalty", "presence_penalty"] {
        let (none, some) = (distinct(name, 0.0).await, distinct(name, 2.0).await);
        assert!(some > none, "{name}: {none} {some}");
    }
}

#[tokio::test]
async fn values_out_of_range_are_named() {
    let engine = engine();
    for (name, value, parameter) in [
        ("n", json!(0), "n"),
        ("n", json!(17), "n"),
        ("n", json!("2"), "n"),
        ("top_logprobs", json!(21), "top_logprobs"),
        ("top_logprobs", json!(2), "top_logprobs"),
        ("logprobs", json!("yes"), "logprobs"),
        ("frequency_penalty", json!(2.1), "frequency_penalty"),
        ("presence_penalty", json!(-3), "presence_penalty"),
        ("logit_bias", json!({"5": 101}), "logit_bias"),
        ("logit_bias", json!({"x": 1}), "logit_bias"),
        ("logit_bias", json!({"9999999": 1}), "logit_bias"),
        ("logit_bias", json!([5]), "logit_bias"),
    ] {
        let error = refused(&engine, with(ask("Hello"), name, value.clone())).await;
        assert!(
            matches!(&error, EngineError::Invalid { parameter: p, .. } if p == parameter),
            "{name} {value}: {error}"
        );
    }
}
