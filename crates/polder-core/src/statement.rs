//! Statements: what a node says happened. A log entry is only the salted commitment to one.
//!
//! A statement's bytes are its canonical JSON. Prompts and answers are absent; a request appears as a salted digest.

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, Ordered};

mod changes;
mod keeping;
mod keys;

/// The commitment to a statement: SHA-256 over `polder/commitment/v1`, a zero byte, the salt and the statement's bytes.
/// These 32 bytes are the log entry.
pub fn commitment(salt: &[u8; 32], statement: &[u8]) -> Digest {
    canonical::hash("polder/commitment/v1", &[salt, statement])
}

/// The first version of every statement.
pub mod v1 {
    use super::{CanonicalError, Deserialize, Digest, Ordered, Serialize, canonical};
    use crate::chain::v1::{DayStatement, LinkStatement};
    use crate::framework::FrameworkSeals;
    use crate::ids::{DecisionId, ModelId, NodeId, TenantId};
    use crate::placement::{Decision, Outcome, Relaxation, Snapshot, Verdict, Weights};
    use crate::request::Request;
    use crate::tables::Tables;

    pub use super::changes::{Before, Grounds, ImportStatement, Source, TakenFact, ViewStatement};
    pub use super::keeping::{DeletionStatement, Ground, HoldAct, HoldScope, HoldStatement};
    pub use super::keys::KeyStatement;
    pub use crate::membership::MemberStatement;

    /// Any statement; the field `statement` names which.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(tag = "statement")]
    #[allow(clippy::large_enum_variant)] // One statement at a time is held, never many.
    pub enum Statement {
        /// A home decided.
        #[serde(rename = "polder/decision/v1")]
        Decision(Box<DecisionStatement>),
        /// A factory ran, or tried to.
        #[serde(rename = "polder/execution/v1")]
        Execution(ExecutionStatement),
        /// A home put an owner's policy in force.
        #[serde(rename = "polder/activation/v1")]
        Activation(ActivationStatement),
        /// A node took in a factory's facts or terms.
        #[serde(rename = "polder/import/v1")]
        Import(ImportStatement),
        /// A home reads policies and facts by other texts.
        #[serde(rename = "polder/view/v1")]
        View(ViewStatement),
        /// A node deleted statements and their salts.
        #[serde(rename = "polder/deletion/v1")]
        Deletion(DeletionStatement),
        /// A legal hold was put or lifted.
        #[serde(rename = "polder/hold/v1")]
        Hold(HoldStatement),
        /// A node's key was rotated or revoked.
        #[serde(rename = "polder/key/v1")]
        Key(KeyStatement),
        /// A membership began or ended.
        #[serde(rename = "polder/member/v1")]
        Member(MemberStatement),
        /// A node says which places of its log have the next numbers of a chain.
        #[serde(rename = "polder/link/v1")]
        Link(LinkStatement),
        /// A node says what it wrote since the day before.
        #[serde(rename = "polder/day/v1")]
        Day(DayStatement),
    }

    /// A home's decision, with everything that made it.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DecisionStatement {
        /// The decision's id.
        pub id: DecisionId,
        /// The home that decided.
        pub home: NodeId,
        /// The instant, in Unix milliseconds.
        pub at_ms: u64,
        /// What was decided about.
        pub request: Request,
        /// The salted digest of the request's body; its salt stays with the home.
        pub body: Digest,
        /// The layers that were asked, apart from terms, which stand in the verdicts.
        pub policies: Policies,
        /// The root over all facts that were read.
        pub facts: Digest,
        /// What the owner preferred.
        pub weights: Weights,
        /// The digest of the tables' digests ([`crate::tables::TableDigests`]); the tables lie beside the log.
        pub tables: Digest,
        /// What became of the request.
        pub outcome: Outcome,
        /// The chosen factory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub factory: Option<NodeId>,
        /// The digest of the ticket that carries it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ticket: Option<Digest>,
        /// For a refusal, the smallest changes that would place the request.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub nearest: Vec<Relaxation>,
    }

    /// A decision's canonical bytes with a gap for each field in which decisions of one kind differ: the instant, the salted
    /// digest of the body, the id, and the ticket. A home that decides the same about the same request, thousands of times a
    /// second, writes the rest once.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DecisionForm([Vec<u8>; 5]);

    impl DecisionForm {
        /// The form of a statement; what stands in its four fields does not matter. `None` where the bytes cannot be cut.
        pub fn of(statement: &DecisionStatement) -> Result<Option<Self>, CanonicalError> {
            let (body, ticket) = (Digest([0xb0; 32]), Digest([0x71; 32]));
            let id = DecisionId::at(0, [0xd0; 10]);
            let marked = DecisionStatement { id, body, at_ms: u64::MAX, ticket: Some(ticket), ..statement.clone() };
            let marks = [
                (br#"{"at_ms":"#.to_vec(), u64::MAX.to_string()),
                (br#","body":""#.to_vec(), body.to_hex()),
                (br#","id":""#.to_vec(), marked.id.to_string()),
                (br#","ticket":""#.to_vec(), ticket.to_hex()),
            ];
            let bytes = Statement::Decision(Box::new(marked)).to_bytes()?;
            Ok(Self::cut(&bytes, &marks))
        }

        /// A quote inside a text is escaped, so a mark can stand only where its field does.
        fn cut(bytes: &[u8], marks: &[(Vec<u8>, String); 4]) -> Option<Self> {
            let (mut pieces, mut rest) = (Vec::with_capacity(5), bytes);
            for (name, value) in marks {
                let mark = [name.as_slice(), value.as_bytes()].concat();
                let at = rest.windows(mark.len()).position(|window| window == mark)?;
                pieces.push(rest.get(..at + name.len())?.to_vec());
                rest = rest.get(at + mark.len()..)?;
            }
            pieces.push(rest.to_vec());
            pieces.try_into().ok().map(Self)
        }

        /// The canonical bytes of a statement in this form.
        pub fn fill(&self, at_ms: u64, body: &Digest, id: &DecisionId, ticket: &Digest) -> Vec<u8> {
            let Self([first, second, third, fourth, last]) = self;
            let mut out = Vec::with_capacity(self.0.iter().map(Vec::len).sum::<usize>() + 256);
            out.extend_from_slice(first);
            out.extend_from_slice(at_ms.to_string().as_bytes());
            out.extend_from_slice(second);
            canonical::push_hex(&mut out, &body.0);
            out.extend_from_slice(third);
            out.extend_from_slice(id.as_str().as_bytes());
            out.extend_from_slice(fourth);
            canonical::push_hex(&mut out, &ticket.0);
            out.extend_from_slice(last);
            out
        }
    }

    /// The digests of the layers that a home asks.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Policies {
        /// The federation's baseline.
        pub baseline: Digest,
        /// The owner's policy.
        pub owner: Digest,
        /// The schema that they were read by, with the contents of the frameworks that it names and Polder's own labels layer.
        pub schema: Digest,
        /// Whose facts the owner believes, and the members' own keys.
        pub trust: Digest,
    }

    /// What a factory did with a ticket.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ExecutionStatement {
        /// The factory.
        pub factory: NodeId,
        /// The home that sent the ticket.
        pub home: NodeId,
        /// The tenant it was for.
        pub tenant: TenantId,
        /// The decision that the ticket carries out.
        pub decision: DecisionId,
        /// The ticket's digest.
        pub ticket: Digest,
        /// The salted digest of the request's body.
        pub body: Digest,
        /// The digest of the terms under which the factory decided again.
        pub terms: Digest,
        /// The model as the request named it, where it named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub model: Option<ModelId>,
        /// SHA-256 over the model's files; absent where an upstream engine does not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub model_digest: Option<Digest>,
        /// The back end that really ran, such as `cpu` or `upstream`.
        pub backend: String,
        /// Tokens read.
        pub prompt_tokens: u64,
        /// Tokens generated.
        pub completion_tokens: u64,
        /// When it began, in Unix milliseconds.
        pub started_ms: u64,
        /// When it ended, in Unix milliseconds.
        pub ended_ms: u64,
        /// How it ended.
        pub outcome: ExecutionOutcome,
    }

    /// How an execution ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum ExecutionOutcome {
        /// The whole answer was generated.
        Completed,
        /// The home stopped reading.
        Cancelled,
        /// The engine failed.
        Failed,
    }

    /// An owner's policy that came into force. The leaf comes first: no decision is made under a policy without one.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ActivationStatement {
        /// The home.
        pub home: NodeId,
        /// The file's name, without its folder.
        pub file: String,
        /// The digest of the policy's text.
        pub digest: Digest,
        /// The digest of the one that was in force before; absent for the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub previous: Option<Digest>,
        /// The digest of the federation's baseline beside it.
        pub baseline: Digest,
        /// The instant, in Unix milliseconds.
        pub at_ms: u64,
        /// What put it in force.
        pub how: How,
        /// Whether it can only forbid more than the one before, so that no proof was waited for.
        pub narrower: bool,
        /// What was proved before, one entry for each guardrail; empty where none was declared or waited for.
        pub proofs: Vec<ProofResult>,
    }

    /// What puts a policy in force.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum How {
        /// The file of the configuration, when the node started.
        Start,
        /// The file of the configuration, read again.
        Reload,
        /// The owner's call.
        Activate,
        /// The owner's call for a former version.
        Rollback,
    }

    /// How a claim about a policy fared.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ProofResult {
        /// The claim's name.
        pub claim: String,
        /// The digest of the claim's text.
        pub digest: Digest,
        /// The verdict.
        pub verdict: ProofVerdict,
        /// How long it took, in milliseconds.
        pub ms: u64,
    }

    /// A verdict on a claim.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum ProofVerdict {
        /// There is no exception.
        Proven,
        /// There is one.
        Refuted,
        /// There was no answer.
        Timeout,
    }

    impl Statement {
        /// What kind of statement it is, in a word: as `--part` and the node's own tables name it.
        pub fn kind(&self) -> &'static str {
            match self {
                Self::Decision(_) => "decision",
                Self::Execution(_) => "execution",
                Self::Activation(_) => "activation",
                Self::Import(_) => "import",
                Self::View(_) => "view",
                Self::Deletion(_) => "deletion",
                Self::Hold(_) => "hold",
                Self::Key(_) => "key",
                Self::Member(_) => "member",
                Self::Link(_) => "link",
                Self::Day(_) => "day",
            }
        }

        /// The statement's canonical bytes.
        pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
            match self {
                Self::Execution(execution) => Ok(execution.to_bytes()),
                _ => canonical::to_bytes(self),
            }
        }
    }

    impl ExecutionStatement {
        /// One is written with every request: its fields are written in order at once.
        fn to_bytes(&self) -> Vec<u8> {
            let mut out = Ordered::new(768)
                .text("backend", &self.backend)
                .hex("body", &self.body.0)
                .number("completion_tokens", self.completion_tokens)
                .text("decision", self.decision.as_str())
                .number("ended_ms", self.ended_ms)
                .text("factory", self.factory.as_str())
                .text("home", self.home.as_str());
            if let Some(model) = &self.model {
                out = out.text("model", model.as_str());
            }
            if let Some(digest) = &self.model_digest {
                out = out.hex("model_digest", &digest.0);
            }
            out.text("outcome", self.outcome.as_str())
                .number("prompt_tokens", self.prompt_tokens)
                .number("started_ms", self.started_ms)
                .text("statement", "polder/execution/v1")
                .text("tenant", self.tenant.as_str())
                .hex("terms", &self.terms.0)
                .hex("ticket", &self.ticket.0)
                .end()
        }
    }

    impl ExecutionOutcome {
        /// As statements name it.
        fn as_str(self) -> &'static str {
            match self {
                Self::Completed => "completed",
                Self::Cancelled => "cancelled",
                Self::Failed => "failed",
            }
        }
    }

    /// A decision's statement with the verdicts that its tables hold.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DecisionRecord {
        /// The statement.
        pub statement: DecisionStatement,
        /// One verdict for each factory, in name order.
        pub verdicts: Vec<Verdict>,
        /// The SEALs of the request at the chosen factory, one entry for each framework version.
        pub seals: Vec<FrameworkSeals>,
    }

    impl DecisionRecord {
        /// The record of a decision that was made on a snapshot; its ticket is added once there is one.
        pub fn of(
            id: DecisionId,
            home: NodeId,
            snapshot: &Snapshot,
            request: Request,
            body: Digest,
            decision: Decision,
        ) -> Result<Self, CanonicalError> {
            let statement = DecisionStatement {
                id,
                home,
                at_ms: snapshot.at_ms,
                request,
                body,
                policies: Policies {
                    baseline: snapshot.basis.baseline.digest(),
                    owner: snapshot.basis.owner.digest(),
                    schema: snapshot.basis.schema.digest(),
                    trust: snapshot.basis.trust,
                },
                facts: snapshot.facts_root,
                weights: snapshot.weights,
                tables: Tables::of(&decision.verdicts, &decision.seals).digests()?.digest()?,
                outcome: decision.outcome,
                factory: decision.factory,
                ticket: None,
                nearest: decision.nearest,
            };
            Ok(Self { statement, verdicts: decision.verdicts, seals: decision.seals })
        }

        /// A statement and its tables, where they are the ones that it names.
        pub fn joined(statement: DecisionStatement, tables: &Tables) -> Option<Self> {
            let digest = tables.digests().and_then(|digests| digests.digest());
            let named = tables.is_ordered() && digest == Ok(statement.tables);
            let verdicts = tables.join().filter(|_| named)?;
            Some(Self { statement, verdicts, seals: tables.seals.clone() })
        }

        /// The tables of this decision as they are now.
        pub fn tables(&self) -> Tables {
            Tables::of(&self.verdicts, &self.seals)
        }
    }
}

#[cfg(test)]
mod tests;
