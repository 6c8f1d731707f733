//! Guardrails: claims that the owner declared must hold of every policy before it comes into force.
//!
//! Whatever is not proved keeps a policy out: a counterexample, a time-out, a solver that is not there. A claim is proved of
//! the owner's policy alone, or together with the baseline where the claim names it among its policies, so that a guardrail
//! leans on the baseline only where that was said. Choosing the claims is absent: that is the owner's, in the configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use polder_core::canonical::{Digest, hash};
use polder_core::policy::{LABELS_POLICY, PolicySchema};
use polder_core::statement::v1::{ProofResult, ProofVerdict};

use super::ActivationError;
use crate::proof::{Claim, Cvc5, Goal, LABELS, NamedPolicy, Proof, ProofError, Prover, Verdict, prove, shipped_policy};

/// Longest that one claim may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The name by which a claim speaks of the baseline in force.
const BASELINE: &str = "baseline";
/// The name under which the owner's policy is proved.
const OWNER: &str = "owner";

/// A claim that must hold.
#[derive(Debug, Clone)]
pub struct Guardrail {
    /// The claim.
    pub claim: Claim,
    /// The digest of its text.
    pub digest: Digest,
}

/// Why a policy was kept out by a guardrail.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unproven {
    /// What is said of it.
    pub message: String,
    /// What was proved until then; the last is not proven. Empty where nothing could be asked.
    pub proofs: Vec<Proof>,
}

impl Guardrail {
    /// Reads a claim's text. `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProofError> {
        Ok(Self { claim: Claim::parse(file, text)?, digest: hash("polder/claim/v1", &[text.as_bytes()]) })
    }
}

/// The guardrails of a home.
pub struct Guardrails {
    all: Vec<Guardrail>,
    solver: Option<PathBuf>,
    schema: Arc<PolicySchema>,
}

impl Guardrails {
    /// The guardrails, and the solver's program; `cvc5` on the PATH where absent.
    pub fn new(all: Vec<Guardrail>, solver: Option<PathBuf>, schema: Arc<PolicySchema>) -> Self {
        Self { all, solver, schema }
    }

    /// Every guardrail.
    pub fn all(&self) -> &[Guardrail] {
        &self.all
    }

    /// Proves every guardrail about an owner's policy, or says which does not hold.
    pub async fn prove(&self, baseline: &str, owner: &str) -> Result<Vec<ProofResult>, ActivationError> {
        if self.all.is_empty() {
            return Ok(Vec::new());
        }
        let path = std::env::var_os("PATH");
        let solver = Cvc5::find(self.solver.as_deref(), path.as_deref()).map_err(|error| not_asked(&error))?;
        let prover = Prover { schema: Arc::clone(&self.schema), solver, limit: LIMIT };
        let baseline = NamedPolicy::parse(BASELINE, baseline, &self.schema)?;
        let owner = NamedPolicy::parse(OWNER, owner, &self.schema)?;
        let (mut proofs, mut results) = (Vec::new(), Vec::new());
        for guardrail in &self.all {
            let proof = self.one(&prover, guardrail, &baseline, &owner).await.map_err(|error| not_asked(&error))?;
            results.push(result(guardrail, &proof));
            let verdict = proof.verdict;
            proofs.push(proof);
            if verdict != Verdict::Proven {
                let message = words(guardrail, verdict);
                return Err(ActivationError::Unproven(Box::new(Unproven { message, proofs })));
            }
        }
        Ok(results)
    }

    async fn one(
        &self,
        prover: &Prover,
        guardrail: &Guardrail,
        baseline: &NamedPolicy,
        owner: &NamedPolicy,
    ) -> Result<Proof, ProofError> {
        let claim = &guardrail.claim;
        let names = |name: &str| claim.policies.iter().any(|named| named == name);
        let mut policies = Vec::new();
        if names(LABELS) {
            policies.push(NamedPolicy::parse(LABELS, LABELS_POLICY, &self.schema)?);
        }
        if names(BASELINE) {
            policies.push(baseline.clone());
        }
        policies.push(owner.clone());
        let bound = match &claim.goal {
            Goal::NoWiderThan(name) if name == BASELINE => Some(baseline.clone()),
            Goal::NoWiderThan(name) => {
                let unknown = || ProofError::Claim {
                    claim: claim.name.clone(),
                    message: format!("`{name}` is neither the baseline nor a policy that Polder brings"),
                };
                Some(NamedPolicy::parse(name, shipped_policy(name).ok_or_else(unknown)?, &self.schema)?)
            }
            _ => None,
        };
        prove(prover, claim, &policies, bound.as_ref()).await
    }
}

fn result(guardrail: &Guardrail, proof: &Proof) -> ProofResult {
    let verdict = match proof.verdict {
        Verdict::Proven => ProofVerdict::Proven,
        Verdict::Refuted => ProofVerdict::Refuted,
        Verdict::Timeout => ProofVerdict::Timeout,
    };
    ProofResult { claim: guardrail.claim.name.clone(), digest: guardrail.digest, verdict, ms: proof.ms }
}

fn words(guardrail: &Guardrail, verdict: Verdict) -> String {
    let Claim { name, says, .. } = &guardrail.claim;
    match verdict {
        Verdict::Timeout => format!("the guardrail `{name}` could not be proved in time: {says}"),
        _ => format!("the guardrail `{name}` would not hold: {says}"),
    }
}

fn not_asked(error: &ProofError) -> ActivationError {
    let next = match error {
        ProofError::Solver(_) => "; install cvc5, or name its program with `solver` in `[home]`",
        _ => "",
    };
    let message =
        format!("the guardrails could not be proved, so only a policy that just forbids more is taken: {error}{next}");
    ActivationError::Unproven(Box::new(Unproven { message, proofs: Vec::new() }))
}
