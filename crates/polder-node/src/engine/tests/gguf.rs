//! A GGUF file made from the demo model answers as the folder does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::super::sentencepiece;
use super::super::vocabulary::{Detokenizer, Vocabulary};
use super::{Folder, answer, ask, demo, engine, load};
use crate::inference::{Engine, EngineError};

/// GGUF wants the rows of a rotated projection in pairs: (0, n/2), (1, n/2 + 1) and so on.
fn paired(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = tensor.dims2().unwrap();
    let width = rows / heads;
    tensor
        .reshape((heads, 2, width / 2, columns))
        .unwrap()
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
        .reshape((rows, columns))
        .unwrap()
}

fn gguf_name(name: &str) -> String {
    name.replace("model.embed_tokens", "token_embd")
        .replace("model.norm", "output_norm")
        .replace("model.layers.", "blk.")
        .replace("input_layernorm", "attn_norm")
        .replace("post_attention_layernorm", "ffn_norm")
        .replace("self_attn.q_proj", "attn_q")
        .replace("self_attn.k_proj", "attn_k")
        .replace("self_attn.v_proj", "attn_v")
        .replace("self_attn.o_proj", "attn_output")
        .replace("mlp.gate_proj", "ffn_gate")
        .replace("mlp.up_proj", "ffn_up")
        .replace("mlp.down_proj", "ffn_down")
}

fn settings() -> (serde_json::Value, serde_json::Value, serde_json::Value) {
    let read = |name: &str| serde_json::from_str(&std::fs::read_to_string(demo().join(name)).unwrap()).unwrap();
    (read("config.json"), read("tokenizer.json"), read("tokenizer_config.json"))
}

fn metadata() -> Vec<(&'static str, Value)> {
    let (config, tokenizer, words) = settings();
    let number = |key: &str| Value::U32(config[key].as_u64().unwrap() as u32);
    let mut tokens = vec![String::new(); config["vocab_size"].as_u64().unwrap() as usize];
    for (token, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let kinds = (0..tokens.len()).map(|id| Value::I32(if id < 5 { 3 } else { 1 }));
    let merges = tokenizer["model"]["merges"].as_array().unwrap().iter().map(|merge| {
        let part = |i: usize| merge[i].as_str().unwrap();
        Value::String(format!("{} {}", part(0), part(1)))
    });
    let text = |text: &str| Value::String(text.into());
    vec![
        ("general.architecture", text("llama")),
        ("llama.embedding_length", number("hidden_size")),
        ("llama.feed_forward_length", number("intermediate_size")),
        ("llama.block_count", number("num_hidden_layers")),
        ("llama.attention.head_count", number("num_attention_heads")),
        ("llama.attention.head_count_kv", number("num_key_value_heads")),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.context_length", number("max_position_embeddings")),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Array(tokens.into_iter().map(Value::String).collect())),
        ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
        ("tokenizer.ggml.merges", Value::Array(merges.collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(1)),
        ("tokenizer.chat_template", text(words["chat_template"].as_str().unwrap())),
    ]
}

/// Writes the demo model as GGUF, its matrices as `dtype`.
fn write(folder: &Folder, dtype: GgmlDType) -> PathBuf {
    let (config, ..) = settings();
    let heads = |key: &str| config[key].as_u64().unwrap() as usize;
    let tensors = candle_core::safetensors::load(demo().join("model.safetensors"), &Device::Cpu).unwrap();
    let mut made = Vec::new();
    for (name, tensor) in tensors {
        let mut tensor = tensor.to_dtype(DType::F32).unwrap();
        if name.contains("q_proj") {
            tensor = paired(&tensor, heads("num_attention_heads"));
        } else if name.contains("k_proj") {
            tensor = paired(&tensor, heads("num_key_value_heads"));
        }
        let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { dtype };
        made.push((gguf_name(&name), QTensor::quantize(&tensor, dtype).unwrap()));
    }
    made.sort_by(|a, b| a.0.cmp(&b.0));
    let path = folder.0.join("demo.gguf");
    let mut file = std::fs::File::create(&path).unwrap();
    let metadata = metadata();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    let tensors: Vec<(&str, &QTensor)> = made.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    path
}

#[tokio::test]
async fn it_answers_as_the_folder_does() {
    let reference = engine();
    for dtype in [GgmlDType::F32, GgmlDType::Q8_0] {
        let folder = Folder::new();
        let quantised = load(&write(&folder, dtype));
        assert_eq!(quantised.failures(), []);
        assert_eq!(quantised.models()[0].context_tokens, 512);
        for question in ["What is the capital of France?", "Who are you?"] {
            let one = answer(&reference, ask(question)).await.unwrap();
            let two = answer(&quantised, ask(question)).await.unwrap();
            assert_eq!(one.text, two.text, "{dtype:?}");
            assert_eq!(one.usage, two.usage);
        }
    }
}

fn failure(path: &Path) -> (String, String) {
    let engine = load(path);
    match engine.failures().into_iter().next() {
        Some((_, EngineError::ModelFile { file, reason })) => (file, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cut_files_are_named_with_their_tensor() {
    let folder = Folder::new();
    let path = write(&folder, GgmlDType::Q8_0);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    let (file, reason) = failure(&path);
    assert!(file.contains("demo.gguf, tensor token_embd.weight"), "{file}");
    assert!(reason.contains("needs a file of"), "{reason}");
    for keep in [0, 3, 4, 8, 24, 100, 5000, 40_000] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        assert!(failure(&path).0.contains("demo.gguf"));
    }
}

#[test]
fn altered_bytes_in_the_header_never_panic_the_engine() {
    let folder = Folder::new();
    let path = write(&folder, GgmlDType::Q8_0);
    let bytes = std::fs::read(&path).unwrap();
    for at in [0, 4, 8, 15, 16, 23, 24, 31, 40, 60, 90] {
        let mut bad = bytes.clone();
        bad[at] ^= 0xff;
        std::fs::write(&path, &bad).unwrap();
        let engine = load(&path);
        assert_eq!(engine.models().len() + engine.failures().len(), 1);
    }
}

#[test]
fn a_sentencepiece_vocabulary_is_rebuilt_from_pieces_and_scores() {
    let mut pieces = vec!["<unk>".to_owned(), "<s>".into(), "</s>".into()];
    pieces.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    let words = ["▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "lo"];
    pieces.extend(words.iter().map(|w| (*w).to_owned()));
    let count = pieces.len();
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..=258 => 6,
        _ => 1,
    };
    let list = |values: Vec<Value>| Value::Array(values);
    let metadata = HashMap::from([
        ("tokenizer.ggml.tokens".into(), list(pieces.into_iter().map(Value::String).collect())),
        ("tokenizer.ggml.scores".into(), list((0..count).map(|i| Value::F32(-(i as f32))).collect())),
        ("tokenizer.ggml.token_type".into(), list((0..count).map(|i| Value::I32(kind(i))).collect())),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(1)),
    ]);
    let vocabulary = Vocabulary::new(sentencepiece::tokenizer(&metadata).unwrap()).unwrap();
    let ids = vocabulary.encode("hello hello é", true).unwrap();
    let tokens: Vec<String> = ids.iter().map(|id| vocabulary.token(*id).unwrap()).collect();
    assert_eq!(tokens, ["<s>", "▁hello", "▁hello", "▁", "<0xC3>", "<0xA9>"]);
    let mut detokenizer = Detokenizer::new(&vocabulary);
    let mut text = String::new();
    for id in ids {
        text += &detokenizer.push(id).unwrap();
    }
    assert_eq!(text + &detokenizer.finish().unwrap(), "hello hello é");
}
