//! The frameworks that are part of the binary, and those in files: TOML in, a checked framework out.
//!
//! A framework that takes over another's criteria names it as `base`: one of the binary's, or a file of that name beside it.
//! What a framework means is absent: that is `polder_core::framework`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use polder_core::framework::{Framework, SHIPPED, raw};

/// Most that is read of a framework, of answers, or of a passport.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a framework cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrameworkError {
    /// A file cannot be read.
    #[error("`{path}`: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is too large.
    #[error("`{0}` is larger than {FILE_BYTES_MAX} bytes")]
    Large(PathBuf),
    /// Neither a name that is known nor a path.
    #[error("no framework `{0}`")]
    Unknown(String),
    /// A base that is nowhere.
    #[error("`{place}`: its base `{base}` is not known")]
    Base {
        /// The framework that names it.
        place: String,
        /// The base.
        base: String,
    },
    /// The text is no framework.
    #[error("{place}: {message}")]
    Content {
        /// The framework's name or path, with the line where it is known.
        place: String,
        /// What is wrong.
        message: String,
    },
}

impl FrameworkError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } | Self::Large(_) => None,
            Self::Unknown(_) => {
                let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                Some(format!("name one of {}, or the path of a file", names.join(", ")))
            }
            Self::Base { .. } => Some("`polder framework list` shows the names; or put its file beside".to_owned()),
            Self::Content { .. } => Some("frameworks/README.md says how a framework is written".to_owned()),
        }
    }
}

/// Where a framework's text was found, and the text.
struct Source {
    /// The name or path, for messages.
    place: String,
    text: String,
    /// The folder in which a base may stand.
    folder: Option<PathBuf>,
}

/// Every framework of the binary.
pub fn shipped() -> Result<Vec<Framework>, FrameworkError> {
    SHIPPED.iter().map(|(name, _)| find(name)).collect()
}

/// The framework of that name, or in the file of that path.
pub fn find(name: &str) -> Result<Framework, FrameworkError> {
    match of_the_binary(name) {
        Some(source) => read(&source),
        None if name.contains('/') || name.ends_with(".toml") => of_file(Path::new(name)),
        None => Err(FrameworkError::Unknown(name.to_owned())),
    }
}

/// The framework in a file.
pub fn of_file(path: &Path) -> Result<Framework, FrameworkError> {
    read(&of_path(path)?)
}

fn read(source: &Source) -> Result<Framework, FrameworkError> {
    let parsed = parse(source)?;
    let base = parsed.base.as_deref().map(|base| find_base(base, source)).transpose()?;
    check(source, parsed, base.as_ref())
}

/// A base has no base of its own, so that nothing goes round in circles.
fn find_base(name: &str, from: &Source) -> Result<Framework, FrameworkError> {
    let beside = from.folder.as_ref().map(|folder| folder.join(format!("{name}.toml")));
    let source = match (of_the_binary(name), beside) {
        (Some(source), _) => source,
        // The name of a base is an id; what is none cannot lead out of the folder.
        (None, Some(path)) if !name.contains(['/', '\\']) && path.is_file() => of_path(&path)?,
        _ => return Err(FrameworkError::Base { place: from.place.clone(), base: name.to_owned() }),
    };
    let parsed = parse(&source)?;
    check(&source, parsed, None)
}

fn of_the_binary(name: &str) -> Option<Source> {
    let (place, text) = SHIPPED.iter().find(|(known, _)| *known == name)?;
    Some(Source { place: (*place).to_owned(), text: (*text).to_owned(), folder: None })
}

fn of_path(path: &Path) -> Result<Source, FrameworkError> {
    let folder = path.parent().map(Path::to_owned);
    Ok(Source { place: path.display().to_string(), text: read_text(path)?, folder })
}

/// A file's text, if it is text and no larger than it may be.
pub fn read_text(path: &Path) -> Result<String, FrameworkError> {
    let failed = |source| FrameworkError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FrameworkError::Large(path.to_owned()));
    }
    Ok(text)
}

fn parse(source: &Source) -> Result<raw::Framework, FrameworkError> {
    toml::from_str(&source.text).map_err(|error| {
        let before = error.span().and_then(|span| source.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        FrameworkError::Content {
            place: format!("{}:{line}", source.place),
            message: error.message().trim().to_owned(),
        }
    })
}

fn check(source: &Source, read: raw::Framework, base: Option<&Framework>) -> Result<Framework, FrameworkError> {
    Framework::new(read, base)
        .map_err(|error| FrameworkError::Content { place: source.place.clone(), message: error.to_string() })
}

#[cfg(test)]
mod tests;
