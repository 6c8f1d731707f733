//! Text scenarios: commands with the transcript they give, run in virtual time over the product's own deciding code.
//!
//! A scenario is a test, a demonstration and a page of the manual at once. A line that begins with `#` is a remark,
//! one that begins with `$ ` is a command, and the lines after a command are what it printed. Seeds and ids are fixed,
//! so the same text gives the same transcript, to the byte. Absent: processes, sockets and engines; an execution
//! statement made here names the back end `twin`, because nothing really ran.

use std::collections::BTreeSet;

use polder_core::labels::{Action, Asked, Closed, LabelError};

use crate::federation::Federation;

pub(crate) mod node;
mod script;
mod words;
mod world;

use script::{Ask, Command};
use world::World;

/// Why a scenario cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A line of the scenario is at fault.
    #[error("{file}:{line}: {message}")]
    Line {
        /// The scenario's name, as the caller gave it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// The federation under it is at fault.
    #[error("the federation cannot be set up: {0}")]
    Federation(String),
}

/// Runs a scenario and returns its actual transcript: the same remarks, blank lines and commands, each command
/// followed by what it printed now. The scenario holds where the transcript equals its text. `file` is its name in
/// messages.
pub fn run(file: &str, text: &str, federation: &Federation) -> Result<String, ScenarioError> {
    let mut world = World::new(federation).map_err(ScenarioError::Federation)?;
    let mut transcript = String::with_capacity(text.len());
    let mut begun = false;
    for (line, content) in (1..).zip(text.lines()) {
        let at = |message: String| ScenarioError::Line { file: file.to_owned(), line, message };
        if let Some(command) = content.strip_prefix("$ ") {
            begun = true;
            transcript += &format!("{content}\n");
            for printed in carry_out(&mut world, &script::parse(command).map_err(at)?).map_err(at)? {
                transcript += &format!("{printed}\n");
            }
        } else if content.is_empty() || content.starts_with('#') {
            transcript += &format!("{content}\n");
        } else if !begun {
            return Err(at(
                "a transcript before the first command: begin remarks with `#`, commands with `$ `".to_owned()
            ));
        }
    }
    Ok(transcript)
}

fn carry_out(world: &mut World<'_>, command: &Command) -> Result<Vec<String>, String> {
    let line = match command {
        Command::Ask(ask) => return carry_out_ask(world, ask),
        Command::Why(name) => return Ok(words::verdict(world.verdict(name)?)),
        Command::Kill(name) => {
            world.kill(name)?;
            format!("{name} is gone")
        }
        Command::Revive(name) => {
            world.revive(name)?;
            format!("{name} is back")
        }
        Command::Without(loss) => {
            let gone = world.without(loss)?;
            if gone.is_empty() { "nothing drops out".to_owned() } else { format!("without {}", gone.join(", ")) }
        }
        Command::Fill(name) => {
            world.fill(name)?;
            format!("{name} has no place free")
        }
        Command::Empty(name) => {
            world.empty(name)?;
            format!("{name} has places free")
        }
        Command::Expire(name, kind, issuer) => {
            let ended = world.expire(name, kind, issuer.as_deref())?;
            format!("{kind} of {name} expired: {}", words::facts(ended))
        }
        Command::Advance(ms) => {
            world.advance(*ms)?;
            format!("{} later", words::duration(*ms))
        }
        Command::Verify => match node::verify(&world.last()?.receipt, &world.members()) {
            Ok(passed) => {
                format!(
                    "the receipt holds: {}",
                    passed.iter().map(|check| check.as_str()).collect::<Vec<_>>().join(", ")
                )
            }
            Err(failure) => words::failure(&failure),
        },
        Command::Flip(place) => flip(world, *place)?,
        Command::FlipAll => flip_all(world)?,
        Command::Audit => return audit(world),
    };
    Ok(vec![line])
}

fn carry_out_ask(world: &mut World<'_>, ask: &Ask) -> Result<Vec<String>, String> {
    let asked = Asked {
        class: ask.class.as_deref().map(parse_label).transpose()?,
        purposes: ask.purposes.as_deref().map(parse_labels).transpose()?,
        countries: ask.countries.as_deref().map(parse_labels).transpose()?,
        language: None,
    };
    let action = ask.action.as_deref().map_or(Ok(Action::Infer), parse_label)?;
    let request = match world.request(ask, action, &asked)? {
        Ok(request) => request,
        Err(error) => return Ok(vec![format!("error: {error}")]),
    };
    let decision = world.ask(&ask.tenant, request)?;
    Ok(words::decision(&decision))
}

fn parse_label<T: Closed>(text: &str) -> Result<T, String> {
    T::parse(text).map_err(|e: LabelError| e.to_string())
}

fn parse_labels<T: Closed>(text: &str) -> Result<BTreeSet<T>, String> {
    text.split(',').map(parse_label).collect()
}

/// Flips the lowest bit of one byte of the last receipt and says which check notices.
fn flip(world: &World<'_>, place: usize) -> Result<String, String> {
    let mut receipt = world.last()?.receipt.clone();
    let length = receipt.len();
    let byte = receipt.get_mut(place);
    *byte.ok_or_else(|| format!("the receipt has {length} bytes: use a place from 0 to {}", length - 1))? ^= 1;
    Ok(match node::verify(&receipt, &world.members()) {
        Ok(_) => "nobody noticed".to_owned(),
        Err(failure) => words::failure(&failure),
    })
}

/// Flips every byte of the last receipt in turn and says which checks noticed.
fn flip_all(world: &World<'_>) -> Result<String, String> {
    let receipt = &world.last()?.receipt;
    let mut checks = BTreeSet::new();
    for place in 0..receipt.len() {
        let mut flipped = receipt.clone();
        for byte in flipped.iter_mut().skip(place).take(1) {
            *byte ^= 1;
        }
        match node::verify(&flipped, &world.members()) {
            Ok(_) => return Ok(format!("nobody noticed that byte {place} changed")),
            Err(failure) => drop(checks.insert(failure.check.as_str())),
        }
    }
    let checks = checks.into_iter().collect::<Vec<_>>().join(", ");
    Ok(format!("whichever byte changes, the receipt fails; checks that noticed: {checks}"))
}

fn audit(world: &World<'_>) -> Result<Vec<String>, String> {
    let found = world.disagreements()?;
    if found.is_empty() {
        return Ok(vec!["the audit comes to the same decision".to_owned()]);
    }
    Ok(found.iter().map(|one| format!("the audit disagrees: {one}")).collect())
}

#[cfg(test)]
mod tests;
