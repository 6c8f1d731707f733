//! The life of the owner's policy: activated, kept as a version, rolled back. Every text comes into force the same way.
//!
//! A candidate is parsed, held against the one in force, proved against the owner's guardrails unless it can only forbid
//! more, written to the log, and only then put into the view in one step. Whoever reads the view never waits. What can only
//! forbid more does not wait for another's proof either. Baseline and terms have no versions: see `policies`.

use std::path::PathBuf;
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::ids::NodeId;
use polder_core::policy::{LABELS_POLICY, Layer, LayerKind, PolicyError, PolicySchema, is_only_narrower};
use polder_core::statement::v1::{ActivationStatement, Grounds, How, ProofResult};
use tokio::sync::Mutex;

use super::policies::PolicyState;
use super::view::View;
use crate::clock::now_ms;
use crate::config::{ConfigError, HomeConfig, file_name, read_policy};
use crate::imports::Imports;
use crate::log::{Log, LogError};
use crate::policies::load;
use crate::store::{PolicyText, PolicyVersion, Store, StoreError};

mod diff;
mod guardrails;

pub use diff::{DECISIONS_MAX, Diff, PolicySource};
pub use guardrails::{Guardrail, Guardrails, Unproven};

/// Longest name of a policy's file, in bytes.
const FILE_NAME_BYTES_MAX: usize = 200;
/// Shortest beginning of a digest that names a version, in hexadecimal digits.
const PREFIX_DIGITS_MIN: usize = 8;

/// Why a policy did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The text does not hold.
    #[error("{_0}{hint}", hint = _0.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})")))]
    Policy(Box<PolicyError>),
    /// A guardrail does not hold, or could not be proved.
    #[error(transparent)]
    Unproven(Box<Unproven>),
    /// Another came into force while this one was proved.
    #[error("version {0} came into force meanwhile: look at it with `polder policy history`, then try again")]
    Overtaken(u64),
    /// There is no such version.
    #[error("{0}")]
    Unknown(String),
    /// A name that is no file's.
    #[error("{0}")]
    Name(String),
    /// The log or the database failed; nothing has changed.
    #[error("this node failed, and the policy of before stays in force: {0}")]
    Internal(String),
}

impl From<PolicyError> for ActivationError {
    fn from(error: PolicyError) -> Self {
        Self::Policy(Box::new(error))
    }
}

impl From<StoreError> for ActivationError {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<LogError> for ActivationError {
    fn from(error: LogError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// A text that is to come into force.
struct Candidate {
    file: String,
    text: String,
    layer: Arc<Layer>,
    how: How,
}

/// What became of a call.
#[derive(Debug)]
pub struct Activated {
    /// The version in force.
    pub version: Arc<PolicyVersion>,
    /// Whether it is a new one; `false` where this very text was in force already.
    pub changed: bool,
}

/// How the owner's policies come into force at a home.
pub struct Lifecycle {
    home: NodeId,
    file: PathBuf,
    baseline: PathBuf,
    schema: Arc<PolicySchema>,
    store: Store,
    log: Log,
    guardrails: Guardrails,
    imports: Arc<Imports>,
    /// Held while layers are put in force.
    turn: Mutex<()>,
    /// Held while claims are proved: one solver at a time.
    proving: Mutex<()>,
}

impl Lifecycle {
    /// The lifecycle at a home.
    pub fn new(
        home: NodeId,
        config: &HomeConfig,
        schema: Arc<PolicySchema>,
        store: Store,
        log: Log,
        imports: Arc<Imports>,
    ) -> Self {
        let guardrails = Guardrails::new(config.guardrails.clone(), config.solver.clone(), Arc::clone(&schema));
        let (file, baseline) = (config.policy.clone(), config.baseline.clone());
        let (turn, proving) = Default::default();
        Self { home, file, baseline, schema, store, log, guardrails, imports, turn, proving }
    }

    /// What the owner declared must hold of every policy.
    pub fn guardrails(&self) -> &[Guardrail] {
        self.guardrails.all()
    }

    /// The layers at a start: the newest version, or the file's text where it is another than was last taken from the file.
    /// An error where no policy can be in force at all.
    pub async fn open(&self) -> Result<PolicyState, ConfigError> {
        let failed = |message: String| ConfigError::Content { path: self.file.clone(), message };
        let baseline = load(LayerKind::Baseline, &self.baseline, &self.schema, &self.store).await?;
        let labels = Arc::new(Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, &self.schema)?);
        let newest = self.store.newest_policy().await.map_err(|e| failed(e.to_string()))?;
        let mut problem = None;
        let mut active = None;
        if let Some(version) = &newest {
            match self.parse(&version.file, &version.text) {
                Ok(layer) => active = Some((Arc::new(version.clone()), layer)),
                Err(error) => problem = Some(format!("version {} does not hold any more: {error}", version.number)),
            }
        }
        match self.of_file(How::Start, active.is_some()).await {
            Ok(None) => {}
            Ok(Some(candidate)) => {
                let before = active.as_ref().map(|(_, layer)| layer.as_ref());
                let beside = (baseline.text.as_str(), baseline.layer.digest());
                match self.first(newest.as_ref(), before, beside, &candidate).await {
                    Ok(version) => active = Some((Arc::new(version), candidate.layer)),
                    Err(error) => problem = Some(kept(&error.to_string())),
                }
            }
            Err(error) => problem = Some(kept(&error)),
        }
        let Some((version, owner)) = active else {
            return Err(failed(problem.unwrap_or_else(|| "no policy can be in force".to_owned())));
        };
        Ok(PolicyState {
            baseline: baseline.layer,
            baseline_text: baseline.text.into(),
            owner,
            labels,
            version,
            baseline_problem: baseline.refused,
            file_problem: problem,
        })
    }

    /// Judges and records a candidate while nobody else can: at a start.
    async fn first(
        &self,
        newest: Option<&PolicyVersion>,
        before: Option<&Layer>,
        (baseline_text, baseline): (&str, Digest),
        candidate: &Candidate,
    ) -> Result<PolicyVersion, ActivationError> {
        let narrower = before.is_some_and(|before| is_only_narrower(before, &candidate.layer));
        let proofs = if narrower { Vec::new() } else { self.guardrails.prove(baseline_text, &candidate.text).await? };
        self.record(newest, baseline, candidate, narrower, proofs).await
    }

    /// Reads both files again. What is broken, or not proved, leaves in force what was; the messages say why.
    pub async fn reload(&self, view: &View) -> Vec<String> {
        let baseline = load(LayerKind::Baseline, &self.baseline, &self.schema, &self.store).await;
        let baseline = match baseline {
            Ok(read) => self.recorded(view, read.layer.digest()).await.map(|()| read),
            Err(error) => Err(error.to_string()),
        };
        self.amend(view, |state| match baseline {
            Ok(read) => {
                if read.layer.digest() != state.baseline.digest() {
                    (state.baseline, state.baseline_text) = (read.layer, read.text.into());
                }
                state.baseline_problem = read.refused;
            }
            Err(error) => state.baseline_problem = Some(kept(&error)),
        })
        .await;
        let problem = match self.of_file(How::Reload, true).await {
            Ok(None) => None,
            Ok(Some(candidate)) => self.put(view, candidate).await.err().map(|error| kept(&error.to_string())),
            Err(error) => Some(kept(&error)),
        };
        self.amend(view, |state| state.file_problem = problem).await;
        view.policies().refused()
    }

    /// Writes down that the home goes by another baseline, before it does.
    async fn recorded(&self, view: &View, baseline: Digest) -> Result<(), String> {
        let grounds = view.grounds();
        if grounds.baseline == baseline {
            return Ok(());
        }
        self.imports.grounds(Grounds { baseline, ..grounds }).await.map_err(|error| error.to_string())
    }

    async fn amend(&self, view: &View, change: impl FnOnce(&mut PolicyState)) {
        let _turn = self.turn.lock().await;
        let mut state = PolicyState::clone(&view.policies());
        change(&mut state);
        view.set_policies(state, now_ms());
    }

    /// Puts a text in force.
    pub async fn activate(&self, view: &View, file: &str, text: String) -> Result<Activated, ActivationError> {
        let odd = |c: char| c.is_control() || c == '/';
        if file.is_empty() || file.len() > FILE_NAME_BYTES_MAX || file.contains(odd) {
            return Err(ActivationError::Name(format!(
                "`file` is the name of the policy's file, without its folder: 1 to {FILE_NAME_BYTES_MAX} bytes"
            )));
        }
        let candidate = self.candidate(file.to_owned(), text, How::Activate).await?;
        self.put(view, candidate).await
    }

    /// Puts a former version in force again: the one before, or the one of a number or of a digest's beginning. It goes
    /// through the guardrails like any other.
    pub async fn rollback(&self, view: &View, to: Option<&str>) -> Result<Activated, ActivationError> {
        let now = Arc::clone(&view.policies().version);
        let version = match to {
            Some(to) => self.version(to).await?,
            None => self.store.policy_before(now.number, &now.digest).await?.ok_or_else(|| {
                ActivationError::Unknown(format!("there is no other policy before version {}", now.number))
            })?,
        };
        let candidate = self.candidate(version.file, version.text, How::Rollback).await?;
        self.put(view, candidate).await
    }

    /// The version of a number or of a digest's beginning.
    pub async fn version(&self, named: &str) -> Result<PolicyVersion, ActivationError> {
        let unknown = || {
            let named: String = named.chars().take(64).collect();
            ActivationError::Unknown(format!("no version `{named}`: `polder policy history` shows those there are"))
        };
        if let Ok(number) = named.parse::<u64>()
            && let Some(version) = self.store.policy_of_number(number).await?
        {
            return Ok(version);
        }
        if named.len() < PREFIX_DIGITS_MIN || named.len() > 64 || !named.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let mut found = self.store.policies_of_prefix(&named.to_lowercase()).await?;
        if found.len() > 1 {
            return Err(ActivationError::Unknown(format!("several policies begin with `{named}`: write more of it")));
        }
        found.pop().ok_or_else(unknown)
    }

    /// The file's text as a candidate, where it has to be taken; what keeps it from being one is said in words.
    async fn of_file(&self, how: How, in_force: bool) -> Result<Option<Candidate>, String> {
        let text = read_policy(&self.file).map_err(|e| e.to_string())?;
        let taken = self.store.policy_from_file().await.map_err(|e| e.to_string())?;
        if in_force && taken.as_deref() == Some(text.as_str()) {
            return Ok(None);
        }
        self.candidate(file_name(&self.file), text, how).await.map(Some).map_err(|e| e.to_string())
    }

    async fn candidate(&self, file: String, text: String, how: How) -> Result<Candidate, ActivationError> {
        let schema = Arc::clone(&self.schema);
        // A long text takes a while; other work of this thread need not wait for it.
        let parsed = tokio::task::spawn_blocking(move || {
            let layer = Layer::parse(LayerKind::Owner, &file, &text, &schema)?;
            Ok::<_, PolicyError>(Candidate { file, text, layer: Arc::new(layer), how })
        });
        Ok(parsed.await.map_err(|e| ActivationError::Internal(e.to_string()))??)
    }

    fn parse(&self, file: &str, text: &str) -> Result<Arc<Layer>, PolicyError> {
        Layer::parse(LayerKind::Owner, file, text, &self.schema).map(Arc::new)
    }

    /// The one way into force while the node runs.
    async fn put(&self, view: &View, candidate: Candidate) -> Result<Activated, ActivationError> {
        let before = {
            let _turn = self.turn.lock().await;
            let before = view.policies();
            if before.version.digest == candidate.layer.digest() && !must_be_taken(&before.version, candidate.how) {
                return Ok(Activated { version: Arc::clone(&before.version), changed: false });
            }
            let narrower = is_only_narrower(&before.owner, &candidate.layer);
            if narrower || self.guardrails.all().is_empty() {
                return self.bring_in(view, &before, candidate, narrower, Vec::new()).await;
            }
            before
        };
        let proofs = {
            let _one = self.proving.lock().await;
            self.guardrails.prove(&before.baseline_text, &candidate.text).await?
        };
        let _turn = self.turn.lock().await;
        let now = view.policies();
        // What was proved is proved beside that baseline; and whoever forbade more meanwhile must not be undone unseen.
        if now.version.number != before.version.number || now.baseline.digest() != before.baseline.digest() {
            return Err(ActivationError::Overtaken(now.version.number));
        }
        self.bring_in(view, &now, candidate, false, proofs).await
    }

    async fn bring_in(
        &self,
        view: &View,
        before: &PolicyState,
        candidate: Candidate,
        narrower: bool,
        proofs: Vec<ProofResult>,
    ) -> Result<Activated, ActivationError> {
        let baseline = before.baseline.digest();
        let version = self.record(Some(&before.version), baseline, &candidate, narrower, proofs).await?;
        let version = Arc::new(version);
        let state = PolicyState { owner: candidate.layer, version: Arc::clone(&version), ..before.clone() };
        view.set_policies(state, now_ms());
        Ok(Activated { version, changed: true })
    }

    /// Writes a candidate's leaf and version, both or neither; from then on it is in force, also after a crash.
    async fn record(
        &self,
        before: Option<&PolicyVersion>,
        baseline: Digest,
        candidate: &Candidate,
        narrower: bool,
        proofs: Vec<ProofResult>,
    ) -> Result<PolicyVersion, ActivationError> {
        let (number, at_ms) = (before.map_or(0, |before| before.number).saturating_add(1), now_ms());
        let (file, text, digest, how) =
            (candidate.file.clone(), candidate.text.clone(), candidate.layer.digest(), candidate.how);
        let activation = ActivationStatement {
            home: self.home.clone(),
            file: file.clone(),
            digest,
            previous: before.map(|before| before.digest),
            baseline,
            at_ms,
            how,
            narrower,
            proofs: proofs.clone(),
        };
        let pending = self.log.append_policy(PolicyText { number, activation, text: text.clone() }).await?;
        let leaf = pending.covered().await?;
        tracing::info!(number, %digest, "a policy came into force");
        Ok(PolicyVersion { number, file, text, digest, at_ms, how, narrower, proofs, leaf })
    }
}

/// A text of the file that is in force already still has to be noted as taken from it.
fn must_be_taken(version: &PolicyVersion, how: How) -> bool {
    let of_file = |how: How| matches!(how, How::Start | How::Reload);
    of_file(how) && !of_file(version.how)
}

fn kept(reason: &str) -> String {
    format!("{reason}; the text of before stays in force")
}

#[cfg(test)]
mod tests;
