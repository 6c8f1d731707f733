//! Random changes to good receipts: each changes the decoded statement, path, checkpoint text or a required signature.
//!
//! What does not is left out, because a verifier may pass it over: lines of unknown keys, bits that base64 does not use,
//! and, in COSE, unprotected headers and the tree's size, which RFC 9942 does not sign; ours is held against the checkpoint.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use polder_core::cose;
use polder_core::note::{Note, SignatureLine};
use polder_core::tlog_proof::TlogProof;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use super::{Good, LOGS, cose_parts, key};

/// Numbers in a fixed order.
pub struct Chance(Pcg64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u64() % bound as u64).unwrap()
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let place = self.below(bytes.len());
        bytes[place] ^= 1 << self.below(8);
    }
}

/// A `.tlog-proof` file and the statement beside it, changed.
pub struct ProofMutant {
    pub how: &'static str,
    pub proof: Vec<u8>,
    pub statement: Vec<u8>,
}

/// One changed proof of `good`; `others` are where leaves and checkpoints to swap come from.
pub fn proof_mutant(chance: &mut Chance, good: &Good, others: &[Good]) -> ProofMutant {
    loop {
        let mut statement = good.export.statement.clone();
        let mut proof = TlogProof::parse(&good.proof).unwrap();
        let other = &others[chance.below(others.len())];
        let how = change_proof(chance, good, other, &mut proof, &mut statement);
        let mut bytes = proof.to_string().into_bytes();
        let how = match chance.below(5) {
            _ if how.is_some() => how.unwrap(),
            0 | 1 => {
                bytes.truncate(chance.below(bytes.len()));
                "truncated"
            }
            _ => {
                chance.flip(&mut bytes);
                "byte flipped"
            }
        };
        if statement != good.export.statement || decoded(&bytes) != decoded(good.proof.as_bytes()) {
            return ProofMutant { how, proof: bytes, statement };
        }
    }
}

/// Changes one thing; `None` where the file's bytes are to be changed instead.
fn change_proof(
    chance: &mut Chance,
    good: &Good,
    other: &Good,
    proof: &mut TlogProof,
    statement: &mut Vec<u8>,
) -> Option<&'static str> {
    let hashes = proof.path.len();
    Some(match chance.below(14) {
        0 => {
            chance.flip(statement);
            "statement"
        }
        1 if hashes > 0 => {
            let place = chance.below(hashes);
            chance.flip(&mut proof.path[place].0);
            "path"
        }
        2 if hashes > 1 => {
            let (a, b) = (chance.below(hashes), chance.below(hashes));
            proof.path.swap(a, b);
            "path reordered"
        }
        3 if hashes > 0 => {
            let place = chance.below(hashes);
            if chance.below(2) == 0 {
                proof.path.remove(place);
            } else {
                proof.path.insert(place, proof.path[place]);
            }
            "path of another length"
        }
        4 => {
            proof.index =
                if chance.below(2) == 0 { proof.index ^ (1 << chance.below(20)) } else { chance.below(80_000) as u64 };
            "index"
        }
        5 => {
            chance.flip(proof.extra.as_mut().unwrap());
            "salt"
        }
        6 => {
            let mut text = std::mem::take(&mut proof.checkpoint.text).into_bytes();
            chance.flip(&mut text);
            proof.checkpoint.text = String::from_utf8_lossy(&text).into_owned();
            "checkpoint text"
        }
        7 => {
            // The log's line and both witnesses' are required.
            let line = chance.below(3);
            let line = &mut proof.checkpoint.signatures[line];
            if chance.below(8) == 0 {
                chance.flip(&mut line.id)
            } else {
                chance.flip(&mut line.signature)
            }
            "signature"
        }
        8 => {
            proof.checkpoint = Note::parse(&good.other_checkpoint).unwrap();
            "another checkpoint"
        }
        9 => {
            proof.checkpoint = Note::parse(&other.export.checkpoint).unwrap();
            "another receipt's checkpoint"
        }
        10 => {
            *statement = other.export.statement.clone();
            proof.extra = Some(other.export.salt.to_vec());
            "another leaf"
        }
        11 => {
            // The right text under the other log's key, with the log's name.
            let wrong = key(LOGS[1 - good.log].1);
            proof.checkpoint.signatures[0] =
                SignatureLine::sign(&proof.checkpoint.text, good.export.log.name(), &wrong);
            "another log's signature"
        }
        _ => return None,
    })
}

/// What a lenient reader takes from a proof: extra data, index, path, text, and every signature line.
type Decoded = (Option<Vec<u8>>, String, Vec<Vec<u8>>, String, Vec<(String, Vec<u8>)>);

fn decoded(bytes: &[u8]) -> Option<Decoded> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = GeneralPurpose::new(&alphabet::STANDARD, config);
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, note) = text.split_once("\n\n")?;
    let (note, signatures) = note.split_once("\n\n")?;
    let mut lines = head.split('\n').skip(1).peekable();
    let extra = match lines.peek()?.strip_prefix("extra ") {
        Some(extra) => {
            lines.next();
            Some(base64.decode(extra).ok()?)
        }
        None => None,
    };
    let index = lines.next()?.to_owned();
    let path = lines.map(|line| base64.decode(line).ok()).collect::<Option<_>>()?;
    let line = |line: &str| {
        let (name, signature) = line.split_once(' ')?.1.split_once(' ')?;
        Some((name.to_owned(), base64.decode(signature).ok()?))
    };
    Some((
        extra,
        index,
        path,
        note.to_owned(),
        signatures.trim_end_matches('\n').split('\n').map(line).collect::<Option<_>>()?,
    ))
}

/// A COSE file, changed; `ours_alone` says that other people's verifiers need not notice.
pub struct CoseMutant {
    pub how: &'static str,
    pub cose: Vec<u8>,
    pub ours_alone: bool,
}

/// One changed COSE file of `good`.
pub fn cose_mutant(chance: &mut Chance, good: &Good, others: &[Good]) -> CoseMutant {
    loop {
        let mut parts = cose_parts(good);
        let other = &others[chance.below(others.len())];
        let (hashes, mut ours_alone) = (parts.path.len(), false);
        let how = match chance.below(13) {
            0 => {
                chance.flip(&mut parts.statement);
                "statement"
            }
            1 if hashes > 0 => {
                let place = chance.below(hashes);
                chance.flip(&mut parts.path[place].0);
                "path"
            }
            2 if hashes > 1 => {
                let (a, b) = (chance.below(hashes), chance.below(hashes));
                parts.path.swap(a, b);
                "path reordered"
            }
            3 if hashes > 0 => {
                parts.path.remove(chance.below(hashes));
                "path of another length"
            }
            4 => {
                parts.index ^= 1 << chance.below(20);
                "index"
            }
            5 => {
                chance.flip(&mut parts.salt);
                "salt"
            }
            6 => {
                chance.flip(&mut parts.statement_signature);
                "signature over the statement"
            }
            7 => {
                chance.flip(&mut parts.root_signature);
                "signature over the root"
            }
            8 => {
                parts.root_signature = other.seals.root;
                "another root's signature"
            }
            9 => {
                (parts.statement, parts.salt, parts.kind) =
                    (other.export.statement.clone(), other.export.salt, cose_parts(other).kind);
                parts.statement_signature = other.seals.statement;
                "another leaf with its signature"
            }
            10 => {
                parts.kind = if parts.kind.contains("decision") { "polder/execution/v1" } else { "polder/decision/v1" }
                    .to_owned();
                "type"
            }
            11 => {
                parts.size = if chance.below(2) == 0 { parts.size + 1 } else { parts.size ^ (1 << chance.below(20)) };
                ours_alone = true;
                "size"
            }
            _ => {
                let mut bytes = good.cose.clone();
                bytes.truncate(chance.below(bytes.len()));
                return CoseMutant { how: "truncated", cose: bytes, ours_alone };
            }
        };
        let bytes = parts.to_bytes().unwrap();
        if bytes != good.cose {
            return CoseMutant { how, cose: bytes, ours_alone };
        }
    }
}

/// A root signed by a key that is not the log's, over the log's own header.
pub fn forged_root(good: &Good) -> Vec<u8> {
    use ed25519_dalek::Signer as _;
    let mut parts = cose_parts(good);
    let note = Note::parse(&parts.checkpoint).unwrap();
    let root = polder_core::note::Checkpoint::parse(&note.text).unwrap().root;
    let message = cose::root_message(&parts.origin, parts.key_id, &root);
    parts.root_signature = key(99).sign(&message).to_bytes();
    parts.to_bytes().unwrap()
}
