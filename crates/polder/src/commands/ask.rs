//! `polder ask`: one question through the same endpoint that applications use.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::Output;
use crate::address::DemoRecord;
use crate::client::Client;
use crate::commands::verify::read_members;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::story::{Question, ReceiptPlace, Story, tell};

/// Ask a question and show where it ran, where not, and why.
///
/// OPENAI_BASE_URL and OPENAI_API_KEY name the endpoint where both are set, as for any application; --tenant or --dir, or no such
/// variables, ask the demo. Labels may only narrow what
/// the key's project allows. Exit code 3: refused by policy; 4: no capacity; 5: the receipt does not hold.
///
/// Example: polder ask "What is Polder?" --tenant bank --class restricted
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The question.
    question: String,
    /// As this tenant of the demo; the first one where absent.
    #[arg(long)]
    tenant: Option<String>,
    /// As this project of the tenant; its first one where absent.
    #[arg(long)]
    project: Option<String>,
    /// The model; the project's own, or the endpoint's first one, where absent.
    #[arg(long)]
    model: Option<String>,
    /// Raise the data class.
    #[arg(long)]
    class: Option<String>,
    /// Narrow the purposes, separated by commas.
    #[arg(long)]
    purpose: Option<String>,
    /// Narrow the countries, separated by commas.
    #[arg(long)]
    countries: Option<String>,
    /// The language of the text.
    #[arg(long)]
    language: Option<String>,
    /// Most tokens to generate.
    #[arg(long, default_value_t = 64)]
    max_tokens: u32,
    /// The receipt's file; one named by the decision, in the demo's folder or in `receipts`, where absent.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The demo's folder; the latest demo where absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Asks, and exits by what came of it.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let from_environment = set("OPENAI_BASE_URL").zip(set("OPENAI_API_KEY"));
    let story = match (from_environment, &arguments.tenant, &arguments.dir) {
        (Some((url, key)), None, None) => ask_endpoint(&arguments, &url, &key).await?,
        _ => ask_demo(&arguments).await?,
    };
    match output {
        Output::Json => render::json(&story)?,
        Output::Table => {
            if let Some(text) = &story.text {
                render::line(text)?;
            }
            story.lines().iter().for_each(|line| eprintln!("{line}"));
        }
    }
    Ok(match story.status.as_str() {
        _ if !story.verified => Exit::NotVerified.into(),
        "placed" => ExitCode::SUCCESS,
        "no-capacity" => Exit::NoCapacity.into(),
        _ => Exit::Refused.into(),
    })
}

async fn ask_endpoint(arguments: &Arguments, url: &str, key: &str) -> Result<Story, Failure> {
    let client = Client::to(url, Some(key))?;
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => {
            let models = client.get("/v1/models").await?.ok()?;
            let first = models.pointer("/data/0/id").and_then(|id| id.as_str());
            first.ok_or_else(|| Failure::new("the endpoint offers no model"))?.to_owned()
        }
    };
    let place = ReceiptPlace::of(arguments.receipt.as_deref(), Path::new("receipts"));
    tell(&client, question(arguments, "", model), &place, None).await
}

async fn ask_demo(arguments: &Arguments) -> Result<Story, Failure> {
    let record = DemoRecord::find(arguments.dir.as_deref())?;
    record.ensure_runs()?;
    let tenant = record.tenant(arguments.tenant.as_deref())?;
    let project = match &arguments.project {
        Some(name) => tenant.projects.iter().find(|one| one.project.as_str() == name),
        None => tenant.projects.first(),
    };
    let project = project.ok_or_else(|| {
        let names: Vec<&str> = tenant.projects.iter().map(|one| one.project.as_str()).collect();
        Failure::new("the tenant has no such project").hint(format!("projects: {}", names.join(", "))).exit(Exit::Usage)
    })?;
    let model = arguments.model.clone().unwrap_or_else(|| project.model.to_string());
    let members = read_members(&record.dir.join("members.json"))?;
    let place = ReceiptPlace::of(arguments.receipt.as_deref(), &receipts_folder(&record.dir));
    let client = Client::to(&tenant.endpoint, Some(&project.key))?;
    tell(&client, question(arguments, tenant.tenant.as_str(), model), &place, Some(&members)).await
}

/// Where a demo's receipts are put.
pub fn receipts_folder(dir: &Path) -> PathBuf {
    dir.join("receipts")
}

fn question(arguments: &Arguments, tenant: &str, model: String) -> Question {
    let labels = [
        ("polder-class", &arguments.class),
        ("polder-purpose", &arguments.purpose),
        ("polder-countries", &arguments.countries),
        ("polder-language", &arguments.language),
    ];
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect();
    let text = arguments.question.clone();
    Question { tenant: tenant.to_owned(), model, text, labels, max_tokens: arguments.max_tokens }
}
