//! A node's whole state in one file, and back: the database as it is at one instant, what is kept for applications, and, where the owner
//! wants it, the keys, sealed by a passphrase.
//!
//! A node may run while it is backed up: the database is copied by itself in one transaction, and kept content never changes under its
//! name. The tiles of the log are absent: they are made from the database. What comes back starts behind what it was: its witnesses are
//! asked before anything is signed (`node/restored.rs`).

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::{now_ms, random};
use crate::config::Config;
use crate::keys::check_private;
use crate::store::Store;

/// What the file begins with.
const MAGIC: &[u8] = b"polder-backup-1\n";
/// Longest manifest that is read, in bytes; a million files fit.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Largest sealed keys, in bytes.
const KEYS_BYTES_MAX: u64 = 1 << 20;
/// Rounds of PBKDF2 with HMAC-SHA256 over the passphrase, as OWASP recommends them (2023).
const ROUNDS: u32 = 600_000;
/// The mark of a state that was restored, in its folder.
pub const MARK: &str = "restored.json";
/// The database in the state folder and in a backup.
const DATABASE: &str = "node.db";

/// Why a state cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("`{path}`: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds.
    #[error("{0}")]
    Content(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

fn of(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    |source| BackupError::File { path: path.to_owned(), source }
}

/// What a backup holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The node.
    pub node: String,
    /// When it was made, in Unix milliseconds.
    pub at_ms: u64,
    /// How many leaves the log has in it.
    pub leaves: u64,
    /// The files, in the order in which they follow.
    pub files: Vec<Entry>,
    /// How the keys are sealed, where they are in it: they follow the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<SealedKeys>,
}

/// One file of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its path in the state folder.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 over it, in hexadecimal digits.
    pub sha256: String,
}

/// How keys are sealed: ChaCha20-Poly1305 under PBKDF2 of a passphrase.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKeys {
    /// The salt of the passphrase, in hexadecimal digits.
    pub salt: String,
    /// Its rounds.
    pub rounds: u32,
    /// The nonce, in hexadecimal digits.
    pub nonce: String,
    /// The length of what is sealed, in bytes, with its tag.
    pub bytes: u64,
}

/// The mark of a restored state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// When the backup was made, in Unix milliseconds.
    pub at_ms: u64,
    /// How many leaves the log had then.
    pub leaves: u64,
    /// Witnesses that need not be asked, because their operator says that they are gone for good.
    #[serde(default)]
    pub without: Vec<String>,
}

/// Writes the state of a node into a file, which must not be there yet.
pub async fn write(config: &Config, out: &Path, passphrase: Option<&str>) -> Result<Manifest, BackupError> {
    let state = &config.state;
    let database = state.join(DATABASE);
    if !database.exists() {
        return Err(BackupError::Content(format!("`{}` holds no state of a node", state.display())));
    }
    let copy = Scratch(out.with_extension("database"));
    drop(fs::remove_file(&copy.0));
    let store = Store::open(&database).await?;
    let leaves = store.copy_into(&copy.0).await;
    store.close().await;
    let leaves = leaves?;
    let mut files = vec![(DATABASE.to_owned(), copy.0.clone())];
    files.extend(content_files(state)?);
    let mut entries = Vec::new();
    let mut kept = Vec::new();
    for (name, path) in files {
        // What was deleted meanwhile is not missed: a start forgets what has no file.
        let Some(entry) = entry(&name, &path)? else { continue };
        entries.push(entry);
        kept.push(path);
    }
    let sealed = passphrase.map(|passphrase| seal(&state.join("keys"), passphrase)).transpose()?;
    let (keys, sealed) = sealed.unzip();
    let node = config.node.to_string();
    let manifest = Manifest { node, at_ms: now_ms(), leaves, files: entries, keys };
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(out).map_err(of(out))?;
    let mut file = BufWriter::new(file);
    let text = serde_json::to_vec(&manifest).map_err(|error| BackupError::Content(error.to_string()))?;
    let written = (|| {
        file.write_all(MAGIC)?;
        file.write_all(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes())?;
        file.write_all(&text)?;
        for (entry, path) in manifest.files.iter().zip(&kept) {
            let mut from = File::open(path)?.take(entry.bytes);
            if io::copy(&mut from, &mut file)? != entry.bytes {
                return Err(io::Error::other(format!("`{}` became shorter while it was read", entry.path)));
            }
        }
        file.write_all(&sealed.unwrap_or_default())?;
        file.flush()?;
        file.get_ref().sync_all()
    })();
    if written.is_err() {
        drop(fs::remove_file(out));
    }
    written.map_err(of(out))?;
    Ok(manifest)
}

/// A file that goes with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// What is kept for applications, whose keys are not among it.
fn content_files(state: &Path) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let (mut found, mut folders) = (Vec::new(), vec![state.join("content")]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(of(&folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(of(&folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(of(&folder))?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Some(name) = path.strip_prefix(state).ok().and_then(Path::to_str)
            {
                found.push((name.to_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn entry(name: &str, path: &Path) -> Result<Option<Entry>, BackupError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(of(path))?,
    };
    let mut hasher = Hashing { hasher: Sha256::new(), bytes: 0 };
    io::copy(&mut file, &mut hasher).map_err(of(path))?;
    Ok(Some(Entry { path: name.to_owned(), bytes: hasher.bytes, sha256: hex::encode(hasher.hasher.finalize()) }))
}

/// Counts and digests what is written.
struct Hashing {
    hasher: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sealing(passphrase: &str, salt: &[u8], rounds: u32) -> Result<LessSafeKey, BackupError> {
    let odd = || BackupError::Content("the keys are sealed in a way that is not known here".to_owned());
    let mut key = [0; 32];
    let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= 100 * ROUNDS).ok_or_else(odd)?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut key);
    UnboundKey::new(&CHACHA20_POLY1305, &key).map(LessSafeKey::new).map_err(|_| odd())
}

/// The key files, sealed.
fn seal(folder: &Path, passphrase: &str) -> Result<(SealedKeys, Vec<u8>), BackupError> {
    let mut keys = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(of(folder))? {
        let path = entry.map_err(of(folder))?.path();
        let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default().to_owned();
        if name.ends_with(".key") {
            keys.insert(name, fs::read_to_string(&path).map_err(of(&path))?);
        }
    }
    let no_random = |error: io::Error| BackupError::Content(format!("no randomness: {error}"));
    let (salt, nonce): ([u8; 16], [u8; 12]) = (random().map_err(no_random)?, random().map_err(no_random)?);
    let mut sealed = serde_json::to_vec(&keys).map_err(|error| BackupError::Content(error.to_string()))?;
    sealing(passphrase, &salt, ROUNDS)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(MAGIC), &mut sealed)
        .map_err(|_| BackupError::Content("the keys could not be sealed".to_owned()))?;
    let bytes = u64::try_from(sealed.len()).unwrap_or(u64::MAX);
    Ok((SealedKeys { salt: hex::encode(salt), rounds: ROUNDS, nonce: hex::encode(nonce), bytes }, sealed))
}

/// Reads a backup into the state folder of a configuration, which must hold no state yet. Keys that lie there already stay.
pub fn restore(
    config: &Config,
    from: &Path,
    passphrase: Option<&str>,
    without: Vec<String>,
) -> Result<Manifest, BackupError> {
    let state = &config.state;
    if state.join(DATABASE).exists() {
        let message =
            format!("`{}` holds a state already: restore into a new folder, or move it away", state.display());
        return Err(BackupError::Content(message));
    }
    let mut file = BufReader::new(File::open(from).map_err(of(from))?);
    let manifest = manifest(&mut file, from)?;
    if manifest.node != config.node.as_str() {
        let (held, wanted) = (&manifest.node, &config.node);
        return Err(BackupError::Content(format!("the backup is of `{held}`, and the configuration of `{wanted}`")));
    }
    private_folder(state)?;
    // Everything is put beside its place first: what breaks off leaves no half of a state.
    let beside = state.join("restoring");
    drop(fs::remove_dir_all(&beside));
    for entry in &manifest.files {
        unpack(&mut file, entry, &beside)?;
    }
    if let Some(keys) = &manifest.keys {
        restore_keys(&mut file, keys, passphrase, &state.join("keys"))?;
    }
    if !state.join("keys").join("identity.key").exists() {
        let message = format!(
            "the node's keys are not in this backup: put them into `{}` first, and restore again",
            state.join("keys").display()
        );
        return Err(BackupError::Content(message));
    }
    let mark = Mark { at_ms: manifest.at_ms, leaves: manifest.leaves, without };
    let text = serde_json::to_vec(&mark).map_err(|error| BackupError::Content(error.to_string()))?;
    let path = state.join(MARK);
    // The mark is there before the state is: no start goes on without asking.
    crate::keys::write_private(&path, &text).map_err(of(&path))?;
    let content = beside.join("content");
    if content.exists() {
        let place = state.join("content");
        fs::rename(&content, &place).map_err(of(&place))?;
    }
    let database = state.join(DATABASE);
    fs::rename(beside.join(DATABASE), &database).map_err(of(&database))?;
    drop(fs::remove_dir_all(&beside));
    Ok(manifest)
}

/// The manifest at the beginning of a backup.
fn manifest(file: &mut impl Read, path: &Path) -> Result<Manifest, BackupError> {
    let content = |message: &str| BackupError::Content(format!("`{}`: {message}", path.display()));
    let mut head = [0; MAGIC.len() + 8];
    file.read_exact(&mut head).map_err(|_| content("this is no backup of a node"))?;
    let (magic, length) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(content("this is no backup of a node, or one of a version that is not known here"));
    }
    let length = u64::from_be_bytes(length.try_into().map_err(|_| content("it is damaged"))?);
    if length > MANIFEST_BYTES_MAX {
        return Err(content("its list of files is longer than any"));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(of(path))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| content(&error.to_string()))?;
    if !manifest.files.iter().any(|entry| entry.path == DATABASE) {
        return Err(content("it has no database"));
    }
    Ok(manifest)
}

/// Writes one file of a backup under a folder; its path must stay there, and its digest be the one that the manifest has.
fn unpack(file: &mut impl Read, entry: &Entry, folder: &Path) -> Result<(), BackupError> {
    let parts = Path::new(&entry.path).components();
    let plain = parts.clone().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain || !(entry.path == DATABASE || entry.path.starts_with("content/")) {
        return Err(BackupError::Content(format!("`{}` is no path of a state", entry.path)));
    }
    let path = folder.join(&entry.path);
    if let Some(parent) = path.parent() {
        private_folder(parent)?;
    }
    let out = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(of(&path))?;
    let mut hasher = Hashing { hasher: Sha256::new(), bytes: 0 };
    let mut tee = Tee(BufWriter::new(out), &mut hasher);
    io::copy(&mut file.take(entry.bytes), &mut tee).map_err(of(&path))?;
    tee.flush().map_err(of(&path))?;
    tee.0.get_ref().sync_all().map_err(of(&path))?;
    match hasher.bytes == entry.bytes && hex::encode(hasher.hasher.finalize()) == entry.sha256 {
        true => Ok(()),
        false => Err(BackupError::Content(format!("`{}` in the backup is damaged or cut off", entry.path))),
    }
}

/// Writes to a file and to its digest.
struct Tee<'a>(BufWriter<File>, &'a mut Hashing);

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.write_all(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn restore_keys(
    file: &mut impl Read,
    keys: &SealedKeys,
    passphrase: Option<&str>,
    folder: &Path,
) -> Result<(), BackupError> {
    let content = |message: &str| BackupError::Content(message.to_owned());
    let Some(passphrase) = passphrase else { return Ok(()) };
    let mut sealed = Vec::new();
    file.take(keys.bytes.min(KEYS_BYTES_MAX)).read_to_end(&mut sealed).map_err(of(folder))?;
    let damaged = || content("the sealed keys in the backup are damaged");
    let salt = hex::decode(&keys.salt).map_err(|_| damaged())?;
    let mut nonce = [0; 12];
    hex::decode_to_slice(&keys.nonce, &mut nonce).map_err(|_| damaged())?;
    let opened = sealing(passphrase, &salt, keys.rounds)?
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(MAGIC), &mut sealed)
        .map_err(|_| content("the passphrase is not the one that sealed the keys, or they are damaged"))?;
    let files: std::collections::BTreeMap<String, String> = serde_json::from_slice(opened).map_err(|_| damaged())?;
    private_folder(folder)?;
    for (name, text) in files {
        let odd = name.contains('/') || !name.ends_with(".key");
        let path = folder.join(&name);
        if odd {
            return Err(damaged());
        }
        if !path.exists() {
            crate::keys::write_private(&path, text.as_bytes()).map_err(of(&path))?;
        }
    }
    Ok(())
}

fn private_folder(folder: &Path) -> Result<(), BackupError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(of(folder))
}

/// The passphrase in a file, which only its owner may read.
pub fn passphrase(path: &Path) -> Result<String, BackupError> {
    check_private(path).map_err(|error| BackupError::Content(error.to_string()))?;
    let text = fs::read_to_string(path).map_err(of(path))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    match line.chars().count() {
        12.. => Ok(line),
        _ => Err(BackupError::Content(
            "a passphrase has at least 12 characters, on the first line of its file".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
