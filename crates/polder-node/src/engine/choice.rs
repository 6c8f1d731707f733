//! One choice while it is written: from the scores of all tokens to the next piece of the answer.
//!
//! The order matters: likelihoods are told of the model's own scores; then penalties and bias change them, then the form
//! takes what may not come, and then one is drawn. Absent: the forward pass.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::calls::{Demanded, Finder, Writer};
use super::form::Form;
use super::generate::Generation;
use super::grammar::Constraint;
use super::likelihood;
use super::model::Model;
use super::parameters::{Parameters, Penalties};
use super::sampler::Sampler;
use super::vocabulary::{Detokenizer, StopFilter};
use crate::inference::{Delta, EngineError};

/// What comes of one token.
pub(crate) struct Written {
    pub deltas: Vec<Delta>,
    /// Why the choice ended, if it has.
    pub end: Option<&'static str>,
}

/// A choice under way.
pub(crate) struct Choice<'a> {
    model: &'a Model,
    parameters: &'a Parameters,
    index: u32,
    sampler: Sampler,
    constraint: Option<Constraint>,
    detokenizer: Detokenizer<'a>,
    filter: StopFilter,
    writer: Writer,
    likelihoods: Option<Likelihoods>,
    counts: BTreeMap<u32, u32>,
    tokens: usize,
    limit: usize,
}

impl<'a> Choice<'a> {
    /// The choice with this index; each has a seed of its own.
    pub(crate) fn new(generation: &'a Generation, index: u32) -> Result<Self, EngineError> {
        let Generation { model, parameters, .. } = generation;
        let seed = match parameters.seed {
            Some(seed) => seed.wrapping_add(u64::from(index)),
            None => {
                getrandom::u64().map_err(|error| EngineError::Failed { reason: format!("no random seed: {error}") })?
            }
        };
        let writer = match &parameters.wanted.form {
            Form::Call(..) => Writer::Call(Demanded::default()),
            Form::Text if !parameters.wanted.tools.is_empty() && model.finds_calls() => {
                Writer::Found(Finder::default())
            }
            Form::Text | Form::Json(..) => Writer::Text,
        };
        Ok(Self {
            model,
            parameters,
            index,
            sampler: Sampler::new(seed, parameters.temperature, parameters.top_p),
            constraint: generation.constraint.as_ref().map(Constraint::fork),
            detokenizer: Detokenizer::new(model.vocabulary()),
            // A call cut in the middle would be none.
            filter: StopFilter::new(if writer.is_text() { parameters.stop.clone() } else { Vec::new() }),
            likelihoods: parameters.likely.filter(|_| writer.is_text()).map(Likelihoods::new),
            writer,
            counts: BTreeMap::new(),
            tokens: 0,
            limit: generation.limit,
        })
    }

    /// Tokens made so far, the one that ended the answer among them.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Takes the next token, given the scores of all.
    pub(crate) fn next(&mut self, mut scores: Vec<f32>) -> Result<(Option<u32>, Written), EngineError> {
        let own = self.likelihoods.is_some().then(|| scores.clone());
        self.parameters.penalties.apply(&mut scores, &self.counts);
        if let Some(constraint) = &mut self.constraint {
            constraint.restrict(&mut scores, self.model.ends())?;
        }
        let id = self.sampler.pick(&scores).ok_or_else(no_numbers)?;
        self.tokens += 1;
        if self.model.ends().contains(&id) {
            return Ok((None, self.end("stop")?));
        }
        if self.parameters.penalties.count() {
            *self.counts.entry(id).or_default() += 1;
        }
        if let (Some(likelihoods), Some(own)) = (&mut self.likelihoods, own) {
            likelihoods.take(self.model, &own, id);
        }
        let complete = self.constraint.as_mut().map_or(Ok(false), |constraint| constraint.push(id))?;
        let piece = self.detokenizer.push(id)?;
        let mut written = self.write(&piece)?;
        if written.end.is_none() && complete {
            written.add(self.end("stop")?);
        } else if written.end.is_none() && self.tokens >= self.limit {
            written.add(self.end("length")?);
        }
        Ok((Some(id), written))
    }

    /// Sends more text through the stop filter to the writer.
    fn write(&mut self, piece: &str) -> Result<Written, EngineError> {
        let (text, met) = self.filter.push(piece);
        let mut written = self.say(&text)?;
        if met {
            if let Some(likelihoods) = &mut self.likelihoods {
                likelihoods.cut();
            }
            written.add(self.close("stop"));
        }
        Ok(written)
    }

    fn say(&mut self, text: &str) -> Result<Written, EngineError> {
        let mut deltas = self.writer.push(text)?;
        if let Some(likelihoods) = &mut self.likelihoods {
            likelihoods.written += text.len();
            if let Some(delta) = deltas.last_mut() {
                delta.logprobs = likelihoods.give();
            }
        }
        deltas.iter_mut().for_each(|delta| delta.choice = self.index);
        Ok(Written { deltas, end: None })
    }

    /// Writes what was held back, and ends.
    fn end(&mut self, reason: &'static str) -> Result<Written, EngineError> {
        let piece = self.detokenizer.finish()?;
        let mut written = self.write(&piece)?;
        if written.end.is_none() {
            let held = self.filter.finish();
            written.add(self.say(&held)?);
            written.add(self.close(reason));
        }
        Ok(written)
    }

    fn close(&mut self, reason: &'static str) -> Written {
        let (mut deltas, reason) = self.writer.finish(reason);
        // Tokens whose text is held back for ever, such as half a character, are told all the same.
        if let Some(left) = self.likelihoods.as_mut().and_then(Likelihoods::give) {
            deltas.push(Delta { content: Some(String::new()), logprobs: Some(left), ..Delta::default() });
        }
        deltas.iter_mut().for_each(|delta| delta.choice = self.index);
        Written { deltas, end: Some(reason) }
    }
}

impl Written {
    fn add(&mut self, more: Written) {
        self.deltas.extend(more.deltas);
        self.end = self.end.or(more.end);
    }
}

impl Penalties {
    fn count(&self) -> bool {
        self.frequency != 0.0 || self.presence != 0.0
    }

    /// Changes the scores of all tokens, given how often each stands in the answer.
    pub(crate) fn apply(&self, scores: &mut [f32], counts: &BTreeMap<u32, u32>) {
        for (id, bias) in &self.bias {
            if let Some(score) = scores.get_mut(*id as usize) {
                *score += bias;
            }
        }
        for (id, count) in counts {
            if let Some(score) = scores.get_mut(*id as usize) {
                *score -= self.presence + self.frequency * *count as f32;
            }
        }
    }
}

/// Likelihoods of tokens whose text has not been sent yet.
struct Likelihoods {
    top: usize,
    /// Each with the length of the text before it.
    waiting: Vec<(usize, Value)>,
    read: usize,
    written: usize,
}

impl Likelihoods {
    fn new(top: usize) -> Self {
        Self { top, waiting: Vec::new(), read: 0, written: 0 }
    }

    fn take(&mut self, model: &Model, own: &[f32], id: u32) {
        let vocabulary = model.vocabulary();
        self.waiting.push((self.read, likelihood::told(vocabulary, own, id, self.top)));
        self.read += vocabulary.bytes(id).len();
    }

    /// A stop text was met: what lies behind it is no part of the answer.
    fn cut(&mut self) {
        let written = self.written;
        self.waiting.retain(|(before, _)| *before < written);
    }

    fn give(&mut self) -> Option<Value> {
        let told: Vec<Value> = std::mem::take(&mut self.waiting).into_iter().map(|(_, value)| value).collect();
        (!told.is_empty()).then(|| json!({"content": told, "refusal": null}))
    }
}

fn no_numbers() -> EngineError {
    EngineError::Failed { reason: "the model's scores leave no token to take".into() }
}
