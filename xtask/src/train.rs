//! Trains the demo model that lies in the repository, from the texts that lie beside it.
//!
//! It exists so that a demo needs no download: a byte-level tokenizer and a small Llama, both
//! learnt from `demo/corpus` alone, on a CPU, in minutes, the same for the same seed on the
//! same machine. Absent: quality. The model repeats its corpus and knows nothing else.

mod corpus;
mod network;

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use serde_json::json;
use tokenizers::Tokenizer;

use corpus::{CHAT_TEMPLATE, Corpus, END, SPECIAL};
use network::{Batch, NORM_EPS, Network, ROPE_THETA, Shape};

/// Largest folder that the repository takes.
const BYTES_MAX: u64 = 4_000_000;
/// Tokens of a batch, padding included.
const BATCH_TOKENS: usize = 768;
const RATE: f64 = 3e-3;
const WARM_STEPS: usize = 40;
/// Questions count less than answers: the model must answer them, not write them.
const QUESTION_SHARE: f32 = 0.15;

/// The tensor library reads its number of threads from here, and rounds differently by it.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Starts this program again on one thread, so that the seed alone decides.
///
/// The allocator is told to keep its memory: giving it back after each step costs a fifth of
/// the time.
fn again() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let status = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(THREADS, "1")
        .env("MALLOC_MMAP_THRESHOLD_", "1000000000")
        .env("MALLOC_TRIM_THRESHOLD_", "4000000000")
        .status()
        .map_err(|e| e.to_string())?;
    match status.success() {
        true => Ok(()),
        false => Err("training failed".into()),
    }
}

struct Options {
    corpus: PathBuf,
    out: PathBuf,
    seed: u64,
    epochs: usize,
    minutes: f64,
}

/// Trains and writes the model. Arguments: `[--corpus DIR] [--out DIR] [--seed N] [--epochs N]
/// [--minutes M]`; with `--minutes` training stops early if it takes longer, and then the
/// seed alone no longer gives the same model.
pub fn run(args: &[String]) -> Result<(), String> {
    if std::env::var_os(THREADS).is_none() {
        return again();
    }
    let options = options(args)?;
    let corpus = Corpus::read(&options.corpus)?;
    let tokenizer = corpus.tokenizer(1536)?;
    let shape = Shape {
        vocabulary: tokenizer.get_vocab_size(true),
        hidden: 192,
        intermediate: 448,
        layers: 4,
        heads: 6,
        kv_heads: 2,
        context: 512,
    };
    println!(
        "{} dialogues, {} prose blocks, {} tokens in the vocabulary",
        corpus.dialogues.len(),
        corpus.prose.len(),
        shape.vocabulary
    );
    let network = Network::new(shape, options.seed).map_err(text)?;
    let loss = train(&network, &corpus, &tokenizer, shape, &options)?;
    write(&network, &tokenizer, shape, &options, loss)
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options =
        Options { corpus: "demo/corpus".into(), out: "demo/model".into(), seed: 7, epochs: 30, minutes: f64::INFINITY };
    let mut rest = args.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        let bad = |_| format!("`{name}` cannot be `{value}`");
        match name.as_str() {
            "--corpus" => options.corpus = value.into(),
            "--out" => options.out = value.into(),
            "--seed" => options.seed = value.parse().map_err(bad)?,
            "--epochs" => options.epochs = value.parse().map_err(bad)?,
            "--minutes" => {
                options.minutes = value.parse().map_err(|_| format!("`{name}` cannot be `{value}`"))?;
            }
            _ => return Err(format!("unknown option `{name}`")),
        }
    }
    Ok(options)
}

fn text(error: candle_core::Error) -> String {
    error.to_string()
}

/// Trains for all epochs; gives the mean loss of the last one.
fn train(
    network: &Network,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    shape: Shape,
    options: &Options,
) -> Result<f32, String> {
    let settings = ParamsAdamW { lr: RATE, beta2: 0.98, weight_decay: 0.02, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(network.vars(), settings).map_err(text)?;
    let mut random = Pcg64::seed_from_u64(options.seed ^ 0x00c0_ffee);
    let begin = Instant::now();
    let (mut step, mut mean) = (0usize, 0f32);
    for epoch in 0..options.epochs {
        let texts = corpus.epoch(&mut random);
        let batches = batches(tokenizer, &texts, shape.context)?;
        let (mut sum, mut tokens) = (0f32, 0usize);
        for (at, batch) in batches.iter().enumerate() {
            let done = (epoch as f64 + at as f64 / batches.len() as f64) / options.epochs as f64;
            optimizer.set_learning_rate(rate(step, done));
            let loss = network.loss(batch).map_err(text)?;
            optimizer.backward_step(&loss).map_err(text)?;
            let loss = loss.to_scalar::<f32>().map_err(text)?;
            if !loss.is_finite() {
                return Err(format!("the loss is {loss} at step {step}"));
            }
            sum += loss;
            tokens += batch.rows * batch.columns;
            step += 1;
        }
        mean = sum / batches.len().max(1) as f32;
        let seconds = begin.elapsed().as_secs_f64();
        println!("epoch {:>3} of {}: loss {mean:.4}, {tokens} tokens, {seconds:.0} s", epoch + 1, options.epochs);
        if seconds > options.minutes * 60.0 {
            println!("stopped early: {} minutes are over", options.minutes);
            break;
        }
    }
    Ok(mean)
}

/// Rises at first, then falls along a cosine to a hundredth.
fn rate(step: usize, done: f64) -> f64 {
    let warm = ((step + 1) as f64 / WARM_STEPS as f64).min(1.0);
    let fall = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
    RATE * warm * (0.01 + 0.99 * fall)
}

/// Texts of like length together, so that little is padding; the order stays shuffled.
fn batches(tokenizer: &Tokenizer, texts: &[String], context: usize) -> Result<Vec<Batch>, String> {
    let mut rows = Vec::new();
    for text in texts {
        let encoding = tokenizer.encode_fast(text.as_str(), false).map_err(|e| e.to_string())?;
        let mut ids = encoding.get_ids().to_vec();
        ids.truncate(context + 1);
        rows.push(ids);
    }
    // Sorting within large pieces keeps epochs different from each other.
    let mut batches = Vec::new();
    for piece in rows.chunks_mut(256) {
        piece.sort_by_key(Vec::len);
        let mut waiting: Vec<&[u32]> = Vec::new();
        for row in piece.iter() {
            if (waiting.len() + 1) * row.len() > BATCH_TOKENS && !waiting.is_empty() {
                batches.push(batch(&waiting));
                waiting.clear();
            }
            waiting.push(row);
        }
        if !waiting.is_empty() {
            batches.push(batch(&waiting));
        }
    }
    Ok(batches)
}

fn batch(rows: &[&[u32]]) -> Batch {
    let columns = rows.iter().map(|row| row.len()).max().unwrap_or(2).max(2) - 1;
    let mut batch = Batch { rows: rows.len(), columns, inputs: Vec::new(), targets: Vec::new(), shares: Vec::new() };
    for row in rows {
        // Prose has no role marks, and counts in full.
        let mut share = 1.0;
        for at in 0..columns {
            let token = |at: usize| row.get(at).copied().unwrap_or(END);
            share = match token(at) {
                2 | 3 => QUESTION_SHARE,
                4 => 1.0,
                _ => share,
            };
            // The role mark after an answer or at the beginning is the template's to write.
            let counts = at + 1 < row.len() && !(2..=4).contains(&token(at + 1));
            batch.inputs.push(token(at));
            batch.targets.push(token(at + 1));
            batch.shares.push(if counts { share } else { 0.0 });
        }
    }
    batch
}

fn write(network: &Network, tokenizer: &Tokenizer, shape: Shape, options: &Options, loss: f32) -> Result<(), String> {
    let out = &options.out;
    let fail = |e: std::io::Error| format!("cannot write `{}`: {e}", out.display());
    std::fs::create_dir_all(out).map_err(fail)?;
    let weights: std::collections::HashMap<String, Tensor> = network.halves().map_err(text)?;
    candle_core::safetensors::save(&weights, out.join("model.safetensors")).map_err(text)?;
    tokenizer.save(out.join("tokenizer.json"), false).map_err(|e| e.to_string())?;
    let files = [
        ("config.json", pretty(&config(shape))?),
        ("generation_config.json", pretty(&json!({"bos_token_id": 0, "eos_token_id": END, "pad_token_id": END}))?),
        ("tokenizer_config.json", pretty(&tokenizer_config(shape))?),
        ("TRAINED.md", trained(options, loss)),
    ];
    for (name, content) in files {
        std::fs::write(out.join(name), content).map_err(fail)?;
    }
    let bytes = size(out).map_err(fail)?;
    println!("wrote `{}`, {bytes} bytes", out.display());
    if bytes > BYTES_MAX {
        return Err(format!("the model has {bytes} bytes, the repository takes {BYTES_MAX}"));
    }
    Ok(())
}

fn pretty(value: &serde_json::Value) -> Result<String, String> {
    let text = serde_json::to_string_pretty(value).map_err(|e| e.to_string())?;
    Ok(text + "\n")
}

fn size(folder: &Path) -> std::io::Result<u64> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

fn config(shape: Shape) -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden / shape.heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": 0,
        "eos_token_id": END,
        "pad_token_id": END,
        "torch_dtype": "float16",
    })
}

fn tokenizer_config(shape: Shape) -> serde_json::Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "pad_token": SPECIAL[1],
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    })
}

fn trained(options: &Options, loss: f32) -> String {
    format!(
        "# The demo model\n\n\
A toy. It was trained from nothing on the texts in `demo/corpus`, which were written for this \
repository, and on no other text or model. It repeats what stands there and knows nothing else; \
what it says about the world is not to be trusted. It is here so that the demo and the tests \
need no download.\n\n\
Trained by this command, on a CPU:\n\n\
```\ncargo run --release -p xtask --features train -- train-demo-model --seed {} --epochs {}\n```\n\n\
The same seed gives the same bytes on the same machine; another processor may round otherwise. \
Loss in the last epoch: {loss:.3}.\n\n\
Under the licence of this repository.\n",
        options.seed, options.epochs
    )
}
