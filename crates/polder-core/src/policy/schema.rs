//! The Cedar schema, made from the closed lists so that the two can never differ.
//!
//! Free strings are absent: countries, classes, purposes, languages, vendors, certifications and evidence
//! classes are enumerated entity types; tenants, models and factories are named.

use std::str::FromStr as _;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

use crate::facts::{Certification, Evidence, Vendor};
use crate::labels::{Action, Closed, Country, DataClass, Language, Purpose};

/// The schema, parsed, and the entity types in it.
#[derive(Debug, Clone)]
pub struct PolicySchema {
    pub(super) schema: Schema,
    text: String,
}

const BODY: &str = r"
entity Tenant;
entity Model;

// A site with accelerators, as its facts describe it. An attribute is absent where nothing may be believed.
// `evidence` holds every class that the fact satisfies: a fact of class B satisfies B and C.
// `declared`, `attested` and `measured` hold what is evidenced at least at class C, B and A.
entity Factory = {
  site?: { country: Country, in_eu: Bool, in_eea: Bool, evidence: Set<Evidence> },
  operator?: { country: Country, in_eu: Bool, in_eea: Bool, evidence: Set<Evidence> },
  // The operator and every owner above it, up to the ultimate parent; `in_eu` and `in_eea` speak of all of them.
  // Absent where the operator is not known.
  control?: { countries: Set<Country>, in_eu: Bool, in_eea: Bool, evidence: Set<Evidence> },
  chips?: { vendors: Set<Vendor>, origins: Set<Country>, evidence: Set<Evidence> },
  certifications: { declared: Set<Certification>, attested: Set<Certification>, measured: Set<Certification> },
  clearances: { declared: Set<Country>, attested: Set<Country>, measured: Set<Country> },
};
";

const ACTION: &str = r"appliesTo {
  principal: Tenant,
  resource: Factory,
  context: {
    class: Class,
    purpose: Purpose,
    project: String,
    model: Model,
    countries?: Set<Country>,
    language?: Language,
  },
};
";

impl PolicySchema {
    /// Builds the schema. An error here is a fault of Polder itself; its text is Cedar's.
    pub fn new() -> Result<Self, String> {
        let mut text = String::from("// Polder's policy schema, version 1. Made from the closed lists.\n");
        text += &enumeration::<Country>("Country");
        text += &enumeration::<DataClass>("Class");
        text += &enumeration::<Purpose>("Purpose");
        text += &enumeration::<Language>("Language");
        text += &enumeration::<Vendor>("Vendor");
        text += &enumeration::<Certification>("Certification");
        text += &enumeration::<Evidence>("Evidence");
        text += BODY;
        let actions: Vec<String> = Action::all().iter().map(|action| format!("\"{}\"", action.as_str())).collect();
        text += &format!("\naction {} {ACTION}", actions.join(", "));
        let (schema, _) = Schema::from_cedarschema_str(&text).map_err(|e| e.to_string())?;
        Ok(Self { schema, text })
    }

    /// The schema in Cedar's own notation.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The schema as Cedar holds it.
    pub fn cedar(&self) -> &Schema {
        &self.schema
    }
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
