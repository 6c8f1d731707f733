//! A drill's page for people: what stops first, then what moves and waits, what would save most, and on how few the work stands.

use super::concentration::{FORMULA, Index};
use super::{Drill, Share};
use crate::report::{STYLE, duration, escape, table};

pub(super) fn page(drill: &Drill, title: &str) -> String {
    let all = drill.all();
    let without = drill.without.join(", ");
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><meta name=\"viewport\" \
content=\"width=device-width\"><style>{STYLE}.bar{{display:flex;height:1.6rem;margin:1rem 0;border:1px solid #bbb}}.bar div{{overflow:hidden;\
white-space:nowrap;font-size:12px;line-height:1.6rem;padding-left:.3rem}}.a{{background:#bcd9ea}}.b{{background:#f0d9a8}}.c{{background:#e7b0a0}}</style></head><body>\n\
<h1>{}</h1>\n<p class=\"note\">Without {}. Every decision was made again by the code that runs in production, with the facts of its time \
less what drops out. What would follow is not what happened.</p>\n",
        escape(title),
        escape(title),
        escape(&without),
    );
    if !drill.whole {
        page +=
            "<p class=\"partial\">The drill was interrupted: everything below holds for the decisions before.</p>\n";
    }
    page += &bar(&all);
    page += &shares(drill);
    page += &drops(drill);
    page += &savings(drill);
    page += &landings(drill);
    page += &concentration(drill);
    page + &origins(drill) + "</body></html>\n"
}

fn percent(ppm: u64) -> String {
    format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10)
}

fn bar(all: &Share) -> String {
    let whole = all.before.requests.max(1);
    let part = |requests: u64, class: &str, name: &str| {
        let ppm = requests * 1_000_000 / whole;
        if requests == 0 {
            return String::new();
        }
        format!(
            "<div class=\"{class}\" style=\"width:{}.{:04}%\">{name} {}</div>",
            ppm / 10_000,
            ppm % 10_000,
            percent(ppm)
        )
    };
    let stops = all.stopped.requests + all.stopped_full.requests;
    format!(
        "<h2>What still runs</h2>\n<div class=\"bar\" role=\"img\" aria-label=\"what still runs\">{}{}{}</div>\n",
        part(all.same.requests, "a", "where it ran"),
        part(all.elsewhere.requests, "b", "elsewhere"),
        part(stops, "c", "stops"),
    )
}

fn shares(drill: &Drill) -> String {
    let row = |tenant: &str, class: &str, share: &Share| {
        let euro = |pico: u128| format!("{:.4}", pico as f64 / 1e12);
        let added = share.cost_after_pico as f64 - share.cost_before_of_rest_pico as f64;
        vec![
            tenant.to_owned(),
            class.to_owned(),
            share.before.requests.to_string(),
            percent(share.runs_ppm()),
            share.elsewhere.requests.to_string(),
            share.waited.requests.to_string(),
            duration(share.waits.quantile_us(950)),
            share.stopped.requests.to_string(),
            share.stopped_full.requests.to_string(),
            euro(share.cost_before_pico),
            format!("{:+.4}", added / 1e12),
        ]
    };
    let mut rows: Vec<Vec<String>> =
        drill.shares.iter().map(|((tenant, class), share)| row(tenant, class, share)).collect();
    rows.push(row("all", "", &drill.all()));
    let heads = [
        "tenant", "class", "ran", "still runs", "elsewhere", "waits", "wait, 95 %", "stops: policy", "stops: full",
        "cost before, EUR", "added, EUR",
    ];
    format!("<h2>By tenant and class of data</h2>\n{}", table(&heads, &rows))
}

fn drops(drill: &Drill) -> String {
    let row = |one: &super::Hit| vec![one.factory.clone(), one.words()];
    let rows: Vec<Vec<String>> = drill.drops.iter().map(row).collect();
    if rows.is_empty() {
        return "<h2>What drops out</h2>\n<p>Nothing: no factory is touched.</p>\n".to_owned();
    }
    format!("<h2>What drops out</h2>\n{}", table(&["factory", ""], &rows))
}

fn savings(drill: &Drill) -> String {
    let row = |one: &super::Saving| {
        vec![one.words(), one.saves.requests.to_string(), one.saves.tokens.to_string(), one.tenants.join(", ")]
    };
    let rows: Vec<Vec<String>> = drill.savings.iter().map(row).collect();
    if rows.is_empty() {
        return "<h2>What one change would save</h2>\n<p>Nothing: nothing stops, or no single change is enough.</p>\n"
            .to_owned();
    }
    format!(
        "<h2>What one change would save</h2>\n{}",
        table(&["one fact, rule or contract", "requests", "tokens", "of"], &rows)
    )
}

fn landings(drill: &Drill) -> String {
    let row = |one: &super::Landing| {
        let places = one.places.map_or_else(|| "not known".to_owned(), |places| places.to_string());
        vec![one.factory.clone(), one.came.to_string(), places, percent(one.peak_load_ppm)]
    };
    let rows: Vec<Vec<String>> = drill.landings.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("<h2>Where work moves</h2>\n{}", table(&["factory", "comes", "places", "highest load"], &rows))
}

fn concentration(drill: &Drill) -> String {
    let [before, after] = &drill.concentration;
    let row = |(one, other): (&Index, &Index)| {
        let largest = |index: &Index| format!("{} ({})", index.largest, percent(index.largest_ppm));
        vec![one.dimension.to_owned(), one.hhi.to_string(), largest(one), other.hhi.to_string(), largest(other)]
    };
    let rows: Vec<Vec<String>> = before.iter().zip(after).map(row).collect();
    format!(
        "<h2>On how few the work stands</h2>\n<p class=\"note\">{}. By tokens. No verdict.</p>\n{}",
        escape(FORMULA),
        table(&["by", "HHI before", "largest before", "HHI after", "largest after"], &rows)
    )
}

fn origins(drill: &Drill) -> String {
    let value = drill.json();
    format!(
        "<h2>Where the figures come from</h2>\n<p class=\"note\">{} decisions were decided again as they were; {} came out the same. {} \
could not be read. Where an execution is not known, the mean of its like stands for it ({}). Work that moves runs as long as it did. \
Digest of all figures: <code>{}</code>.</p>\n",
        drill.decided_again,
        drill.decided_again - drill.unlike_count,
        drill.unread,
        drill.all().without_execution,
        escape(value["digest"].as_str().unwrap_or_default()),
    )
}
