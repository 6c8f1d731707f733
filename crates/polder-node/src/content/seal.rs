//! How content is sealed: AES-256-GCM under keys that HKDF-SHA256 derives from the node's content key.
//!
//! node key → tenant key → one key for each sealed thing, made of 16 random bytes that stand beside it. As no key seals two
//! things, a chunk's nonce is its number. What a chunk belongs to, its number and whether it is the last are authenticated
//! with it: chunks cannot be swapped, cut off or moved to another thing. Files and the database are absent.

use polder_core::ids::TenantId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::clock::random;

/// Bytes that a seal adds.
pub(super) const TAG_BYTES: usize = 16;
/// Random bytes that a sealed thing's key is made of.
pub(super) const NAME_BYTES: usize = 16;

/// The random bytes that a sealed thing's key is made of. Not secret.
pub(super) type Name = [u8; NAME_BYTES];

/// A seal that does not hold: changed bytes, or another key. Which of the two, nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// What a tenant's content is sealed with.
pub(super) struct TenantKey(Prk);

/// What one thing is sealed with.
pub(super) struct ThingKey {
    key: LessSafeKey,
    /// What the thing is; authenticated with each chunk.
    what: Vec<u8>,
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

impl TenantKey {
    /// The key of a tenant under the node's content key.
    pub(super) fn new(node_key: &[u8; 32], tenant: &TenantId) -> Result<Self, Broken> {
        let node = Salt::new(HKDF_SHA256, b"polder/content/v1").extract(node_key);
        let mut tenant_key = [0; 32];
        let info = [tenant.as_str().as_bytes()];
        node.expand(&info, Bytes32).and_then(|okm| okm.fill(&mut tenant_key)).map_err(|_| Broken)?;
        Ok(Self(Prk::new_less_safe(HKDF_SHA256, &tenant_key)))
    }

    /// The key of one thing. `what` says in its parts what the thing is; it must be said alike to open it.
    pub(super) fn thing(&self, name: &Name, what: &[&str]) -> Result<ThingKey, Broken> {
        let unbound: UnboundKey = {
            let info = [name.as_slice()];
            self.0.expand(&info, &AES_256_GCM).map_err(|_| Broken)?.into()
        };
        // Lengths stand before parts, so that no two lists of parts read alike.
        let what = what.iter().flat_map(|part| {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            length.to_be_bytes().into_iter().chain(part.bytes())
        });
        Ok(ThingKey { key: LessSafeKey::new(unbound), what: what.collect() })
    }

    /// Seals something small: its random name, then one chunk.
    pub(super) fn seal(&self, what: &[&str], plain: &[u8]) -> std::io::Result<Vec<u8>> {
        let broken = |_| std::io::Error::other("sealing failed");
        let name: Name = random()?;
        let mut chunk = plain.to_vec();
        self.thing(&name, what).and_then(|thing| thing.seal(0, true, &mut chunk)).map_err(broken)?;
        Ok([name.as_slice(), &chunk].concat())
    }

    /// Opens what [`TenantKey::seal`] sealed.
    pub(super) fn open(&self, what: &[&str], sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        let (name, chunk) = sealed.split_first_chunk::<NAME_BYTES>().ok_or(Broken)?;
        let mut chunk = chunk.to_vec();
        self.thing(name, what)?.open(0, true, &mut chunk)?;
        Ok(chunk)
    }
}

impl ThingKey {
    /// Seals a chunk in place and appends its tag.
    pub(super) fn seal(&self, number: u64, last: bool, chunk: &mut Vec<u8>) -> Result<(), Broken> {
        let (nonce, aad) = self.surroundings(number, last);
        self.key.seal_in_place_append_tag(nonce, aad, chunk).map_err(|_| Broken)
    }

    /// Opens a chunk in place and takes its tag off.
    pub(super) fn open(&self, number: u64, last: bool, chunk: &mut Vec<u8>) -> Result<(), Broken> {
        let (nonce, aad) = self.surroundings(number, last);
        let length = self.key.open_in_place(nonce, aad, chunk).map_err(|_| Broken)?.len();
        chunk.truncate(length);
        Ok(())
    }

    fn surroundings(&self, number: u64, last: bool) -> (Nonce, Aad<Vec<u8>>) {
        let mut nonce = [0; NONCE_LEN];
        if let Some(end) = nonce.last_chunk_mut() {
            *end = number.to_be_bytes();
        }
        let aad = [self.what.as_slice(), &number.to_be_bytes(), &[u8::from(last)]].concat();
        (Nonce::assume_unique_for_key(nonce), Aad::from(aad))
    }
}
