//! `polder logs`: what a job's run says, until now or until its end.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;

use super::jobs::{find, text};
use super::key::At;
use super::run::is_over;
use crate::client::Client;
use crate::failure::Failure;

/// Show what a job says: its output on stdout, its errors on stderr.
///
/// Example: polder logs -f last
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A job's id, the beginning of one, or `last`.
    #[arg(value_name = "ID")]
    id: String,
    /// Go on until the job is over.
    #[arg(short, long)]
    follow: bool,
    /// Which of the two.
    #[arg(long, value_enum, default_value_t = Sides::Both)]
    part: Sides,
    #[command(flatten)]
    at: At,
}

/// What of a run's words is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sides {
    /// What it says on its standard output.
    Out,
    /// What it says on its standard error.
    Err,
    /// Both.
    Both,
}

/// How long one call waits for more, in seconds.
const WAIT_S: u64 = 5;

/// Shows it.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let client = arguments.at.home()?;
    let id = find(&client, &arguments.id).await?;
    follow(&client, &id, arguments.part, arguments.follow).await?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what a job says; with `on`, until it is over. The job as it stood at the end.
pub async fn follow(client: &Client, id: &str, sides: Sides, on: bool) -> Result<Value, Failure> {
    if on {
        let told = tell(client, id);
        let (out, err) = tokio::join!(
            one(client, id, "out", sides != Sides::Err, on),
            one(client, id, "err", sides != Sides::Out, on)
        );
        out?;
        err?;
        return told.await;
    }
    one(client, id, "out", sides != Sides::Err, on).await?;
    one(client, id, "err", sides != Sides::Out, on).await?;
    client.get(&format!("/api/v1/jobs/{id}")).await?.ok()
}

/// Waits for the end, and says how the job ended where it did not go well.
async fn tell(client: &Client, id: &str) -> Result<Value, Failure> {
    loop {
        let job = client.get(&format!("/api/v1/jobs/{id}")).await?.ok()?;
        if is_over(&job) {
            if job["state"] != "succeeded" {
                eprintln!("{id} {}", text(&job["state"]));
            }
            return Ok(job);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// One of the two texts, from its beginning.
async fn one(client: &Client, id: &str, part: &str, wanted: bool, on: bool) -> Result<(), Failure> {
    if !wanted {
        return Ok(());
    }
    let (mut from, mut epoch) = (0_u64, String::new());
    loop {
        let wait = if on { WAIT_S } else { 0 };
        let at = if epoch.is_empty() { String::new() } else { format!("&epoch={epoch}") };
        let answer = client.get(&format!("/api/v1/jobs/{id}/logs/{part}?from={from}&wait_s={wait}{at}")).await?;
        let head = |name: &str| answer.header(name).unwrap_or_default();
        let (next, run, ended, over) =
            (head("polder-next"), head("polder-epoch"), head("polder-ended") == "true", head("polder-over") == "true");
        let bytes = answer.body.clone();
        answer.ok()?;
        write(part, &bytes)?;
        from = next.parse().unwrap_or(from);
        if run != "0" {
            epoch = run;
        }
        if over || !on && (bytes.is_empty() || ended) {
            return Ok(());
        }
        if ended {
            // Another run may follow.
            let job = client.get(&format!("/api/v1/jobs/{id}")).await?.ok()?;
            if is_over(&job) {
                return Ok(());
            }
            let newest = job["epoch"].to_string();
            if newest != epoch {
                (from, epoch) = (0, newest);
            } else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// A reader that has gone away is no failure.
fn write(part: &str, bytes: &[u8]) -> Result<(), Failure> {
    let written = match part {
        "out" => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        _ => std::io::stderr().write_all(bytes),
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}
