//! `polder twin init`: lays out the studies that are part of this binary, as a start for one's own.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::Output;
use crate::failure::{Failure, of_file};
use crate::render;

/// Write the studies that are part of this binary, with the federation, policies and terms that they name, into a folder.
///
/// Nothing that is there is overwritten.
///
/// Example: polder twin init plans
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// The folder; it is made where it is missing.
    folder: PathBuf,
}

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../../", $path)))),*]
    };
}

/// Paths as in the source tree, which the studies' own paths rely on.
const FILES: &[(&str, &str)] = shipped![
    "studies/country.toml",
    "studies/demo.toml",
    "studies/policies/bank-no-us-control.cedar",
    "studies/policies/start-up-no-us-control.cedar",
    "studies/tenfold/federation.toml",
    "studies/tenfold/grow.toml",
    "studies/tenfold/study.toml",
    "studies/tenfold/year.toml",
    "studies/us-control.toml",
    "studies/vendor.toml",
    "demo/federation.toml",
    "demo/policies/bank.cedar",
    "demo/policies/baseline.cedar",
    "demo/policies/defence.cedar",
    "demo/policies/image-lab.cedar",
    "demo/policies/start-up.cedar",
    "demo/terms/bologna.cedar",
    "demo/terms/open.cedar",
];

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    for (path, text) in FILES {
        let path = arguments.folder.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(of_file(folder))?;
        }
        let mut file = std::fs::File::create_new(&path).map_err(|e| {
            Failure::new(format!("`{}`: {e}", path.display())).hint("name a folder that holds no studies yet")
        })?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(of_file(&path))?;
    }
    let studies = FILES
        .iter()
        .filter(|(path, _)| path.starts_with("studies/") && path.ends_with(".toml") && !path.contains("federation"));
    let studies: Vec<String> = studies.map(|(path, _)| arguments.folder.join(path).display().to_string()).collect();
    match output {
        Output::Json => render::json(&json!({"studies": studies}))?,
        Output::Table => studies.iter().try_for_each(|path| render::line(path))?,
    }
    Ok(ExitCode::SUCCESS)
}
