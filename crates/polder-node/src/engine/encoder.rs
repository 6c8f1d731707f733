//! BERT-family encoders, which turn a text into one vector and cannot chat.
//!
//! Texts go through one by one, so there is no padding and the attention mask is all ones: the
//! mean over all tokens is the masked mean. Absent: re-ranking heads and other poolings than
//! the mean and the first token.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};

use super::files::{model_file, read_json};
use super::weights::Safetensors;
use crate::inference::EngineError;

/// How the tokens' vectors become one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pooling {
    Mean,
    First,
}

/// A loaded encoder.
pub(crate) struct Encoder {
    model: BertModel,
    config: Config,
    pooling: Pooling,
}

impl Encoder {
    /// Takes the weights that `config` needs.
    pub(crate) fn load(folder: &Path, config: Config, tensors: Safetensors) -> Result<Self, EngineError> {
        let pooling = pooling(folder)?;
        let builder = VarBuilder::from_tensors(tensors.all()?, DType::F32, &Device::Cpu);
        let model = BertModel::load(builder, &config).map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default().to_owned();
            model_file(&folder.join("model.safetensors"), reason)
        })?;
        Ok(Self { model, config, pooling })
    }

    /// The numbers that the model was loaded with.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The vector of one text's tokens.
    pub(crate) fn vector(&self, ids: &[u32]) -> candle_core::Result<Vec<f32>> {
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let states = self.model.forward(&ids, &ids.zeros_like()?, None)?.squeeze(0)?;
        match self.pooling {
            Pooling::Mean => states.mean(D::Minus2)?.to_vec1(),
            Pooling::First => states.get(0)?.to_vec1(),
        }
    }
}

fn pooling(folder: &Path) -> Result<Pooling, EngineError> {
    let path = folder.join("1_Pooling/config.json");
    if !path.is_file() {
        return Ok(Pooling::Mean);
    }
    let settings = read_json(&path)?;
    let on = |name: &str| settings.get(name).and_then(serde_json::Value::as_bool) == Some(true);
    match (on("pooling_mode_cls_token"), on("pooling_mode_mean_tokens")) {
        (true, false) => Ok(Pooling::First),
        (false, true) => Ok(Pooling::Mean),
        _ => Err(model_file(&path, "asks for a pooling that is not supported")),
    }
}
