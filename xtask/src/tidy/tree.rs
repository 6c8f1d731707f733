//! The tree that the checks read: tracked files, parsed Rust, and the crates as cargo sees them.
//!
//! Everything is read once and held in memory, so a check is a pure function and its test brings a
//! tree of three lines. Files that git ignores are absent.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::process;

use super::rust::Source;

/// A member crate: its folder, and the names it depends on.
#[derive(Debug, Clone, Default)]
pub struct Crate {
    pub name: String,
    pub manifest: String,
    /// Dependencies that end up in the crate.
    pub normal: Vec<String>,
    /// Dependencies of its tests and build scripts.
    pub other: Vec<String>,
}

/// What the checks look at.
#[derive(Default)]
pub struct Tree {
    texts: BTreeMap<String, Option<String>>,
    rust: Vec<Source>,
    crates: Vec<Crate>,
}

impl Tree {
    /// Reads the files that git tracks or would track, and the crates.
    pub fn read(root: &Path) -> Result<Self, Failure> {
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = process::capture(&mut git)?;
        let mut tree = Self { crates: read_crates(root)?, ..Self::default() };
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let full = root.join(path);
            if full.is_file() {
                tree.add(path, std::fs::read(&full).ok().and_then(|bytes| String::from_utf8(bytes).ok()));
            }
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, text: Option<String>) {
        if let Some(text) = text.as_ref().filter(|_| path.ends_with(".rs")) {
            self.rust.push(Source::parse(path, text));
        }
        self.texts.insert(path.to_owned(), text);
    }

    /// A tree of given files, for tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, Some((*text).to_owned()));
        }
        tree
    }

    /// The tree with given crates, for tests.
    #[cfg(test)]
    pub fn with_crates(self, crates: Vec<Crate>) -> Self {
        Self { crates, ..self }
    }

    /// Every path, text or not.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// Whether a file or a folder with files exists.
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.texts.contains_key(path) || self.paths().any(|other| other.starts_with(&folder))
    }

    /// One file's text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).and_then(Option::as_deref)
    }

    /// Every text file.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Every Rust file.
    pub fn rust(&self) -> &[Source] {
        &self.rust
    }

    /// Every member crate.
    pub fn crates(&self) -> &[Crate] {
        &self.crates
    }
}

fn read_crates(root: &Path) -> Result<Vec<Crate>, Failure> {
    let mut cargo = process::cargo(root);
    let text = process::capture(cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let unreadable = || Failure::new("`cargo metadata` answered in an unknown form", "run it by hand and compare");
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
    let packages = json["packages"].as_array().ok_or_else(unreadable)?;
    Ok(packages.iter().map(|package| read_crate(root, package)).collect())
}

fn read_crate(root: &Path, package: &serde_json::Value) -> Crate {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let manifest = text(&package["manifest_path"]);
    let relative = Path::new(&manifest).strip_prefix(root).map(|path| path.to_string_lossy().replace('\\', "/"));
    let mut read =
        Crate { name: text(&package["name"]), manifest: relative.unwrap_or(manifest.clone()), ..Crate::default() };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let list = if dependency["kind"].is_null() { &mut read.normal } else { &mut read.other };
        list.push(text(&dependency["name"]));
    }
    read
}
