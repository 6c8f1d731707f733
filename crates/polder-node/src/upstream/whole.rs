//! What an upstream engine answers in one piece: texts in their order, and pictures.
//!
//! Pictures come as bytes only. An address that an engine gives is not passed on: an application would fetch it from a place
//! that no policy looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failed;
use crate::inference::{EngineError, Image, ImageRequest, Images, Ranked, Ranking, RerankRequest, Usage};

/// An engine's ranking, in the shape that Cohere, Jina, vLLM and llama.cpp's server share.
#[derive(Deserialize)]
pub(super) struct RerankAnswer {
    results: Vec<RerankResult>,
    #[serde(default)]
    usage: Option<RerankUsage>,
}

#[derive(Deserialize)]
struct RerankResult {
    index: u32,
    relevance_score: f32,
}

#[derive(Deserialize)]
struct RerankUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}

/// What an engine is asked. The texts themselves are not asked back.
pub(super) fn rerank_body(request: &RerankRequest) -> Value {
    json!({
        "model": request.model, "query": request.query, "documents": request.documents,
        "top_n": request.top_n.map_or(request.documents.len(), |n| usize::try_from(n).unwrap_or(usize::MAX)),
        "return_documents": false,
    })
}

/// An engine's ranking, checked: each text at most once, and only those that were asked about.
pub(super) fn ranking(answer: RerankAnswer, request: &RerankRequest) -> Result<Ranking, EngineError> {
    let mut results: Vec<Ranked> = Vec::with_capacity(answer.results.len());
    let mut seen = std::collections::BTreeSet::new();
    for RerankResult { index, relevance_score: score } in answer.results {
        let asked = usize::try_from(index).is_ok_and(|index| index < request.documents.len());
        if !asked || !seen.insert(index) || !score.is_finite() {
            return Err(failed("the engine ranked a text that was not asked about, or one twice"));
        }
        results.push(Ranked { index, score });
    }
    let tokens = answer.usage.and_then(|usage| usage.prompt_tokens.or(usage.total_tokens)).unwrap_or(0);
    Ok(Ranking::of(results, request.top_n, tokens))
}

/// An engine's pictures.
#[derive(Deserialize)]
pub(super) struct ImageAnswer {
    data: Vec<ImageItem>,
    #[serde(default)]
    usage: Option<ImageUsage>,
}

#[derive(Deserialize)]
struct ImageItem {
    #[serde(default)]
    b64_json: Option<String>,
    #[serde(default)]
    revised_prompt: Option<String>,
}

#[derive(Deserialize)]
struct ImageUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

/// What an engine is asked: bytes, whatever its own default is.
pub(super) fn image_body(request: &ImageRequest) -> Result<Value, EngineError> {
    let mut body = serde_json::to_value(request).map_err(failed)?;
    body["response_format"] = "b64_json".into();
    Ok(body)
}

/// An engine's pictures, checked to be base64.
pub(super) fn images(answer: ImageAnswer) -> Result<Images, EngineError> {
    let one = |item: ImageItem| {
        let base64 =
            item.b64_json.ok_or_else(|| failed("the engine answered with a picture's address, not its bytes"))?;
        BASE64.decode(&base64).map_err(|_| failed("the engine's picture is not base64"))?;
        Ok(Image { base64, revised_prompt: item.revised_prompt })
    };
    let images = answer.data.into_iter().map(one).collect::<Result<Vec<Image>, EngineError>>()?;
    let usage = answer.usage.map_or_else(Usage::default, |usage| Usage {
        prompt_tokens: usage.input_tokens,
        completion_tokens: usage.output_tokens,
    });
    Ok(Images { images, usage })
}

#[cfg(test)]
mod tests;
