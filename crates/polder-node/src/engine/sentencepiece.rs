//! A SentencePiece vocabulary from a GGUF file, as a byte-pair tokenizer.
//!
//! GGUF keeps pieces and scores but no merges. Those follow from them: two pieces merge if
//! their sum is a piece, the better scored sum first. Absent: unigram models, which GGUF
//! marks otherwise.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, Tokenizer, decoders, normalizers};

/// Kinds of pieces, as GGUF numbers them.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

type Metadata = HashMap<String, Value>;

/// Builds the tokenizer.
pub(crate) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer, String> {
    let pieces = strings(metadata, "tokenizer.ggml.tokens")?;
    let scores = list(metadata, "tokenizer.ggml.scores")?;
    let scores: Vec<f32> = scores.iter().map(|v| v.to_f32().unwrap_or(0.0)).collect();
    if scores.len() != pieces.len() {
        return Err("`tokenizer.ggml.scores` has another length than the tokens".into());
    }
    let kinds = list(metadata, "tokenizer.ggml.token_type").unwrap_or(&[]);
    let kind = |id: usize| kinds.get(id).map_or(1, integer);
    let ids: HashMap<&str, usize> = pieces.iter().enumerate().map(|(i, p)| (p.as_str(), i)).collect();
    let vocabulary: Vocab = pieces.iter().enumerate().map(|(i, p)| (p.clone(), i as u32)).collect();
    let mut bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges(&pieces, &scores, &ids, |id| kind(id) == CONTROL))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unknown) = (0..pieces.len()).find(|id| kind(*id) == UNKNOWN) {
        bpe = bpe.unk_token(pieces.get(unknown).cloned().unwrap_or_default());
    }
    let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| e.to_string())?);
    let blank = flag(metadata, "tokenizer.ggml.add_space_prefix").unwrap_or(true);
    tokenizer.with_normalizer(Some(normalizer(blank)?)).map_err(|e| e.to_string())?;
    tokenizer.with_decoder(Some(decoder(blank)?));
    let marked = |wanted: i64, special: bool| {
        let found = pieces.iter().enumerate().filter(move |(id, _)| kind(*id) == wanted);
        found.map(move |(_, piece)| AddedToken::from(piece.clone(), special).normalized(false))
    };
    let controls: Vec<AddedToken> = marked(CONTROL, true).collect();
    tokenizer.add_special_tokens(controls).map_err(|e| e.to_string())?;
    let defined: Vec<AddedToken> = marked(USER_DEFINED, false).collect();
    tokenizer.add_tokens(defined).map_err(|e| e.to_string())?;
    if flag(metadata, "tokenizer.ggml.add_bos_token").unwrap_or(true)
        && let Some(id) = metadata.get("tokenizer.ggml.bos_token_id").map(integer)
        && let Some(bos) = usize::try_from(id).ok().and_then(|id| pieces.get(id))
    {
        let framed = TemplateProcessing::builder()
            .try_single(vec![bos.clone(), "$A".into()])?
            .special_tokens(vec![(bos.clone(), id as u32)])
            .build()
            .map_err(|e| e.to_string())?;
        tokenizer.with_post_processor(Some(framed));
    }
    Ok(tokenizer)
}

/// A control piece is never merged from text: whoever spells it would else get the token itself.
fn merges(
    pieces: &[String],
    scores: &[f32],
    ids: &HashMap<&str, usize>,
    control: impl Fn(usize) -> bool,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (id, (piece, &score)) in pieces.iter().zip(scores).enumerate() {
        if control(id) {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                found.push((score, l, r, left, right));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    found.into_iter().map(|(_, _, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// Blanks are written as `▁`, and a text begins with one where the model wants it.
fn normalizer(blank: bool) -> Result<NormalizerWrapper, String> {
    let replace = normalizers::Replace::new(" ", "▁").map_err(|e| e.to_string())?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if blank {
        steps.push(normalizers::Prepend::new("▁".into()).into());
    }
    steps.push(replace.into());
    Ok(normalizers::Sequence::new(steps).into())
}

fn decoder(blank: bool) -> Result<DecoderWrapper, String> {
    let replace = normalizers::Replace::new("▁", " ").map_err(|e| e.to_string())?;
    let mut steps: Vec<DecoderWrapper> =
        vec![replace.into(), decoders::byte_fallback::ByteFallback::new().into(), decoders::fuse::Fuse::new().into()];
    if blank {
        steps.push(decoders::strip::Strip::new(' ', 1, 0).into());
    }
    Ok(decoders::sequence::Sequence::new(steps).into())
}

fn list<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a [Value], String> {
    match metadata.get(key) {
        Some(Value::Array(values)) => Ok(values),
        _ => Err(format!("`{key}` is missing or no list")),
    }
}

fn strings(metadata: &Metadata, key: &str) -> Result<Vec<String>, String> {
    let texts = list(metadata, key)?.iter().map(|v| v.to_string().cloned());
    texts.collect::<Result<_, _>>().map_err(|_| format!("`{key}` holds something else than texts"))
}

fn flag(metadata: &Metadata, key: &str) -> Option<bool> {
    metadata.get(key)?.to_bool().ok()
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::I32(n) => i64::from(*n),
        Value::U32(n) => i64::from(*n),
        other => other.to_i64().unwrap_or(-1),
    }
}
