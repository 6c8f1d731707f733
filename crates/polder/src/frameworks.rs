//! Frameworks by name or path, with failures as a command prints them. Reading them is absent: `polder_node::frameworks`.

use std::path::Path;

use polder_core::framework::Framework;
use polder_node::frameworks::{self, FrameworkError};

use crate::failure::{Exit, Failure};

/// Every framework of the binary.
pub fn shipped() -> Result<Vec<Framework>, Failure> {
    frameworks::shipped().map_err(|error| failure(&error))
}

/// The framework of that name, or in the file of that path.
pub fn find(name: &str) -> Result<Framework, Failure> {
    frameworks::find(name).map_err(|error| failure(&error))
}

/// A file's text, if it is text and no larger than it may be.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    frameworks::read_text(path).map_err(|error| failure(&error))
}

fn failure(error: &FrameworkError) -> Failure {
    let failure = Failure::new(error.to_string());
    let failure = if matches!(error, FrameworkError::Unknown(_)) { failure.exit(Exit::Usage) } else { failure };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
