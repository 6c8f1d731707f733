//! From the raw shape to the checked one: names are unique, references lead somewhere, nothing that must be there is
//! empty.
//!
//! Each error points at the value at fault. Parsing the policies is absent: they are checked where a schema is at hand.

use std::collections::BTreeSet;
use std::ops::Range;

use polder_core::facts::{Claim, Evidence};
use polder_core::ids::{IssuerId, ModelId};
use polder_core::labels::Labels;
use toml::Spanned;

use super::{FactText, Factory, Federation, FederationError, Issuer, PolicyText, Project, Tenant, raw};

/// Most of one owner's share, in millionths.
const SHARE_PPM_MAX: u32 = 1_000_000;

pub(super) struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

/// Names that may occur only once, and how they are called in messages.
struct Names {
    field: &'static str,
    seen: BTreeSet<String>,
}

type Read<'r, 't> = dyn Fn(&str) -> Option<&'t str> + 'r;

impl Source<'_> {
    pub fn federation(&self, read: &Read<'_, '_>) -> Result<Federation, FederationError> {
        let raw: raw::Federation = toml::from_str(self.text).map_err(|e| self.of_toml(&e))?;
        let baseline = self.policy("baseline", &raw.baseline, read)?;
        // Issuers and nodes share one set of names: a factory signs its own facts under its own name.
        let mut nodes = Names::of("id");
        let mut issuers = Vec::new();
        for issuer in raw.issuers {
            nodes.add(self, issuer.id.get_ref().as_str(), &issuer.id.span())?;
            issuers.push(Issuer { id: issuer.id.into_inner(), name: issuer.name, at_most: issuer.at_most });
        }
        self.not_empty("factories", raw.factories.get_ref().is_empty(), &raw.factories.span())?;
        let mut factories = Vec::new();
        for factory in raw.factories.into_inner() {
            nodes.add(self, factory.id.get_ref().as_str(), &factory.id.span())?;
            factories.push(self.factory(factory, &issuers, read)?);
        }
        self.not_empty("tenants", raw.tenants.get_ref().is_empty(), &raw.tenants.span())?;
        let served: BTreeSet<ModelId> = factories.iter().flat_map(|factory| factory.models.clone()).collect();
        let mut names = Names::of("id");
        let mut tenants = Vec::new();
        for tenant in raw.tenants.into_inner() {
            names.add(self, tenant.id.get_ref().as_str(), &tenant.id.span())?;
            nodes.field = "home";
            nodes.add(self, tenant.home.get_ref().as_str(), &tenant.home.span())?;
            tenants.push(self.tenant(tenant, &issuers, &served, read)?);
        }
        Ok(Federation { baseline, issuers, factories, tenants })
    }

    fn factory(&self, raw: raw::Factory, issuers: &[Issuer], read: &Read<'_, '_>) -> Result<Factory, FederationError> {
        self.not_empty("models", raw.models.get_ref().is_empty(), &raw.models.span())?;
        if *raw.places.get_ref() == 0 {
            return Err(self.at(&raw.places.span(), "`places` is 0: a factory runs at least one request at once"));
        }
        let mut said = BTreeSet::new();
        let mut facts = Vec::new();
        for fact in raw.facts {
            let span = fact.span();
            let fact = self.fact(fact, issuers)?;
            let slot = fact.claim.slot();
            if !said.insert((fact.issuer.clone(), slot.clone())) {
                let message = format!("`facts` say `{slot}` twice from one source: keep one of the two");
                return Err(self.at(&span, &message));
            }
            facts.push(fact);
        }
        Ok(Factory {
            id: raw.id.into_inner(),
            place: raw.place,
            price_microeur_per_mtok: raw.price_microeur_per_mtok,
            places: raw.places.into_inner(),
            models: raw.models.into_inner(),
            terms: self.policy("terms", &raw.terms, read)?,
            facts,
        })
    }

    fn fact(&self, raw: Spanned<toml::Table>, issuers: &[Issuer]) -> Result<FactText, FederationError> {
        let span = raw.span();
        let mut table = raw.into_inner();
        let (issuer, evidence) = match table.remove("issuer") {
            None => (None, Evidence::C),
            Some(toml::Value::String(name)) => {
                let known = issuers.iter().find(|issuer| issuer.id.as_str() == name);
                let known = known.ok_or_else(|| self.unknown_issuer("issuer", &name, issuers, &span))?;
                (Some(known.id.clone()), known.at_most)
            }
            Some(_) => return Err(self.at(&span, "`issuer` must be an issuer's id in quotes")),
        };
        let claim: Claim = table
            .try_into()
            .map_err(|e: toml::de::Error| self.at(&span, &format!("`facts`: {}", e.message().trim())))?;
        if let Claim::Control { owners } = &claim
            && let Some(owner) = owners.iter().find(|owner| owner.share_ppm > SHARE_PPM_MAX)
        {
            let message = format!("`share_ppm` of `{}` is above {SHARE_PPM_MAX}, the whole in millionths", owner.name);
            return Err(self.at(&span, &message));
        }
        Ok(FactText { issuer, claim, evidence })
    }

    fn tenant(
        &self,
        raw: raw::Tenant,
        issuers: &[Issuer],
        served: &BTreeSet<ModelId>,
        read: &Read<'_, '_>,
    ) -> Result<Tenant, FederationError> {
        let mut trust: Vec<IssuerId> = Vec::new();
        for issuer in raw.trust {
            if !issuers.iter().any(|known| known.id == *issuer.get_ref()) {
                return Err(self.unknown_issuer("trust", issuer.get_ref().as_str(), issuers, &issuer.span()));
            }
            trust.push(issuer.into_inner());
        }
        self.not_empty("projects", raw.projects.get_ref().is_empty(), &raw.projects.span())?;
        let mut names = Names::of("id");
        let mut projects = Vec::new();
        for project in raw.projects.into_inner() {
            names.add(self, project.id.get_ref().as_str(), &project.id.span())?;
            projects.push(self.project(project, served)?);
        }
        Ok(Tenant {
            id: raw.id.into_inner(),
            home: raw.home.into_inner(),
            policy: self.policy("policy", &raw.policy, read)?,
            trust,
            weights: raw.weights,
            question: raw.question,
            projects,
        })
    }

    fn project(&self, raw: raw::Project, served: &BTreeSet<ModelId>) -> Result<Project, FederationError> {
        self.not_empty("purposes", raw.purposes.get_ref().is_empty(), &raw.purposes.span())?;
        if let Some(countries) = &raw.countries {
            self.not_empty("countries", countries.get_ref().is_empty(), &countries.span())?;
        }
        if !served.contains(raw.model.get_ref()) {
            let message = format!(
                "`model` is `{}`, which no factory serves: add it to a factory's `models`",
                raw.model.get_ref()
            );
            return Err(self.at(&raw.model.span(), &message));
        }
        let labels = Labels {
            class: raw.class,
            purposes: raw.purposes.into_inner(),
            countries: raw.countries.map(Spanned::into_inner),
            language: raw.language,
        };
        Ok(Project { id: raw.id.into_inner(), labels, model: raw.model.into_inner() })
    }

    fn policy(&self, field: &str, path: &Spanned<String>, read: &Read<'_, '_>) -> Result<PolicyText, FederationError> {
        let text = read(path.get_ref()).ok_or_else(|| {
            let message =
                format!("`{field}` names `{}`, which is not there: create it or correct the path", path.get_ref());
            self.at(&path.span(), &message)
        })?;
        Ok(PolicyText { path: path.get_ref().clone(), text: text.to_owned() })
    }

    fn not_empty(&self, field: &str, empty: bool, span: &Range<usize>) -> Result<(), FederationError> {
        if !empty {
            return Ok(());
        }
        Err(self.at(span, &format!("`{field}` is empty: name at least one")))
    }

    fn unknown_issuer(&self, field: &str, name: &str, issuers: &[Issuer], span: &Range<usize>) -> FederationError {
        let known = issuers.iter().map(|issuer| format!("`{}`", issuer.id)).collect::<Vec<_>>().join(", ");
        let next =
            if known.is_empty() { "add an `[[issuers]]` entry".to_owned() } else { format!("use one of {known}") };
        self.at(span, &format!("`{field}` names `{name}`, which is not an issuer: {next}"))
    }

    /// A message of the TOML reader, with the field that stands before it on its line.
    fn of_toml(&self, error: &toml::de::Error) -> FederationError {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim();
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let field = line.trim_end().strip_suffix('=').map(|rest| {
            let start =
                rest.trim_end().rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == ' '));
            rest.get(start.map_or(0, |at| at + 1)..).unwrap_or(rest).trim()
        });
        match field.filter(|field| !field.is_empty()) {
            Some(field) => self.at(&span, &format!("`{field}`: {message}")),
            None => self.at(&span, message),
        }
    }

    fn at(&self, span: &Range<usize>, message: &str) -> FederationError {
        let before = self.text.get(..span.start).unwrap_or_default();
        FederationError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1,
            message: message.to_owned(),
        }
    }
}

impl Names {
    fn of(field: &'static str) -> Self {
        Self { field, seen: BTreeSet::new() }
    }

    fn add(&mut self, source: &Source<'_>, name: &str, span: &Range<usize>) -> Result<(), FederationError> {
        if self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        Err(source.at(span, &format!("`{}` is `{name}`, a name that is taken: choose another", self.field)))
    }
}
