//! Which logs a verifier accepts, and how many of which witnesses must have cosigned (C2SP `tlog-policy`).
//!
//! Groups may hold groups, so "witnesses of two countries" is one group for each country and one over those. Fetching
//! from a log's or witness's address is absent: the addresses are kept for whoever does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::note::{Checkpoint, KeyKind, Note, NoteError, VerifierKey};

/// The longest policy that is read, in bytes.
pub const POLICY_BYTES_MAX: usize = 1_000_000;

/// The most logs, witnesses and groups of a policy, each.
pub const ENTRIES_MAX: usize = 1_024;

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PolicyError {
    /// The line, from 1; the last one where something is missing.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unaccepted {
    /// The note does not hold, or no log that the policy lists signed it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The policy lists other logs.
    #[error("`{0}` is not a log that the policy lists")]
    Log(String),
    /// The policy lists no log, and the caller knows none.
    #[error("the policy lists no log, and none is given")]
    NoLog,
    /// Too few witnesses signed.
    #[error("`{quorum}` has not witnessed the checkpoint: {signed} of {listed} witnesses signed it")]
    Quorum {
        /// The witness or group that must have.
        quorum: String,
        /// How many witnesses that the policy lists have signed.
        signed: usize,
        /// How many the policy lists.
        listed: usize,
    },
}

/// A log that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its key, whose name is the log's origin.
    pub key: VerifierKey,
    /// Where it is served, if the policy says so.
    pub url: Option<String>,
}

/// A witness that may count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its name in this policy; bytes, because the specification compares bytes.
    pub name: Vec<u8>,
    /// Its key.
    pub key: VerifierKey,
    /// Where it takes checkpoints, if the policy says so.
    pub url: Option<String>,
}

/// What counts as witnessed when at least so many of its members have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name in this policy.
    pub name: Vec<u8>,
    /// How many members it takes, at least one.
    pub threshold: usize,
    /// The names of witnesses and groups above it.
    pub members: Vec<Vec<u8>>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The logs, in the file's order; none where the verifier knows the log from elsewhere.
    pub logs: Vec<Log>,
    /// The witnesses, in the file's order.
    pub witnesses: Vec<Witness>,
    /// The groups, in the file's order: a group stands after its members.
    pub groups: Vec<Group>,
    /// The witness or group that must have witnessed; `None` for `quorum none`.
    pub quorum: Option<Vec<u8>>,
}

/// A checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The names of the witnesses that signed, as the policy names them, each with its time in Unix seconds.
    pub witnesses: Vec<(String, u64)>,
    /// The names of the groups that have witnessed it.
    pub groups: Vec<String>,
}

/// Names as people read them.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Policy {
    /// Reads a policy.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let mut reader = Reader::default();
        if text.len() > POLICY_BYTES_MAX {
            return Err(reader.wrong("a policy has at most 1,000,000 bytes"));
        }
        // The last line feed ends a line and begins none.
        for line in text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n') {
            reader.line += 1;
            reader.read(line)?;
        }
        if !reader.quorum {
            return Err(reader.wrong("there is no `quorum` line"));
        }
        Ok(reader.policy)
    }

    /// Checks a note: signed by a log of the policy, or by `log` where the policy lists none, and witnessed as it says.
    pub fn accept(&self, note: &Note, log: Option<&VerifierKey>) -> Result<Accepted, Unaccepted> {
        let checkpoint = self.accept_log(note, log)?;
        let mut holds: BTreeSet<&[u8]> = BTreeSet::new();
        let mut witnesses = Vec::new();
        for witness in &self.witnesses {
            if let Some(at_s) = note.signed_by(&witness.key)? {
                holds.insert(&witness.name);
                witnesses.push((shown(&witness.name), at_s));
            }
        }
        let mut groups = Vec::new();
        for group in &self.groups {
            if group.members.iter().filter(|member| holds.contains(member.as_slice())).count() >= group.threshold {
                holds.insert(&group.name);
                groups.push(shown(&group.name));
            }
        }
        match &self.quorum {
            Some(quorum) if !holds.contains(quorum.as_slice()) => {
                Err(Unaccepted::Quorum { quorum: shown(quorum), signed: witnesses.len(), listed: self.witnesses.len() })
            }
            _ => Ok(Accepted { checkpoint, witnesses, groups }),
        }
    }

    fn accept_log(&self, note: &Note, log: Option<&VerifierKey>) -> Result<Checkpoint, Unaccepted> {
        if self.logs.is_empty() {
            return Ok(Checkpoint::of_note(note, log.ok_or(Unaccepted::NoLog)?)?);
        }
        let checkpoint = Checkpoint::parse(&note.text)?;
        let mut of_name = self.logs.iter().filter(|log| log.key.name() == checkpoint.origin).peekable();
        if of_name.peek().is_none() {
            return Err(Unaccepted::Log(checkpoint.origin));
        }
        // A log that changes its key is listed with both for a while; one of them is enough, none may be false.
        let mut signed = false;
        for log in of_name {
            signed |= note.signed_by(&log.key)?.is_some();
        }
        if signed { Ok(checkpoint) } else { Err(NoteError::Signature.into()) }
    }

    /// The policy "so many countries of these": a group for each country, of which one witness is enough, and a group
    /// `countries` over them. The text of the file; countries and witnesses are written in the order of their names.
    pub fn of_countries(logs: &[VerifierKey], witnesses: &[(String, VerifierKey)], countries: usize) -> String {
        let mut text = String::new();
        for log in logs {
            let _ = writeln!(text, "log {log}");
        }
        let mut by_country: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (country, key) in witnesses {
            let _ = writeln!(text, "witness {} {key}", key.name());
            by_country.entry(country).or_default().insert(key.name().to_owned());
        }
        for (country, names) in &by_country {
            let _ = writeln!(text, "group {country} any {}", Vec::from_iter(names.iter().cloned()).join(" "));
        }
        if countries == 0 || by_country.is_empty() {
            text.push_str("quorum none\n");
        } else {
            let names = Vec::from_iter(by_country.keys().copied()).join(" ");
            let _ = writeln!(text, "group countries {countries} {names}\nquorum countries");
        }
        text
    }
}

/// What is known while a file is read.
#[derive(Default)]
struct Reader {
    line: usize,
    policy: Policy,
    /// Every name, and whether a group holds it already.
    names: BTreeMap<Vec<u8>, bool>,
    log_keys: BTreeSet<Vec<u8>>,
    witness_keys: BTreeSet<Vec<u8>>,
    quorum: bool,
}

impl Reader {
    fn wrong(&self, message: impl Into<String>) -> PolicyError {
        PolicyError { line: self.line.max(1), message: message.into() }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), PolicyError> {
        if let Some(byte) = line.iter().find(|byte| matches!(byte, 0..=8 | 10..=0x1f | 0x7f)) {
            return Err(self.wrong(format!("the control character {byte:#04x} is not allowed")));
        }
        let items: Vec<&[u8]> =
            line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] => self.log(key, None),
            [b"log", key, url] => self.log(key, Some(url)),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url)),
            [b"group", name, threshold, members @ ..] => self.group(name, threshold, members),
            [b"quorum", name] => self.quorum(name),
            [word @ (b"log" | b"witness" | b"group" | b"quorum"), ..] => {
                Err(self.wrong(format!("`{}` has too few or too many words", shown(word))))
            }
            [word, ..] => Err(self.wrong(format!("`{}` is none of `log`, `witness`, `group`, `quorum`", shown(word)))),
        }
    }

    fn key(&self, text: &[u8], says: &str, kinds: &[KeyKind]) -> Result<VerifierKey, PolicyError> {
        let text = std::str::from_utf8(text).map_err(|_| self.wrong("the key's name is not UTF-8"))?;
        let key = VerifierKey::parse(text).map_err(|error| self.wrong(error.to_string()))?;
        if kinds.contains(&key.kind()) { Ok(key) } else { Err(self.wrong(says)) }
    }

    fn name(&mut self, name: &[u8]) -> Result<(), PolicyError> {
        if name == b"none" {
            return Err(self.wrong("`none` is not a name, it means no witness"));
        }
        match self.names.insert(name.to_vec(), false) {
            None => Ok(()),
            Some(_) => Err(self.wrong(format!("the name `{}` is taken", shown(name)))),
        }
    }

    fn bounded(&self, entries: usize) -> Result<(), PolicyError> {
        if entries < ENTRIES_MAX { Ok(()) } else { Err(self.wrong(format!("there are more than {ENTRIES_MAX}"))) }
    }

    fn log(&mut self, key: &[u8], url: Option<&[u8]>) -> Result<(), PolicyError> {
        self.bounded(self.policy.logs.len())?;
        let key = self.key(key, "a log's key has type 0x01", &[KeyKind::Ed25519])?;
        if !self.log_keys.insert(key.public_bytes().to_vec()) {
            return Err(self.wrong("this log's key stands on an earlier line"));
        }
        self.policy.logs.push(Log { key, url: url.map(shown) });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&[u8]>) -> Result<(), PolicyError> {
        self.bounded(self.policy.witnesses.len())?;
        let says = "a witness's key has type 0x04 or 0x06";
        let key = self.key(key, says, &[KeyKind::Cosignature, KeyKind::MlDsaCosignature])?;
        if !self.witness_keys.insert(key.public_bytes().to_vec()) {
            return Err(self.wrong("this witness's key stands on an earlier line"));
        }
        self.name(name)?;
        self.policy.witnesses.push(Witness { name: name.to_vec(), key, url: url.map(shown) });
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], members: &[&[u8]]) -> Result<(), PolicyError> {
        self.bounded(self.policy.groups.len())?;
        if members.is_empty() {
            return Err(self.wrong("a group has members"));
        }
        for member in members {
            match self.names.get_mut(*member) {
                None => return Err(self.wrong(format!("`{}` is not defined above", shown(member)))),
                Some(true) => return Err(self.wrong(format!("`{}` is in a group already", shown(member)))),
                Some(held) => *held = true,
            }
        }
        let threshold = match threshold {
            b"any" => 1,
            b"all" => members.len(),
            digits => self.threshold(digits, members.len())?,
        };
        self.name(name)?;
        let members = members.iter().map(|member| member.to_vec()).collect();
        self.policy.groups.push(Group { name: name.to_vec(), threshold, members });
        Ok(())
    }

    fn threshold(&self, digits: &[u8], members: usize) -> Result<usize, PolicyError> {
        let plain = digits.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(digits).ok().filter(|_| plain).and_then(|digits| digits.parse().ok());
        number.filter(|number| (1..=members).contains(number)).ok_or_else(|| {
            self.wrong(format!("`{}` is neither `any`, `all` nor a number from 1 to {members}", shown(digits)))
        })
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), PolicyError> {
        if std::mem::replace(&mut self.quorum, true) {
            return Err(self.wrong("there is a second `quorum` line"));
        }
        if name == b"none" {
            return Ok(());
        }
        if !self.names.contains_key(name) {
            return Err(self.wrong(format!("`{}` is not defined above", shown(name))));
        }
        self.policy.quorum = Some(name.to_vec());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
