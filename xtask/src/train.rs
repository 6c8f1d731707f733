//! The trainer of the demo's toy model: text in `demo/corpus/`, weights out.
//!
//! Compiled with the feature `train` only. The training itself is absent until the engine that reads
//! its weights is there.

/// Trains the model.
pub fn run(_args: &[String]) -> Result<(), String> {
    Err("this version has no trainer".to_owned())
}
