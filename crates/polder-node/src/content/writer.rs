//! Something on its way into the content store, within the quota.
//!
//! Room is taken as bytes come, so that two writers cannot both have the last of it; what is dropped gives its room back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blob::{BlobWriter, path_of};
use super::{ContentError, Inner, Kept, THING_BYTES, cost, remove_file};
use crate::store::ContentRow;

/// A part of the quota that is taken; dropping it gives it back.
pub(super) struct Taken(Arc<Inner>, u64);

impl Taken {
    pub(super) fn none(inner: &Arc<Inner>) -> Self {
        Self(Arc::clone(inner), 0)
    }

    /// Takes more, if it is there.
    pub(super) fn more(&mut self, bytes: u64) -> Result<(), ContentError> {
        let bytes_max = self.0.limits.bytes_max;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= bytes_max);
        let taken = self.0.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.map_err(|_| ContentError::Full { bytes_max })?;
        self.1 = self.1.saturating_add(bytes);
        Ok(())
    }

    /// What was taken stays taken, for a thing that is kept now.
    pub(super) fn stays(mut self) {
        self.1 = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.give_back(self.1);
    }
}

/// Something on its way into the store.
pub struct ContentWriter {
    row: ContentRow,
    note: Vec<u8>,
    blob: BlobWriter,
    taken: Taken,
}

impl ContentWriter {
    pub(super) async fn begin(inner: &Arc<Inner>, row: ContentRow, note: Vec<u8>) -> Result<Self, ContentError> {
        let mut taken = Taken::none(inner);
        taken.more(THING_BYTES)?;
        let blob = BlobWriter::create(&inner.folder, &row.blob, inner.blob_key(&row)?).await?;
        Ok(Self { row, note, blob, taken })
    }

    /// Takes more bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.taken.more(length)?;
        self.row.bytes = self.row.bytes.saturating_add(length);
        Ok(self.blob.write(bytes).await?)
    }

    /// How many bytes were taken so far.
    pub fn bytes(&self) -> u64 {
        self.row.bytes
    }

    /// Says something else of the thing than when it was begun.
    pub fn set_note(&mut self, note: Vec<u8>) {
        self.note = note;
    }

    /// Keeps it no longer than this, counted from when it was begun, in milliseconds.
    pub fn keep_for(&mut self, keep_ms: u64) {
        self.row.expires_ms = self.row.expires_ms.min(self.row.created_ms.saturating_add(keep_ms));
    }

    /// Ends it: from here on it is kept, on disk, and an older thing of its id is gone.
    pub async fn finish(self) -> Result<Kept, ContentError> {
        let Self { mut row, note, blob, mut taken } = self;
        let inner = Arc::clone(&taken.0);
        row.note = inner.sealed_note(&row.kind, &row.project, &row.id, &note)?;
        taken.more(row.note.len() as u64)?;
        blob.finish().await?;
        match inner.store.keep_content(&row).await {
            Ok(old) => {
                taken.stays();
                if let Some(old) = old {
                    inner.give_back(cost(&old));
                    remove_file(&path_of(&inner.folder, &old.blob)).await?;
                }
            }
            Err(error) => {
                remove_file(&path_of(&inner.folder, &row.blob)).await?;
                return Err(error.into());
            }
        }
        inner.kept(row)
    }
}
