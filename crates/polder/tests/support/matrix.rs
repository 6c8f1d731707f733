//! The compatibility matrix: rows from `clients/matrix.toml`, cells from what each client's checks saw.
//!
//! A row works where a client's checks of it all hold. What the page says can only be what a run saw: a row that works nowhere,
//! a check without a row, and a row that is said not to work and does, are all mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `clients/matrix.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// The clients, in the page's order.
    pub clients: Vec<Client>,
    /// The rows, in the page's order.
    pub rows: Vec<Row>,
}

/// A client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// How results are kept apart.
    pub id: String,
    /// What the page calls it.
    pub name: String,
    /// The package whose pinned version the page names.
    pub package: String,
    /// Its checks, under `clients/`.
    pub script: PathBuf,
    /// What its script runs against an endpoint that places its requests.
    pub modes: Vec<String>,
    /// Whether its script has checks for an endpoint that makes pictures.
    #[serde(default)]
    pub pictures: bool,
}

/// A row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The table it stands in.
    pub area: String,
    /// What may be relied on.
    pub feature: String,
    /// What there is to know beside it.
    #[serde(default)]
    pub note: String,
    /// The checks that prove it, by name.
    pub checks: Vec<String>,
    /// Whether it works; a row that does not stands there so that nobody has to guess.
    #[serde(default = "yes")]
    pub works: bool,
}

fn yes() -> bool {
    true
}

/// What one check saw.
#[derive(Debug, Clone, Deserialize)]
pub struct Check {
    /// Its name.
    pub check: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen instead.
    pub detail: String,
}

/// What every client saw, by client and check.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<String, BTreeMap<String, Check>>);

impl Seen {
    /// Adds what a client saw; a check that ran twice must hold twice.
    pub fn add(&mut self, client: &str, checks: Vec<Check>) {
        let of_client = self.0.entry(client.to_owned()).or_default();
        for check in checks {
            let kept = of_client.entry(check.check.clone()).or_insert_with(|| check.clone());
            if kept.ok && !check.ok {
                *kept = check;
            }
        }
    }

    fn of<'a>(&'a self, client: &'a Client, row: &'a Row) -> impl Iterator<Item = &'a Check> {
        let of_client = self.0.get(&client.id);
        row.checks.iter().filter_map(move |name| of_client?.get(name))
    }

    /// Whether a row works in a client; `None` where it was not tried.
    fn cell(&self, client: &Client, row: &Row) -> Option<bool> {
        let mut checks = self.of(client, row).peekable();
        checks.peek()?;
        Some(checks.all(|check| check.ok))
    }
}

/// The folder of the clients.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients")
}

impl Matrix {
    /// Reads it.
    pub fn read() -> Self {
        let path = folder().join("matrix.toml");
        toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("matrix.toml: {error}"))
    }

    /// What is wrong between the rows and what was seen.
    pub fn problems(&self, seen: &Seen) -> Vec<String> {
        let mut problems = Vec::new();
        for row in &self.rows {
            let cells: Vec<Option<bool>> = self.clients.iter().map(|client| seen.cell(client, row)).collect();
            match (row.works, cells.contains(&Some(true))) {
                (true, false) => problems.push(format!("{}: no client's checks of it all hold", row.feature)),
                (false, true) => problems.push(format!("{}: it works now, take `works = false` away", row.feature)),
                _ => {}
            }
            for client in self.clients.iter().filter(|_| row.works) {
                let failed = seen.of(client, row).filter(|check| !check.ok);
                problems.extend(failed.map(|check| format!("{}: `{}`: {}", client.name, check.check, check.detail)));
            }
        }
        let in_rows: BTreeSet<&String> = self.rows.iter().flat_map(|row| &row.checks).collect();
        let ran: BTreeSet<&String> = seen.0.values().flat_map(BTreeMap::keys).collect();
        problems
            .extend(ran.difference(&in_rows).map(|name| format!("`{name}` stands in no row of clients/matrix.toml")));
        // A group ends at its first failure, so what does not work leaves checks that did not run.
        let works: BTreeSet<&String> = self.rows.iter().filter(|row| row.works).flat_map(|row| &row.checks).collect();
        problems.extend(works.difference(&ran).map(|name| format!("`{name}` was told by no client")));
        problems
    }

    /// The page's part that is made of all this.
    pub fn page(&self, seen: &Seen) -> String {
        let named = |client: &Client| format!("{} (`{}` {})", client.name, client.package, client.version());
        let clients: Vec<String> = self.clients.iter().map(named).collect();
        let mut text = format!("Clients: {}.\n", clients.join(", "));
        let mut areas: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !areas.contains(&row.area.as_str()) {
                areas.push(&row.area);
            }
        }
        for area in areas {
            self.table(area, seen, &mut text);
        }
        text
    }

    /// One area's table, with the clients that were tried in it.
    fn table(&self, area: &str, seen: &Seen, text: &mut String) {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.area == area).collect();
        let tried = |client: &&Client| rows.iter().any(|row| seen.cell(client, row).is_some());
        let clients: Vec<&Client> = self.clients.iter().filter(tried).collect();
        let names: Vec<&str> = clients.iter().map(|client| client.name.as_str()).collect();
        let _ =
            writeln!(text, "\n### {area}\n\n| feature | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
        for row in rows {
            let cell = |client: &&Client| match seen.cell(client, row) {
                Some(true) => "yes",
                Some(false) => "no",
                None => "–",
            };
            let cells: Vec<&str> = clients.iter().map(cell).collect();
            let note = if row.note.is_empty() { String::new() } else { format!("; {}", row.note) };
            let _ = writeln!(text, "| {}{note} | {} |", row.feature, cells.join(" | "));
        }
    }
}

impl Client {
    /// The version that is pinned.
    fn version(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
        if self.script.starts_with("python") {
            let pins = read("python/requirements.txt");
            let pin = pins.lines().find_map(|line| line.strip_prefix(&format!("{}==", self.package)));
            return pin.unwrap_or_else(|| panic!("`{}` is not pinned", self.package)).to_owned();
        }
        let pins: serde_json::Value = serde_json::from_str(&read("node/package.json")).unwrap();
        pins["dependencies"][&self.package]
            .as_str()
            .unwrap_or_else(|| panic!("`{}` is not pinned", self.package))
            .to_owned()
    }
}
