//! Labels of one request: from `polder-*` headers and from `metadata` with keys `polder.*`. Both may only narrow.
//!
//! They are taken out here: no label ever reaches an engine. A label or value outside the closed lists is an error, never ignored.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use polder_core::labels::{Asked, Closed, Country, DataClass, LabelError, Labels, Language, Purpose};
use serde_json::{Map, Value};

use super::ApiError;

/// The headers that say where an answer came from; an application may send them back without harm.
const ANSWER_HEADERS: [&str; 3] = ["polder-decision", "polder-factory", "polder-receipt"];

/// The labels of a request. `metadata` loses its `polder.*` keys.
pub fn labels(project: &Labels, headers: &HeaderMap, metadata: &mut Map<String, Value>) -> Result<Labels, ApiError> {
    let from_headers = asked_in_headers(headers)?;
    let from_metadata = asked_in_metadata(metadata)?;
    project
        .narrow_all(&[from_headers, from_metadata])
        .map_err(|error| refuse(&error, &format!("polder.{}", error.label())))
}

fn refuse(error: &LabelError, parameter: &str) -> ApiError {
    ApiError::parameter(parameter, "invalid_label", error.to_string())
}

fn asked_in_headers(headers: &HeaderMap) -> Result<Asked, ApiError> {
    let mut asked = Asked::default();
    for (name, value) in headers {
        let Some(label) = name.as_str().strip_prefix("polder-") else { continue };
        if ANSWER_HEADERS.contains(&name.as_str()) {
            continue;
        }
        let not_text = || ApiError::parameter(name.as_str(), "invalid_label", format!("`{name}` is not plain text"));
        take(&mut asked, label, value.to_str().map_err(|_| not_text())?, name.as_str())?;
    }
    Ok(asked)
}

/// The headers that say labels, for what is asked later in the name of a request. They must have been read before.
pub fn named(headers: &HeaderMap) -> BTreeMap<String, String> {
    let label = |name: &str| name.starts_with("polder-") && !ANSWER_HEADERS.contains(&name);
    let named = headers.iter().filter(|(name, _)| label(name.as_str()));
    named.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

fn asked_in_metadata(metadata: &mut Map<String, Value>) -> Result<Asked, ApiError> {
    let mut asked = Asked::default();
    let keys: Vec<String> = metadata.keys().filter(|key| key.starts_with("polder.")).cloned().collect();
    for key in keys {
        let Some(value) = metadata.remove(&key) else { continue };
        let not_text = || ApiError::parameter(&key, "invalid_label", format!("`{key}` must be a string"));
        take(&mut asked, key.trim_start_matches("polder."), value.as_str().ok_or_else(not_text)?, &key)?;
    }
    Ok(asked)
}

fn take(asked: &mut Asked, label: &str, value: &str, parameter: &str) -> Result<(), ApiError> {
    let taken = match label {
        "class" => once(&mut asked.class, DataClass::parse(value.trim())),
        "purpose" => once(&mut asked.purposes, list::<Purpose>(value)),
        "countries" => once(&mut asked.countries, list::<Country>(value)),
        "language" => once(&mut asked.language, Language::parse(value.trim())),
        _ => {
            let message = format!("`{parameter}` is not a label: use class, purpose, countries or language");
            return Err(ApiError::parameter(parameter, "unknown_label", message));
        }
    };
    match taken {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::parameter(parameter, "invalid_label", format!("`{parameter}` is given twice"))),
        Err(error) => Err(refuse(&error, parameter)),
    }
}

fn once<T>(place: &mut Option<T>, value: Result<T, LabelError>) -> Result<bool, LabelError> {
    let first = place.is_none();
    *place = Some(value?);
    Ok(first)
}

/// A comma-separated list of values of a closed list.
fn list<T: Closed>(text: &str) -> Result<BTreeSet<T>, LabelError> {
    text.split(',').map(|item| T::parse(item.trim())).collect()
}
