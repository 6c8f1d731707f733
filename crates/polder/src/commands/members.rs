//! `polder members`, `invite`, `join` and `leave`: who is a member of a node, and how somebody becomes one.
//!
//! A membership is between two nodes, and both have to want it. Making a node is absent: `polder init` does that.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::key::word;
use crate::Output;
use crate::address::Target;
use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Largest file that is read of an invitation or a record.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Show who is a member, and accept or refuse who asks.
///
/// Example: polder members accept bank-home --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// List the peers of a node and how each stands: `asks` waits for your answer, `asked` for theirs.
    ///
    /// Example: polder members list --socket state/api.sock
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Accept somebody who asked to join. Compare the identity with them first, by another way.
    ///
    /// Example: polder members accept bank-home --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Accept {
        /// The node's name, or the first digits of its identity.
        member: String,
        /// Write the answer into a file too, for a node that no network reaches.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Refuse somebody who asked to join.
    ///
    /// Example: polder members refuse bank-home --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Refuse {
        /// The node's name, or the first digits of its identity.
        member: String,
        /// Write the answer into a file too, for a node that no network reaches.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// End the membership with one node. Its channels close, and nothing of it counts any more.
    ///
    /// Example: polder members remove bank-home --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Remove {
        /// The node's name, or the first digits of its identity.
        member: String,
        #[command(flatten)]
        target: Target,
    },
    /// Take in a file that somebody carried here: a request, an answer, a departure, or a history of keys.
    ///
    /// Example: polder members take bank-home.request.json --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Take {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        target: Target,
    },
}

/// Make an invitation: one line, for one node, for a while.
///
/// Whoever has it can ask to join, once; accepting stays with you. Send it by a way that you trust:
/// it says which identity the other side pins.
///
/// Example: polder invite --offers "eight accelerators, research" --valid-h 24 --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct InviteArguments {
    /// What you offer, in words.
    #[arg(long, value_name = "TEXT", default_value = "")]
    offers: String,
    /// How long it holds, in hours.
    #[arg(long, value_name = "HOURS", default_value_t = 24, conflicts_with = "valid_s")]
    valid_h: u64,
    /// The same in seconds.
    #[arg(long, value_name = "SECONDS")]
    valid_s: Option<u64>,
    /// Take an invitation back, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["offers", "valid_h", "valid_s"])]
    withdraw: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Ask to join whoever sent an invitation.
///
/// The request goes over the network as soon as the other node is reached, or by a file with
/// `--out`. Both are members once the other side has accepted.
///
/// Example: polder join invitation.txt --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct JoinArguments {
    /// The invitation's line, a file that holds it, or `-` for standard input.
    invitation: String,
    /// Write the request into a file too, for a node that no network reaches.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Leave every member: a signed word that goes round, no new work, and channels that close.
///
/// Example: polder leave --yes --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct LeaveArguments {
    /// That you mean it.
    #[arg(long)]
    yes: bool,
    /// Write the word into a file too, for members whom no network reaches.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::List { target } => list(&node(&target)?.get("/api/v1/members").await?.ok()?, output)?,
        Task::Accept { member, out, target } => decide("accept", &member, out.as_deref(), &target, output).await?,
        Task::Refuse { member, out, target } => decide("refuse", &member, out.as_deref(), &target, output).await?,
        Task::Remove { member, target } => {
            let removed = post(&target, "/api/v1/members/remove", &json!({"member": member})).await?;
            said(&removed, output, || format!("`{}` is no member any more", word(&removed, "removed")))?;
        }
        Task::Take { file, target } => {
            let record: Value = serde_json::from_str(&read(&file)?)
                .map_err(|error| Failure::new(format!("`{}`: {error}", file.display())))?;
            let record = signed(record);
            let taken = post(&target, "/api/v1/members/take", &record).await?;
            said(&taken, output, || sentence(&taken["member"]))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes an invitation, or takes one back.
pub async fn invite(arguments: InviteArguments, output: Output) -> Result<ExitCode, Failure> {
    if let Some(id) = &arguments.withdraw {
        if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let failure = Failure::new(format!("`{id}` is no invitation's id")).exit(Exit::Usage);
            return Err(failure.hint("`polder invite -o json` printed it as `id`"));
        }
        let path = format!("/api/v1/invitations/{id}");
        let withdrawn = node(&arguments.target)?.delete(&path).await?.ok()?;
        said(&withdrawn, output, || "the invitation is withdrawn".to_owned())?;
        return Ok(ExitCode::SUCCESS);
    }
    let valid_s = arguments.valid_s.unwrap_or(arguments.valid_h.saturating_mul(3_600));
    let body = json!({"offers": arguments.offers, "valid_s": valid_s});
    let made = post(&arguments.target, "/api/v1/invitations", &body).await?;
    said(&made, output, || word(&made, "invitation"))?;
    if output == Output::Table {
        let until = render::instant(&made["until_ms"]);
        eprintln!("for one node, until {until} UTC; `polder members list` shows who asks");
        if made["reached"] == false {
            eprintln!(
                "no peer reaches this node over the network: the request has to come as a file (`peer_listen`, `peer_address`)"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks to join.
pub async fn join(arguments: JoinArguments, output: Output) -> Result<ExitCode, Failure> {
    let line = match arguments.invitation.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?,
        line if line.trim_start().starts_with("polder-invitation") => line.to_owned(),
        file => read(Path::new(file))?,
    };
    let asked = post(&arguments.target, "/api/v1/members/join", &json!({"invitation": line})).await?;
    write(arguments.out.as_deref(), &asked["request"])?;
    said(&asked, output, || sentence(&asked["member"]))?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves.
pub async fn leave(arguments: LeaveArguments, output: Output) -> Result<ExitCode, Failure> {
    if !arguments.yes {
        let failure = Failure::new("leaving ends every membership of the node").exit(Exit::Usage);
        return Err(failure.hint("say `--yes` where you mean it; `polder members remove` ends one"));
    }
    let left = post(&arguments.target, "/api/v1/members/leave", &json!({"leave": true})).await?;
    write(arguments.out.as_deref(), &left["departure"])?;
    said(&left, output, || format!("`{}` has left; `polder join` begins again", word(&left, "node")))?;
    Ok(ExitCode::SUCCESS)
}

async fn decide(what: &str, member: &str, out: Option<&Path>, target: &Target, output: Output) -> Result<(), Failure> {
    let decided = post(target, &format!("/api/v1/members/{what}"), &json!({"member": member})).await?;
    write(out, &decided["answer"])?;
    said(&decided, output, || sentence(&decided["member"]))
}

fn node(target: &Target) -> Result<Client, Failure> {
    let failure = || Failure::new("memberships are those of one node").exit(Exit::Usage);
    target.single()?.ok_or_else(|| failure().hint("name it with --node or --socket"))
}

async fn post(target: &Target, path: &str, body: &Value) -> Result<Value, Failure> {
    node(target)?.post(path, body, &[]).await?.ok()
}

/// A history of keys, as `polder node-key export` prints it, is a record too.
fn signed(record: Value) -> Value {
    match record["value"]["keys"].is_array() {
        true => json!({"record": "keys", "signed": record}),
        false => record,
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let length = std::fs::metadata(path).map_err(of_file(path))?.len();
    if length > FILE_BYTES_MAX {
        return Err(Failure::new(format!("`{}` is larger than any such file", path.display())));
    }
    std::fs::read_to_string(path).map_err(of_file(path))
}

fn write(path: Option<&Path>, record: &Value) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, format!("{record:#}\n")).map_err(of_file(path))
}

fn said(told: &Value, output: Output, sentence: impl FnOnce() -> String) -> Result<(), Failure> {
    match output {
        Output::Json => render::json(told),
        Output::Table => render::line(&sentence()),
    }
}

/// How a member stands, in words.
fn sentence(member: &Value) -> String {
    let (name, identity) = (word(member, "node"), word(member, "identity"));
    match member["standing"].as_str() {
        Some("asks") => format!("`{name}` asks to join; compare its identity with it: {identity}"),
        Some("asked") => format!("`{name}` is asked; both are members once it accepts"),
        Some("member") => format!("`{name}` is a member, and so is this node of it"),
        Some("refused") => format!("`{name}`: refused"),
        Some("left") => format!("`{name}` has left"),
        _ => "taken in".to_owned(),
    }
}

fn list(told: &Value, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return render::json(told);
    }
    if !told["left_ms"].is_null() {
        eprintln!("this node left at {} UTC", render::instant(&told["left_ms"]));
    }
    let row = |one: &Value| {
        let address = one["address"].as_str().unwrap_or("connects outwards").to_owned();
        let kind = if one["factory"] == true { "factory" } else { "home" };
        let identity: String = word(one, "identity").chars().take(16).collect();
        vec![word(one, "node"), word(one, "standing"), kind.to_owned(), address, identity]
    };
    let rows: Vec<_> = told["members"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["NODE", "STANDING", "KIND", "ADDRESS", "IDENTITY"], &rows)
}
