//! The page of a search: the front, and each plan's orders.

use super::search::Front;
use super::{Ground, Order};
use crate::report::{STYLE, escape, table};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;

/// One page that a browser opens from disk.
pub fn page(ground: &Ground<'_>, front: &Front, title: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><meta name=\"viewport\" \
content=\"width=device-width\"><style>{STYLE}circle{{fill:#0b5c8a;fill-opacity:.7}}</style></head><body>\n<h1>{}</h1>\n<p class=\"note\">{} plans were \
tried with coarse load. None of those below beats another in cost, carbon and concentration at once; which is the right one is not said here.</p>\n",
        escape(title),
        escape(title),
        front.tried
    );
    if !front.whole {
        page += "<p class=\"partial\">The search was interrupted: these are the best plans up to then.</p>\n";
    }
    if !front.reached {
        page += "<p class=\"partial\">No plan that was tried keeps to everything. This one misses least.</p>\n";
    }
    page += &scatter(front);
    page += &plans(front);
    for (number, (genes, score)) in front.plans.iter().enumerate() {
        page += &format!("<h2>Plan {}</h2>\n", number + 1);
        if let Some(bottleneck) = &score.bottleneck {
            page += &format!("<p>In the last month {} stands in the way most.</p>\n", escape(bottleneck));
        }
        let row = |one: &Order| {
            vec![
                one.ordered.clone(),
                one.there.clone(),
                one.factory.clone(),
                format!("{} × {}", one.count, one.hall),
                one.accelerators.to_string(),
                one.grid_kw.to_string(),
                one.cost_keur.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = ground.orders(genes).iter().map(row).collect();
        let heads = ["ordered", "there", "factory", "halls", "accelerators", "grid, kW more", "thousand EUR"];
        page += &table(&heads, &rows);
    }
    page + "</body></html>\n"
}

fn plans(front: &Front) -> String {
    let row = |(number, (_, score)): (usize, &(super::Genes, super::Score))| {
        vec![
            (number + 1).to_string(),
            format!("{} %", score.times_percent),
            format!("{} %", score.served_percent),
            score.reached.clone().unwrap_or_else(|| "never".to_owned()),
            (score.build_keur / 1_000).to_string(),
            (score.energy_keur / 1_000).to_string(),
            score.carbon_t.to_string(),
            score.power_kw.to_string(),
            format!("{} {} %", score.vendor, score.vendor_percent),
            format!("{} {} %", score.country, score.country_percent),
            score
                .misses
                .iter()
                .map(|limit| format!("{}: {}, not {}", limit.name, limit.is, limit.must))
                .collect::<Vec<_>>()
                .join("; "),
        ]
    };
    let rows: Vec<Vec<String>> = front.plans.iter().enumerate().map(row).collect();
    let heads = [
        "plan", "work", "served", "reached", "halls, MEUR", "energy, MEUR", "carbon, t", "power, kW", "largest vendor",
        "largest country", "misses",
    ];
    format!("<h2>The front</h2>\n{}", table(&heads, &rows))
}

/// Cost against carbon; the larger the dot, the more concentrated.
fn scatter(front: &Front) -> String {
    let of = |place: usize| -> Vec<f64> {
        front.plans.iter().map(|(_, score)| score.objectives().get(place).copied().unwrap_or(0) as f64).collect()
    };
    let (cost, carbon, concentration) = (of(0), of(1), of(2));
    let span = |values: &[f64]| {
        let (low, high) =
            values.iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
        (low * 0.98, (high * 1.02).max(low * 0.98 + 1.0))
    };
    let (x, y, z) = (span(&cost), span(&carbon), span(&concentration));
    let at =
        |value: f64, (low, high): (f64, f64), from: f64, to: f64| from + (to - from) * (value - low) / (high - low);
    let mut svg = format!(
        "<figure><figcaption>Cost and carbon; a larger dot is more concentrated</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
aria-label=\"cost and carbon of each plan\">\n<line x1=\"70\" x2=\"840\" y1=\"280\" y2=\"280\" class=\"grid\"/><line x1=\"70\" x2=\"70\" y1=\"20\" y2=\"280\" class=\"grid\"/>\
<text x=\"70\" y=\"300\">{:.0} MEUR</text><text x=\"840\" y=\"300\" class=\"y\">{:.0} MEUR</text><text x=\"64\" y=\"280\" class=\"y\">{:.0} t</text><text x=\"64\" y=\"28\" class=\"y\">{:.0} t</text>\n",
        x.0 / 1e3,
        x.1 / 1e3,
        y.0,
        y.1
    );
    for (number, ((cost, carbon), concentration)) in cost.iter().zip(&carbon).zip(&concentration).enumerate() {
        let (cx, cy) = (at(*cost, x, 70.0, 840.0), at(*carbon, y, 280.0, 20.0));
        let radius = at(*concentration, z, 4.0, 12.0);
        svg += &format!(
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{radius:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            cx + radius + 2.0,
            cy + 4.0,
            number + 1
        );
    }
    svg + "</svg></figure>\n"
}
