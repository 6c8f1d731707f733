//! `polder policy prove`: claims about policies, proven or refuted by a solver, with a request that shows the refutation.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use polder_core::policy::PolicySchema;
use polder_core::world::WorldRequest;
use polder_node::proof::{
    Claim, Cvc5, Goal, NamedPolicy, Proof, ProofError, Prover, SHIPPED_CLAIMS, SHIPPED_POLICIES, Verdict, prove,
    shipped_policy,
};
use serde_json::json;

use super::{read, shown};
use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Prove claims about policies, or show a request for which they do not hold.
///
/// A claim is named, or is the path of a claim's file; `polder policy prove --list` names those that Polder brings. Each says
/// which policies it speaks of; `--policy` puts your own in their place: the owner's policy, or the baseline and the owner's, or
/// these and a factory's terms. The solver is cvc5, found on the PATH. Exit code 5: a claim is refuted, or was not decided in time.
///
/// Example: polder policy prove --claim bank-customer-data-in-the-eu --policy policy.cedar
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A claim's name, or the path of its file; may be given several times.
    #[arg(long, value_name = "NAME|FILE", required_unless_present_any = ["all", "list"])]
    claim: Vec<String>,
    /// Every claim that Polder brings.
    #[arg(long, conflicts_with = "claim")]
    all: bool,
    /// Name the claims that Polder brings, and prove nothing.
    #[arg(long, conflicts_with_all = ["claim", "all"])]
    list: bool,
    /// A policy to prove the claims about, instead of their own; may be given up to three times.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Also write each request that is shown to a file here, `CLAIM.request.json`, for `polder decide`.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// The solver's program; `cvc5` on the PATH where absent.
    #[arg(long, value_name = "FILE", env = "POLDER_CVC5")]
    solver: Option<PathBuf>,
    /// The longest that one claim may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit_s: u64,
}

/// Proves the claims; exit code 5 where one is not proven.
pub async fn run(arguments: &Arguments, schema: PolicySchema, output: Output) -> Result<ExitCode, Failure> {
    let claims = claims(arguments)?;
    if arguments.list {
        return list(&claims, output);
    }
    let path = std::env::var_os("PATH");
    let solver = Cvc5::find(arguments.solver.as_deref(), path.as_deref()).map_err(failure)?;
    let prover = Prover { schema: Arc::new(schema), solver, limit: Duration::from_secs(arguments.limit_s) };
    let own = own_policies(&arguments.policy, &prover.schema)?;
    let mut proofs = Vec::new();
    for claim in &claims {
        let policies = if own.is_empty() { named(claim, &prover.schema)? } else { own.clone() };
        let bound = match &claim.goal {
            Goal::NoWiderThan(name) => Some(policy(claim, name, &prover.schema)?),
            _ => None,
        };
        let proof = prove(&prover, claim, &policies, bound.as_ref()).await.map_err(failure)?;
        if let (Some(folder), Some(example)) = (&arguments.write, &proof.example) {
            write(folder, &proof.name, example)?;
        }
        proofs.push(proof);
    }
    print(&proofs, output)?;
    let proven = proofs.iter().all(|proof| proof.verdict == Verdict::Proven);
    Ok(if proven { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

fn failure(error: ProofError) -> Failure {
    let hint = match &error {
        ProofError::Solver(_) => {
            "install cvc5 (Debian: `apt install cvc5`), or name its program with `--solver` or POLDER_CVC5"
        }
        ProofError::Claim { .. } => "claims/README.md says how a claim is written",
        ProofError::Policy(_) => "run `polder policy check` on it",
    };
    let exit = if matches!(error, ProofError::Claim { .. }) { Exit::Usage } else { Exit::Failed };
    Failure::new(error.to_string()).hint(hint).exit(exit)
}

fn claims(arguments: &Arguments) -> Result<Vec<Claim>, Failure> {
    let every = arguments.all || arguments.list;
    let names = SHIPPED_CLAIMS.iter().map(|(name, _)| (*name).to_owned()).filter(|_| every);
    names.chain(arguments.claim.iter().cloned()).map(|name| claim(&name)).collect()
}

fn claim(name: &str) -> Result<Claim, Failure> {
    if let Some((name, text)) = SHIPPED_CLAIMS.iter().find(|(known, _)| *known == name) {
        return Claim::parse(name, text).map_err(failure);
    }
    if name.contains('/') || name.ends_with(".toml") {
        return Claim::parse(name, &read(Path::new(name))?).map_err(failure);
    }
    let hint = "`polder policy prove --list` shows the names; or give the path of a claim's file";
    Err(Failure::new(format!("no claim `{name}`")).hint(hint).exit(Exit::Usage))
}

fn own_policies(files: &[PathBuf], schema: &PolicySchema) -> Result<Vec<NamedPolicy>, Failure> {
    let parse = |file: &PathBuf| {
        let text = read(file)?;
        let parsed = NamedPolicy::parse(&file.display().to_string(), &text, schema);
        parsed.map_err(|error| Failure::new(shown(&error, &text)))
    };
    files.iter().map(parse).collect()
}

fn named(claim: &Claim, schema: &PolicySchema) -> Result<Vec<NamedPolicy>, Failure> {
    claim.policies.iter().map(|name| policy(claim, name, schema)).collect()
}

/// A policy that a claim names: one that Polder brings, or a file.
fn policy(claim: &Claim, name: &str, schema: &PolicySchema) -> Result<NamedPolicy, Failure> {
    if let Some(text) = shipped_policy(name) {
        return NamedPolicy::parse(name, text, schema).map_err(|error| Failure::new(shown(&error, text)));
    }
    if name.contains('/') || name.ends_with(".cedar") {
        return own_policies(&[PathBuf::from(name)], schema)?.pop().ok_or_else(|| Failure::new("no policy"));
    }
    let known: Vec<&str> = SHIPPED_POLICIES.iter().map(|(known, _)| *known).collect();
    Err(Failure::new(format!("the claim `{}` speaks of `{name}`, which is no policy", claim.name))
        .hint(format!("name one of {}, or the path of a file", known.join(", ")))
        .exit(Exit::Usage))
}

fn list(claims: &[Claim], output: Output) -> Result<ExitCode, Failure> {
    let rows: Vec<Vec<String>> =
        claims.iter().map(|one| vec![one.name.clone(), one.policies.join(", "), one.says.clone()]).collect();
    match output {
        Output::Table => render::table(&["CLAIM", "POLICIES", "SAYS"], &rows)?,
        Output::Json => {
            let one = |one: &Claim| json!({"name": one.name, "policy_set": one.policies, "says": one.says});
            render::json(&json!({"claims": claims.iter().map(one).collect::<Vec<_>>()}))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, name: &str, example: &WorldRequest) -> Result<(), Failure> {
    // A claim of a file may be called anything; its name must not lead out of the folder.
    let safe: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    let file = folder.join(format!("{safe}.request.json"));
    std::fs::create_dir_all(folder).map_err(of_file(folder))?;
    let text = serde_json::to_string_pretty(example).map_err(|e| Failure::new(format!("cannot write JSON: {e}")))?;
    std::fs::write(&file, text + "\n").map_err(of_file(&file))?;
    eprintln!("wrote `{}`", file.display());
    Ok(())
}

fn print(proofs: &[Proof], output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return render::json(&json!({"claims": proofs}));
    }
    let verdict = |proof: &Proof| match proof.verdict {
        Verdict::Proven => "proven",
        Verdict::Refuted => "refuted",
        Verdict::Timeout => "timeout",
    };
    let row = |proof: &Proof| {
        vec![proof.name.clone(), proof.policy_set.join(", "), verdict(proof).to_owned(), format!("{} ms", proof.ms)]
    };
    render::table(&["CLAIM", "POLICIES", "VERDICT", "TIME"], &proofs.iter().map(row).collect::<Vec<_>>())?;
    for proof in proofs.iter().filter(|proof| proof.verdict != Verdict::Proven) {
        render::line(&format!("\n{}: {}: {}", proof.name, verdict(proof), proof.says))?;
        for rule in &proof.rules {
            render::line(&format!("  rule {rule}"))?;
        }
        if let Some(note) = &proof.note {
            render::line(&format!("  {note}"))?;
        }
        if let Some(example) = &proof.example {
            render::line("a request for `polder decide --request FILE`:")?;
            render::json(example)?;
        }
    }
    Ok(())
}
