//! `polder why`: a decision with every factory, rule, clause and fact, and what would change it.

use std::process::ExitCode;

use reqwest::StatusCode;
use serde_json::Value;

use crate::Output;
use crate::address::Target;
use crate::client::Client;
use crate::failure::Failure;
use crate::render;

/// Explain a decision: every factory, every rule, every fact, and what would change it.
///
/// Example: polder why last
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A decision's, receipt's or completion's id, or `last`.
    id: String,
    /// Ask this tenant's node only.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Prints the explanation.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let id = arguments.id.trim_start_matches("/api/v1/receipts/").trim_end_matches(".receipt.json");
    let id = id.rsplit('/').next().unwrap_or(id);
    let path = format!("/api/v1/decisions/{id}");
    let decision = find(&arguments.target, arguments.tenant.as_deref(), &path, id).await?;
    match output {
        Output::Json => render::json(&decision)?,
        Output::Table => print(&decision)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the node that decided says under `path`; of the demo's nodes, the one that knows the id, the newest where several do.
pub async fn find(target: &Target, tenant: Option<&str>, path: &str, id: &str) -> Result<Value, Failure> {
    if let Some(client) = target.single()? {
        return client.get(path).await?.ok();
    }
    let record = target.demo()?;
    let homes: Vec<Client> = match tenant {
        Some(tenant) => vec![record.client(record.tenant(Some(tenant))?.home.as_str())?],
        None => record.tenants.iter().map(|one| record.client(one.home.as_str())).collect::<Result<_, _>>()?,
    };
    let mut found: Option<Value> = None;
    for home in homes {
        let answer = home.get(path).await?;
        if answer.status == StatusCode::NOT_FOUND {
            continue;
        }
        let decision = answer.ok()?;
        let at = |decision: &Value| decision.pointer("/statement/at_ms").and_then(Value::as_u64);
        if found.as_ref().is_none_or(|known| at(&decision) > at(known)) {
            found = Some(decision);
        }
    }
    found.ok_or_else(|| {
        Failure::new(format!("no node knows `{id}`"))
            .hint("ids stand in `polder-decision` headers; `last` is the newest")
    })
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn print(decision: &Value) -> Result<(), Failure> {
    let request = &decision["statement"]["request"];
    let purposes: Vec<&str> = request
        .pointer("/labels/purposes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    render::line(&format!("decision {}", text(decision, "/decision")))?;
    render::line(&format!(
        "{} of {} / {}, model {}, class {}, purposes {}",
        text(request, "/action"),
        text(request, "/tenant"),
        text(request, "/project"),
        text(request, "/model"),
        text(request, "/labels/class"),
        purposes.join(", ")
    ))?;
    print_verdicts(decision)
}

/// Prints outcome, every factory's verdict and the nearest relaxations.
pub fn print_verdicts(decision: &Value) -> Result<(), Failure> {
    match decision["factory"].as_str() {
        Some(factory) => render::line(&format!("outcome: placed in {}", render::bold(factory)))?,
        None => render::line(&format!("outcome: {}", render::bold(text(decision, "/outcome"))))?,
    }
    for verdict in decision["verdicts"].as_array().into_iter().flatten() {
        let factory = text(verdict, "/factory");
        let causes = verdict["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
        if causes.is_empty() {
            render::line(&format!("\n{}  yes, score {} (lower wins)", render::bold(factory), verdict["score"]))?;
            print_parts(decision, verdict)?;
            continue;
        }
        render::line(&format!("\n{}  no", render::bold(factory)))?;
        causes.iter().try_for_each(print_cause)?;
    }
    let nearest = decision["nearest"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !nearest.is_empty() {
        render::line("\nnearest, first what is closest to what the owner would do:")?;
        nearest.iter().try_for_each(|one| render::line(&format!("  {}", text(one, "/sentence"))))?;
    }
    Ok(())
}

/// What a score is made of, where the owner weighs more than one thing.
fn print_parts(decision: &Value, verdict: &Value) -> Result<(), Failure> {
    const PARTS: [(&str, &str, &str); 7] = [
        ("price", "price_microeur_per_mtok", "micro-euro a million tokens"),
        ("load", "load_ppm", "millionths of its places"),
        ("latency", "rtt_us", "us round trip"),
        ("queue", "queue_ppm", "millionths of its places wait"),
        ("first_token", "first_token_us", "us to the first token"),
        ("carbon", "carbon_mg_per_kwh", "mg of CO2e a kWh"),
        ("affinity", "affinity_ppm", "millionths from its place"),
    ];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (weights, inputs) = (decision.pointer("/statement/weights"), &verdict["inputs"]);
    let part = |(weight, input, unit): &(&str, &str, &str)| {
        let times = weights.map_or(0, |weights| number(&weights[*weight]));
        (times > 0).then(|| format!("{weight} {} {unit} x {times}", number(&inputs[*input])))
    };
    let parts: Vec<String> = PARTS.iter().filter_map(part).collect();
    if parts.len() < 2 { Ok(()) } else { render::line(&format!("  {}", parts.join("\n  "))) }
}

fn print_cause(cause: &Value) -> Result<(), Failure> {
    let clause = match cause.pointer("/clause/line").and_then(Value::as_u64) {
        Some(line) => format!(" ({}:{line})", text(cause, "/clause/file")),
        None => String::new(),
    };
    render::line(&format!("  {} [{}{clause}]", text(cause, "/reason"), text(cause, "/rule")))?;
    for fact in cause["facts"].as_array().into_iter().flatten() {
        let source = match fact["evidence"].as_str() {
            Some(class) => {
                format!(", class {class}, by {}, since {}", text(fact, "/issuer"), render::date(&fact["from_ms"]))
            }
            None => String::new(),
        };
        render::line(&format!("    {}: {}{source}", text(fact, "/kind"), text(fact, "/says")))?;
    }
    Ok(())
}
