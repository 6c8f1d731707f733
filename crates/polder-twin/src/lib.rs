//! Foresees: the product's own `decide` and receipts, run over a described federation in virtual time.
//!
//! [`federation`] reads the description that the demo is made of, too; [`scenario`] runs text files of commands
//! against it. [`study`] reads what may be planned, [`engine`] runs it, [`report`] shows it; [`traces`] reads what others
//! recorded, and [`calibrate`] learns from it what a site draws. [`drill`] decides past decisions again with something taken away. [`chance`] runs the machines of jobs through seeded schedules
//! of faults, on a network, disks and clocks of its own. Absent: real processes, networks and clocks; all chance has a seed.
//! What is planned here is decided by the code that runs.
#![deny(missing_docs)]

pub mod calendar;
pub mod calibrate;
pub mod chance;
pub mod draw;
pub mod drill;
pub mod engine;
pub mod federation;
pub mod grow;
pub mod kueue;
pub mod report;
pub mod scenario;
pub mod study;
pub mod traces;
