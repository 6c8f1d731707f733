//! The Cedar schema, made from the closed lists and the frameworks so that they can never differ.
//!
//! Free strings are absent where a set is finite: countries, classes, purposes, languages, vendors, number formats,
//! licences, certifications and evidence classes are enumerated entity types, and each framework version and objective is
//! an attribute of its own. Every number has a range ([`NUMBERS`]); facts outside it are not believed.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

use super::{LABELS_POLICY, policy_digest};
use crate::canonical::{Digest, hash};
use crate::facts::{
    CARBON_G_PER_KWH_MAX, Certification, Evidence, Licence, MEMORY_GIB_MAX, PUE_PERCENT, Precision, SHARE_PPM_MAX,
    Vendor,
};
use crate::framework::{Framework, SEAL_MAX};
use crate::labels::{Action, Closed, Country, DataClass, Language, Purpose};

/// The schema, parsed, and the frameworks that it speaks of.
#[derive(Debug, Clone)]
pub struct PolicySchema {
    pub(super) schema: Schema,
    pub(super) frameworks: Arc<[Framework]>,
    text: String,
    digest: Digest,
}

/// The range of every number that a policy can read, by the last name of its path; a SEAL goes by its objective's.
pub const NUMBERS: &[(&str, i64, i64)] = &[
    ("foreign_share_ppm", 0, SHARE_PPM_MAX as i64),
    ("memory_gib", 1, MEMORY_GIB_MAX as i64),
    ("renewable_percent", 0, 100),
    ("carbon_g_per_kwh", 0, CARBON_G_PER_KWH_MAX as i64),
    ("pue_percent", *PUE_PERCENT.start() as i64, *PUE_PERCENT.end() as i64),
    ("vendor_share_percent", 0, 100),
];
/// The range of a SEAL.
pub const SEALS: (i64, i64) = (0, SEAL_MAX as i64);

const TYPES: &str = r"
entity Tenant;

// `evidence` holds every class that the fact satisfies: a fact of class B satisfies B and C.
type Place = { country: Country, in_eu: Bool, in_eea: Bool, adequate: Bool, evidence: Set<Evidence> };
// `in_eu` and `in_eea` speak of all the countries.
type Places = { countries: Set<Country>, in_eu: Bool, in_eea: Bool, evidence: Set<Evidence> };

// A model as it is served at the factory that is asked about. An attribute is absent where nothing may be believed.
entity Model = {
  origin?: Place,
  licence?: { kind: Licence, open: Bool, evidence: Set<Evidence> },
  digest?: { sha256: String, evidence: Set<Evidence> },
  languages?: { evaluated: Set<Language>, evidence: Set<Evidence> },
};
";
const FACTORY: &str = r"
// A site with accelerators, as its facts describe it. An attribute is absent where nothing may be believed.
// `declared`, `attested` and `measured` hold what is evidenced at least at class C, B and A.
entity Factory = {
  site?: Place,
  operator?: Place,
  // The operator and every owner above it, up to the ultimate parent. Absent where the operator is not known.
  // `foreign_share_ppm`: the largest share, in millionths of the next one down, of an owner outside the EU.
  control?: { countries: Set<Country>, in_eu: Bool, in_eea: Bool, foreign_share_ppm: Long, evidence: Set<Evidence> },
  // Whose courts or authorities can compel the operator.
  jurisdiction?: Places,
  // Where the people with access are employed.
  personnel?: Places,
  // `capability`: what every chip can do, and the memory of the smallest; absent where it is not said of all.
  chips?: {
    vendors: Set<Vendor>,
    origins: Set<Country>,
    capability?: { precisions: Set<Precision>, memory_gib: Long },
    evidence: Set<Evidence>,
  },
  energy?: { renewable_percent: Long, carbon_g_per_kwh: Long, pue_percent: Long, evidence: Set<Evidence> },
  certifications: { declared: Set<Certification>, attested: Set<Certification>, measured: Set<Certification> },
  clearances: { declared: Set<Country>, attested: Set<Country>, measured: Set<Country> },
  // The SEAL of each objective of each framework version, from the criteria that the request touches; 0 where one of
  // them lacks evidence of that class.
  seals: { declared: Seals, attested: Seals, measured: Seals },
  // How much of the tenant's last 30 days ran on chips of this factory's vendors, the largest of them.
  usage: { vendor_share_percent: Long },
};
";
const CONTEXT: &str = r"appliesTo {
  principal: Tenant,
  resource: Factory,
  context: {
    class: Class,
    purpose: Purpose,
    project: String,
    model?: Model,
    countries?: Set<Country>,
    language?: Language,
  },
};
";

impl PolicySchema {
    /// Builds the schema over the framework versions that policies may name. An error here is a fault of Polder itself
    /// or a framework that stands there twice; its text is Cedar's.
    pub fn new(frameworks: Vec<Framework>) -> Result<Self, String> {
        let ids: BTreeSet<&str> = frameworks.iter().map(Framework::id).collect();
        if let Some(id) = ids.into_iter().find(|id| frameworks.iter().filter(|one| one.id() == *id).count() > 1) {
            return Err(format!("the framework `{id}` stands there twice"));
        }
        let mut text = String::from("// Polder's policy schema, version 1. Made from the closed lists.\n");
        text += &enumeration::<Country>("Country");
        text += &enumeration::<DataClass>("Class");
        text += &enumeration::<Purpose>("Purpose");
        text += &enumeration::<Language>("Language");
        text += &enumeration::<Vendor>("Vendor");
        text += &enumeration::<Precision>("Precision");
        text += &enumeration::<Certification>("Certification");
        text += &enumeration::<Licence>("Licence");
        text += &enumeration::<Evidence>("Evidence");
        text += TYPES;
        text += &seals(&frameworks);
        text += FACTORY;
        let actions: Vec<String> = Action::all().iter().map(|action| format!("\"{}\"", action.as_str())).collect();
        text += &format!("\naction {} {CONTEXT}", actions.join(", "));
        let (schema, _) = Schema::from_cedarschema_str(&text).map_err(|e| e.to_string())?;
        // The labels layer is Polder's own text, and part of how policies are read.
        let labels = policy_digest(LABELS_POLICY);
        let contents = frameworks.iter().map(Framework::digest).chain([labels]);
        let contents: Vec<[u8; 32]> = contents.map(|digest| digest.0).collect();
        let parts: Vec<&[u8]> =
            std::iter::once(text.as_bytes()).chain(contents.iter().map(<[u8; 32]>::as_slice)).collect();
        let digest = hash("polder/schema/v1", &parts);
        Ok(Self { schema, frameworks: frameworks.into(), text, digest })
    }

    /// The schema over the framework versions that Polder brings.
    pub fn shipped() -> Result<Self, String> {
        Self::new(crate::framework::shipped()?)
    }

    /// The schema in Cedar's own notation.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text, of the contents of the frameworks and of the labels layer.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The schema as Cedar holds it.
    pub fn cedar(&self) -> &Schema {
        &self.schema
    }

    /// The framework versions that policies may name.
    pub fn frameworks(&self) -> &[Framework] {
        &self.frameworks
    }
}

/// A record type with an attribute for each framework version, and in it one for each objective.
fn seals(frameworks: &[Framework]) -> String {
    let mut text = String::from("\ntype Seals = {\n");
    for framework in frameworks {
        let objectives: Vec<String> =
            framework.objectives().iter().map(|one| format!("\"{}\": Long", one.id)).collect();
        text += &format!("  \"{}\": {{ {} }},\n", framework.id(), objectives.join(", "));
    }
    text + "};\n"
}

fn enumeration<T: Closed>(name: &str) -> String {
    let values: Vec<String> = T::all().iter().map(|value| format!("\"{}\"", value.as_str())).collect();
    format!("entity {name} enum [{}];\n", values.join(", "))
}

/// An entity id built from its parts; type names here are Polder's own and always parse.
pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|e| e.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
