//! Answers held to a JSON schema: before each token, which ones may come.
//!
//! The library `llguidance` turns a schema into a grammar and a grammar into a mask over the model's own vocabulary. It is the
//! one behind several large engines, is pure Rust, and brings no feature that the build lacked. Its work is bounded, so that a
//! schema made to be costly is refused. Absent: other grammars than JSON schemas.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;

use crate::inference::EngineError;

/// What one model's vocabulary needs for grammars; built once.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

/// What an answer still may be. A copy begins where the original stands.
pub(crate) struct Constraint {
    matcher: Matcher,
}

impl Grammars {
    /// Reads a vocabulary: `words` are the bytes of every token the network scores, `end` the one that ends an answer.
    pub(crate) fn new(words: &[Vec<u8>], end: u32) -> Result<Self, String> {
        let size = u32::try_from(words.len()).map_err(|e| e.to_string())?;
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(TokTrie::from(&TokRxInfo::new(size, end), words)));
        let slices = SlicedBiasComputer::json_slices();
        let mut factory =
            ParserFactory::new(&environment, InferenceCapabilities::default(), &slices).map_err(|e| e.to_string())?;
        factory.quiet();
        // Its messages would quote what was written so far.
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // Above the library's own: a schema that is taken should not fail in the middle of an answer. One token's mask
        // still costs a tenth of a second at most.
        limits.max_items_in_row = 10_000;
        limits.step_max_items = 500_000;
        limits.step_lexer_fuel = 1_000_000;
        Ok(Self { factory })
    }

    /// Holds an answer to a checked schema; `at` names the schema in errors.
    pub(crate) fn constraint(&self, schema: &Value, at: &str) -> Result<Constraint, EngineError> {
        let mut schema = schema.clone();
        if !schema.is_object() {
            schema = serde_json::json!({"anyOf": [schema]});
        }
        // One way to write each value, as most models learned it: nothing is gained by free blanks, and with them an
        // answer could go on without end.
        let options = JsonCompileOptions {
            item_separator: ", ".into(),
            key_separator: ": ".into(),
            whitespace_flexible: false,
            ..JsonCompileOptions::default()
        };
        options.apply_to(&mut schema);
        // The library's message quotes the schema; it stays out of answers and logs.
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(schema)).map_err(|error| {
            let reason = match error.to_string().contains("nsatisfiable") {
                true => "allows no value at all",
                false => "cannot be held to by this engine: use fewer or simpler keywords",
            };
            EngineError::Invalid { parameter: at.to_owned(), reason: reason.to_owned() }
        })?;
        let mut matcher = Matcher::new(Ok(parser));
        // A fault that shows only when the first mask is made is the schema's too.
        match matcher.compute_mask() {
            Ok(_) => Ok(Constraint { matcher }),
            Err(_) => Err(EngineError::Invalid {
                parameter: at.to_owned(),
                reason: "cannot be held to by this engine: use fewer or simpler keywords".to_owned(),
            }),
        }
    }
}

impl Constraint {
    /// A copy that goes its own way.
    pub(crate) fn fork(&self) -> Self {
        Self { matcher: self.matcher.deep_clone() }
    }

    /// Takes the scores of all tokens that may not come now. `ends` tells the tokens that end an answer.
    pub(crate) fn restrict(&mut self, scores: &mut [f32], ends: &[u32]) -> Result<(), EngineError> {
        let mask = self.matcher.compute_mask().map_err(|_| lost())?;
        let whole = self.matcher.is_accepting().map_err(|_| lost())?;
        for (id, score) in (0u32..).zip(scores) {
            let may = match ends.contains(&id) {
                true => whole,
                false => mask.is_allowed(id),
            };
            if !may {
                *score = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Takes a token; whether the answer is complete and cannot go on.
    pub(crate) fn push(&mut self, id: u32) -> Result<bool, EngineError> {
        self.matcher.consume_token(id).map_err(|_| lost())?;
        Ok(self.matcher.is_stopped())
    }
}

fn lost() -> EngineError {
    EngineError::Failed { reason: "the answer could not be held to its form".into() }
}
