//! The commands of a scenario, read from one line of text each.
//!
//! Words are separated by white space; quoting is absent, because no value here has a space in it.

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Ask(Ask),
    Why(String),
    Kill(String),
    Revive(String),
    /// What drops out, as `polder drill` has it.
    Without(String),
    Fill(String),
    Empty(String),
    /// Factory, kind of fact, and whose fact where only one issuer's is meant.
    Expire(String, String, Option<String>),
    /// Milliseconds.
    Advance(u64),
    Verify,
    /// The place of a byte, from 0.
    Flip(usize),
    FlipAll,
    Audit,
}

/// A tenant's question, in words that are not yet checked against anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub tenant: String,
    pub project: Option<String>,
    pub class: Option<String>,
    pub purposes: Option<String>,
    pub countries: Option<String>,
    pub model: Option<String>,
    pub action: Option<String>,
}

const COMMANDS: &str =
    "`ask`, `why`, `kill`, `revive`, `without`, `fill`, `empty`, `expire`, `advance`, `verify`, `flip` or `audit`";
const ASK: &str = "`--project`, `--class`, `--purpose`, `--countries`, `--model` or `--action`";

/// Reads a command; an error says what is wrong and what to do, without saying where.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["ask", rest @ ..] => parse_ask(rest).map(Command::Ask),
        ["why", name] => Ok(Command::Why((*name).to_owned())),
        ["kill", name] => Ok(Command::Kill((*name).to_owned())),
        ["revive", name] => Ok(Command::Revive((*name).to_owned())),
        ["without", _, ..] => Ok(Command::Without(words.get(1..).unwrap_or_default().join(" "))),
        ["fill", name] => Ok(Command::Fill((*name).to_owned())),
        ["empty", name] => Ok(Command::Empty((*name).to_owned())),
        ["expire", name, kind] => Ok(Command::Expire((*name).to_owned(), (*kind).to_owned(), None)),
        ["expire", name, kind, issuer] => {
            Ok(Command::Expire((*name).to_owned(), (*kind).to_owned(), Some((*issuer).to_owned())))
        }
        ["advance", duration] => parse_duration(duration).map(Command::Advance),
        ["verify"] => Ok(Command::Verify),
        ["flip", "every-byte"] => Ok(Command::FlipAll),
        ["flip", place] => {
            let place = place.parse().map_err(|_| format!("`{place}` is not a byte's place: use a number from 0"));
            place.map(Command::Flip)
        }
        ["audit"] => Ok(Command::Audit),
        [name @ ("why" | "kill" | "revive" | "fill" | "empty"), ..] => {
            Err(format!("`{name}` takes one factory: `{name} paris`"))
        }
        ["without"] => Err("`without` takes what drops out: `without vendor=nvidia`".to_owned()),
        ["expire", ..] => {
            Err("`expire` takes a factory, a kind of fact and maybe its issuer: `expire paris control`".to_owned())
        }
        ["advance", ..] => Err("`advance` takes a duration: `advance 400d`".to_owned()),
        ["flip", ..] => Err("`flip` takes a byte's place or `every-byte`: `flip 100`".to_owned()),
        [name @ ("verify" | "audit"), ..] => Err(format!("`{name}` takes nothing after it")),
        [other, ..] => Err(format!("`{other}` is not a command: use {COMMANDS}")),
        [] => Err(format!("no command after `$`: use {COMMANDS}")),
    }
}

fn parse_ask(words: &[&str]) -> Result<Ask, String> {
    let Some((tenant, mut rest)) = words.split_first() else {
        return Err("`ask` takes a tenant: `ask bank`".to_owned());
    };
    let mut ask = Ask { tenant: (*tenant).to_owned(), ..Ask::default() };
    while let [option, after @ ..] = rest {
        let place = match *option {
            "--project" => &mut ask.project,
            "--class" => &mut ask.class,
            "--purpose" => &mut ask.purposes,
            "--countries" => &mut ask.countries,
            "--model" => &mut ask.model,
            "--action" => &mut ask.action,
            other => return Err(format!("`{other}` is not an option of `ask`: use {ASK}")),
        };
        let [value, after @ ..] = after else { return Err(format!("`{option}` needs a value after it")) };
        if place.replace((*value).to_owned()).is_some() {
            return Err(format!("`{option}` is given twice: keep one of the two"));
        }
        rest = after;
    }
    Ok(ask)
}

/// A whole number and `s`, `m`, `h` or `d`, as milliseconds.
fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration: use a number and `s`, `m`, `h` or `d`, such as `400d`");
    let units = [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    let (number, unit_ms) = units
        .into_iter()
        .find_map(|(unit, ms)| text.strip_suffix(unit).map(|number| (number, ms)))
        .ok_or_else(wrong)?;
    let number: u32 = number.parse().map_err(|_| wrong())?;
    u64::from(number).checked_mul(unit_ms).ok_or_else(wrong)
}
