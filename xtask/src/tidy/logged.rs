//! Log lines: every field of a `tracing` event is on the allow-list, and every message is a text without holes.
//!
//! The list is `LOG_FIELDS` of `crates/polder-node/src/log_fields.rs`, which the writer of log lines obeys too. Tokens are read, not
//! items, so that events inside other macros are seen. What a field's value is cannot be read here; the canary test looks at that.

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::tree::Tree;

const LIST: &str = "crates/polder-node/src/log_fields.rs";
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const OTHERS: &[&str] =
    &["event", "span", "error_span", "warn_span", "info_span", "debug_span", "trace_span", "instrument"];

/// Finds fields that are not on the list, messages with holes, and events that cannot be read here.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let allowed = tree.text(LIST).map(list).unwrap_or_default();
    let mut found = Vec::new();
    for source in tree.rust().iter().filter(|source| !source.is_test() && source.path.starts_with("crates/")) {
        if let Ok(tokens) = source.text.parse::<TokenStream>() {
            read(tokens, &source.path, &allowed, &mut found);
        }
    }
    found
}

/// The names on the list.
fn list(text: &str) -> Vec<String> {
    let Ok(tokens) = text.parse::<TokenStream>() else { return Vec::new() };
    let mut tokens = tokens.into_iter().skip_while(|token| !is(token, "LOG_FIELDS"));
    let after = tokens.by_ref().find(|token| is(token, "="));
    let group = after
        .and_then(|_| tokens.find_map(|token| if let TokenTree::Group(group) = token { Some(group) } else { None }));
    let words = group.into_iter().flat_map(|group| group.stream());
    words.filter_map(|token| text_of(&token)).collect()
}

fn is(token: &TokenTree, text: &str) -> bool {
    !matches!(token, TokenTree::Group(_)) && token.to_string() == text
}

/// The contents of a text literal.
fn text_of(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else { return None };
    syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|text| text.value())
}

fn read(tokens: TokenStream, file: &str, allowed: &[String], found: &mut Vec<Finding>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (place, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            read(group.stream(), file, allowed, found);
        }
        let rest = tokens.get(place + 1..).unwrap_or_default();
        let [colon, _, TokenTree::Ident(name), after @ ..] = rest else { continue };
        if !is(token, "tracing") || !is(colon, ":") {
            continue;
        }
        let (name, line) = (name.to_string(), name.span().start().line);
        let imported =
            place.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|before| is(before, "use"));
        let event = LEVELS.contains(&name.as_str());
        if OTHERS.contains(&name.as_str()) || (event && imported) {
            let next = "write `tracing::info!(…, \"a message\")` in full, so that its fields can be read";
            found.push(Finding::new(file, line, format!("`tracing::{name}`"), next));
        } else if let (true, [bang, TokenTree::Group(arguments), ..]) = (event, after)
            && is(bang, "!")
        {
            found.extend(problems(arguments.stream(), allowed).into_iter().map(|problem| {
                let next = format!("a message is a plain text of ours; a field's name stands in {LIST}");
                Finding::new(file, line, problem, next)
            }));
        }
    }
}

/// What is wrong with the arguments of an event: fields first, and a message at the end.
fn problems(arguments: TokenStream, allowed: &[String]) -> Vec<String> {
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let mut parts: Vec<&[TokenTree]> = arguments.split(|token| is(token, ",")).collect();
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    let Some((last, fields)) = parts.split_last() else { return vec!["an event without a message".to_owned()] };
    let mut problems: Vec<String> = fields.iter().filter_map(|field| problem(field, allowed)).collect();
    match last {
        [message] => match text_of(message) {
            Some(text) if text.contains('{') => problems.push("a message with a hole".to_owned()),
            Some(_) => {}
            None => problems.push("an event without a message".to_owned()),
        },
        _ => problems.push("an event without a message".to_owned()),
    }
    problems
}

fn problem(field: &[TokenTree], allowed: &[String]) -> Option<String> {
    let sigil = field.first().is_some_and(|token| is(token, "%") || is(token, "?"));
    let named = field.iter().position(|token| is(token, "="));
    let name: String = match named {
        Some(place) => field.get(..place).unwrap_or_default().iter().map(ToString::to_string).collect(),
        None => field.get(usize::from(sigil)..).unwrap_or_default().iter().map(ToString::to_string).collect(),
    };
    (!allowed.contains(&name)).then(|| format!("the log field `{name}` is not on the list"))
}
