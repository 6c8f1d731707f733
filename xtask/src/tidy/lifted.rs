//! Lints that nobody lifts: unsafe code has one place, and only tests may unwrap, expect or panic.
//!
//! Clippy obeys an `allow`; this check does not. The module that maps model files is the one exception.

use syn::visit::{self, Visit};

use super::Finding;
use super::rust::{attributes, is_test_code, words};
use super::tree::Tree;

/// The one module that may allow unsafe code.
const UNSAFE_PLACE: &str = "crates/polder-node/src/engine/mapped.rs";

/// Lints that only tests may lift.
const FOR_TESTS: &[&str] = &["unwrap_used", "expect_used", "panic", "todo"];

/// Finds attributes that lift such a lint.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in tree.rust() {
        let mut reader = Reader { file: &source.path, test: source.is_test(), found: &mut found };
        if let Ok(file) = &source.parsed {
            reader.visit_file(file);
        }
    }
    found
}

struct Reader<'a> {
    file: &'a str,
    test: bool,
    found: &'a mut Vec<Finding>,
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let before = self.test;
        self.test |= is_test_code(attributes(item));
        visit::visit_item(self, item);
        self.test = before;
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let syn::Meta::List(list) = &attribute.meta else { return };
        let inside = words(list.tokens.clone());
        let has = |wanted: &[&str]| inside.iter().any(|(word, _)| wanted.contains(&word.as_str()));
        let lifts = ["allow", "expect", "warn"].iter().any(|word| list.path.is_ident(word));
        let lifts_if = list.path.is_ident("cfg_attr") && has(&["allow", "expect", "warn"]);
        if !lifts && !lifts_if {
            return;
        }
        let line = attribute.pound_token.spans[0].start().line;
        if has(&["unsafe_code"]) && self.file != UNSAFE_PLACE {
            let next = format!("write it in safe Rust; only {UNSAFE_PLACE} may allow it");
            self.found.push(Finding::new(self.file, line, "lifts `unsafe_code`", next));
        }
        let for_tests = self.test || (lifts_if && has(&["test"]) && !has(&["not"]));
        for (word, _) in inside.iter().filter(|(word, _)| !for_tests && FOR_TESTS.contains(&word.as_str())) {
            let next = "return an error instead; only tests may lift it";
            self.found.push(Finding::new(self.file, line, format!("lifts `{word}` outside tests"), next));
        }
    }
}
