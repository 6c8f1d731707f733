//! Receipts for tests: good ones of logs of many sizes, and random changes to them. The same numbers give the same bytes.
#![allow(dead_code)] // Each test takes what it needs of it.

use ed25519_dalek::SigningKey;
use polder_core::canonical::{self, Digest};
use polder_core::cose::CoseReceipt;
use polder_core::export::{Anchors, Beside, Export, Held, Seals, verify_cose, verify_tlog_proof};
use polder_core::ids::NodeId;
use polder_core::merkle::{Tree, leaf_hash};
use polder_core::note::{Checkpoint, Note, SignatureLine, VerifierKey};
use polder_core::tlog_policy::Policy;
use serde_json::{Value, json};

pub mod mutants;

/// How large the logs are, and which of their places are proved.
const PLACES: [(u64, &[u64]); 9] = [
    (1, &[0]),
    (2, &[0, 1]),
    (3, &[1, 2]),
    (7, &[0, 3, 6]),
    (8, &[7]),
    (64, &[0, 63]),
    (65, &[64]),
    (1000, &[0, 511, 999]),
    (70_001, &[12_345, 69_999, 70_000]),
];

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

/// The logs that the receipts are of: a home's and a factory's.
pub const LOGS: [(&str, u8); 2] = [("bank-home", 41), ("paris", 42)];

/// The two witnesses, and the countries that they are of.
pub const WITNESSES: [(&str, &str, u8); 2] = [("DE", "munich", 51), ("NL", "delft", 52)];

pub fn log_key(log: usize) -> VerifierKey {
    let (name, number) = LOGS[log];
    VerifierKey::of_log(&node(name), key(number).verifying_key())
}

pub fn witnesses() -> Vec<(String, VerifierKey)> {
    let witness = |(country, name, number): (&str, &str, u8)| {
        (country.to_owned(), VerifierKey::of_witness(&node(name), key(number).verifying_key()))
    };
    WITNESSES.map(witness).to_vec()
}

/// The policy that every receipt here satisfies: a witness of each country.
pub fn policy() -> String {
    Policy::of_countries(&[log_key(0), log_key(1)], &witnesses(), 2)
}

/// A receipt in all forms.
#[derive(Clone)]
pub struct Good {
    pub name: String,
    /// Which log.
    pub log: usize,
    pub export: Export,
    pub seals: Seals,
    pub proof: String,
    pub dsse: Vec<u8>,
    pub cose: Vec<u8>,
    /// A genuine checkpoint of the same log when it was smaller or larger.
    pub other_checkpoint: String,
}

/// What a verifier believes who knows logs and witnesses from a policy.
pub fn anchors() -> Anchors {
    Anchors { policy: Some(Policy::parse(policy().as_bytes()).unwrap()), ..Anchors::default() }
}

impl Good {
    pub fn vkey(&self) -> String {
        self.export.log.to_string()
    }

    pub fn check(&self) -> Held {
        let leaf = self.export.entry();
        let beside = Beside { statement: Some(&self.export.statement), leaf: Some(&leaf.0), dsse: Some(&self.dsse) };
        verify_cose(&self.cose, &anchors()).unwrap();
        verify_tlog_proof(self.proof.as_bytes(), beside, &anchors()).unwrap()
    }
}

/// A checkpoint signed by its log and by both witnesses.
pub fn checkpoint(log: usize, size: u64, root: Digest) -> String {
    let (name, number) = LOGS[log];
    let signed = Checkpoint::new(format!("polder/{name}"), size, root).sign(&key(number));
    let mut note = Note::parse(&signed).unwrap();
    for (_, name, number) in WITNESSES {
        let name = format!("polder/{name}/witness");
        note.signatures.push(SignatureLine::cosign(&note.text, &name, &key(number), 1_790_000_000 + size));
    }
    note.to_string()
}

/// What stands in the log beside the statements that are proved.
fn filler(log: usize, place: u64) -> Digest {
    leaf_hash(&canonical::hash("filler", &[&[log as u8], &place.to_be_bytes()]).0)
}

fn hex(text: &str) -> String {
    canonical::hash("corpus", &[text.as_bytes()]).to_hex()
}

fn statement(log: usize, number: usize) -> Value {
    let at_ms = 1_790_000_000_000_u64 + number as u64;
    let id = format!("decision-{}", &hex(&number.to_string())[..32]);
    match (log, number % 3) {
        (0, 0) => json!({
            "statement": "polder/activation/v1", "home": "bank-home", "file": "bank.cedar", "digest": hex("policy"),
            "baseline": hex("baseline"), "at_ms": at_ms, "how": "activate", "narrower": false,
            "proofs": [{"claim": "no-public-cloud", "digest": hex("claim"), "verdict": "proven", "ms": number}],
        }),
        (0, _) => json!({
            "statement": "polder/decision/v1", "home": "bank-home", "id": id, "at_ms": at_ms, "body": hex("body"),
            "outcome": "refused", "note": "größer \u{2014} \"quoted\" \\ \u{1}",
        }),
        _ => json!({
            "statement": "polder/execution/v1", "factory": "paris", "home": "bank-home", "tenant": "bank",
            "decision": id, "ticket": hex("ticket"), "body": hex("body"), "terms": hex("terms"), "model": "polder-toy",
            "backend": "cpu", "prompt_tokens": number, "completion_tokens": 11, "started_ms": at_ms,
            "ended_ms": at_ms + 40, "outcome": "completed",
        }),
    }
}

fn salt(log: usize, place: u64) -> [u8; 32] {
    canonical::hash("corpus salt", &[&[log as u8], &place.to_be_bytes()]).0
}

/// All good receipts.
pub fn good() -> Vec<Good> {
    let mut all = Vec::new();
    for log in 0..LOGS.len() {
        for (size, places) in PLACES {
            all.extend(of_size(log, size, places, all.len()));
        }
    }
    all
}

fn of_size(log: usize, size: u64, places: &[u64], first: usize) -> Vec<Good> {
    let statements: Vec<Vec<u8>> =
        (first..).zip(places).map(|(number, _)| canonical::to_bytes(&statement(log, number)).unwrap()).collect();
    let mut tree = Tree::default();
    let mut other = None;
    for place in 0..size {
        // A checkpoint of before, for whoever would pass it off as this one.
        if place == size - size.div_ceil(3) {
            other = Some(checkpoint(log, place, tree.root()));
        }
        let of_place = places.iter().position(|at| *at == place);
        tree.push(of_place.map_or_else(
            || filler(log, place),
            |number| leaf_hash(&polder_core::statement::commitment(&salt(log, place), &statements[number]).0),
        ));
    }
    let signed = checkpoint(log, size, tree.root());
    let one = |(place, statement): (&u64, &Vec<u8>)| {
        let export = Export {
            log: log_key(log),
            salt: salt(log, *place),
            statement: statement.clone(),
            index: *place,
            path: tree.inclusion(*place, size).unwrap(),
            checkpoint: signed.clone(),
        };
        let seals = export.seal(&key(LOGS[log].1)).unwrap();
        Good {
            name: format!("{}-{size}-{place}", LOGS[log].0),
            log,
            proof: export.tlog_proof().unwrap(),
            dsse: export.dsse(&seals).unwrap(),
            cose: export.cose(&seals).unwrap(),
            other_checkpoint: other.clone().unwrap(),
            export,
            seals,
        }
    };
    places.iter().zip(&statements).map(one).collect()
}

/// A COSE receipt's parts, to change them.
pub fn cose_parts(good: &Good) -> CoseReceipt {
    CoseReceipt::parse(&good.cose).unwrap()
}
