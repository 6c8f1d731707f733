//! What the two machines write down, row by row: each row replaces the one of the same key.
//!
//! Rows are enough to make a machine again after a crash, and nothing else is kept. Where they are kept is absent.

use crate::job::Nonce;

/// The first version of the rows.
pub mod v1 {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use serde::{Deserialize, Serialize};

    use super::Nonce;
    use crate::canonical::{Digest, bytes_as_hex};
    use crate::ids::{AwardId, NodeId, TenantId};
    use crate::job::receipt::{JobReceipt, Verdict};
    use crate::job::{Epoch, JobId, Order, RunId, shared};
    use crate::keys::Signed;
    use crate::ledger::books::Entry;

    /// One row.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Row {
        /// A job at its home.
        Job(JobId, Box<JobRow>),
        /// What a submission became, so that a second one with its key is the same.
        Submission(SubmissionRow),
        /// A move of money. Never replaced.
        Entry(Entry),
        /// A slice that was asked of an award's accountant.
        Slice(Nonce, SliceRow),
        /// A run at its factory.
        Run(RunId, Box<RunRow>),
        /// A run that is receipted and may be forgotten.
        RunOver(RunId),
    }

    /// A job at its home.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct JobRow {
        /// What is to be run.
        #[serde(with = "shared")]
        pub order: Arc<Order>,
        /// Its digest.
        pub digest: Digest,
        /// The jobs that must have succeeded before.
        pub after: BTreeSet<JobId>,
        /// When it was submitted, in Unix milliseconds, for people.
        pub submitted_ms: u64,
        /// Counts submissions of the home, for their order.
        pub serial: u64,
        /// The newest epoch that was offered; 0 before the first.
        pub epoch: Epoch,
        /// Where it stands.
        pub state: State,
        /// The newest lease that was granted, whether or not it lasts.
        pub leased: Option<Lease>,
        /// Who had a lease, by its epoch.
        pub leases: BTreeMap<Epoch, NodeId>,
        /// Runs that ended by the job's own fault.
        pub failures: u32,
        /// Leases that ended without a word.
        pub lapses: u32,
        /// Every receipt that came, by its epoch, and what became of it.
        pub receipts: BTreeMap<Epoch, Receipted>,
        /// The last checkpoint that was told.
        pub checkpoint: Option<Digest>,
    }

    /// Where a job stands.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum State {
        /// For a factory, or for other jobs.
        Waiting,
        /// Offered in the row's epoch.
        Offered {
            /// To whom.
            factory: NodeId,
            /// What an hour pays, in micro-euro.
            price_microeur_per_hour: u64,
        },
        /// Leased as the row says.
        Leased,
        /// Leased, and to be ended.
        Stopping {
            /// Whether it is taken back for good, or may run elsewhere.
            cancelled: bool,
        },
        /// A person has to say whether it runs again: nobody knows how far it came.
        Held,
        /// Nothing more happens to it.
        Over(End),
    }

    /// How a job ended.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum End {
        /// In this epoch.
        Succeeded(Epoch),
        /// By its own fault, as often as it may.
        Failed(Epoch),
        /// A job that must succeed before it did not.
        Dependency(JobId),
        /// Taken back.
        Cancelled,
        /// Its project cannot pay for another attempt.
        Unaffordable,
    }

    /// A lease that was granted.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Lease {
        /// The epoch.
        pub epoch: Epoch,
        /// To whom.
        pub factory: NodeId,
        /// How long each grant lasts, in milliseconds.
        pub lease_ms: u64,
        /// What an hour pays, in micro-euro.
        pub price_microeur_per_hour: u64,
    }

    /// What became of a receipt.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Receipted {
        /// What was received.
        pub receipt: Box<Signed<JobReceipt>>,
        /// What became of it.
        pub verdict: Verdict,
        /// What a person granted where it is disputed, in micro-euro.
        pub resolved_microeur: Option<u64>,
    }

    /// What a submission became.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SubmissionRow {
        /// Whose.
        pub tenant: TenantId,
        /// Under which key.
        pub key: String,
        /// The digest of what was submitted.
        pub digest: Digest,
        /// The jobs that it became.
        pub jobs: Vec<JobId>,
    }

    /// A slice that was asked for.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SliceRow {
        /// Of which award.
        pub award: AwardId,
        /// Of whom.
        pub accountant: NodeId,
        /// How much, in micro-euro.
        pub microeur: u64,
        /// How much was given, once that is known.
        pub given_microeur: Option<u64>,
    }

    /// A run at its factory.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RunRow {
        /// What is run.
        #[serde(with = "shared")]
        pub order: Arc<Order>,
        /// What an hour pays, in micro-euro.
        pub price_microeur_per_hour: u64,
        /// Which start of the machine the times below count from.
        #[serde(with = "bytes_as_hex")]
        pub machine: [u8; 8],
        /// When it was started, in the machine's monotonic milliseconds.
        pub started_ms: u64,
        /// When the lease was last asked for with success, in the same.
        pub asked_ms: u64,
        /// When the lease ends, in the same.
        pub until_ms: u64,
        /// The last checkpoint.
        pub checkpoint: Option<Digest>,
        /// What was signed, once it has ended.
        pub receipt: Option<Box<Signed<JobReceipt>>>,
        /// What the home said of the receipt, where that is to be kept.
        pub verdict: Option<Verdict>,
    }
}
