//! The federation in virtual time: which factories are up, what their facts say now, and every home's decisions.
//!
//! Deciding is core's. The clock stands still between commands and moves only when one says so. Absent: loss, delay and
//! partitions, and the factory's second decision, which here would be asked the same terms again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::audit::{self, FactoryRecord, Records};
use polder_core::facts::{Passport, Profile, SignedFact, Trust, TrustedIssuer, believe, facts_root, passport_root};
use polder_core::ids::{DecisionId, ModelId, NodeId};
use polder_core::keys::NodeCard;
use polder_core::labels::{Action, Asked, Closed, LabelError};
use polder_core::placement::{
    self, Basis, Decision, Ground, Inputs, NO_CAPACITY, Snapshot, UNREACHABLE, Verdict, decide,
};
use polder_core::policy::{Cause, Column, LABELS_POLICY, Layer, LayerKind, PolicySchema, Usage};
use polder_core::receipt::Receipt;
use polder_core::request::Request;
use polder_core::statement::v1::{DecisionRecord, ExecutionOutcome, ExecutionStatement, Statement};
use polder_core::ticket::{Ticket, body_digest};

use super::node::{Node, authority_of, bytes_of, key_of};
use super::script::Ask;
use crate::drill::loss::{Loss, Touch, touched};
use crate::federation::{Factory, Federation, FederationKeys, PolicyText, Tenant};

/// When every scenario begins: 2026-01-01T00:00:00Z, in Unix milliseconds.
const BEGIN_MS: u64 = 1_767_225_600_000;
/// How long facts hold from then on: 365 days, in milliseconds.
const FACTS_MS: u64 = 365 * 86_400_000;
/// Most tokens that a question here may ask for.
const TOKENS_MAX: u32 = 256;

pub(super) struct World<'f> {
    federation: &'f Federation,
    now_ms: u64,
    schema: Arc<PolicySchema>,
    baseline: Arc<Layer>,
    labels: Arc<Layer>,
    keys: FederationKeys,
    passports: BTreeMap<NodeId, Passport>,
    nodes: BTreeMap<NodeId, Node>,
    gone: BTreeSet<NodeId>,
    full: BTreeSet<NodeId>,
    /// How many times something stood where the product has randomness.
    drawn: u64,
    last: Option<Last>,
}

/// The last decision, and the receipt of it.
pub(super) struct Last {
    pub receipt: Vec<u8>,
    record: DecisionRecord,
    records: Records,
}

impl<'f> World<'f> {
    pub fn new(federation: &'f Federation) -> Result<Self, String> {
        let keys = FederationKeys {
            issuers: federation.issuers.iter().map(|i| (i.id.clone(), key_of(i.id.as_str()))).collect(),
            factories: federation.factories.iter().map(|f| (f.id.clone(), authority_of(&f.id))).collect(),
        };
        let passports = federation.passports(&keys, BEGIN_MS, BEGIN_MS + FACTS_MS).map_err(|e| e.to_string())?;
        let homes = federation.tenants.iter().map(|tenant| &tenant.home);
        let mut nodes = BTreeMap::new();
        for id in homes.chain(passports.keys()) {
            nodes.insert(id.clone(), Node::new(id).map_err(|e| e.to_string())?);
        }
        let schema = PolicySchema::shipped()?;
        let baseline = layer(LayerKind::Baseline, &federation.baseline, &schema)?;
        let labels = Layer::parse(LayerKind::Labels, "labels.cedar", LABELS_POLICY, &schema);
        Ok(Self {
            federation,
            now_ms: BEGIN_MS,
            baseline,
            labels: Arc::new(labels.map_err(|e| e.to_string())?),
            schema: Arc::new(schema),
            keys,
            passports,
            nodes,
            gone: BTreeSet::new(),
            full: BTreeSet::new(),
            drawn: 0,
            last: None,
        })
    }

    pub fn kill(&mut self, name: &str) -> Result<(), String> {
        let id = self.factory(name)?.id.clone();
        self.gone.insert(id).then_some(()).ok_or_else(|| format!("`{name}` is gone already: `revive` it first"))
    }

    pub fn revive(&mut self, name: &str) -> Result<(), String> {
        let id = self.factory(name)?.id.clone();
        self.gone.remove(&id).then_some(()).ok_or_else(|| format!("`{name}` is not gone: `kill` it first"))
    }

    /// Factories that a loss touches, by any tenant's facts, are gone; returns those that were not before.
    pub fn without(&mut self, text: &str) -> Result<Vec<String>, String> {
        let loss = [Loss::parse(text).map_err(|e| e.to_string())?];
        let mut gone = Vec::new();
        for factory in &self.federation.factories {
            let touched = self.federation.tenants.iter().any(|tenant| {
                let trust = self.federation.trust(tenant, &self.keys.issuers_public());
                let authority = authority_of(&factory.id).verifying_key().to_bytes();
                let held = believe(&factory.id, self.passport(&factory.id), &authority, &trust);
                let profile = Profile::at(&held, self.now_ms);
                matches!(touched(&loss, &tenant.home, &factory.id, &profile), Touch::Goes | Touch::Assumed)
            });
            if touched && self.gone.insert(factory.id.clone()) {
                gone.push(factory.id.to_string());
            }
        }
        Ok(gone)
    }

    pub fn fill(&mut self, name: &str) -> Result<(), String> {
        let id = self.factory(name)?.id.clone();
        self.full.insert(id).then_some(()).ok_or_else(|| format!("`{name}` is full already: `empty` it first"))
    }

    pub fn empty(&mut self, name: &str) -> Result<(), String> {
        let id = self.factory(name)?.id.clone();
        self.full.remove(&id).then_some(()).ok_or_else(|| format!("`{name}` is not full: `fill` it first"))
    }

    pub fn advance(&mut self, ms: u64) -> Result<(), String> {
        self.now_ms = self.now_ms.checked_add(ms).ok_or("the clock cannot go that far: use a shorter duration")?;
        Ok(())
    }

    /// Ends, now, every fact of one kind, or one issuer's, that holds at a factory; returns how many there were.
    pub fn expire(&mut self, name: &str, kind: &str, issuer: Option<&str>) -> Result<usize, String> {
        let id = self.factory(name)?.id.clone();
        let keys = self.keys.clone();
        let mut ended = 0;
        for signed in self.passports.get_mut(&id).into_iter().flatten() {
            let meant = issuer.is_none_or(|issuer| signed.fact.issuer.as_str() == issuer);
            let holds = meant && signed.fact.until_ms > self.now_ms && signed.fact.claim.kind().attribute() == kind;
            let key = keys.issuers.get(&signed.fact.issuer).or_else(|| keys.factories.get(&id));
            if let Some(key) = key.filter(|_| holds) {
                let fact = polder_core::facts::Fact { until_ms: self.now_ms, ..signed.fact.clone() };
                *signed = SignedFact::sign(fact, key).map_err(|e| e.to_string())?;
                ended += 1;
            }
        }
        let kinds = "`site`, `operator`, `control`, `chips`, `certifications` or `clearances`";
        if ended == 0 { Err(format!("`{name}` has no fact `{kind}` that holds: use {kinds}")) } else { Ok(ended) }
    }

    /// The request that a question makes; the inner error is what the person who asked would be told.
    pub fn request(&self, ask: &Ask, action: Action, asked: &Asked) -> Result<Result<Request, LabelError>, String> {
        let tenant = self.tenant(&ask.tenant)?;
        let known = tenant.projects.iter().map(|one| format!("`{}`", one.id)).collect::<Vec<_>>().join(", ");
        let project = match &ask.project {
            Some(name) => {
                tenant.project(name).ok_or_else(|| format!("`{name}` is not a project: use one of {known}"))?
            }
            None => tenant.projects.first().ok_or_else(|| format!("`{}` has no project", tenant.id))?,
        };
        let model = match &ask.model {
            Some(name) => ModelId::parse(name).map_err(|e| e.to_string())?,
            None => project.model.clone(),
        };
        Ok(project.labels.narrow_all(std::slice::from_ref(asked)).map(|labels| Request {
            action,
            tenant: tenant.id.clone(),
            project: project.id.clone(),
            model: Some(model),
            labels,
        }))
    }

    /// Decides at the tenant's home, runs nothing, and keeps the receipt of it.
    pub fn ask(&mut self, tenant: &str, request: Request) -> Result<Decision, String> {
        let tenant = self.tenant(tenant)?;
        let trust = self.federation.trust(tenant, &self.keys.issuers_public());
        let snapshot = self.snapshot(tenant, &trust)?;
        let decision = decide(&snapshot, &request, &BTreeMap::new());
        let body = body_digest(&self.draw(), tenant.question.as_bytes());
        let [id, nonce] = [self.draw_16(), self.draw_16()];
        let random = id.first_chunk::<10>().copied().unwrap_or_default();
        let (id, home) = (DecisionId::at(snapshot.at_ms, random), tenant.home.clone());
        let mut record = DecisionRecord::of(id, home, &snapshot, request, body, decision.clone());
        let record = record.as_mut().map_err(|e| e.to_string())?;
        let execution = match &decision.factory {
            Some(factory) => Some(execution(record, factory, nonce)?),
            None => None,
        };
        let decided = self.state(&tenant.home, Statement::Decision(Box::new(record.statement.clone())))?;
        let executed = match execution {
            Some(execution) => Some(self.state(&execution.factory.clone(), Statement::Execution(execution))?),
            None => None,
        };
        let receipt = Receipt::new(decided, record.tables(), executed).to_bytes().map_err(|e| e.to_string())?;
        self.last = Some(Last { receipt, record: record.clone(), records: self.records(tenant, trust) });
        Ok(decision)
    }

    pub fn last(&self) -> Result<&Last, String> {
        self.last.as_ref().ok_or_else(|| "there is no receipt yet: `ask` first".to_owned())
    }

    /// What the last decision says of one factory.
    pub fn verdict(&self, name: &str) -> Result<&Verdict, String> {
        let id = &self.factory(name)?.id;
        let mut verdicts = self.last()?.record.verdicts.iter();
        verdicts.find(|verdict| verdict.factory == *id).ok_or_else(|| format!("`{name}` was not asked"))
    }

    pub fn disagreements(&self) -> Result<Vec<String>, String> {
        let last = self.last()?;
        Ok(audit::disagreements(&last.record, &last.records))
    }

    pub fn members(&self) -> Vec<NodeCard> {
        self.nodes.values().map(|node| node.card.clone()).collect()
    }

    fn snapshot(&self, tenant: &Tenant, trust: &[TrustedIssuer]) -> Result<Snapshot, String> {
        let mut known = Vec::new();
        for factory in &self.federation.factories {
            known.push(self.known(factory, trust)?);
        }
        known.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let (grounds, mut factories): (Vec<Ground>, Vec<placement::Factory>) = known.into_iter().unzip();
        placement::weigh_carbon(&grounds, &mut factories);
        let roots = grounds.iter().map(|ground| (ground.id.clone(), ground.passport)).collect();
        let basis = Basis {
            schema: self.schema.clone(),
            baseline: self.baseline.clone(),
            owner: layer(LayerKind::Owner, &tenant.policy, &self.schema)?,
            labels: self.labels.clone(),
            trust: self.trust(trust).digest().map_err(|e| e.to_string())?,
            grounds,
        };
        Ok(Snapshot::new(self.now_ms, Arc::new(basis), facts_root(&roots), tenant.weights, factories))
    }

    /// Whose facts count for an owner.
    fn trust(&self, issuers: &[TrustedIssuer]) -> Trust {
        let key = |factory: &Factory| (factory.id.clone(), authority_of(&factory.id).verifying_key().to_bytes());
        Trust::new(issuers.to_vec(), self.federation.factories.iter().map(key))
    }

    /// What a home knows of one factory now.
    fn known(&self, factory: &Factory, trust: &[TrustedIssuer]) -> Result<(Ground, placement::Factory), String> {
        let passport = self.passport(&factory.id);
        let authority = authority_of(&factory.id).verifying_key().to_bytes();
        let profile = Profile::at(&believe(&factory.id, passport, &authority, trust), self.now_ms);
        let mut unavailable = Vec::new();
        // Of a factory that does not answer, nobody knows whether it is full.
        if self.gone.contains(&factory.id) {
            unavailable.push(Cause::built_in(LayerKind::Availability, UNREACHABLE, "the factory does not answer"));
        } else if self.full.contains(&factory.id) {
            unavailable.push(Cause::built_in(LayerKind::Availability, NO_CAPACITY, "every place is taken"));
        }
        let actions =
            |model: &ModelId| Action::all().into_iter().map(|action| (action, Some(model.clone()))).collect::<Vec<_>>();
        let ground = Ground {
            id: factory.id.clone(),
            column: Arc::new(Column::new(&factory.id, profile, Usage::default(), &self.schema)?),
            passport: passport_root(passport).map_err(|e| e.to_string())?,
            terms: layer(LayerKind::Terms, &factory.terms, &self.schema)?,
            offers: Arc::new(factory.models.iter().flat_map(actions).collect()),
        };
        let inputs = Inputs {
            price_microeur_per_mtok: factory.price_microeur_per_mtok,
            load_ppm: if self.full.contains(&factory.id) { 1_000_000 } else { 0 },
            ..Inputs::default()
        };
        Ok((ground, placement::Factory { unavailable, inputs }))
    }

    fn records(&self, tenant: &Tenant, trust: Vec<TrustedIssuer>) -> Records {
        let record = |factory: &Factory| FactoryRecord {
            terms: factory.terms.text.clone(),
            passport: self.passport(&factory.id).to_vec(),
            authority: authority_of(&factory.id).verifying_key().to_bytes(),
        };
        Records {
            baseline: self.federation.baseline.text.clone(),
            owner: tenant.policy.text.clone(),
            factories: self.federation.factories.iter().map(|one| (one.id.clone(), record(one))).collect(),
            trust,
            frameworks: self.schema.frameworks().to_vec(),
        }
    }

    fn state(&mut self, node: &NodeId, statement: Statement) -> Result<polder_core::receipt::Half, String> {
        let salt = self.draw();
        self.nodes.get_mut(node).ok_or_else(|| format!("`{node}` has no log"))?.state(statement, salt)
    }

    fn passport(&self, factory: &NodeId) -> &[SignedFact] {
        self.passports.get(factory).map(Vec::as_slice).unwrap_or_default()
    }

    fn factory(&self, name: &str) -> Result<&'f Factory, String> {
        let known =
            || self.federation.factories.iter().map(|one| format!("`{}`", one.id)).collect::<Vec<_>>().join(", ");
        self.federation.factory(name).ok_or_else(|| format!("`{name}` is not a factory: use one of {}", known()))
    }

    fn tenant(&self, name: &str) -> Result<&'f Tenant, String> {
        let known = || self.federation.tenants.iter().map(|one| format!("`{}`", one.id)).collect::<Vec<_>>().join(", ");
        self.federation.tenant(name).ok_or_else(|| format!("`{name}` is not a tenant: use one of {}", known()))
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        bytes_of(self.drawn)
    }

    fn draw_16(&mut self) -> [u8; 16] {
        let bytes = self.draw();
        std::array::from_fn(|i| bytes.get(i).copied().unwrap_or_default())
    }
}

fn layer(kind: LayerKind, policy: &PolicyText, schema: &PolicySchema) -> Result<Arc<Layer>, String> {
    Layer::parse(kind, policy.file_name(), &policy.text, schema).map(Arc::new).map_err(|e| e.to_string())
}

/// The execution of a decision, and its ticket's digest put into the decision.
fn execution(record: &mut DecisionRecord, factory: &NodeId, nonce: [u8; 16]) -> Result<ExecutionStatement, String> {
    let decision = &mut record.statement;
    let ticket = Ticket {
        nonce,
        decision: decision.id.clone(),
        home: decision.home.clone(),
        factory: factory.clone(),
        body: decision.body,
        request: decision.request.clone(),
        tokens_max: TOKENS_MAX,
    };
    let ticket = ticket.digest().map_err(|e| e.to_string())?;
    decision.ticket = Some(ticket);
    let chosen = record.verdicts.iter().find(|verdict| verdict.factory == *factory);
    Ok(ExecutionStatement {
        factory: factory.clone(),
        home: decision.home.clone(),
        tenant: decision.request.tenant.clone(),
        decision: decision.id.clone(),
        ticket,
        body: decision.body,
        terms: chosen.map(|verdict| verdict.terms).ok_or("the chosen factory has no verdict")?,
        model: decision.request.model.clone(),
        model_digest: None,
        backend: "twin".to_owned(),
        prompt_tokens: 0,
        completion_tokens: 0,
        started_ms: decision.at_ms,
        ended_ms: decision.at_ms,
        outcome: ExecutionOutcome::Completed,
    })
}
