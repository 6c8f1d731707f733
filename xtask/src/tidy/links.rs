//! Links between documents lead somewhere: the file exists, and so does the heading.
//!
//! Links to the web are absent: whether they answer is not a property of the tree.

use super::Finding;
use super::tree::Tree;

/// Finds links to files or headings that do not exist.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in links(text) {
            if let Some(problem) = broken(tree, path, &target) {
                found.push(Finding::new(path, line, problem, "correct the link, or write what it points to"));
            }
        }
    }
    found
}

/// Lines of a document outside fenced blocks.
pub fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)` and `[name]: target`.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content: String = content.split('`').step_by(2).collect();
        for (at, _) in content.match_indices("](") {
            let rest = &content[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            found.push((line, target.trim_matches(['<', '>']).to_owned()));
        }
        let named = content.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some((_, target)) = named {
            found.push((line, target.trim().to_owned()));
        }
    }
    found
}

fn broken(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let file = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(file) = file.filter(|file| file.is_empty() || tree.exists(file)) else {
        return Some(format!("the link `{target}` leads to no file"));
    };
    let (anchor, text) = (anchor?, tree.text(&file)?);
    let missing = file.ends_with(".md") && !headings(text).iter().any(|heading| heading == anchor);
    missing.then(|| format!("`{file}` has no heading `#{anchor}`"))
}

/// A relative path, from the folder of a file; none when it leaves the tree.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a document's headings, as code hosts make them.
fn headings(text: &str) -> Vec<String> {
    let titles = prose(text).filter(|(_, line)| line.starts_with('#'));
    titles
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}
