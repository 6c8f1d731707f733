//! `polder facts`: sign facts, see which of them count and why others do not, and carry them between files and nodes.
//!
//! What a fact may say and when it counts is absent: that is `polder_core::facts`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use polder_core::canonical::{Digest, bytes_as_hex};
use polder_core::facts::{FACTS_MAX, Passport, SignedFact, TrustedIssuer, passport_root};
use polder_core::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::frameworks::read_text;

mod carry;
mod show;
mod sign;

/// Sign facts about factories, show which count, and carry them.
///
/// Example: polder facts show --factory frankfurt
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Sign(sign::Arguments),
    Show(show::Arguments),
    Import(carry::Import),
    Export(carry::Export),
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Sign(arguments) => sign::run(&arguments),
        Task::Show(arguments) => show::run(arguments, output).await,
        Task::Import(arguments) => carry::import(&arguments, output),
        Task::Export(arguments) => carry::export(arguments).await,
    }
}

/// A passport that travels: a factory's facts with the root over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Travelling {
    /// The format: `polder/passport/v1`.
    passport: String,
    /// Whose facts they are.
    factory: NodeId,
    /// The factory's authority key.
    #[serde(with = "bytes_as_hex")]
    authority: [u8; 32],
    /// The root over the facts.
    root: Digest,
    /// The facts.
    facts: Passport,
}

const FORMAT: &str = "polder/passport/v1";

/// What a file of facts holds: a passport that travels, a bare list, or one fact.
#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Travelling(Travelling),
    List(Passport),
    One(Box<SignedFact>),
}

/// A file of facts, its root checked where it has one.
fn read_facts(path: &Path) -> Result<(Passport, Option<Travelling>), Failure> {
    let odd = |message: &str| Failure::new(format!("`{}`: {message}", path.display()));
    let read: Read = serde_json::from_str(&read_text(path)?)
        .map_err(|_| odd("neither a passport, nor a list of signed facts, nor one signed fact"))?;
    let (facts, travelling) = match read {
        Read::Travelling(passport) => (passport.facts.clone(), Some(passport)),
        Read::List(facts) => (facts, None),
        Read::One(fact) => (vec![*fact], None),
    };
    if facts.len() > FACTS_MAX {
        return Err(odd(&format!("{} facts; a passport has at most {FACTS_MAX}", facts.len())));
    }
    if let Some(passport) = &travelling {
        if passport.passport != FORMAT {
            return Err(odd(&format!(
                "a passport of another format, `{}`; this program reads `{FORMAT}`",
                passport.passport
            )));
        }
        if passport_root(&facts).ok() != Some(passport.root) {
            return Err(
                odd("the root is not that of the facts: something was changed on the way").exit(Exit::NotVerified)
            );
        }
    }
    Ok((facts, travelling))
}

/// A file of trusted issuers.
fn read_trust(path: &Path) -> Result<Vec<TrustedIssuer>, Failure> {
    serde_json::from_str(&read_text(path)?).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))
}

/// Writes a file so that it is whole or as it was.
fn write_whole(path: &PathBuf, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).map_err(of_file(&beside))?;
    std::fs::rename(&beside, path).map_err(of_file(path))
}
