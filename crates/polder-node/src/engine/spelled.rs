//! Text of a conversation that spells a special token, such as `<|im_end|>`: it stays text.
//!
//! A template writes one text, and tokenising it would read what a user wrote like what the template wrote: whoever spells
//! the right token could end their own message and begin another's. So each such spelling is broken by a mark before the
//! template sees it, and joined again where no token is looked for. Texts without one, nearly all, take the usual way.

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::model::invalid;
use crate::inference::EngineError;

/// Marks to choose from: Unicode promises that they are no characters, and one that the text lacks is taken.
const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

struct Special {
    text: String,
    id: u32,
    takes_blanks_before: bool,
    takes_blanks_after: bool,
}

/// A vocabulary's special tokens, the longest first.
pub(crate) struct Specials {
    tokens: Vec<Special>,
}

/// A piece of a text.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'a> {
    /// No token is looked for in it.
    Plain(&'a str),
    /// The template wrote this token.
    Token(u32),
}

impl Specials {
    /// Reads them off a tokenizer.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        // A single character cannot be broken; no model uses one.
        let special = added.filter(|(_, token)| token.special && token.content.chars().count() > 1);
        let mut tokens: Vec<Special> = special
            .map(|(id, token)| Special {
                text: token.content,
                id,
                takes_blanks_before: token.lstrip,
                takes_blanks_after: token.rstrip,
            })
            .collect();
        tokens.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.text.cmp(&b.text)));
        Self { tokens }
    }

    /// Whether an id is one of them.
    pub(crate) fn holds(&self, id: u32) -> bool {
        self.tokens.iter().any(|token| token.id == id)
    }

    fn at_start(&self, text: &str) -> Option<&Special> {
        self.tokens.iter().find(|token| text.starts_with(&token.text))
    }

    fn spelled(&self, text: &str) -> bool {
        text.char_indices().any(|(at, _)| text.get(at..).is_some_and(|rest| self.at_start(rest).is_some()))
    }

    /// Breaks every spelling in these values, and gives the mark; `None` where there is none.
    pub(crate) fn guard(&self, values: &mut [Value]) -> Result<Option<char>, EngineError> {
        if !values.iter().any(|value| any_text(value, &mut |text| self.spelled(text))) {
            return Ok(None);
        }
        let unused = |mark: &char| !values.iter().any(|value| any_text(value, &mut |text| text.contains(*mark)));
        let mark =
            MARKS.clone().find(unused).ok_or_else(|| invalid("messages", "hold too many characters that are none"))?;
        for value in values {
            *value = self.broken(value, mark);
        }
        Ok(Some(mark))
    }

    fn broken(&self, value: &Value, mark: char) -> Value {
        match value {
            Value::String(text) => Value::String(self.broken_text(text, mark)),
            Value::Array(items) => items.iter().map(|item| self.broken(item, mark)).collect(),
            Value::Object(fields) => {
                let fields =
                    fields.iter().map(|(name, value)| (self.broken_text(name, mark), self.broken(value, mark)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    fn broken_text(&self, text: &str, mark: char) -> String {
        let mut whole = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            whole.push(c);
            if text.get(at..).is_some_and(|rest| self.at_start(rest).is_some()) {
                whole.push(mark);
            }
        }
        whole
    }

    /// A template's text in pieces: its own tokens, and plain text between them.
    pub(crate) fn pieces<'a>(&self, text: &'a str) -> Vec<Piece<'a>> {
        let (mut pieces, mut rest, mut blanks_go) = (Vec::new(), text, false);
        loop {
            let found = rest.char_indices().find_map(|(at, _)| Some((at, self.at_start(rest.get(at..)?)?)));
            let mut plain = found.map_or(rest, |(at, _)| rest.get(..at).unwrap_or_default());
            if blanks_go {
                plain = plain.trim_start();
            }
            if found.is_some_and(|(_, token)| token.takes_blanks_before) {
                plain = plain.trim_end();
            }
            if !plain.is_empty() {
                pieces.push(Piece::Plain(plain));
            }
            let Some((at, token)) = found else { return pieces };
            pieces.push(Piece::Token(token.id));
            blanks_go = token.takes_blanks_after;
            rest = rest.get(at + token.text.len()..).unwrap_or_default();
        }
    }
}

fn any_text(value: &Value, is: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, is)),
        Value::Object(fields) => fields.iter().any(|(name, value)| is(name) || any_text(value, is)),
        _ => false,
    }
}
