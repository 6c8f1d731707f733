//! Names that say nothing are banned, in files and in code: a name says what a thing is for.
//!
//! Names are compared word by word, so that `commonly` is free; foreign names that are only used are free too.

use super::Finding;
use super::rust::Kind;
use super::tree::Tree;

/// Words that no name of ours contains.
const BANNED: &[&str] = &["manager", "managers", "helper", "helpers", "util", "utils", "common"];

/// Finds files, folders and items with banned names.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let next = "name it after what it is for";
    let mut found = Vec::new();
    for path in tree.paths() {
        for word in path.split('/').flat_map(|part| banned(part.split('.').next().unwrap_or(part))) {
            found.push(Finding::new(path, 1, format!("the path contains the banned word `{word}`"), next));
        }
    }
    for source in tree.rust() {
        for item in source.items().into_iter().filter(|item| item.kind != Kind::Part) {
            for word in banned(&item.name) {
                let problem = format!("`{}` contains the banned word `{word}`", item.name);
                found.push(Finding::new(&source.path, item.line, problem, next));
            }
        }
    }
    found
}

/// The banned words in a name; a trailing version number above one is banned too.
fn banned(name: &str) -> Vec<String> {
    let words = split(name);
    let versioned = words.len() > 1 && words.last().is_some_and(|last| is_later_version(last));
    let mut bad: Vec<String> = words.iter().filter(|word| BANNED.contains(&word.as_str())).cloned().collect();
    if versioned {
        bad.extend(words.last().cloned());
    }
    bad
}

fn is_later_version(word: &str) -> bool {
    word.strip_prefix('v').and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|version| version > 1)
}

/// A name's words in lower case, from snake, kebab and camel case.
fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for letter in name.chars() {
        let starts_word = letter.is_uppercase() && before_lower;
        if !letter.is_alphanumeric() || starts_word {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        before_lower = letter.is_lowercase() || letter.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}
