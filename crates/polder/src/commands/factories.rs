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
    let client = arguments.target.home(arguments.tenant.as_deref())?;
    let answer = client.get("/api/v1/factories").await?.ok()?;
    match output {
        Output::Json => render::json(&answer)?,
        Output::Table => print(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the factories as a table, and what the letters in it mean.
pub fn print(answer: &Value) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = answer["factories"].as_array().into_iter().flatten().map(row).collect();
    render::table(
        &["FACTORY", "UP", "SITE", "OPERATOR, OWNERS", "CHIPS", "CERTIFIED", "CLEARED BY", "EUR/MTOK"],
        &rows,
    )?;
    render::line("After a fact, its evidence: A measured, B signed by a third party, C only declared by the operator.")
}

fn row(factory: &Value) -> Vec<String> {
    let name = |pointer: &str| factory.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let price = factory["price_microeur_per_mtok"].as_u64();
    vec![
        name("/factory"),
        up(factory).to_owned(),
        facts(factory, "site", |claim| words(&[&claim["city"], &claim["country"]])).join(", "),
        [facts(factory, "operator", |claim| text(&claim["country"])), facts(factory, "control", owners)]
            .concat()
            .join(" < "),
        facts(factory, "chips", |claim| words(&[&claim["accelerators"], &claim["vendor"]])).join(", "),
        facts(factory, "certifications", |claim| text(&claim["scheme"])).join(", "),
        facts(factory, "clearances", |claim| text(&claim["country"])).join(", "),
        price.map_or_else(String::new, |price| format!("{}.{:02}", price / 1_000_000, price % 1_000_000 / 10_000)),
    ]
}

/// Whether it answers; `open` and `probing` are a breaker's words for one that failed several times in a row.
fn up(factory: &Value) -> &'static str {
    match (factory["up"].as_bool(), factory.pointer("/circuit/state").and_then(Value::as_str)) {
        (Some(true), Some("open")) => "open",
        (Some(true), Some("half-open" | "probing")) => "probing",
        (Some(true), _) => "yes",
        _ => "no",
    }
}

/// The facts of one kind in a few words, each with its evidence class.
fn facts(factory: &Value, kind: &str, say: impl Fn(&Value) -> String) -> Vec<String> {
    let all = factory["facts"].as_array().into_iter().flatten();
    let of_kind = all.filter(|fact| fact["slot"].as_str().and_then(|slot| slot.split('/').next()) == Some(kind));
    of_kind.map(|fact| format!("{} {}", say(&fact["claim"]), text(&fact["evidence"]))).collect()
}

fn owners(claim: &Value) -> String {
    let countries: Vec<String> =
        claim["owners"].as_array().into_iter().flatten().map(|owner| text(&owner["country"])).collect();
    if countries.is_empty() { "none".to_owned() } else { countries.join(" < ") }
}

fn words(values: &[&Value]) -> String {
    values.iter().map(|value| text(value)).collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
