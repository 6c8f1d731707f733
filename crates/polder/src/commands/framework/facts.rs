//! A factory's facts from a passport file, as far as whoever asks believes them.
//!
//! Asking a node is absent: a passport is a file that anyone can be given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use polder_core::facts::{Evidence, Passport, Profile, TrustedIssuer, believe};
use polder_core::ids::NodeId;

use crate::failure::{Exit, Failure};
use crate::frameworks::read_text;

/// Options that say which facts count.
#[derive(Debug, clap::Args)]
pub struct FactSource {
    /// A passport, from which answers are derived where facts give them.
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// The factory whose facts count; needed where the passport speaks of several.
    #[arg(long, value_name = "NAME", requires = "facts")]
    factory: Option<String>,
    /// The issuers that are trusted, as in a home's `trust`. Without it every signed fact counts as declared, class C.
    #[arg(long, value_name = "FILE", requires = "facts")]
    trust: Option<PathBuf>,
    /// As of this instant, in Unix milliseconds; now where absent.
    #[arg(long, value_name = "MS", requires = "facts")]
    at_ms: Option<u64>,
}

impl FactSource {
    /// What may be believed of the factory; `None` where no passport was named.
    pub fn profile(&self) -> Result<Option<Profile>, Failure> {
        let Some(path) = &self.facts else { return Ok(None) };
        let passport: Passport = read(path)?;
        let factory = self.factory(&passport)?;
        let trusted: Option<Vec<TrustedIssuer>> = self.trust.as_deref().map(read).transpose()?;
        let now_ms = self.at_ms.unwrap_or_else(polder_node::clock::now_ms);
        Ok(Some(believed(&passport, &factory, trusted, now_ms)))
    }

    fn factory(&self, passport: &Passport) -> Result<NodeId, Failure> {
        let subjects: BTreeSet<&NodeId> = passport.iter().map(|signed| &signed.fact.subject).collect();
        let names = || subjects.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
        let mut all = subjects.iter();
        let found = match (&self.factory, all.next(), all.next()) {
            (Some(name), ..) => subjects.iter().find(|one| one.as_str() == name),
            (None, first, None) => first,
            (None, ..) => {
                let message = format!("the passport speaks of several factories: {}", names());
                return Err(Failure::new(message).hint("name one with `--factory`").exit(Exit::Usage));
            }
        };
        found.map(|one| (*one).clone()).ok_or_else(|| {
            let name = self.factory.as_deref().unwrap_or("any factory");
            let speaks = if subjects.is_empty() { "it is empty".to_owned() } else { format!("it has {}", names()) };
            Failure::new(format!("the passport says nothing of `{name}`: {speaks}")).exit(Exit::Usage)
        })
    }
}

/// What may be believed: trusted issuers at their class, and what the factory says of itself as declared. Where nobody
/// says whom they trust, whatever is signed counts as declared.
fn believed(passport: &Passport, factory: &NodeId, trusted: Option<Vec<TrustedIssuer>>, now_ms: u64) -> Profile {
    let anyone = trusted.is_none();
    let declared = passport.iter().filter(|one| anyone || one.fact.issuer.as_str() == factory.as_str());
    let declared = declared.map(|one| TrustedIssuer {
        issuer: one.fact.issuer.clone(),
        key: one.key,
        at_most: Evidence::C,
        kinds: None,
    });
    let issuers: Vec<TrustedIssuer> = trusted.into_iter().flatten().chain(declared).collect();
    // No key is the factory's own here: its facts count by the list above.
    let held = believe(factory, passport, &[0; 32], &issuers);
    Profile::at(&held, now_ms)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    serde_json::from_str(&read_text(path)?).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))
}

#[cfg(test)]
mod tests;
