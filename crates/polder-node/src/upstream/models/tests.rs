//! Tests of names and limits: the engine hears its own name, applications ours, and no limit is passed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn models(text: &str) -> Models {
    Models::new(&toml::from_str::<BTreeMap<ModelId, UpstreamModel>>(text).unwrap())
}

fn chat(model: &str, max_tokens: Option<u32>) -> ChatRequest {
    let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": max_tokens});
    serde_json::from_value(body).unwrap()
}

fn served(id: &str, context_tokens: u32) -> ModelInfo {
    ModelInfo {
        id: id.to_owned(),
        digest: String::new(),
        context_tokens,
        chat: true,
        embed: true,
        rerank: false,
        image: false,
    }
}

#[test]
fn the_engine_hears_its_own_name_and_we_ours() {
    let models = models("small = { alias_of = \"Org/Small-Instruct\" }\nbig = { context_tokens = 4096 }\nlost = {}");
    let mut request = chat("small", None);
    assert!(models.admit(&mut request).unwrap().is_none());
    assert_eq!(request.model, "Org/Small-Instruct");
    for unlisted in ["Org/Small-Instruct", "other"] {
        let unknown = EngineError::UnknownModel { model: unlisted.to_owned() };
        assert_eq!(models.admit(&mut chat(unlisted, None)).err(), Some(unknown));
    }
    let offered = models.offered(vec![served("Org/Small-Instruct", 8192), served("big", 0), served("other", 1)]);
    let offered: Vec<_> = offered.iter().map(|info| (info.id.as_str(), info.context_tokens)).collect();
    assert_eq!(offered, [("big", 4096), ("small", 8192)]);
}

#[test]
fn without_a_list_everything_is_offered_once() {
    let models = models("");
    let mut request = chat("any", Some(9));
    assert!(models.admit(&mut request).unwrap().is_none() && request.model == "any");
    let offered = models.offered(vec![served("a", 100), served("b", 7), served("a", 50), served("b", 0)]);
    assert_eq!(offered.iter().map(|info| info.context_tokens).collect::<Vec<_>>(), [50, 7]);
}

#[test]
fn limits_hold() {
    let models = models("m = { context_tokens = 100, output_tokens_max = 20, concurrent = 2 }");
    let mut request = chat("m", None);
    let first = models.admit(&mut request).unwrap().unwrap();
    assert_eq!(request.max_tokens, Some(20), "who asks for no limit gets the model's");
    let _second = models.admit(&mut chat("m", Some(20))).unwrap().unwrap();
    assert_eq!(models.admit(&mut chat("m", None)).err(), Some(EngineError::Busy { retry_after_s: RETRY_AFTER_S }));
    drop(first);
    let _third = models.admit(&mut chat("m", None)).unwrap().unwrap();
    let error = |tokens| models.admit(&mut chat("m", Some(tokens))).err().unwrap();
    assert!(matches!(error(21), EngineError::Invalid { parameter, .. } if parameter == "max_tokens"));
    assert_eq!(error(100), EngineError::ContextLength { tokens: 101, limit: 100 });
}
