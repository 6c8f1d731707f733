//! Plots as SVG: lines over months, drawn by hand so that a page needs no script and no network.
//!
//! Colours are of one family with dashes beside them, so that lines differ without colour too. Text is escaped.

/// One line of a plot.
pub(super) struct Line {
    /// Its name.
    pub name: String,
    /// One value for each month.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 30.0;
const COLOURS: [&str; 6] = ["#0b5c8a", "#c2571a", "#3d7a37", "#7a3d77", "#8a7a0b", "#4a4a4a"];
const DASHES: [&str; 3] = ["", "7 4", "2 3"];

/// Text as it may stand in a page.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// A plot; `unit` stands at its axis.
pub(super) fn plot(title: &str, unit: &str, months: &[String], lines: &[Line]) -> String {
    let highest = lines.iter().flat_map(|line| &line.values).copied().fold(0.0, f64::max);
    let top = round_up(highest);
    let count = months.len().max(2) - 1;
    let x = |place: usize| LEFT + (WIDTH - LEFT - RIGHT) * place as f64 / count as f64;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
    let mut svg = format!(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title),
        escape(title)
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let at = y(value);
        svg += &format!(
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"y\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            number(value)
        );
    }
    svg += &format!("<text x=\"4\" y=\"{:.1}\" class=\"unit\">{}</text>\n", TOP + 4.0, escape(unit));
    let every = months.len().div_ceil(8).max(1);
    for (place, month) in months.iter().enumerate().step_by(every) {
        svg +=
            &format!("<text x=\"{:.1}\" y=\"{:.1}\" class=\"x\">{}</text>\n", x(place), HEIGHT - 10.0, escape(month));
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("#000");
        let dash = DASHES.get(number / COLOURS.len() % DASHES.len()).copied().unwrap_or_default();
        let points: Vec<String> =
            line.values.iter().enumerate().map(|(place, value)| format!("{:.1},{:.1}", x(place), y(*value))).collect();
        svg +=
            &format!("<polyline points=\"{}\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"/>\n", points.join(" "));
        let at = TOP + 8.0 + 15.0 * number as f64;
        let from = WIDTH - RIGHT + 10.0;
        svg += &format!(
            "<line x1=\"{from}\" x2=\"{:.1}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            from + 22.0,
            from + 28.0,
            at + 4.0,
            escape(&line.name)
        );
    }
    svg + "</svg></figure>\n"
}

/// The next of 1, 2, 5, 10 … that is not below a value.
fn round_up(value: f64) -> f64 {
    let mut step = 1.0;
    while step * 10.0 < value {
        step *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * step).find(|top| *top >= value).unwrap_or(value.max(1.0))
}

fn number(value: f64) -> String {
    match value {
        value if value >= 10_000_000.0 => format!("{:.0} M", value / 1e6),
        value if value >= 10_000.0 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
