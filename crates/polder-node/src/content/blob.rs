//! A sealed file: a mark, then chunks, each sealed with its number and with whether it is the last.
//!
//! It is written beside its place, synced and moved there, so that a file under its own name is whole. A reader holds one chunk
//! and gives it out only after its seal held. Which files there are is the database's to say.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ContentError;
use super::seal::{Name, TAG_BYTES, ThingKey};

/// Plain bytes of each chunk but the last, which may hold fewer.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// What every file begins with: the format and its version.
const MARK: &[u8; 8] = b"PLDRCNT1";

/// The file of a name.
pub(super) fn path_of(folder: &Path, name: &Name) -> PathBuf {
    folder.join(hex::encode(name))
}

/// A file on its way. Dropping it before its end leaves nothing.
pub(super) struct BlobWriter {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    folder: PathBuf,
    key: ThingKey,
    /// Plain bytes that wait for their chunk to be full.
    waiting: Vec<u8>,
    number: u64,
    done: bool,
}

impl BlobWriter {
    pub(super) async fn create(folder: &Path, name: &Name, key: ThingKey) -> std::io::Result<Self> {
        let path = path_of(folder, name);
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).await?;
        file.write_all(MARK).await?;
        let (folder, waiting) = (folder.to_owned(), Vec::new());
        Ok(Self { file, beside, path, folder, key, waiting, number: 0, done: false })
    }

    /// Takes more bytes. Full chunks go out once it is known that they are not the last.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            if self.waiting.len() == CHUNK_BYTES {
                self.chunk(false).await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    async fn chunk(&mut self, last: bool) -> std::io::Result<()> {
        let failed = |_| std::io::Error::other("sealing failed");
        self.key.seal(self.number, last, &mut self.waiting).map_err(failed)?;
        self.file.write_all(&self.waiting).await?;
        self.waiting.clear();
        self.number += 1;
        Ok(())
    }

    /// Ends the file and puts it in its place, on disk.
    pub(super) async fn finish(mut self) -> std::io::Result<()> {
        self.chunk(true).await?;
        self.file.flush().await?;
        self.file.sync_all().await?;
        tokio::fs::rename(&self.beside, &self.path).await?;
        self.done = true;
        File::open(&self.folder).await?.sync_all().await
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.done {
            drop(std::fs::remove_file(&self.beside));
        }
    }
}

/// A sealed file that is read from its beginning.
pub(super) struct BlobReader {
    file: File,
    key: ThingKey,
    number: u64,
    /// Sealed bytes that were read: one chunk, and the first byte of the next, which says that there is one.
    held: Vec<u8>,
    ended: bool,
}

impl BlobReader {
    /// Opens a file; `None` where there is none.
    pub(super) async fn open(path: &Path, key: ThingKey) -> Result<Option<Self>, ContentError> {
        let mut file = match File::open(path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut mark = [0; MARK.len()];
        let read = file.read_exact(&mut mark).await;
        if read.is_err() || mark != *MARK {
            return Err(ContentError::Damaged);
        }
        Ok(Some(Self { file, key, number: 0, held: Vec::new(), ended: false }))
    }

    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, ContentError> {
        if self.ended {
            return Ok(None);
        }
        let full = CHUNK_BYTES + TAG_BYTES;
        let wanted = u64::try_from(full + 1 - self.held.len()).unwrap_or(u64::MAX);
        (&mut self.file).take(wanted).read_to_end(&mut self.held).await?;
        let next = self.held.split_off(self.held.len().min(full));
        let mut chunk = std::mem::replace(&mut self.held, next);
        self.ended = self.held.is_empty();
        self.key.open(self.number, self.ended, &mut chunk).map_err(|_| ContentError::Damaged)?;
        self.number += 1;
        Ok(Some(chunk))
    }
}
