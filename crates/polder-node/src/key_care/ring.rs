//! Where a node's keys lie, and those of each role that count now.
//!
//! A key is found by its public half, under whatever name its file has at the moment, so that a crash in the middle of a change does no
//! harm. Which keys count is the history's to say; making them is absent.

use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use polder_core::keys::Role;
use polder_core::keys::history::KeyHistory;
use polder_core::note::Signs;

use super::CareError;
use crate::keys::existing_key;
use crate::pkcs11::{Token, TokenError};

/// The files in which a role's key may lie: in use, on its way, and before that.
pub(super) fn names(role: Role) -> [String; 3] {
    let role = format!("{role:?}").to_lowercase();
    [format!("{role}.key"), format!("{role}.next.key"), format!("{role}.old.key")]
}

/// Where the keys that sign lie.
pub(super) struct Places<'a> {
    pub folder: &'a Path,
    pub token: Option<&'a Arc<Token>>,
}

impl Places<'_> {
    /// The key with a public half, in a file.
    pub fn in_file(&self, role: Role, public: &[u8; 32]) -> Result<Option<SigningKey>, CareError> {
        for name in names(role) {
            let key = existing_key(&self.folder.join(name))?;
            if let Some(key) = key.filter(|key| key.verifying_key().as_bytes() == public) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The key with a public half, wherever it lies.
    pub fn find(&self, role: Role, public: &[u8; 32]) -> Result<Arc<dyn Signs>, CareError> {
        if let Some(key) = self.in_file(role, public)? {
            return Ok(Arc::new(key));
        }
        match self.token.map(|token| token.by_public(public)) {
            Some(Ok(key)) => Ok(Arc::new(key)),
            Some(Err(error)) if !matches!(error, TokenError::Key { .. }) => Err(error.into()),
            _ => Err(CareError::gone(role, public)),
        }
    }
}

/// The keys that count now, apart from the log's. Of each role the one in force is the first.
#[derive(Clone)]
pub struct Ring {
    /// What is shown in channels.
    pub transport: Vec<SigningKey>,
    /// What signs capabilities and declared facts.
    pub authority: Vec<SigningKey>,
    /// What cosigns others' logs: all of them do.
    pub witness: Vec<Arc<dyn Signs>>,
    /// Former transport keys that still lie there: whoever knows no newer one is told by them.
    pub former: Vec<SigningKey>,
}

impl Ring {
    /// The keys that count at an instant by a history.
    pub(super) fn at(history: &KeyHistory, places: &Places<'_>, now_ms: u64) -> Result<Self, CareError> {
        let of_files = |role: Role| {
            let find = |key: &[u8; 32]| places.in_file(role, key)?.ok_or_else(|| CareError::gone(role, key));
            history.in_force(role, now_ms).iter().map(find).collect::<Result<Vec<_>, CareError>>()
        };
        let (transport, authority) = (of_files(Role::Transport)?, of_files(Role::Authority)?);
        let witness = history.in_force(Role::Witness, now_ms);
        let witness = witness.iter().map(|key| places.find(Role::Witness, key)).collect::<Result<_, _>>()?;
        let [_, _, old] = names(Role::Transport);
        let former = existing_key(&places.folder.join(old))?;
        let former = former.into_iter().filter(|key| !transport.contains(key)).collect();
        Ok(Self { transport, authority, witness, former })
    }

    /// The public halves, to see whether anything has changed.
    pub(super) fn publics(&self) -> Vec<[u8; 32]> {
        let files = self.transport.iter().chain(&self.authority).chain(&self.former);
        let files = files.map(|key| key.verifying_key().to_bytes());
        files.chain(self.witness.iter().map(|key| key.public().to_bytes())).collect()
    }
}
