//! Models in one GGUF file: settings, tokenizer, template and quantised weights.
//!
//! Every tensor's size and place are checked against the file before one is read, so that a
//! cut or altered file is named and not run. Absent: mixtures of experts and architectures
//! beyond Llama's family.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use super::config::{DecoderConfig, RopeScaling};
use super::files::{model_file, model_tensor};
use super::sentencepiece;
use super::template::ChatTemplate;
use super::vocabulary::Vocabulary;
use super::weights::Tensors;
use crate::inference::EngineError;

/// An opened GGUF file.
pub(crate) struct Gguf {
    path: PathBuf,
    content: Content,
    reader: BufReader<File>,
}

impl Gguf {
    /// Opens a file and checks its header.
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let fail = |e: std::io::Error| model_file(path, e.to_string());
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader).map_err(|e| model_file(path, first_line(&e.to_string())))?;
        // Sorted, so that of several bad tensors the same one is named each time.
        let mut names: Vec<&String> = content.tensor_infos.keys().collect();
        names.sort();
        for name in names {
            if let Some(info) = content.tensor_infos.get(name) {
                check(info, content.tensor_data_offset, length).map_err(|reason| model_tensor(path, name, reason))?;
            }
        }
        Ok(Self { path: path.to_owned(), content, reader })
    }

    /// The decoder's shape, as the metadata tells it.
    pub(crate) fn config(&mut self) -> Result<DecoderConfig, EngineError> {
        let arch = self.text("general.architecture").unwrap_or_default();
        let interleaved = match arch.as_str() {
            "llama" => true,
            "qwen2" => false,
            other => {
                let reason = format!("architecture `{other}` is not supported");
                return Err(model_file(&self.path, reason));
            }
        };
        if self.number(&format!("{arch}.expert_count")).unwrap_or(0) > 1 {
            return Err(model_file(&self.path, "mixtures of experts are not supported"));
        }
        let need = |name: &str| {
            let key = format!("{arch}.{name}");
            self.number(&key)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| model_file(&self.path, format!("its metadata lacks `{key}`")))
        };
        let (hidden, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let head_dim = need("attention.key_length").unwrap_or(hidden / heads.max(1));
        let config = DecoderConfig {
            hidden,
            heads,
            head_dim,
            intermediate: need("feed_forward_length")?,
            vocabulary: self.rows("token_embd.weight"),
            layers: need("block_count")?,
            kv_heads: need("attention.head_count_kv").unwrap_or(heads),
            norm_eps: self.float(&format!("{arch}.attention.layer_norm_rms_epsilon")).unwrap_or(1e-5),
            rope_theta: self.float(&format!("{arch}.rope.freq_base")).unwrap_or(10_000.0),
            rope_scaling: RopeScaling::None,
            rope_interleaved: interleaved,
            context: need("context_length")?,
            tied: !self.content.tensor_infos.contains_key("output.weight"),
            sliding_window: need("attention.sliding_window").ok().filter(|n| *n > 0),
            eos: self.eos(),
        };
        if need("rope.dimension_count").unwrap_or(head_dim) != head_dim {
            return Err(model_file(&self.path, "partly rotated heads are not supported"));
        }
        config.check().map_err(|reason| model_file(&self.path, reason))?;
        let rope_scaling = self.rope_scaling(&arch, head_dim)?;
        Ok(DecoderConfig { rope_scaling, ..config })
    }

    fn rope_scaling(&mut self, arch: &str, head_dim: usize) -> Result<RopeScaling, EngineError> {
        if self.content.tensor_infos.contains_key("rope_freqs.weight") {
            let factors = self
                .read("rope_freqs.weight", &[head_dim / 2])?
                .dequantize(&Device::Cpu)
                .and_then(|t| t.to_vec1::<f32>())
                .map_err(|e| model_tensor(&self.path, "rope_freqs.weight", e.to_string()))?;
            return Ok(RopeScaling::Factors(factors));
        }
        let factor = self.float(&format!("{arch}.rope.scaling.factor")).unwrap_or(1.0);
        match self.text(&format!("{arch}.rope.scaling.type")).as_deref() {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") if factor > 0.0 => Ok(RopeScaling::Linear(factor)),
            Some(other) => Err(model_file(&self.path, format!("rope scaling of type `{other}` is not supported"))),
        }
    }

    /// The tokenizer beside the file, or else the one inside it.
    pub(crate) fn vocabulary(&mut self) -> Result<Vocabulary, EngineError> {
        let beside = self.path.with_file_name("tokenizer.json");
        if beside.is_file() {
            return Vocabulary::read(&beside);
        }
        let built = match self.text("tokenizer.ggml.model").as_deref() {
            Some("llama") => sentencepiece::tokenizer(&self.content.metadata),
            _ => self.byte_pairs(),
        };
        built.and_then(Vocabulary::new).map_err(|reason| model_file(&self.path, format!("its tokenizer: {reason}")))
    }

    /// A byte-pair tokenizer, cut into words as `tokenizer.ggml.pre` says.
    ///
    /// The library knows few of these names, and would cut the words of others wrongly without
    /// a word; such a file is refused unless a `tokenizer.json` lies beside it.
    fn byte_pairs(&mut self) -> Result<Tokenizer, String> {
        let pre = self.text("tokenizer.ggml.pre").unwrap_or_default();
        let mut set = |key: &str, value| self.content.metadata.insert(key.into(), value);
        match pre.as_str() {
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "smaug-bpe" => {
                set("tokenizer.ggml.pre", Value::String("llama3".into()));
                set("tokenizer.ggml.ignore_merges", Value::Bool(true));
            }
            "" | "default" | "gpt-2" | "gpt2" | "qwen2" | "smollm" | "starcoder" => {}
            other => {
                return Err(format!("words cut as `{other}` are not known; put the model's tokenizer.json beside it"));
            }
        }
        let built = Tokenizer::from_gguf(&self.content);
        let mut tokenizer = built.map_err(|e| first_line(&e.to_string()))?;
        let bytes = ByteLevel::new(false, true, true);
        match pre.as_str() {
            "smollm" | "starcoder" => {
                let steps = vec![Digits::new(true).into(), bytes.into()];
                tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
            }
            "" | "default" | "gpt-2" | "gpt2" => {
                tokenizer.with_pre_tokenizer(Some(bytes));
            }
            _ => {}
        }
        Ok(tokenizer)
    }

    /// The chat template inside the file.
    pub(crate) fn template(&self, vocabulary: &Vocabulary) -> Result<ChatTemplate, EngineError> {
        let token = |name: &str| {
            self.number(&format!("tokenizer.ggml.{name}"))
                .and_then(|id| vocabulary.token(u32::try_from(id).ok()?))
                .unwrap_or_default()
        };
        ChatTemplate::new(self.text("tokenizer.chat_template"), token("bos_token_id"), token("eos_token_id"))
            .map_err(|reason| model_file(&self.path, reason))
    }

    fn eos(&self) -> Vec<u32> {
        ["eos_token_id", "eot_token_id", "eom_token_id"]
            .iter()
            .filter_map(|name| self.number(&format!("tokenizer.ggml.{name}")))
            .filter_map(|id| u32::try_from(id).ok())
            .collect()
    }

    fn text(&self, key: &str) -> Option<String> {
        let value = self.content.metadata.get(key)?;
        value.to_string().ok().cloned()
    }

    fn number(&self, key: &str) -> Option<u64> {
        let value = self.content.metadata.get(key)?;
        match value {
            Value::I32(n) => u64::try_from(*n).ok(),
            Value::I64(n) => u64::try_from(*n).ok(),
            other => other.to_u64().ok(),
        }
    }

    fn float(&self, key: &str) -> Option<f64> {
        let value = self.content.metadata.get(key)?;
        let float = value.to_f32().map(f64::from).or_else(|_| value.to_f64()).ok()?;
        Some(float).filter(|f| f.is_finite())
    }

    fn rows(&self, name: &str) -> usize {
        let info = self.content.tensor_infos.get(name);
        info.and_then(|info| info.shape.dims().first().copied()).unwrap_or(0)
    }

    fn read(&mut self, name: &str, shape: &[usize]) -> Result<QTensor, EngineError> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(model_tensor(&self.path, name, "is missing"));
        };
        if info.shape.dims() != shape {
            let has = info.shape.dims();
            let reason = format!("has shape {has:?}, the model needs {shape:?}");
            return Err(model_tensor(&self.path, name, reason));
        }
        self.content
            .tensor(&mut self.reader, name, &Device::Cpu)
            .map_err(|e| model_tensor(&self.path, name, first_line(&e.to_string())))
    }

    fn dense(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let name = gguf_name(name);
        let tensor = self.read(&name, shape)?;
        tensor.dequantize(&Device::Cpu).map_err(|e| model_tensor(&self.path, &name, e.to_string()))
    }
}

impl Tensors for Gguf {
    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(&gguf_name(name))
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor, EngineError> {
        self.dense(name, &[length])
    }

    fn table(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor, EngineError> {
        self.dense(name, &[rows, columns])
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<QMatMul, EngineError> {
        let name = gguf_name(name);
        let tensor = self.read(&name, &[rows, columns])?;
        QMatMul::from_qtensor(tensor).map_err(|e| model_tensor(&self.path, &name, e.to_string()))
    }

    fn tied_head(&mut self, embedding: &Tensor) -> Result<QMatMul, EngineError> {
        // Multiplying with the quantised table is quicker than with its dense copy.
        let (rows, columns) = embedding.dims2().map_err(|e| model_file(&self.path, e.to_string()))?;
        self.matrix("model.embed_tokens.weight", rows, columns)
    }
}

/// GGUF's name for a tensor of Hugging Face's layout.
fn gguf_name(name: &str) -> String {
    let plain = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => "",
    };
    if !plain.is_empty() {
        return plain.into();
    }
    let Some((layer, part)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
        return name.into();
    };
    let names = [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let found = names.iter().find_map(|(from, to)| {
        let end = part.strip_prefix(from)?;
        Some(format!("blk.{layer}.{to}{end}"))
    });
    found.unwrap_or_else(|| name.into())
}

/// Whether a tensor's bytes lie inside the file.
fn check(info: &TensorInfo, data: u64, length: u64) -> Result<(), String> {
    let dims = info.shape.dims();
    let (block, bytes) = (info.ggml_dtype.block_size() as u64, info.ggml_dtype.type_size() as u64);
    let elements = dims
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d as u64))
        .ok_or_else(|| format!("shape {dims:?} overflows"))?;
    let last = dims.last().map_or(1, |&d| d as u64);
    if block == 0 || !last.is_multiple_of(block) {
        return Err(format!("shape {dims:?} is no multiple of its type's block of {block}"));
    }
    let end = (elements / block)
        .checked_mul(bytes)
        .and_then(|size| size.checked_add(info.offset))
        .and_then(|end| end.checked_add(data))
        .ok_or_else(|| format!("shape {dims:?} overflows"))?;
    match end <= length {
        true => Ok(()),
        false => Err(format!("needs a file of {end} bytes, it has {length}")),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
