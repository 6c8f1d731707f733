//! `polder policy test`: a policy held against its own tests, without any node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use polder_core::policy::{Layer, LayerKind, PolicySchema};
use polder_core::trial::{Answer, CaseReport, Expect, Mutation, Trial, TrialError};
use serde_json::{Value, json};

use super::{read, shown};
use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// Run the tests of policies: requests at described factories, and what the policy must say of each.
///
/// A file of tests is TOML and names its policy; docs/formats.md has the format. A case passes where
/// the answer is the expected one, by exactly the expected rules. With --mutations the policy is
/// also tried with one thing left out at a time (a rule, a condition, a part of one, an entry of a
/// list): what no case notices is shown. Exit code 1: a case fails, or something goes unnoticed.
///
/// Example: polder policy test policy.test.toml --mutations
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The files of tests.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also show what could be left out of the policy without any case noticing.
    #[arg(long)]
    mutations: bool,
}

/// What came of one file.
struct Tested {
    file: String,
    policy: String,
    cases: Vec<CaseReport>,
    unnoticed: Option<Vec<Mutation>>,
}

/// Runs the tests; exit code 1 where one fails.
pub fn run(arguments: &Arguments, schema: PolicySchema, output: Output) -> Result<ExitCode, Failure> {
    let schema = Arc::new(schema);
    let all = arguments.files.iter().map(|file| tested(file, arguments.mutations, &schema));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let well = all
        .iter()
        .all(|one| one.cases.iter().all(|case| case.passed) && one.unnoticed.as_ref().is_none_or(Vec::is_empty));
    match output {
        Output::Json => {
            let value = |one: &Tested| {
                let mut value = json!({"file": one.file, "policy": one.policy, "cases": one.cases});
                if let Some(unnoticed) = &one.unnoticed {
                    value["unnoticed"] = json!(unnoticed);
                }
                value
            };
            render::json(&json!({"ok": well, "files": all.iter().map(value).collect::<Vec<Value>>()}))?;
        }
        Output::Table => all.iter().try_for_each(print)?,
    }
    Ok(if well { ExitCode::SUCCESS } else { Exit::Failed.into() })
}

fn tested(file: &Path, mutations: bool, schema: &Arc<PolicySchema>) -> Result<Tested, Failure> {
    let name = file.display().to_string();
    let failed = |error: TrialError| Failure::new(format!("`{name}`: {error}")).hint("docs/formats.md has the format");
    let trial = Trial::parse(&name, &read(file)?).map_err(failed)?;
    let beside = |path: &str| file.parent().map_or_else(|| PathBuf::from(path), |folder| folder.join(path));
    let text = read(&beside(&trial.policy))?;
    let owner = Layer::parse(LayerKind::Owner, &trial.policy, &text, schema);
    let owner = owner.map_err(|error| Failure::new(shown(&error, &text)))?;
    let read_text = |path: &str| std::fs::read_to_string(beside(path)).map_err(|e| e.to_string());
    let ready = trial.ready(schema, &read_text).map_err(failed)?;
    let cases = ready.run(&owner);
    // What a policy that fails its tests leaves unnoticed says nothing.
    let asked = mutations && cases.iter().all(|case| case.passed);
    let unnoticed = asked.then(|| ready.unnoticed(&owner));
    drop(ready);
    Ok(Tested { policy: trial.policy, file: name, cases, unnoticed })
}

fn print(tested: &Tested) -> Result<(), Failure> {
    let failed: Vec<&CaseReport> = tested.cases.iter().filter(|case| !case.passed).collect();
    let (count, policy) = (tested.cases.len(), &tested.policy);
    render::line(&match failed.len() {
        0 => format!("{}: {policy} passes {count} cases", tested.file),
        fails => format!("{}: {policy} fails {fails} of {count} cases", tested.file),
    })?;
    for case in failed {
        render::line(&format!("  `{}` at {}", case.case, case.factory))?;
        render::line(&format!("    expected: {}", answer(&case.expected)))?;
        render::line(&format!("    answered: {}", answer(&case.answered)))?;
    }
    if tested.unnoticed.as_ref().is_some_and(Vec::is_empty) {
        render::line("  nothing can be left out of it without a case noticing")?;
    }
    for mutation in tested.unnoticed.iter().flatten() {
        render::line(&format!("  no case notices that `{}` lacks {}", mutation.rule, mutation.left_out))?;
    }
    Ok(())
}

fn answer(answer: &Answer) -> String {
    if answer.outcome == Expect::Placed {
        return "placed".to_owned();
    }
    let rules: Vec<String> = answer.by.iter().map(|rule| format!("`{rule}`")).collect();
    let others: Vec<String> = answer.others.iter().map(|rule| format!("`{rule}`")).collect();
    match (rules.is_empty(), others.is_empty()) {
        (false, true) => format!("refused by {}", rules.join(", ")),
        (false, false) => format!("refused by {}, and by {}", rules.join(", "), others.join(", ")),
        (true, false) => format!("refused by no rule of the owner, but by {}", others.join(", ")),
        (true, true) => "refused by no rule of the owner".to_owned(),
    }
}
