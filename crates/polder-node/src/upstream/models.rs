//! The models of a factory whose engines run elsewhere: our names for theirs, and what a request may ask of each.
//!
//! Requests and statements use our name, the engine hears its own. Where models are listed, only those are offered. Counting a
//! prompt's tokens is absent: only the engine has the vocabulary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use polder_core::ids::ModelId;

use crate::config::{Offered, UpstreamModel};
use crate::inference::{ChatRequest, EngineError, ModelInfo};

/// Seconds after which a place of a model is worth another try.
const RETRY_AFTER_S: u32 = 2;

/// The listed models.
pub struct Models(BTreeMap<String, Listed>);

struct Listed {
    limits: UpstreamModel,
    running: Arc<AtomicU32>,
}

/// A taken place of a model; dropping it frees it.
pub struct Turn(Arc<AtomicU32>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Models {
    /// The models of a configuration.
    pub fn new(models: &BTreeMap<ModelId, UpstreamModel>) -> Self {
        let listed = |limits: &UpstreamModel| Listed { limits: limits.clone(), running: Arc::default() };
        Self(models.iter().map(|(id, limits)| (id.to_string(), listed(limits))).collect())
    }

    /// Whether no model is listed, so that all are offered under their own names.
    pub fn lists_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What the engine calls a model of ours.
    pub fn engines_name<'a>(&'a self, model: &'a str) -> Result<&'a str, EngineError> {
        if self.0.is_empty() {
            return Ok(model);
        }
        let listed = self.0.get(model).ok_or_else(|| EngineError::UnknownModel { model: model.to_owned() })?;
        Ok(listed.limits.alias_of.as_deref().unwrap_or(model))
    }

    /// Whether the engine does this with a model of ours, as an error where it does not: a home that asks all the same looks for
    /// another factory.
    pub fn must_do(&self, model: &str, what: Offered) -> Result<(), EngineError> {
        let does =
            self.0.get(model).map_or(matches!(what, Offered::Chat | Offered::Embed), |one| one.limits.does(what));
        if does { Ok(()) } else { Err(EngineError::UnknownModel { model: model.to_owned() }) }
    }

    /// Checks a conversation against its model's limits, writes the engine's name into it, and takes a place where places are
    /// counted.
    pub fn admit(&self, request: &mut ChatRequest) -> Result<Option<Turn>, EngineError> {
        let Some(listed) = self.0.get(&request.model) else {
            return self.engines_name(&request.model).map(|_| None);
        };
        let limits = &listed.limits;
        let asked = request.max_tokens.map(u64::from);
        if let (Some(limit), Some(tokens)) = (limits.context_tokens.map(u64::from), asked)
            && tokens >= limit
        {
            return Err(EngineError::ContextLength { tokens: tokens.saturating_add(1), limit });
        }
        match (limits.output_tokens_max, request.max_tokens) {
            (Some(most), Some(tokens)) if tokens > most => {
                let reason = format!("is {tokens}, and this model gives at most {most}");
                return Err(EngineError::Invalid { parameter: "max_tokens".to_owned(), reason });
            }
            (Some(most), None) => request.max_tokens = Some(most),
            _ => {}
        }
        let turn = self.turn(&request.model)?;
        if let Some(name) = &limits.alias_of {
            request.model.clone_from(name);
        }
        Ok(turn)
    }

    /// Takes a place of a model where they are counted.
    pub fn turn(&self, model: &str) -> Result<Option<Turn>, EngineError> {
        let Some(listed) = self.0.get(model) else { return Ok(None) };
        let Some(most) = listed.limits.concurrent else { return Ok(None) };
        let turn = Turn(Arc::clone(&listed.running));
        match listed.running.fetch_add(1, Ordering::AcqRel) < most {
            true => Ok(Some(turn)),
            false => Err(EngineError::Busy { retry_after_s: RETRY_AFTER_S }),
        }
    }

    /// What is offered of what the engines serve.
    pub fn offered(&self, served: Vec<ModelInfo>) -> Vec<ModelInfo> {
        let mut by_name: BTreeMap<String, ModelInfo> = BTreeMap::new();
        for info in served {
            match by_name.get_mut(&info.id) {
                Some(known) => known.context_tokens = least(known.context_tokens, info.context_tokens),
                None => drop(by_name.insert(info.id.clone(), info)),
            }
        }
        if self.0.is_empty() {
            return by_name.into_values().collect();
        }
        let offer = |(name, listed): (&String, &Listed)| {
            let info = by_name.get(listed.limits.alias_of.as_ref().unwrap_or(name))?;
            let context_tokens = least(info.context_tokens, listed.limits.context_tokens.unwrap_or(0));
            let does = |what| listed.limits.does(what);
            Some(ModelInfo {
                id: name.clone(),
                context_tokens,
                chat: does(Offered::Chat),
                embed: does(Offered::Embed),
                rerank: does(Offered::Rerank),
                image: does(Offered::Image),
                digest: info.digest.clone(),
            })
        };
        self.0.iter().filter_map(offer).collect()
    }
}

/// The lesser of two lengths, of which 0 means that nobody knows.
fn least(one: u32, other: u32) -> u32 {
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}

#[cfg(test)]
mod tests;
