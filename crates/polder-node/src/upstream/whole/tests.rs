//! What is taken of an engine's ranking and pictures, and what is not believed.

use serde_json::{Map, json};

use super::{image_body, images, ranking, rerank_body};
use crate::inference::{EngineError, ImageRequest, RerankRequest};

fn request(top_n: Option<u32>) -> RerankRequest {
    RerankRequest { model: "m".into(), query: "q".into(), documents: vec!["a".into(), "b".into(), "c".into()], top_n }
}

#[test]
fn a_ranking_is_put_into_order_and_cut() {
    let answer = || {
        let scores = [(1, 0.5), (0, 0.9), (2, 0.5)];
        let results: Vec<_> =
            scores.iter().map(|(i, s)| json!({"index": i, "relevance_score": s, "document": "x"})).collect();
        serde_json::from_value(json!({"results": results, "usage": {"total_tokens": 7}})).unwrap()
    };
    let ranked = ranking(answer(), &request(None)).unwrap();
    assert_eq!(ranked.results.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(ranked.prompt_tokens, 7);
    assert_eq!(ranking(answer(), &request(Some(1))).unwrap().results.len(), 1);
    assert_eq!(rerank_body(&request(None))["top_n"], 3);
}

#[test]
fn a_ranking_of_what_was_not_asked_is_a_failure() {
    for results in [
        json!([{"index": 3, "relevance_score": 0.1}]),
        json!([{"index": 0, "relevance_score": 0.1}, {"index": 0, "relevance_score": 0.2}]),
        json!([{"index": 0, "relevance_score": 1e300}]),
    ] {
        let answer = serde_json::from_value(json!({"results": results})).unwrap();
        assert!(matches!(ranking(answer, &request(None)), Err(EngineError::Failed { .. })), "{results}");
    }
}

#[test]
fn pictures_come_as_bytes_or_not_at_all() {
    let answer = |data| serde_json::from_value(json!({"data": [data]})).unwrap();
    assert_eq!(images(answer(json!({"b64_json": "aGVsbG8="}))).unwrap().images[0].base64, "aGVsbG8=");
    for data in [json!({"url": "http://127.0.0.1/x.png"}), json!({"b64_json": "<html>"})] {
        assert!(matches!(images(answer(data)), Err(EngineError::Failed { .. })));
    }
    let mut rest = Map::new();
    rest.insert("response_format".to_owned(), "url".into());
    rest.insert("size".to_owned(), "64x64".into());
    let asked = ImageRequest { model: "m".into(), prompt: "p".into(), n: 2, rest };
    let body = image_body(&asked).unwrap();
    assert_eq!((&body["response_format"], &body["size"], &body["n"]), (&json!("b64_json"), &json!("64x64"), &json!(2)));
}
