//! Files that are cut, altered or missing: named, and never run.

use std::path::Path;

use serde_json::Value;

use super::super::{EngineLimits, ModelSource};
use super::{Embedded, Folder, demo, load};
use crate::inference::{Engine, EngineError};

/// The reason why the only model was not loaded.
fn failure(path: &Path) -> (String, String) {
    let engine = load(path);
    assert!(engine.models().is_empty());
    match &engine.failures()[0].1 {
        EngineError::ModelFile { file, reason } => (file.clone(), reason.clone()),
        other => panic!("{other}"),
    }
}

/// Rewrites the safetensors header of a copy of the demo model.
fn with_header(change: impl Fn(&mut Value)) -> Folder {
    let folder = Folder::of_demo();
    let path = folder.0.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let mut new = (header.len() as u64).to_le_bytes().to_vec();
    new.extend(header.as_bytes());
    new.extend(&bytes[8 + size..]);
    std::fs::write(&path, new).unwrap();
    folder
}

const NORM: &str = "model.norm.weight";

#[test]
fn an_untouched_header_still_loads() {
    let folder = with_header(|_| {});
    assert_eq!(load(&folder.0).failures(), []);
}

#[test]
fn a_cut_file_names_file_and_tensor() {
    let folder = Folder::of_demo();
    let path = folder.0.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let (file, reason) = failure(&folder.0);
    assert!(file.contains("model.safetensors, tensor model."), "{file}");
    assert!(reason.contains("needs a file of"), "{reason}");
}

#[test]
fn any_cut_is_an_error_and_never_a_panic() {
    let folder = Folder::of_demo();
    let path = folder.0.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 1, 7, 8, 9, 100, 2000, bytes.len() / 2] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let (file, _) = failure(&folder.0);
        assert!(file.contains("model.safetensors"), "{file}");
    }
}

#[test]
fn altered_headers_name_the_tensor() {
    let shape = |shape: Value| move |h: &mut Value| h[NORM]["shape"] = shape.clone();
    let cases: [(Folder, &str); 6] = [
        (with_header(shape(serde_json::json!([7]))), "needs 14 bytes"),
        (with_header(shape(serde_json::json!([u64::MAX, 9]))), "overflows"),
        (with_header(shape(serde_json::json!("wide"))), "header entry"),
        (with_header(|h| h[NORM]["dtype"] = "Q9".into()), "`Q9`"),
        (with_header(|h| h[NORM]["data_offsets"] = serde_json::json!([9, 5])), "the header gives it 9 to 5"),
        (
            with_header(|h| {
                h.as_object_mut().unwrap().remove(NORM);
            }),
            "is missing",
        ),
    ];
    for (folder, expected) in cases {
        let (file, reason) = failure(&folder.0);
        assert!(file.ends_with("model.safetensors, tensor model.norm.weight"), "{file}");
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_shape_that_does_not_fit_the_config_names_the_tensor() {
    let folder = Folder::of_demo();
    let path = folder.0.join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["intermediate_size"] = 100.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let (file, reason) = failure(&folder.0);
    assert!(file.contains("tensor model.layers.0.mlp.gate_proj.weight"), "{file}");
    assert!(reason.contains("the model needs [100, "), "{reason}");
}

#[test]
fn configs_that_make_no_sense_are_refused() {
    for (key, value, expected) in [
        ("num_attention_heads", 0, "num_attention_heads"),
        ("num_key_value_heads", 5, "cannot share"),
        ("hidden_size", usize::MAX >> 1, "hidden_size"),
        ("head_dim", 3, "odd"),
    ] {
        let folder = Folder::of_demo();
        let path = folder.0.join("config.json");
        let config = std::fs::read_to_string(&path).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config[key] = value.into();
        std::fs::write(&path, config.to_string()).unwrap();
        let (file, reason) = failure(&folder.0);
        assert!(file.ends_with("config.json"), "{file}");
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn unknown_architectures_and_missing_files_are_named() {
    let folder = Folder::of_demo();
    std::fs::write(folder.0.join("config.json"), r#"{"architectures": ["MambaForCausalLM"]}"#).unwrap();
    assert!(failure(&folder.0).1.contains("`MambaForCausalLM`"));
    std::fs::remove_file(folder.0.join("config.json")).unwrap();
    assert!(failure(&folder.0).0.ends_with("config.json"));
    assert!(failure(Path::new("/nowhere/at/all")).1.contains("does not exist"));
}

#[test]
fn one_bad_model_does_not_keep_the_others_from_serving() {
    let source = |id: &str, path: &Path| ModelSource { id: id.into(), path: path.to_owned() };
    let sources = [source("bad", Path::new("/nowhere")), source("good", &demo()), source("good", &demo())];
    let engine = Embedded::load(&sources, EngineLimits::default());
    assert_eq!(engine.models().len(), 1);
    assert_eq!(engine.failures().len(), 2);
}

#[test]
fn an_index_cannot_reach_outside_its_folder() {
    let folder = Folder::of_demo();
    std::fs::remove_file(folder.0.join("model.safetensors")).unwrap();
    let index = r#"{"weight_map": {"a": "../../etc/passwd"}}"#;
    std::fs::write(folder.0.join("model.safetensors.index.json"), index).unwrap();
    assert!(failure(&folder.0).1.contains("no file of this folder"));
}

#[test]
fn sharded_weights_are_read_through_their_index() {
    let folder = Folder::of_demo();
    let path = folder.0.join("model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (mut one, mut two) = (std::collections::HashMap::new(), std::collections::HashMap::new());
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let (part, file) = match i % 2 {
            0 => (&mut one, "model-1.safetensors"),
            _ => (&mut two, "model-2.safetensors"),
        };
        map.insert(name.clone(), file.into());
        part.insert(name, tensor);
    }
    candle_core::safetensors::save(&one, folder.0.join("model-1.safetensors")).unwrap();
    candle_core::safetensors::save(&two, folder.0.join("model-2.safetensors")).unwrap();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(folder.0.join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(load(&folder.0).failures(), []);
}
