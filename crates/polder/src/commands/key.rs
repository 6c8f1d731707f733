//! `polder key`: the applications' keys at a home: make, list, rotate, revoke.
//!
//! A key is printed when it is made and never again: the node keeps its digest only.

use std::process::ExitCode;

use clap::Subcommand;
use polder_core::ledger::Limits;
use serde_json::{Value, json};

use super::budget::{LimitOptions, said};
use crate::Output;
use crate::address::Target;
use crate::failure::Failure;
use crate::render;

/// Make, list, rotate and revoke the keys of applications.
///
/// Example: polder key create --tenant bank --project customer-desk --name website
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// Which home is meant.
#[derive(Debug, clap::Args)]
pub struct At {
    /// This tenant's home in the demo; the first one where absent.
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Make a key. It is printed once; the node keeps only its digest.
    ///
    /// Example: polder key create --project customer-desk --name website --days 90 --euro 20 --window month
    #[command(verbatim_doc_comment)]
    Create {
        /// The project whose labels its requests carry.
        #[arg(long)]
        project: String,
        /// What you call it.
        #[arg(long, default_value = "")]
        name: String,
        /// It expires after so many days; never where absent.
        #[arg(long, value_name = "DAYS")]
        days: Option<u64>,
        #[command(flatten)]
        limits: LimitOptions,
        #[command(flatten)]
        at: At,
    },
    /// List the keys, revoked ones too.
    ///
    /// Example: polder key list --tenant bank
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        at: At,
    },
    /// Give a key a new secret. The old one holds a while longer, so that applications can change one by one.
    ///
    /// Example: polder key rotate 5f0c2a7be19d3384 --overlap-s 86400
    #[command(verbatim_doc_comment)]
    Rotate {
        /// The key's id, which stands in the key after `sk-polder-`.
        id: String,
        /// How long both secrets hold, in seconds; 0 ends the old one at once.
        #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
        overlap_s: u64,
        #[command(flatten)]
        at: At,
    },
    /// Revoke a key: no request more, and its answers under way end within a second.
    ///
    /// Example: polder key revoke 5f0c2a7be19d3384
    #[command(verbatim_doc_comment)]
    Revoke {
        /// The key's id.
        id: String,
        #[command(flatten)]
        at: At,
    },
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Create { project, name, days, limits, at } => {
            let expires_ms = expiry(days);
            let limits: Limits = limits.limits()?;
            let body = json!({"project": project, "name": name, "expires_ms": expires_ms, "limits": limits});
            let made = at.home()?.post("/api/v1/keys", &body, &[]).await?.ok()?;
            new_key(&made, output)
        }
        Task::List { at } => list(&at.home()?.get("/api/v1/keys").await?.ok()?, output),
        Task::Rotate { id, overlap_s, at } => {
            let path = format!("/api/v1/keys/{}/rotate", segment(&id, "key")?);
            let made = at.home()?.post(&path, &json!({"overlap_s": overlap_s}), &[]).await?.ok()?;
            new_key(&made, output)
        }
        Task::Revoke { id, at } => {
            let told = at.home()?.delete(&format!("/api/v1/keys/{}", segment(&id, "key")?)).await?.ok()?;
            revoked(&told, &id, output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl At {
    /// The home.
    pub fn home(&self) -> Result<crate::client::Client, Failure> {
        self.target.home(self.tenant.as_deref())
    }
}

/// When something expires that holds so many days from now; never where absent.
pub fn expiry(days: Option<u64>) -> Option<u64> {
    days.map(|days| now_ms().saturating_add(days.saturating_mul(86_400_000)))
}

/// Says that something was revoked.
pub fn revoked(told: &Value, id: &str, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => render::json(told),
        Output::Table => render::line(&format!("revoked {id}")),
    }
}

/// An id as a part of a path.
pub fn segment<'a>(id: &'a str, what: &str) -> Result<&'a str, Failure> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let odd = || Failure::new(format!("`{id}` is no {what}'s id")).hint(format!("`polder {what} list` shows the ids"));
    if plain { Ok(id) } else { Err(odd()) }
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    polder_node::clock::now_ms()
}

fn new_key(made: &Value, output: Output) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => render::json(made)?,
        Output::Table => {
            render::line(made["key"].as_str().unwrap_or_default())?;
            eprintln!("this is the only time that the key is shown; its id is {}", word(made, "id"));
            if !made["old_until_ms"].is_null() {
                eprintln!("the old one holds until {} UTC", render::instant(&made["old_until_ms"]));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(told: &Value, output: Output) -> Result<ExitCode, Failure> {
    if output == Output::Json {
        render::json(told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let instant = |value: &Value| if value.is_null() { String::new() } else { render::instant(value) };
    let row = |key: &Value| {
        vec![
            word(key, "id"),
            word(key, "name"),
            word(key, "project"),
            state(key),
            instant(&key["expires_ms"]),
            said(&key["limits"]),
        ]
    };
    let rows: Vec<Vec<String>> = told["keys"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["ID", "NAME", "PROJECT", "STATE", "EXPIRES (UTC)", "LIMITS"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// How a key or token stands.
pub fn state(row: &Value) -> String {
    match (row["configured"].as_bool(), row["revoked_ms"].is_null()) {
        (Some(true), _) => "configured".to_owned(),
        (_, false) => format!("revoked {}", render::instant(&row["revoked_ms"])),
        _ if row["expires_ms"].as_u64().is_some_and(|expires| expires <= now_ms()) => "expired".to_owned(),
        _ => "holds".to_owned(),
    }
}

/// A field's text.
pub fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
