//! `polder doctor`: looks for what would keep a node, or the demo, from running, and says what to do about it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::policy::{LayerKind, PolicySchema};
use polder_node::config::{Config, EngineConfig, HomeConfig, UpstreamConfig, read_layer};
use polder_node::engine::EngineLimits;
use polder_node::engine::ModelSource;
use polder_node::engine::embedded::Embedded;
use polder_node::inference::Engine as _;
use polder_node::proof::Cvc5;
use serde::Serialize;
use serde_json::json;

use crate::Output;
use crate::address::DemoRecord;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::render;

/// Look for what would keep a node from running.
///
/// With --config, the files, ports and models that a node's configuration names; without, whether this machine can run the
/// demo, and how the latest demo is.
///
/// Example: polder doctor --config node.toml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The demo's folder; the latest demo where absent.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    says: String,
}

fn good(what: &str, says: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), ok: true, says: says.into() }
}

fn bad(what: &str, says: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), ok: false, says: says.into() }
}

/// Looks, and exits with 1 where something would not work.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let findings = match &arguments.config {
        Some(path) => node(path).await?,
        None => machine(arguments.dir.as_deref()).await,
    };
    let well = findings.iter().all(|finding| finding.ok);
    match output {
        Output::Json => render::json(&json!({"ok": well, "findings": findings}))?,
        Output::Table => {
            let row = |f: &Finding| vec![if f.ok { "ok" } else { "FAIL" }.to_owned(), f.what.clone(), f.says.clone()];
            render::table(&["", "WHAT", "SAYS"], &findings.iter().map(row).collect::<Vec<_>>())?;
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { Exit::Failed.into() })
}

async fn machine(dir: Option<&std::path::Path>) -> Vec<Finding> {
    let mut findings = vec![clock()];
    findings.push(match TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => good("loopback", "ports can be opened"),
        Err(error) => bad("loopback", format!("no port can be opened: {error}")),
    });
    match DemoRecord::find(dir) {
        Err(_) => findings.push(good("demo", "none has been started; `polder demo` starts one")),
        Ok(record) if record.ensure_runs().is_err() => {
            findings.push(good("demo", format!("the latest has ended; its folder is `{}`", record.dir.display())));
        }
        Ok(record) => {
            for node in &record.nodes {
                let status = match record.client(node.node.as_str()) {
                    Ok(client) => client.get("/api/v1/status").await.and_then(crate::client::Answer::ok),
                    Err(failure) => Err(failure),
                };
                findings.push(match status {
                    Ok(status) => {
                        alarms(node.node.as_str(), &status).unwrap_or_else(|| good(node.node.as_str(), "answers"))
                    }
                    _ => {
                        bad(node.node.as_str(), format!("does not answer; its log is under `{}`", record.dir.display()))
                    }
                });
            }
        }
    }
    findings
}

/// What a node found wrong with any log.
fn alarms(what: &str, status: &serde_json::Value) -> Option<Finding> {
    let count = status["alarms"].as_u64().filter(|count| *count > 0)?;
    Some(bad(what, format!("alarms about logs: {count}; `polder log alarms` shows the evidence")))
}

fn clock() -> Finding {
    // 2026-01-01: no fact or capability of this version is older.
    match polder_node::clock::now_ms() {
        0..1_767_225_600_000 => bad("clock", "stands before 2026: facts and capabilities will not hold; set it"),
        _ => good("clock", "plausible"),
    }
}

async fn node(path: &std::path::Path) -> Result<Vec<Finding>, Failure> {
    let config = match super::up::load(path) {
        Ok(config) => config,
        Err(failure) => {
            failure.print();
            return Ok(vec![bad("configuration", "cannot be used; the error stands above")]);
        }
    };
    let mut findings = vec![clock(), good("configuration", format!("node `{}`", config.node))];
    if let Some(status) = runs(&config).await {
        findings.push(good("ports", "the node is running and holds them"));
        findings.extend(alarms("alarms", &status));
    } else {
        let share = config.limits.share_port;
        findings.push(port("listen", config.listen, share));
        findings.extend(config.peer_listen.map(|address| port("peer_listen", address, share)));
    }
    let schema = config.schema().map_err(|e| Failure::new(e.to_string()))?;
    if let Some(home) = &config.home {
        findings.push(policy("policy", LayerKind::Owner, &home.policy, &schema));
        findings.push(policy("baseline", LayerKind::Baseline, &home.baseline, &schema));
        findings.extend(guardrails(home));
    }
    if let Some(factory) = &config.factory {
        findings.push(policy("terms", LayerKind::Terms, &factory.terms, &schema));
        let unsigned = factory.passport.iter().filter(|signed| !signed.is_signed()).count();
        findings.push(match unsigned {
            0 => good("passport", format!("{} signed facts", factory.passport.len())),
            _ => bad("passport", format!("{unsigned} facts are not signed by their key; nobody will believe them")),
        });
    }
    findings.extend(models(&config));
    Ok(findings)
}

/// What this very node says on its own socket, where it answers.
async fn runs(config: &Config) -> Option<serde_json::Value> {
    let client = Client::over_socket(&config.state.join("api.sock")).ok()?;
    let status = client.get("/api/v1/status").await.ok()?.json();
    (status["node"] == config.node.as_str()).then_some(status)
}

/// Whether the node could listen there, as it would: a shared port may be held by another node of the same user.
fn port(setting: &str, address: SocketAddr, share: bool) -> Finding {
    match polder_node::serve::bind(address, setting, share) {
        Ok(_) if share => good(setting, format!("{address} is free, or shared with a node of this user")),
        Ok(_) => good(setting, format!("{address} is free")),
        Err(error) => bad(setting, error),
    }
}

fn policy(what: &str, kind: LayerKind, path: &std::path::Path, schema: &PolicySchema) -> Finding {
    match read_layer(kind, path, schema) {
        Ok((layer, _)) => good(what, rules(layer.rules().count())),
        Err(error) => bad(what, error.to_string()),
    }
}

/// The guardrails, and whether there is a solver to prove them.
fn guardrails(home: &HomeConfig) -> Option<Finding> {
    let names: Vec<&str> = home.guardrails.iter().map(|one| one.claim.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let path = std::env::var_os("PATH");
    Some(match Cvc5::find(home.solver.as_deref(), path.as_deref()) {
        Ok(_) => good("guardrails", names.join(", ")),
        Err(error) => bad(
            "guardrails",
            format!(
                "{error}: only a policy that just forbids more is taken; install cvc5, or set `solver` in `[home]`"
            ),
        ),
    })
}

/// How many rules there are, in words.
pub fn rules(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

fn models(config: &Config) -> Vec<Finding> {
    let Some(factory) = &config.factory else { return Vec::new() };
    match &factory.engine {
        EngineConfig::Upstream(upstreams) => {
            let one =
                |replica: &UpstreamConfig| good("upstream", format!("`{}` (asked once the node runs)", replica.url));
            upstreams.replicas.iter().map(one).collect()
        }
        EngineConfig::Embedded(models) => {
            let source = |(id, path): (&polder_core::ids::ModelId, &PathBuf)| ModelSource {
                id: id.to_string(),
                path: path.clone(),
            };
            let engine = Embedded::load(&models.iter().map(source).collect::<Vec<_>>(), EngineLimits::default());
            let served = engine.models().into_iter().map(|info| good("model", format!("`{}` loads", info.id)));
            let failed = engine.failures().into_iter().map(|(_, error)| bad("model", error.to_string()));
            served.chain(failed).collect()
        }
    }
}
