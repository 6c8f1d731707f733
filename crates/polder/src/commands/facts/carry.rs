//! `polder facts import` and `export`: passports between a node, a file, and a factory's own passport file.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::facts::{FACTS_MAX, Passport, SignedFact, passport_root};
use serde_json::json;

use super::{Travelling, read_facts, write_whole};
use crate::Output;
use crate::address::Target;
use crate::failure::{Exit, Failure};
use crate::render;

/// Put signed facts into a factory's passport file.
///
/// Every signature is checked. A fact replaces what the same issuer and key said before about the same thing. The factory
/// publishes them after its next start.
///
/// Example: polder facts import signed.json --into passport.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Import {
    /// Files of signed facts, or passports.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The passport file, as `passport` in the factory's configuration names it; made where it is missing.
    #[arg(long, value_name = "FILE")]
    into: PathBuf,
}

/// Print a factory's passport, with the root over its facts, as JSON.
///
/// Example: polder facts export --factory paris > paris.passport.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Export {
    /// The factory.
    #[arg(long, value_name = "NAME")]
    factory: String,
    /// As this tenant's node has it.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Puts facts into a passport file.
pub fn import(arguments: &Import, output: Output) -> Result<ExitCode, Failure> {
    let mut passport: Passport = match arguments.into.exists() {
        true => read_facts(&arguments.into)?.0,
        false => Vec::new(),
    };
    let (mut added, mut replaced) = (0_usize, 0_usize);
    for file in &arguments.files {
        for signed in read_facts(file)?.0 {
            check(&signed, &passport, file)?;
            let before = passport.len();
            passport.retain(|old| !same_word(old, &signed));
            replaced += before - passport.len();
            passport.push(signed);
            added += 1;
        }
    }
    if passport.len() > FACTS_MAX {
        let message =
            format!("`{}` would have {} facts; at most {FACTS_MAX} are read", arguments.into.display(), passport.len());
        return Err(Failure::new(message));
    }
    let text = serde_json::to_string_pretty(&passport).map_err(|e| Failure::new(e.to_string()))?;
    write_whole(&arguments.into, &format!("{text}\n"))?;
    let root = passport_root(&passport).map_err(|e| Failure::new(e.to_string()))?;
    match output {
        Output::Json => {
            render::json(&json!({"facts": passport.len(), "taken": added, "replaced": replaced, "root": root}))?
        }
        Output::Table => {
            render::line(&format!("{added} taken in, {replaced} replaced, {} in all; root {root}", passport.len()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The same issuer and key about the same thing.
fn same_word(old: &SignedFact, new: &SignedFact) -> bool {
    let word = |signed: &SignedFact| {
        (signed.key, signed.fact.issuer.clone(), signed.fact.subject.clone(), signed.fact.claim.slot())
    };
    word(old) == word(new)
}

fn check(signed: &SignedFact, passport: &Passport, file: &std::path::Path) -> Result<(), Failure> {
    let fact = &signed.fact;
    let wrong = |message: String| Failure::new(format!("`{}`: {message}", file.display()));
    let name = format!("the fact `{}` by `{}`", fact.claim.slot(), fact.issuer);
    if !signed.is_signed() {
        return Err(wrong(format!("{name} has a signature that does not hold")).exit(Exit::NotVerified));
    }
    fact.claim.check().map_err(|e| wrong(format!("{name}: {e}")))?;
    if fact.until_ms <= polder_node::clock::now_ms() {
        let message = format!("{name} has expired on {}", render::date(&fact.until_ms.into()));
        return Err(wrong(message).hint("ask its issuer for a new one"));
    }
    match passport.first().filter(|other| other.fact.subject != fact.subject) {
        Some(other) => {
            Err(wrong(format!("{name} is about `{}`, the passport about `{}`", fact.subject, other.fact.subject)))
        }
        None => Ok(()),
    }
}

/// Prints a passport.
pub async fn export(arguments: Export) -> Result<ExitCode, Failure> {
    let client = arguments.target.home(arguments.tenant.as_deref())?;
    let answer = client.get(&format!("/api/v1/factories/{}/passport", arguments.factory)).await?.ok()?;
    let passport: Travelling =
        serde_json::from_value(answer).map_err(|e| Failure::new(format!("the node's answer: {e}")))?;
    render::json(&passport)?;
    Ok(ExitCode::SUCCESS)
}
