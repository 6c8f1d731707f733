//! The console blocks of the README and of the pages that show commands: read here, run by [`session`], compared by [`normal`].
//!
//! A block is fenced as `console`. Lines that begin with `$ ` are commands, the lines below each are what it
//! prints. `polder …` and `cargo run --release -- …` run the built binary; a command that ends in ` &` stays
//! in the background until the end; a line `^C` in the output interrupts the command there; `echo $?` prints the
//! exit code before it. A line of `...` stands for any lines. A block fenced as `python NAME.py` or `js NAME.mjs` is a file
//! that the commands after it find in their folder; `python NAME.py` and `node NAME.mjs` run it with the clients of `clients/`.
//! An address or key that a page shows stands for the one that was printed in its place, also in the commands after it. A block that cannot run is fenced as `console no-run: REASON`. Pipes and other programs are absent,
//! so that the blocks run the same everywhere.

#[cfg(test)]
mod normal;
#[cfg(test)]
mod session;

/// What a line with a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run the built binary with these arguments, in the background or not.
    Polder { args: Vec<String>, background: bool },
    /// Write a file that the page shows.
    File { name: String, text: String },
    /// Run such a file with the clients of the test environment.
    Client { program: Program, script: String },
    /// Set a variable for the commands after it.
    Export { name: String, value: String },
    /// Print the exit code of the command before.
    EchoStatus,
}

/// What runs an application that a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Python,
    Node,
}

/// One command, with what the README says it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub line: usize,
    pub text: String,
    pub action: Action,
    pub expected: Vec<String>,
}

/// Why a block cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    pub what: String,
    pub next: &'static str,
}

const KNOWN: &str = "use `polder …`, `cargo run --release -- …`, `python FILE`, `node FILE`, `export NAME=value` or \
`echo $?`, or fence the block as `console no-run: REASON`";

/// Reads every console block of a README that is meant to run, or says what is wrong with them.
pub fn parse(text: &str) -> Result<Vec<Step>, Vec<Problem>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut problems = Vec::new();
    let mut fence: Option<Fence> = None;
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        if let Some(info) = content.trim_start().strip_prefix("```") {
            fence = match fence.take() {
                Some(Fence::File { name, text }) => {
                    let action = Action::File { name: name.clone(), text };
                    steps.push(Step { line, text: name, action, expected: Vec::new() });
                    None
                }
                Some(_) => None,
                None => Some(open(info.trim(), line, &mut problems)),
            };
            continue;
        }
        match &mut fence {
            Some(Fence::Run { started }) => match content.strip_prefix("$ ") {
                Some(command) => {
                    *started = true;
                    match action(command.trim()) {
                        Some(action) => {
                            steps.push(Step { line, text: command.trim().to_owned(), action, expected: Vec::new() });
                        }
                        None => {
                            let what = format!("`{}` is not a command that the README's test can run", command.trim());
                            problems.push(Problem { line, what, next: KNOWN });
                        }
                    }
                }
                None if *started => push_expected(&mut steps, content),
                None => {
                    let what = "a console block begins with output".to_owned();
                    problems.push(Problem { line, what, next: "begin it with a line `$ command`" });
                    *started = true;
                }
            },
            Some(Fence::File { text, .. }) => {
                text.push_str(content);
                text.push('\n');
            }
            Some(Fence::Other) | None => {}
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

enum Fence {
    Run { started: bool },
    File { name: String, text: String },
    Other,
}

fn open(info: &str, line: usize, problems: &mut Vec<Problem>) -> Fence {
    let (kind, rest) = info.split_once(' ').unwrap_or((info, ""));
    let is_file = |end: &str| rest.strip_suffix(end).is_some_and(|stem| stem.chars().all(|c| c.is_ascii_lowercase()));
    if (kind == "python" && is_file(".py")) || (kind == "js" && is_file(".mjs")) {
        return Fence::File { name: rest.to_owned(), text: String::new() };
    }
    if kind != "console" {
        return Fence::Other;
    }
    if rest.is_empty() {
        return Fence::Run { started: false };
    }
    let reason = rest.strip_prefix("no-run:").map(str::trim).unwrap_or_default();
    if reason.is_empty() {
        let what = format!("`{info}` does not say why the block is not run");
        problems.push(Problem { line, what, next: "write `console no-run: REASON`, or `console` alone" });
    }
    Fence::Other
}

fn push_expected(steps: &mut [Step], content: &str) {
    if let Some(step) = steps.last_mut() {
        step.expected.push(content.to_owned());
    }
}

/// What a command line asks for; none when the runner does not know it.
fn action(command: &str) -> Option<Action> {
    if command == "echo $?" {
        return Some(Action::EchoStatus);
    }
    let (command, background) = match command.strip_suffix('&') {
        Some(rest) => (rest.trim_end(), true),
        None => (command, false),
    };
    if let Some((name, value)) = command.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
        let value = words(value)?.join(" ");
        return Some(Action::Export { name: name.to_owned(), value });
    }
    let words = words(command)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let args = match words.as_slice() {
        ["polder", args @ ..] | ["cargo", "run", "--release", "--", args @ ..] => args,
        ["cargo", "run", "--release"] => &[],
        ["python", script] if !background => return Some(client(Program::Python, script)),
        ["node", script] if !background => return Some(client(Program::Node, script)),
        _ => return None,
    };
    Some(Action::Polder { args: args.iter().map(|arg| (*arg).to_owned()).collect(), background })
}

fn client(program: Program, script: &str) -> Action {
    Action::Client { program, script: script.to_owned() }
}

/// Splits a command line at spaces, with single and double quotes; none for what only a shell could read.
fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in command.chars() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '>' | '<' | ';' | '`' | '$' | '\\' | '&' | '*') => return None,
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests;
