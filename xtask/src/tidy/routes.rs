//! Every route of a node stands in the authorisation table, and nothing else does: a new one is refused until somebody has said
//! who may call it.
//!
//! Routes are read from the routers' calls of `.route("…", get(…).post(…))`; a route that cannot be read so is a finding too. What
//! the routes answer to whom is absent: `crates/polder/tests/real_authorisation.rs` asks running nodes.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use super::Finding;
use super::tree::Tree;

const TABLE: &str = "clients/authorisation.toml";
const NODE: &str = "crates/polder-node/src/";
/// What makes a route of a method, in axum's words.
const METHODS: &[(&str, &str)] = &[
    ("get", "GET"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
    ("head", "HEAD"),
    ("options", "OPTIONS"),
    ("any", "ANY"),
];
/// Calls that would bring in routes that are not written down where they are added.
const HIDDEN: &[&str] = &["nest", "nest_service", "route_service"];

/// Compares the routers with the table.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(TABLE) else { return Vec::new() };
    let mut routes = Routes::default();
    let mut found = Vec::new();
    for source in tree.rust().iter().filter(|source| source.path.starts_with(NODE) && !source.is_test()) {
        if let Ok(file) = &source.parsed {
            routes.path.clone_from(&source.path);
            routes.visit_file(file);
        }
    }
    found.append(&mut routes.odd);
    let table = table(text);
    for (route, (file, line)) in &routes.seen {
        if !table.contains_key(route) {
            let (method, path) = route;
            let problem = format!("`{method} {path}` stands in no row of {TABLE}");
            found.push(Finding::new(file, *line, problem, "add a row that says who may call it, and what it answers"));
        }
    }
    for ((method, path), line) in table.iter().filter(|(route, _)| !routes.seen.contains_key(*route)) {
        let problem = format!("no router has `{method} {path}`");
        found.push(Finding::new(TABLE, *line, problem, "take the row away, or correct it"));
    }
    found
}

/// Method and path.
type Route = (String, String);

/// The rows with their lines. The file's form is checked by whoever uses the rest of it.
fn table(text: &str) -> BTreeMap<Route, usize> {
    let mut rows = BTreeMap::new();
    let mut method = String::new();
    for (line, content) in (1..).zip(text.lines()) {
        let value = |name: &str| {
            let rest = content.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
            Some(rest.trim_matches('"').to_owned())
        };
        if let Some(value) = value("method") {
            method = value;
        }
        if let Some(path) = value("path") {
            rows.insert((method.clone(), path), line);
        }
    }
    rows
}

#[derive(Default)]
struct Routes {
    path: String,
    seen: BTreeMap<Route, (String, usize)>,
    odd: Vec<Finding>,
}

impl Routes {
    fn add(&mut self, call: &syn::ExprMethodCall) {
        let line = call.method.span().start().line;
        let mut arguments = call.args.iter();
        let (Some(path), Some(handlers)) = (arguments.next(), arguments.next()) else { return };
        let methods = methods(handlers);
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = path else {
            return self.odd(line, "a route's path is not written out");
        };
        if methods.is_empty() {
            return self.odd(line, "the methods of a route are not written out");
        }
        for method in methods {
            self.seen.insert((method.to_owned(), path.value()), (self.path.clone(), line));
        }
    }

    fn odd(&mut self, line: usize, problem: &str) {
        let next = "write `.route(\"/path\", get(handler))`, so that it can be compared with the authorisation table";
        self.odd.push(Finding::new(&self.path, line, problem, next));
    }
}

/// The methods that an expression such as `get(list).post(create)` names; of a block its last expression.
fn methods(handlers: &syn::Expr) -> Vec<&'static str> {
    let named = |name: &syn::Ident| METHODS.iter().find(|(word, _)| name == word).map(|(_, method)| *method);
    match handlers {
        syn::Expr::Call(call) => match &*call.func {
            syn::Expr::Path(path) => {
                path.path.segments.last().and_then(|last| named(&last.ident)).into_iter().collect()
            }
            _ => Vec::new(),
        },
        syn::Expr::MethodCall(call) => {
            let mut before = methods(&call.receiver);
            before.extend(named(&call.method));
            before
        }
        syn::Expr::Block(block) => match block.block.stmts.last() {
            Some(syn::Stmt::Expr(last, None)) => methods(last),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

impl<'ast> Visit<'ast> for Routes {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !super::rust::is_test_code(super::rust::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        // Others may have a method of this name: a route's has two arguments.
        if call.method == "route" && call.args.len() == 2 {
            self.add(call);
        } else if HIDDEN.iter().any(|word| call.method == word) {
            self.odd(call.method.span().start().line, "routes are hidden behind a prefix or a service");
        }
        visit::visit_expr_method_call(self, call);
    }
}
