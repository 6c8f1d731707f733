//! `polder status`: how a node, or every node of the demo, is.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::Output;
use crate::address::Target;
use crate::failure::Failure;
use crate::render;

/// Show how a node, or every node of the demo, is.
///
/// Example: polder status
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
}

/// Prints the status.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let nodes = match arguments.target.single()? {
        Some(client) => vec![client.get("/api/v1/status").await?.ok()?],
        None => {
            let record = arguments.target.demo()?;
            let mut nodes = Vec::new();
            for node in &record.nodes {
                let status = match record.client(node.node.as_str())?.get("/api/v1/status").await {
                    Ok(answer) => answer.ok()?,
                    Err(_) => json!({"node": node.node, "down": true}),
                };
                nodes.push(status);
            }
            nodes
        }
    };
    match output {
        Output::Json => render::json(&json!({"nodes": nodes}))?,
        Output::Table => {
            let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
            render::table(&["NODE", "UP", "ROLE", "LOG", "DETAIL"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(status: &Value) -> Vec<String> {
    let node = status["node"].as_str().unwrap_or_default().to_owned();
    if status["down"] == true {
        return vec![node, "no".into(), String::new(), String::new(), "does not answer".into()];
    }
    let (home, factory) = (&status["home"], &status["factory"]);
    let mut roles = Vec::new();
    let mut details = Vec::new();
    if home.is_object() {
        roles.push(format!("home of {}", home["tenant"].as_str().unwrap_or_default()));
        details.push(format!("{} of {} factories up", home["factories_up"], home["factories"]));
        let guardrails = home["guardrails"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let guardrails: Vec<&str> = guardrails.collect();
        if !guardrails.is_empty() {
            details.push(format!("guardrails: {}", guardrails.join(", ")));
        }
        let problems = home["policy_problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
        details.extend(problems.map(str::to_owned));
    }
    if factory.is_object() {
        roles.push(format!("factory ({})", factory["backend"].as_str().unwrap_or_default()));
        details.push(format!("{} of {} taken", factory["running"], count(&factory["places"], "place", "places")));
        let problems = factory["model_problems"].as_array().into_iter().flatten();
        details.extend(problems.filter_map(|one| one["error"].as_str()).map(str::to_owned));
        details.extend(factory["terms_problem"].as_str().map(str::to_owned));
    }
    if let Some(alarms) = status["alarms"].as_u64().filter(|alarms| *alarms > 0) {
        details.push(format!(
            "{}: see `polder log alarms`",
            count(&alarms.into(), "ALARM about a log", "ALARMS about logs")
        ));
    }
    vec![node, "yes".into(), roles.join(", "), count(&status["log_leaves"], "entry", "entries"), details.join("; ")]
}

/// A number with its noun.
fn count(number: &Value, one: &str, many: &str) -> String {
    format!("{number} {}", if number.as_u64() == Some(1) { one } else { many })
}
