//! A model's files: where they lie, what their digest is, and errors that name them.
//!
//! Files are read with plain reads, tensor by tensor. Memory maps are absent on purpose: a
//! map needs `unsafe`, and a file that shrinks under it kills the process.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::inference::EngineError;

/// A model that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// The id that requests name.
    pub id: String,
    /// A folder in Hugging Face's layout, or a `.gguf` file.
    pub path: PathBuf,
}

/// Longest text file of a model that is read whole.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// An error about a model's file.
pub(crate) fn model_file(path: &Path, reason: impl Into<String>) -> EngineError {
    EngineError::ModelFile { file: path.display().to_string(), reason: reason.into() }
}

/// An error about one tensor of a model's file.
pub(crate) fn model_tensor(path: &Path, tensor: &str, reason: impl Into<String>) -> EngineError {
    EngineError::ModelFile { file: format!("{}, tensor {tensor}", path.display()), reason: reason.into() }
}

/// Reads a text file of bounded size.
pub(crate) fn read_text(path: &Path) -> Result<String, EngineError> {
    let file = File::open(path).map_err(|e| model_file(path, e.to_string()))?;
    let mut text = String::new();
    let read = file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| model_file(path, e.to_string()))?;
    if read as u64 > TEXT_BYTES_MAX {
        return Err(model_file(path, format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Reads a JSON file of bounded size.
pub(crate) fn read_json(path: &Path) -> Result<Value, EngineError> {
    serde_json::from_str(&read_text(path)?).map_err(|e| model_file(path, format!("is not valid JSON: {e}")))
}

/// The files that a model's digest covers, by name.
///
/// Of a folder all plain files at its top except hidden ones and `.md` texts, and the pooling
/// settings; of a GGUF file the file itself, and the `tokenizer.json` beside it.
fn digested(path: &Path) -> Result<Vec<(String, PathBuf)>, EngineError> {
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|e| model_file(path, e.to_string()))?;
        for entry in entries {
            let entry = entry.map_err(|e| model_file(path, e.to_string()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && !name.starts_with('.') && !name.ends_with(".md") {
                files.push((name, entry.path()));
            }
        }
        let pooling = path.join("1_Pooling/config.json");
        if pooling.is_file() {
            files.push(("1_Pooling/config.json".into(), pooling));
        }
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((name.into_owned(), path.to_owned()));
        let tokenizer = path.with_file_name("tokenizer.json");
        if tokenizer.is_file() {
            files.push(("tokenizer.json".into(), tokenizer));
        }
    }
    files.sort();
    Ok(files)
}

/// SHA-256 over a model's files in name order, lower-case hex.
///
/// Each file adds its name, a zero byte, its length as eight bytes (little end first) and its
/// bytes. What is no part of the model, such as a readme, does not change the digest.
pub(crate) fn digest(path: &Path) -> Result<String, EngineError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    for (name, file) in digested(path)? {
        let fail = |e: std::io::Error| model_file(&file, e.to_string());
        let mut reader = File::open(&file).map_err(fail)?;
        let length = reader.metadata().map_err(fail)?.len();
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(length.to_le_bytes());
        loop {
            let read = reader.read(&mut buffer).map_err(fail)?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
                break;
            };
            hash.update(chunk);
        }
    }
    Ok(hex::encode(hash.finalize()))
}
