//! The frameworks that are part of the binary, and those in files: TOML in, a checked framework out.
//!
//! A framework that takes over another's criteria names it as `base`: one of the binary's, or a file of that name beside it.
//! What a framework means is absent: that is `polder_core::framework`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use polder_core::framework::{Framework, SHIPPED, raw};

use crate::failure::{Exit, Failure, of_file};

/// Most that is read of a framework, of answers, or of a passport.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where a framework's text was found, and the text.
struct Source {
    /// The name or path, for messages.
    place: String,
    text: String,
    /// The folder in which a base may stand.
    folder: Option<PathBuf>,
}

/// Every framework of the binary.
pub fn shipped() -> Result<Vec<Framework>, Failure> {
    SHIPPED.iter().map(|(name, _)| find(name)).collect()
}

/// The framework of that name, or in the file of that path.
pub fn find(name: &str) -> Result<Framework, Failure> {
    let source = match of_the_binary(name) {
        Some(source) => source,
        None if name.contains('/') || name.ends_with(".toml") => of_path(Path::new(name))?,
        None => return Err(unknown(name)),
    };
    let read = parse(&source)?;
    let base = read.base.as_deref().map(|base| find_base(base, &source)).transpose()?;
    check(&source, read, base.as_ref())
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    Failure::new(format!("no framework `{name}`"))
        .hint(format!("name one of {}, or the path of a file", names.join(", ")))
        .exit(Exit::Usage)
}

/// A base has no base of its own, so that nothing goes round in circles.
fn find_base(name: &str, from: &Source) -> Result<Framework, Failure> {
    let beside = from.folder.as_ref().map(|folder| folder.join(format!("{name}.toml")));
    let source = match (of_the_binary(name), beside) {
        (Some(source), _) => source,
        // The name of a base is an id; what is none cannot lead out of the folder.
        (None, Some(path)) if !name.contains(['/', '\\']) && path.is_file() => of_path(&path)?,
        _ => {
            let message = format!("`{}`: its base `{name}` is not known", from.place);
            return Err(Failure::new(message).hint("`polder framework list` shows the names; or put its file beside"));
        }
    };
    let read = parse(&source)?;
    check(&source, read, None)
}

fn of_the_binary(name: &str) -> Option<Source> {
    let (place, text) = SHIPPED.iter().find(|(known, _)| *known == name)?;
    Some(Source { place: (*place).to_owned(), text: (*text).to_owned(), folder: None })
}

fn of_path(path: &Path) -> Result<Source, Failure> {
    let folder = path.parent().map(Path::to_owned);
    Ok(Source { place: path.display().to_string(), text: read_text(path)?, folder })
}

/// A file's text, if it is text and no larger than it may be.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let file = std::fs::File::open(path).map_err(of_file(path))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(of_file(path))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(format!("`{}` is larger than {FILE_BYTES_MAX} bytes", path.display())));
    }
    Ok(text)
}

fn parse(source: &Source) -> Result<raw::Framework, Failure> {
    toml::from_str(&source.text).map_err(|error| {
        let before = error.span().and_then(|span| source.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::new(format!("{}:{line}: {}", source.place, error.message().trim()))
            .hint("frameworks/README.md says how a framework is written")
    })
}

fn check(source: &Source, read: raw::Framework, base: Option<&Framework>) -> Result<Framework, Failure> {
    Framework::new(read, base).map_err(|error| {
        Failure::new(format!("{}: {error}", source.place)).hint("frameworks/README.md says how a framework is written")
    })
}

#[cfg(test)]
mod tests;
