//! Whether an engine's error quotes what it was asked.
//!
//! Errors end in the logs of whoever asked, where no prompt belongs, so words that quote one are not passed on. What is looked for
//! are longer pieces of the texts in a request; names of parameters and short values may stand in an error. Only errors pay for this.

use std::collections::HashSet;

use serde_json::Value;

/// Bytes that a text and an error have in common before that is a quotation.
const PIECE_BYTES: usize = 16;
/// Fields of a request that hold what is asked.
const TEXTS: [&str; 6] = ["messages", "prompt", "input", "query", "documents", "tools"];

/// Whether an error's text has a piece of the request's texts in it.
pub fn quotes(error: &str, asked: &[u8]) -> bool {
    if error.len() < PIECE_BYTES {
        return false;
    }
    let Ok(asked) = serde_json::from_slice::<Value>(asked) else { return false };
    let pieces: HashSet<&[u8]> = error.as_bytes().windows(PIECE_BYTES).collect();
    TEXTS.iter().filter_map(|name| asked.get(name)).any(|value| is_quoted(value, &pieces))
}

fn is_quoted(value: &Value, pieces: &HashSet<&[u8]>) -> bool {
    match value {
        Value::String(text) => text.as_bytes().windows(PIECE_BYTES).any(|piece| pieces.contains(piece)),
        Value::Array(items) => items.iter().any(|item| is_quoted(item, pieces)),
        Value::Object(fields) => fields.values().any(|field| is_quoted(field, pieces)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
