//! `polder policy template`: policies to begin with, written out with their tests.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// A template's name, its policy, and its tests.
const TEMPLATES: &[(&str, &str, &str)] = &[
    (
        "eea-only",
        include_str!("../../../../../templates/eea-only.cedar"),
        include_str!("../../../../../templates/eea-only.test.toml"),
    ),
    (
        "eu-control",
        include_str!("../../../../../templates/eu-control.cedar"),
        include_str!("../../../../../templates/eu-control.test.toml"),
    ),
    (
        "named-countries-and-clearance",
        include_str!("../../../../../templates/named-countries-and-clearance.cedar"),
        include_str!("../../../../../templates/named-countries-and-clearance.test.toml"),
    ),
    (
        "model-custody",
        include_str!("../../../../../templates/model-custody.cedar"),
        include_str!("../../../../../templates/model-custody.test.toml"),
    ),
    (
        "open-for-public-data",
        include_str!("../../../../../templates/open-for-public-data.cedar"),
        include_str!("../../../../../templates/open-for-public-data.test.toml"),
    ),
    (
        "vendor-share",
        include_str!("../../../../../templates/vendor-share.cedar"),
        include_str!("../../../../../templates/vendor-share.test.toml"),
    ),
];

/// List the policy templates, or write one out with its tests.
///
/// Example: polder policy template eu-control
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The template; the list where absent.
    name: Option<String>,
    /// The folder to write into; made where it is missing.
    #[arg(long, value_name = "FOLDER", default_value = ".", requires = "name")]
    into: PathBuf,
    /// Write over files of the same names.
    #[arg(long, requires = "name")]
    force: bool,
}

/// Lists or writes.
pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let Some(name) = &arguments.name else { return list(output) };
    let Some((_, policy, tests)) = TEMPLATES.iter().find(|(known, ..)| known == name) else {
        let names: Vec<&str> = TEMPLATES.iter().map(|(name, ..)| *name).collect();
        let failure = Failure::new(format!("no template `{name}`")).exit(Exit::Usage);
        return Err(failure.hint(format!("templates: {}", names.join(", "))));
    };
    std::fs::create_dir_all(&arguments.into).map_err(of_file(&arguments.into))?;
    let files = [(format!("{name}.cedar"), policy), (format!("{name}.test.toml"), tests)];
    let paths = files.map(|(file, text)| (arguments.into.join(file), *text));
    if let Some((there, _)) = paths.iter().find(|(path, _)| path.exists() && !arguments.force) {
        let failure = Failure::new(format!("`{}` is there already", there.display()));
        return Err(failure.hint("choose another folder with `--into`, or write over it with `--force`"));
    }
    for (path, text) in &paths {
        std::fs::write(path, text).map_err(of_file(path))?;
    }
    let written: Vec<String> = paths.iter().map(|(path, _)| path.display().to_string()).collect();
    match output {
        Output::Json => render::json(&json!({"template": name, "files": written}))?,
        Output::Table => written.iter().try_for_each(|path| render::line(path.trim_start_matches("./")))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(output: Output) -> Result<ExitCode, Failure> {
    // The first line of a template says what it is for.
    let says = |policy: &str| policy.lines().next().unwrap_or_default().trim_start_matches("// ").to_owned();
    match output {
        Output::Json => {
            let all: Vec<Value> =
                TEMPLATES.iter().map(|(name, policy, _)| json!({"name": name, "says": says(policy)})).collect();
            render::json(&json!({"templates": all}))?;
        }
        Output::Table => {
            let rows: Vec<Vec<String>> =
                TEMPLATES.iter().map(|(name, policy, _)| vec![(*name).to_owned(), says(policy)]).collect();
            render::table(&["TEMPLATE", "WHAT IT SAYS"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
