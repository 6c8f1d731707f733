//! From claim to answer: every claim becomes one or more questions whether what one set of policies permits, another
//! permits too.
//!
//! Cedar skips a policy that errors, where Polder refuses. So what symcc takes a set to permit is never less than what
//! Polder permits, and a proof about it holds here; a bound, on the other hand, must be shown not to error first. Worlds
//! for exceptions are absent: see `counterexample`.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Decision, Policy, RequestEnv};
use cedar_policy_symcc::err::Error as SymccError;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, Env};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use polder_core::labels::{Action, Closed as _};
use polder_core::policy::{LABELS_POLICY, PolicySchema};
use polder_core::world::WorldRequest;
use serde_json::{Value, json};

use super::counterexample::{Expected, Replay};
use super::parts::{self, Part, Parts};
use super::solver::Running;
use super::{Claim, Cvc5, Goal, LABELS, NamedPolicy, Prover, Verdict};

/// How many rules are asked about at once.
const SIDE_BY_SIDE: usize = 4;

type Compiler = CedarSymCompiler<Running>;

/// Finds instances in half the time (cvc5 1.0.3, 249 countries in sets). What it finds is checked, and what it does not find is
/// asked again without.
const QUICK: &[&str] = &["--no-sets-infer-as-lemmas"];

/// Two solvers: one whose every answer counts, and one for finding what can be checked.
struct Solvers {
    exact: Compiler,
    quick: Compiler,
}

impl Solvers {
    fn start(solver: &Cvc5) -> Result<Self, Stop> {
        let start = |options| -> Result<Compiler, Stop> {
            let running = solver.start(options).map_err(|error| Stop::from(SymccError::from(error)))?;
            CedarSymCompiler::new(running).map_err(Stop::from)
        };
        Ok(Self { exact: start(&[])?, quick: start(QUICK)? })
    }
}

/// A verdict and what is to be said with it.
pub(super) struct Answer {
    pub verdict: Verdict,
    pub note: Option<String>,
    pub rules: Vec<String>,
    pub example: Option<WorldRequest>,
}

impl Answer {
    fn of(verdict: Verdict) -> Self {
        Self { verdict, note: None, rules: Vec::new(), example: None }
    }

    pub fn timeout(note: String) -> Self {
        Self { note: Some(note), ..Self::of(Verdict::Timeout) }
    }
}

/// Why a question has no answer.
enum Stop {
    /// The question itself is wrong.
    Wrong(String),
    /// The solver gave none.
    Unanswered(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

impl From<SymccError> for Stop {
    fn from(error: SymccError) -> Self {
        match error {
            SymccError::PolicyNotWellTyped { errs } => {
                Self::Wrong(errs.first().map_or_else(|| "it is not well typed".to_owned(), ToString::to_string))
            }
            SymccError::CompileError(_) | SymccError::IncompleteSchema(_) | SymccError::ActionNotInSchema(_) => {
                Self::Wrong(error.to_string())
            }
            SymccError::SolverUnknown => Self::Unanswered("the solver answered `unknown`".to_owned()),
            SymccError::SolverError(error) => Self::Unanswered(format!("the solver failed: {error}")),
            other => Self::Unanswered(format!("the solver's answer cannot be used: {other}")),
        }
    }
}

/// A claim, ready to be asked.
pub(super) struct Question {
    goal: Goal,
    /// The policies, by name; all must permit.
    layers: Vec<(String, Parts)>,
    /// What the goal compares with: its expression or its bound.
    other: Option<Parts>,
    schema: std::sync::Arc<PolicySchema>,
    replay: Replay,
}

impl Question {
    /// Takes claim and policies apart. An error is the claim's.
    pub fn new(
        prover: &Prover,
        claim: &Claim,
        policies: &[NamedPolicy],
        bound: Option<&NamedPolicy>,
    ) -> Result<Self, String> {
        let other = match &claim.goal {
            Goal::PermittedOnlyWhen(text) | Goal::CanPermit(text) => Some(goal(text, true)?),
            Goal::NeverPermittedWhen(text) => Some(goal(text, false)?),
            Goal::NoWiderThan(name) => {
                let bound = bound.ok_or_else(|| format!("the policy `{name}` is not there"))?;
                Some(Parts::of(name, &bound.layer)?)
            }
            Goal::NeverErrors | Goal::NoDeadRule | Goal::NoRedundantRule => None,
        };
        let mut layers = Vec::new();
        for (place, policy) in policies.iter().enumerate() {
            layers.push((policy.name.clone(), Parts::of(&place.to_string(), &policy.layer)?));
        }
        let reads = |parts: &Parts| parts.forbids.iter().chain(&parts.permits).any(reads_countries);
        let named = policies.iter().any(|policy| policy.name == LABELS);
        if !named && (layers.iter().any(|(_, parts)| reads(parts)) || other.as_ref().is_some_and(reads)) {
            // In a decision it always stands beside the others.
            let labels = NamedPolicy::parse(LABELS, LABELS_POLICY, &prover.schema).map_err(|e| e.to_string())?;
            layers.push((LABELS.to_owned(), Parts::of(LABELS, &labels.layer)?));
        }
        let replay = Replay::new(&prover.schema, claim, policies, bound)?;
        Ok(Self { goal: claim.goal.clone(), layers, other, schema: prover.schema.clone(), replay })
    }

    /// Asks the solver.
    pub async fn ask(&self, solver: &Cvc5) -> Result<Answer, String> {
        let asked = match Solvers::start(solver) {
            Ok(mut solvers) => self.ask_of(solver, &mut solvers).await,
            Err(stop) => Err(stop),
        };
        match asked {
            Ok(answer) => Ok(answer),
            Err(Stop::Wrong(message)) => Err(message),
            Err(Stop::Unanswered(note)) => Ok(Answer::timeout(note)),
        }
    }

    async fn ask_of(&self, solver: &Cvc5, solvers: &mut Solvers) -> Result<Answer, Stop> {
        let all: Vec<&(String, Parts)> = self.layers.iter().collect();
        match (&self.goal, &self.other) {
            (Goal::NoWiderThan(name), Some(bound)) => {
                let error = self.error(solvers, bound).await?;
                if let Some((rule, _)) = error {
                    let note = format!("`{name}` is no bound: its rule `{rule}` can end in an evaluation error");
                    return Ok(Answer { note: Some(note), ..Answer::of(Verdict::Refuted) });
                }
                self.implied(solvers, bound).await
            }
            (Goal::CanPermit(_), Some(goal)) => self.reachable(solvers, goal).await,
            (_, Some(goal)) => self.implied(solvers, goal).await,
            (Goal::NeverErrors, None) => {
                for (name, parts) in all {
                    if let Some((rule, env)) = self.error(solvers, parts).await? {
                        let rules = vec![format!("{name}: {rule}")];
                        return Ok(Answer { rules, ..self.refuted(env.as_ref(), Expected::PolicyError) });
                    }
                }
                Ok(Answer::of(Verdict::Proven))
            }
            (goal, None) => self.idle_rules(solver, *goal == Goal::NoRedundantRule).await,
        }
    }

    /// Whether whatever the layers permit, the other permits too.
    async fn implied(&self, solvers: &mut Solvers, other: &Parts) -> Result<Answer, Stop> {
        let open = parts::open()?;
        for action in self.actions(other) {
            let forbids: Vec<&Part> = self.layers.iter().flat_map(|(_, parts)| parts.forbids(action)).collect();
            let mentioned = other.permits.iter().chain(&other.forbids);
            let axioms = parts::axioms(&reads(forbids.iter().copied().chain(mentioned)), &self.schema)?;
            let antecedent: Vec<&Policy> = std::iter::once(&open).chain(policies(forbids)).chain(&axioms).collect();
            let permits = other.permits.iter().filter(|part| part.actions.contains(&action));
            let consequent: Vec<&Policy> = policies(permits.chain(other.forbids(action))).collect();
            if let Some(env) = self.exception(solvers, action, antecedent, consequent).await? {
                return Ok(self.refuted(Some(&env), Expected::Placed));
            }
        }
        Ok(Answer::of(Verdict::Proven))
    }

    /// Whether the layers permit something for which the goal's permit speaks.
    async fn reachable(&self, solvers: &mut Solvers, goal: &Parts) -> Result<Answer, Stop> {
        let mut unshown = None;
        for action in self.actions(goal) {
            let forbids: Vec<&Part> = self.layers.iter().flat_map(|(_, parts)| parts.forbids(action)).collect();
            let axioms = parts::axioms(&reads(forbids.iter().copied().chain(&goal.permits)), &self.schema)?;
            let antecedent: Vec<&Policy> = policies(&goal.permits).chain(policies(forbids)).chain(&axioms).collect();
            if let Some(env) = self.instance(solvers, action, antecedent).await? {
                match self.replay.example(&env, Expected::Placed) {
                    Ok(example) => return Ok(Answer { example: Some(example), ..Answer::of(Verdict::Proven) }),
                    Err(why) => unshown = Some(why),
                }
            }
        }
        let note = match unshown {
            Some(why) => format!("what the solver found cannot be made from facts: {why}"),
            None => "they permit nothing of the kind".to_owned(),
        };
        Ok(Answer { note: Some(note), ..Answer::of(Verdict::Refuted) })
    }

    /// A rule of a layer that can end in an evaluation error, with a case in which it does.
    async fn error(&self, solvers: &mut Solvers, parts: &Parts) -> Result<Option<(String, Option<Env>)>, Stop> {
        for part in &parts.forbids {
            let json = part.policy.to_json().map_err(|e| e.to_string())?;
            if reads_named_entity(&json) {
                // Only the factory and the model of the request are there to be read.
                return Ok(Some((part.rule.clone(), None)));
            }
            let (scope, sound) = (with_conditions(&json, false)?, with_conditions(&json, true)?);
            let axioms = parts::axioms(&part.reads, &self.schema)?;
            for action in part.actions.iter().copied().take(if part.by_action { usize::MAX } else { 1 }) {
                let antecedent = std::iter::once(&scope).chain(&axioms).collect();
                if let Some(env) = self.exception(solvers, action, antecedent, vec![&sound]).await? {
                    return Ok(Some((part.rule.clone(), Some(env))));
                }
            }
        }
        Ok(None)
    }

    /// The rules that never forbid anything; with `alone`, those that never forbid anything that nothing else forbids. Each
    /// rule is a question of its own, so several solvers ask side by side.
    async fn idle_rules(&self, solver: &Cvc5, alone: bool) -> Result<Answer, Stop> {
        let mut each: Vec<BoxFuture<'_, Result<Option<String>, Stop>>> = Vec::new();
        for (name, parts) in &self.layers {
            for part in &parts.forbids {
                each.push(Box::pin(self.idle_rule(solver, name, parts, part, alone)));
            }
        }
        let found: Vec<Option<String>> = futures_util::stream::iter(each).buffered(SIDE_BY_SIDE).try_collect().await?;
        let mut rules: Vec<String> = found.into_iter().flatten().collect();
        for (name, parts) in self.layers.iter().filter(|_| alone) {
            for part in &parts.permits {
                let others = parts.permits.iter().filter(|other| other.policy.id() != part.policy.id());
                let covered: BTreeSet<Action> = others.flat_map(|other| other.actions.iter().copied()).collect();
                if part.actions.is_subset(&covered) {
                    rules.push(format!("{name}: {}", part.rule));
                }
            }
        }
        let verdict = if rules.is_empty() { Verdict::Proven } else { Verdict::Refuted };
        Ok(Answer { rules, ..Answer::of(verdict) })
    }

    async fn idle_rule(
        &self,
        solver: &Cvc5,
        name: &str,
        parts: &Parts,
        part: &Part,
        alone: bool,
    ) -> Result<Option<String>, Stop> {
        let mut solvers = Solvers::start(solver)?;
        let acts = self.acts(&mut solvers, parts, part, alone).await?;
        Ok((!acts).then(|| format!("{name}: {}", part.rule)))
    }

    async fn acts(&self, solvers: &mut Solvers, parts: &Parts, part: &Part, alone: bool) -> Result<bool, Stop> {
        let turned = parts::turned(part)?;
        let others = |action: Action| -> Vec<&Part> {
            let others = parts.forbids(action).filter(|other| alone && other.policy.id() != part.policy.id());
            others.collect()
        };
        let key = |action: Action| {
            let speaks = part.actions.contains(&action) && (!alone || parts.permits(action));
            speaks.then(|| others(action).iter().map(|other| other.policy.id().to_string()).collect::<Vec<_>>())
        };
        let by_action = part.by_action || (alone && parts.forbids.iter().any(|other| other.by_action));
        for action in distinct(by_action, key) {
            let others = others(action);
            let axioms = parts::axioms(&reads(others.iter().copied().chain([part])), &self.schema)?;
            let antecedent = std::iter::once(&turned).chain(policies(others)).chain(&axioms).collect::<Vec<_>>();
            if self.instance(solvers, action, antecedent).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The actions to ask about: those that all layers permit, and of several that are alike the first.
    fn actions(&self, other: &Parts) -> Vec<Action> {
        let sets: Vec<&Parts> = self.layers.iter().map(|(_, parts)| parts).collect();
        let key = |action: Action| {
            let forbids = sets.iter().flat_map(|parts| parts.forbids(action)).chain(other.forbids(action));
            let permits = other.permits.iter().filter(|part| part.actions.contains(&action));
            let ids = forbids.chain(permits).map(|part| part.policy.id().to_string()).collect::<Vec<_>>();
            sets.iter().all(|parts| parts.permits(action)).then_some(ids)
        };
        let mut all = sets.iter().copied().chain([other]).flat_map(|parts| parts.forbids.iter().chain(&parts.permits));
        distinct(all.any(|part| part.by_action), key)
    }

    /// Something that one set permits and another does not.
    async fn exception(
        &self,
        solvers: &mut Solvers,
        action: Action,
        antecedent: Vec<&Policy>,
        consequent: Vec<&Policy>,
    ) -> Result<Option<Env>, Stop> {
        let env = self.environment(action)?;
        let (antecedent, consequent) = (self.compile(antecedent, &env)?, self.compile(consequent, &env)?);
        Ok(solvers.exact.check_implies_with_counterexample_opt(&antecedent, &consequent).await?)
    }

    /// Something that a set permits.
    async fn instance(
        &self,
        solvers: &mut Solvers,
        action: Action,
        policies: Vec<&Policy>,
    ) -> Result<Option<Env>, Stop> {
        let env = self.environment(action)?;
        let (set, none) = (self.compile(policies.clone(), &env)?, self.compile(Vec::new(), &env)?);
        if let Ok(Some(found)) = solvers.quick.check_implies_with_counterexample_opt(&set, &none).await {
            let set = parts::together(policies)?;
            let response = Authorizer::new().is_authorized(&found.request, &set, &found.entities);
            if response.decision() == Decision::Allow {
                return Ok(Some(found));
            }
        }
        Ok(solvers.exact.check_implies_with_counterexample_opt(&set, &none).await?)
    }

    fn environment(&self, action: Action) -> Result<RequestEnv, String> {
        let mut all = self.schema.cedar().request_envs();
        let found = all.find(|env| env.action().id().unescaped() == action.as_str());
        found.ok_or_else(|| format!("the schema does not know the action `{}`", action.as_str()))
    }

    fn compile(&self, policies: Vec<&Policy>, env: &RequestEnv) -> Result<CompiledPolicySet, Stop> {
        let set = parts::together(policies)?;
        Ok(CompiledPolicySet::compile(&set, env, self.schema.cedar())?)
    }

    fn refuted(&self, env: Option<&Env>, expected: Expected) -> Answer {
        let answer = Answer::of(Verdict::Refuted);
        match env.map(|env| self.replay.example(env, expected)) {
            None => Answer { note: Some("it reads an entity that is never there".to_owned()), ..answer },
            Some(Ok(example)) => Answer { example: Some(example), ..answer },
            Some(Err(why)) => {
                let note = format!("what the solver found cannot be made from facts, so there is no file: {why}");
                Answer { note: Some(note), ..answer }
            }
        }
    }
}

/// A goal's expression, which must be one and no more.
fn goal(expression: &str, holds: bool) -> Result<Parts, String> {
    let parsed: Result<cedar_policy::Expression, _> = expression.parse();
    parsed.map_err(|e| format!("`{expression}`: {e}"))?;
    Parts::when(expression, holds)
}

fn policies<'a>(parts: impl IntoIterator<Item = &'a Part>) -> impl Iterator<Item = &'a Policy> {
    parts.into_iter().map(|part| &part.policy)
}

fn reads<'a>(parts: impl IntoIterator<Item = &'a Part>) -> BTreeSet<String> {
    parts.into_iter().flat_map(|part| part.reads.iter().cloned()).collect()
}

fn reads_countries(part: &Part) -> bool {
    part.reads.contains("context.countries")
}

/// The actions that have a key, and of those with the same key the first, unless policies look at the action itself.
fn distinct<K: Ord>(by_action: bool, key: impl Fn(Action) -> Option<K>) -> Vec<Action> {
    let mut seen = BTreeSet::new();
    Action::all().into_iter().filter(|action| key(*action).is_some_and(|key| seen.insert(key) || by_action)).collect()
}

/// A policy's scope as a permit; with `sound`, only where its conditions do not error: `… || true` is true or an error.
fn with_conditions(policy: &Value, sound: bool) -> Result<Policy, String> {
    let mut json = policy.clone();
    let holds = json!({"Value": true});
    let conditions = policy.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let all = conditions.fold(holds.clone(), |before, condition| {
        let body = condition.get("body").cloned().unwrap_or(Value::Null);
        let negated = condition.get("kind").and_then(Value::as_str) == Some("unless");
        let one = if negated { json!({"!": {"arg": body}}) } else { body };
        json!({"&&": {"left": before, "right": one}})
    });
    let body = json!({"||": {"left": all, "right": holds}});
    let conditions = if sound { json!([{"kind": "when", "body": body}]) } else { json!([]) };
    let fields = json.as_object_mut().ok_or("a policy without fields")?;
    fields.insert("effect".to_owned(), "permit".into());
    fields.insert("conditions".to_owned(), conditions);
    Policy::from_json(None, json).map_err(|e| e.to_string())
}

/// Whether an attribute of an entity is read that is named in the policy rather than given by the request.
fn reads_named_entity(json: &Value) -> bool {
    match json {
        Value::Array(items) => items.iter().any(reads_named_entity),
        Value::Object(fields) => {
            let here = fields.get(".").and_then(|access| access.pointer("/left/Value/__entity")).is_some();
            here || fields.values().any(reads_named_entity)
        }
        _ => false,
    }
}
