//! `polder usage`: what jobs cost, for people, for other programs, and under the column names of FOCUS; and money for jobs.
//!
//! Requests are counted by `polder budget usage`.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::budget::{euro, microeur};
use super::jobs::text;
use super::key::At;
use crate::Output;
use crate::failure::Failure;
use crate::render;

/// Show and export what jobs cost, and give projects money for them.
///
/// Example: polder usage export --format focus > jobs.csv
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show what every account of every award holds.
    ///
    /// Example: polder usage accounts
    #[command(verbatim_doc_comment)]
    Accounts {
        #[command(flatten)]
        at: At,
    },
    /// Write one line for each run that was charged.
    ///
    /// Example: polder usage export --format csv
    #[command(verbatim_doc_comment)]
    Export {
        /// The form.
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        #[command(flatten)]
        at: At,
    },
    /// Give a project money for jobs.
    ///
    /// Example: polder usage grant --project customer-desk --euro 250
    #[command(verbatim_doc_comment)]
    Grant {
        /// The project.
        #[arg(long)]
        project: String,
        /// How much, in euro.
        #[arg(long)]
        euro: String,
        /// The award; the home's own where absent.
        #[arg(long)]
        award: Option<String>,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated, with Polder's own names.
    Csv,
    /// One JSON document.
    Json,
    /// Comma-separated, with the column names of FOCUS 1.2.
    Focus,
}

/// The fields of a charge, as CSV names them.
const FIELDS: [&str; 17] = [
    "job", "epoch", "name", "index", "tenant", "project", "award", "factory", "outcome", "verdict", "decision",
    "started_ms", "ended_ms", "ran_ms", "cores", "accelerators", "microeur",
];

/// Columns of FOCUS (<https://focus.finops.org/focus-specification/v1-2/>), in the order in which they are written.
const FOCUS: [&str; 27] = [
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "InvoiceIssuerName",
    "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceName",
    "ServiceCategory", "ServiceName", "SkuId", "SubAccountId",
];

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Accounts { at } => {
            let told = at.home()?.get("/api/v1/job-usage").await?.ok()?;
            match output {
                Output::Json => render::json(&told["accounts"])?,
                Output::Table => accounts(&told)?,
            }
        }
        Task::Export { format, at } => {
            let told = at.home()?.get("/api/v1/job-usage").await?.ok()?;
            let charges = told["charges"].as_array().map(Vec::as_slice).unwrap_or_default();
            match format {
                Format::Json => render::json(&told["charges"])?,
                Format::Csv => {
                    csv(&FIELDS, charges.iter().map(|charge| FIELDS.map(|name| plain(&charge[name])).to_vec()))?
                }
                Format::Focus => csv(&FOCUS, charges.iter().map(focus))?,
            }
        }
        Task::Grant { project, euro: amount, award, at } => {
            let body = json!({"project": project, "microeur": microeur(&amount)?, "award": award});
            let told = at.home()?.post("/api/v1/job-grants", &body, &[]).await?.ok()?;
            match output {
                Output::Json => render::json(&told)?,
                Output::Table => {
                    let held = euro(told["microeur"].as_u64().unwrap_or(0));
                    render::line(&format!("project/{project} has {held} euro of `{}`", text(&told["award"])))?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn accounts(told: &Value) -> Result<(), Failure> {
    let row = |account: &Value| {
        let microeur = account["microeur"].as_i64().unwrap_or(0);
        let sign = if microeur < 0 { "-" } else { "" };
        vec![text(&account["award"]), text(&account["account"]), format!("{sign}{}", euro(microeur.unsigned_abs()))]
    };
    let rows: Vec<Vec<String>> = told["accounts"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["AWARD", "ACCOUNT", "EURO"], &rows)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Lines as RFC 4180 has them; a cell that a spreadsheet would take for a formula is told by a quote before it.
fn csv(names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), Failure> {
    render::line(&names.join(","))?;
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| quoted(cell)).collect();
        render::line(&cells.join(","))?;
    }
    Ok(())
}

fn quoted(cell: &str) -> String {
    let guarded = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() };
    if guarded.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

/// A charge under the names of FOCUS.
fn focus(charge: &Value) -> Vec<String> {
    let cost = euro(charge["microeur"].as_u64().unwrap_or(0));
    let (from, until) = (charge["started_ms"].as_u64().unwrap_or(0), charge["ended_ms"].as_u64().unwrap_or(0));
    let (month, next) = month_of(from);
    let hours = |count: &Value| {
        // Whole thousandths of an hour, and no fraction computed on the way.
        let thousandths = charge["ran_ms"].as_u64().unwrap_or(0).saturating_mul(count.as_u64().unwrap_or(0)) / 3_600;
        format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    };
    let accelerated = charge["accelerators"].as_u64() > Some(0);
    let (quantity, unit, sku) = if accelerated {
        (hours(&charge["accelerators"]), "Accelerator-Hours", "job-accelerator")
    } else {
        (hours(&charge["cores"]), "Core-Hours", "job-core")
    };
    let factory = text(&charge["factory"]);
    let cell = |name: &&str| match *name {
        "BilledCost" | "ContractedCost" | "EffectiveCost" | "ListCost" => cost.clone(),
        "BillingAccountId" => text(&charge["award"]),
        "BillingAccountName" => text(&charge["tenant"]),
        "BillingCurrency" => "EUR".to_owned(),
        "BillingPeriodStart" => month.clone(),
        "BillingPeriodEnd" => next.clone(),
        "ChargeCategory" => "Usage".to_owned(),
        "ChargeDescription" => format!("run {} of job `{}`", charge["epoch"], text(&charge["name"])),
        "ChargeFrequency" => "Usage-Based".to_owned(),
        "ChargePeriodStart" => instant(from),
        "ChargePeriodEnd" => instant(until),
        "ConsumedQuantity" | "PricingQuantity" => quantity.clone(),
        "ConsumedUnit" | "PricingUnit" => unit.to_owned(),
        "InvoiceIssuerName" | "ProviderName" | "PublisherName" => factory.clone(),
        "ResourceId" => text(&charge["job"]),
        "ResourceName" => text(&charge["name"]),
        "ServiceCategory" => "Compute".to_owned(),
        "ServiceName" => "Polder jobs".to_owned(),
        "SkuId" => sku.to_owned(),
        "SubAccountId" => text(&charge["project"]),
        _ => String::new(),
    };
    FOCUS.iter().map(cell).collect()
}

/// An instant as ISO 8601 has it, in UTC.
fn instant(ms: u64) -> String {
    let (year, month, day) = date_of(ms / 86_400_000);
    let s = ms / 1_000 % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3_600, s / 60 % 60, s % 60)
}

/// The month of an instant: its first instant, and the next month's.
fn month_of(ms: u64) -> (String, String) {
    let (year, month, _) = date_of(ms / 86_400_000);
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    (format!("{year:04}-{month:02}-01T00:00:00Z"), format!("{next_year:04}-{next:02}-01T00:00:00Z"))
}

/// Year, month and day of a day since the Unix epoch (Howard Hinnant's `civil_from_days`,
/// <https://howardhinnant.github.io/date_algorithms.html>).
fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{instant, month_of, quoted};

    #[test]
    fn instants_and_months() {
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(instant(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(instant(1_798_761_599_000), "2026-12-31T23:59:59Z");
        let (from, until) = month_of(1_798_761_599_000);
        assert_eq!((from.as_str(), until.as_str()), ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"));
    }

    #[test]
    fn cells_are_cells() {
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"no\""), "\"say \"\"no\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }
}
