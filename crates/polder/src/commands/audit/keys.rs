//! `polder audit keys`: the lives of nodes' keys, and for one that was revoked which leaves rest on it.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::Output;
use crate::address::Target;
use crate::commands::log::nodes;
use crate::commands::node_key::row;
use crate::failure::{Exit, Failure};
use crate::render;

/// Show each key's life, and for one that was revoked the window between suspicion and revocation.
///
/// What was written in the window had only that key's word when it was signed. The leaves are under the new key since, with the
/// cosignatures that are named; receipts of the window must be fetched again. Exits with 5 where a key was revoked and no witness
/// has cosigned the log since.
///
/// Example: polder audit keys --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
}

/// Shows them.
pub async fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    for (_, client) in nodes(&arguments.target)? {
        found.push(client.get("/api/v1/node-keys").await?.ok()?);
    }
    let windows = |told: &Value| -> Vec<Value> {
        let keys = told["keys"].as_array().cloned().unwrap_or_default();
        keys.into_iter().filter(|life| !life["window"].is_null()).collect()
    };
    let vouched = |window: &Value| {
        let number = |pointer: &str| window.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let all = number("/first_leaf").saturating_add(number("/leaves"));
        number("/covered_since_by/cosignatures") > 0 && number("/covered_since_by/size") >= all
    };
    let well = found.iter().flat_map(windows).all(|life| vouched(&life["window"]));
    match output {
        Output::Json => render::json(&json!({"vouched": well, "nodes": found}))?,
        Output::Table => {
            let of_node = |told: &Value| {
                let node = told["node"].as_str().unwrap_or_default().to_owned();
                let keys = told["keys"].as_array().cloned().unwrap_or_default();
                keys.iter().map(|life| [vec![node.clone()], row(life)].concat()).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<String>> = found.iter().flat_map(of_node).collect();
            render::table(&["NODE", "USE", "KEY", "FROM (UTC)", "STATE"], &rows)?;
            for life in found.iter().flat_map(windows) {
                render::line(&sentence(&life["window"], vouched(&life["window"])))?;
            }
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

fn sentence(window: &Value, vouched: bool) -> String {
    let (from, until) = (render::instant(&window["from_ms"]), render::instant(&window["until_ms"]));
    let by = match vouched {
        true => format!("the new key and {} witnesses cover them since", window["covered_since_by"]["cosignatures"]),
        false => "NO witness has covered them since".to_owned(),
    };
    format!(
        "compromise window {from} to {until} UTC: {} leaves from {} on rest on the revoked key; {by}",
        window["leaves"], window["first_leaf"]
    )
}
