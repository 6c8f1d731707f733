//! The whole log looked at, from the first leaf to the last: `polder log check`.
//!
//! Every statement must be what its commitment says, every tile at rest what the leaves make, and the root the one that was signed.
//! What is wrong is named, not mended.

use polder_core::merkle;
use polder_core::statement::commitment;
use polder_core::statement::v1::Statement;
use polder_core::tiles::{Edge, Place, WIDTH, push_entry, tile_bytes};
use serde::Serialize;

use super::{Log, LogError};

/// Most findings that are named.
const NAMED_MAX: usize = 100;

/// What a look at the whole log found.
#[derive(Debug, Default, Serialize)]
pub struct Checked {
    /// How many leaves there are.
    pub leaves: u64,
    /// How many full tiles and bundles were compared.
    pub tiles: u64,
    /// How many leaves have a statement that was deleted, as another leaf says.
    pub deleted: u64,
    /// The first of what is wrong: each a leaf or a tile, and how.
    pub wrong: Vec<String>,
}

impl Checked {
    fn say(&mut self, wrong: String) {
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push(wrong);
        }
    }
}

impl Log {
    /// Looks at every leaf and every tile at rest. It reads the whole log: about a second for 100,000 leaves.
    pub async fn check(&self) -> Result<Checked, LogError> {
        let published = self.published();
        let size = published.edge.size();
        let (mut checked, mut edge, mut begun) = (Checked::default(), Edge::default(), Vec::new());
        let deleted = self.deleted().await?;
        let is_deleted = |place: u64| deleted.iter().any(|(first, last)| (*first..=*last).contains(&place));
        while edge.size() < size {
            let place = edge.size();
            let batch = match self.store.batch_at(place).await {
                Ok(Some(batch)) if batch.first == place => batch,
                Ok(_) => {
                    checked.say(format!("leaf {place}: it is missing"));
                    break;
                }
                Err(error) => {
                    checked.say(format!("leaf {place}: it cannot be read: {error}"));
                    break;
                }
            };
            if batch.leaves.len() != batch.commitments.len() {
                checked.say(format!("leaf {place}: its batch has {} statements", batch.leaves.len()));
            }
            let mut full = Vec::new();
            for (index, (held, (salt, statement))) in (place..).zip(batch.commitments.iter().zip(&batch.leaves)) {
                if statement.is_empty() && is_deleted(index) {
                    checked.deleted += 1;
                } else if *held != commitment(salt, statement) {
                    checked.say(format!("leaf {index}: its statement is not what was logged"));
                }
            }
            for held in batch.commitments.iter().take(usize::try_from(size - place).unwrap_or(usize::MAX)) {
                push_entry(&mut begun, &held.0)?;
                edge.push(merkle::leaf_hash(&held.0), &mut |tile, tree| full.push((tile, tile_bytes(tree.leaves()))));
                if edge.size().is_multiple_of(u64::from(WIDTH)) {
                    full.push((Place::bundle(edge.size() / u64::from(WIDTH) - 1), std::mem::take(&mut begun)));
                }
            }
            self.compare(full, &mut checked).await?;
        }
        checked.leaves = edge.size();
        if edge.size() == size && edge.root() != published.root {
            checked.say(format!("the root over {size} leaves is not the one that was signed"));
        }
        Ok(checked)
    }

    /// The places whose statements were deleted, as the leaves say that say so; those are looked at like any other.
    async fn deleted(&self) -> Result<Vec<(u64, u64)>, LogError> {
        let mut places = Vec::new();
        for change in self.store.changes(Some("deletion"), u64::MAX, u32::MAX).await? {
            let Some(leaf) = self.store.leaf_at(change.place).await? else { continue };
            if let Ok(Statement::Deletion(said)) = serde_json::from_slice(&leaf.statement) {
                places.extend(said.leaves);
            }
        }
        Ok(places)
    }

    /// Compares what lies at rest with what the leaves make.
    async fn compare(&self, full: Vec<(Place, Vec<u8>)>, checked: &mut Checked) -> Result<(), LogError> {
        let Some(archive) = self.shelf.archive() else { return Ok(()) };
        for (place, made) in full {
            checked.tiles += 1;
            match archive.get(&place.path()).await? {
                Some(held) if held == made => {}
                Some(_) => checked.say(format!("{}: it is not what the leaves make", place.path())),
                // Old bundles may be removed to save room; hashes are needed for proofs.
                None if place.kind == polder_core::tiles::Kind::Entries => {}
                None => checked.say(format!("{}: it is missing; it is made again when it is asked for", place.path())),
            }
        }
        Ok(())
    }
}
