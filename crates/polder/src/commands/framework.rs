//! `polder framework`: scoring schemes as data: which there are, what they ask, and what they make of answers.
//!
//! Deciding by a score is absent, and so is a lone number as a verdict: objectives come first, and what the score is not
//! stands below it.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::framework::{Coverage, Framework, Points, combine, derive, parse_answers, score};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Output;
use crate::failure::Failure;
use crate::frameworks;
use crate::render;

mod facts;
mod report;

use facts::FactSource;

/// Score answers under a sovereignty framework, such as the EU Cloud Sovereignty Framework's calculator.
///
/// Frameworks are data: versioned files with objectives, weights, criteria and answers. A score is arithmetic over answers.
/// It decides nothing, certifies nothing, and speaks only of the criteria that were answered.
///
/// Example: polder framework score --framework csf-calculator-2026-06-01 --answers answers.tsv -o json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// What to do; each one's help stands with its options.
#[derive(Debug, clap::Subcommand)]
enum Task {
    List(ListArguments),
    Show(ShowArguments),
    Score(ScoreArguments),
}

/// List the frameworks that are part of this binary.
///
/// Example: polder framework list
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct ListArguments {}

/// Show a framework: its source, and every criterion with its numbered answers.
///
/// Example: polder framework show csf-1.2.1-2025-10
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArguments {
    /// The framework's name, or the path of its file.
    name: String,
}

/// Score answers, given in a file or derived from a factory's facts.
///
/// The file has lines of objective, criterion and answer, separated by tabs, such as SOV-1, 8 and 3; `#` begins a comment.
/// Facts come from a passport; each answer that they give shows its evidence class. Where file and facts differ, the lower
/// answer counts. A criterion without an answer adds nothing and lowers nothing.
///
/// Example: polder framework score --framework csf-calculator-2026-06-01 --facts passport.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(group(clap::ArgGroup::new("from").required(true).multiple(true).args(["answers", "facts"])))]
struct ScoreArguments {
    /// The framework's name, or the path of its file.
    #[arg(long, value_name = "NAME|FILE")]
    framework: String,
    /// A file of answers.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    #[command(flatten)]
    source: FactSource,
}

/// Does what was asked.
pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    match &arguments.task {
        Task::List(ListArguments {}) => list(output)?,
        Task::Show(arguments) => show(&frameworks::find(&arguments.name)?, output)?,
        Task::Score(arguments) => score_answers(arguments, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Listed<'a> {
    framework: &'a str,
    title: &'a str,
    objectives: usize,
    criteria: usize,
    source: &'a str,
    licence: &'a str,
    changes: &'a str,
}

fn listed(framework: &Framework) -> Listed<'_> {
    Listed {
        framework: framework.id(),
        title: framework.title(),
        objectives: framework.objectives().len(),
        criteria: framework.criteria().count(),
        source: framework.source(),
        licence: framework.licence(),
        changes: framework.changes(),
    }
}

#[derive(Serialize)]
struct List<'a> {
    frameworks: Vec<Listed<'a>>,
}

fn list(output: Output) -> Result<(), Failure> {
    let shipped = frameworks::shipped()?;
    let all: Vec<Listed<'_>> = shipped.iter().map(listed).collect();
    if output == Output::Json {
        return render::json(&List { frameworks: all });
    }
    let row = |one: &Listed<'_>| {
        let counts = [one.objectives.to_string(), one.criteria.to_string()];
        [one.framework.to_owned()].into_iter().chain(counts).chain([one.title.to_owned()]).collect()
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    render::table(&["FRAMEWORK", "OBJECTIVES", "CRITERIA", "TITLE"], &rows)
}

#[derive(Serialize)]
struct ShownAnswer<'a> {
    answer: usize,
    value: Box<RawValue>,
    seal: u8,
    says: &'a str,
}

#[derive(Serialize)]
struct ShownCriterion<'a> {
    criterion: u32,
    asks: &'a str,
    answered_by_facts: bool,
    answers: Vec<ShownAnswer<'a>>,
}

#[derive(Serialize)]
struct ShownObjective<'a> {
    objective: &'a str,
    name: &'a str,
    weight_percent: u32,
    criteria: Vec<ShownCriterion<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    head: Listed<'a>,
    contents: Vec<ShownObjective<'a>>,
}

/// An exact decimal as a JSON number.
fn number(points: Points) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(points.to_string()).map_err(|e| Failure::new(format!("cannot print JSON: {e}")))
}

/// A value in hundredths as points, which are hundred-thousandths.
fn of_hundredths(value: u64) -> Points {
    Points(value.saturating_mul(1_000))
}

fn show(framework: &Framework, output: Output) -> Result<(), Failure> {
    let contents = framework.objectives().iter().map(shown).collect::<Result<Vec<_>, Failure>>()?;
    if output == Output::Json {
        return render::json(&Shown { head: listed(framework), contents });
    }
    render::line(&format!("{}: {}", framework.id(), framework.title()))?;
    render::line(&format!("source: {}", framework.source()))?;
    render::line(&format!("licence: {}; changes: {}", framework.licence(), framework.changes()))?;
    for objective in &contents {
        let head = format!("{} {}, {} %", objective.objective, objective.name, objective.weight_percent);
        render::line(&format!("\n{}", render::bold(&head)))?;
        for criterion in &objective.criteria {
            let by_facts = if criterion.answered_by_facts { "  (facts can answer)" } else { "" };
            render::line(&format!("  {}  {}{by_facts}", criterion.criterion, criterion.asks))?;
            for one in &criterion.answers {
                render::line(&format!("     {}  {:>6}  SEAL-{}  {}", one.answer, one.value.get(), one.seal, one.says))?;
            }
        }
    }
    Ok(())
}

fn shown(objective: &polder_core::framework::Objective) -> Result<ShownObjective<'_>, Failure> {
    let mut criteria = Vec::new();
    for criterion in &objective.criteria {
        let mut answers = Vec::new();
        for (index, one) in criterion.answers.iter().enumerate() {
            let value = number(of_hundredths(one.value_hundredths.into()))?;
            answers.push(ShownAnswer { answer: index + 1, value, seal: one.seal, says: &one.says });
        }
        let answered_by_facts = !criterion.rules.is_empty();
        criteria.push(ShownCriterion {
            criterion: criterion.number,
            asks: &criterion.asks,
            answered_by_facts,
            answers,
        });
    }
    let (name, weight_percent) = (objective.name.as_str(), objective.weight_percent);
    Ok(ShownObjective { objective: &objective.id, name, weight_percent, criteria })
}

fn score_answers(arguments: &ScoreArguments, output: Output) -> Result<(), Failure> {
    let framework = frameworks::find(&arguments.framework)?;
    let by_hand = match &arguments.answers {
        Some(path) => {
            let text = frameworks::read_text(path)?;
            parse_answers(&framework, &text).map_err(|error| {
                Failure::new(format!("{}:{}: {}", path.display(), error.line, error.message))
                    .hint(format!("`polder framework show {}` lists criteria and answers", arguments.framework))
            })?
        }
        None => polder_core::framework::Answers::new(),
    };
    let profile = arguments.source.profile()?;
    let derived = profile.map(|profile| derive(&framework, &profile)).unwrap_or_default();
    let combined = combine(&framework, &by_hand, &derived);
    let result = score(&framework, &combined.answers);
    let coverage = Coverage::of(&framework, &combined.evidenced);
    match output {
        Output::Json => report::json(&framework, &combined, &result, coverage),
        Output::Table => report::table(&framework, &combined, &result, coverage),
    }
}
