//! A node's key files: five Ed25519 seeds and a home's content key under the state folder, made once, readable by their owner
//! only.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey};
use polder_core::ids::NodeId;
use polder_core::keys::{NodeCard, ROLES, Role};

use crate::clock::random;

/// Why a node's keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("key file `{path}`: {message}")]
pub struct KeyError {
    path: PathBuf,
    message: String,
}

impl KeyError {
    /// What is wrong with a file.
    pub fn of(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }
}

/// A node's secret keys and its card.
#[derive(Clone)]
pub struct NodeKeys {
    /// The identity's secret key, which signs cards and histories only.
    pub identity: SigningKey,
    keys: BTreeMap<Role, SigningKey>,
    /// The public half, signed by the identity.
    pub card: NodeCard,
}

impl NodeKeys {
    /// Opens the keys under `folder`, making those that are missing.
    pub fn open_or_create(folder: &Path, node: &NodeId) -> Result<Self, KeyError> {
        let fail = |path: &Path, message: String| KeyError { path: path.to_owned(), message };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(|e| fail(folder, e.to_string()))?;
        let identity = seed(&folder.join("identity.key"))?;
        let mut keys = BTreeMap::new();
        for role in ROLES {
            let name = format!("{role:?}.key").to_lowercase();
            keys.insert(role, seed(&folder.join(name))?);
        }
        let public = keys.iter().map(|(role, key)| (*role, key.verifying_key().to_bytes())).collect();
        let card = NodeCard::sign(node.clone(), &identity, &public).map_err(|e| fail(folder, e.to_string()))?;
        Ok(Self { identity, keys, card })
    }

    /// Names another key for a role in the card: one that lies in a token.
    pub fn name(&mut self, role: Role, public: VerifyingKey) -> Result<(), KeyError> {
        let mut keys: BTreeMap<Role, [u8; 32]> = self.card.keys.iter().map(|(role, held)| (*role, held.key)).collect();
        keys.insert(role, public.to_bytes());
        let card = NodeCard::sign(self.card.node.clone(), &self.identity, &keys);
        self.card = card.map_err(|e| KeyError::of(Path::new("identity.key"), e.to_string()))?;
        Ok(())
    }

    /// The secret key of a role. Every role has one: the map is filled from [`ROLES`].
    pub fn key(&self, role: Role) -> Result<&SigningKey, KeyError> {
        let missing =
            || KeyError { path: PathBuf::from(format!("{role:?}.key").to_lowercase()), message: "missing".into() };
        self.keys.get(&role).ok_or_else(missing)
    }
}

fn seed(path: &Path) -> Result<SigningKey, KeyError> {
    Ok(SigningKey::from_bytes(&secret(path)?))
}

/// The 32 secret bytes of a key file, made where it is missing.
pub fn secret(path: &Path) -> Result<[u8; 32], KeyError> {
    let fail = |message: String| KeyError { path: path.to_owned(), message };
    if !path.exists() {
        let seed: [u8; 32] = random().map_err(|e| fail(e.to_string()))?;
        write_private(path, hex::encode(seed).as_bytes()).map_err(|e| fail(e.to_string()))?;
    }
    check_private(path)?;
    let text = fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| fail("expected 64 hexadecimal digits".to_owned()))?;
    Ok(seed)
}

/// Refuses a file that others than its owner may read or write.
pub fn check_private(path: &Path) -> Result<(), KeyError> {
    let fail = |message: String| KeyError::of(path, message);
    let mode = fs::metadata(path).map_err(|e| fail(e.to_string()))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let next = format!("run `chmod 600 {}`, and change what it holds if somebody may have read it", path.display());
    Err(fail(format!("others than its owner may read or write it (mode {mode:03o}): {next}")))
}

/// The key in a file, where there is one.
pub fn existing_key(path: &Path) -> Result<Option<SigningKey>, KeyError> {
    if path.exists() { seed(path).map(Some) } else { Ok(None) }
}

/// A new key in a file. One that lies there already was made by a change that was not finished, and is used.
pub fn new_key(path: &Path) -> Result<SigningKey, KeyError> {
    seed(path)
}

/// Writes a file that only its owner may read. The file is whole or absent: it is written beside its place and moved there.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    drop(fs::remove_file(&beside));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
