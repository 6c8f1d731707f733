//! The tables that a decision's statement names by digest: what every factory answered, what every score is made of, and the
//! SEALs of the chosen one.
//!
//! Decisions that find the same answers share one table of them, so a statement stays small however many factories there
//! are. The answers change with policies and facts, the scores with every measurement; so they lie apart. Keeping the tables
//! is absent: that is the node's work.

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest};
use crate::framework::FrameworkSeals;
use crate::ids::NodeId;
use crate::placement::{Inputs, Verdict};
use crate::policy::Cause;

/// What is hashed before a table of answers.
const VERDICTS: &str = "polder/verdicts/v1";
/// What is hashed before a table of scores.
const SCORES: &str = "polder/scores/v1";
/// What is hashed before the SEALs.
const SEALS: &str = "polder/seals/v1";
/// What is hashed before the digests of all three.
const TABLES: &str = "polder/tables/v1";

/// One factory's answer, without what its score is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ruling {
    /// The factory.
    pub factory: NodeId,
    /// The digest of the terms that were asked.
    pub terms: Digest,
    /// The root over the facts that were read.
    pub passport: Digest,
    /// Share of the tenant's last 30 days that ran on this factory's chip vendors, in per cent. Policies may read it.
    pub vendor_share_percent: u8,
    /// Every reason for a no, sorted; empty for a yes.
    pub causes: Vec<Cause>,
}

/// What one factory's score is made of, and the score: price, load, round trip, queue, first token, carbon and affinity in
/// the units of [`Inputs`], then the score.
pub type Weighed = [u64; 8];

/// The tables. The rows of verdicts and scores stand in one order: by the factories' names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// What every factory answered.
    pub verdicts: Vec<Ruling>,
    /// What every score is made of.
    pub scores: Vec<Weighed>,
    /// The SEALs of the request at the chosen factory, one entry for each framework version.
    pub seals: Vec<FrameworkSeals>,
}

/// The digests of the tables; a statement names their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDigests {
    /// Of the answers.
    pub verdicts: Digest,
    /// Of the scores.
    pub scores: Digest,
    /// Of the SEALs.
    pub seals: Digest,
}

impl TableDigests {
    /// The digest that a statement names.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        canonical::digest(TABLES, self)
    }
}

impl Tables {
    /// The tables of a decision's verdicts and SEALs.
    pub fn of(verdicts: &[Verdict], seals: &[FrameworkSeals]) -> Self {
        let ruling = |verdict: &Verdict| Ruling {
            factory: verdict.factory.clone(),
            terms: verdict.terms,
            passport: verdict.passport,
            vendor_share_percent: verdict.inputs.vendor_share_percent,
            causes: verdict.causes.clone(),
        };
        let weighed = |verdict: &Verdict| {
            let inputs = &verdict.inputs;
            [
                inputs.price_microeur_per_mtok,
                inputs.load_ppm,
                inputs.rtt_us,
                inputs.queue_ppm,
                inputs.first_token_us,
                inputs.carbon_mg_per_kwh,
                inputs.affinity_ppm,
                verdict.score,
            ]
        };
        Self {
            verdicts: verdicts.iter().map(ruling).collect(),
            scores: verdicts.iter().map(weighed).collect(),
            seals: seals.to_vec(),
        }
    }

    /// The verdicts again; `None` where the tables are not of one length.
    pub fn join(&self) -> Option<Vec<Verdict>> {
        let verdict = |(ruling, weighed): (&Ruling, &Weighed)| {
            let [price, load, rtt, queue, first_token, carbon, affinity, score] = *weighed;
            Verdict {
                factory: ruling.factory.clone(),
                terms: ruling.terms,
                passport: ruling.passport,
                causes: ruling.causes.clone(),
                inputs: Inputs {
                    price_microeur_per_mtok: price,
                    load_ppm: load,
                    rtt_us: rtt,
                    vendor_share_percent: ruling.vendor_share_percent,
                    queue_ppm: queue,
                    first_token_us: first_token,
                    carbon_mg_per_kwh: carbon,
                    affinity_ppm: affinity,
                },
                score,
            }
        };
        let whole = self.verdicts.len() == self.scores.len();
        whole.then(|| self.verdicts.iter().zip(&self.scores).map(verdict).collect())
    }

    /// The digests of all three.
    pub fn digests(&self) -> Result<TableDigests, CanonicalError> {
        Ok(TableDigests {
            verdicts: canonical::digest(VERDICTS, &self.verdicts)?,
            scores: canonical::digest(SCORES, &self.scores)?,
            seals: canonical::digest(SEALS, &self.seals)?,
        })
    }

    /// Whether the rows stand in the order of the factories' names, each once.
    pub fn is_ordered(&self) -> bool {
        self.verdicts.iter().zip(self.verdicts.iter().skip(1)).all(|(one, next)| one.factory < next.factory)
    }
}

#[cfg(test)]
mod tests;
