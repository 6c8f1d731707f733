//! The log's own side of witnessing: its newest checkpoint goes to the witnesses, and is published with what they signed.
//!
//! A round takes the newest checkpoint there is, at most once in the configured time, and asks all witnesses side by side. One that
//! is slow or gone costs one round its time; it is then left alone for a while. Enforcing a quorum is absent: who reads a checkpoint
//! decides how many cosignatures are enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use polder_core::ids::NodeId;
use polder_core::keys::Signed;
use polder_core::keys::history::KeyHistory;
use polder_core::note::{KeyKind, Note, SignatureLine, VerifierKey};
use polder_core::witness::{Submission, parse_size};
use tokio::time::Instant;

use super::alarms::{Alarms, Kind, Told};
use super::{Log, LogError, Published};
use crate::config::LogConfig;
use crate::peers::Remote;
use crate::shutdown::Shutdown;

/// How long a witness that failed is left alone, at first and at most.
const REST_MIN: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(60);
/// How often a witness is asked in one round: once more for each size that it turns out to know.
const ASKED_MAX: u32 = 3;
/// Peers are listened to once in this many rounds' time.
const HEAR_ROUNDS: u32 = 10;
/// Longest time that a peer may take to tell its alarms.
const HEAR_TIMEOUT: Duration = Duration::from_secs(2);

/// One witness as this log knows it.
struct Asked {
    key: VerifierKey,
    remote: Arc<Remote>,
    known: Known,
    rest: Duration,
    rests_until: Option<Instant>,
}

/// What was learned of a witness by asking it.
#[derive(Clone)]
struct Known {
    /// The size that it has cosigned last.
    size: u64,
    /// Its second key, once it has cosigned by one and told it.
    ml_dsa: Option<VerifierKey>,
}

/// What came of asking a witness.
enum Outcome {
    /// The lines that hold, at least one.
    Cosigned(Vec<SignatureLine>),
    /// It knows more leaves than there are.
    Ahead(u64),
    Failed(String),
}

/// The lines of each witness that has signed.
type Lines = BTreeMap<NodeId, Vec<SignatureLine>>;

/// The rounds of a log.
pub struct Rounds {
    log: Log,
    witnesses: BTreeMap<NodeId, Asked>,
    alarms: Alarms,
    every: Duration,
    wait: Duration,
    /// The newest checkpoint that went out, and what was signed under it.
    last: Option<(Arc<Published>, Lines)>,
}

impl Rounds {
    /// The rounds of a log: who is asked is named by the configuration.
    pub fn new(
        log: Log,
        config: &LogConfig,
        peers: &BTreeMap<NodeId, Arc<Remote>>,
        keys: &BTreeMap<NodeId, VerifierKey>,
        alarms: Alarms,
    ) -> Self {
        let asked = |node: &NodeId| {
            let (remote, key) = (Arc::clone(peers.get(node)?), keys.get(node)?.clone());
            Some((
                node.clone(),
                Asked { key, remote, known: Known { size: 0, ml_dsa: None }, rest: REST_MIN, rests_until: None },
            ))
        };
        let witnesses: BTreeMap<NodeId, Asked> = config.witnesses.iter().filter_map(asked).collect();
        if !witnesses.is_empty() {
            log.wait_for_cosignatures();
        }
        Self { log, witnesses, alarms, every: config.every, wait: config.wait, last: None }
    }

    /// Holds rounds until shutdown; none where there is nobody to ask.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut candidates = self.log.candidates();
        while !self.witnesses.is_empty() {
            let begun = Instant::now();
            let candidate = Arc::clone(&candidates.borrow_and_update());
            let again_at = self.round(candidate).await;
            tokio::select! {
                () = tokio::time::sleep_until(begun + self.every) => {}
                () = shutdown.wait() => return,
            }
            tokio::select! {
                changed = candidates.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(again_at.unwrap_or(begun)), if again_at.is_some() => {}
                () = shutdown.wait() => return,
            }
        }
    }

    /// Asks every witness that has not signed this checkpoint and does not rest, and publishes it with what they signed. When to ask
    /// again for the same one, where some did not sign.
    async fn round(&mut self, candidate: Arc<Published>) -> Option<Instant> {
        let same = self.last.as_ref().filter(|(last, _)| last.note == candidate.note);
        let mut signed = same.map_or_else(BTreeMap::new, |(_, signed)| signed.clone());
        if candidate.edge.size() > 0 {
            self.ask_all(&candidate, &mut signed).await;
        }
        if let Ok(mut note) = Note::parse(&candidate.note) {
            note.signatures.extend(signed.values().flatten().cloned());
            let note = note.to_string().into();
            self.log.publish(Published { edge: candidate.edge.clone(), root: candidate.root, note });
        }
        let missing = candidate.edge.size() > 0 && signed.len() < self.witnesses.len();
        self.last = Some((candidate, signed));
        missing.then(|| Instant::now() + REST_MIN)
    }

    async fn ask_all(&mut self, candidate: &Published, signed: &mut Lines) {
        let now = Instant::now();
        let due = |node: &NodeId, asked: &Asked| {
            !signed.contains_key(node) && asked.rests_until.is_none_or(|until| until <= now)
        };
        let log = &self.log;
        let mut open: FuturesUnordered<_> = (self.witnesses.iter().filter(|(node, asked)| due(node, asked)))
            .map(|(node, asked)| async move {
                let mut known = asked.known.clone();
                let outcome = ask(log, asked, &mut known, candidate).await;
                (node.clone(), known, outcome)
            })
            .collect();
        let mut silent: Vec<NodeId> =
            self.witnesses.iter().filter(|(node, asked)| due(node, asked)).map(|(node, _)| node.clone()).collect();
        let (deadline, mut answers) = (now + self.wait, Vec::new());
        while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, open.next()).await {
            silent.retain(|node| *node != answer.0);
            answers.push(answer);
        }
        drop(open);
        let late = |node| (node, None, Outcome::Failed("no answer in time".to_owned()));
        let answers = answers.into_iter().map(|(node, known, outcome)| (node, Some(known), outcome));
        let mut failed: BTreeMap<String, (Vec<NodeId>, Duration)> = BTreeMap::new();
        for (node, known, outcome) in answers.chain(silent.into_iter().map(late)).collect::<Vec<_>>() {
            let Some(asked) = self.witnesses.get_mut(&node) else { continue };
            if let Some(known) = known {
                asked.known = known;
            }
            match outcome {
                Outcome::Cosigned(lines) => {
                    signed.insert(node, lines);
                    (asked.rest, asked.rests_until) = (REST_MIN, None);
                }
                Outcome::Ahead(size) => {
                    tracing::error!(witness = %node, size, held = candidate.edge.size(), "a witness has seen more of this log than it holds");
                    let more = format!("{node} says that it has cosigned more leaves than this log holds");
                    let own = polder_core::note::origin(self.alarms.own());
                    if let Err(error) = self.alarms.saw(Kind::Shrunk, &own, &more, "").await {
                        tracing::error!(%error, "an alarm could not be kept");
                    }
                    asked.rests_until = Some(Instant::now() + REST_MAX);
                }
                Outcome::Failed(reason) => {
                    let (nodes, rest) = failed.entry(reason).or_insert((Vec::new(), asked.rest));
                    nodes.push(node);
                    *rest = asked.rest.min(*rest);
                    asked.rests_until = Some(Instant::now() + asked.rest);
                    asked.rest = (asked.rest * 2).min(REST_MAX);
                }
            }
        }
        // A line for each reason: who loses the network loses all witnesses at once.
        for (reason, (nodes, rest)) in failed {
            let names = nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
            tracing::warn!(witness = names, reason, rest_ms = rest.as_millis(), "no cosignature came");
        }
    }
}

/// Hears from every peer, now and then until shutdown, what it found wrong and what it was shown.
pub async fn listen(peers: BTreeMap<NodeId, Arc<Remote>>, alarms: Alarms, every: Duration, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every * HEAR_ROUNDS) => {}
            () = shutdown.wait() => return,
        }
        let ask = peers.iter().map(|(node, remote)| async move {
            let told = tokio::time::timeout(HEAR_TIMEOUT, remote.fetch::<Told>("/peer/v1/alarms")).await;
            (node, told)
        });
        for (node, told) in futures_util::future::join_all(ask).await {
            // A peer that is gone may come back; an older one has no such call.
            let Ok(Ok(told)) = told else { continue };
            if let Err(error) = alarms.hear(&told, node).await {
                tracing::error!(%error, "what a peer found could not be kept");
            }
        }
        let ask = peers.iter().map(|(node, remote)| async move {
            let told = tokio::time::timeout(HEAR_TIMEOUT, remote.fetch::<Signed<KeyHistory>>("/log/keys")).await;
            (node, told)
        });
        for (node, told) in futures_util::future::join_all(ask).await {
            let Ok(Ok(told)) = told else { continue };
            if let Err(error) = alarms.learn(node, &told).await {
                tracing::warn!(witness = %node, %error, "what a member says of its keys is not taken in");
            }
        }
    }
}

/// Submits a checkpoint; where the witness turns out to know another size, again from there.
async fn ask(log: &Log, asked: &Asked, known: &mut Known, candidate: &Published) -> Outcome {
    for _ in 0..ASKED_MAX {
        if known.size > candidate.edge.size() {
            return Outcome::Ahead(known.size);
        }
        let submission = match submission(log, known.size, candidate).await {
            Ok(submission) => submission,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let body = submission.to_string().into_bytes();
        let (status, answer) = match asked.remote.post_text("/witness/add-checkpoint", body).await {
            Ok(answered) => answered,
            Err(error) => return Outcome::Failed(error.cause()),
        };
        match status {
            StatusCode::OK => {
                let lines: Vec<_> = answer.lines().filter_map(|line| SignatureLine::parse(line).ok()).collect();
                let Some(line) = lines.iter().find(|line| holds(line, &submission.note, &asked.key)) else {
                    return Outcome::Failed("its cosignature does not hold".to_owned());
                };
                known.size = candidate.edge.size();
                let second = lines.iter().find(|other| other.name == line.name && other.id != line.id);
                return Outcome::Cosigned(match second {
                    Some(second) if believed(asked, known, second, &submission.note).await => {
                        vec![line.clone(), second.clone()]
                    }
                    _ => vec![line.clone()],
                });
            }
            StatusCode::CONFLICT => match answer.strip_suffix('\n').and_then(parse_size) {
                Some(size) if size != known.size => known.size = size,
                _ => return Outcome::Failed("it was shown another tree of this size".to_owned()),
            },
            status => return Outcome::Failed(format!("{status}: {}", answer.trim_end())),
        }
    }
    Outcome::Failed("it knows another size each time".to_owned())
}

/// Whether a second line of a witness holds by the second key that it tells over its own channel. A line that does not hold
/// would spoil the receipts of whoever asks for that key.
async fn believed(asked: &Asked, known: &mut Known, line: &SignatureLine, note: &Note) -> bool {
    if !known.ml_dsa.as_ref().is_some_and(|key| line.is_of(key)) {
        let Ok((StatusCode::OK, keys)) = asked.remote.get_text("/witness/keys").await else { return false };
        let second = |key: &VerifierKey| key.kind() == KeyKind::MlDsaCosignature && key.name() == asked.key.name();
        known.ml_dsa = keys.lines().filter_map(|key| VerifierKey::parse(key).ok()).find(second);
    }
    known.ml_dsa.as_ref().is_some_and(|key| holds(line, note, key))
}

async fn submission(log: &Log, old: u64, candidate: &Published) -> Result<Submission, LogError> {
    let proof = log.consistency(old, candidate).await?.unwrap_or_default();
    let note = Note::parse(&candidate.note).map_err(|_| LogError::Changed(candidate.edge.size()))?;
    Ok(Submission { old, proof, note })
}

/// Whether a line is the witness's cosignature of the note.
fn holds(line: &SignatureLine, note: &Note, key: &VerifierKey) -> bool {
    let alone = Note { text: note.text.clone(), signatures: vec![line.clone()] };
    alone.signed_by(key).is_ok_and(|at_s| at_s.is_some())
}
