//! Statements about what a node goes by: the facts and terms that it took in, and the texts by which a home reads them.
//!
//! They come before every decision that rests on them, in the same log. What a fact says is absent: it is named by its digest, and
//! its factory publishes it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::facts::{SignedFact, passport_root};
use crate::ids::{IssuerId, NodeId};

/// A factory's facts or terms were taken in, and they are others than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportStatement {
    /// The node that took them in.
    pub node: NodeId,
    /// The factory that they are about.
    pub about: NodeId,
    /// Where they came from.
    pub from: Source,
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// The root over the facts that are held now.
    pub root: Digest,
    /// The root over those that were held before; absent for the first import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The digest of the factory's terms as they came with the facts.
    pub terms: Digest,
    /// The facts that were not held before, by digest.
    pub taken: Vec<TakenFact>,
    /// The facts that are no longer held, in ascending order.
    pub dropped: Vec<Digest>,
}

/// Where facts came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The factory's own file.
    File,
    /// The factory, over the channel of its pinned key.
    Peer,
}

/// A fact that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenFact {
    /// The digest (`polder/signed-fact/v1`) of the signed fact.
    pub digest: Digest,
    /// Who signed it.
    pub issuer: IssuerId,
    /// The key that it names as the signer's.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
}

/// What a node held of a factory before an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The root over the facts.
    pub root: Digest,
    /// The digest of the terms.
    pub terms: Digest,
    /// The digests of the facts.
    pub facts: BTreeSet<Digest>,
}

impl ImportStatement {
    /// The statement about a passport and terms, and what is held from then on; `None` where both are as they were.
    pub fn of(
        (node, about, from): (&NodeId, &NodeId, Source),
        at_ms: u64,
        before: Option<&Before>,
        passport: &[SignedFact],
        terms: Digest,
    ) -> Result<Option<(Self, Before)>, CanonicalError> {
        let root = passport_root(passport)?;
        if before.is_some_and(|before| before.root == root && before.terms == terms) {
            return Ok(None);
        }
        let known = before.map(|before| &before.facts);
        let (mut facts, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for signed in passport {
            let digest = canonical::digest("polder/signed-fact/v1", signed)?;
            facts.insert(digest);
            if !known.is_some_and(|known| known.contains(&digest)) {
                taken.insert(TakenFact { digest, issuer: signed.fact.issuer.clone(), key: signed.key });
            }
        }
        let dropped = known.into_iter().flatten().filter(|digest| !facts.contains(digest)).copied().collect();
        let (node, about, previous) = (node.clone(), about.clone(), before.map(|before| before.root));
        let taken = taken.into_iter().collect();
        let statement = Self { node, about, from, at_ms, root, previous, terms, taken, dropped };
        Ok(Some((statement, Before { root, terms, facts })))
    }
}

/// A home reads policies and facts by other texts than before: another baseline, other frameworks, or others whom the owner trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewStatement {
    /// The home.
    pub home: NodeId,
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// What it goes by now.
    pub now: Grounds,
    /// What it went by before; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Grounds>,
}

/// What a home reads policies and facts by, apart from the owner's policy. Each digest stands in every decision's `policies` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grounds {
    /// The federation's baseline.
    pub baseline: Digest,
    /// The schema, with the frameworks that it names and Polder's own labels layer.
    pub schema: Digest,
    /// Whose facts the owner believes, and the members' own keys.
    pub trust: Digest,
}
