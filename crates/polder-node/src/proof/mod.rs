//! Proofs about policies: a claim and the policies that it speaks of go in, a verdict comes out.
//!
//! Policies and claim are translated by `cedar-policy-symcc` into a question for the solver cvc5, which runs as a child
//! process. A claim is proven only where the solver finds, over everything that the schema and the axioms allow, no
//! exception. What it finds is turned into a request with a world of facts and decided again by `decide` before it is
//! shown. Deciding is absent: a proof never permits or refuses a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use polder_core::policy::{Layer, LayerKind, PolicyError, PolicySchema};
use polder_core::world::WorldRequest;
use serde::Serialize;

mod answer;
mod claim;
mod counterexample;
mod facts;
mod parts;
mod shipped;
mod solver;

pub use claim::{Claim, Goal};
pub use shipped::{SHIPPED_CLAIMS, SHIPPED_POLICIES, shipped_policy};
pub use solver::Cvc5;

/// The name by which a claim speaks of Polder's own layer, which carries out what a request says of itself.
pub const LABELS: &str = "labels";
/// Most policies that a claim may speak of beside [`LABELS`]: as many as there are layers that people write.
pub const POLICIES_MAX: usize = 3;

/// A policy with the name that claims know it by.
#[derive(Debug, Clone)]
pub struct NamedPolicy {
    /// The name, such as `bank`, or a file's path.
    pub name: String,
    /// The text.
    pub text: String,
    layer: Layer,
}

impl NamedPolicy {
    /// Reads a policy as any layer is read: against schema and house rule.
    pub fn parse(name: &str, text: &str, schema: &PolicySchema) -> Result<Self, PolicyError> {
        let layer = Layer::parse(LayerKind::Owner, name, text, schema)?;
        Ok(Self { name: name.to_owned(), text: text.to_owned(), layer })
    }
}

/// What is proved against.
#[derive(Debug, Clone)]
pub struct Prover {
    /// The schema of every policy and claim.
    pub schema: Arc<PolicySchema>,
    /// The solver.
    pub solver: Cvc5,
    /// The longest that one claim may take.
    pub limit: Duration,
}

/// How a claim fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There is no exception.
    Proven,
    /// There is one.
    Refuted,
    /// The solver gave no answer: out of time or memory, at a loss, or gone.
    Timeout,
}

/// A verdict with what stands behind it.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// The claim's name.
    pub name: String,
    /// What the claim says, in plain words.
    pub says: String,
    /// The policies that it was asked of.
    pub policy_set: Vec<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// How long it took, in milliseconds, the solver's start included.
    pub ms: u64,
    /// What else is to be said of the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The rules that a refuted claim about rules speaks of, as `POLICY: RULE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// A request with its world for which a refuted claim does not hold; for a proven `can_permit`, one for which it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<WorldRequest>,
}

/// Why there is no verdict at all.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// There is no solver.
    #[error("no solver: {0}")]
    Solver(String),
    /// A claim that cannot be read or asked.
    #[error("the claim `{claim}`: {message}")]
    Claim {
        /// The claim's name or file.
        claim: String,
        /// What is wrong with it.
        message: String,
    },
    /// A policy of the set does not hold.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Proves a claim about policies, of which all must permit. `bound` is the policy that [`Goal::NoWiderThan`] names.
pub async fn prove(
    prover: &Prover,
    claim: &Claim,
    policies: &[NamedPolicy],
    bound: Option<&NamedPolicy>,
) -> Result<Proof, ProofError> {
    let wrong = |message: String| ProofError::Claim { claim: claim.name.clone(), message };
    let written = policies.iter().filter(|policy| policy.name != LABELS).count();
    if policies.is_empty() || written > POLICIES_MAX {
        return Err(wrong(format!("it speaks of {written} policies: name 1 to {POLICIES_MAX}")));
    }
    let start = Instant::now();
    let question = answer::Question::new(prover, claim, policies, bound).map_err(wrong)?;
    let answer = match tokio::time::timeout(prover.limit, question.ask(&prover.solver)).await {
        Ok(answer) => answer.map_err(wrong)?,
        Err(_) => {
            let ms = prover.limit.as_millis();
            answer::Answer::timeout(format!("the solver had found neither proof nor exception after {ms} ms"))
        }
    };
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Proof {
        name: claim.name.clone(),
        says: claim.says.clone(),
        policy_set: policies.iter().map(|policy| policy.name.clone()).collect(),
        verdict: answer.verdict,
        ms,
        note: answer.note,
        rules: answer.rules,
        example: answer.example,
    })
}

#[cfg(test)]
mod tests;
