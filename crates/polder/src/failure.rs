//! What a command ends with when it fails: a cause, the next step, and a stable exit code.

use std::process::ExitCode;

/// The exit codes, a format (`docs/formats.md`). 2 is clap's, for usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything else.
    Failed = 1,
    /// The words of the command do not fit together.
    Usage = 2,
    /// Refused by policy.
    Refused = 3,
    /// No capacity.
    NoCapacity = 4,
    /// Verification failed.
    NotVerified = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: Exit::Failed }
    }

    /// The same failure with the next step.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same failure with another exit code.
    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The cause, without the next step.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        self.exit.into()
    }

    /// Prints cause and next step to stderr.
    pub fn print(&self) {
        eprintln!("error: {}", self.message.trim_end());
        if let Some(hint) = &self.hint {
            eprintln!("next:  {hint}");
        }
    }
}

/// A failure of reading or writing a file.
pub fn of_file(path: &std::path::Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| Failure::new(format!("`{}`: {error}", path.display()))
}
