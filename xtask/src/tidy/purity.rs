//! The core's purity: no clock, no files, no network, no environment, no threads, no randomness, no async,
//! no floats, no order that hangs on a hash, and at most one macro of its own.
//!
//! Clippy's `disallowed-types` and `disallowed-methods` see through renames; this sees what clippy has
//! no word for. Test code of the core is free.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::Finding;
use super::rust::{attributes, is_test_code};
use super::tree::Tree;

const CORE: &str = "crates/polder-core/src/";

/// Words that the core does not use, and why.
const WORDS: &[(&str, &str)] = &[
    ("HashMap", "its order is not fixed, use `BTreeMap`"),
    ("HashSet", "its order is not fixed, use `BTreeSet`"),
    ("RandomState", "its order is not fixed, use `BTreeMap`"),
    ("SystemTime", "the core reads no clock, take the time as an argument"),
    ("f32", "the core counts in integers, choose a smaller unit"),
    ("f64", "the core counts in integers, choose a smaller unit"),
    ("println", "the core has no output, return a value"),
    ("eprintln", "the core has no output, return a value"),
    ("thread_local", "the core has no state of its own, take it as an argument"),
    ("tokio", "the core does not wait, return an effect"),
    ("getrandom", "the core has no randomness, take the bytes as an argument"),
];

/// Modules of `std` that the core does not use.
const MODULES: &[&str] = &["fs", "net", "env", "process", "thread", "os"];

/// Finds impure code in the core.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut macros = Vec::new();
    for source in tree.rust().iter().filter(|source| source.path.starts_with(CORE) && !source.is_test()) {
        let mut reader = Reader { file: &source.path, found: &mut found, macros: &mut macros };
        if let Ok(file) = &source.parsed {
            reader.visit_file(file);
        }
    }
    for (file, line) in macros.into_iter().skip(1) {
        let next = "write a function or a generic type; the one macro is for ids";
        found.push(Finding::new(&file, line, "a second `macro_rules!` in the core", next));
    }
    found
}

struct Reader<'a> {
    file: &'a str,
    found: &'a mut Vec<Finding>,
    macros: &'a mut Vec<(String, usize)>,
}

impl Reader<'_> {
    fn report(&mut self, line: usize, problem: String, next: &str) {
        self.found.push(Finding::new(self.file, line, problem, next));
    }

    fn word(&mut self, word: &str, line: usize) {
        if let Some((_, why)) = WORDS.iter().find(|(banned, _)| *banned == word) {
            self.report(line, format!("`{word}` in the core"), why);
        }
    }

    fn path(&mut self, parts: &[String], line: usize) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let next = "the core takes time, seeds and bytes as arguments; move this to polder-node";
        match parts.as_slice() {
            ["std", module, ..] if MODULES.contains(module) => {
                self.report(line, format!("`std::{module}` in the core"), next);
            }
            ["std" | "core", "time", "Duration", ..] => {}
            ["std" | "core", "time", ..] => self.report(line, format!("`{}` in the core", parts.join("::")), next),
            _ => {}
        }
    }

    fn uses(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.uses(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.uses(item, before)),
            syn::UseTree::Name(name) => self.path(&with(&name.ident), name.ident.span().start().line),
            syn::UseTree::Rename(name) => self.path(&with(&name.ident), name.ident.span().start().line),
            syn::UseTree::Glob(glob) => self.path(before, glob.star_token.spans[0].start().line),
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        path.clear();
                    }
                    path.push(ident.to_string());
                    self.word(&ident.to_string(), ident.span().start().line);
                    self.path(&path.clone(), ident.span().start().line);
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => self.literal(&literal),
                TokenTree::Punct(_) => path.clear(),
            }
        }
    }

    fn literal(&mut self, literal: &proc_macro2::Literal) {
        if let syn::Lit::Float(float) = syn::Lit::new(literal.clone()) {
            self.visit_lit_float(&float);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_code(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.uses(&item.tree, &[]);
        visit::visit_item_use(self, item);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.mac.path.is_ident("macro_rules") {
            let line = item.mac.path.segments.first().map_or(1, |segment| segment.ident.span().start().line);
            self.macros.push((self.file.to_owned(), line));
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.word(&ident.to_string(), ident.span().start().line);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(1, |segment| segment.ident.span().start().line);
        self.path(&parts, line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }

    fn visit_lit_float(&mut self, float: &'ast syn::LitFloat) {
        let line = float.span().start().line;
        self.report(line, format!("the fraction `{float}` in the core"), "choose a smaller unit and count in integers");
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = signature.asyncness {
            let line = token.span.start().line;
            self.report(line, format!("`async fn {}` in the core", signature.ident), "return an effect instead");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        let line = block.async_token.span.start().line;
        self.report(line, "an `async` block in the core".to_owned(), "return an effect instead");
    }
}
