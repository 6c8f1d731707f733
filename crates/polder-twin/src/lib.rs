//! Foresees: the product's own `decide` and receipts, run over a described federation in virtual time.
//!
//! [`federation`] reads the description that the demo is made of, too; [`scenario`] runs text files of commands
//! against it. [`chance`] runs the machines of jobs through seeded schedules of faults, on a network, disks and clocks of its
//! own. Absent: real processes, networks, clocks and randomness. What is planned here is decided by the code that runs.
#![deny(missing_docs)]

pub mod chance;
pub mod federation;
pub mod kueue;
pub mod scenario;
