//! What a model's `config.json` says, read into the few numbers that the forward passes need.
//!
//! One `DecoderConfig` serves safetensors folders and GGUF files, so that both run the same
//! code. Absent: architectures whose forward pass we do not have. They are refused by name
//! instead of being run with the wrong arithmetic.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::files::{model_file, read_json};
use crate::inference::EngineError;

/// How positions are turned into rotations beyond the plain scheme.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    /// No scaling.
    None,
    /// Every frequency is divided by one factor.
    Linear(f64),
    /// Llama 3's scheme: low frequencies are divided, high ones kept, those between blended.
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
    /// One divisor for each frequency, as GGUF's `rope_freqs` tensor gives them.
    Factors(Vec<f32>),
}

/// The shape of a Llama-family decoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecoderConfig {
    pub hidden: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    /// GGUF stores Llama's projections permuted, so that neighbours rotate together.
    pub rope_interleaved: bool,
    pub context: usize,
    pub tied: bool,
    pub sliding_window: Option<usize>,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
}

/// What kind of model a folder holds.
pub(crate) enum FolderModel {
    Decoder(DecoderConfig),
    Encoder(candle_transformers::models::bert::Config),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    model_type: String,
}

#[derive(Deserialize)]
struct RawDecoder {
    hidden_size: usize,
    intermediate_size: usize,
    vocab_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    #[serde(alias = "rope_parameters")]
    rope_scaling: Option<RawRope>,
    max_position_embeddings: usize,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    hidden_act: Option<String>,
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Ids::One(id) => vec![id],
            Ids::Many(ids) => ids,
        }
    }
}

/// Reads and checks `config.json` (and `generation_config.json` where there is one).
pub(crate) fn read_folder(folder: &Path) -> Result<FolderModel, EngineError> {
    let path = folder.join("config.json");
    let value = read_json(&path)?;
    let raw: Raw = parse(&path, &value)?;
    let architecture = raw.architectures.first().map_or("", String::as_str);
    match (architecture, raw.model_type.as_str()) {
        ("LlamaForCausalLM" | "MistralForCausalLM" | "Qwen2ForCausalLM", _) | ("", "llama" | "mistral" | "qwen2") => {
            let mut config = decoder(&path, parse(&path, &value)?)?;
            let generation = folder.join("generation_config.json");
            if generation.is_file() {
                let ids = read_json(&generation)?.get("eos_token_id").cloned();
                if let Some(ids) = ids.filter(|v| !v.is_null()) {
                    config.eos = parse::<Ids>(&generation, &ids)?.into_vec();
                }
            }
            Ok(FolderModel::Decoder(config))
        }
        ("BertModel" | "BertForMaskedLM", _) | ("", "bert") => {
            let config = parse(&path, &value)?;
            encoder(&path, &config)?;
            Ok(FolderModel::Encoder(config))
        }
        _ => Err(model_file(
            &path,
            format!("architecture `{architecture}` (model_type `{}`) is not supported", raw.model_type),
        )),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, value: &Value) -> Result<T, EngineError> {
    T::deserialize(value).map_err(|error| model_file(path, error.to_string()))
}

fn decoder(path: &Path, raw: RawDecoder) -> Result<DecoderConfig, EngineError> {
    if let Some(act) = raw.hidden_act.as_deref().filter(|act| *act != "silu") {
        return Err(model_file(path, format!("hidden_act `{act}` is not supported")));
    }
    let rope_theta =
        raw.rope_theta.or_else(|| raw.rope_scaling.as_ref().and_then(|r| r.rope_theta)).unwrap_or(10_000.0);
    let config = DecoderConfig {
        hidden: raw.hidden_size,
        intermediate: raw.intermediate_size,
        vocabulary: raw.vocab_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
        head_dim: raw.head_dim.unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1)),
        norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta,
        rope_scaling: rope_scaling(path, raw.rope_scaling)?,
        rope_interleaved: false,
        context: raw.max_position_embeddings,
        tied: raw.tie_word_embeddings.unwrap_or(false),
        sliding_window: raw.sliding_window.filter(|_| raw.use_sliding_window.unwrap_or(true)),
        eos: raw.eos_token_id.map(Ids::into_vec).unwrap_or_default(),
    };
    config.check().map_err(|reason| model_file(path, reason))?;
    Ok(config)
}

fn rope_scaling(path: &Path, raw: Option<RawRope>) -> Result<RopeScaling, EngineError> {
    let Some(raw) = raw else {
        return Ok(RopeScaling::None);
    };
    let need = |name: &str, value: Option<f64>| {
        value
            .filter(|v| v.is_finite() && *v > 0.0)
            .ok_or_else(|| model_file(path, format!("`rope_scaling.{name}` is missing or not positive")))
    };
    match raw.rope_type.as_deref() {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear(need("factor", raw.factor)?)),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: need("factor", raw.factor)?,
            low: need("low_freq_factor", raw.low_freq_factor)?,
            high: need("high_freq_factor", raw.high_freq_factor)?,
            original: need("original_max_position_embeddings", raw.original_max_position_embeddings)?,
        }),
        Some(other) => Err(model_file(path, format!("rope_scaling of type `{other}` is not supported"))),
    }
}

/// Larger numbers than any real model has; they keep size arithmetic far from overflow.
const DIMENSION_MAX: usize = 1 << 24;

impl DecoderConfig {
    /// Whether the numbers fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("vocab_size", self.vocabulary),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.context),
        ];
        for (name, value) in sizes {
            if value == 0 || value > DIMENSION_MAX {
                return Err(format!("`{name}` is {value}, which no model has"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} attention heads cannot share {} key-value heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("`head_dim` {} is odd", self.head_dim));
        }
        if self.heads * self.head_dim > DIMENSION_MAX {
            return Err("the attention is wider than any model's".into());
        }
        Ok(())
    }

    /// One rotation frequency for each pair of a head's numbers.
    pub(crate) fn rope_frequencies(&self) -> Vec<f32> {
        (0..self.head_dim / 2)
            .map(|i| {
                let plain = self.rope_theta.powf(-2.0 * i as f64 / self.head_dim as f64);
                scaled(plain, i, &self.rope_scaling) as f32
            })
            .collect()
    }
}

fn scaled(plain: f64, i: usize, scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear(factor) => plain / factor,
        RopeScaling::Factors(factors) => plain / f64::from(factors.get(i).copied().unwrap_or(1.0)),
        RopeScaling::Llama3 { factor, low, high, original } => {
            let turns = original * plain / (2.0 * std::f64::consts::PI);
            if turns < *low {
                plain / factor
            } else if turns > *high {
                plain
            } else {
                let keep = (turns - low) / (high - low);
                keep * plain + (1.0 - keep) * plain / factor
            }
        }
    }
}

fn encoder(path: &Path, config: &candle_transformers::models::bert::Config) -> Result<(), EngineError> {
    let sizes = [
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("vocab_size", config.vocab_size),
        ("num_hidden_layers", config.num_hidden_layers),
        ("num_attention_heads", config.num_attention_heads),
        ("max_position_embeddings", config.max_position_embeddings),
        ("type_vocab_size", config.type_vocab_size),
    ];
    for (name, value) in sizes {
        if value == 0 || value > DIMENSION_MAX {
            return Err(model_file(path, format!("`{name}` is {value}, which no model has")));
        }
    }
    if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        return Err(model_file(path, "the heads do not divide `hidden_size`"));
    }
    Ok(())
}
