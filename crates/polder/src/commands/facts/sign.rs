//! `polder facts sign`: facts from claims, dated and signed with a key in a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ed25519_dalek::SigningKey;
use polder_core::facts::{Claim, Evidence, Fact, SignedFact};
use polder_core::ids::{IssuerId, NodeId};
use polder_core::labels::Closed as _;
use serde_json::json;

use crate::failure::{Exit, Failure, of_file};
use crate::frameworks::read_text;
use crate::render;

const DAY_MS: u64 = 86_400_000;
/// Longest that a fact may hold: what nobody looks at again for longer is no fact.
const DAYS_MAX: u64 = 3_660;

/// Sign facts and print them as a JSON list.
///
/// A claim is JSON with `kind` and that kind's fields; docs/formats.md lists them. A factory signs its own facts with its
/// `authority.key`; a third party with a key of its own, which `--make-key` makes where the file is missing. What an owner
/// needs to trust the issuer goes to stderr.
///
/// Example: polder facts sign --key register.key --issuer register --about paris --claim '{"kind":"site","country":"FR","city":"Paris"}'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The file with the issuer's secret key: 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Make a key where the file is missing.
    #[arg(long)]
    make_key: bool,
    /// Who signs; the factory's own name where it signs for itself.
    #[arg(long, value_name = "NAME")]
    issuer: String,
    /// The factory that the facts are about.
    #[arg(long, value_name = "FACTORY")]
    about: String,
    /// What is claimed; may be repeated.
    #[arg(long, value_name = "JSON", required_unless_present = "claims")]
    claim: Vec<String>,
    /// A file with a JSON list of claims.
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// How well it is evidenced: C declared, B by a third party, A measured; C where the factory signs for itself, B otherwise.
    #[arg(long, value_name = "CLASS")]
    evidence: Option<String>,
    /// First instant at which the facts hold, in Unix milliseconds; now where absent.
    #[arg(long, value_name = "MS")]
    from_ms: Option<u64>,
    /// For how many days they hold.
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    days: u64,
}

/// Signs and prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let usage = |message: String| Failure::new(message).exit(Exit::Usage);
    let issuer = IssuerId::parse(&arguments.issuer).map_err(|e| usage(e.to_string()))?;
    let subject = NodeId::parse(&arguments.about).map_err(|e| usage(e.to_string()))?;
    let own = issuer.as_str() == subject.as_str();
    let evidence = match &arguments.evidence {
        Some(class) => Evidence::parse(class).map_err(|e| usage(e.to_string()))?,
        None if own => Evidence::C,
        None => Evidence::B,
    };
    if !(1..=DAYS_MAX).contains(&arguments.days) {
        return Err(usage(format!("`--days {}` cannot be: use 1 to {DAYS_MAX}", arguments.days)));
    }
    let claims = claims(arguments)?;
    let key = key(&arguments.key, arguments.make_key)?;
    let from_ms = arguments.from_ms.unwrap_or_else(polder_node::clock::now_ms);
    let until_ms = from_ms.saturating_add(arguments.days.saturating_mul(DAY_MS));
    let mut signed = Vec::new();
    for claim in claims {
        let fact = Fact { subject: subject.clone(), claim, evidence, issuer: issuer.clone(), from_ms, until_ms };
        signed.push(SignedFact::sign(fact, &key).map_err(|e| Failure::new(e.to_string()))?);
    }
    render::json(&signed)?;
    let public = hex::encode(key.verifying_key().to_bytes());
    if own {
        eprintln!(
            "signed by the factory itself: owners take it as declared, class C, if {public} is its authority key"
        );
    } else {
        let trust = json!([{"issuer": issuer, "key": public, "at_most": evidence}]);
        eprintln!("an owner who trusts the issuer puts this into the file that `trust` names: {trust}");
    }
    Ok(ExitCode::SUCCESS)
}

fn claims(arguments: &Arguments) -> Result<Vec<Claim>, Failure> {
    let wrong = |place: &str, error: String| {
        Failure::new(format!("{place}: {error}")).hint("docs/formats.md lists the kinds of facts").exit(Exit::Usage)
    };
    let mut claims = Vec::new();
    for text in &arguments.claim {
        let claim: Claim =
            serde_json::from_str(text).map_err(|e| wrong(&format!("`--claim {text}`"), e.to_string()))?;
        claims.push(claim);
    }
    if let Some(path) = &arguments.claims {
        let read: Vec<Claim> = serde_json::from_str(&read_text(path)?)
            .map_err(|e| wrong(&format!("`{}`", path.display()), e.to_string()))?;
        claims.extend(read);
    }
    for claim in &claims {
        claim.check().map_err(|e| wrong(&format!("a claim of kind `{}`", claim.kind().as_str()), e.to_string()))?;
    }
    Ok(claims)
}

fn key(path: &Path, make: bool) -> Result<SigningKey, Failure> {
    if !path.exists() {
        if !make {
            let missing = Failure::new(format!("`{}`: there is no such key", path.display()));
            return Err(missing.hint("`--make-key` makes one; whoever holds the file can sign in the issuer's name"));
        }
        let seed: [u8; 32] = polder_node::clock::random().map_err(of_file(path))?;
        polder_node::keys::write_private(path, hex::encode(seed).as_bytes()).map_err(of_file(path))?;
    }
    let text = std::fs::read_to_string(path).map_err(of_file(path))?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed)
        .map_err(|_| Failure::new(format!("`{}`: a key is 64 hexadecimal digits", path.display())))?;
    Ok(SigningKey::from_bytes(&seed))
}
