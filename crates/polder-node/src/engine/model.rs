//! One loaded model: weights, tokenizer and template together, and what it answers.
//!
//! Everything here is read-only after loading and shared by all requests.

use std::path::Path;
use std::sync::OnceLock;

use candle_core::Tensor;

use super::config::{self, DecoderConfig, FolderModel};
use super::decoder::{Cache, Decoder};
use super::encoder::Encoder;
use super::files::{self, ModelSource};
use super::form::{Form, Wanted};
use super::gguf::Gguf;
use super::grammar::{Constraint, Grammars};
use super::parameters::Parameters;
use super::places::guarded;
use super::template::ChatTemplate;
use super::vocabulary::Vocabulary;
use super::weights::Safetensors;
use crate::inference::{EmbedInput, EmbedRequest, Embeddings, EngineError, Message, ModelInfo};

/// Prompts are read this many tokens at a time: it bounds memory, and a dropped request is
/// noticed between two pieces.
pub(crate) const READ_TOKENS: usize = 256;

/// Most inputs of one embedding request; OpenAI's own limit.
const INPUTS_MAX: usize = 2048;

enum Network {
    Decoder(Decoder),
    Encoder(Encoder),
}

impl Network {
    fn vocabulary(&self) -> usize {
        match self {
            Network::Decoder(decoder) => decoder.config().vocabulary,
            Network::Encoder(encoder) => encoder.config().vocab_size,
        }
    }

    fn hidden(&self) -> usize {
        match self {
            Network::Decoder(decoder) => decoder.config().hidden,
            Network::Encoder(encoder) => encoder.config().hidden_size,
        }
    }
}

/// A model that can answer.
pub(crate) struct Model {
    pub info: ModelInfo,
    network: Network,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    eos: Vec<u32>,
    /// Made when the first answer must have a form; `None` where the vocabulary is unfit.
    grammars: OnceLock<Option<Grammars>>,
}

impl Model {
    /// Loads a folder or a GGUF file; `context_tokens` caps the model's own context.
    pub(crate) fn load(source: &ModelSource, context_tokens: u32) -> Result<Self, EngineError> {
        if !source.path.exists() {
            return Err(files::model_file(&source.path, "does not exist"));
        }
        let mut model = match source.path.is_dir() {
            true => Self::load_folder(&source.path)?,
            false => Self::load_gguf(&source.path)?,
        };
        model.info.id.clone_from(&source.id);
        model.info.digest = files::digest(&source.path)?;
        model.info.context_tokens = model.info.context_tokens.min(context_tokens);
        Ok(model)
    }

    fn load_folder(folder: &Path) -> Result<Self, EngineError> {
        let config = config::read_folder(folder)?;
        let vocabulary = Vocabulary::read(&folder.join("tokenizer.json"))?;
        let template = ChatTemplate::read(folder)?;
        let mut tensors = Safetensors::open(folder)?;
        match config {
            FolderModel::Decoder(config) => {
                let decoder = Decoder::load(config, &mut tensors)?;
                Ok(Self::of_decoder(decoder, vocabulary, template))
            }
            FolderModel::Encoder(config) => {
                let context = config.max_position_embeddings;
                let encoder = Encoder::load(folder, config, tensors)?;
                Ok(Self {
                    info: info(context, false),
                    network: Network::Encoder(encoder),
                    vocabulary,
                    template,
                    eos: Vec::new(),
                    grammars: OnceLock::new(),
                })
            }
        }
    }

    fn load_gguf(path: &Path) -> Result<Self, EngineError> {
        let mut file = Gguf::open(path)?;
        let config = file.config()?;
        let vocabulary = file.vocabulary()?;
        let template = file.template(&vocabulary)?;
        let decoder = Decoder::load(config, &mut file)?;
        Ok(Self::of_decoder(decoder, vocabulary, template))
    }

    fn of_decoder(decoder: Decoder, vocabulary: Vocabulary, template: ChatTemplate) -> Self {
        let DecoderConfig { context, eos, .. } = decoder.config();
        let mut eos = eos.clone();
        if eos.is_empty() {
            eos.extend(vocabulary.id(template.eos()));
        }
        Self {
            info: info(*context, true),
            network: Network::Decoder(decoder),
            vocabulary,
            template,
            eos,
            grammars: OnceLock::new(),
        }
    }

    /// The decoder, where the model can chat.
    pub(crate) fn decoder(&self) -> Result<&Decoder, EngineError> {
        match &self.network {
            Network::Decoder(decoder) => Ok(decoder),
            Network::Encoder(_) => Err(invalid("model", "has embeddings only")),
        }
    }

    /// The model's tokenizer.
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The tokens that end an answer.
    pub(crate) fn ends(&self) -> &[u32] {
        &self.eos
    }

    /// Whether the model was taught the syntax of calls that is looked for in its answers.
    pub(crate) fn finds_calls(&self) -> bool {
        self.template.finds_calls()
    }

    /// What an answer is held to, if to anything.
    pub(crate) fn constraint(&self, wanted: &Wanted) -> Result<Option<Constraint>, EngineError> {
        let (schema, at) = match &wanted.form {
            Form::Text => return Ok(None),
            Form::Json(schema, at) | Form::Call(schema, at) => (schema, at),
        };
        let grammars = self.grammars.get_or_init(|| {
            let mut words = self.vocabulary.words()?.to_vec();
            words.resize(self.network.vocabulary(), Vec::new());
            let end = *self.eos.first()?;
            guarded(|| Grammars::new(&words, end)).ok()?.ok()
        });
        let grammars = grammars.as_ref().ok_or_else(|| EngineError::Unsupported { parameter: at.clone() })?;
        // Its limits come first, but the library may still panic on a schema it does not understand.
        guarded(|| grammars.constraint(schema, at))?.map(Some)
    }

    /// The prompt's tokens, and how many the answer may have.
    pub(crate) fn prompt(
        &self,
        messages: &[Message],
        parameters: &Parameters,
    ) -> Result<(Vec<u32>, usize), EngineError> {
        let ids = self.conversation(messages, &parameters.wanted)?;
        self.known(&ids, "messages")?;
        let biased: Vec<u32> = parameters.penalties.bias.keys().copied().collect();
        self.known(&biased, "logit_bias")?;
        if ids.is_empty() {
            return Err(invalid("messages", "hold no text"));
        }
        let limit = self.info.context_tokens as usize;
        let answer = parameters.max_tokens.map(|n| n as usize);
        let needs = ids.len().saturating_add(answer.unwrap_or(1));
        if needs > limit {
            return Err(EngineError::ContextLength { tokens: needs as u64, limit: limit as u64 });
        }
        let answer = answer.unwrap_or(limit - ids.len());
        Ok((ids, answer))
    }

    /// A conversation's tokens; what its texts spell never becomes a special token.
    fn conversation(&self, messages: &[Message], wanted: &Wanted) -> Result<Vec<u32>, EngineError> {
        let mut values = self.template.conversation(messages)?;
        if !self.template.given() {
            // The plain form has no special tokens of its own.
            return self.vocabulary.encode_plain(&self.template.render(&values, &[])?, true);
        }
        let count = values.len();
        values.extend(wanted.tools.iter().cloned());
        let mark = self.vocabulary.specials().guard(&mut values)?;
        let (messages, tools) = values.split_at(count);
        let text = self.template.render(messages, tools)?;
        match mark {
            None => self.vocabulary.encode(&text, false),
            Some(mark) => self.vocabulary.encode_marked(&text, mark),
        }
    }

    fn known(&self, ids: &[u32], parameter: &str) -> Result<(), EngineError> {
        let size = self.network.vocabulary();
        match ids.iter().find(|id| **id as usize >= size) {
            Some(id) => Err(invalid(parameter, format!("holds token {id}, the vocabulary has {size}"))),
            None => Ok(()),
        }
    }

    /// Reads tokens in pieces and shows each piece's states to `each`; `None` where it said stop.
    pub(crate) fn read(
        decoder: &Decoder,
        cache: &mut Cache,
        ids: &[u32],
        mut each: impl FnMut(&Tensor) -> candle_core::Result<bool>,
    ) -> Result<Option<Tensor>, EngineError> {
        let mut last = None;
        for piece in ids.chunks(READ_TOKENS) {
            let hidden = decoder.forward(piece, cache).map_err(failed)?;
            if !each(&hidden).map_err(failed)? {
                return Ok(None);
            }
            last = Some(hidden);
        }
        Ok(last)
    }

    /// The tokens of every input, checked against vocabulary and context.
    pub(crate) fn inputs(&self, request: &EmbedRequest) -> Result<Vec<Vec<u32>>, EngineError> {
        if request.inputs.is_empty() || request.inputs.len() > INPUTS_MAX {
            return Err(invalid("input", format!("must hold 1 to {INPUTS_MAX} inputs")));
        }
        if let Some(wanted) = request.dimensions {
            let has = self.network.hidden();
            if wanted == 0 || wanted as usize > has {
                let reason = format!("is {wanted}, this model has 1 to {has}");
                return Err(invalid("dimensions", reason));
            }
        }
        request.inputs.iter().map(|input| self.input(input)).collect()
    }

    fn input(&self, input: &EmbedInput) -> Result<Vec<u32>, EngineError> {
        let ids = match input {
            EmbedInput::Text(text) => self.vocabulary.encode(text, true)?,
            EmbedInput::Tokens(ids) => ids.clone(),
        };
        self.known(&ids, "input")?;
        if ids.is_empty() {
            return Err(invalid("input", "holds no text"));
        }
        let limit = u64::from(self.info.context_tokens);
        if ids.len() as u64 > limit {
            return Err(EngineError::ContextLength { tokens: ids.len() as u64, limit });
        }
        Ok(ids)
    }

    /// One unit vector for each input; `go_on` is asked between pieces of work.
    pub(crate) fn embed(
        &self,
        inputs: &[Vec<u32>],
        dimensions: Option<u32>,
        go_on: impl Fn() -> bool,
    ) -> Result<Embeddings, EngineError> {
        let mut vectors = Vec::with_capacity(inputs.len());
        for ids in inputs {
            if !go_on() {
                return Err(stopped());
            }
            let mut vector = match &self.network {
                Network::Decoder(decoder) => mean_state(decoder, ids, &go_on)?,
                Network::Encoder(encoder) => encoder.vector(ids).map_err(failed)?,
            };
            vector.truncate(dimensions.map_or(vector.len(), |n| n as usize));
            vectors.push(unit(vector)?);
        }
        let prompt_tokens = inputs.iter().map(|ids| ids.len() as u64).sum();
        Ok(Embeddings { vectors, prompt_tokens })
    }
}

/// The mean of a decoder's last hidden states over all tokens of a text.
fn mean_state(decoder: &Decoder, ids: &[u32], go_on: impl Fn() -> bool) -> Result<Vec<f32>, EngineError> {
    let mut sum = vec![0f32; decoder.config().hidden];
    let mut cache = decoder.cache();
    let read = Model::read(decoder, &mut cache, ids, |hidden| {
        for (sum, part) in sum.iter_mut().zip(hidden.sum(0)?.to_vec1::<f32>()?) {
            *sum += part;
        }
        Ok(go_on())
    })?;
    // The mean differs from the sum by a factor that the unit length takes away.
    read.map(|_| sum).ok_or_else(stopped)
}

fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>, EngineError> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(EngineError::Failed { reason: "the model gave a vector without a direction".into() });
    }
    for x in &mut vector {
        *x = (f64::from(*x) / length) as f32;
    }
    Ok(vector)
}

fn info(context: usize, chat: bool) -> ModelInfo {
    ModelInfo {
        id: String::new(),
        digest: String::new(),
        context_tokens: u32::try_from(context).unwrap_or(u32::MAX),
        chat,
        embed: true,
        rerank: true,
        image: false,
    }
}

pub(crate) fn invalid(parameter: &str, reason: impl Into<String>) -> EngineError {
    EngineError::Invalid { parameter: parameter.into(), reason: reason.into() }
}

/// An error of the tensor library; its texts name shapes and types, never a prompt.
pub(crate) fn failed(error: candle_core::Error) -> EngineError {
    EngineError::Failed { reason: error.to_string().lines().next().unwrap_or_default().to_owned() }
}

/// The caller went away; nobody reads this.
pub(crate) fn stopped() -> EngineError {
    EngineError::Failed { reason: "the request was dropped".into() }
}
