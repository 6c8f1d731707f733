//! `polder log changes`: the statements that say what a node goes by, each in a sentence.
//!
//! Decisions and executions are absent: `polder why` and receipts show those.

use std::process::ExitCode;

use polder_core::keys::history::KeyAct;
use polder_core::membership::Act;
use polder_core::statement::v1::{
    DeletionStatement, Ground, HoldAct, HoldScope, How, MemberStatement, Source, Statement,
};
use serde_json::{Value, json};

use super::nodes;
use crate::Output;
use crate::address::Target;
use crate::failure::Failure;
use crate::render;

/// Which changes are shown.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only this kind, such as `activation`, `import` or `view`.
    #[arg(long)]
    kind: Option<String>,
    /// Only those before this place in the log.
    #[arg(long, value_name = "LEAF")]
    before: Option<u64>,
    /// How many of the newest, of each node.
    #[arg(long, default_value_t = 20)]
    last: u32,
    #[command(flatten)]
    target: Target,
}

/// Shows them, the newest first.
pub async fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let mut path = format!("/api/v1/log/changes?last={}", arguments.last);
    if let Some(kind) = &arguments.kind {
        let plain: String = kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        path.push_str(&format!("&kind={plain}"));
    }
    if let Some(before) = arguments.before {
        path.push_str(&format!("&before={before}"));
    }
    let mut found = Vec::new();
    for (name, client) in nodes(&arguments.target)? {
        let told = client.get(&path).await?.ok()?;
        let changes = told["changes"].as_array().cloned().unwrap_or_default();
        found.extend(changes.into_iter().map(|change| json!({"node": name, "change": change})));
    }
    match output {
        Output::Json => render::json(&json!({"changes": found}))?,
        Output::Table if found.is_empty() => render::line("no such change stands in the log")?,
        Output::Table => {
            let row = |one: &Value| {
                let change = &one["change"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let says = serde_json::from_value(change["statement"].clone()).ok().and_then(|said| says(&said));
                vec![
                    text(&one["node"]),
                    change["leaf"].to_string(),
                    render::instant(&change["at_ms"]),
                    text(&change["kind"]),
                    says.unwrap_or_default(),
                ]
            };
            let rows: Vec<_> = found.iter().map(row).collect();
            render::table(&["NODE", "LEAF", "AT (UTC)", "KIND", "SAYS"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a change says, in a sentence without a full stop; `None` for a decision, execution or link.
pub fn says(statement: &Statement) -> Option<String> {
    Some(match statement {
        Statement::Decision(_) | Statement::Execution(_) | Statement::Link(_) => return None,
        Statement::Day(one) => {
            let leaves = one.until_leaf.saturating_sub(one.from_leaf);
            format!("`{}` accounts for {leaves} leaves up to {}", one.node, one.until_leaf)
        }
        Statement::Activation(one) => {
            let how = match one.how {
                How::Start => "when the node started",
                How::Reload => "when its file was read again",
                How::Activate => "by the owner's call",
                How::Rollback => "by the owner's call for a former version",
            };
            format!("`{}` came into force at `{}` {how}", one.file, one.home)
        }
        Statement::Import(one) => {
            let source = match one.from {
                Source::File => "its own file",
                Source::Peer => "itself",
            };
            let (taken, dropped) = (one.taken.len(), one.dropped.len());
            format!("`{}` took in {taken} facts about `{}` from {source}, and {dropped} are gone", one.node, one.about)
        }
        Statement::Deletion(one) => deletion(one),
        Statement::Hold(one) => {
            let what = match &one.scope {
                HoldScope::Tenant(tenant) => format!("everything of tenant `{tenant}`"),
                HoldScope::Project(project) => format!("project `{project}`"),
                HoldScope::Leaves(leaves) => {
                    let leaves: Vec<_> = leaves.iter().map(|leaf| (*leaf, *leaf)).collect();
                    format!("leaves {}", places(&leaves))
                }
            };
            let act = if one.act == HoldAct::Put { "put on" } else { "lifted from" };
            format!("the hold `{}` was {act} {what}: {}", one.hold, one.reason)
        }
        Statement::Key(one) => {
            let (change, bound) = (&one.change, render::instant(&one.change.bound_ms.into()));
            let role = format!("{:?}", change.role).to_lowercase();
            match change.act {
                KeyAct::Rotated => format!("`{}` has a new {role} key; both count until {bound} UTC", change.node),
                KeyAct::Revoked => {
                    format!("`{}` revoked its {role} key: not to be trusted since {bound} UTC", change.node)
                }
            }
        }
        Statement::Member(one) => member(one),
        Statement::View(one) => {
            let before = one.previous;
            let other = |name: &'static str, differs: bool| differs.then_some(name);
            let parts = [
                other("baseline", before.is_none_or(|before| before.baseline != one.now.baseline)),
                other("frameworks", before.is_none_or(|before| before.schema != one.now.schema)),
                other("trust", before.is_none_or(|before| before.trust != one.now.trust)),
            ];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            format!("`{}` goes by another {}", one.home, parts.join(", "))
        }
    })
}

/// What became of a membership.
fn member(one: &MemberStatement) -> String {
    let (node, peer) = (&one.node, &one.peer);
    match one.act {
        Act::Accepted => format!("`{node}` accepted `{peer}` as a member"),
        Act::Refused => format!("`{node}` refused `{peer}`, who wanted to be a member"),
        Act::Joined => format!("`{peer}` accepted `{node}` as a member"),
        Act::Declined => format!("`{peer}` refused `{node}`, who wanted to be a member"),
        Act::Departed => format!("`{peer}` is a member no more: it has left"),
        Act::Removed => format!("`{node}` ended the membership with `{peer}`"),
        Act::Left => format!("`{node}` left, and is no member of `{peer}` any more"),
    }
}

/// What a deletion says.
fn deletion(one: &DeletionStatement) -> String {
    let count: u64 = one
        .leaves
        .iter()
        .map(|(first, last)| last.saturating_sub(*first).saturating_add(1))
        .fold(0, u64::saturating_add);
    let why = match one.ground {
        Ground::Age => "their time was over".to_owned(),
        Ground::Word => format!("on the word of the {}", one.by),
        Ground::Erasure => format!("as an erasure, on the word of the {}", one.by),
    };
    let on = render::date(&one.at_ms.into());
    let places = places(&one.leaves);
    format!("`{}` deleted {count} statements on {on} under class `{}`, {why}: leaves {places}", one.node, one.class)
}

/// How many ranges are named.
const NAMED_MAX: usize = 8;

fn places(ranges: &[(u64, u64)]) -> String {
    let one = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let mut named: Vec<String> = ranges.iter().take(NAMED_MAX).map(one).collect();
    if ranges.len() > NAMED_MAX {
        named.push("and more".to_owned());
    }
    named.join(", ")
}
