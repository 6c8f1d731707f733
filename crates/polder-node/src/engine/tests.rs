//! The engine with the demo model of this repository, as a node uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod choices;
mod damage;
mod encoder;
mod form;
mod gguf;
mod random_schemas;
mod spelled;
mod text;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;

use super::embedded::Embedded;
use super::{EngineLimits, ModelSource};
use crate::inference::{ChatRequest, Content, EmbedInput, EmbedRequest, Engine, EngineError, Event, Message, Usage};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/model")
}

fn load(path: &Path) -> Embedded {
    let source = ModelSource { id: "demo".into(), path: path.to_owned() };
    Embedded::load(&[source], EngineLimits::default())
}

fn engine() -> Embedded {
    let engine = load(&demo());
    assert_eq!(engine.failures(), []);
    engine
}

fn message(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: Some(Content::Text(text.into())), rest: Default::default() }
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest {
        model: "demo".into(),
        messages: vec![message("user", text)],
        max_tokens: Some(40),
        temperature: Some(0.0),
        top_p: None,
        seed: None,
        stop: vec![],
        stream: true,
        rest: Default::default(),
    }
}

struct Answer {
    pieces: Vec<String>,
    text: String,
    reason: String,
    usage: Usage,
}

async fn answer(engine: &Embedded, request: ChatRequest) -> Result<Answer, EngineError> {
    let mut stream = engine.chat(request).await?;
    let mut answer = Answer { pieces: vec![], text: String::new(), reason: String::new(), usage: Usage::default() };
    while let Some(step) = stream.next().await {
        match step? {
            Event::Delta(delta) => {
                assert_eq!(answer.reason, "", "no text after the end");
                answer.pieces.push(delta.content.clone().unwrap());
                answer.text += &delta.content.unwrap();
            }
            Event::Finish { choice, reason } => {
                assert_eq!(choice, 0);
                answer.reason = reason;
            }
            Event::Usage(usage) => answer.usage = usage,
        }
    }
    assert!(answer.usage.prompt_tokens > 0, "usage comes last");
    Ok(answer)
}

async fn refused(engine: &Embedded, request: ChatRequest) -> EngineError {
    match engine.chat(request).await {
        Ok(_) => panic!("should have been refused"),
        Err(error) => error,
    }
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("polder-engine-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn of_demo() -> Self {
        let folder = Self::new();
        for entry in std::fs::read_dir(demo()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.0.join(entry.file_name())).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_demo_model_says_what_it_is() {
    let engine = engine();
    assert_eq!(engine.backend(), "cpu");
    let models = engine.models();
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].id, "demo");
    assert_eq!(models[0].context_tokens, 512);
    assert!(models[0].chat && models[0].embed);
    assert_eq!(models[0].digest.len(), 64);
    assert_eq!(models[0].digest, self::engine().models()[0].digest);
}

#[test]
fn a_digest_covers_the_model_and_not_its_readme() {
    let folder = Folder::of_demo();
    let before = load(&folder.0).models()[0].digest.clone();
    std::fs::write(folder.0.join("TRAINED.md"), "other words").unwrap();
    assert_eq!(load(&folder.0).models()[0].digest, before);
    std::fs::write(folder.0.join("extra.json"), "{}").unwrap();
    assert_ne!(load(&folder.0).models()[0].digest, before);
}

#[tokio::test]
async fn it_answers_from_its_corpus_and_ends_by_itself() {
    let engine = engine();
    let asked = ask("What is the capital of France?");
    let first = answer(&engine, asked.clone()).await.unwrap();
    assert_eq!(first.text, "The capital of France is Paris.");
    assert_eq!(first.reason, "stop");
    assert!(first.pieces.len() > 1, "it comes piece by piece");
    assert_eq!(answer(&engine, asked).await.unwrap().text, first.text);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text() {
    let engine = engine();
    let asked =
        |seed| ChatRequest { temperature: Some(2.0), top_p: Some(0.95), seed: Some(seed), ..ask("Tell me a story.") };
    let text = async |seed| answer(&engine, asked(seed)).await.unwrap().text;
    let first = text(7).await;
    assert_eq!(text(7).await, first);
    assert_ne!(text(8).await, first);
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_and_is_not_part_of_it() {
    let engine = engine();
    let request =
        ChatRequest { stop: vec!["never there".into(), "of France".into()], ..ask("What is the capital of France?") };
    let answer = answer(&engine, request).await.unwrap();
    assert_eq!(answer.text, "The capital ");
    assert_eq!(answer.reason, "stop");
}

#[tokio::test]
async fn max_tokens_cuts_and_says_so() {
    let engine = engine();
    let request = ChatRequest { max_tokens: Some(3), ..ask("What is the capital of France?") };
    let answer = answer(&engine, request).await.unwrap();
    assert_eq!(answer.reason, "length");
    assert_eq!(answer.usage.completion_tokens, 3);
    assert!("The capital of France is Paris.".starts_with(&answer.text));
}

#[tokio::test]
async fn what_does_not_fit_the_context_is_refused_before_any_work() {
    let engine = engine();
    let long = ask(&"What is Polder? ".repeat(400));
    let EngineError::ContextLength { tokens, limit } = refused(&engine, long).await else {
        panic!("another error");
    };
    assert!(tokens > 512);
    assert_eq!(limit, 512);
    let short = ChatRequest { max_tokens: Some(512), ..ask("Hello") };
    let error = refused(&engine, short).await;
    assert!(matches!(error, EngineError::ContextLength { limit: 512, .. }));
}

#[tokio::test]
async fn parameters_that_would_change_the_answer_are_refused_by_name() {
    let engine = engine();
    let with = |name: &str, value: serde_json::Value| {
        let mut request = ask("Hello");
        request.rest.insert(name.into(), value);
        request
    };
    for (name, value) in [
        ("functions", json!([{"name": "f"}])),
        ("function_call", json!({"name": "f"})),
        ("top_k", json!(40)),
        ("min_p", json!(0.1)),
        ("repetition_penalty", json!(1.1)),
        ("best_of", json!(2)),
        ("modalities", json!(["audio"])),
        ("web_search_options", json!({})),
        ("made_up", json!(1)),
    ] {
        let error = refused(&engine, with(name, value)).await;
        assert_eq!(error, EngineError::Unsupported { parameter: name.into() });
    }
    for (name, value) in [
        ("tools", json!([])),
        ("response_format", json!({"type": "text"})),
        ("logprobs", json!(false)),
        ("presence_penalty", json!(0)),
        ("n", json!(1)),
        ("user", json!("someone")),
        ("made_up", json!(null)),
    ] {
        let mut request = with(name, value);
        request.max_tokens = Some(1);
        assert!(answer(&engine, request).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn values_out_of_range_are_refused_by_name() {
    let engine = engine();
    let name = async |request| match refused(&engine, request).await {
        EngineError::Invalid { parameter, .. } => parameter,
        other => panic!("{other}"),
    };
    let base = ask("Hello");
    let hot = ChatRequest { temperature: Some(2.1), ..base.clone() };
    assert_eq!(name(hot).await, "temperature");
    let none = ChatRequest { top_p: Some(0.0), ..base.clone() };
    assert_eq!(name(none).await, "top_p");
    let zero = ChatRequest { max_tokens: Some(0), ..base.clone() };
    assert_eq!(name(zero).await, "max_tokens");
    let empty = ChatRequest { messages: vec![], ..base.clone() };
    assert_eq!(name(empty).await, "messages");
    let stop = ChatRequest { stop: vec![String::new()], ..base };
    assert_eq!(name(stop).await, "stop");
}

#[tokio::test]
async fn an_unknown_model_is_named() {
    let request = ChatRequest { model: "gpt-9".into(), ..ask("Hello") };
    let error = refused(&engine(), request).await;
    assert_eq!(error.to_string(), "model `gpt-9` is not served here");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_run_side_by_side_without_touching_each_other() {
    let engine = engine();
    let questions = ["What is the capital of France?", "What is Polder?", "Hello"];
    let mut alone = vec![];
    for question in questions {
        alone.push(answer(&engine, ask(question)).await.unwrap().text);
    }
    let all = (0..12).map(|i| answer(&engine, ask(questions[i % 3])));
    let together = futures_util::future::join_all(all).await;
    for (i, answer) in together.into_iter().enumerate() {
        assert_eq!(answer.unwrap().text, alone[i % 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_gives_its_place_back() {
    let source = ModelSource { id: "demo".into(), path: demo() };
    let limits = EngineLimits { parallel: 1, queue: 1, ..EngineLimits::default() };
    let engine = Embedded::load(&[source], limits);
    // Hot enough never to end by itself: it would fill the whole context.
    let long = ChatRequest { max_tokens: None, temperature: Some(2.0), seed: Some(1), ..ask("Tell me all.") };
    let running = engine.chat(long.clone()).await.unwrap();
    let waiting = engine.chat(ask("Hello"));
    tokio::pin!(waiting);
    let soon = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(soon.is_err(), "the only place is taken");
    let error = refused(&engine, ask("Hello")).await;
    assert!(matches!(error, EngineError::Busy { retry_after_s: 1..=120 }), "{error}");
    drop(running);
    let served = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(served.unwrap().is_ok());
}

fn embed(inputs: Vec<EmbedInput>, dimensions: Option<u32>) -> EmbedRequest {
    EmbedRequest { model: "demo".into(), inputs, dimensions }
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[tokio::test]
async fn a_decoder_gives_unit_vectors_too() {
    let engine = engine();
    let texts = ["What is Polder?", "Explain Polder.", "The capital of France is Paris."];
    let inputs: Vec<_> = texts.iter().map(|t| EmbedInput::Text((*t).into())).collect();
    let whole = engine.embed(embed(inputs.clone(), None)).await.unwrap();
    assert_eq!(whole.vectors.len(), 3);
    assert!(whole.prompt_tokens > 10);
    let cut = engine.embed(embed(inputs, Some(16))).await.unwrap();
    for (long, short) in whole.vectors.iter().zip(&cut.vectors) {
        assert!((length(long) - 1.0).abs() < 1e-5);
        assert!((length(short) - 1.0).abs() < 1e-5);
        assert_eq!(short.len(), 16);
    }
    let dot = |a: usize, b: usize| -> f32 { whole.vectors[a].iter().zip(&whole.vectors[b]).map(|(x, y)| x * y).sum() };
    assert!(dot(0, 1) > dot(0, 2), "like texts lie closer together");
}

#[tokio::test]
async fn bad_embedding_requests_are_refused() {
    let engine = engine();
    let width = engine.embed(embed(vec![EmbedInput::Tokens(vec![5, 6])], None)).await;
    let width = width.unwrap().vectors[0].len() as u32;
    for (inputs, dimensions, parameter) in [
        (vec![EmbedInput::Text("a".into())], Some(width + 1), "dimensions"),
        (vec![EmbedInput::Text("a".into())], Some(0), "dimensions"),
        (vec![EmbedInput::Tokens(vec![9_999_999])], None, "input"),
        (vec![EmbedInput::Tokens(vec![])], None, "input"),
        (vec![], None, "input"),
    ] {
        let error = engine.embed(embed(inputs, dimensions)).await.unwrap_err();
        assert!(matches!(&error, EngineError::Invalid { parameter: p, .. } if p == parameter), "{error}");
    }
}

#[tokio::test]
async fn mistral_runs_as_llama_with_a_window() {
    let folder = Folder::of_demo();
    let path = folder.0.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["architectures"] = json!(["MistralForCausalLM"]);
    config["model_type"] = json!("mistral");
    config["sliding_window"] = json!(300);
    std::fs::write(&path, config.to_string()).unwrap();
    let question = ask("What is the capital of France?");
    let llama = answer(&engine(), question.clone()).await.unwrap().text;
    let mistral = load(&folder.0);
    assert_eq!(mistral.failures(), []);
    assert_eq!(answer(&mistral, question).await.unwrap().text, llama);
}
