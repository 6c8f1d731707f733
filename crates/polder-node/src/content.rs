//! The content store: everything of a tenant that must be kept, such as stored responses, sealed at rest.
//!
//! Content lies in files under `state/content`, what is said of it in the database; both are sealed under a key of the tenant's,
//! made of the 32 bytes in `state/keys/content.key`. A project sees only its own things. Everything expires; what is deleted is
//! gone with its bytes. A file is whole or absent, and one that no row names is removed at the next start. Knowing what the
//! content means is absent: it is bytes here, and so is the note that is kept with it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use polder_core::ids::{ProjectId, TenantId};

use crate::clock::{now_ms, random};
use crate::keys::{KeyError, secret, write_private};
use crate::shutdown::Shutdown;
use crate::store::{ContentRow, Store, StoreError};

mod blob;
mod seal;
mod writer;

use blob::{BlobReader, path_of};
use seal::{TenantKey, ThingKey};
use writer::Taken;

pub use writer::ContentWriter;

/// How often expired content is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// What each thing counts beside its bytes and its note, so that many empty ones fill the quota too.
const THING_BYTES: u64 = 512;
/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// How many expired things are removed at once.
const SWEEP: u32 = 256;
/// What the folder's check file says, sealed: whoever can open it holds the right key.
const CHECK: &[u8] = b"polder/content/check/v1";

/// How much is kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentLimits {
    /// Most bytes of the tenant, with their notes.
    pub bytes_max: u64,
    /// Longest time that a thing is kept, in days.
    pub days: u32,
}

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A stored response, with what led to it.
    Response,
    /// A file that an application brought or that a batch made.
    File,
    /// A batch's state.
    Batch,
    /// What some lines of a batch under way came to.
    Part,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::File => "file",
            Self::Batch => "batch",
            Self::Part => "part",
        }
    }
}

/// Why something cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The tenant's quota is used up.
    #[error(
        "the {bytes_max} bytes that are kept for this tenant are used up: delete something, or raise `bytes_max` in `[home.content]`"
    )]
    Full {
        /// The quota.
        bytes_max: u64,
    },
    /// A seal does not hold.
    #[error(
        "what is kept cannot be opened: its bytes were changed, or they were sealed with another key than `keys/content.key`"
    )]
    Damaged,
    /// The folder was made under another key.
    #[error(
        "`{0}` was sealed with another key than `keys/content.key`: bring that key back, or remove the folder to begin anew without what it holds"
    )]
    WrongKey(PathBuf),
    /// The note is too long.
    #[error("what is said of a kept thing is longer than {NOTE_BYTES_MAX} bytes")]
    Note,
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files.
    #[error("the folder `content` under `state` failed: {0}")]
    File(#[from] std::io::Error),
}

/// A thing to be kept.
#[derive(Debug, Clone)]
pub struct New {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub project: ProjectId,
    /// Its id within project and kind; an older thing of this id gives way.
    pub id: String,
    /// What is said of it, such as a file's name; sealed.
    pub note: Vec<u8>,
    /// How long it is kept, in milliseconds; never longer than the limit.
    pub keep_ms: Option<u64>,
}

/// A kept thing, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub project: ProjectId,
    /// Its id within project and kind.
    pub id: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Since when, in Unix milliseconds.
    pub created_ms: u64,
    /// Until when, in Unix milliseconds.
    pub expires_ms: u64,
    /// What is said of it.
    pub note: Vec<u8>,
}

/// Which things of a kind are listed.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Those behind this id; from the beginning where absent.
    pub after: Option<&'a str>,
    /// Whether the newest come first.
    pub newest_first: bool,
    /// At most so many.
    pub count: u32,
}

/// One tenant's content. Clones share it.
#[derive(Clone)]
pub struct ContentStore(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    store: Store,
    key: TenantKey,
    limits: ContentLimits,
    used: AtomicU64,
}

impl Inner {
    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn sealed_note(&self, kind: &str, project: &str, id: &str, note: &[u8]) -> Result<Vec<u8>, ContentError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(ContentError::Note);
        }
        Ok(self.key.seal(&["note", kind, project, id], note)?)
    }

    fn blob_key(&self, row: &ContentRow) -> Result<ThingKey, ContentError> {
        let what = ["blob", &row.kind, &row.project, &row.id];
        self.key.thing(&row.blob, &what).map_err(|_| ContentError::Damaged)
    }

    fn kept(&self, row: ContentRow) -> Result<Kept, ContentError> {
        let what = ["note", &row.kind, &row.project, &row.id];
        let note = self.key.open(&what, &row.note).map_err(|_| ContentError::Damaged)?;
        let project = ProjectId::parse(&row.project).map_err(|_| ContentError::Damaged)?;
        let ContentRow { id, bytes, created_ms, expires_ms, .. } = row;
        Ok(Kept { project, id, bytes, created_ms, expires_ms, note })
    }

    async fn remove(&self, row: &ContentRow) -> Result<bool, ContentError> {
        // The bytes go first: a row without a file is forgotten at the next start, bytes without a row would have stayed.
        remove_file(&path_of(&self.folder, &row.blob)).await?;
        let forgotten = self.store.forget_content(&row.blob).await?;
        if forgotten {
            self.give_back(cost(row));
        }
        Ok(forgotten)
    }
}

/// What a thing counts against the quota.
fn cost(row: &ContentRow) -> u64 {
    let note = u64::try_from(row.note.len()).unwrap_or(u64::MAX);
    row.bytes.saturating_add(note).saturating_add(THING_BYTES)
}

async fn remove_file(path: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl ContentStore {
    /// Opens a tenant's content under a node's state folder, making key and folder where they are missing, and clears away what
    /// a crash left and what has expired.
    pub async fn open(
        state: &Path,
        tenant: &TenantId,
        limits: ContentLimits,
        store: Store,
        now_ms: u64,
    ) -> Result<Self, ContentError> {
        let node_key = secret(&state.join("keys").join("content.key"))?;
        let key = TenantKey::new(&node_key, tenant).map_err(|_| ContentError::Damaged)?;
        let folder = state.join("content");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        check_key(&folder, &key)?;
        let rows = store.content_rows(None).await?;
        let named: BTreeSet<PathBuf> = rows.iter().map(|row| path_of(&folder, &row.blob)).collect();
        clear_leftovers(&folder, &named)?;
        let inner = Arc::new(Inner { folder, store, key, limits, used: AtomicU64::new(rows.iter().map(cost).sum()) });
        let mut lost: usize = 0;
        for row in rows.iter().filter(|row| !path_of(&inner.folder, &row.blob).exists()) {
            inner.remove(row).await?;
            lost += 1;
        }
        if lost > 0 {
            tracing::warn!(lost, "kept things whose files are gone were forgotten");
        }
        let content = Self(inner);
        content.sweep(now_ms).await?;
        Ok(content)
    }

    /// The limits it holds to.
    pub fn limits(&self) -> ContentLimits {
        self.0.limits
    }

    /// How many bytes of the quota are used.
    pub fn used_bytes(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    /// Begins to keep something. Dropping the writer leaves nothing.
    pub async fn writer(&self, new: New, now_ms: u64) -> Result<ContentWriter, ContentError> {
        let longest = u64::from(self.0.limits.days).saturating_mul(DAY_MS);
        let keep_ms = new.keep_ms.map_or(longest, |keep| keep.min(longest));
        let row = ContentRow {
            kind: new.kind.as_str().to_owned(),
            project: new.project.to_string(),
            id: new.id,
            blob: random::<16>()?,
            bytes: 0,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(keep_ms),
            note: Vec::new(),
        };
        ContentWriter::begin(&self.0, row, new.note).await
    }

    /// Keeps something small at once.
    pub async fn put(&self, new: New, bytes: &[u8], now_ms: u64) -> Result<Kept, ContentError> {
        let mut writer = self.writer(new, now_ms).await?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    async fn row(
        &self,
        project: &ProjectId,
        kind: Kind,
        id: &str,
        now_ms: u64,
    ) -> Result<Option<ContentRow>, ContentError> {
        let row = self.0.store.content_row(project.as_str(), kind.as_str(), id).await?;
        Ok(row.filter(|row| row.expires_ms > now_ms))
    }

    /// What is said of a thing.
    pub async fn find(
        &self,
        project: &ProjectId,
        kind: Kind,
        id: &str,
        now_ms: u64,
    ) -> Result<Option<Kept>, ContentError> {
        self.row(project, kind, id, now_ms).await?.map(|row| self.0.kept(row)).transpose()
    }

    /// A thing and its content, piece by piece.
    pub async fn reader(
        &self,
        project: &ProjectId,
        kind: Kind,
        id: &str,
        now_ms: u64,
    ) -> Result<Option<(Kept, ContentReader)>, ContentError> {
        let mut before = None;
        // Where another thing took its place meanwhile, the row names another file: then once more.
        while let Some(row) = self.row(project, kind, id, now_ms).await?.filter(|row| before != Some(row.blob)) {
            let path = path_of(&self.0.folder, &row.blob);
            if let Some(blob) = BlobReader::open(&path, self.0.blob_key(&row)?).await? {
                return Ok(Some((self.0.kept(row)?, ContentReader(blob))));
            }
            before = Some(row.blob);
        }
        Ok(None)
    }

    /// A thing and its whole content.
    pub async fn get(
        &self,
        project: &ProjectId,
        kind: Kind,
        id: &str,
        now_ms: u64,
    ) -> Result<Option<(Kept, Vec<u8>)>, ContentError> {
        let Some((kept, mut reader)) = self.reader(project, kind, id, now_ms).await? else { return Ok(None) };
        let mut whole = Vec::with_capacity(usize::try_from(kept.bytes).unwrap_or_default().min(1 << 20));
        while let Some(piece) = reader.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(Some((kept, whole)))
    }

    /// A project's things of a kind. An unknown `after` lists nothing.
    pub async fn list(
        &self,
        project: &ProjectId,
        kind: Kind,
        page: Page<'_>,
        now_ms: u64,
    ) -> Result<Vec<Kept>, ContentError> {
        let after = match page.after {
            None => None,
            Some(id) => match self.row(project, kind, id, now_ms).await? {
                Some(row) => Some(row),
                None => return Ok(Vec::new()),
            },
        };
        let (project, kind) = (project.as_str(), kind.as_str());
        let listed = self.0.store.content_page(project, kind, now_ms, after.as_ref(), page.newest_first, page.count);
        listed.await?.into_iter().map(|row| self.0.kept(row)).collect()
    }

    /// Every thing of a kind, of whatever project: for taking work up again after a start.
    pub async fn every(&self, kind: Kind) -> Result<Vec<Kept>, ContentError> {
        let rows = self.0.store.content_rows(Some(kind.as_str())).await?;
        rows.into_iter().map(|row| self.0.kept(row)).collect()
    }

    /// Replaces what is said of a thing; whether it is there.
    pub async fn set_note(
        &self,
        project: &ProjectId,
        kind: Kind,
        id: &str,
        note: &[u8],
        now_ms: u64,
    ) -> Result<bool, ContentError> {
        let Some(row) = self.row(project, kind, id, now_ms).await? else { return Ok(false) };
        let sealed = self.0.sealed_note(&row.kind, &row.project, &row.id, note)?;
        let (before, after) = (row.note.len() as u64, sealed.len() as u64);
        let mut taken = Taken::none(&self.0);
        taken.more(after.saturating_sub(before))?;
        let there = self.0.store.note_content(&row.project, &row.kind, &row.id, &sealed).await?;
        if there {
            taken.stays();
            self.0.give_back(before.saturating_sub(after));
        }
        Ok(there)
    }

    /// Removes a thing and its bytes; whether it was there.
    pub async fn delete(&self, project: &ProjectId, kind: Kind, id: &str, now_ms: u64) -> Result<bool, ContentError> {
        match self.row(project, kind, id, now_ms).await? {
            Some(row) => self.0.remove(&row).await,
            None => Ok(false),
        }
    }

    /// Removes what has expired at an instant; how many things that were.
    pub async fn sweep(&self, now_ms: u64) -> Result<usize, ContentError> {
        let mut removed = 0;
        loop {
            let rows = self.0.store.expired_content(now_ms, SWEEP).await?;
            if rows.is_empty() {
                return Ok(removed);
            }
            for row in &rows {
                removed += usize::from(self.0.remove(row).await?);
            }
        }
    }
}

/// A kept thing's content, piece by piece.
pub struct ContentReader(BlobReader);

impl ContentReader {
    /// The next piece, at most 64 KiB; `None` after the last. Nothing of a piece is given out before its seal held.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ContentError> {
        self.0.next().await
    }
}

/// Compares the key with the one that the folder was made under.
fn check_key(folder: &Path, key: &TenantKey) -> Result<(), ContentError> {
    let path = folder.join("check");
    match fs::read(&path) {
        Ok(sealed) => match key.open(&["check"], &sealed) {
            Ok(text) if text == CHECK => Ok(()),
            _ => Err(ContentError::WrongKey(folder.to_owned())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(write_private(&path, &key.seal(&["check"], CHECK)?)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes files that no row names: what a crash left half done.
fn clear_leftovers(folder: &Path, named: &BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_none_or(|name| name != "check") && !named.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes content whose time has come, now and then.
pub async fn sweeps(content: ContentStore, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {
                if let Err(error) = content.sweep(now_ms()).await {
                    tracing::error!(%error, "expired content could not be removed");
                }
            }
            () = shutdown.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests;
