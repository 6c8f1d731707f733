//! The page for people: what stands in the way and when, then what was served, what it took, and where every figure comes from.

use serde_json::Value;

use super::svg::{Line, escape, plot};
use super::{Report, figures, kwh};
use crate::calendar::{month_name, month_text};
use crate::engine::SiteOutcome;

/// Most factories with a line of their own in a plot: the largest.
const LINES_MAX: usize = 10;

pub(crate) const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%;font-size:13px}\
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}th:first-child,td:first-child{text-align:left}\
figure{margin:1rem 0}figcaption{font-weight:600}svg{width:100%;height:auto;font:11px system-ui,sans-serif}polyline{fill:none;stroke-width:2}\
.grid{stroke:#e3e3e3}.y{text-anchor:end}.x{text-anchor:middle}.note{color:#555;font-size:13px}.partial{background:#fff3cd;padding:.5rem 1rem}\
.scroll{overflow-x:auto}";

pub(super) fn page(report: &Report) -> String {
    let (made, outcome) = (report.made(), report.outcome());
    let months: Vec<String> = outcome.months.iter().map(|month| month_text(*month)).collect();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><meta name=\"viewport\" \
content=\"width=device-width\"><style>{STYLE}</style></head><body>\n<h1>{}</h1>\n<p class=\"note\">{} hours from {}; every \
decision by the code that runs in production. Nothing here was measured: it is what would follow from the study.</p>\n",
        escape(&made.name),
        escape(&made.name),
        outcome.until_us / crate::calendar::HOUR_US,
        months.first().map(String::as_str).unwrap_or_default(),
    );
    if !made.whole {
        page += "<p class=\"partial\">The run was interrupted: everything below holds for the time before.</p>\n";
    }
    page += &bottlenecks(report);
    page += &demands(report);
    page += "<h2>Month by month</h2>\n";
    page += &plots(report, &months);
    page += &factories(report);
    page += &seals(report);
    page + &origins(report) + "</body></html>\n"
}

pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = rows.iter().map(|cells| row("td", &mut cells.iter().map(String::as_str))).collect();
    format!("<div class=\"scroll\"><table>{}{body}</table></div>\n", row("th", &mut heads.iter().copied()))
}

fn bottlenecks(report: &Report) -> String {
    let found = &report.outcome().bottlenecks;
    let mut text = String::from("<h2>What stands in the way</h2>\n");
    if found.is_empty() {
        return text + "<p>Nothing: no factory kept the first in line waiting for a twentieth of any month.</p>\n";
    }
    text += "<ul>\n";
    let name = |month: &str| {
        let mut parts = month.split('-').filter_map(|part| part.parse::<u64>().ok());
        let (year, month) = (parts.next().unwrap_or(1970), parts.next().unwrap_or(1));
        month_name((year - 1970) * 12 + month - 1)
    };
    for one in found {
        let percent = one.blocked_per_mille / 10;
        text += &format!(
            "<li><b>{}</b> at {} from {} (the first in line waited for it {percent} % of that month)</li>\n",
            escape(one.cause),
            escape(&one.factory),
            escape(&name(&one.month))
        );
    }
    text + "</ul>\n"
}

pub(crate) fn duration(us: u64) -> String {
    match us / 1_000 {
        ms if ms < 10_000 => format!("{ms} ms"),
        ms if ms < 600_000 => format!("{} s", ms / 1_000),
        ms if ms < 36_000_000 => format!("{} min", ms / 60_000),
        ms => format!("{} h", ms / 3_600_000),
    }
}

fn demands(report: &Report) -> String {
    let row = |one: &crate::engine::DemandOutcome| {
        let (asked, tally) = (&one.asked, &one.tally);
        vec![
            one.id.clone(),
            one.tenant.clone(),
            one.class.clone(),
            asked.arrived.to_string(),
            tally.finished.to_string(),
            asked.refused_by_policy.to_string(),
            asked.refused_for_capacity.to_string(),
            duration(tally.waits.mean_us()),
            duration(tally.waits.quantile_us(950)),
            if tally.first_tokens.count() > 0 {
                duration(tally.first_tokens.quantile_us(950))
            } else {
                "–".to_owned()
            },
        ]
    };
    let rows: Vec<Vec<String>> = report.outcome().demands.iter().map(row).collect();
    let heads = [
        "work", "tenant", "class", "asked", "finished", "refused: policy", "refused: capacity", "mean wait",
        "wait, 95 %", "first token, 95 %",
    ];
    format!("<h2>Work</h2>\n{}", table(&heads, &rows))
}

/// The largest factories, each with one value for each month.
fn lines(sites: &[SiteOutcome], value: impl Fn(&crate::engine::meter::Figures) -> f64) -> Vec<Line> {
    let mut order: Vec<&SiteOutcome> = sites.iter().collect();
    order.sort_by_key(|site| std::cmp::Reverse(site.whole.it_nj));
    let line = |site: &&SiteOutcome| Line { name: site.id.clone(), values: site.months.iter().map(&value).collect() };
    order.iter().take(LINES_MAX).map(line).collect()
}

fn plots(report: &Report, months: &[String]) -> String {
    let outcome = report.outcome();
    let sum = |pick: fn(&crate::engine::tally::Asked) -> u64| -> Vec<f64> {
        let of = |place: usize| -> u64 {
            outcome.demands.iter().filter_map(|demand| demand.months.get(place)).map(pick).sum()
        };
        (0..months.len()).map(|place| of(place) as f64).collect()
    };
    let line = |name: &str, values: Vec<f64>| Line { name: name.to_owned(), values };
    let work = [
        line("asked", sum(|month| month.arrived)),
        line("refused: policy", sum(|month| month.refused_by_policy)),
        line("refused: capacity", sum(|month| month.refused_for_capacity)),
    ];
    let percent = |of: &crate::engine::meter::Figures| {
        let used: u128 = of.used_us.iter().sum();
        let there: u128 = of.there_us.iter().sum();
        super::ppm(used, there) as f64 / 10_000.0
    };
    let mut text = plot("Jobs and sessions", "a month", months, &work);
    text += &plot("Utilisation", "%", months, &lines(&outcome.sites, percent));
    text += &plot("Energy from the grid", "MWh", months, &lines(&outcome.sites, |of| kwh(of.grid_nj) as f64 / 1e3));
    text += &plot("Cost of energy", "EUR", months, &lines(&outcome.sites, |of| of.cost_microeur as f64 / 1e6));
    text + &plot("Carbon", "t", months, &lines(&outcome.sites, |of| of.carbon_ug as f64 / 1e12))
}

fn factories(report: &Report) -> String {
    let keys = [
        "facility_kwh", "it_kwh", "idle_kwh", "chain_loss_kwh", "cooling_kwh", "pue_milli", "peak_kw", "cost_eur",
        "carbon_kg", "water_m3", "utilisation_ppm",
    ];
    let row = |site: &SiteOutcome| {
        let whole = figures(&site.whole);
        let cells = keys.iter().map(|key| whole.get(*key).map(Value::to_string).unwrap_or_default());
        std::iter::once(site.id.clone()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = report.outcome().sites.iter().map(row).collect();
    let heads: Vec<&str> = std::iter::once("factory").chain(keys).collect();
    let band = report.made().band_per_mille.map_or_else(String::new, |band| {
        format!("<p class=\"note\">Energy is to be read as ± {}.{} % (95 %).</p>\n", band / 10, band % 10)
    });
    format!("<h2>Factories</h2>\n{band}{}", table(&heads, &rows))
}

fn seals(report: &Report) -> String {
    let mut rows = Vec::new();
    for demand in &report.outcome().demands {
        for share in &demand.seals {
            let seals = share.work_ppm.iter().map(|(seal, ppm)| format!("SEAL-{seal} {} %", ppm / 10_000));
            rows.push(vec![
                demand.id.clone(),
                share.framework.clone(),
                share.objective.clone(),
                seals.collect::<Vec<_>>().join(", "),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["work", "framework", "objective", "share of the work, by third parties' evidence"];
    format!(
        "<h2>SEALs of where the work ran</h2>\n<p class=\"note\">No verdict: each objective stands for itself.</p>\n{}",
        table(&heads, &rows)
    )
}

fn origins(report: &Report) -> String {
    let made = report.made();
    let mut text = format!(
        "<h2>Where the figures come from</h2>\n<p class=\"note\">Study <code>{}</code>, digest <code>{}</code>, seed {}. \
Digest of all figures: <code>{}</code>. The JSON names the line of the study behind each row.</p>\n",
        escape(&made.file),
        escape(&made.study_digest),
        made.seed,
        escape(report.digest())
    );
    for (demand, count, first) in made.wrong_rows.iter().filter(|(_, count, _)| *count > 0) {
        let first = first.iter().map(|one| escape(one)).collect::<Vec<_>>().join("; ");
        text += &format!("<p>{count} rows of the trace of {} were not used: {first}.</p>\n", escape(demand));
    }
    text
}
