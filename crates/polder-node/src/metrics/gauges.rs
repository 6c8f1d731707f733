//! How the node stands, measured when somebody looks: factories, breakers, log, money, content, the process itself.
//!
//! Nothing here is kept between two looks, so two of them at once do not disturb each other. Money is shown only to those who may
//! see it elsewhere.

use std::collections::BTreeSet;

use polder_core::ids::ModelId;
use polder_core::labels::Action;
use polder_core::request::Request;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, Opts, Registry, TextEncoder};

use super::kept;
use crate::clock::now_ms;
use crate::home::Home;
use crate::node::Node;

/// Most pairs of a project and a model for which the admissible factories are counted at each look.
const PAIRS_MAX: usize = 1024;
/// Ticks of the kernel's clock in a second, as every Linux shows them to programs.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a page of memory, as `/proc` counts them here.
const BYTES_PER_KIB: f64 = 1024.0;

/// Gauges of one look.
struct Look(Registry);

impl Look {
    fn set(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        kept(&self.0, Gauge::new(name, help))?.set(value);
        Ok(())
    }

    fn many(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        kept(&self.0, GaugeVec::new(Opts::new(name, help), labels))
    }
}

/// Everything that was counted and everything as it stands, as Prometheus's text. With `money`, what is left of budgets too.
pub async fn page(node: &Node, money: bool) -> Result<String, String> {
    TextEncoder::new().encode_to_string(&families(node, money).await?).map_err(|e| e.to_string())
}

/// The same, before it is text.
pub async fn families(node: &Node, money: bool) -> Result<Vec<MetricFamily>, String> {
    let look = Look(Registry::new());
    let taken = async {
        of_node(&look, node)?;
        of_process(&look)?;
        if let Some(home) = &node.home {
            of_factories(&look, home)?;
            of_projects(&look, node, home)?;
        }
        if money {
            of_money(&look, node).await?;
        }
        Ok::<_, prometheus::Error>(())
    };
    taken.await.map_err(|e| e.to_string())?;
    let mut families = super::gathered();
    families.extend(look.0.gather());
    families.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(families)
}

fn of_node(look: &Look, node: &Node) -> prometheus::Result<()> {
    let build = look.many("polder_build_info", "The version that runs.", &["version"])?;
    build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1.0);
    look.set("polder_log_leaves", "Leaves that the log's last checkpoint covers.", node.log.size() as f64)?;
    look.set("polder_log_waiting", "Entries that wait for the log's writer.", node.log.waiting() as f64)?;
    if let Some(factory) = &node.factory {
        let status = factory.status();
        look.set("polder_own_places", "Requests that this factory runs at once.", f64::from(status.places))?;
        look.set("polder_own_running", "Requests that run or wait at this factory.", f64::from(status.running))?;
        let broken = factory.engine().failures().len();
        look.set("polder_own_models_broken", "Models of this factory that cannot be served.", broken as f64)?;
        let refused = factory.terms_problem().is_some();
        look.set(
            "polder_terms_refused",
            "Whether the terms' file is broken and older terms hold.",
            f64::from(u8::from(refused)),
        )?;
    }
    if let Some(content) = &node.content {
        look.set("polder_content_bytes", "Bytes that are kept for applications.", content.used_bytes() as f64)?;
        let most = content.limits().bytes_max as f64;
        look.set("polder_content_bytes_max", "Most bytes that may be kept for applications.", most)?;
    }
    if let Some(home) = &node.home {
        let policies = home.view.policies();
        look.set(
            "polder_policy_version",
            "The version of the owner's policy in force.",
            policies.version.number as f64,
        )?;
        let refused = policies.refused().len();
        look.set("polder_policy_refused", "Policy files that are broken, so that older ones hold.", refused as f64)?;
        let wrong = home.view.clock_fault(now_ms()).is_some();
        look.set(
            "polder_clock_wrong",
            "Whether this node's clock is not believed, so that no fact counts.",
            f64::from(u8::from(wrong)),
        )?;
    }
    Ok(())
}

fn of_factories(look: &Look, home: &Home) -> prometheus::Result<()> {
    let up = look.many("polder_factory_up", "Whether a factory answers this home.", &["factory"])?;
    let places = look.many("polder_factory_places", "Requests that a factory runs at once.", &["factory"])?;
    let running = look.many("polder_factory_running", "Requests that run or wait at a factory.", &["factory"])?;
    let rtt = look.many("polder_factory_rtt_seconds", "The last round trip to a factory.", &["factory"])?;
    let circuit =
        look.many("polder_circuit_open", "Whether a factory is left alone because it failed.", &["factory"])?;
    for (factory, known) in home.view.known() {
        let labels = [factory.as_str()];
        up.get_metric_with_label_values(&labels)?.set(f64::from(u8::from(known.gone.is_none())));
        rtt.get_metric_with_label_values(&labels)?.set(known.rtt_us as f64 / 1e6);
        if let Some(status) = &known.status {
            places.get_metric_with_label_values(&labels)?.set(f64::from(status.places));
            running.get_metric_with_label_values(&labels)?.set(f64::from(status.running));
        }
        let open = home.view.circuit(&factory)["state"].as_str().is_some_and(|state| state != "closed");
        circuit.get_metric_with_label_values(&labels)?.set(f64::from(u8::from(open)));
    }
    Ok(())
}

/// For how many factories a project's requests would be permitted now, by the very function that decides about them.
fn of_projects(look: &Look, node: &Node, home: &Home) -> prometheus::Result<()> {
    let help = "Factories at which a request of a project for a model could run now.";
    let admissible = look.many("polder_admissible_factories", help, &["project", "model"])?;
    let known = home.view.known();
    let chats = known.values().filter_map(|known| known.status.as_ref()).flat_map(|status| &status.models);
    let models: BTreeSet<&ModelId> = chats.filter(|offer| offer.chat).map(|offer| &offer.model).collect();
    let projects = node.config.home.iter().flat_map(|home| &home.projects);
    let pairs = projects.flat_map(|project| models.iter().map(move |model| (project, *model)));
    for ((project, labels), model) in pairs.take(PAIRS_MAX) {
        let request = Request {
            action: Action::Infer,
            tenant: home.tenant.clone(),
            project: project.clone(),
            model: Some(model.clone()),
            labels: labels.clone(),
        };
        let verdicts = home.decide_only(&request).verdicts;
        let count = verdicts.iter().filter(|verdict| verdict.causes.is_empty()).count();
        admissible.get_metric_with_label_values(&[project.as_str(), model.as_str()])?.set(count as f64);
    }
    Ok(())
}

async fn of_money(look: &Look, node: &Node) -> prometheus::Result<()> {
    let Some(ledger) = &node.ledger else { return Ok(()) };
    let Ok(rows) = ledger.budgets_shown().await else { return Ok(()) };
    let gauges = [
        (
            "left_microeur",
            look.many("polder_budget_left_microeuro", "What is left of a budget in its period.", &["account"])?,
        ),
        (
            "held_microeur",
            look.many("polder_budget_held_microeuro", "What this node has been lent of a budget.", &["account"])?,
        ),
        (
            "spent_microeur",
            look.many("polder_budget_spent_microeuro", "What was spent of a budget in its period.", &["account"])?,
        ),
    ];
    // Keys have budgets too; there may be too many of them to be told apart.
    let of_few = |account: &str| !account.starts_with("key/");
    for row in rows {
        let Some(account) = row["account"].as_str().filter(|account| of_few(account)) else { continue };
        for (field, gauge) in &gauges {
            if let Some(value) = row[*field].as_f64() {
                gauge.get_metric_with_label_values(&[account])?.set(value);
            }
        }
    }
    Ok(())
}

/// Memory, processor time and files, from `/proc`; where that cannot be read they are left out.
fn of_process(look: &Look) -> prometheus::Result<()> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let status = read("status");
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        look.set("process_resident_memory_bytes", "Resident memory.", kib * BYTES_PER_KIB)?;
    }
    if let Some(threads) = field("Threads:") {
        look.set("process_threads", "Threads.", threads)?;
    }
    // The program's name stands in brackets and may hold spaces; user and system time are the 12th and 13th after it.
    let stat = read("stat");
    let mut times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    if let (Some(user), Some(system)) = (ticks(), ticks()) {
        let help = "Processor time of this process, user and system.";
        let seconds = kept(&look.0, prometheus::Counter::new("process_cpu_seconds_total", help))?;
        seconds.inc_by((user + system) / TICKS_PER_S);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        look.set("process_open_fds", "Open files and connections.", files.count() as f64)?;
    }
    Ok(())
}
