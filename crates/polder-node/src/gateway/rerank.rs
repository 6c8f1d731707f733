//! `/v1/rerank`: a query and texts in, the texts in their order out, in the shape that Cohere, Jina and vLLM share.
//!
//! Where a factory's engine has no model of its own for it, texts are ordered by the angle between their vectors and the
//! query's. To the policies it is making vectors: the same texts are read.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use polder_core::ids::{DecisionId, ModelId, NodeId};
use serde_json::{Value, json};

use super::answer::answer_id;
use super::answer::begin;
use super::body::{Parameters, read_object};
use super::{ApiError, Gateway, answer_json, labels, limits};
use crate::inference::{Ranking, RerankRequest};
use crate::peers::wire::{Frame, Offer, Work};

/// Most texts of one request, as Cohere has it.
const DOCUMENTS_MAX: usize = 1000;

/// What is asked, and how the answer is to be written.
struct Asked {
    request: RerankRequest,
    /// The texts as they came, where they are to be in the answer.
    documents: Option<Vec<Value>>,
}

/// `POST /v1/rerank`
pub async fn rank(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, &headers, &mut metadata)?;
    let Asked { request, documents } = asked(parameters)?;
    let model = request.model.clone();
    gateway.must_offer(&model, "order texts by a query", |offer| offer.rerank)?;
    let id = ModelId::parse(&model).map_err(|_| ApiError::unknown_model(&model))?;
    let texts = request.documents.iter().chain([&request.query]).map(String::len);
    let meter = gateway.meter_texts(&caller, &labels, &id, texts).await?;
    let (placed, mut meter) = begin(&gateway, &caller, labels, Work::Rerank(request), meter).await?;
    let Frame::Ranking(ranking) = placed.first else {
        return Err(ApiError::internal("a factory answered something else than a ranking"));
    };
    meter.used_by_reading(ranking.prompt_tokens);
    gateway.home.keep_rest(placed.decision.clone(), placed.rest);
    let answer = answer(&placed.decision, &placed.factory, &model, &ranking, documents.as_deref());
    Ok(limits::with_rates(answer, meter.rates()))
}

fn answer(
    decision: &DecisionId,
    factory: &NodeId,
    model: &str,
    ranking: &Ranking,
    documents: Option<&[Value]>,
) -> Response {
    let one = |ranked: &crate::inference::Ranked| {
        let mut entry = json!({"index": ranked.index, "relevance_score": ranked.score});
        let place = usize::try_from(ranked.index).ok();
        if let Some(document) = documents.and_then(|all| all.get(place?)) {
            entry["document"] = document.clone();
        }
        entry
    };
    let results: Vec<Value> = ranking.results.iter().map(one).collect();
    let usage = json!({"prompt_tokens": ranking.prompt_tokens, "total_tokens": ranking.prompt_tokens});
    let body = json!({"id": answer_id(decision, "rerank"), "model": model, "results": results, "usage": usage});
    answer_json(decision, factory, &body)
}

fn asked(mut parameters: Parameters) -> Result<Asked, ApiError> {
    let model = parameters.text("model")?;
    let query = parameters.text("query")?;
    if query.is_empty() {
        return Err(ApiError::parameter("query", "invalid_value", "`query` must not be empty"));
    }
    let Value::Array(items) = parameters.required("documents")? else {
        return Err(ApiError::parameter("documents", "invalid_type", "`documents` must be an array"));
    };
    if items.is_empty() || items.len() > DOCUMENTS_MAX {
        let message = format!("`documents` must hold 1 to {DOCUMENTS_MAX} texts");
        return Err(ApiError::parameter("documents", "invalid_value", message));
    }
    let top_n = parameters.integer("top_n", 1)?.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let give_back = match parameters.take("return_documents") {
        None | Some(Value::Bool(true)) => true,
        Some(Value::Bool(false)) => false,
        Some(_) => {
            let message = "`return_documents` must be a boolean";
            return Err(ApiError::parameter("return_documents", "invalid_type", message));
        }
    };
    parameters.take("user");
    if let Some((name, _)) = parameters.0.into_iter().find(|(_, value)| !value.is_null()) {
        let message = format!("`{name}` is not supported for ordering texts");
        return Err(ApiError::parameter(&name, "unsupported_parameter", message));
    }
    let documents = items.iter().enumerate().map(text_of).collect::<Result<Vec<String>, _>>()?;
    let given = |item: Value| if item.is_string() { json!({"text": item}) } else { item };
    let back = give_back.then(|| items.into_iter().map(given).collect());
    Ok(Asked { request: RerankRequest { model, query, documents, top_n }, documents: back })
}

/// A text, or an object that holds one.
fn text_of((index, item): (usize, &Value)) -> Result<String, ApiError> {
    let text = item.as_str().or_else(|| item.get("text")?.as_str());
    text.filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| {
        let name = format!("documents[{index}]");
        let message = format!("`{name}` must be a text, or an object with a `text`, and not empty");
        ApiError::parameter(&name, "invalid_value", message)
    })
}

impl Gateway {
    /// That some factory does this with a model; the error tells a model that cannot from one that is not there.
    pub(super) fn must_offer(&self, model: &str, what: &str, does: impl Fn(&Offer) -> bool) -> Result<(), ApiError> {
        let id = ModelId::parse(model).map_err(|_| ApiError::unknown_model(model))?;
        let known = self.home.view.known();
        let mut offers = known.values().filter_map(|known| known.status.as_ref()).flat_map(|status| &status.models);
        let mut there = false;
        if offers.any(|offer| {
            there |= offer.model == id;
            offer.model == id && does(offer)
        }) {
            return Ok(());
        }
        if !there {
            return Err(ApiError::unknown_model(model));
        }
        let message = format!("`{id}` does not {what} at any factory; `GET /v1/models` lists the models");
        Err(ApiError::parameter("model", "unsupported_parameter", message))
    }
}
