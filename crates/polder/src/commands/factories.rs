//! `polder factories`: what a tenant's node knows of the factories.

use std::process::ExitCode;

use serde_json::Value;

use crate::Output;
use crate::address::Target;
use crate::failure::Failure;
use crate::render;

/// List the factories and what is known of them, with the evidence class of each fact.
///
/// Example: polder factories --tenant bank
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// As this tenant's node sees them.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Prints the factories.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let client = match arguments.target.single()? {
        Some(client) => client,
        None => {
            let record = arguments.target.demo()?;
            let tenant = record.tenant(arguments.tenant.as_deref())?;
            record.client(tenant.home.as_str())?
        }
    };
    let answer = client.get("/api/v1/factories").await?.ok()?;
    match output {
        Output::Json => render::json(&answer)?,
        Output::Table => print(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the factories as a table.
pub fn print(answer: &Value) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = answer["factories"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["FACTORY", "UP", "SITE", "OPERATOR AND OWNERS", "CHIPS (DECLARED)", "CERTIFIED", "EUR/MTOK"], &rows)
}

fn row(factory: &Value) -> Vec<String> {
    let facts = |kind: &str| -> Vec<String> {
        let all = factory["facts"].as_array().into_iter().flatten();
        let of_kind = all.filter(|fact| fact["slot"].as_str().and_then(|slot| slot.split('/').next()) == Some(kind));
        of_kind
            .map(|fact| {
                format!("{} {}", fact["says"].as_str().unwrap_or_default(), fact["evidence"].as_str().unwrap_or("-"))
            })
            .collect()
    };
    let control = [facts("operator"), facts("control")].concat().join(" < ");
    vec![
        factory["factory"].as_str().unwrap_or_default().to_owned(),
        if factory["up"] == true { "yes" } else { "no" }.to_owned(),
        facts("site").join(", "),
        control,
        facts("chips").join(", "),
        [facts("certifications"), facts("clearances")].concat().join(", "),
        factory["price_microeur_per_mtok"]
            .as_u64()
            .map_or_else(String::new, |price| render::price(price).replace(" EUR", "")),
    ]
}
