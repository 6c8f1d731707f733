//! Unsafe code is allowed in one module only: the one that maps model files.

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::rust::words;
use super::tree::Tree;

/// The one module that may allow unsafe code.
const ALLOWED: &str = "crates/polder-node/src/engine/mapped.rs";

/// Finds attributes that let unsafe code in elsewhere.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in tree.rust().iter().filter(|source| source.path != ALLOWED) {
        let Ok(tokens) = source.text.parse::<TokenStream>() else { continue };
        for line in lifted(tokens) {
            let problem = "allows `unsafe_code`";
            let next = format!("write it in safe Rust; only {ALLOWED} may allow it");
            found.push(Finding::new(&source.path, line, problem, next));
        }
    }
    found
}

/// Lines of attributes that name `unsafe_code` together with a word that lifts the ban.
fn lifted(tokens: TokenStream) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut after_hash = false;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => after_hash = true,
            TokenTree::Punct(punct) if punct.as_char() == '!' && after_hash => {}
            TokenTree::Group(group) => {
                let inside = words(group.stream());
                let lifts = inside.iter().any(|(word, _)| matches!(word.as_str(), "allow" | "expect" | "warn"));
                let named = inside.iter().find(|(word, _)| word == "unsafe_code");
                match named {
                    Some((_, line)) if after_hash && lifts => lines.push(*line),
                    _ => lines.extend(lifted(group.stream())),
                }
                after_hash = false;
            }
            _ => after_hash = false,
        }
    }
    lines
}
