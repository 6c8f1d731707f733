//! The form that an answer must have: text, any JSON object, or JSON of a schema.
//!
//! Only the form of the demand is checked. Which schemas can be held to is the engine's to say.

use serde_json::{Map, Value};

use super::super::ApiError;
use super::super::body::Parameters;
use super::parameters::invalid;
use super::tools::{name_in, optional};

/// Takes `response_format`; plain text is what an engine writes unasked.
pub fn take(parameters: &mut Parameters, rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    let name = "response_format";
    let format = match parameters.take(name) {
        None => return Ok(()),
        Some(Value::Object(format)) => format,
        Some(other) => return Parameters::wrong(name, "an object", &other),
    };
    match format.get("type") {
        Some(Value::String(kind)) => match kind.as_str() {
            "text" => return Ok(()),
            "json_object" => {}
            "json_schema" => match format.get("json_schema") {
                Some(Value::Object(schema)) => check_schema(schema, "response_format.json_schema")?,
                None | Some(Value::Null) => return Err(missing("response_format.json_schema")),
                Some(other) => return Parameters::wrong("response_format.json_schema", "an object", other),
            },
            _ => return Err(invalid("response_format.type", "must be one of text, json_object, json_schema")),
        },
        None | Some(Value::Null) => return Err(missing("response_format.type")),
        Some(other) => return Parameters::wrong("response_format.type", "a string", other),
    }
    rest.insert(name.to_owned(), format.into());
    Ok(())
}

fn missing(name: &str) -> ApiError {
    ApiError::parameter(name, "missing_required_parameter", format!("`{name}` is missing"))
}

/// Checks a named schema; `at` is where it stands.
pub fn check_schema(schema: &Map<String, Value>, at: &str) -> Result<(), ApiError> {
    name_in(schema, at)?;
    optional(schema, at, "description", "a string", Value::is_string)?;
    optional(schema, at, "strict", "a boolean", Value::is_boolean)?;
    optional(schema, at, "schema", "an object", Value::is_object)?;
    match schema.get("schema") {
        None | Some(Value::Null) => Err(missing(&format!("{at}.schema"))),
        Some(_) => Ok(()),
    }
}
