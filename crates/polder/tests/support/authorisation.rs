//! The authorisation table: rows from `clients/authorisation.toml`, and the page that is made of them.
//!
//! Asking nodes is absent; `real_authorisation.rs` does that.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

/// `clients/authorisation.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The rows, in the page's order.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its method; `ANY` for all of them.
    pub method: String,
    /// Its path, with places such as `{id}`.
    pub path: String,
    /// Who is let in.
    pub may: Vec<Who>,
    /// What those who are let in get for the test's request.
    pub answer: u16,
    /// The test's request.
    #[serde(default)]
    pub body: String,
    /// What the place in the path, or `{id}` in the body, stands for.
    #[serde(default)]
    pub of: Option<Object>,
}

/// Who may be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Everyone,
    Key,
    Owner,
    Operator,
    Reviewer,
    Auditor,
    Peer,
}

/// What a path may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Object {
    Model,
    Response,
    File,
    Batch,
    Decision,
    Project,
    Factory,
    Version,
    Key,
    Token,
}

/// Where a route is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `/v1`
    Applications,
    /// `/api/v1` and `/metrics`
    Operators,
    /// `/peer/v1`
    Peers,
    /// What is beside them.
    Open,
}

impl Object {
    /// Whether it is of one project, so that another's key must not see it.
    pub fn is_of_a_project(self) -> bool {
        matches!(self, Self::Response | Self::File | Self::Batch | Self::Decision | Self::Project)
    }
}

impl Route {
    /// Where it is served.
    pub fn surface(&self) -> Surface {
        match self.path.split('/').nth(1) {
            Some("v1") => Surface::Applications,
            Some("api" | "metrics") => Surface::Operators,
            Some("peer") => Surface::Peers,
            _ => Surface::Open,
        }
    }

    /// Its name in findings.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Method and path of a request to it, with an id in its place.
    pub fn request(&self, id: &str) -> (&str, String) {
        let method = if self.method == "ANY" { "POST" } else { &self.method };
        let path = self.path.replace("{part}", "decision");
        let path = match (path.split_once('{'), path.split_once('}')) {
            (Some((before, _)), Some((_, after))) => format!("{before}{id}{after}"),
            _ => path,
        };
        (method, path)
    }
}

/// The file's folder's parent.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

impl Table {
    /// Reads it.
    pub fn read() -> Self {
        let text = std::fs::read_to_string(root().join("clients/authorisation.toml")).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("authorisation.toml: {error}"))
    }

    /// The page's part that is made of it.
    pub fn page(&self) -> String {
        let mut text = String::new();
        self.table(
            &mut text,
            "Applications, on `listen` of a home",
            Surface::Applications,
            &[
                ("an application's key", &|route| route.may.contains(&Who::Key)),
                ("everyone", &|route| route.may.contains(&Who::Everyone)),
            ],
        );
        self.table(
            &mut text,
            "Operators, on `listen` and on `state/api.sock`",
            Surface::Operators,
            &[
                ("owner", &|route| route.may.contains(&Who::Owner)),
                ("operator", &|route| route.may.contains(&Who::Operator)),
                ("reviewer", &|route| route.may.contains(&Who::Reviewer)),
                ("auditor", &|route| route.may.contains(&Who::Auditor)),
                ("an application's key", &|route| route.may.contains(&Who::Key)),
                ("the socket", &|_| true),
            ],
        );
        self.table(
            &mut text,
            "Beside them, on `listen`",
            Surface::Open,
            &[("everyone", &|route| route.may.contains(&Who::Everyone))],
        );
        self.table(
            &mut text,
            "Peers, on `peer_listen` of a factory",
            Surface::Peers,
            &[("a member's pinned key", &|route| route.may.contains(&Who::Peer))],
        );
        text
    }

    #[allow(clippy::type_complexity)] // A column is a name and a question; a type for it would say no more.
    fn table(&self, text: &mut String, title: &str, surface: Surface, columns: &[(&str, &dyn Fn(&Route) -> bool)]) {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let _ =
            writeln!(text, "\n### {title}\n\n| call | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
        for route in self.routes.iter().filter(|route| route.surface() == surface && route.method != "ANY") {
            let everyone = route.may.contains(&Who::Everyone);
            let cells: Vec<&str> =
                columns.iter().map(|(_, may)| if everyone || may(route) { "yes" } else { "no" }).collect();
            let _ = writeln!(text, "| `{}` | {} |", route.name(), cells.join(" | "));
        }
    }
}
