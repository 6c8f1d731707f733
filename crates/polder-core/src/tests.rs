//! An example world for tests: a register, a few factories, the demo's own policies, and logs to make receipts from.
//!
//! Keys are made from numbers and worth nothing. Only tests see this file; what they check stands with them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ed25519_dalek::SigningKey;

use crate::audit::{FactoryRecord, Records};
use crate::facts::*;
use crate::ids::*;
use crate::keys::{NodeCard, ROLES, Role};
use crate::labels::{Action, Closed as _, Country, DataClass, Labels, Purpose};
use crate::merkle::{Tree, leaf_hash};
use crate::note::{Checkpoint, origin};
use crate::placement::*;
use crate::policy::{Cause, Column, LABELS_POLICY, Layer, LayerKind, PolicySchema, Usage, policy_digest};
use crate::receipt::Half;
use crate::replay::Sources;
use crate::request::Request;
use crate::statement::commitment;
use crate::statement::v1::{DecisionRecord, Statement};
use crate::ticket::body_digest;

pub mod random;

pub const BANK: &str = include_str!("../../../demo/policies/bank.cedar");
pub const BASELINE: &str = include_str!("../../../demo/policies/baseline.cedar");
pub const DEFENCE: &str = include_str!("../../../demo/policies/defence.cedar");
pub const IMAGE_LAB: &str = include_str!("../../../demo/policies/image-lab.cedar");
pub const START_UP: &str = include_str!("../../../demo/policies/start-up.cedar");
pub const CIVIL: &str = include_str!("../../../demo/terms/bologna.cedar");
pub const OPEN: &str = "permit (principal, action, resource);";

/// The register's key; a factory's authority key is made from the factory's place in the world, from 10.
pub const REGISTER: u8 = 1;

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub fn public(number: u8) -> [u8; 32] {
    key(number).verifying_key().to_bytes()
}

pub fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

pub fn site(code: &str) -> Claim {
    Claim::Site { country: country(code), city: "Town".to_owned() }
}

pub fn operator(code: &str) -> Claim {
    Claim::Operator { name: "Operator".to_owned(), country: country(code) }
}

pub fn control(codes: &[&str]) -> Claim {
    let owner = |code: &&str| Owner { name: "Owner".to_owned(), country: country(code), share_ppm: 1_000_000 };
    Claim::Control { owners: codes.iter().map(owner).collect() }
}

/// A fact that holds from 1000 until 2000.
pub fn fact(subject: &str, claim: Claim, evidence: Evidence, issuer: &str) -> Fact {
    let issuer = IssuerId::parse(issuer).unwrap();
    Fact { subject: node(subject), claim, evidence, issuer, from_ms: 1_000, until_ms: 2_000 }
}

pub fn trust(at_most: Evidence) -> TrustedIssuer {
    TrustedIssuer { issuer: IssuerId::parse("register").unwrap(), key: public(REGISTER), at_most, kinds: None }
}

pub fn schema() -> Arc<PolicySchema> {
    static SCHEMA: OnceLock<Arc<PolicySchema>> = OnceLock::new();
    SCHEMA.get_or_init(|| Arc::new(PolicySchema::shipped().unwrap())).clone()
}

pub fn layer(kind: LayerKind, text: &str) -> Arc<Layer> {
    Arc::new(Layer::parse(kind, "test.cedar", text, &schema()).unwrap())
}

/// One factory as it is known to the world.
#[derive(Debug, Clone)]
pub struct Site {
    pub name: String,
    pub authority: u8,
    pub passport: Passport,
    pub terms: &'static str,
    pub unavailable: Vec<Cause>,
    pub inputs: Inputs,
    pub usage: Usage,
}

#[derive(Debug, Clone)]
pub struct World {
    pub at_ms: u64,
    pub owner: String,
    pub weights: Weights,
    pub sites: Vec<Site>,
}

impl Site {
    /// A site in one country under one owner's country, all attested by the register.
    pub fn new(name: &str, place: &str, owner: &str, price: u64) -> Self {
        let claims =
            [site(place), operator(place), control(&[owner]), Claim::Certification { scheme: Certification::Iso27001 }];
        let sign = |claim| SignedFact::sign(fact(name, claim, Evidence::B, "register"), &key(REGISTER)).unwrap();
        Self {
            name: name.to_owned(),
            authority: 10,
            passport: claims.into_iter().map(sign).collect(),
            terms: OPEN,
            unavailable: Vec::new(),
            inputs: Inputs { price_microeur_per_mtok: price, ..Inputs::default() },
            usage: Usage::default(),
        }
    }

    pub fn without(mut self, kind: &str) -> Self {
        self.passport.retain(|signed| signed.fact.claim.kind().attribute() != kind);
        self
    }

    pub fn unavailable(mut self, rule: &str) -> Self {
        self.unavailable.push(Cause::built_in(LayerKind::Availability, rule, "test"));
        self
    }

    fn ground(&self, at_ms: u64) -> Ground {
        let id = node(&self.name);
        let held = believe(&id, &self.passport, &public(self.authority), &[trust(Evidence::B)]);
        let column = Column::new(&id, Profile::at(&held, at_ms), self.usage, &schema()).unwrap();
        let serves = |action: Action| (action, Some(ModelId::parse("polder-toy").unwrap()));
        Ground {
            id,
            column: Arc::new(column),
            passport: passport_root(&self.passport).unwrap(),
            terms: layer(LayerKind::Terms, self.terms),
            offers: Arc::new(Action::all().into_iter().map(serves).collect()),
        }
    }
}

impl World {
    pub fn new(owner: &str, sites: Vec<Site>) -> Self {
        let weights = Weights { price: 1, load: 0, latency: 0, ..Weights::default() };
        Self { at_ms: 1_500, owner: owner.to_owned(), weights, sites }
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut sites: Vec<&Site> = self.sites.iter().collect();
        sites.sort_by_key(|site| node(&site.name));
        let grounds: Vec<Ground> = sites.iter().map(|site| site.ground(self.at_ms)).collect();
        let roots = grounds.iter().map(|ground| (ground.id.clone(), ground.passport)).collect();
        let basis = Basis {
            schema: schema(),
            baseline: layer(LayerKind::Baseline, BASELINE),
            owner: layer(LayerKind::Owner, &self.owner),
            labels: layer(LayerKind::Labels, LABELS_POLICY),
            trust: self.trust().digest().unwrap(),
            grounds,
        };
        let now = |site: &&Site| Factory { unavailable: site.unavailable.clone(), inputs: site.inputs };
        let mut factories: Vec<Factory> = sites.iter().map(now).collect();
        weigh_carbon(&basis.grounds, &mut factories);
        Snapshot::new(self.at_ms, Arc::new(basis), facts_root(&roots), self.weights, factories)
    }

    pub fn decide(&self, request: &Request) -> Decision {
        decide(&self.snapshot(), request, &BTreeMap::new())
    }

    pub fn records(&self) -> Records {
        let record = |site: &Site| FactoryRecord {
            terms: site.terms.to_owned(),
            passport: site.passport.clone(),
            authority: public(site.authority),
        };
        Records {
            baseline: BASELINE.to_owned(),
            owner: self.owner.clone(),
            factories: self.sites.iter().map(|site| (node(&site.name), record(site))).collect(),
            trust: vec![trust(Evidence::B)],
            frameworks: schema().frameworks().to_vec(),
        }
    }

    /// Whose facts count: the register's, and each site's own.
    pub fn trust(&self) -> Trust {
        let members = self.sites.iter().map(|site| (node(&site.name), public(site.authority)));
        Trust::new(vec![trust(Evidence::B)], members)
    }

    /// Everything that a statement names, for whoever derives it again.
    pub fn sources(&self) -> Sources {
        let texts = [BASELINE, self.owner.as_str()].into_iter().chain(self.sites.iter().map(|site| site.terms));
        Sources {
            policies: texts.map(|text| (policy_digest(text), text.to_owned())).collect(),
            passports: self
                .sites
                .iter()
                .map(|one| (passport_root(&one.passport).unwrap(), one.passport.clone()))
                .collect(),
            trust: self.trust(),
            frameworks: schema().frameworks().to_vec(),
        }
    }

    pub fn statement(&self, request: &Request) -> DecisionRecord {
        let snapshot = self.snapshot();
        let decision = decide(&snapshot, request, &BTreeMap::new());
        let (id, body) = (DecisionId::at(1, [1; 10]), body_digest(&[2; 32], b"a question"));
        DecisionRecord::of(id, node("home"), &snapshot, request.clone(), body, decision).unwrap()
    }
}

pub fn request(class: DataClass, purposes: &[Purpose]) -> Request {
    Request {
        action: Action::Infer,
        tenant: TenantId::parse("bank").unwrap(),
        project: ProjectId::parse("website").unwrap(),
        model: Some(ModelId::parse("polder-toy").unwrap()),
        labels: Labels { class, purposes: purposes.iter().copied().collect(), countries: None, language: None },
    }
}

/// A node with its keys, made from a number, and its log.
pub struct Log {
    pub card: NodeCard,
    key: SigningKey,
    tree: Tree,
}

impl Log {
    pub fn new(name: &str, number: u8) -> Self {
        let keys: BTreeMap<Role, [u8; 32]> = (1..).zip(ROLES).map(|(n, role)| (role, public(number + n))).collect();
        let card = NodeCard::sign(node(name), &key(number), &keys).unwrap();
        let place = ROLES.iter().position(|role| *role == Role::Log).unwrap();
        let key = key(number + 1 + u8::try_from(place).unwrap());
        let mut tree = Tree::default();
        (0..5u8).for_each(|n| tree.push(leaf_hash(&[n])));
        Self { card, key, tree }
    }

    pub fn state(&mut self, statement: Statement) -> Half {
        let salt = [7; 32];
        let index = self.tree.size();
        self.tree.push(leaf_hash(&commitment(&salt, &statement.to_bytes().unwrap()).0));
        self.tree.push(leaf_hash(b"another"));
        let size = self.tree.size();
        let checkpoint = Checkpoint::new(origin(&self.card.node), size, self.tree.root());
        let path = self.tree.inclusion(index, size).unwrap();
        Half { statement, salt, index, path, checkpoint: checkpoint.sign(&self.key), card: self.card.clone() }
    }
}
