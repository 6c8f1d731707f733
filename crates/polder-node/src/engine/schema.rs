//! Which JSON schemas an answer can be held to, checked before any work.
//!
//! The grammar library knows more keywords than stand here. Those that make it intersect schemas
//! (`allOf`, `oneOf`, assertions beside a `$ref` or an `anyOf`) are absent: with recursion they can run without end,
//! and OpenAI's strict mode lacks them too. What is left is refused by name, never ignored.

use serde_json::{Map, Value};

use super::model::invalid;
use crate::inference::EngineError;

/// Kept, and without a say in what is valid.
const ANNOTATIONS: [&str; 12] = [
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly",
];
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
/// Longest text and longest list that a bound may name: beyond it the automaton grows too large.
const LENGTH_MAX: u64 = 4096;
/// Most schemas within one, and most values of one `enum`.
const SCHEMAS_MAX: usize = 5000;
const VALUES_MAX: usize = 1000;
/// Most properties of one object that may be left out.
const OPTIONAL_MAX: usize = 256;
/// Largest `multipleOf`, its point left out.
const STEP_MAX: u64 = 1000;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// A schema that an answer can be held to.
///
/// References are written anew so that they hold where the schema stands at `base`, such as `#` or `#/$defs/t0`.
/// `at` names the schema in errors.
pub(crate) fn checked(schema: &Value, at: &str, base: &str) -> Result<Value, EngineError> {
    let mut check = Check { root: schema, at, base, schemas: 0 };
    check.schema(schema, at)
}

struct Check<'a> {
    root: &'a Value,
    at: &'a str,
    base: &'a str,
    schemas: usize,
}

impl<'a> Check<'a> {
    fn schema(&mut self, schema: &'a Value, at: &str) -> Result<Value, EngineError> {
        self.schemas += 1;
        if self.schemas > SCHEMAS_MAX {
            return Err(invalid(self.at, format!("holds more than {SCHEMAS_MAX} schemas")));
        }
        let object = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(object) => object,
            _ => return Err(invalid(at, "must be an object or a boolean")),
        };
        for alone in ["$ref", "anyOf"] {
            let beside = object.keys().find(|key| *key != alone && !ANNOTATIONS.contains(&key.as_str()));
            if let (true, Some(key)) = (object.contains_key(alone), beside) {
                return Err(invalid(&format!("{at}.{key}"), format!("is not supported beside `{alone}`")));
            }
        }
        if let Some(reference) = object.get("$ref") {
            self.reference(reference, &format!("{at}.$ref"))?;
            self.ends(schema, &mut Vec::new())?;
        }
        self.optional(object, at)?;
        let mut copy = Map::new();
        for (key, value) in object {
            copy.insert(key.clone(), self.keyword(key, value, &format!("{at}.{key}"))?);
        }
        // Where nothing is said of further properties there are none: what fits then fits the schema, and a model does not
        // invent names until its limit.
        if let Some(properties) = copy.get("properties").and_then(Value::as_object) {
            let named = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
            let all = copy.get("required").and_then(Value::as_array).is_none_or(|required| required.iter().all(named));
            if all && !copy.contains_key("additionalProperties") {
                copy.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        Ok(Value::Object(copy))
    }

    /// After each property, any of the optional ones may be left out: too many of them and every token costs too much.
    fn optional(&self, object: &Map<String, Value>, at: &str) -> Result<(), EngineError> {
        let Some(properties) = object.get("properties").and_then(Value::as_object) else { return Ok(()) };
        let required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        match properties.len().saturating_sub(required) {
            0..=OPTIONAL_MAX => Ok(()),
            _ => Err(invalid(
                &format!("{at}.properties"),
                format!("holds more than {OPTIONAL_MAX} properties that are not in `required`"),
            )),
        }
    }

    fn keyword(&mut self, key: &str, value: &'a Value, at: &str) -> Result<Value, EngineError> {
        match key {
            "properties" | "$defs" | "definitions" => self.named(value, at),
            "prefixItems" | "anyOf" => self.list(value, at),
            "items" | "additionalProperties" => self.schema(value, at),
            "$ref" => self.reference(value, at),
            "type" => kinds(value, at),
            "required" => texts(value, at),
            "enum" => match value.as_array() {
                Some(values) if !values.is_empty() && values.len() <= VALUES_MAX => Ok(value.clone()),
                _ => Err(invalid(at, format!("must be an array of 1 to {VALUES_MAX} values"))),
            },
            "const" => Ok(value.clone()),
            "minLength" | "maxLength" | "minItems" | "maxItems" => match value.as_u64() {
                Some(count) if count <= LENGTH_MAX => Ok(value.clone()),
                _ => Err(invalid(at, format!("must be a whole number from 0 to {LENGTH_MAX}"))),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => match value.is_number() {
                true => Ok(value.clone()),
                false => Err(invalid(at, "must be a number")),
            },
            "multipleOf" => match value.as_number().map(step) {
                Some(Some(1..=STEP_MAX)) => Ok(value.clone()),
                _ => Err(invalid(at, format!("must be a number above 0 whose digits make at most {STEP_MAX}"))),
            },
            "pattern" => match value.as_str() {
                Some(pattern) if pattern.len() <= PATTERN_BYTES_MAX => Ok(value.clone()),
                _ => Err(invalid(at, format!("must be a text of at most {PATTERN_BYTES_MAX} bytes"))),
            },
            "format" => match value.as_str() {
                Some(format) if FORMATS.contains(&format) => Ok(value.clone()),
                _ => Err(invalid(at, format!("must be one of {}", FORMATS.join(", ")))),
            },
            annotation if ANNOTATIONS.contains(&annotation) => Ok(value.clone()),
            _ => Err(EngineError::Unsupported { parameter: at.chars().take(256).collect() }),
        }
    }

    fn named(&mut self, value: &'a Value, at: &str) -> Result<Value, EngineError> {
        let object = value.as_object().ok_or_else(|| invalid(at, "must be an object of schemas"))?;
        let copies =
            object.iter().map(|(name, schema)| Ok((name.clone(), self.schema(schema, &format!("{at}.{name}"))?)));
        copies.collect::<Result<Map<_, _>, _>>().map(Value::Object)
    }

    fn list(&mut self, value: &'a Value, at: &str) -> Result<Value, EngineError> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| invalid(at, "must be an array of schemas that is not empty"))?;
        let copies = items.iter().enumerate().map(|(i, schema)| self.schema(schema, &format!("{at}[{i}]")));
        copies.collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn reference(&self, value: &Value, at: &str) -> Result<Value, EngineError> {
        let target = value.as_str().ok_or_else(|| invalid(at, "must be a text"))?;
        self.target(target, at)?;
        let path = target.strip_prefix('#').unwrap_or_default();
        Ok(Value::String(format!("{}{path}", self.base)))
    }

    /// What a reference names. The library takes the parts of a pointer as they are, so those with an escape are refused.
    fn target(&self, reference: &str, at: &str) -> Result<&'a Value, EngineError> {
        let path = reference.strip_prefix('#').filter(|path| !path.contains(['~', '%']));
        let found =
            path.and_then(|path| self.root.pointer(path)).filter(|found| found.is_object() || found.is_boolean());
        found.ok_or_else(|| invalid(at, "must name a part of this schema, such as `#/$defs/part`"))
    }

    /// Whether following references and alternatives from here always comes to an end. One that leads back to itself
    /// before anything was written says nothing.
    fn ends(&self, schema: &'a Value, seen: &mut Vec<&'a Value>) -> Result<(), EngineError> {
        let Some(object) = schema.as_object() else { return Ok(()) };
        if seen.iter().any(|known| std::ptr::eq(*known, schema)) {
            return Err(invalid(self.at, "has a `$ref` that leads back to itself"));
        }
        seen.push(schema);
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            // One that names nothing is refused where it stands.
            self.target(reference, self.at).map_or(Ok(()), |target| self.ends(target, seen))?;
        }
        for option in object.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
            self.ends(option, seen)?;
        }
        seen.pop();
        Ok(())
    }
}

/// The digits of a number without its point: as many remainders must an automaton tell apart.
fn step(number: &serde_json::Number) -> Option<u64> {
    let text = number.to_string();
    text.strip_suffix(".0").unwrap_or(&text).replacen('.', "", 1).parse().ok()
}

fn kinds(value: &Value, at: &str) -> Result<Value, EngineError> {
    let known = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    let fits = match value {
        Value::Array(kinds) => !kinds.is_empty() && kinds.iter().all(known),
        kind => known(kind),
    };
    match fits {
        true => Ok(value.clone()),
        false => Err(invalid(at, format!("must be one or more of {}", TYPES.join(", ")))),
    }
}

fn texts(value: &Value, at: &str) -> Result<Value, EngineError> {
    match value.as_array().is_some_and(|items| items.iter().all(Value::is_string)) {
        true => Ok(value.clone()),
        false => Err(invalid(at, "must be an array of texts")),
    }
}
