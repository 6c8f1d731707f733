//! A tiny random BERT, made here, gives unit vectors and refuses to chat.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use serde_json::json;

use super::{Folder, ask, demo, embed, length, load, refused};
use crate::inference::{EmbedInput, Engine, EngineError};

const WIDTH: usize = 16;

fn bert() -> Folder {
    let folder = Folder::new();
    let mut tensors = HashMap::new();
    let mut seed = 1u32;
    let mut add = |name: &str, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), tensor);
    };
    add("embeddings.word_embeddings.weight", &[1536, WIDTH]);
    add("embeddings.position_embeddings.weight", &[64, WIDTH]);
    add("embeddings.token_type_embeddings.weight", &[2, WIDTH]);
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..2 {
        let at = |name: &str| format!("encoder.layer.{layer}.{name}");
        for name in ["query", "key", "value"] {
            add(&at(&format!("attention.self.{name}.weight")), &[WIDTH, WIDTH]);
            add(&at(&format!("attention.self.{name}.bias")), &[WIDTH]);
        }
        for (name, shape) in [
            ("attention.output.dense", [WIDTH, WIDTH]),
            ("intermediate.dense", [32, WIDTH]),
            ("output.dense", [WIDTH, 32]),
        ] {
            add(&at(&format!("{name}.weight")), &shape);
            add(&at(&format!("{name}.bias")), &shape[..1]);
        }
        norms.push(at("attention.output.LayerNorm"));
        norms.push(at("output.LayerNorm"));
    }
    for norm in norms {
        add(&format!("{norm}.weight"), &[WIDTH]);
        add(&format!("{norm}.bias"), &[WIDTH]);
    }
    candle_core::safetensors::save(&tensors, folder.0.join("model.safetensors")).unwrap();
    std::fs::copy(demo().join("tokenizer.json"), folder.0.join("tokenizer.json")).unwrap();
    let config = json!({
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 1536,
        "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 32, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "max_position_embeddings": 64, "type_vocab_size": 2, "initializer_range": 0.02,
        "layer_norm_eps": 1e-12, "pad_token_id": 0
    });
    std::fs::write(folder.0.join("config.json"), config.to_string()).unwrap();
    folder
}

fn text(text: &str) -> EmbedInput {
    EmbedInput::Text(text.into())
}

#[tokio::test]
async fn it_embeds_and_does_not_chat() {
    let folder = bert();
    let engine = load(&folder.0);
    assert_eq!(engine.failures(), []);
    let info = &engine.models()[0];
    assert!(info.embed && !info.chat);
    assert_eq!(info.context_tokens, 64);
    let inputs = vec![text("one text"), text("another, longer text"), text("one text")];
    let result = engine.embed(embed(inputs, None)).await.unwrap();
    for vector in &result.vectors {
        assert_eq!(vector.len(), WIDTH);
        assert!((length(vector) - 1.0).abs() < 1e-5);
    }
    assert_eq!(result.vectors[0], result.vectors[2]);
    assert_ne!(result.vectors[0], result.vectors[1]);
    let error = refused(&engine, ask("Hello")).await;
    assert!(matches!(error, EngineError::Invalid { .. }), "{error}");
    let long = engine.embed(embed(vec![text(&"word ".repeat(200))], None)).await;
    assert!(matches!(long, Err(EngineError::ContextLength { limit: 64, .. })));
}

#[tokio::test]
async fn the_folder_says_how_vectors_are_pooled() {
    let folder = bert();
    let vectors = async |folder: &Folder| {
        let engine = load(&folder.0);
        engine.embed(embed(vec![text("one text")], None)).await.unwrap().vectors
    };
    let mean = vectors(&folder).await;
    std::fs::create_dir(folder.0.join("1_Pooling")).unwrap();
    let settings = folder.0.join("1_Pooling/config.json");
    std::fs::write(&settings, r#"{"pooling_mode_cls_token": true}"#).unwrap();
    assert_ne!(vectors(&folder).await, mean);
    std::fs::write(&settings, r#"{"pooling_mode_max_tokens": true}"#).unwrap();
    assert_eq!(load(&folder.0).failures().len(), 1);
}
