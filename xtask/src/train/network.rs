//! The model while it learns: Llama's layout, made only of operations that have gradients.
//!
//! The engine's own forward pass is not used here, because its fused operations have none.
//! That both agree is what the engine's tests of the finished model show.

use std::collections::{BTreeMap, HashMap};

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::ops::{log_softmax, rms_norm_slow, softmax};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// The model's measures.
#[derive(Clone, Copy)]
pub struct Shape {
    pub vocabulary: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub context: usize,
}

pub const NORM_EPS: f64 = 1e-5;
pub const ROPE_THETA: f64 = 10_000.0;

impl Shape {
    fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

/// The weights.
pub struct Network {
    shape: Shape,
    weights: BTreeMap<String, Var>,
}

/// A batch: texts of tokens, padded to one length, and how much each token counts.
pub struct Batch {
    pub rows: usize,
    pub columns: usize,
    pub inputs: Vec<u32>,
    pub targets: Vec<u32>,
    pub shares: Vec<f32>,
}

impl Network {
    /// Fresh weights, drawn from `seed`.
    pub fn new(shape: Shape, seed: u64) -> Result<Self> {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut weights = BTreeMap::new();
        let (h, i) = (shape.hidden, shape.intermediate);
        let keys = shape.kv_heads * shape.head_dim();
        let deep = 0.02 / (2.0 * shape.layers as f64).sqrt();
        let mut add = |name: String, dims: (usize, usize), scale: f64| -> Result<()> {
            let values: Vec<f32> = (0..dims.0 * dims.1).map(|_| (normal(&mut random) * scale) as f32).collect();
            weights.insert(name, Var::from_vec(values, dims, &Device::Cpu)?);
            Ok(())
        };
        add("model.embed_tokens.weight".into(), (shape.vocabulary, h), 0.02)?;
        for layer in 0..shape.layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
            add(at("self_attn.q_proj"), (h, h), 0.04)?;
            add(at("self_attn.k_proj"), (keys, h), 0.04)?;
            add(at("self_attn.v_proj"), (keys, h), 0.04)?;
            add(at("self_attn.o_proj"), (h, h), deep)?;
            add(at("mlp.gate_proj"), (i, h), 0.04)?;
            add(at("mlp.up_proj"), (i, h), 0.04)?;
            add(at("mlp.down_proj"), (h, i), deep)?;
        }
        let mut norms = vec!["model.norm.weight".to_owned()];
        for layer in 0..shape.layers {
            norms.push(format!("model.layers.{layer}.input_layernorm.weight"));
            norms.push(format!("model.layers.{layer}.post_attention_layernorm.weight"));
        }
        for name in norms {
            weights.insert(name, Var::ones(h, DType::F32, &Device::Cpu)?);
        }
        Ok(Self { shape, weights })
    }

    /// The weights to train, in a fixed order.
    pub fn vars(&self) -> Vec<Var> {
        self.weights.values().cloned().collect()
    }

    /// The weights in half precision, as they are stored.
    pub fn halves(&self) -> Result<HashMap<String, Tensor>> {
        self.weights.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().to_dtype(DType::F16)?))).collect()
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        match self.weights.get(name) {
            Some(var) => Ok(var.as_tensor()),
            None => candle_core::bail!("no weight `{name}`"),
        }
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.matmul(&self.weight(&format!("{name}.weight"))?.t()?)
    }

    /// Mean loss over a batch's tokens, each counted by its share.
    pub fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let count = batch.rows * batch.columns;
        let embedding = self.weight("model.embed_tokens.weight")?;
        let ids = Tensor::from_slice(&batch.inputs, count, &Device::Cpu)?;
        let mut x = embedding.index_select(&ids, 0)?;
        let (rotation, mask) = (self.rotation(batch.columns)?, mask(batch.columns)?);
        for layer in 0..self.shape.layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}");
            let normed = self.norm(&x, &at("input_layernorm.weight"))?;
            x = (x + self.attend(&normed, layer, batch, &rotation, &mask)?)?;
            let normed = self.norm(&x, &at("post_attention_layernorm.weight"))?;
            let gate = self.linear(&normed, &at("mlp.gate_proj"))?.silu()?;
            let gated = (gate * self.linear(&normed, &at("mlp.up_proj"))?)?;
            x = (x + self.linear(&gated, &at("mlp.down_proj"))?)?;
        }
        let x = self.norm(&x, "model.norm.weight")?;
        // Only rows that count need scores, and padding is a good part of some batches.
        let counted: Vec<u32> =
            (0u32..).zip(&batch.shares).filter(|(_, share)| **share > 0.0).map(|(at, _)| at).collect();
        let at = Tensor::new(counted.as_slice(), &Device::Cpu)?;
        let scores = x.index_select(&at, 0)?.matmul(&embedding.t()?)?;
        let targets = Tensor::from_slice(&batch.targets, count, &Device::Cpu)?.index_select(&at, 0)?.unsqueeze(1)?;
        let shares = Tensor::from_slice(&batch.shares, count, &Device::Cpu)?.index_select(&at, 0)?;
        let losses = log_softmax(&scores, D::Minus1)?.gather(&targets, 1)?.squeeze(1)?;
        ((losses * &shares)?.sum_all()? / shares.sum_all()?)?.neg()
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        rms_norm_slow(x, self.weight(name)?, NORM_EPS as f32)
    }

    fn attend(
        &self,
        x: &Tensor,
        layer: usize,
        batch: &Batch,
        (cos, sin): &(Tensor, Tensor),
        mask: &Tensor,
    ) -> Result<Tensor> {
        let (rows, columns) = (batch.rows, batch.columns);
        let Shape { heads, kv_heads, .. } = self.shape;
        let width = self.shape.head_dim();
        let at = |name: &str| format!("model.layers.{layer}.self_attn.{name}");
        let split = |name: &str, heads: usize| {
            self.linear(x, &at(name))?.reshape((rows, columns, heads, width))?.transpose(1, 2)?.contiguous()
        };
        let rotate = |y: Tensor| candle_nn::rotary_emb::rope_slow(&y, cos, sin);
        let grouped = (rows * kv_heads, heads / kv_heads * columns, width);
        let query = (rotate(split("q_proj", heads)?)? * (1.0 / (width as f64).sqrt()))?;
        let key = rotate(split("k_proj", kv_heads)?)?.reshape((rows * kv_heads, columns, width))?;
        let value = split("v_proj", kv_heads)?.reshape((rows * kv_heads, columns, width))?;
        let scores = query
            .reshape(grouped)?
            .matmul(&key.transpose(1, 2)?.contiguous()?)?
            .reshape((rows * heads, columns, columns))?
            .broadcast_add(mask)?;
        let mixed = softmax(&scores, D::Minus1)?
            .reshape((grouped.0, grouped.1, columns))?
            .matmul(&value)?
            .reshape((rows, heads, columns, width))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((rows * columns, heads * width))?;
        self.linear(&mixed, &at("o_proj"))
    }

    fn rotation(&self, columns: usize) -> Result<(Tensor, Tensor)> {
        let width = self.shape.head_dim();
        let angle =
            |position: usize, pair: usize| position as f32 * ROPE_THETA.powf(-2.0 * pair as f64 / width as f64) as f32;
        let (sin, cos): (Vec<f32>, Vec<f32>) =
            (0..columns).flat_map(|position| (0..width / 2).map(move |pair| angle(position, pair).sin_cos())).unzip();
        let dims = (columns, width / 2);
        Ok((Tensor::from_vec(cos, dims, &Device::Cpu)?, Tensor::from_vec(sin, dims, &Device::Cpu)?))
    }
}

/// Far below any score, and still a number, so that gradients stay numbers too.
const HIDDEN: f32 = -1e9;

fn mask(columns: usize) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..columns).flat_map(|from| (0..columns).map(move |to| if to <= from { 0.0 } else { HIDDEN })).collect();
    Tensor::from_vec(mask, (columns, columns), &Device::Cpu)
}

/// A draw from the normal distribution (Box and Muller's way).
fn normal(random: &mut Pcg64) -> f64 {
    let mut unit = || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (radius, turn) = (unit(), unit());
    (-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * turn).cos()
}
