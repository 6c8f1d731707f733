//! `polder budget`: what the tenant, its projects and its keys may do and spend, and what they used.
//!
//! Money is typed and shown in euro and kept in micro-euro. Counting is absent: that is the node's ledger.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use polder_core::ledger::{Budget, Limits, Window};
use serde_json::{Value, json};

use super::key::At;
use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// Show and set budgets and rates, and show what was used.
///
/// Example: polder budget set project/customer-desk --euro 100 --window month
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show every account that has limits: what is spent, held by the gateway, lost in a crash, and left.
    ///
    /// Example: polder budget show --tenant bank
    #[command(verbatim_doc_comment)]
    Show {
        #[command(flatten)]
        at: At,
    },
    /// Set all limits of an account; what is not named is not limited.
    ///
    /// Example: polder budget set tenant --euro 500 --window month --requests-per-minute 6000
    #[command(verbatim_doc_comment)]
    Set {
        /// `tenant`, `project/NAME` or `key/ID`.
        account: String,
        #[command(flatten)]
        limits: LimitOptions,
        #[command(flatten)]
        at: At,
    },
    /// Show what the tenant, its projects and its keys used today and this month.
    ///
    /// Example: polder budget usage --tenant bank
    #[command(verbatim_doc_comment)]
    Usage {
        #[command(flatten)]
        at: At,
    },
    /// Give back what a crash lost and no record accounts for.
    ///
    /// A crashed node's tranches count as spent. What the factories' receipts account for is settled by itself; the rest
    /// may have been used without a trace, so that giving it back is your decision.
    ///
    /// Example: polder budget reconcile --tenant bank
    #[command(verbatim_doc_comment)]
    Reconcile {
        #[command(flatten)]
        at: At,
    },
}

/// Since when a budget's spending counts.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WindowOption {
    /// Since midnight in UTC.
    Day,
    /// Since the first of the month in UTC.
    Month,
    /// Since the budget was set for the first time.
    Total,
}

/// Options that say what an account may do.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitOptions {
    /// Most requests per minute.
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    /// Most tokens per minute, read and generated.
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Most answers under way at once.
    #[arg(long, value_name = "N")]
    streams: Option<u32>,
    /// Most money, in euro, such as 12.50.
    #[arg(long, value_name = "EURO")]
    euro: Option<String>,
    /// In which time that money may be spent.
    #[arg(long, value_enum, default_value = "month", requires = "euro")]
    window: WindowOption,
}

impl LimitOptions {
    /// The limits that they name.
    pub fn limits(&self) -> Result<Limits, Failure> {
        let window = match self.window {
            WindowOption::Day => Window::Day,
            WindowOption::Month => Window::Month,
            WindowOption::Total => Window::Total,
        };
        let microeur = self.euro.as_deref().map(microeur).transpose()?;
        Ok(Limits {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            streams: self.streams,
            budget: microeur.map(|microeur| Budget { microeur, window }),
        })
    }
}

/// How an answer is shown.
type Show = fn(&Value) -> Result<(), Failure>;

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let (told, show): (Value, Show) = match arguments.task {
        Task::Show { at } => (at.home()?.get("/api/v1/budgets").await?.ok()?, show),
        Task::Set { account, limits, at } => {
            let body = json!({"account": account, "limits": limits.limits()?});
            (at.home()?.post("/api/v1/budgets", &body, &[]).await?.ok()?, set)
        }
        Task::Usage { at } => (at.home()?.get("/api/v1/usage").await?.ok()?, usage),
        Task::Reconcile { at } => {
            (at.home()?.post("/api/v1/budgets/reconcile", &json!({}), &[]).await?.ok()?, reconciled)
        }
    };
    match output {
        Output::Json => render::json(&told)?,
        Output::Table => show(&told)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(told: &Value) -> Result<(), Failure> {
    let row = |account: &Value| {
        let money = |name: &str| account[name].as_u64().map_or_else(String::new, euro);
        vec![
            account["account"].as_str().unwrap_or_default().to_owned(),
            money("spent_microeur"),
            money("held_microeur"),
            money("lost_microeur"),
            money("left_microeur"),
            said(&account["limits"]),
        ]
    };
    let rows: Vec<Vec<String>> = told["accounts"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["ACCOUNT", "SPENT", "HELD", "LOST", "LEFT", "LIMITS"], &rows)
}

fn set(told: &Value) -> Result<(), Failure> {
    let account = told["account"].as_str().unwrap_or_default();
    let limits = said(&told["limits"]);
    render::line(&format!("{account}: {}", if limits.is_empty() { "no limit" } else { &limits }))
}

fn usage(told: &Value) -> Result<(), Failure> {
    let row = |name: String, used: &Value| {
        let of = |when: &str, what: &str| used[when][what].to_string();
        let money = |when: &str| euro(used[when]["microeur"].as_u64().unwrap_or(0));
        vec![
            name,
            of("today", "requests"),
            of("today", "prompt_tokens"),
            of("today", "completion_tokens"),
            money("today"),
            of("month", "requests"),
            of("month", "prompt_tokens"),
            of("month", "completion_tokens"),
            money("month"),
        ]
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows = vec![row(format!("tenant {}", text(&told["tenant"]["tenant"])), &told["tenant"])];
    let groups = |name: &str| told[name].as_array().cloned().unwrap_or_default();
    rows.extend(groups("projects").iter().map(|one| row(format!("project/{}", text(&one["project"])), one)));
    rows.extend(groups("keys").iter().map(|one| row(format!("key/{}", text(&one["key"])), one)));
    let heading = ["ACCOUNT", "TODAY", "READ", "GENERATED", "EURO", "MONTH", "READ", "GENERATED", "EURO"];
    render::table(&heading, &rows)
}

fn reconciled(told: &Value) -> Result<(), Failure> {
    let released = told["released"].as_array().cloned().unwrap_or_default();
    if released.is_empty() {
        return render::line("nothing was lost, or answers are still being asked after");
    }
    for one in &released {
        let account = one["account"].as_str().unwrap_or_default();
        render::line(&format!("{account}: {} euro given back", euro(one["microeur"].as_u64().unwrap_or(0))))?;
    }
    Ok(())
}

/// Limits in a few words.
pub fn said(limits: &Value) -> String {
    let mut words = Vec::new();
    let mut add = |name: &str, unit: &str| {
        if let Some(number) = limits[name].as_u64() {
            words.push(format!("{number} {unit}"));
        }
    };
    add("requests_per_minute", "requests/min");
    add("tokens_per_minute", "tokens/min");
    add("streams", "at once");
    if let Some(microeur) = limits["budget"]["microeur"].as_u64() {
        let window = match limits["budget"]["window"].as_str() {
            Some("total") | None => "in all".to_owned(),
            Some(window) => format!("a {window}"),
        };
        words.push(format!("{} euro {window}", euro(microeur)));
    }
    words.join(", ")
}

/// Micro-euro as euro: at least two places, and as many as are needed.
pub fn euro(microeur: u64) -> String {
    let places = format!("{:06}", microeur % 1_000_000);
    let needed = places.trim_end_matches('0').len().max(2);
    format!("{}.{}", microeur / 1_000_000, places.get(..needed).unwrap_or(&places))
}

/// Euro as micro-euro: whole numbers all the way.
pub fn microeur(euro: &str) -> Result<u64, Failure> {
    let odd = || {
        Failure::new(format!("`{euro}` is no amount in euro"))
            .hint("write it like 12 or 12.50, with at most six places")
            .exit(Exit::Usage)
    };
    let (whole, places) = euro.split_once('.').unwrap_or((euro, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(places) || places.len() > 6 {
        return Err(odd());
    }
    let whole: u64 = whole.parse().map_err(|_| odd())?;
    let part: u64 = format!("{places:0<6}").parse().map_err(|_| odd())?;
    whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(part)).ok_or_else(odd)
}

#[cfg(test)]
mod tests {
    use super::{euro, microeur};

    #[test]
    fn euro_are_whole_micro_euro() {
        for (text, amount) in [("0", 0), ("12", 12_000_000), ("12.5", 12_500_000), ("0.000001", 1)] {
            assert_eq!(microeur(text).unwrap(), amount, "{text}");
        }
        for text in ["", ".", "1.", ".5", "1,5", "-1", "1.0000001", "1e3", "99999999999999999999"] {
            assert!(microeur(text).is_err(), "{text}");
        }
        assert_eq!([0, 1, 12_500_000, 1_234_567].map(euro), ["0.00", "0.000001", "12.50", "1.234567"]);
    }
}
