//! Tensors out of safetensors files, checked before anything trusts them.
//!
//! The header is parsed here and not by the library, because an error must name the tensor
//! that is to blame. Everything becomes F32: a CPU computes in it, and one path is simpler
//! than three. Absent: writing, and types that no published model of our families uses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::quantized::QMatMul;
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::files::{model_file, model_tensor, read_json};
use crate::inference::EngineError;

/// Where a model's tensors come from. Names are those of Hugging Face's Llama layout.
pub(crate) trait Tensors {
    /// Whether the tensor is there.
    fn has(&self, name: &str) -> bool;
    /// A tensor of one dimension, in F32.
    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor, EngineError>;
    /// A tensor of two dimensions, in F32.
    fn table(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor, EngineError>;
    /// A tensor of two dimensions to multiply with, as small as the file holds it.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<QMatMul, EngineError>;
    /// The output matrix of a model that uses its embedding for it.
    fn tied_head(&mut self, embedding: &Tensor) -> Result<QMatMul, EngineError>;
}

/// Longest safetensors header; the library's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Entry {
    file: usize,
    dtype: DType,
    shape: Vec<usize>,
    begin: u64,
    bytes: usize,
}

struct OpenFile {
    path: PathBuf,
    file: File,
}

/// The tensors of a folder's safetensors files.
pub(crate) struct Safetensors {
    folder: PathBuf,
    files: Vec<OpenFile>,
    entries: BTreeMap<String, Entry>,
}

impl Safetensors {
    /// Opens `model.safetensors`, or all parts that its index names, and checks every header.
    pub(crate) fn open(folder: &Path) -> Result<Self, EngineError> {
        let mut tensors = Self { folder: folder.to_owned(), files: Vec::new(), entries: BTreeMap::new() };
        for path in part_paths(folder)? {
            tensors.add(path)?;
        }
        Ok(tensors)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), EngineError> {
        let fail = |e: std::io::Error| model_file(&path, e.to_string());
        let mut file = File::open(&path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let (data, header) = read_header(&path, &mut file, length)?;
        for (name, value) in header {
            if name == "__metadata__" {
                continue;
            }
            let raw = RawEntry::deserialize(value)
                .map_err(|e| model_tensor(&path, &name, format!("its header entry: {e}")))?;
            let entry =
                checked(&raw, self.files.len(), data, length).map_err(|reason| model_tensor(&path, &name, reason))?;
            if self.entries.contains_key(&name) {
                return Err(model_tensor(&path, &name, "stands in two files"));
            }
            self.entries.insert(name, entry);
        }
        self.files.push(OpenFile { path, file });
        Ok(())
    }

    fn read(&mut self, name: &str) -> Result<Tensor, EngineError> {
        let Some(entry) = self.entries.get(name) else {
            return Err(model_tensor(&self.folder.join("model.safetensors"), name, "is missing"));
        };
        let Some(open) = self.files.get_mut(entry.file) else {
            return Err(model_file(&self.folder, "a part is missing"));
        };
        let mut bytes = vec![0u8; entry.bytes];
        open.file
            .seek(SeekFrom::Start(entry.begin))
            .and_then(|_| open.file.read_exact(&mut bytes))
            .map_err(|e| model_tensor(&open.path, name, e.to_string()))?;
        Tensor::from_raw_buffer(&bytes, entry.dtype, &entry.shape, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32))
            .map_err(|e| model_tensor(&open.path, name, e.to_string()))
    }

    fn shaped(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        if let Some(entry) = self.entries.get(name)
            && entry.shape != shape
        {
            let path = self.files.get(entry.file).map_or(&self.folder, |f| &f.path);
            let reason = format!("has shape {:?}, the model needs {shape:?}", entry.shape);
            return Err(model_tensor(path, name, reason));
        }
        self.read(name)
    }

    /// Every tensor, for models that another crate builds by name.
    pub(crate) fn all(mut self) -> Result<std::collections::HashMap<String, Tensor>, EngineError> {
        let names: Vec<String> = self.entries.keys().cloned().collect();
        names
            .into_iter()
            .filter(|name| !name.ends_with("position_ids"))
            .map(|name| Ok((name.clone(), self.read(&name)?)))
            .collect()
    }
}

impl Tensors for Safetensors {
    fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor, EngineError> {
        self.shaped(name, &[length])
    }

    fn table(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor, EngineError> {
        self.shaped(name, &[rows, columns])
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<QMatMul, EngineError> {
        self.table(name, rows, columns).map(QMatMul::Tensor)
    }

    fn tied_head(&mut self, embedding: &Tensor) -> Result<QMatMul, EngineError> {
        Ok(QMatMul::Tensor(embedding.clone()))
    }
}

fn part_paths(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.is_file() || !index.is_file() {
        return Ok(vec![single]);
    }
    let value = read_json(&index)?;
    let map = value
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| model_file(&index, "has no `weight_map`"))?;
    let mut parts = std::collections::BTreeSet::new();
    for (tensor, part) in map {
        let part = part.as_str().unwrap_or_default();
        // A part is a plain name: an index must not reach outside its folder.
        if part.is_empty() || Path::new(part).file_name() != Some(part.as_ref()) {
            return Err(model_tensor(&index, tensor, "names no file of this folder"));
        }
        parts.insert(part.to_owned());
    }
    Ok(parts.into_iter().map(|part| folder.join(part)).collect())
}

type Header = BTreeMap<String, serde_json::Value>;

/// Where the data begins, and what the header says.
fn read_header(path: &Path, file: &mut File, length: u64) -> Result<(u64, Header), EngineError> {
    let mut size = [0u8; 8];
    file.read_exact(&mut size).map_err(|_| model_file(path, "is too short for a safetensors file"))?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_BYTES_MAX || size.saturating_add(8) > length {
        return Err(model_file(path, format!("its header claims {size} bytes, the file has {length}")));
    }
    let mut text = vec![0u8; size as usize];
    file.read_exact(&mut text).map_err(|e| model_file(path, e.to_string()))?;
    let header =
        serde_json::from_slice(&text).map_err(|e| model_file(path, format!("its header is not valid JSON: {e}")))?;
    Ok((size + 8, header))
}

fn checked(raw: &RawEntry, file: usize, data: u64, length: u64) -> Result<Entry, String> {
    let dtype = match raw.dtype.as_str() {
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "F32" => DType::F32,
        "F64" => DType::F64,
        "I64" => DType::I64,
        "U8" => DType::U8,
        other => return Err(format!("type `{other}` is not supported")),
    };
    let (begin, end) = raw.data_offsets;
    let bytes = raw
        .shape
        .iter()
        .try_fold(dtype.size_in_bytes() as u64, |n, &d| n.checked_mul(d))
        .ok_or_else(|| format!("shape {:?} overflows", raw.shape))?;
    if end.checked_sub(begin) != Some(bytes) {
        return Err(format!(
            "shape {:?} of {} needs {bytes} bytes, the header gives it {begin} to {end}",
            raw.shape, raw.dtype
        ));
    }
    let needs = data.saturating_add(end);
    if needs > length {
        return Err(format!("needs a file of {needs} bytes, it has {length}"));
    }
    let shape = raw.shape.iter().map(|&d| d as usize).collect();
    Ok(Entry { file, dtype, shape, begin: data + begin, bytes: bytes as usize })
}
