//! JSON read strictly, in one pass: duplicate keys, lone surrogates, numbers beyond a 64-bit float and deep nesting are errors.
//!
//! Two readers of one text must not see two requests, so what JSON leaves open is refused. The pass is serde_json's own, which
//! refuses surrogates and numbers by itself; what is added is one look at each key and a count of levels. The place of an error
//! is put together only on the way out of one. Quoting the text is absent: a place names words of the API, and others as `*`.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects that is read.
pub const DEPTH_MAX: usize = 64;

/// Most steps that a place names.
const PLACE_STEPS_MAX: usize = 8;

/// Words of the API that a place may name. Any other key may be a user's own text.
const WORDS: [&str; 56] = [
    "arguments",
    "audio",
    "background",
    "body",
    "call_id",
    "content",
    "custom_id",
    "dimensions",
    "documents",
    "encoding_format",
    "format",
    "frequency_penalty",
    "function",
    "id",
    "image_url",
    "include",
    "input",
    "instructions",
    "json_schema",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "n",
    "name",
    "output",
    "parallel_tool_calls",
    "parameters",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "query",
    "reasoning",
    "response_format",
    "role",
    "schema",
    "seed",
    "stop",
    "store",
    "stream",
    "stream_options",
    "system",
    "temperature",
    "text",
    "tool_calls",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "type",
    "url",
    "user",
];

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Such as `messages[0].content`; `None` where no parameter is to blame.
    pub place: Option<String>,
    /// What is wrong, without any of the text.
    pub message: String,
}

/// Reads a text that must be one JSON object.
pub fn object(text: &str) -> Result<Map<String, Value>, Fault> {
    let trail = Trail::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Reading { trail: &trail, level: 0 }.deserialize(&mut reader);
    let ended = read.and_then(|value| reader.end().map(|()| value));
    match ended {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Fault { place: None, message: "the body is not a JSON object".to_owned() }),
        Err(error) => Err(trail.into_inner().fault(&error)),
    }
}

type Trail = RefCell<Steps>;

/// The way to an error, from the inside out.
#[derive(Default)]
struct Steps {
    steps: Vec<Step>,
    what: Option<&'static str>,
}

enum Step {
    Key(String),
    Index(usize),
}

impl Steps {
    fn fault(self, error: &serde_json::Error) -> Fault {
        let at = format!("line {}, column {}", error.line(), error.column());
        let message = match self.what {
            Some(what) => format!("the body {what}: {at}"),
            // What serde_json says of a text's form are fixed sentences; anything else might quote the text.
            None if error.is_syntax() => {
                let said = error.to_string();
                // How serde_json names the first half of a pair with nothing behind it.
                let said = said.replace("unexpected end of hex escape", "lone surrogate or broken escape in a string");
                format!("the body is not JSON: {said}")
            }
            None => format!("the body is not JSON: it ends or breaks off at {at}"),
        };
        let mut place = String::new();
        // Far inside, the outermost step says more than all of them.
        let named = if self.steps.len() > PLACE_STEPS_MAX { 1 } else { PLACE_STEPS_MAX };
        for step in self.steps.iter().rev().take(named) {
            match step {
                Step::Index(index) => place.push_str(&format!("[{index}]")),
                Step::Key(key) => {
                    let word = if WORDS.contains(&key.as_str()) { key } else { "*" };
                    place.push_str(if place.is_empty() { "" } else { "." });
                    place.push_str(word);
                }
            }
        }
        Fault { place: (!place.is_empty()).then_some(place), message }
    }
}

#[derive(Clone, Copy)]
struct Reading<'a> {
    trail: &'a Trail,
    level: usize,
}

impl Reading<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let level = self.level + 1;
        if level > DEPTH_MAX {
            return Err(self.refused("nests deeper than the 64 levels that are read here"));
        }
        Ok(Self { level, ..self })
    }

    fn refused<E: serde::de::Error>(self, what: &'static str) -> E {
        self.trail.borrow_mut().what = Some(what);
        E::custom(what)
    }

    fn step<E>(self, step: Step) -> impl FnOnce(E) -> E {
        move |error| {
            self.trail.borrow_mut().steps.push(step);
            error
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| self.refused("holds a number beyond a 64-bit float"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (inner, mut list) = (self.deeper()?, Vec::new());
        while let Some(item) = items.next_element_seed(inner).map_err(self.step(Step::Index(list.len())))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (inner, mut object) = (self.deeper()?, Map::new());
        while let Some(key) = entries.next_key::<String>()? {
            let value = match entries.next_value_seed(inner) {
                Ok(value) => value,
                Err(error) => return Err(self.step(Step::Key(key))(error)),
            };
            match object.entry(key) {
                serde_json::map::Entry::Vacant(place) => drop(place.insert(value)),
                serde_json::map::Entry::Occupied(twice) => {
                    let key = twice.key().clone();
                    return Err(self.step(Step::Key(key))(self.refused("names this key twice")));
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
