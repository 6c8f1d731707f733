//! The forward pass of a Llama-family decoder, with one key-value cache for each request.
//!
//! One pass serves dense and quantised weights, chat and embeddings: weights are shared and
//! never written, and what belongs to a request lives in its [`Cache`]. Absent: batching of
//! several requests into one pass, and gradients.

use candle_core::quantized::QMatMul;
use candle_core::{Device, Module, Result, Tensor};
use candle_nn::kv_cache::KvCache;

use super::config::DecoderConfig;
use super::weights::Tensors;
use crate::inference::EngineError;

/// The cache grows by this many tokens at a time.
const CACHE_STEP_TOKENS: usize = 256;

struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    fn load(
        tensors: &mut dyn Tensors,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let bias = format!("{name}.bias");
        Ok(Self {
            weight: tensors.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: match tensors.has(&bias) {
                true => Some(tensors.vector(&bias, outputs)?),
                false => None,
            },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// What one request has read so far.
///
/// Copies share their memory: each writes behind what it has read, so only one of them may go on at a time.
#[derive(Clone)]
pub(crate) struct Cache {
    layers: Vec<KvCache>,
    tokens: usize,
}

/// A decoder's weights.
pub(crate) struct Decoder {
    config: DecoderConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: QMatMul,
    frequencies: Vec<f32>,
}

impl Decoder {
    /// Takes the weights that `config` needs.
    pub(crate) fn load(config: DecoderConfig, tensors: &mut dyn Tensors) -> std::result::Result<Self, EngineError> {
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let embedding = tensors.table("model.embed_tokens.weight", vocabulary, hidden)?;
        let layers =
            (0..config.layers).map(|i| load_layer(&config, i, tensors)).collect::<std::result::Result<Vec<_>, _>>()?;
        let norm = tensors.vector("model.norm.weight", hidden)?;
        let head = match config.tied {
            true => tensors.tied_head(&embedding)?,
            false => tensors.matrix("lm_head.weight", vocabulary, hidden)?,
        };
        Ok(Self { frequencies: config.rope_frequencies(), config, embedding, layers, norm, head })
    }

    /// The numbers that the model was loaded with.
    pub(crate) fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// An empty cache.
    pub(crate) fn cache(&self) -> Cache {
        Cache { layers: (0..self.layers.len()).map(|_| KvCache::new(1, CACHE_STEP_TOKENS)).collect(), tokens: 0 }
    }

    /// Reads more tokens; gives the last hidden state of each, `[tokens, hidden]`.
    pub(crate) fn forward(&self, ids: &[u32], cache: &mut Cache) -> Result<Tensor> {
        let rotation = self.rotation(cache.tokens, ids.len())?;
        let mask = self.mask(cache.tokens, ids.len())?;
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let mut x = self.embedding.index_select(&ids, 0)?;
        let eps = self.config.norm_eps as f32;
        for (layer, kv) in self.layers.iter().zip(&mut cache.layers) {
            let normed = candle_nn::ops::rms_norm(&x, &layer.attention_norm, eps)?;
            let attended = self.attend(layer, &normed, kv, &rotation, mask.as_ref())?;
            x = (x + attended)?;
            let normed = candle_nn::ops::rms_norm(&x, &layer.feed_norm, eps)?;
            let gated = (layer.gate.forward(&normed)?.silu()? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        cache.tokens += ids.elem_count();
        candle_nn::ops::rms_norm(&x, &self.norm, eps)
    }

    /// The next token's scores after the last of `hidden`'s rows.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>> {
        let last = hidden.narrow(0, hidden.dim(0)? - 1, 1)?.contiguous()?;
        self.head.forward(&last)?.flatten_all()?.to_vec1()
    }

    fn attend(
        &self,
        layer: &Layer,
        x: &Tensor,
        kv: &mut KvCache,
        (cos, sin): &(Tensor, Tensor),
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let DecoderConfig { heads, kv_heads, head_dim, .. } = self.config;
        let tokens = x.dim(0)?;
        let split = |y: Tensor, heads: usize| y.reshape((1, tokens, heads, head_dim))?.transpose(1, 2)?.contiguous();
        let rotate = |y: &Tensor| match self.config.rope_interleaved {
            true => candle_nn::rotary_emb::rope_i(y, cos, sin),
            false => candle_nn::rotary_emb::rope(y, cos, sin),
        };
        let query = rotate(&split(layer.query.forward(x)?, heads)?)?;
        let key = rotate(&split(layer.key.forward(x)?, kv_heads)?)?.squeeze(0)?;
        let value = split(layer.value.forward(x)?, kv_heads)?.squeeze(0)?;
        let (key, value) = kv.append(&key, &value)?;
        let seen = key.dim(1)?;
        // Query heads that share a key head become rows of one product: nothing is repeated.
        let rows = heads / kv_heads * tokens;
        let query = (query * (1.0 / (head_dim as f64).sqrt()))?;
        let mut scores = query.reshape((kv_heads, rows, head_dim))?.matmul(&key.transpose(1, 2)?)?;
        if let Some(mask) = mask {
            scores = scores.reshape((heads, tokens, seen))?.broadcast_add(mask)?.reshape((kv_heads, rows, seen))?;
        }
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&value)?;
        let joined = mixed
            .reshape((heads, tokens, head_dim))?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((tokens, heads * head_dim))?;
        layer.output.forward(&joined)
    }

    /// Cosines and sines of `count` positions from `begin`.
    ///
    /// They are computed when needed: a table for a long context costs more memory than the
    /// small models' weights, and a step needs one row of it.
    fn rotation(&self, begin: usize, count: usize) -> Result<(Tensor, Tensor)> {
        let angles =
            (begin..begin + count).flat_map(|position| self.frequencies.iter().map(move |f| position as f32 * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        let shape = (count, self.frequencies.len());
        Ok((Tensor::from_vec(cos, shape, &Device::Cpu)?, Tensor::from_vec(sin, shape, &Device::Cpu)?))
    }

    /// Minus infinity where a token must not look: ahead, or further back than the window.
    fn mask(&self, begin: usize, count: usize) -> Result<Option<Tensor>> {
        let window = self.config.sliding_window.unwrap_or(usize::MAX);
        let seen = begin + count;
        if count == 1 && seen <= window {
            return Ok(None);
        }
        let mask: Vec<f32> = (begin..seen)
            .flat_map(|from| {
                (0..seen).map(move |to| match to <= from && from - to < window {
                    true => 0.0,
                    false => f32::NEG_INFINITY,
                })
            })
            .collect();
        Tensor::from_vec(mask, (count, seen), &Device::Cpu).map(Some)
    }
}

fn load_layer(config: &DecoderConfig, i: usize, tensors: &mut dyn Tensors) -> std::result::Result<Layer, EngineError> {
    let (hidden, intermediate) = (config.hidden, config.intermediate);
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let at = |name: &str| format!("model.layers.{i}.{name}");
    Ok(Layer {
        attention_norm: tensors.vector(&at("input_layernorm.weight"), hidden)?,
        query: Linear::load(tensors, &at("self_attn.q_proj"), queries, hidden)?,
        key: Linear::load(tensors, &at("self_attn.k_proj"), keys, hidden)?,
        value: Linear::load(tensors, &at("self_attn.v_proj"), keys, hidden)?,
        output: Linear::load(tensors, &at("self_attn.o_proj"), hidden, queries)?,
        feed_norm: tensors.vector(&at("post_attention_layernorm.weight"), hidden)?,
        gate: Linear::load(tensors, &at("mlp.gate_proj"), intermediate, hidden)?,
        up: Linear::load(tensors, &at("mlp.up_proj"), intermediate, hidden)?,
        down: Linear::load(tensors, &at("mlp.down_proj"), hidden, intermediate)?,
    })
}
