//! Who may run what where, in the simulated federation: real policies in Cedar, asked once and remembered.
//!
//! Placement goes through core's memo and the full `decide` is asked now and then, to hold the two together. The schedule
//! changes which version of the owner's policy and of each factory's terms is in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use polder_core::facts::{Claim, Evidence};
use polder_core::ids::{NodeId, ProjectId, TenantId};
use polder_core::job::home::Choice;
use polder_core::labels::{Action, Closed as _, Country, DataClass, Purpose};
use polder_core::placement::{Factory, Inputs, Memo, Outcome, Row, Snapshot, decide_by, refusals};
use polder_core::policy::{Cause, Layer, LayerKind, PolicySchema};
use polder_core::request::Request;
use polder_core::world::{FactText, FactoryText, PolicyText, World, WorldRequest};

/// Each factory's name and country.
pub const FACTORIES: [(&str, &str); 6] =
    [("barcelona", "ES"), ("berlin", "DE"), ("bologna", "IT"), ("kajaani", "FI"), ("paris", "FR"), ("virginia", "US")];
/// Each kind of work: tenant, class, purpose.
const KINDS: [(&str, DataClass, Purpose); 3] = [
    ("lab", DataClass::Public, Purpose::Research),
    ("bank", DataClass::Customer, Purpose::Finance),
    ("agency", DataClass::Restricted, Purpose::Defence),
];
/// How many kinds of work there are.
pub const KIND_COUNT: usize = KINDS.len();
/// How many versions of the owner's policy and of terms there are.
pub const VERSION_COUNT: usize = 3;

const OPEN: &str = "permit (principal, action, resource);\n";
/// What each version of the owner's policy forbids beside the first.
const OWNER: [&str; VERSION_COUNT] = [
    "",
    "@id(\"no-italy\") @reason(\"test\") forbid (principal, action, resource) when { resource has site && resource.site.country == Country::\"IT\" };\n",
    "@id(\"finance-in-germany\") @reason(\"test\") forbid (principal, action, resource) when { context.class == Class::\"customer\" } unless { resource has site && [Country::\"DE\", Country::\"FI\"].contains(resource.site.country) };\n",
];
const OWNER_ALWAYS: &str = r#"
@id("customers-in-the-eu") @reason("test") forbid (principal, action, resource)
when { context.class == Class::"customer" } unless { resource has site && resource.site.in_eu };
@id("restricted-at-home") @reason("test") forbid (principal, action, resource)
when { context.class == Class::"restricted" }
unless { resource has site && [Country::"DE", Country::"FR", Country::"FI"].contains(resource.site.country) };
"#;
/// What each version of a factory's terms forbids.
const TERMS: [&str; VERSION_COUNT] = [
    "",
    "@id(\"no-defence\") @reason(\"test\") forbid (principal, action, resource) when { context.purpose == Purpose::\"defence\" };\n",
    "@id(\"research-only\") @reason(\"test\") forbid (principal, action, resource) unless { context.purpose == Purpose::\"research\" };\n",
];

/// The policies, and what they said.
#[derive(Debug)]
pub struct Realm {
    requests: Vec<Request>,
    names: Vec<NodeId>,
    /// By version of the owner's policy.
    snapshots: Vec<Snapshot>,
    rows: Vec<Vec<Arc<Row>>>,
    memos: Vec<Memo>,
    /// By version of the terms, place of the factory, kind.
    terms: Vec<Vec<[bool; KIND_COUNT]>>,
}

impl Realm {
    /// Parses the policies and asks them about everything there is.
    pub fn new() -> Result<Self, String> {
        Self::of(&FACTORIES.map(|(name, country)| (name.to_owned(), country)))
    }

    /// The same policies over other factories, each with its name and country.
    pub fn of(factories: &[(String, &str)]) -> Result<Self, String> {
        let schema = Arc::new(PolicySchema::shipped()?);
        let mut realm = Self {
            requests: Vec::new(),
            names: Vec::new(),
            snapshots: Vec::new(),
            rows: Vec::new(),
            memos: Vec::new(),
            terms: Vec::new(),
        };
        for owner in OWNER {
            let described = described(&format!("{OPEN}{OWNER_ALWAYS}{owner}"), factories)?;
            let snapshot = described.snapshot(&schema, &|_| Err("there are no files".to_owned()));
            realm.snapshots.push(snapshot.map_err(|e| e.to_string())?);
        }
        for (tenant, class, purpose) in KINDS {
            let one = WorldRequest {
                tenant: TenantId::parse(tenant).map_err(|e| e.to_string())?,
                class,
                purposes: [purpose].into(),
                ..described(OPEN, factories)?
            };
            realm.requests.push(one.request());
        }
        for snapshot in &realm.snapshots {
            let rows = realm.requests.iter().map(|request| Arc::new(Row::new(&snapshot.basis, request)));
            let rows: Vec<Arc<Row>> = rows.collect();
            let mut memo = Memo::default();
            rows.iter().for_each(|row| memo.keep(Arc::clone(row)));
            realm.memos.push(memo);
            realm.rows.push(rows);
        }
        let first = realm.snapshots.first().ok_or("there is no policy")?;
        realm.names = first.basis.grounds.iter().map(|ground| ground.id.clone()).collect();
        for text in TERMS {
            let layer = Layer::parse(LayerKind::Terms, "terms", &format!("{OPEN}{text}"), &schema);
            let layer = layer.map_err(|e| e.to_string())?;
            let of = |kind: usize, column| {
                let request = realm.requests.get(kind);
                request.is_some_and(|request| refusals(&layer, column, request, &schema).is_empty())
            };
            let grounds = first.basis.grounds.iter();
            realm.terms.push(grounds.map(|ground| std::array::from_fn(|kind| of(kind, &ground.column))).collect());
        }
        Ok(realm)
    }

    /// The request of a kind of work.
    pub fn request(&self, kind: usize) -> Option<&Request> {
        self.requests.get(kind)
    }

    fn kind(&self, request: &Request) -> Option<usize> {
        self.requests.iter().position(|known| known == request)
    }

    fn place(&self, factory: &NodeId) -> Option<usize> {
        self.names.binary_search(factory).ok()
    }

    /// Where a request may run under a version of the owner's policy, by the memo. An error where `decide` says otherwise.
    pub fn decide(
        &self,
        version: usize,
        request: &Request,
        excluded: &BTreeMap<NodeId, Vec<Cause>>,
        fully: bool,
    ) -> Result<Choice, String> {
        let (Some(base), Some(memo)) = (self.snapshots.get(version), self.memos.get(version)) else {
            return Err(format!("there is no version {version} of the policy"));
        };
        let known = |(place, name): (usize, &NodeId)| Factory {
            unavailable: excluded.get(name).cloned().unwrap_or_default(),
            inputs: Inputs { price_microeur_per_mtok: u64::try_from(place).unwrap_or(0), ..Inputs::default() },
        };
        let factories = self.names.iter().enumerate().map(known).collect();
        let snapshot = Snapshot::new(0, Arc::clone(&base.basis), base.facts_root, base.weights, factories);
        let choice = memo.choose(&snapshot, request).ok_or("the memo has no row")?;
        let factory = choice.factory.and_then(|place| self.names.get(place)).cloned();
        let outcome = match &factory {
            Some(_) => Outcome::Placed,
            None if choice.admitted.words().iter().any(|word| *word != 0) => Outcome::NoCapacity,
            None => Outcome::Refused,
        };
        let row = self.kind(request).and_then(|kind| self.rows.get(version)?.get(kind));
        if let Some(row) = row.filter(|_| fully) {
            let decision = decide_by(row, &snapshot, request, &BTreeMap::new());
            if decision.factory != factory {
                return Err(format!("the memo chose {factory:?}, decide chose {:?}", decision.factory));
            }
        }
        Ok(Choice { outcome, factory })
    }

    /// Whether a version of the owner's policy permits a request at a factory.
    pub fn permits(&self, version: usize, request: &Request, factory: &NodeId) -> bool {
        let row = self.kind(request).and_then(|kind| self.rows.get(version)?.get(kind));
        row.zip(self.place(factory)).is_some_and(|(row, place)| row.admitted().contains(place))
    }

    /// Whether a version of a factory's terms permits a request.
    pub fn terms_permit(&self, version: usize, request: &Request, factory: &NodeId) -> bool {
        let of = self.terms.get(version).zip(self.place(factory)).and_then(|(terms, place)| terms.get(place));
        of.zip(self.kind(request)).and_then(|(of, kind)| of.get(kind)).copied().unwrap_or(false)
    }
}

fn described(owner: &str, factories: &[(String, &str)]) -> Result<WorldRequest, String> {
    let factory = |(name, country): &(String, &str)| {
        let country = Country::parse(country).map_err(|e| e.to_string())?;
        Ok(FactoryText {
            name: NodeId::parse(name).map_err(|e| e.to_string())?,
            facts: vec![FactText { claim: Claim::Site { country, city: name.to_owned() }, evidence: Evidence::B }],
            vendor_share_percent: 0,
            terms: None,
        })
    };
    let factories = factories.iter().map(factory).collect::<Result<Vec<_>, String>>()?;
    Ok(WorldRequest {
        about: None,
        action: Action::RunJob,
        tenant: TenantId::parse("lab").map_err(|e| e.to_string())?,
        project: ProjectId::parse("runs").map_err(|e| e.to_string())?,
        model: None,
        class: DataClass::Public,
        purposes: [Purpose::Research].into(),
        countries: None,
        language: None,
        world: World {
            baseline: None,
            owner: Some(PolicyText { file: "owner".to_owned(), text: Some(owner.to_owned()) }),
            factories,
        },
    })
}
