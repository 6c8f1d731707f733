//! Receipts in other people's forms, with the files beside them.

use std::path::{Path, PathBuf};

use polder_core::check::Check;
use polder_core::dsse::statement_type;
use polder_core::export::{self, Anchors, Beside, Held};
use polder_core::note::VerifierKey;
use polder_core::receipt;

use super::{Arguments, read_members};
use crate::commands::log::says as says_change;
use crate::failure::{Failure, of_file};

/// What the file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Our own JSON, or nothing that is known.
    Receipt,
    /// A C2SP `tlog-proof`.
    TlogProof,
    /// A COSE_Sign1.
    Cose,
}

impl Form {
    /// Looks at the first bytes.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xd2, ..] => Self::Cose,
            _ if bytes.starts_with(b"c2sp.org/tlog-proof") => Self::TlogProof,
            _ => Self::Receipt,
        }
    }
}

/// Verifies the file with what stands beside it.
pub fn verify(bytes: &[u8], form: Form, arguments: &Arguments) -> Result<Result<Held, receipt::Failure>, Failure> {
    let tables = optional(&beside(&arguments.receipt, ".tables"))?;
    let checked = verify_alone(bytes, form, arguments)?;
    Ok(match (checked, tables) {
        (Ok(mut held), Some(tables)) => {
            // Without the statement nothing says which tables they should be.
            let checked =
                held.statement.as_deref().map(|statement| export::check_tables(statement, &tables)).transpose();
            checked.map(|checked| {
                held.passed.extend(checked.map(|()| Check::Tables));
                held
            })
        }
        (checked, _) => checked,
    })
}

fn verify_alone(bytes: &[u8], form: Form, arguments: &Arguments) -> Result<Result<Held, receipt::Failure>, Failure> {
    let anchors = anchors(arguments)?;
    if form == Form::Cose {
        return Ok(export::verify_cose(bytes, &anchors));
    }
    let read = |ending: &str| optional(&beside(&arguments.receipt, ending));
    let (statement, leaf, dsse) = (read(".statement")?, read(".leaf")?, read(".dsse")?);
    let beside = Beside { statement: statement.as_deref(), leaf: leaf.as_deref(), dsse: dsse.as_deref() };
    Ok(export::verify_tlog_proof(bytes, beside, &anchors))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    PathBuf::from(name)
}

/// A file's bytes where it is there; one that cannot be read is an error, not an absence.
fn optional(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_file(path)(error)),
    }
}

fn anchors(arguments: &Arguments) -> Result<Anchors, Failure> {
    let mut texts = arguments.vkey.clone();
    // The key beside the file counts only where the verifier brings none: it shows that the files belong together.
    if texts.is_empty() && arguments.members.is_none() && arguments.policy.is_none() {
        let found = optional(&beside(&arguments.receipt, ".vkey"))?;
        texts.extend(found.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()));
    }
    let parse = |text: &String| VerifierKey::parse(text.trim()).map_err(|e| Failure::new(format!("`{text}`: {e}")));
    let keys = texts.iter().map(parse).collect::<Result<_, _>>()?;
    let mut members = arguments.members.as_deref().map(member_keys).transpose()?;
    if let Some(members) = &mut members {
        // Keys that a member's log had before or since; whether they may be believed is looked at afterwards.
        members.extend(super::revoked::Lives::read(arguments)?.log_keys());
    }
    Ok(Anchors { keys, members, policy: arguments.policy()? })
}

fn member_keys(path: &Path) -> Result<Vec<VerifierKey>, Failure> {
    let key = |card: polder_core::keys::NodeCard| {
        card.check().map_err(|e| Failure::new(e.to_string()))?;
        let key = card.key(polder_core::keys::Role::Log).map_err(|e| Failure::new(e.to_string()))?;
        Ok(VerifierKey::of_log(&card.node, key))
    };
    read_members(path)?.into_iter().map(key).collect()
}

/// What a receipt that holds says, in a sentence.
pub fn says(held: &Held) -> String {
    let said = held.statement.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    if let Some(said) = said.as_ref().and_then(says_change) {
        return format!(
            "at place {} of the log `{}`, which then had {} entries: {said}",
            held.index, held.log, held.size
        );
    }
    let kind = held.statement.as_deref().and_then(statement_type);
    let what = kind.map_or_else(|| "an entry whose statement is not shown".to_owned(), |kind| format!("a `{kind}`"));
    format!("{what} stands at place {} of the log `{}`, which then had {} entries", held.index, held.log, held.size)
}
