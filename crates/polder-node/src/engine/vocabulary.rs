//! Text to tokens, and tokens back to text one at a time.
//!
//! A character may be spread over several tokens, and a stop text over several pieces: both
//! are held back until they are whole. Absent: batches; one request has one text.

use std::path::Path;
use std::sync::OnceLock;

use llguidance::token_bytes_from_tokenizer_json;
use llguidance::toktrie::TokTrie;
use tokenizers::Tokenizer;

use super::files::{model_file, read_text};
use super::places::guarded;
use super::spelled::{Piece, Specials};
use crate::inference::EngineError;

/// A model's tokenizer.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    specials: Specials,
    /// The same tokenizer, blind to special tokens; made when a text needs it.
    blind: OnceLock<Tokenizer>,
    /// The bytes of every token, special ones marked; empty where the tokenizer does not tell.
    words: OnceLock<Vec<Vec<u8>>>,
}

impl Vocabulary {
    /// Reads `tokenizer.json`.
    pub(crate) fn read(path: &Path) -> Result<Self, EngineError> {
        let text = read_text(path)?;
        let tokenizer = Tokenizer::from_bytes(text).map_err(|e| model_file(path, e.to_string()))?;
        Self::new(tokenizer).map_err(|e| model_file(path, e))
    }

    /// Takes a tokenizer without its padding and truncation, which would change texts silently.
    pub(crate) fn new(mut tokenizer: Tokenizer) -> Result<Self, String> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
        let specials = Specials::of(&tokenizer);
        Ok(Self { tokenizer, specials, blind: OnceLock::new(), words: OnceLock::new() })
    }

    /// The tokens that a text may not spell.
    pub(crate) fn specials(&self) -> &Specials {
        &self.specials
    }

    /// The tokens of a text; `framed` adds what the model wants before and after it.
    pub(crate) fn encode(&self, text: &str, framed: bool) -> Result<Vec<u32>, EngineError> {
        encode(&self.tokenizer, text, framed)
    }

    /// The tokens of a text without special ones, whatever it spells; `framed` adds what the model wants around it.
    pub(crate) fn encode_plain(&self, text: &str, framed: bool) -> Result<Vec<u32>, EngineError> {
        let blind = self.blind.get_or_init(|| {
            let mut blind = self.tokenizer.clone();
            blind.set_encode_special_tokens(true);
            blind
        });
        if !framed {
            let ids = encode(blind, text, false)?;
            if !ids.iter().any(|id| self.specials.holds(*id)) {
                return Ok(ids);
            }
            // Merging alone can lead to a special token in some vocabularies, but not from single characters.
            let each = text.chars().map(|c| encode(blind, c.encode_utf8(&mut [0; 4]), false));
            return Ok(each.collect::<Result<Vec<_>, _>>()?.concat());
        }
        encode(blind, text, true)
    }

    /// The tokens of a template's text in which spellings are broken by this mark.
    pub(crate) fn encode_marked(&self, text: &str, mark: char) -> Result<Vec<u32>, EngineError> {
        let mut ids = Vec::new();
        for piece in self.specials.pieces(text) {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Plain(text) => ids.extend(self.encode_plain(&text.replace(mark, ""), false)?),
            }
        }
        Ok(ids)
    }

    /// The bytes of every token, special ones with a byte before them that no text has; `None` where the tokenizer's kind
    /// does not tell them.
    pub(crate) fn words(&self) -> Option<&[Vec<u8>]> {
        let words = self.words.get_or_init(|| {
            let json = self.tokenizer.to_string(false).ok();
            let json = json.and_then(|json| serde_json::from_str::<serde_json::Value>(&json).ok());
            // The library panics on what no tokenizer in use has; a file may have it.
            let read = json.map(|json| guarded(|| token_bytes_from_tokenizer_json(&json)));
            read.and_then(|read| read.ok()?.ok()).unwrap_or_default()
        });
        Some(words.as_slice()).filter(|words| !words.is_empty())
    }

    /// The bytes that a token stands for.
    pub(crate) fn bytes(&self, id: u32) -> Vec<u8> {
        match self.words().and_then(|words| words.get(id as usize)).map(Vec::as_slice) {
            Some([TokTrie::SPECIAL_TOKEN_MARKER, text @ ..]) if !text.is_empty() => text.to_vec(),
            Some(bytes) => bytes.to_vec(),
            None => self.token(id).unwrap_or_default().into_bytes(),
        }
    }

    /// The id of a token written out, such as `</s>`.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token of an id written out.
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|_| EngineError::Failed { reason: "the tokens could not be turned into text".into() })
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, framed: bool) -> Result<Vec<u32>, EngineError> {
    // The library's message may quote the text, which must not reach a log.
    let encoding = tokenizer
        .encode_fast(text, framed)
        .map_err(|_| EngineError::Failed { reason: "the text could not be turned into tokens".into() })?;
    Ok(encoding.get_ids().to_vec())
}

/// Turns tokens into text as they come.
pub(crate) struct Detokenizer<'a> {
    vocabulary: &'a Vocabulary,
    /// Tokens that still decide how the next one is written.
    ids: Vec<u32>,
    /// How many of them have been written.
    written: usize,
}

/// After so many tokens without a whole character the bytes are taken as they are.
const HELD_TOKENS_MAX: usize = 16;

impl<'a> Detokenizer<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary) -> Self {
        Self { vocabulary, ids: Vec::new(), written: 0 }
    }

    /// The text that is certain once this token is known; empty in the middle of a character.
    pub(crate) fn push(&mut self, id: u32) -> Result<String, EngineError> {
        self.ids.push(id);
        if self.ids.len() - self.written < HELD_TOKENS_MAX {
            return self.take(true);
        }
        let text = self.take(false)?;
        // What was half a character must not change what follows.
        self.ids.clear();
        self.written = 0;
        Ok(text)
    }

    /// What is left at the end; half a character becomes the replacement character.
    pub(crate) fn finish(&mut self) -> Result<String, EngineError> {
        self.take(false)
    }

    fn take(&mut self, wait: bool) -> Result<String, EngineError> {
        // Both texts begin with the same tokens, so a decoder that treats the first token
        // specially (a leading blank) treats it alike in both.
        let old = self.vocabulary.decode(self.ids.get(..self.written).unwrap_or_default())?;
        let new = self.vocabulary.decode(&self.ids)?;
        if wait && new.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        let text = new.get(old.len()..).unwrap_or_default().to_owned();
        if !text.is_empty() {
            self.ids.drain(..self.written);
            self.written = self.ids.len();
        }
        Ok(text)
    }
}

/// Finds stop texts in a stream, and never lets any of one through.
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
}

impl StopFilter {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// More text in; the text that is certain out, and whether a stop text was met.
    pub(crate) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let met = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        if let Some(at) = met {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back and became no stop text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that begins `stop`.
pub(crate) fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().map(|(at, _)| at).rev().find(|&at| text.ends_with(&stop[..at])).unwrap_or(0)
}
