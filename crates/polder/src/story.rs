//! One question as a person sees it: the answer, where it ran, where not and why, and whether its receipt holds.
//!
//! `ask` prints one; `demo --once` prints several. The JSON is a format (`docs/formats.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use polder_core::keys::NodeCard;
use polder_core::receipt;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{Answer as HttpAnswer, Client};
use crate::failure::{Failure, of_file};
use crate::render;

/// What is asked, of whom, as whom.
#[derive(Debug, Clone)]
pub struct Question {
    /// The tenant's name, for the record.
    pub tenant: String,
    /// The model.
    pub model: String,
    /// The text.
    pub text: String,
    /// Labels as headers.
    pub labels: Vec<(String, String)>,
    /// Most tokens to generate.
    pub max_tokens: u32,
}

/// One factory's no.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// The factory.
    pub factory: String,
    /// The rule.
    pub rule: String,
    /// The rule's reason.
    pub reason: String,
    /// Everything else that is known of it.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// What came of a question.
#[derive(Debug, Clone, Serialize)]
pub struct Story {
    /// The tenant.
    pub tenant: String,
    /// What was asked.
    pub question: String,
    /// `placed`, `refused` or `no-capacity`.
    pub status: String,
    /// Where it ran.
    pub factory: Option<String>,
    /// The answer's text.
    pub text: Option<String>,
    /// The decision's id.
    pub decision: String,
    /// Why it did not run elsewhere.
    pub refusals: Vec<Refusal>,
    /// For a refusal, what would change it, nearest first.
    pub nearest: Vec<Value>,
    /// The receipt's file.
    pub receipt: PathBuf,
    /// Whether the receipt holds.
    pub verified: bool,
    /// The check that failed, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_check: Option<String>,
}

/// Where a receipt is put.
#[derive(Debug, Clone)]
pub enum ReceiptPlace {
    /// In this file.
    File(PathBuf),
    /// In this folder, named by its decision.
    Folder(PathBuf),
}

impl ReceiptPlace {
    /// The file, or else the folder.
    pub fn of(file: Option<&Path>, folder: &Path) -> Self {
        file.map_or_else(|| Self::Folder(folder.to_owned()), |file| Self::File(file.to_owned()))
    }

    fn path(&self, decision: &str) -> PathBuf {
        match self {
            Self::File(file) => file.clone(),
            Self::Folder(folder) => folder.join(format!("{decision}.receipt.json")),
        }
    }
}

/// Asks, fetches the receipt and verifies it.
pub async fn tell(
    client: &Client,
    question: Question,
    place: &ReceiptPlace,
    members: Option<&[NodeCard]>,
) -> Result<Story, Failure> {
    let body = json!({
        "model": question.model,
        "messages": [{"role": "user", "content": question.text}],
        "max_tokens": question.max_tokens,
        "temperature": 0,
    });
    let answer = client.post("/v1/chat/completions", &body, &question.labels).await?;
    let Some(decision) = answer.header("polder-decision") else {
        // Not decided at all: a wrong key, an unknown model, a label that widens.
        answer.ok()?;
        return Err(Failure::new("the endpoint answered without a decision").hint("is it a Polder node?"));
    };
    let body = answer.json();
    let refused = matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    let full = if refused { body["error"].clone() } else { explain(client, &decision).await? };
    if !refused && !answer.status.is_success() {
        answer.ok()?;
        return Err(Failure::new("the endpoint failed"));
    }
    let receipt = fetch_receipt(client, &decision, &place.path(&decision)).await?;
    let bytes = std::fs::read(&receipt).map_err(of_file(&receipt))?;
    let checked = receipt::verify(&bytes, members);
    Ok(Story {
        tenant: question.tenant,
        question: question.text,
        status: status(&answer).to_owned(),
        factory: answer.header("polder-factory"),
        text: body.pointer("/choices/0/message/content").and_then(Value::as_str).map(|text| text.trim().to_owned()),
        decision,
        refusals: serde_json::from_value::<Vec<RefusalText>>(full["refusals"].clone())
            .map(|all| all.into_iter().map(RefusalText::into).collect())
            .unwrap_or_default(),
        nearest: full["nearest"].as_array().cloned().unwrap_or_default(),
        receipt,
        verified: checked.is_ok(),
        failed_check: checked.err().map(|failure| failure.check.as_str().to_owned()),
    })
}

#[derive(serde::Deserialize)]
struct RefusalText {
    factory: String,
    rule: String,
    reason: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl From<RefusalText> for Refusal {
    fn from(RefusalText { factory, rule, reason, rest }: RefusalText) -> Self {
        Self { factory, rule, reason, rest }
    }
}

fn status(answer: &HttpAnswer) -> &'static str {
    match answer.status {
        StatusCode::FORBIDDEN => "refused",
        StatusCode::TOO_MANY_REQUESTS => "no-capacity",
        _ => "placed",
    }
}

async fn explain(client: &Client, decision: &str) -> Result<Value, Failure> {
    // The leaf is on its way while the answer comes back: ask again until the log covers it.
    for _ in 0..100 {
        let answer = client.get(&format!("/api/v1/decisions/{decision}")).await?;
        if answer.status != StatusCode::NOT_FOUND {
            return answer.ok();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(Failure::new(format!("the node does not know its own decision `{decision}`")))
}

async fn fetch_receipt(client: &Client, decision: &str, path: &Path) -> Result<PathBuf, Failure> {
    let answer = client.get(&format!("/api/v1/receipts/{decision}")).await?;
    if !answer.status.is_success() {
        answer.ok()?;
        return Err(Failure::new("the receipt could not be fetched"));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(of_file(folder))?;
    }
    std::fs::write(path, &answer.body).map_err(of_file(path))?;
    Ok(path.to_owned())
}

impl Story {
    /// The story's lines after the answer, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match (&self.factory, self.status.as_str()) {
            (Some(factory), _) => lines.push(format!("placed in {}", render::bold(factory))),
            (None, "no-capacity") => {
                lines.push(format!("{}: every factory that may run it is full", render::bold("no capacity")))
            }
            (None, _) => lines.push(format!("{}: no factory may run it", render::bold("refused"))),
        }
        let mut by_rule: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for refusal in &self.refusals {
            let reason = if refusal.rule == polder_core::placement::UNREACHABLE {
                "it does not answer"
            } else {
                &refusal.reason
            };
            by_rule.entry((&refusal.rule, reason)).or_default().push(&refusal.factory);
        }
        for ((rule, reason), factories) in by_rule {
            lines.push(format!("refused in {}: {reason} [{rule}]", factories.join(", ")));
        }
        for (index, nearest) in self.nearest.iter().enumerate() {
            let head = if index == 0 { "nearest" } else { "  or   " };
            lines.push(format!("{head}: {}", nearest["sentence"].as_str().unwrap_or_default()));
        }
        lines.push(match &self.failed_check {
            None => format!("receipt verified: {}", self.receipt.display()),
            Some(check) => format!("receipt NOT verified, check `{check}` failed: {}", self.receipt.display()),
        });
        lines
    }
}
